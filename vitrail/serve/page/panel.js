// One model: its input pictures and its outputs.

import { ask } from "./api.js";
import { Comparison, forget } from "./comparison.js";
import { mapOf, ranked } from "./places.js";
import * as result from "./result.js";
import { say, translate } from "./say.js";
import { Stage } from "./stage.js";

const TOP = 5;
const KEPT = 64; // responses, the last ones

export class Panel {
  /**
   * @param model as in /v1/models
   * @param on { point(point, second), target(label), says(model, text) }: called on input of the user, and with texts to
   *   read out
   */
  constructor(model, on) {
    this.model = model;
    this.on = on;
    this.root = document.getElementById("panel").content.cloneNode(true).firstElementChild;
    const find = (selector) => this.root.querySelector(selector);
    [this.words, this.legend, this.title, this.answer] = [".words", ".legend", "h3", ".answer"].map(find);
    this.stages = [...this.root.querySelectorAll(".stage")].map(
      (stage, i) => new Stage(stage, (point) => this.on.point(point, i === 1)),
    );
    this.comparison = new Comparison(find(".comparison"));
    find(".name").textContent = model.name;
    this.translate();
  }

  translate() {
    translate(this.root);
    const { name } = this.model;
    this.root.setAttribute("aria-label", say("Model {name}", { name }));
    for (const { canvas } of this.stages) canvas.setAttribute("aria-roledescription", say("grid of patches"));
    this.root.querySelector(".about").textContent = about(this.model);
    this.stages[0].canvas.setAttribute("aria-label", say("The picture for {name}; arrow keys choose a patch", { name }));
    this.stages[1].canvas.setAttribute("aria-label", say("The second picture for {name}; arrow keys choose a patch", { name }));
  }

  /** Other pictures, the second one may be null: cached responses are dropped. */
  async open(...pictures) {
    this.pictures = pictures;
    this.known = new Map();
    forget(this.shown);
    this.shown = null;
    this.answer.replaceChildren();
    await Promise.all(this.stages.map((stage, i) => stage.open(pictures[i])));
    this.root.style.setProperty("--aspect", this.stages.reduce((sum, { aspect }) => sum + aspect, 0));
  }

  /** The patch that is pointed at, in the first or the second picture. */
  pointAt(point, second) {
    this.stages.forEach((stage, i) => (stage.at = second === (i === 1) ? point : null));
  }

  /** Show what `view` makes of `state`; the last call wins, and one request is on its way at a time. */
  show(view, state) {
    this.wanted = [view, state];
    this.working ??= this.#work().finally(() => (this.working = null));
  }

  async #work() {
    this.root.setAttribute("aria-busy", "true");
    while (this.wanted) {
      const [[view, state], pictures] = [this.wanted, this.pictures];
      this.wanted = null;
      try {
        const prediction = (await this.#predict())?.predictions[0];
        const seen = await view.look((path, params, ...which) => this.#ask(path, params, which), this.model, state);
        const [found, map] = [seen.merged ?? prediction, await mapOf(prediction)];
        Object.assign(seen.scenes[0], { found, map, classes: this.model.classes });
        if (pictures === this.pictures) this.#paint(seen, prediction, view, state);
      } catch (error) {
        if (pictures === this.pictures) this.#fail(error);
      }
    }
    this.root.setAttribute("aria-busy", "false");
  }

  /** null where the model predicts nothing. */
  #predict() {
    return this.model.predicts ? this.#ask("predict", { top: TOP }) : null;
  }

  /** A request is sent once, unless many others followed it. `which`: the numbers of the pictures, by default the first. */
  #ask(path, params, which = []) {
    const [chosen, { known, pictures }] = [which.length ? which : [0], this];
    const key = JSON.stringify([path, params, chosen]);
    if (!known.has(key)) {
      const answer = ask(path, { model: this.model.name, ...params }, chosen.map((i) => pictures[i].blob));
      answer.catch(() => known.delete(key)); // it may be sent again
      known.set(key, answer);
      if (known.size > KEPT) known.delete(known.keys().next().value);
    }
    return known.get(key);
  }

  #paint({ scenes, words, said, merged }, prediction, view, state) {
    this.root.classList.remove("failed");
    this.#compare(view.restores && prediction?.restored ? prediction : null);
    this.stages.forEach((stage, i) => scenes[i] && stage.paint(scenes[i]));
    this.words.textContent = words;
    this.legend.hidden = !scenes[0].heat;
    const top = ranked(prediction, TOP);
    const before = merged && top ? new Map(top.map(({ label, score }) => [label, score])) : null;
    this.title.textContent = say(merged ? "With merging" : "Prediction");
    this.title.dataset.mark = before ? say("without") : "";
    const target = view.targets ? (state.target ?? top?.[0]?.label) : null;
    result.show(this.answer, merged ?? prediction, { before, target, choose: (label) => this.on.target(label) });
    this.on.says(this.model.name, said ?? result.summary(prediction));
  }

  /** Show the restored picture beside the one that it was made of, or the stages. */
  #compare(prediction) {
    this.shown = prediction ?? this.shown;
    this.root.querySelector(".stages").hidden = prediction !== null;
    this.comparison.open(prediction && this.pictures[0], prediction);
  }

  #fail(error) {
    this.#compare(null);
    this.root.classList.add("failed");
    this.words.textContent = error.message;
    this.legend.hidden = true;
    this.on.says(this.model.name, error.message);
    for (const stage of this.stages) stage.clear();
  }
}

function about({ task, parameters, image_size: [height, width], layers, heads }) {
  const size = parameters < 1e6 ? `${Math.round(parameters / 1e3)} K` : `${(parameters / 1e6).toFixed(1)} M`;
  return say("{task} · {size} parameters · {height} × {width} · {layers} layers, {heads} heads", {
    task: say(task), size, height, width, layers, heads,
  });
}
