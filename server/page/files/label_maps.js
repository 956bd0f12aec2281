// Label maps: grey PNGs of 8 or 16 bits. A canvas would make 8 bits of 16, so they are read here.

export async function labelMap(base64) {
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  const numbers = new DataView(bytes.buffer);
  const width = numbers.getUint32(16), height = numbers.getUint32(20);
  const [depth, kind, , , interlaced] = bytes.subarray(24, 29);
  if (kind !== 0 || interlaced || (depth !== 8 && depth !== 16)) {
    throw new Error(`Got a PNG of kind ${kind} and ${depth} bits, expected grey of 8 or 16.`);
  }
  const packed = [];
  for (let at = 8; at < bytes.length;) {
    const length = numbers.getUint32(at);
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (name === "IDAT") packed.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  const stream = new Blob(packed).stream().pipeThrough(new DecompressionStream("deflate"));
  const lines = new Uint8Array(await new Response(stream).arrayBuffer());
  return { width, height, labels: unfiltered(lines, width, height, depth / 8) };
}

// PNG, 9: each line begins with the filter that made it; `size` is the bytes of a pixel.
function unfiltered(lines, width, height, size) {
  const length = width * size, labels = new Uint16Array(width * height);
  let above = new Uint8Array(length);
  for (let y = 0; y < height; y++) {
    const begin = y * (length + 1), filter = lines[begin];
    const line = lines.subarray(begin + 1, begin + 1 + length);
    for (let i = 0; i < length; i++) {
      const a = i < size ? 0 : line[i - size], b = above[i], c = i < size ? 0 : above[i - size];
      line[i] += [0, a, b, (a + b) >> 1, filter === 4 ? paeth(a, b, c) : 0][filter];
    }
    for (let x = 0; x < width; x++) {
      labels[y * width + x] = size === 1 ? line[x] : (line[2 * x] << 8) | line[2 * x + 1];
    }
    above = line;
  }
  return labels;
}

function paeth(a, b, c) {
  const toA = Math.abs(b - c), toB = Math.abs(a - c), toC = Math.abs(a + b - 2 * c);
  return toA <= toB && toA <= toC ? a : toB <= toC ? b : c;
}
