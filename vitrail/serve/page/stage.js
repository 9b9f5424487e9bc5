// One picture with what is drawn over it, and the patch that is pointed at.

import { draw } from "./draw.js";
import { centreOf, patchAt, stepped } from "./grid.js";

const SMALL = 64; // pixels a side below which pictures are enlarged with hard edges

export class Stage {
  /** @param root a `.stage` with an image and a canvas; `point(point)` is called with shares of the sides, or null */
  constructor(root, point) {
    [this.root, this.point] = [root, point];
    [this.image, this.canvas] = [root.querySelector("img"), root.querySelector("canvas")];
    [this.scene, this.at] = [null, null];
    this.canvas.addEventListener("pointerdown", (event) => this.#point(event));
    this.canvas.addEventListener("pointermove", (event) => event.buttons && event.pointerType === "mouse" && this.#point(event));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.scene && draw(this.canvas, this.image, this.scene)).observe(this.canvas);
  }

  /** Another picture, or none. */
  async open(picture) {
    this.scene = null;
    this.root.hidden = !picture;
    if (!picture) return;
    this.image.src = picture.url;
    await this.image.decode().catch(() => {}); // another one came meanwhile
    this.root.style.setProperty("--aspect", this.aspect);
    this.image.classList.toggle("small", Math.max(this.image.naturalWidth, this.image.naturalHeight) <= SMALL);
  }

  /** Width by height; 0 where there is no picture. */
  get aspect() {
    return this.root.hidden ? 0 : this.image.naturalWidth / this.image.naturalHeight || 1;
  }

  paint(scene) {
    this.scene = scene;
    this.image.classList.toggle("grey", Boolean(scene.heat || scene.colours));
    draw(this.canvas, this.image, scene);
  }

  clear() {
    this.scene = null;
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  #point(event) {
    if (!this.scene) return;
    const box = this.canvas.getBoundingClientRect();
    const point = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const patch = patchAt(point, this.scene.region, this.scene.grid);
    if (patch !== null) this.point(centreOf(patch, this.scene.region, this.scene.grid));
  }

  #key(event) {
    if (event.key === "Escape") this.point(null);
    if (!event.key.startsWith("Arrow") || !this.scene) return;
    event.preventDefault();
    const { region, grid } = this.scene;
    const patch = stepped(this.at && patchAt(this.at, region, grid), event.key, grid);
    this.point(centreOf(patch, region, grid));
  }
}
