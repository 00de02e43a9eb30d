// A file of the reader's against the documents of an act: attack test 19 of `sap.md`.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import { compare } from '../page/file.mjs';

const BEFORE = '%PDF-1.7 before /Contents ';
const AFTER = ' after %%EOF';
const ZEROS = `<${'0'.repeat(64)}>`;

const file = (...parts) => new Blob(parts);
const hash = (ha, ...parts) => createHash(ha).update(parts.join('')).digest('base64url');
const place = (gap = ZEROS) => [0, BEFORE.length, BEFORE.length + gap.length, AFTER.length];
const doc = (more = {}) => ({ form: 'doc', ha: 'sha256', h: hash('sha256', BEFORE, AFTER), ranges: place(), ...more });

test('the prepared file is found among the documents', async () => {
  const other = doc({ h: hash('sha256', 'x') });
  assert.deepEqual(await compare(file(BEFORE, ZEROS, AFTER), [other, doc(), other, doc()]), { is: [1, 3] });
  const long = doc({ ha: 'sha512', h: hash('sha512', BEFORE, AFTER) });
  assert.deepEqual(await compare(file(BEFORE, ZEROS, AFTER), [long]), { is: [0] });
  // Without a place for the signature the whole file counts.
  const whole = doc({ ranges: undefined, h: hash('sha256', 'all of it') });
  assert.deepEqual(await compare(file('all of it'), [whole]), { is: [0] });
});

test('another file is none', async () => {
  for (const changed of [file('%PDF-1.7 Before /Contents ', ZEROS, AFTER), file(BEFORE, ZEROS, ' After %%EOF'), file(''), file(BEFORE, AFTER)]) {
    assert.deepEqual(await compare(changed, [doc()]), { is: [], why: 'other' });
  }
});

test('a gap with something in it is none, although everything outside it fits', async () => {
  for (const gap of [`<${'0'.repeat(63)}1>`, `(${'0'.repeat(64)})`, `${'0'.repeat(65)}>`, `<${'0'.repeat(65)}`, ' '.repeat(66), `<${'0'.repeat(31)}><${'0'.repeat(31)}>`, `<${'0'.repeat(60)}    >`]) {
    assert.deepEqual(await compare(file(BEFORE, gap, AFTER), [doc({ ranges: place(gap) })]), { is: [], why: 'filled' }, gap);
  }
});

test('ranges that leave something out, overlap or end elsewhere are none', async () => {
  const size = BEFORE.length + ZEROS.length + AFTER.length;
  const [, first, second, rest] = place();
  for (const ranges of [
    [1, first - 1, second, rest], [0, first, second, rest - 1], [0, first, second, rest + 1], [0, first, second + 1, rest],
    [0, size, size, 0], [0, second, first, size - first], [0, 0, second, rest], [0, first, first, size - first], [0, first, second, 2 ** 53],
  ]) {
    assert.deepEqual(await compare(file(BEFORE, ZEROS, AFTER), [doc({ ranges })]), { is: [], why: 'other' }, String(ranges));
  }
});

test('a bare hash says nothing about files', async () => {
  const bare = { form: 'hash', ha: 'sha256', h: hash('sha256', BEFORE, ZEROS, AFTER) };
  assert.deepEqual(await compare(file(BEFORE, ZEROS, AFTER), [bare]), { is: [], why: 'other' });
});

test('what is too large is not read', async () => {
  const huge = { size: 600 * 1024 * 1024, slice: () => assert.fail('read') };
  assert.deepEqual(await compare(huge, [doc()]), { is: [], why: 'large' });
});
