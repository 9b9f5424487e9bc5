import { say } from "./say.js";

// Patches of a picture. Points are [x, y] as shares of its sides; a region is the model's input, [left, top, right,
// bottom] in the same shares; patches are counted row by row on a grid [rows, columns].

/** The patch under a point, or null where the model does not look. */
export function patchAt([x, y], [left, top, right, bottom], [rows, columns]) {
  const column = Math.floor(((x - left) / (right - left)) * columns);
  const row = Math.floor(((y - top) / (bottom - top)) * rows);
  return row >= 0 && row < rows && column >= 0 && column < columns ? row * columns + column : null;
}

/** The point in the middle of a patch. */
export function centreOf(patch, [left, top, right, bottom], [rows, columns]) {
  const [row, column] = [Math.floor(patch / columns), patch % columns];
  return [left + ((column + 0.5) / columns) * (right - left), top + ((row + 0.5) / rows) * (bottom - top)];
}

/** The patch that an arrow key leads to; from nowhere, the one in the middle. */
export function stepped(patch, key, [rows, columns]) {
  if (patch === null) return middle([rows, columns]);
  const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
  const row = Math.min(Math.max(Math.floor(patch / columns) + down, 0), rows - 1);
  const column = Math.min(Math.max((patch % columns) + right, 0), columns - 1);
  return row * columns + column;
}

/** The patch in the middle. */
export const middle = ([rows, columns]) => Math.floor(rows / 2) * columns + Math.floor(columns / 2);

/** "row 3, column 5", counted from 1. */
export const named = (patch, [, columns]) =>
  say("row {row}, column {column}", { row: Math.floor(patch / columns) + 1, column: (patch % columns) + 1 });
