// The language of the page. Texts are written in English where they are used; zh.js has the Chinese ones.

import zh from "./zh.js";

const KEY = "vitrail-language";
const TABLES = { en: {}, zh };
const first = navigator.language?.toLowerCase().startsWith("zh") ? "zh" : "en";
let language = localStorage.getItem(KEY) ?? first;

/** The text in the page's language; `{name}` is replaced by a value. */
export function say(text, values = {}) {
  return (TABLES[language]?.[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The text of every element with `data-say`, the label of every one with `data-label`, the alternative with `data-alt`. */
export function translate(root = document) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const each of root.querySelectorAll("[data-say]")) {
    each.dataset.say ||= each.textContent.trim();
    each.textContent = say(each.dataset.say);
  }
  for (const each of root.querySelectorAll("[data-label]")) each.setAttribute("aria-label", say(each.dataset.label));
  for (const each of root.querySelectorAll("[data-alt]")) each.alt = say(each.dataset.alt);
}

/** The button between the two languages; `after` renders what is not in the document's text. */
export function offerLanguage(button, after = () => {}) {
  const render = () => {
    translate();
    button.textContent = language === "zh" ? "English" : "中文";
    button.lang = language === "zh" ? "en" : "zh-CN";
  };
  button.addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    localStorage.setItem(KEY, language);
    render();
    after();
  });
  render();
}
