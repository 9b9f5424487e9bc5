// The page: which models, which picture, which view; the panels do the rest.

import { ask, holdsToken, Refused } from "./api.js";
import { Panel } from "./panel.js";
import * as picture from "./picture.js";
import { allViews } from "./views.js";

const PAUSE = 400; // milliseconds that the page is quiet before it is read out
const find = (id) => document.getElementById(id);
const state = { view: "attention", layer: Infinity, layers: 1, head: -1, r: null, point: null, target: null, note: "" };
const sayings = new Map(); // by model
let views, panels = [], shown = null, saying = 0, turns = 0;

async function start() {
  const { models, methods } = await ask("models");
  views = allViews(methods);
  find("docs").hidden = holdsToken(); // a link carries no token
  for (const [name, { title }] of Object.entries(views)) addView(name, title);
  const [first, second] = [find("model"), find("other")];
  first.append(...models.map(({ name }) => new Option(name)));
  second.append(new Option("nothing", ""), ...models.map(({ name }) => new Option(name)));
  document.querySelector(".models").hidden = models.length < 2;
  const choose = () => {
    const names = new Set([first.value, second.value || first.value]);
    return choosePanels([...names].map((name) => models.find((each) => each.name === name)));
  };
  first.addEventListener("change", choose);
  second.addEventListener("change", choose);
  await choose();
}

function addView(name, title) {
  const [label, radio, text] = ["label", "input", "span"].map((tag) => document.createElement(tag));
  Object.assign(radio, { type: "radio", name: "view", value: name, checked: name === state.view });
  text.textContent = title;
  label.append(radio, text);
  radio.addEventListener("change", () => change({ view: name }));
  document.querySelector(".views").append(label);
}

async function choosePanels(models) {
  const on = { point: choosePoint, target: chooseTarget, says: say };
  panels = models.map((model) => new Panel(model, on));
  find("panels").replaceChildren(...panels.map((panel) => panel.root));
  find("panels").classList.toggle("two", panels.length > 1);
  const of = (key) => Math.max(...models.map((model) => model[key]));
  const patches = Math.min(...models.map(({ grid: [rows, columns] }) => rows * columns));
  const most = Math.max(1, Math.min(Math.floor(patches / of("layers")), Math.floor(patches / 2)));
  state.layers = of("layers");
  state.layer = Math.min(state.layer, state.layers - 1);
  state.head = Math.min(state.head, of("heads") - 1);
  state.r = Math.min(state.r ?? Math.ceil(most / 2), most);
  for (const [name, max] of [["layer", state.layers - 1], ["head", of("heads") - 1], ["r", most]]) range(name).max = max;
  if (shown) await Promise.all(panels.map((panel) => panel.open(shown)));
  render();
}

async function open(file) {
  const turn = (turns += 1);
  const opened = await picture.open(file);
  if (turn !== turns) return URL.revokeObjectURL(opened.url); // another one came meanwhile
  if (shown) URL.revokeObjectURL(shown.url);
  shown = opened;
  if (document.body.classList.contains("empty")) makeRoom();
  Object.assign(state, { point: null, target: null, note: opened.note });
  await Promise.all(panels.map((panel) => panel.open(shown)));
  render();
}

/** The invitation goes, its button stays at hand. */
function makeRoom() {
  const focused = document.activeElement === find("file");
  document.body.classList.remove("empty");
  find("again").append(find("choose"));
  find("choose").querySelector("span").textContent = "Another picture";
  if (focused) find("file").focus();
}

/** Clicking a patch shows what it attends to, in views that do not use patches otherwise. */
function choosePoint(point) {
  const view = point === null || views[state.view].tokens ? state.view : "attention";
  change({ point, view });
}

/** Picking an output shows its explanation; picking it again, that of the first output. */
function chooseTarget(label) {
  const view = views[state.view].targets ? state.view : "gradcam" in views ? "gradcam" : state.view;
  change({ view, target: state.target === label ? null : label });
}

function change(what) {
  Object.assign(state, what);
  render();
}

function render() {
  const view = views[state.view];
  document.querySelector(`.views input[value="${state.view}"]`).checked = true;
  for (const name of ["layer", "head", "r"]) {
    find(name).hidden = !view.controls.includes(name);
    range(name).value = state[name];
    const text = name === "r" ? `${state.r} / layer` : name === "head" && state.head < 0 ? "mean" : String(state[name]);
    find(name).querySelector("output").textContent = text;
    range(name).setAttribute("aria-valuetext", text);
  }
  find("reset").hidden = !view.points;
  find("reset").disabled = state.point === null;
  find("reset").textContent = view.tokens ? "All tokens" : panels[0]?.model.class_token ? "Class token" : "All patches";
  if (!shown) return;
  for (const panel of panels) {
    panel.at = state.point;
    panel.show(view, { ...state });
  }
}

/** What the panels have to say is read out together, once all is quiet. */
function say(model, text) {
  sayings.set(model, text);
  clearTimeout(saying);
  saying = setTimeout(() => {
    find("said").textContent = panels.map((panel) => `${panel.model.name}: ${sayings.get(panel.model.name)}.`).join(" ");
  }, PAUSE);
}

async function guarded(action) {
  const notice = find("notice");
  notice.hidden = true;
  try {
    await action();
  } catch (error) {
    notice.textContent = error instanceof Refused ? error.message : "Something went wrong on this page. Reload it.";
    notice.hidden = false;
    if (!(error instanceof Refused)) throw error;
  }
}

const range = (name) => find(name).querySelector("input");
for (const name of ["layer", "head", "r"]) {
  range(name).addEventListener("input", () => change({ [name]: range(name).valueAsNumber }));
}
find("reset").addEventListener("click", () => change({ point: null }));
find("controls").addEventListener("submit", (event) => event.preventDefault());
const ready = start();
guarded(() => ready);
picture.listen(find("file"), (file) => guarded(() => ready.then(() => open(file)))); // it may come before the models
