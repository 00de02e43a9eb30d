// Comparing a file of the reader's with the documents of an act (`sap.md` §4). The file never leaves this page.
//
// The ranges are a hint of the service's and prove nothing: a file is the document only if everything in it is hashed,
// except for one string of zeros where the signature will stand.

import { fromB64u } from './jose.mjs';

/** Largest file, in bytes: the browser's hash function wants all of it at once. */
export const LARGEST = 512 * 1024 * 1024;
/** Different places of the gap that are tried for one file. */
const MOST_PLACES = 64;
const NAMES = { sha256: 'SHA-256', sha384: 'SHA-384', sha512: 'SHA-512' };

/**
 * Numbers (from 0) of the documents that this file is, and why it is none: `large`, `filled` (something stands where
 * the signature will), `other`.
 */
export async function compare(file, items) {
  if (file.size > LARGEST) return { is: [], why: 'large' };
  const places = new Map();
  items.forEach((item, i) => {
    const gap = item.form === 'doc' ? gapOf(item.ranges, file.size) : null;
    if (!gap) return;
    const key = `${item.ha} ${gap}`;
    const place = places.get(key) ?? { gap, ha: item.ha, items: [] };
    place.items.push(i);
    places.set(key, place);
  });
  const is = [];
  let why = 'other';
  for (const { gap, ha, items: numbers } of [...places.values()].slice(0, MOST_PLACES)) {
    if (!(await isBlank(file, gap))) {
      why = 'filled';
      continue;
    }
    const value = await digest(file, gap, NAMES[ha]);
    for (const i of numbers) if (same(value, fromB64u(items[i].h))) is.push(i);
  }
  return is.length ? { is: is.sort((a, b) => a - b) } : { is, why };
}

/** Where the one gap of a file of this size lies: `[from, to]`; nothing hashed twice, left out or beyond the end. */
function gapOf(ranges, size) {
  if (ranges === undefined) return [0, 0];
  const [start, length, second, rest] = ranges;
  const sane = start === 0 && length > 0 && second > length + 1 && rest > 0 && second + rest === size;
  return sane ? [length, second] : null;
}

/** The gap is one hexadecimal string of zeros, or there is none. */
async function isBlank(file, [from, to]) {
  if (from === to) return true;
  const bytes = new Uint8Array(await file.slice(from, to).arrayBuffer());
  const last = bytes.length - 1;
  return bytes[0] === 0x3c && bytes[last] === 0x3e && bytes.subarray(1, last).every((b) => b === 0x30);
}

async function digest(file, [from, to], name) {
  const hashed = new Blob([file.slice(0, from), file.slice(to)]);
  return new Uint8Array(await crypto.subtle.digest(name, await hashed.arrayBuffer()));
}

const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);
