// A prediction as something to read: bars, numbers, or a word on why there is nothing.

import { ranked } from "./places.js";
import { say } from "./say.js";

const DIGITS = 4;
const MOST = 10; // objects or classes that are listed

/**
 * Fills `place`. `before`: scores by label to mark next to the bars; `target`: the label that is being explained;
 * `choose(label)`: called when one is picked.
 */
export function show(place, prediction, { before = null, target = null, choose = () => {} } = {}) {
  const top = ranked(prediction, MOST);
  if (top) place.replaceChildren(top.length ? bars(top, before, target, choose) : nothing(say("Nothing was found.")));
  else if (prediction?.restored) place.replaceChildren(list(restored(prediction)));
  else if (prediction?.values) place.replaceChildren(list(rounded(prediction.values)));
  else place.replaceChildren(nothing(say("This model names nothing. Look into it with the views above.")));
}

export function summary(prediction) {
  if (prediction?.restored) return restored(prediction).map((row) => row.join(" ")).join("; ");
  return ranked(prediction, 3)?.slice(0, 3).map(({ label, score }) => `${label}, ${share(score)}`).join("; ") ?? "";
}

const share = (score) => `${(100 * score).toFixed(1)} %`;
const nothing = (text) => element("p", "muted", text);
const length = (score) => `${100 * score}%`;

function bars(top, before, target, choose) {
  const list = element("ol", "bars");
  for (const { label, score } of top) {
    const button = element("button", "");
    button.type = "button";
    button.setAttribute("aria-pressed", String(label === target));
    button.title = say("Explain {label}", { label });
    const bar = element("span", "bar");
    const fill = element("i", "");
    fill.style.width = length(score);
    bar.append(fill);
    if (before?.has(label)) {
      const mark = element("b", "");
      mark.style.left = length(before.get(label));
      bar.append(mark);
    }
    button.append(element("span", "label", label), element("span", "score", share(score)), bar);
    button.addEventListener("click", () => choose(label));
    const item = element("li", "");
    item.append(button);
    list.append(item);
  }
  return list;
}

/** Of a restored picture, what there is to tell: names with their texts. */
function restored({ size: [height, width], scale, bits, transparent }) {
  const rows = [[say("Size"), say("{width} × {height} pixels", { width, height })]];
  if (scale > 1) rows.push([say("Enlarged"), `${scale} ×`]);
  rows.push([say("Bits of a sample"), String(bits)]);
  if (transparent) rows.push([say("Transparency"), say("kept")]);
  return rows;
}

const rounded = (values) =>
  Object.entries(values).map(([name, value]) => [name, Number(value.toPrecision(DIGITS)).toString()]);

function list(rows) {
  const made = element("dl", "numbers");
  for (const [name, value] of rows) made.append(element("dt", "", name), element("dd", "", value));
  return made;
}

function element(tag, kind, text = "") {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}
