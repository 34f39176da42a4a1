// A picture on a canvas, under its importance, or with the dropped tokens dimmed.

import { cellsOf } from "./tokens.js";

const LONGEST = 1280;
const DIMMED = 0.28;
const UNDER_HEAT = 0.55;
const HEAT = 0.85;
const STOPS = [0, 0.35, 0.7, 1];
// Blue over red to yellow, each lighter than the one before, so that it also reads in grey.
const COLOURS = [[24, 32, 120], [190, 40, 130], [250, 130, 50], [255, 240, 130]];

/**
 * Draw a picture.
 * @param {HTMLCanvasElement} canvas
 * @param {ImageBitmap} bitmap
 * @param {"picture"|"heat"|"kept"} view
 * @param {?{importance: import("./tokens.js").Importance, image: number, kept: Set<number>}} layer
 *   what is drawn over it; `image` is the picture's index within the prompt
 */
export function draw(canvas, bitmap, view, layer) {
  const longest = Math.max(bitmap.width, bitmap.height);
  // Small pictures grow by whole pixels, so that they stay sharp.
  const factor = longest > LONGEST ? LONGEST / longest : Math.max(1, Math.floor(768 / longest));
  canvas.width = Math.max(1, Math.round(bitmap.width * factor));
  canvas.height = Math.max(1, Math.round(bitmap.height * factor));
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = factor < 1;
  // Transparent pictures lie on white, as the models see them.
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (!layer || view === "picture") return;
  if (view === "heat") drawHeat(context, layer);
  else drawKept(context, layer);
}

function drawHeat(context, { importance, image }) {
  grey(context, UNDER_HEAT);
  for (const cell of cellsOf(importance.grids, image)) {
    // Few tokens hold most of it, so its square root is told.
    const heat = Math.sqrt(Math.max(0, importance.values[cell.token]));
    context.fillStyle = `rgb(${colour(heat).join(" ")} / ${HEAT * heat})`;
    context.fillRect(...pixels(context, cell));
  }
}

function drawKept(context, { importance, image, kept }) {
  const whole = new OffscreenCanvas(context.canvas.width, context.canvas.height);
  whole.getContext("2d").drawImage(context.canvas, 0, 0);
  grey(context, DIMMED);
  for (const cell of cellsOf(importance.grids, image)) {
    if (!kept.has(cell.token)) continue;
    const [x, y, width, height] = pixels(context, cell);
    if (width && height) context.drawImage(whole, x, y, width, height, x, y, width, height);
  }
}

/** Take the colour out of what is drawn, and so much of the light that `left` stays. */
function grey(context, left) {
  const { width, height } = context.canvas;
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#808080";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = `rgb(0 0 0 / ${1 - left})`;
  context.fillRect(0, 0, width, height);
}

function pixels({ canvas }, cell) {
  const x = Math.round(cell.left * canvas.width);
  const y = Math.round(cell.top * canvas.height);
  return [x, y, Math.round(cell.right * canvas.width) - x, Math.round(cell.bottom * canvas.height) - y];
}

function colour(heat) {
  const after = Math.max(1, STOPS.findIndex((stop) => heat <= stop));
  const share = (heat - STOPS[after - 1]) / (STOPS[after] - STOPS[after - 1]);
  return COLOURS[after].map((to, i) => Math.round(COLOURS[after - 1][i] * (1 - share) + to * share));
}
