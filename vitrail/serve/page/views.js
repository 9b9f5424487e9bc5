// What each view requests from the server, and the scene and text that it makes of the response.
//
// A view is `async (ask, model, state) => ({ scene, words, … })`: `ask(path, params)` gives a response for the image,
// `state` is what the controls say.

import { named, patchAt } from "./grid.js";

const WHOLE = [0, 0, 1, 1];
const TITLES = { gradcam: "Grad-CAM" };

/**
 * By name: its title, its sliders, whether it is about one output (`targets`), about a chosen patch (`points`) or token
 * (`tokens`), and `look`. The explain methods of the server become views by themselves.
 */
export function allViews(methods) {
  const views = { picture: { title: "Picture", controls: [], look: picture } };
  views.attention = { title: "Attention", controls: ["layer", "head"], points: true, look: attention };
  for (const { name, options } of methods.filter((each) => each.name !== "attention")) {
    const controls = options.includes("layer") ? ["layer"] : [];
    const title = TITLES[name] ?? name[0].toUpperCase() + name.slice(1);
    views[name] = { title, controls, targets: options.includes("target"), look: explained(name, options, title) };
  }
  views.merge = { title: "Merging", controls: ["r", "layer"], points: true, tokens: true, look: merging };
  return views;
}

/** The model's own layer, where the slider counts those of the deepest model. */
export const layerOf = (model, { layer, layers }) =>
  layers > 1 ? Math.round((layer * (model.layers - 1)) / (layers - 1)) : 0;

async function picture(ask, model, state) {
  const seen = await ask("attention", {}).catch(() => ({ region: WHOLE })); // a model may not support attention maps
  return { scene: { region: seen.region, grid: model.grid }, words: state.note };
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
  const who = patch === null ? (model.class_token ? "The class token" : "All patches") : "This patch";
  const where = `layer ${layer}, ${one ? `head ${state.head}` : `mean of ${heads} heads`}`;
  const strongest = heat.indexOf(Math.max(...heat));
  return {
    scene: { region: answer.region, grid: [rows, columns], heat, patch },
    words: `${who} in ${where}.${share < 0.995 ? ` ${percent(1 - share)} goes to tokens that are no patch.` : ""}${
      patch === null ? " Choose a patch to see what it attends to." : ""
    }`,
    said: `${who}, ${patch === null ? "" : `${named(patch, model.grid)}, `}${where}, attends most to ${named(strongest, model.grid)}`,
  };
}

function explained(method, options, title) {
  return async (ask, model, state) => {
    const layer = options.includes("layer") ? layerOf(model, state) : null;
    const target = options.includes("target") && model.classes.includes(state.target) ? state.target : null;
    const { region, maps } = await ask("explain", { method, layer, target });
    const { values, title: name } = maps[maps.length - 1];
    const purpose = options.includes("target") && model.classes.length ? ` for ${target ?? "the first output"}` : "";
    const words = `${name[0].toUpperCase()}${name.slice(1)}${purpose}.`;
    const scene = { region, grid: [values.length, values[0].length], heat: values.flat(), smooth: true };
    return { scene, words, said: `${title}: ${words}` };
  };
}

async function merging(ask, model, state) {
  const { region, sources, prediction } = await ask("merge", { r: state.r });
  const layer = layerOf(model, state);
  const tokens = sources[layer].flat();
  const patch = state.point && patchAt(state.point, region, model.grid);
  const count = new Set(tokens).size;
  const mine = patch === null ? 0 : tokens.filter((each) => each === tokens[patch]).length;
  const words = `After layer ${layer}: ${count} tokens of ${tokens.length} patches.`;
  const chosen = mine ? ` The chosen token stands for ${mine} ${mine === 1 ? "patch" : "patches"}.` : "";
  return {
    scene: { region, grid: model.grid, tokens, patch },
    words: words + chosen,
    said: words + chosen,
    merged: prediction,
  };
}

export function percent(share) {
  return `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}

function mean(rows) {
  return Float32Array.from(rows[0], (_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
}

function decoded(base64) {
  return new Float32Array(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer);
}
