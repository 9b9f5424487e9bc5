// All pictures of this visit in a strip: one is shown, another one may be compared with it, and the rest can be sorted by
// how alike they are to the one that is shown.

import { ask } from "./api.js";
import { percent, ranked } from "./places.js";
import { say } from "./say.js";

const MOST = 100; // pictures that are kept

export class Gallery {
  /** @param on { show(picture), pair(picture or null), fail(error) } */
  constructor(root, on) {
    Object.assign(this, { root, on, pictures: [], shown: null, second: null, model: null, sorted: false, pairs: false });
    this.strip = root.querySelector("ol");
    this.like = root.querySelector("#like");
    this.like.addEventListener("click", () => this.#sort(!this.sorted));
    root.querySelector("#clear").addEventListener("click", () => this.#clear());
  }

  /** Take more pictures; the oldest ones beyond the limit go. */
  add(pictures) {
    this.pictures.push(...pictures);
    const kept = new Set([...this.pictures.slice(-MOST), this.shown, this.second].filter(Boolean));
    for (const each of this.pictures) if (!kept.has(each)) URL.revokeObjectURL(each.url);
    this.pictures = this.pictures.filter((each) => kept.has(each));
  }

  /** What is shown, which model names the pictures, and whether the view takes a second picture. */
  render({ shown, second, model, pairs }) {
    const seen = [shown, second, model, pairs, this.pictures, document.documentElement.lang];
    if (seen.every((each, i) => each === this.seen?.[i])) return;
    this.seen = seen;
    if (model !== this.model) for (const each of this.pictures) delete each.label;
    const moved = shown !== this.shown || model !== this.model;
    Object.assign(this, { shown, second, model, pairs });
    this.root.hidden = this.pictures.length < 2;
    if (this.root.hidden) return;
    this.#draw();
    if (this.sorted && moved) this.#sort(true);
    this.naming ??= this.#name().finally(() => (this.naming = null));
  }

  #draw() {
    this.like.setAttribute("aria-pressed", String(this.sorted));
    this.root.querySelector("h2").textContent = say("{count} pictures", { count: this.pictures.length });
    const like = (picture) => (this.sorted && picture !== this.shown ? picture.likeness?.get(this.shown) : undefined);
    const order = this.sorted
      ? [...this.pictures].sort((a, b) => (b === this.shown) - (a === this.shown) || (like(b) ?? -2) - (like(a) ?? -2))
      : this.pictures;
    const focused = this.strip.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.strip.replaceChildren(...order.map((picture) => this.#tile(picture, like(picture))));
    if (focused) [...this.strip.querySelectorAll("button")].find(({ dataset }) => dataset.key === focused)?.focus();
  }

  #tile(picture, likeness) {
    const item = document.createElement("li");
    const label = picture.label ?? "";
    const show = button("thumb", say("Show {name}", { name: `${picture.name}${label && `: ${label}`}` }), picture === this.shown);
    const image = document.createElement("img");
    Object.assign(image, { src: picture.url, alt: "", loading: "lazy" });
    const text = document.createElement("span");
    text.textContent = likeness === undefined ? label || picture.name : `${percent(likeness)} · ${label || picture.name}`;
    show.dataset.key = `show ${picture.url}`;
    show.append(image, text);
    show.addEventListener("click", () => this.on.show(picture));
    item.append(show);
    if (this.pairs && picture !== this.shown) {
      const pair = button("pair", say("Compare with {name}", { name: picture.name }), picture === this.second);
      pair.dataset.key = `pair ${picture.url}`;
      pair.textContent = say("compare");
      pair.addEventListener("click", () => this.on.pair(picture === this.second ? null : picture));
      item.append(pair);
    }
    return item;
  }

  /** The label of each picture, one request after the other. */
  async #name() {
    for (let next; this.model.predicts && (next = this.pictures.find((each) => each.label === undefined)); ) {
      const { model } = this;
      const answer = await ask("predict", { model: model.name, top: 1 }, [next.blob]).catch(() => null);
      if (model !== this.model) continue;
      next.label = ranked(answer?.predictions[0], 1)?.[0]?.label ?? "";
      this.#draw();
    }
  }

  /** By the cosine of their embeddings with that of the picture that is shown. */
  async #sort(sorted) {
    this.sorted = sorted;
    this.#draw();
    if (!sorted) return;
    const { shown, model } = this;
    try {
      for (const each of [shown, ...this.pictures]) {
        if (each.embedder !== model.name) {
          each.vector = normalised((await ask("embed", { model: model.name }, [each.blob])).embeddings[0]);
          Object.assign(each, { embedder: model.name, likeness: new Map() });
        }
        if (shown !== this.shown || model !== this.model || !this.sorted) return; // another sorting has begun
      }
    } catch (error) {
      this.sorted = false;
      this.#draw();
      return this.on.fail(error);
    }
    for (const each of this.pictures) each.likeness?.set(shown, each.vector.reduce((sum, x, i) => sum + x * shown.vector[i], 0));
    this.#draw();
  }

  #clear() {
    for (const each of this.pictures) if (each !== this.shown) URL.revokeObjectURL(each.url);
    this.pictures = [this.shown];
    this.on.pair(null);
  }
}

function normalised(vector) {
  const length = Math.hypot(...vector) || 1;
  return vector.map((x) => x / length);
}

function button(kind, label, pressed) {
  const made = document.createElement("button");
  Object.assign(made, { type: "button", className: kind, title: label });
  made.setAttribute("aria-label", label);
  made.setAttribute("aria-pressed", String(pressed));
  return made;
}
