// An image that is dropped, pasted or chosen; reduced here if it is far larger than any model's input.

import { Refused } from "./api.js";
import { say } from "./say.js";

const MAX_BYTES = 4e6;
const MAX_SIDE = 2048; // pixels

/** Calls `take(files)` with one or several, however they are given: images if there are any among them. */
export function listen(field, take) {
  const from = (files) => {
    const images = [...(files ?? [])].filter((each) => each.type.startsWith("image/"));
    if (files?.length) take(images.length ? images : [files[0]]);
  };
  field.addEventListener("change", () => {
    from(field.files);
    field.value = ""; // the same file may be chosen again
  });
  addEventListener("paste", (event) => from(event.clipboardData?.files));
  const over = (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", event.type === "dragover");
  };
  for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, over);
  addEventListener("drop", (event) => from(event.dataTransfer?.files));
}

/** { blob, url, name, shrunk }: what to send, where to show it from, its name, and the pixels a side it was reduced to. */
export async function open(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    const name = file.name || say("this");
    throw new Refused(say("Your browser cannot open {name} as a picture. Choose a JPEG, PNG or WebP.", { name }));
  }
  const scale = MAX_SIDE / Math.max(bitmap.width, bitmap.height);
  const large = file.size > MAX_BYTES || bitmap.width * bitmap.height > MAX_SIDE ** 2;
  const blob = large ? await resized(bitmap, Math.min(scale, 1)) : file;
  bitmap.close();
  return { blob, url: URL.createObjectURL(blob), name: file.name || say("picture"), shrunk: large ? MAX_SIDE : null };
}

function resized(bitmap, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
}
