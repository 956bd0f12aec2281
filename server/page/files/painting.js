// Draws items onto the photo: regions and masks pixel by pixel, then lines, dots and names.

import { isIn } from "./masks.js";

const LONGEST = 2048; // of the canvas: a photo of 50 megapixels is drawn smaller, or not at all

// A canvas of the photo alone; `photo` is null where the browser cannot show it.
export function prepare(canvas, photo, { width, height }) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const base = document.createElement("canvas");
  base.width = canvas.width = Math.max(1, Math.round(width * scale));
  base.height = canvas.height = Math.max(1, Math.round(height * scale));
  const pen = base.getContext("2d");
  pen.fillStyle = "#777";
  pen.fillRect(0, 0, base.width, base.height);
  if (photo) pen.drawImage(photo, 0, 0, base.width, base.height);
  return { base, scale, width, height };
}

// `items`, the best first; `lit` stands out from them.
export function paint(canvas, { base, scale, width, height }, items, map, lit) {
  const pen = canvas.getContext("2d");
  const layer = new ImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(layer.data.buffer);
  const xs = places(canvas.width, width), ys = places(canvas.height, height);
  const unit = Math.max(1, canvas.width / (canvas.clientWidth || canvas.width));
  const middles = map ? tintRegions(pixels, xs, ys, items, map, lit) : new Map();
  for (const item of items.slice().reverse()) if (item.mask) tintMask(pixels, xs, ys, item, item === lit, unit);
  const overlay = document.createElement("canvas");
  overlay.width = canvas.width;
  overlay.height = canvas.height;
  overlay.getContext("2d").putImageData(layer, 0, 0);
  pen.drawImage(base, 0, 0);
  pen.drawImage(overlay, 0, 0);
  const order = items.filter(each => each !== lit).reverse().concat(items.includes(lit) ? [lit] : []);
  for (const item of order) drawBox(pen, item, scale, unit, item === lit);
  for (const item of order) for (const [x, y] of item.keypoints ?? []) dot(pen, x * scale, y * scale, unit);
  pen.font = `${13 * unit}px system-ui, sans-serif`;
  for (const item of order) if (!item.isQuiet || item === lit) label(pen, item, middles.get(item), scale, unit);
}

// Which column or row of the image each of the canvas shows.
function places(count, of) {
  return Int32Array.from({ length: count }, (_, i) => Math.floor((i + 0.5) * of / count));
}

function rgba([red, green, blue], alpha) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0; // bytes of a little-endian machine
}

// Returns for each region the pixel of it that is nearest to its middle, for its name.
function tintRegions(pixels, xs, ys, items, map, lit) {
  const tints = new Uint32Array(65536), seen = new Map();
  for (const item of items) {
    tints[item.label] = rgba(item.colour, item === lit ? 200 : 108);
    seen.set(item.label, []);
  }
  for (let y = 0, i = 0; y < ys.length; y++) {
    const row = ys[y] * map.width;
    for (let x = 0; x < xs.length; x++, i++) {
      const label = map.labels[row + xs[x]];
      pixels[i] = tints[label];
      if (((x | y) & 7) === 0) seen.get(label)?.push([x, y]); // one of 64 is enough
    }
  }
  return new Map(items.map(item => [item, middle(seen.get(item.label))]));
}

function middle(points) {
  const mean = axis => points.reduce((sum, point) => sum + point[axis], 0) / points.length;
  const [x, y] = [mean(0), mean(1)], away = point => Math.hypot(point[0] - x, point[1] - y);
  return points.reduce((best, point) => (best && away(best) <= away(point) ? best : point), undefined);
}

function tintMask(pixels, xs, ys, { mask, colour }, isLit, unit) {
  const inside = rgba(colour, isLit ? 190 : 108), edge = rgba(colour, 255);
  const by = Math.round(unit * (isLit ? 3 : 1));
  const at = (x, y) => xs[x] !== undefined && ys[y] !== undefined && isIn(mask, xs[x], ys[y]);
  const [left, right] = within(xs, mask.left, mask.width), [top, bottom] = within(ys, mask.top, mask.height);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      if (!at(x, y)) continue;
      const isInner = at(x - by, y) && at(x + by, y) && at(x, y - by) && at(x, y + by);
      pixels[y * xs.length + x] = isInner ? inside : edge;
    }
  }
}

// The columns or rows of the canvas that show these of the image.
function within(shown, from, count) {
  const end = shown.findIndex(each => each >= from + count);
  return [Math.max(0, shown.findIndex(each => each >= from)), end < 0 ? shown.length : end];
}

function drawBox(pen, { corners, colour, mask, label }, scale, unit, isLit) {
  if (!corners) return;
  pen.strokeStyle = `rgb(${colour})`;
  pen.lineWidth = unit * (isLit ? 4 : mask || label !== undefined ? 1 : 2);
  pen.beginPath();
  for (const [x, y] of corners) pen.lineTo(x * scale, y * scale);
  pen.closePath();
  pen.stroke();
}

function dot(pen, x, y, unit) {
  pen.beginPath();
  pen.arc(x, y, 3 * unit, 0, 2 * Math.PI);
  pen.fillStyle = "#fff";
  pen.fill();
  pen.strokeStyle = "#000";
  pen.lineWidth = unit;
  pen.stroke();
}

function label(pen, { name, score, corners, colour }, at, scale, unit) {
  if (!corners && !at) return;
  const text = score === undefined ? name : `${name} ${score.toFixed(2)}`;
  const width = pen.measureText(text).width + 6 * unit, height = 18 * unit;
  let x = corners ? Math.min(...corners.map(each => each[0])) * scale : at[0] - width / 2;
  let y = corners ? Math.min(...corners.map(each => each[1])) * scale - height : at[1] - height / 2;
  x = Math.max(0, Math.min(x, pen.canvas.width - width));
  y = Math.max(0, Math.min(y, pen.canvas.height - height));
  pen.fillStyle = `rgb(${colour})`;
  pen.fillRect(x, y, width, height);
  pen.fillStyle = colour[0] * 0.299 + colour[1] * 0.587 + colour[2] * 0.114 > 140 ? "#000" : "#fff";
  pen.fillText(text, x + 3 * unit, y + 13 * unit);
}
