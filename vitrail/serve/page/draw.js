// Everything that is drawn over an image. A scene has:
//   region  the part of the image that the model receives; the rest is dimmed
//   grid    [rows, columns] of patches
//   heat    a number for each patch, of any scale or drawn between `limits`; `smooth` blends between patches
//   colours red, green and blue from 0 to 1 for each patch
//   tokens  for each patch the number of the token it is part of
//   patch   the chosen one, outlined; with tokens, its entire token
//   map     a class map as an image, where nothing else covers the entire image
//   found   what was found, with its boxes; `classes` in the order of their colours

import { paintMap, paintObjects } from "./places.js";

const INFERNO = [
  [0, 0, 4], [33, 12, 74], [87, 16, 110], [138, 34, 106], [188, 55, 84],
  [228, 90, 49], [249, 142, 9], [249, 203, 53], [252, 255, 164],
];
const OPACITY = [0.15, 0.75]; // of no heat and of the strongest
const SATURATION = 0.97; // quantile, lest a few outlying patches hide all others
const OUTSIDE = "rgb(8 10 14 / 62%)";
const SOLID = 0.85; // opacity of colours
const SEAM = "rgb(255 255 255 / 60%)"; // between tokens
const FADED = 0.6; // of tokens that are not chosen
const CHOSEN = "#5ce1ff";

export function draw(canvas, image, scene) {
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const [left, top, right, bottom] = scene.region;
  const frame = { x: left * width, y: top * height, width: (right - left) * width, height: (bottom - top) * height };
  dim(pen, width, height, frame);
  if (scene.tokens) paintTokens(pen, frame, image, scene);
  if (scene.heat) paintHeat(pen, frame, scene);
  if (scene.colours) paintColours(pen, frame, scene);
  if (scene.map && !scene.heat && !scene.colours && !scene.tokens) paintMap(pen, scene.map, width, height);
  if (scene.found?.objects) paintObjects(pen, scene.found, scene.classes, width, height);
  if (scene.patch != null) outline(pen, frame, scene);
}

/** Heat from 0 to 1, as vitrail.explain.maps scales it. */
export function scaled(values, limits = limitsOf(values)) {
  const [low, high] = limits;
  return Array.from(values, (value) => (high > low ? Math.min(Math.max((value - low) / (high - low), 0), 1) : 0));
}

function limitsOf(values) {
  const sorted = Float32Array.from(values).sort();
  const place = SATURATION * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  const low = sorted[0];
  const high = below + (above - below) * (place % 1);
  return [low, high > low ? high : sorted[sorted.length - 1]];
}

function dim(pen, width, height, { x, y, width: w, height: h }) {
  pen.beginPath();
  pen.rect(0, 0, width, height);
  pen.rect(x, y, w, h);
  pen.fillStyle = OUTSIDE;
  pen.fill("evenodd");
}

function paintHeat(pen, frame, { heat, limits, grid, smooth }) {
  const pixels = scaled(heat, limits ?? undefined).map((value) => {
    const opacity = OPACITY[0] + (OPACITY[1] - OPACITY[0]) * value;
    return [...colour(value), Math.round(255 * opacity)];
  });
  paintPatches(pen, frame, grid, pixels, smooth);
}

function paintColours(pen, frame, { colours, grid }) {
  const pixels = colours.map((channels) => [...channels.map((each) => Math.round(255 * each)), Math.round(255 * SOLID)]);
  paintPatches(pen, frame, grid, pixels, true);
}

/** One RGBA value for each patch. */
function paintPatches(pen, frame, [rows, columns], values, smooth) {
  const small = blank(columns, rows);
  const pixels = new ImageData(columns, rows);
  values.forEach((value, i) => pixels.data.set(value, 4 * i));
  small.putImageData(pixels, 0, 0);
  pen.imageSmoothingEnabled = Boolean(smooth);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(small.canvas, frame.x, frame.y, frame.width, frame.height);
}

/** Each token in the mean colour of its patches, with light seams between them; those not chosen are lighter. */
function paintTokens(pen, frame, image, scene) {
  const { tokens, grid: [rows, columns], region: [left, top, right, bottom], patch } = scene;
  const small = blank(columns, rows);
  small.imageSmoothingQuality = "high";
  const [w, h] = [image.naturalWidth, image.naturalHeight];
  small.drawImage(image, left * w, top * h, (right - left) * w, (bottom - top) * h, 0, 0, columns, rows);
  const { data } = small.getImageData(0, 0, columns, rows);
  const sums = new Map();
  tokens.forEach((token, i) => {
    const sum = sums.get(token) ?? [0, 0, 0, 0];
    sums.set(token, [sum[0] + data[4 * i], sum[1] + data[4 * i + 1], sum[2] + data[4 * i + 2], sum[3] + 1]);
  });
  const pixels = tokens.map((token) => {
    const [red, green, blue, count] = sums.get(token);
    const strength = patch == null || token === tokens[patch] ? 1 : FADED;
    return [red, green, blue].map((sum) => 255 + strength * (sum / count - 255)).concat(255);
  });
  paintPatches(pen, frame, scene.grid, pixels, false);
  pen.lineCap = "round";
  pen.strokeStyle = SEAM;
  pen.lineWidth = Math.max(1, Math.min(frame.width / columns, frame.height / rows) * 0.05);
  pen.stroke(borders(frame, scene.grid, (a, b) => b !== null && tokens[a] !== tokens[b]));
}

function outline(pen, frame, { grid, patch, tokens }) {
  const inside = (each) => each !== null && (tokens ? tokens[each] === tokens[patch] : each === patch);
  const path = borders(frame, grid, (a, b) => inside(a) !== inside(b));
  pen.lineCap = "round";
  for (const [style, width] of [["#000", 4.5], [CHOSEN, 2.5]]) {
    pen.strokeStyle = style;
    pen.lineWidth = width;
    pen.stroke(path);
  }
}

/** The edges between patches that `differ(a, b)` tells apart; b is null beyond the grid. */
function borders({ x, y, width, height }, [rows, columns], differ) {
  const path = new Path2D();
  const [w, h] = [width / columns, height / rows];
  const edge = (column, row, toColumn, toRow) => {
    path.moveTo(x + column * w, y + row * h);
    path.lineTo(x + toColumn * w, y + toRow * h);
  };
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const patch = row * columns + column;
      if (differ(patch, column + 1 < columns ? patch + 1 : null)) edge(column + 1, row, column + 1, row + 1);
      if (differ(patch, row + 1 < rows ? patch + columns : null)) edge(column, row + 1, column + 1, row + 1);
      if (column === 0 && differ(patch, null)) edge(0, row, 0, row + 1);
      if (row === 0 && differ(patch, null)) edge(column, 0, column + 1, 0);
    }
  }
  return path;
}

function blank(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas.getContext("2d", { willReadFrequently: true });
}

function colour(value) {
  const place = value * (INFERNO.length - 1);
  const [from, to] = [INFERNO[Math.floor(place)], INFERNO[Math.ceil(place)]];
  return from.map((channel, i) => Math.round(channel + (to[i] - channel) * (place % 1)));
}
