// QR codes (ISO/IEC 18004), byte mode, error correction level M, versions 1 to 20: enough for an otpauth address.

const PER_BLOCK = [10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26];
const BLOCKS = [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16];
const MASKS = [
  (x, y) => (x + y) % 2, (x, y) => y % 2, (x) => x % 3, (x, y) => (x + y) % 3,
  (x, y) => ((x / 3 | 0) + (y / 2 | 0)) % 2, (x, y) => (x * y) % 2 + (x * y) % 3,
  (x, y) => ((x * y) % 2 + (x * y) % 3) % 2, (x, y) => ((x + y) % 2 + (x * y) % 3) % 2,
];

const alignments = (v) => {
  if (v === 1) return [];
  const count = (v / 7 | 0) + 2;
  const step = Math.ceil((v * 4 + 4) / (count * 2 - 2)) * 2;
  const rest = Array.from({ length: count - 1 }, (_, i) => v * 4 + 10 - i * step);
  return [6, ...rest.reverse()];
};

function rawModules(v) {
  let n = (16 * v + 128) * v + 64;
  if (v >= 2) {
    const a = (v / 7 | 0) + 2;
    n -= (25 * a - 10) * a - 55;
    if (v >= 7) n -= 36;
  }
  return n;
}

const mul = (a, b) => {
  let z = 0;
  for (let i = 7; i >= 0; i--) {
    z = (z << 1) ^ ((z >>> 7) * 0x11d);
    z ^= ((b >>> i) & 1) * a;
  }
  return z;
};

function remainder(data, degree) {
  const divisor = new Array(degree).fill(0);
  divisor[degree - 1] = 1;
  for (let i = 0, root = 1; i < degree; i++, root = mul(root, 2)) {
    for (let j = 0; j < degree; j++) divisor[j] = mul(divisor[j], root) ^ (divisor[j + 1] ?? 0);
  }
  const out = new Array(degree).fill(0);
  for (const b of data) {
    const factor = b ^ out.shift();
    out.push(0);
    divisor.forEach((c, i) => { out[i] ^= mul(c, factor); });
  }
  return out;
}

function codewords(bytes, v) {
  const all = rawModules(v) >> 3;
  const [ecc, count] = [PER_BLOCK[v - 1], BLOCKS[v - 1]];
  const capacity = all - ecc * count;
  const bits = [];
  const put = (value, length) => {
    for (let i = length - 1; i >= 0; i--) bits.push((value >>> i) & 1);
  };
  put(4, 4);
  put(bytes.length, v < 10 ? 8 : 16);
  bytes.forEach((b) => put(b, 8));
  if (bits.length > capacity * 8) return null;
  put(0, Math.min(4, capacity * 8 - bits.length));
  while (bits.length % 8) bits.push(0);
  for (let pad = 0xec; bits.length < capacity * 8; pad ^= 0xfd) put(pad, 8);
  const data = Array.from({ length: capacity }, (_, i) => bits.slice(i * 8, i * 8 + 8).reduce((n, b) => n * 2 + b, 0));
  const short = count - (all % count);
  const blocks = [];
  for (let i = 0, at = 0; i < count; i++) {
    const length = (all / count | 0) - ecc + (i < short ? 0 : 1);
    blocks.push(data.slice(at, (at += length)));
  }
  const longest = blocks[count - 1].length;
  const out = [];
  for (let i = 0; i < longest; i++) for (const b of blocks) if (i < b.length) out.push(b[i]);
  const checks = blocks.map((b) => remainder(b, ecc));
  for (let i = 0; i < ecc; i++) for (const c of checks) out.push(c[i]);
  return out;
}

