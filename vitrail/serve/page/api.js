// Requests to the server, and its errors as readable messages.

const KEY = "vitrail-token";
const TRIES = 4; // while the server is busy

import { say } from "./say.js";

const PLAIN = { // the texts are in zh.js too
  408: "The picture took too long to arrive. Try again, or choose a smaller one.",
  500: "The server failed on this picture. Its log has the reason.",
  503: "The server is busy. Try again in a moment.",
};

export class Refused extends Error {}

let asking = null; // one dialog for all who wait for the token

/**
 * GET without images, POST with one or several (blobs). Returns the JSON of the response, or throws Refused with a message
 * to display.
 */
export async function ask(path, params = {}, images = []) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value != null));
  for (let left = TRIES; ; left -= 1) {
    const answer = await send(`v1/${path}?${query}`, packed(images));
    if (answer.status === 401) {
      await token();
      left += 1;
    } else if (answer.status === 503 && left > 1) {
      await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("retry-after") ?? 1)));
    } else {
      return await read(answer);
    }
  }
}

const holdsToken = () => sessionStorage.getItem(KEY) !== null;

/** The options of `fetch` for these images. */
function packed(images) {
  if (!images.length) return {};
  if (images.length === 1) {
    return { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: images[0] };
  }
  const body = new FormData();
  for (const each of images) body.append("images", each, "image");
  return { method: "POST", body };
}

/** `fetch` with the token. */
export async function send(path, { headers = {}, ...options } = {}) {
  const token = sessionStorage.getItem(KEY);
  const known = token === null ? {} : { Authorization: `Bearer ${token}` };
  try {
    return await fetch(path, { ...options, headers: { ...headers, ...known } });
  } catch {
    throw new Refused(say("The server does not respond. Is it still running?"));
  }
}

async function read(answer) {
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  const words = String(said.error ?? `the server responded with ${answer.status}`).replace(/^image 0 /, "the picture ");
  throw new Refused(answer.status in PLAIN ? say(PLAIN[answer.status]) : `${words[0].toUpperCase()}${words.slice(1)}.`);
}

/** Asks for the token, once for all who wait for it. */
export const token = () => (asking ??= askForToken().finally(() => (asking = null)));

function askForToken() {
  const dialog = document.getElementById("asking");
  const field = document.getElementById("token");
  if (holdsToken()) document.getElementById("asking-why").textContent = say("That token was not accepted. Try another.");
  field.value = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, field.value.trim());
      dialog.close();
      done();
    };
    dialog.oncancel = (event) => event.preventDefault(); // nothing works without it
  });
}
