// Requests to the server, and its errors as readable messages.

const KEY = "vitrail-token";
const TRIES = 4; // while the server is busy

const PLAIN = {
  408: "The picture took too long to arrive. Try again, or choose a smaller one.",
  500: "The server failed on this picture. Its log has the reason.",
  503: "The server is busy. Try again in a moment.",
};

export class Refused extends Error {}

let asking = null; // one dialog for all who wait for the token

/** GET without a body, POST with one. Returns the JSON of the response, or throws Refused with a message to display. */
export async function ask(path, params = {}, body = undefined) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value != null));
  for (let left = TRIES; ; left -= 1) {
    const answer = await send(`v1/${path}?${query}`, body);
    if (answer.status === 401) {
      await (asking ??= askForToken().finally(() => (asking = null)));
      left += 1;
    } else if (answer.status === 503 && left > 1) {
      await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("retry-after") ?? 1)));
    } else {
      return await read(answer);
    }
  }
}

export const holdsToken = () => sessionStorage.getItem(KEY) !== null;

async function send(path, body) {
  const token = sessionStorage.getItem(KEY);
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  if (body) headers["Content-Type"] = "application/octet-stream";
  try {
    return await fetch(path, { method: body ? "POST" : "GET", headers, body });
  } catch {
    throw new Refused("The server does not respond. Is it still running?");
  }
}

async function read(answer) {
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  const words = String(said.error ?? `the server responded with ${answer.status}`).replace(/^image 0 /, "the picture ");
  throw new Refused(PLAIN[answer.status] ?? `${words[0].toUpperCase()}${words.slice(1)}.`);
}

function askForToken() {
  const dialog = document.getElementById("asking");
  const field = document.getElementById("token");
  if (holdsToken()) document.getElementById("asking-why").textContent = "That token was not accepted. Try another.";
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