/** The symbol for `text` with one of the eight masks, as rows of 0 and 1; null if the text is too long. */
export function matrix(text, mask) {
  const bytes = [...new TextEncoder().encode(text)];
  let v = 0;
  let words = null;
  while (!words && ++v <= 20) words = codewords(bytes, v);
  if (!words) return null;
  const size = v * 4 + 17;
  const grid = Array.from({ length: size }, () => new Array(size).fill(0));
  const fixed = Array.from({ length: size }, () => new Array(size).fill(false));
  const set = (x, y, dark) => {
    if (x < 0 || y < 0 || x >= size || y >= size) return;
    grid[y][x] = dark ? 1 : 0;
    fixed[y][x] = true;
  };
  for (let i = 0; i < size; i++) {
    set(6, i, i % 2 === 0);
    set(i, 6, i % 2 === 0);
  }
  const square = (cx, cy, r, light) => {
    for (let y = -r; y <= r; y++) {
      for (let x = -r; x <= r; x++) set(cx + x, cy + y, !light.includes(Math.max(Math.abs(x), Math.abs(y))));
    }
  };
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) square(x, y, 4, [2, 4]);
  const at = alignments(v);
  at.forEach((x, i) => at.forEach((y, j) => {
    const corner = (i === 0 && j === 0) || (i === 0 && j === at.length - 1) || (i === at.length - 1 && j === 0);
    if (!corner) square(x, y, 2, [1]);
  }));
  // Format: level M is 0.
  let rest = mask;
  for (let i = 0; i < 10; i++) rest = (rest << 1) ^ ((rest >>> 9) * 0x537);
  const format = ((mask << 10) | rest) ^ 0x5412;
  const bit = (i) => (format >>> i) & 1;
  for (let i = 0; i < 15; i++) {
    if (i < 6) set(8, i, bit(i));
    else if (i < 8) set(8, i + 1, bit(i));
    else if (i === 8) set(7, 8, bit(i));
    else set(14 - i, 8, bit(i));
    if (i < 8) set(size - 1 - i, 8, bit(i));
    else set(8, size - 15 + i, bit(i));
  }
  set(8, size - 8, 1);
  if (v >= 7) {
    let r = v;
    for (let i = 0; i < 12; i++) r = (r << 1) ^ ((r >>> 11) * 0x1f25);
    const info = (v << 12) | r;
    for (let i = 0; i < 18; i++) {
      const [a, b] = [size - 11 + (i % 3), i / 3 | 0];
      set(a, b, (info >>> i) & 1);
      set(b, a, (info >>> i) & 1);
    }
  }
  let n = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let i = 0; i < size; i++) {
      for (const x of [right, right - 1]) {
        const y = (right + 1) & 2 ? i : size - 1 - i;
        if (fixed[y][x]) continue;
        const dark = n < words.length * 8 ? (words[n >> 3] >>> (7 - (n & 7))) & 1 : 0;
        grid[y][x] = dark ^ (MASKS[mask](x, y) === 0 ? 1 : 0);
        n++;
      }
    }
  }
  return grid;
}

/** Long runs and full squares make reading harder. */
function penalty(grid) {
  let sum = 0;
  const rows = [...grid, ...grid[0].map((_, x) => grid.map((row) => row[x]))];
  for (const row of rows) for (const run of row.join('').match(/0{5,}|1{5,}/g) ?? []) sum += run.length - 2;
  for (let y = 1; y < grid.length; y++) {
    for (let x = 1; x < grid.length; x++) {
      if ([grid[y - 1][x], grid[y][x - 1], grid[y - 1][x - 1]].every((c) => c === grid[y][x])) sum += 3;
    }
  }
  return sum;
}

/** The symbol as an SVG element with its quiet zone. */
export function qrSvg(text, label) {
  const best = MASKS.map((_, mask) => matrix(text, mask)).filter(Boolean).sort((a, b) => penalty(a) - penalty(b))[0];
  if (!best) return null;
  const ns = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('viewBox', `0 0 ${best.length} ${best.length}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', label);
  svg.setAttribute('shape-rendering', 'crispEdges');
  const path = document.createElementNS(ns, 'path');
  path.setAttribute('d', best.map((row, y) => row.map((c, x) => (c ? `M${x} ${y}h1v1h-1z` : '')).join('')).join(''));
  svg.append(path);
  return svg;
}
