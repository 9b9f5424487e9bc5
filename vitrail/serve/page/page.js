// The page: which models, which pictures, which view; the panels do the rest.

import { ask, Refused } from "./api.js";
import { offerCamera } from "./camera.js";
import { Gallery } from "./gallery.js";
import { Panel } from "./panel.js";
import * as picture from "./picture.js";
import { offerLanguage, say } from "./say.js";
import { allViews } from "./views.js";

const PAUSE = 400; // milliseconds that the page is quiet before it is read out
const find = (id) => document.getElementById(id);
const state = { view: "attention", layer: Infinity, layers: 1, head: -1, r: null, point: null, inSecond: false, target: null };
const sayings = new Map(); // by model
let views = {}, models = [], panels = [], shown = null, second = null, saying = 0, turns = 0;

async function start() {
  const answer = await ask("models");
  models = answer.models;
  views = allViews(answer.methods, models);
  if (models[0].restores) state.view = "restored";
  for (const name of Object.keys(views)) addView(name);
  const [first, other] = [find("model"), find("other")];
  first.append(...models.map(({ name }) => new Option(name)));
  document.querySelector(".models").hidden = models.length < 2;
  first.addEventListener("change", () => choosePanels());
  other.addEventListener("change", () => choosePanels());
  await choosePanels();
}

function addView(name) {
  const [label, radio, text] = ["label", "input", "span"].map((tag) => document.createElement(tag));
  Object.assign(radio, { type: "radio", name: "view", value: name, checked: name === state.view });
  label.append(radio, text);
  radio.addEventListener("change", () => change({ view: name }));
  document.querySelector(".views").append(label);
}

/** The other models, to compare with. */
function offerOthers() {
  const [first, other] = [find("model"), find("other")];
  const others = models.filter(({ name }) => name !== first.value).map(({ name }) => new Option(name));
  const before = other.value;
  other.replaceChildren(new Option(say("nothing"), ""), ...others);
  other.value = others.some(({ value }) => value === before) ? before : "";
}

async function choosePanels() {
  offerOthers();
  const names = [find("model").value, find("other").value].filter(Boolean);
  const chosen = names.map((name) => models.find((each) => each.name === name));
  panels = chosen.map((model) => new Panel(model, { point: choosePoint, target: chooseTarget, says: announce }));
  find("panels").replaceChildren(...panels.map((panel) => panel.root));
  find("panels").classList.toggle("two", panels.length > 1);
  const of = (key) => Math.max(...chosen.map((model) => model[key]));
  const patches = Math.min(...chosen.map(({ grid: [rows, columns] }) => rows * columns));
  const most = Math.max(1, Math.min(Math.floor(patches / of("layers")), Math.floor(patches / 2)));
  state.layers = of("layers");
  state.layer = Math.min(state.layer, state.layers - 1);
  state.head = Math.min(state.head, of("heads") - 1);
  state.r = Math.min(state.r ?? Math.ceil(most / 2), most);
  for (const [name, max] of [["layer", state.layers - 1], ["head", of("heads") - 1], ["r", most]]) range(name).max = max;
  await openPictures();
}

/** Read the files; the first one is shown, or compared with the one that is. */
async function open(files, compared = false) {
  const turn = (turns += 1);
  const opened = [];
  let failure = null;
  for (const file of files) {
    try {
      opened.push(await picture.open(file));
    } catch (error) {
      failure ??= error;
    }
  }
  if (!opened.length) throw failure;
  if (turn !== turns) return opened.forEach(({ url }) => URL.revokeObjectURL(url)); // others came meanwhile
  gallery.add(opened);
  if (document.body.classList.contains("empty")) makeRoom();
  await (compared ? pair(opened[0]) : show(opened[0]));
  if (failure) throw failure;
}

async function show(chosen) {
  if (chosen === second) second = null;
  shown = chosen;
  Object.assign(state, { point: null, inSecond: false, target: null });
  await openPictures();
}

async function pair(chosen) {
  second = chosen;
  if (state.inSecond) Object.assign(state, { point: null, inSecond: false });
  await openPictures();
}

async function openPictures() {
  if (shown) await Promise.all(panels.map((panel) => panel.open(shown, paired())));
  render();
}

/** The second picture, where the view has one. */
const paired = () => (views[state.view].pairs ? second : null);

