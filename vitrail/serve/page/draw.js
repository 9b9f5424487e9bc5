// Everything that is drawn over an image. A scene has:
//   region  the part of the image that the model receives; the rest is dimmed
//   grid    [rows, columns] of patches
//   heat    a number for each patch, of any scale; `smooth` blends between patches
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
const LEAD = "rgb(14 16 20 / 88%)";
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
  if (scene.map && !scene.heat && !scene.tokens) paintMap(pen, scene.map, width, height);
  if (scene.found?.objects) paintObjects(pen, scene.found, scene.classes, width, height);
  if (scene.patch != null) outline(pen, frame, scene);
}

/** Heat from 0 to 1, as vitrail.explain.overlay scales it. */
export function scaled(values) {
  const sorted = Float32Array.from(values).sort();
  const place = SATURATION * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  const low = sorted[0];
  let high = below + (above - below) * (place % 1);
  if (high <= low) high = sorted[sorted.length - 1];
  return Array.from(values, (value) => (high > low ? Math.min((value - low) / (high - low), 1) : 0));
}

function dim(pen, width, height, { x, y, width: w, height: h }) {
  pen.beginPath();
  pen.rect(0, 0, width, height);
  pen.rect(x, y, w, h);
  pen.fillStyle = OUTSIDE;
  pen.fill("evenodd");
}

function paintHeat(pen, frame, { heat, grid: [rows, columns], smooth }) {
  const small = blank(columns, rows);
  const pixels = new ImageData(columns, rows);
  scaled(heat).forEach((value, i) => {
    const opacity = OPACITY[0] + (OPACITY[1] - OPACITY[0]) * value;
    pixels.data.set([...colour(value), Math.round(255 * opacity)], 4 * i);
  });
  small.putImageData(pixels, 0, 0);
  pen.imageSmoothingEnabled = Boolean(smooth);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(small.canvas, frame.x, frame.y, frame.width, frame.height);
}

/** Each token in the mean colour of its patches, with lead between them. */
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
  const pixels = new ImageData(columns, rows);
  tokens.forEach((token, i) => {
    const [red, green, blue, count] = sums.get(token);
    const strength = patch == null || token === tokens[patch] ? 1 : 0.45;
    pixels.data.set([red, green, blue].map((sum) => (strength * sum) / count).concat(255), 4 * i);
  });
  small.putImageData(pixels, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small.canvas, frame.x, frame.y, frame.width, frame.height);
  pen.lineCap = "round";
  pen.strokeStyle = LEAD;
  pen.lineWidth = Math.max(1, Math.min(frame.width / columns, frame.height / rows) * 0.09);
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
