// A picture before and after it was restored: a line between the two that can be moved, and both enlarged together.

import { say } from "./say.js";

const LARGEST = 16; // times
const NEAR = 28; // CSS pixels from the line within which a drag moves it where pictures are enlarged
const KEYS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const STEP = 48; // CSS pixels of a key

export class Comparison {
  /** @param root a `.comparison` of the page */
  constructor(root) {
    this.root = root;
    const find = (selector) => root.querySelector(selector);
    [this.window, this.before, this.after, this.line] = [".window", ".before", ".after", ".line"].map(find);
    [this.slider, this.save, this.times] = ["input", "a", "output"].map(find);
    [this.out, this.into] = [find(".out"), find(".into")];
    this.pointers = new Map();
    this.slider.addEventListener("input", () => this.#render());
    this.out.addEventListener("click", () => this.#zoom(0.5));
    this.into.addEventListener("click", () => this.#zoom(2));
    this.window.addEventListener("keydown", (event) => this.#key(event));
    this.window.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.window.addEventListener("pointerdown", (event) => this.#down(event));
    this.window.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      this.window.addEventListener(kind, (event) => this.pointers.delete(event.pointerId));
    }
    new ResizeObserver(() => this.#render()).observe(this.window);
    this.#reset();
  }

  /** Another pair: the address of the picture, and a prediction with the restored one; none hides it. */
  async open(picture, prediction) {
    this.root.hidden = !picture;
    if (!picture) return;
    const url = addressOf(prediction);
    if (this.after.getAttribute("src") === url) return;
    this.#reset();
    [this.before.src, this.after.src, this.save.href] = [picture.url, url, url];
    this.save.download = `${picture.name.replace(/\.[^.]*$/, "")}-restored.png`;
    await this.after.decode().catch(() => {}); // another one came meanwhile
    this.root.style.setProperty("--aspect", this.after.naturalWidth / this.after.naturalHeight || 1);
    this.#render();
  }

  #reset() {
    [this.scale, this.left, this.top] = [1, 0, 0];
    this.slider.value = 50;
    this.#render();
  }

  #render() {
    const { width, height } = this.window.getBoundingClientRect();
    this.left = Math.min(0, Math.max(width * (1 - this.scale), this.left));
    this.top = Math.min(0, Math.max(height * (1 - this.scale), this.top));
    const share = this.slider.valueAsNumber;
    for (const image of [this.before, this.after]) {
      image.style.transform = `translate(${this.left}px, ${this.top}px) scale(${this.scale})`;
    }
    this.after.parentElement.style.clipPath = `inset(0 0 0 ${share}%)`;
    this.line.style.left = `${share}%`;
    this.times.textContent = `${Number(this.scale.toFixed(1))} ×`;
    [this.out.disabled, this.into.disabled] = [this.scale <= 1, this.scale >= LARGEST];
    this.slider.setAttribute("aria-valuetext", say("{share} % before", { share: Math.round(share) }));
    this.window.classList.toggle("zoomed", this.scale > 1);
  }

  /** Enlarge by a factor; the point of the window, its middle by default, stays. */
  #zoom(factor, x = this.window.clientWidth / 2, y = this.window.clientHeight / 2) {
    const scale = Math.min(LARGEST, Math.max(1, this.scale * factor));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.#render();
  }

  #key(event) {
    const { key } = event;
    if (key === "+" || key === "=") this.#zoom(2);
    else if (key === "-") this.#zoom(0.5);
    else if (key === "0" || key === "Escape") this.#zoom(1 / this.scale);
    else if (key in KEYS) this.#pan(STEP * KEYS[key][0], STEP * KEYS[key][1]);
    else return;
    event.preventDefault();
  }

  /** Two fingers on a touchpad come as a wheel with Ctrl; a wheel alone scrolls the page. */
  #wheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const { left, top } = this.window.getBoundingClientRect();
    this.#zoom(Math.exp(-event.deltaY / 200), event.clientX - left, event.clientY - top);
  }

  #pan(x, y) {
    this.left += x;
    this.top += y;
    this.#render();
  }

  #down(event) {
    const { left, width } = this.window.getBoundingClientRect();
    const near = Math.abs(event.clientX - left - (width * this.slider.valueAsNumber) / 100) < NEAR;
    this.slides = this.scale === 1 || near;
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.window.setPointerCapture(event.pointerId);
    if (this.slides) this.#slide(event);
  }

  #move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other) this.#pinch(before, now, other);
    else if (this.slides) this.#slide(event);
    else this.#pan(now[0] - before[0], now[1] - before[1]);
  }

  /** Two fingers: one moved from `before` to `now`, the other one stays. */
  #pinch(before, now, other) {
    const { left, top } = this.window.getBoundingClientRect();
    const far = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
    this.#zoom(far(now) / far(before), (now[0] + other[0]) / 2 - left, (now[1] + other[1]) / 2 - top);
  }

  #slide(event) {
    const { left, width } = this.window.getBoundingClientRect();
    this.slider.value = (100 * (event.clientX - left)) / width;
    this.#render();
  }
}

/** The address of the restored picture, made once. */
function addressOf(prediction) {
  if (!prediction.address) {
    const bytes = Uint8Array.from(atob(prediction.restored), (letter) => letter.charCodeAt(0));
    prediction.address = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  }
  return prediction.address;
}

/** The restored picture of a prediction is not needed any longer. */
export function forget(prediction) {
  if (prediction?.address) URL.revokeObjectURL(prediction.address);
}
