// Every route of the server with a form that calls it, made from the server's own OpenAPI document.

import { Refused, send, token } from "./api.js";
import { offerLanguage, say, translate } from "./say.js";

const ROOT = "../"; // this page lies one folder below the routes
const LONGEST = 20_000; // letters of an answer that are shown
const find = (id) => document.getElementById(id);

async function start() {
  let answer = await send(`${ROOT}openapi.json`);
  while (answer.status === 401) {
    await token();
    answer = await send(`${ROOT}openapi.json`);
  }
  const { paths } = await answer.json();
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, about]) => new Operation(path, method.toUpperCase(), about)),
  );
  find("operations").replaceChildren(...operations.map(({ root }) => root));
}

class Operation {
  constructor(path, method, { summary, description = "", parameters = [], requestBody }) {
    Object.assign(this, { path, method, kinds: Object.keys(requestBody?.content ?? {}) });
    this.root = find("operation").content.cloneNode(true).firstElementChild;
    const part = (selector) => this.root.querySelector(selector);
    [part("b").textContent, part("summary code").textContent] = [method, path];
    part("summary span").textContent = summary ?? "";
    part(".description").textContent = description.replace(/([^\n])\n(?!\n)/g, "$1 "); // lines as the screen wraps them
    this.fields = parameters.map((each) => new Field(each));
    if (this.kinds.length) this.body = new Body(this.kinds);
    part(".fields").append(...[...this.fields, this.body].filter(Boolean).map(({ root }) => root));
    part("form").addEventListener("input", () => this.#explain());
    part("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    translate(this.root);
    this.#explain();
  }

  get address() {
    const query = new URLSearchParams();
    let { path } = this;
    for (const { name, place, value } of this.fields) {
      if (place === "path") path = path.replace(`{${name}}`, encodeURIComponent(value));
      else if (value !== "") query.append(name, value);
    }
    return `${path.slice(1)}${query.size ? `?${query}` : ""}`;
  }

  #explain() {
    const lines = [`curl ${quoted(new URL(`${ROOT}${this.address}`, location.href).href)}`];
    if (this.method !== "GET" && !this.body) lines.push(`-X ${this.method}`);
    if (sessionStorage.length) lines.push(`-H "Authorization: Bearer $VITRAIL_TOKEN"`);
    if (this.body) lines.push(...this.body.curl);
    this.root.querySelector(".curl").textContent = lines.join(" \\\n  ");
  }

  async #send() {
    const part = (selector) => this.root.querySelector(selector);
    const [status, text, image] = [part(".status"), part("pre.answer"), part("img.answer")];
    [text.hidden, image.hidden, status.textContent] = [true, true, say("waiting")];
    URL.revokeObjectURL(image.src);
    const begun = performance.now();
    try {
      const answer = await send(`${ROOT}${this.address}`, { method: this.method, ...this.body?.request });
      const kind = answer.headers.get("content-type") ?? "";
      const blob = await answer.blob();
      status.textContent = `${answer.status} · ${Math.round(performance.now() - begun)} ms · ${blob.size.toLocaleString()} B`;
      if (kind.startsWith("image/")) [image.src, image.hidden] = [URL.createObjectURL(blob), false];
      else [text.textContent, text.hidden] = [legible(await blob.text(), kind), false];
      if (answer.status === 401) await token();
    } catch (error) {
      status.textContent = error instanceof Refused ? error.message : String(error);
    }
  }
}

/** A parameter: a choice where the schema lists values, else a text; empty leaves it out. */
class Field {
  constructor({ name, in: place, description = "", required = false, schema = {} }) {
    Object.assign(this, { name, place });
    this.root = document.createElement("label");
    const { enum: values } = [schema, ...(schema.anyOf ?? [])].find((each) => each.enum) ?? {};
    this.input = document.createElement(values ? "select" : "input");
    if (values) this.input.append(...(required ? [] : [new Option("", "")]), ...values.map((value) => new Option(value)));
    else this.input.placeholder = schema.default ?? "";
    this.input.required = required;
    const [title, about] = ["code", "small"].map((tag) => document.createElement(tag));
    [title.textContent, about.textContent] = [name, description];
    this.root.append(title, this.input, about);
  }

  get value() {
    return this.input.value;
  }
}

/** Pictures where the route takes them as files, else JSON to write. */
class Body {
  constructor(kinds) {
    this.files = kinds.includes("multipart/form-data");
    this.root = document.createElement("label");
    const title = document.createElement("code");
    title.textContent = this.files ? "images" : "body";
    this.input = document.createElement(this.files ? "input" : "textarea");
    if (this.files) Object.assign(this.input, { type: "file", accept: "image/*", multiple: true });
    else this.input.value = "{}";
    this.input.required = true;
    this.root.append(title, this.input);
  }

  get request() {
    if (!this.files) return { body: this.input.value, headers: { "Content-Type": "application/json" } };
    const body = new FormData();
    for (const file of this.input.files) body.append("images", file, file.name);
    return { body };
  }

  get curl() {
    if (!this.files) return [`-H "Content-Type: application/json" -d ${quoted(this.input.value)}`];
    const names = [...this.input.files].map(({ name }) => name);
    return (names.length ? names : ["photo.jpg"]).map((name) => `-F ${quoted(`images=@${name}`)}`);
  }
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function legible(text, kind) {
  const laid = kind.includes("json") ? JSON.stringify(JSON.parse(text), null, 1).replace(/\n\s+(-?[\d.e+-]+,?)(?=\n)/g, " $1") : text;
  return laid.length > LONGEST ? `${laid.slice(0, LONGEST)}\n… ${say("{count} more letters", { count: laid.length - LONGEST })}` : laid;
}

offerLanguage(find("language"));
start().catch((error) => {
  [find("notice").textContent, find("notice").hidden] = [error.message, false];
});
