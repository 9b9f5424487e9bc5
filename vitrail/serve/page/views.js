// What each view requests from the server, and the scene and text that it makes of the response.
//
// A view is `async (ask, model, state) => ({ scenes, words, … })`: `ask(path, params, …which)` gives a response for the
// first picture, or for those whose numbers follow; `state` is what the controls say, `state.second` whether there is a
// second picture, `state.inSecond` whether the chosen point is in it.

import { middle, named, patchAt } from "./grid.js";
import { percent } from "./places.js";
import { say } from "./say.js";

const WHOLE = [0, 0, 1, 1];
const TITLES = { lam: "Pixels used", disagreement: "Disagreement of views", gradcam: "Grad-CAM", pca: "Colours", similarity: "Similar patches" };

/**
 * By name: its title, its sliders, whether it is about one output (`targets`), about a chosen patch (`points`) or token
 * (`tokens`), whether that is the middle one where none is chosen (`middle`), whether it also takes a second picture (`pairs`), whether it shows a restored picture (`restores`), and
 * `look`. The explain methods of the server become views
 * by themselves.
 */
export function allViews(methods, models) {
  const restoring = models.some((each) => each.restores);
  const views = restoring ? { restored: { title: "Before and after", controls: [], restores: true, look: restored } } : {};
  views.picture = { title: "Picture", controls: [], look: picture };
  const named = models.some((each) => !each.restores); // of models that restore, every pixel may be a token
  if (named) views.attention = { title: "Attention", controls: ["layer", "head"], points: true, look: attention };
  for (const { name, options, compares } of methods.filter((each) => each.name !== "attention")) {
    const controls = options.includes("layer") ? ["layer"] : [];
    const [title, points] = [TITLES[name] ?? name[0].toUpperCase() + name.slice(1), options.includes("patch")];
    const look = !points ? explained(name, options, compares) : compares ? similar(name) : located(name);
    views[name] = { title, controls, targets: options.includes("target"), points, middle: points, pairs: compares, look };
  }
  if (named) views.merge = { title: "Merging", controls: ["r", "layer"], points: true, tokens: true, look: merging };
  return views;
}

/** The model's own layer, where the slider counts those of the deepest model. */
export const layerOf = (model, { layer, layers }) =>
  layers > 1 ? Math.round((layer * (model.layers - 1)) / (layers - 1)) : 0;

async function picture(ask, model, state) {
  const seen = await ask("attention", {}).catch(() => ({ region: WHOLE })); // a model may not support attention maps
  const { shrunk: side } = state;
  const words = side ? say("Shrunk to at most {side} pixels a side before it was sent.", { side }) : "";
  return { scenes: [{ region: seen.region, grid: model.grid }], words };
}

async function restored(ask, model, { shrunk: side }) {
  const words = say(model.restores ? "Drag the line, or enlarge both pictures." : "This model restores no pictures.");
  const small = side ? ` ${say("Shrunk to at most {side} pixels a side before it was sent.", { side })}` : "";
  return { scenes: [{ region: WHOLE, grid: model.grid }], words: words + small };
}

async function attention(ask, model, state) {
  const anywhere = await ask("attention", {});
  const patch = state.point && patchAt(state.point, anywhere.region, model.grid);
  const answer = patch === null ? anywhere : await ask("attention", { patch });
  const [, heads, rows, columns] = answer.shape;
  if (!answer.numbers) [answer.numbers, answer.weights] = [decoded(answer.weights), null];
  const layer = layerOf(model, state);
  const of = (head) => {
    const start = (layer * heads + head) * rows * columns;
    return answer.numbers.subarray(start, start + rows * columns);
  };
  const one = state.head >= 0 && state.head < heads;
  const heat = one ? of(state.head) : mean(Array.from({ length: heads }, (_, head) => of(head)));
  const share = heat.reduce((sum, value) => sum + value, 0);
  const who = say(patch === null ? (model.class_token ? "The class token" : "All patches") : "This patch");
  const part = one ? say("head {head}", { head: state.head }) : say("mean of {heads} heads", { heads });
  const where = say("layer {layer}, {part}", { layer, part });
  const most = named(heat.indexOf(Math.max(...heat)), model.grid);
  const words = [say("{who} in {where}.", { who, where })];
  if (share < 0.995) words.push(say("{share} goes to tokens that are no patch.", { share: percent(1 - share) }));
  if (patch === null) words.push(say("Choose a patch to see what it attends to."));
  const place = patch === null ? "" : `${named(patch, model.grid)}, `;
  return {
    scenes: [{ region: answer.region, grid: [rows, columns], heat, patch }],
    words: words.join(" "),
    said: say("{who}, {place}{where}, attends most to {most}", { who, place, where, most }),
  };
}

