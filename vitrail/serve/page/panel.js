// One model: its input image and its outputs.

import { ask } from "./api.js";
import { draw } from "./draw.js";
import { centreOf, patchAt, stepped } from "./grid.js";
import { mapOf, ranked } from "./places.js";
import * as result from "./result.js";

const TOP = 5;
const KEPT = 64; // responses, the last ones
const SMALL = 64; // pixels a side below which pictures are enlarged with hard edges

export class Panel {
  /**
   * @param model as in /v1/models
   * @param on { point(point), target(label), says(model, text) }: called on input of the user, and with texts to read out
   */
  constructor(model, on) {
    this.model = model;
    this.on = on;
    this.root = document.getElementById("panel").content.cloneNode(true).firstElementChild;
    this.root.setAttribute("aria-label", `Model ${model.name}`);
    const find = (selector) => this.root.querySelector(selector);
    [this.image, this.canvas, this.words] = [find("img"), find("canvas"), find(".words")];
    [this.legend, this.title, this.answer] = [find(".legend"), find("h3"), find(".answer")];
    find(".name").textContent = model.name;
    find(".about").textContent = about(model);
    this.canvas.setAttribute("aria-label", `The picture for ${model.name}; arrow keys choose a patch`);
    this.canvas.addEventListener("pointerdown", (event) => this.#point(event));
    this.canvas.addEventListener("pointermove", (event) => event.buttons && event.pointerType === "mouse" && this.#point(event));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.scene && draw(this.canvas, this.image, this.scene)).observe(this.canvas);
  }

  /** Another image: cached responses are dropped. */
  async open(picture) {
    [this.picture, this.known, this.scene] = [picture, new Map(), null];
    this.image.src = picture.url;
    this.answer.replaceChildren();
    await this.image.decode().catch(() => {}); // another one came meanwhile
    const { naturalWidth, naturalHeight, parentElement: stage } = this.image;
    stage.style.setProperty("--aspect", naturalWidth / naturalHeight);
    this.image.classList.toggle("small", Math.max(naturalWidth, naturalHeight) <= SMALL);
  }

  /** Show what `view` makes of `state`; the last call wins, and one request is on its way at a time. */
  show(view, state) {
    this.wanted = [view, state];
    this.working ??= this.#work().finally(() => (this.working = null));
  }

  async #work() {
    this.root.setAttribute("aria-busy", "true");
    while (this.wanted) {
      const [[view, state], picture] = [this.wanted, this.picture];
      this.wanted = null;
      try {
        const prediction = (await this.#predict())?.predictions[0];
        const seen = await view.look((path, params) => this.#ask(path, params), this.model, state);
        const [found, map] = [seen.merged ?? prediction, await mapOf(prediction)];
        Object.assign(seen.scene, { found, map, classes: this.model.classes });
        if (picture === this.picture) this.#paint(seen, prediction, view, state);
      } catch (error) {
        if (picture === this.picture) this.#fail(error);
      }
    }
    this.root.setAttribute("aria-busy", "false");
  }

  /** null where the model predicts nothing. */
  #predict() {
    return this.model.predicts ? this.#ask("predict", { top: TOP }) : null;
  }

  /** A request for an image is sent once, unless many others followed it. */
  #ask(path, params) {
    const [key, { known, picture }] = [JSON.stringify([path, params]), this];
    if (!known.has(key)) {
      const answer = ask(path, { model: this.model.name, ...params }, picture.blob);
      answer.catch(() => known.delete(key)); // it may be sent again
      known.set(key, answer);
      if (known.size > KEPT) known.delete(known.keys().next().value);
    }
    return known.get(key);
  }

  #paint({ scene, words, said, merged }, prediction, view, state) {
    this.scene = scene;
    this.root.classList.remove("failed");
    this.image.classList.toggle("grey", Boolean(scene.heat));
    draw(this.canvas, this.image, scene);
    this.words.textContent = words;
    this.legend.hidden = !scene.heat;
    const top = ranked(prediction, TOP);
    const before = merged && top ? new Map(top.map(({ label, score }) => [label, score])) : null;
    this.title.textContent = merged ? "With merging" : "Prediction";
    this.title.classList.toggle("marked", Boolean(before));
    const target = view.targets ? (state.target ?? top?.[0]?.label) : null;
    result.show(this.answer, merged ?? prediction, { before, target, choose: (label) => this.on.target(label) });
    this.on.says(this.model.name, said ?? result.summary(prediction));
  }

  #fail(error) {
    this.root.classList.add("failed");
    this.words.textContent = error.message;
    this.legend.hidden = true;
    this.on.says(this.model.name, error.message);
    this.scene = null;
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  #point(event) {
    if (!this.scene) return;
    const box = this.canvas.getBoundingClientRect();
    const point = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const patch = patchAt(point, this.scene.region, this.scene.grid);
    if (patch !== null) this.on.point(centreOf(patch, this.scene.region, this.scene.grid));
  }

  #key(event) {
    if (event.key === "Escape") this.on.point(null);
    if (!event.key.startsWith("Arrow") || !this.scene) return;
    event.preventDefault();
    const { region, grid } = this.scene;
    const patch = stepped(this.at && patchAt(this.at, region, grid), event.key, grid);
    this.on.point(centreOf(patch, region, grid));
  }
}

function about({ task, parameters, image_size: [height, width], layers, heads }) {
  const size = parameters < 1e6 ? `${Math.round(parameters / 1e3)} K` : `${(parameters / 1e6).toFixed(1)} M`;
  return `${task} · ${size} parameters · ${height} × ${width} · ${layers} layers, ${heads} heads`;
}
