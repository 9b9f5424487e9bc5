// What a model found where: boxes with their names, a class map. In the colours of vitrail.data.drawing.

const GOLDEN = (Math.sqrt(5) - 1) / 2; // steps of this share of the circle never come near a hue again
const LIGHTNESS = [52, 66, 58];
const SHADE = 0.45;
const FONT = "600 12px system-ui, sans-serif";

/** A share in percent, with a digit more where it is small. */
export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

/** The outputs to show as bars: classes, objects, or the share of the picture that each class covers. */
export function ranked(prediction, most) {
  const { top, objects, shares } = prediction ?? {};
  if (shares) return Object.entries(shares).slice(0, most).map(([label, score]) => ({ label, score }));
  return top ?? objects?.slice(0, most);
}

/** The class map of a prediction as a picture that can be drawn, or null; decoded once. */
export async function mapOf(prediction) {
  if (!prediction?.map) return null;
  if (!prediction.picture) {
    const bytes = Uint8Array.from(atob(prediction.map), (letter) => letter.charCodeAt(0));
    prediction.picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  }
  return prediction.picture;
}

export function paintMap(pen, picture, width, height) {
  pen.save();
  pen.imageSmoothingEnabled = false;
  pen.globalAlpha = SHADE;
  pen.drawImage(picture, 0, 0, width, height);
  pen.restore();
}

/** Frames with name tags, the surest on top. */
export function paintObjects(pen, { objects, size: [rows, columns] }, classes, width, height) {
  pen.save();
  pen.font = FONT;
  pen.textBaseline = "top";
  pen.lineWidth = 2;
  for (const { label, score, box_xyxy: box } of [...objects].reverse()) {
    const [left, right] = [box[0], box[2]].map((x) => (x / columns) * width);
    const [top, bottom] = [box[1], box[3]].map((y) => (y / rows) * height);
    const [colour, light] = colourOf(classes.indexOf(label));
    const text = `${label} ${Math.round(100 * score)} %`;
    const [tagWidth, tagHeight] = [pen.measureText(text).width + 8, 17];
    const x = Math.max(0, Math.min(left, width - tagWidth));
    const y = top >= tagHeight ? top - tagHeight : top;
    pen.strokeStyle = pen.fillStyle = colour;
    pen.strokeRect(left, top, right - left, bottom - top);
    pen.fillRect(x, y, tagWidth, tagHeight);
    pen.fillStyle = light ? "#141418" : "#fff";
    pen.fillText(text, x + 4, y + 3);
  }
  pen.restore();
}

function colourOf(label) {
  const [hue, lightness] = [(0.58 + GOLDEN * label) % 1, LIGHTNESS[label % LIGHTNESS.length]];
  return [`hsl(${360 * hue} 85% ${lightness}%)`, hue > 0.08 && hue < 0.55]; // yellow to cyan take dark letters
}