function explained(method, options, compares) {
  return async (ask, model, state) => {
    const layer = options.includes("layer") ? layerOf(model, state) : null;
    const target = options.includes("target") && model.classes.includes(state.target) ? state.target : null;
    const answer = await ask("explain", { method, layer, target });
    const scenes = [sceneOf(answer)];
    if (compares && state.second) scenes.push(sceneOf(await ask("explain", { method, layer }, 1, 0)));
    const { title } = answer.maps.at(-1);
    const words = sentence(method, { layer, target, title }) ?? `${title[0].toUpperCase()}${title.slice(1)}.`;
    return { scenes, words, said: words };
  };
}

/** What a chosen place of the picture was made of. */
function located(method) {
  return async (ask, model, state) => {
    const point = state.point ? state.point.map((each) => each.toFixed(5)).join(",") : null;
    const answer = await ask("explain", { method, point });
    const scene = sceneOf(answer);
    scene.patch = patchAt(state.point ?? [0.5, 0.5], answer.region, scene.grid);
    const { title } = answer.maps.at(-1);
    const words = sentence(method, { title }) ?? `${title[0].toUpperCase()}${title.slice(1)}.`;
    const hint = state.point ? "" : ` ${say("Choose another place.")}`;
    return { scenes: [scene], words: words + hint, said: words };
  };
}

/** What is similar to a patch, in its own picture and in the other one. */
function similar(method) {
  return async (ask, model, state) => {
    const layer = layerOf(model, state);
    const [own, other] = state.inSecond && state.second ? [1, 0] : [0, 1];
    let answer = await ask("explain", { method, layer }, own);
    const { grid } = sceneOf(answer); // of pictures in their own size it is none of the model's
    const chosen = state.point && patchAt(state.point, answer.region, grid);
    const patch = chosen ?? middle(grid);
    if (chosen !== null) answer = await ask("explain", { method, layer, patch }, own);
    const scenes = [];
    scenes[own] = { ...sceneOf(answer), patch };
    if (state.second) scenes[other] = sceneOf(await ask("explain", { method, layer, patch }, other, own));
    const words = say("The warmer, the more like {place} to the model, in layer {layer}.", { place: named(patch, grid), layer });
    const hint = state.point ? "" : ` ${say("Choose another patch.")}`;
    return { scenes, words: words + hint, said: words };
  };
}

/** The last map of an answer, a number or a colour for each patch. */
function sceneOf({ region, maps }) {
  const { values, limits } = maps.at(-1);
  const grid = [values.length, values[0].length];
  const key = Array.isArray(values[0][0]) ? "colours" : "heat";
  return { region, grid, [key]: values.flat(), limits, smooth: true };
}

/** What our own methods show, in the page's language; null of others, which the server names. */
function sentence(method, { layer, target, title }) {
  const label = target ?? title.match(/ for (.+?)(?:, layer \d+)?$/)?.[1];
  if (method === "gradcam") return say("Grad-CAM for {label}, layer {layer}.", { label, layer });
  if (method === "relevance") return say("Relevance for {label}.", { label });
  if (method === "rollout") return say("Rollout to layer {layer}.", { layer });
  if (method === "lam") {
    const index = title.match(/index (.+)$/)?.[1];
    return say("The warmer, the more of the restored place was made of it. Diffusion index {index}.", { index });
  }
  if (method === "disagreement") {
    const [, mean, most] = title.match(/mean (.+), most (.+) grey/);
    return say("How far eight turned and mirrored views differ: {mean} grey levels on average, {most} at most.", { mean, most });
  }
  if (method === "pca") {
    const share = title.match(/\d+%/)?.[0];
    return say("Like colours are alike to the model in layer {layer}; three components, {share} of the variance.", { layer, share });
  }
  return null;
}

async function merging(ask, model, state) {
  const { region, sources, prediction } = await ask("merge", { r: state.r });
  const layer = layerOf(model, state);
  const tokens = sources[layer].flat();
  const patch = state.point && patchAt(state.point, region, model.grid);
  const [count, patches] = [new Set(tokens).size, tokens.length];
  const mine = patch === null ? 0 : tokens.filter((each) => each === tokens[patch]).length;
  let words = say("After layer {layer}: {count} tokens of {patches} patches.", { layer, count, patches });
  if (mine === 1) words += ` ${say("The chosen token stands for 1 patch.")}`;
  if (mine > 1) words += ` ${say("The chosen token stands for {mine} patches.", { mine })}`;
  return { scenes: [{ region, grid: model.grid, tokens, patch }], words, said: words, merged: prediction };
}

function mean(rows) {
  return Float32Array.from(rows[0], (_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
}

function decoded(base64) {
  return new Float32Array(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer);
}