/** The invitation goes, its buttons stay at hand. */
function makeRoom() {
  const focused = document.activeElement === find("file");
  document.body.classList.remove("empty");
  find("again").append(find("camera"), find("choose"));
  const text = find("choose").querySelector("span");
  text.dataset.say = "Another picture";
  text.textContent = say("Another picture");
  if (focused) find("file").focus();
}

/** Clicking a patch shows what it attends to, in views that do not use patches otherwise. */
function choosePoint(point, inSecond) {
  const view = point === null || views[state.view].points || !views.attention ? state.view : "attention";
  change({ point, view, inSecond: point !== null && inSecond });
}

/** Picking an output shows its explanation; picking it again, that of the first output. */
function chooseTarget(label) {
  const view = views[state.view].targets ? state.view : "gradcam" in views ? "gradcam" : state.view;
  change({ view, target: state.target === label ? null : label });
}

function change(what) {
  const before = paired();
  Object.assign(state, what);
  if (before === paired()) return render();
  if (!paired() && state.inSecond) Object.assign(state, { point: null, inSecond: false });
  openPictures();
}

function render() {
  const view = views[state.view];
  for (const radio of document.querySelectorAll(".views input")) {
    radio.checked = radio.value === state.view;
    radio.nextElementSibling.textContent = say(views[radio.value].title);
  }
  for (const name of ["layer", "head", "r"]) {
    find(name).hidden = !view.controls.includes(name);
    range(name).value = state[name];
    const mean = name === "head" && state.head < 0;
    const text = name === "r" ? say("{r} / layer", state) : mean ? say("mean") : String(state[name]);
    find(name).querySelector("output").textContent = text;
    range(name).setAttribute("aria-valuetext", text);
  }
  const everything = view.tokens ? "All tokens" : view.middle ? "Middle" : panels[0]?.model.class_token ? "Class token" : "All patches";
  find("reset").hidden = !view.points;
  find("reset").disabled = state.point === null;
  find("reset").textContent = say(everything);
  find("second").hidden = !view.pairs || second !== null;
  find("alone").hidden = !view.pairs || second === null;
  if (!shown) return;
  gallery.render({ shown, second, model: panels[0].model, pairs: view.pairs });
  for (const panel of panels) {
    panel.pointAt(state.point, state.inSecond);
    panel.show(view, { ...state, shrunk: shown.shrunk, second: paired() !== null });
  }
}

/** What the panels have to say is read out together, once all is quiet. */
function announce(model, text) {
  sayings.set(model, text);
  clearTimeout(saying);
  saying = setTimeout(() => {
    find("said").textContent = panels.map((panel) => `${panel.model.name}: ${sayings.get(panel.model.name)}.`).join(" ");
  }, PAUSE);
}

function complain(error) {
  find("notice").textContent = error instanceof Refused ? error.message : say("Something went wrong on this page. Reload it.");
  find("notice").hidden = false;
  if (!(error instanceof Refused)) throw error;
}

async function guarded(action) {
  find("notice").hidden = true;
  try {
    await action();
  } catch (error) {
    complain(error);
  }
}

const range = (name) => find(name).querySelector("input");
for (const name of ["layer", "head", "r"]) {
  range(name).addEventListener("input", () => change({ [name]: range(name).valueAsNumber }));
}
find("reset").addEventListener("click", () => change({ point: null, inSecond: false }));
find("alone").addEventListener("click", () => guarded(() => pair(null)));
find("controls").addEventListener("submit", (event) => event.preventDefault());
const gallery = new Gallery(find("gallery"), {
  show: (chosen) => guarded(() => show(chosen)),
  pair: (chosen) => guarded(() => pair(chosen)),
  fail: complain,
});
const ready = start();
guarded(() => ready);
const take = (compared) => (files) => guarded(() => ready.then(() => open(files, compared))); // they may come before the models
picture.listen(find("file"), take(false));
find("also").addEventListener("change", () => {
  if (find("also").files.length) take(true)([...find("also").files]);
  find("also").value = "";
});
offerCamera(find("camera"), find("filming"), take(false), complain);
offerLanguage(find("language"), () => {
  if (!models.length) return;
  offerOthers();
  for (const panel of panels) panel.translate();
  render();
});
