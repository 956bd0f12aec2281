// Masks of instances: COCO's compressed run lengths, down the columns of the image.

// Lengths of the runs, the first of zeros (rleFrString in cocoapi's maskApi.c).
export function runLengths(counts) {
  const lengths = [];
  for (let at = 0; at < counts.length;) {
    let value = 0, shift = 0, group;
    do {
      group = counts.charCodeAt(at++) - 48;
      value |= (group & 31) << shift;
      shift += 5;
    } while (group & 32);
    if (group & 16 && shift < 32) value |= -1 << shift; // the sign
    if (lengths.length > 2) value += lengths[lengths.length - 2];
    lengths.push(value);
  }
  return lengths;
}

// The part of the image that a mask reaches, and a byte for each of its pixels, row by row.
export function maskOf({ size: [height, width], counts }) {
  const runs = [];
  let end = 0, left = width, right = 0, top = height, bottom = 0;
  runLengths(counts).forEach((length, i) => {
    const start = end;
    end += length;
    if (i % 2 === 0 || length === 0) return;
    runs.push([start, end]);
    const first = Math.floor(start / height), last = Math.floor((end - 1) / height);
    left = Math.min(left, first);
    right = Math.max(right, last + 1);
    top = first === last ? Math.min(top, start % height) : 0;
    bottom = first === last ? Math.max(bottom, (end - 1) % height + 1) : height;
  });
  if (!runs.length) return { left: 0, top: 0, width: 0, height: 0, bits: new Uint8Array(0) };
  const mask = { left, top, width: right - left, height: bottom - top };
  mask.bits = new Uint8Array(mask.width * mask.height);
  for (const [start, stop] of runs) {
    let x = Math.floor(start / height), y = start % height;
    for (let place = start; place < stop; place++) {
      mask.bits[(y - top) * mask.width + x - left] = 1;
      if (++y === height) { y = 0; x++; }
    }
  }
  return mask;
}

export function isIn(mask, x, y) {
  const column = x - mask.left, row = y - mask.top;
  const inside = column >= 0 && row >= 0 && column < mask.width && row < mask.height;
  return inside && mask.bits[row * mask.width + column] === 1;
}
