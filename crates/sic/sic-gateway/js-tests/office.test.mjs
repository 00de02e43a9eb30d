// Run by `cargo test -p sic-gateway` with the vectors that Rust made; writes the measures that the page makes of what was typed.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import test from 'node:test';

import { FIELDS, MEASURES, TTLS, build, faults, offered, same } from '../page/measures.mjs';
import { isDestruction, isSwitch, switchCommand } from '../page/office.mjs';

const v = JSON.parse(readFileSync(process.env.VECTORS, 'utf8'));
const out = { offered: Object.keys(MEASURES) };

test('what is typed becomes the measure, and has no fault', async () => {
  out.made = [];
  for (const [name, given] of v.examples) {
    // The form trims what is typed.
    const trimmed = Object.fromEntries(Object.entries(given).map(([field, text]) => [field, text.trim()]));
    assert.deepEqual(faults(name, trimmed), {}, name);
    assert.deepEqual(Object.keys(trimmed).sort(), [...MEASURES[name].asks].sort(), name);
    const { measure, bytes } = await build(name, trimmed, (fresh) => fresh.fill(v.byte));
    assert.equal(bytes?.length, MEASURES[name].secret?.[0]);
    out.made.push({ measure, by: MEASURES[name].by, taken: MEASURES[name].taken === true });
  }
});

test('secrets are fresh each time', async () => {
  const [one, other] = await Promise.all([1, 2].map(() => build('account', { officer: 'a', account: 'a' })));
  assert.notDeepEqual(one.bytes, other.bytes);
  assert.notEqual(one.measure.secret, other.measure.secret);
});

test('every answer that is missing or of another form is named', () => {
  const wrong = {
    officer: ['a b', 'a/b', 'é', 'x'.repeat(57)], name: ['x'.repeat(201), 'a\u202eb', 'a\nb'], identity: ['x'.repeat(201)], role: ['signer'],
    until: ['tomorrow', '2027-13-01'], 'trained-at': ['x'], 'trained-until': ['x'], account: ['a b', 'officer.'], key: ['a/b'], action: ['make'],
    person: ['a b'], registration: ['a/b'], enabled: ['yes'], tenant: ['a b'], cause: ['war'], zone: ['sic'], archive: ['AA', '*'.repeat(43)],
    size: ['0', '255', '-256', '2.5', '0256', '1e3'], forgotten: ['a/b/c', '/a', 'a/'],
  };
  assert.deepEqual(Object.keys(wrong).sort(), Object.keys(FIELDS).sort());
  for (const [name, given] of v.examples) {
    for (const field of MEASURES[name].asks) {
      for (const text of wrong[field]) assert.equal(faults(name, { ...given, [field]: text })[field], 'form', `${name} ${field} ${text}`);
      const { [field]: left, ...less } = given;
      if (!FIELDS[field].optional) assert.deepEqual(faults(name, less), { [field]: 'missing' }, `${name} ${field}`);
    }
  }
  const [, given] = v.examples.find(([name]) => name === 'appoint');
  assert.deepEqual(faults('appoint', { ...given, 'trained-until': '' }), { 'trained-until': 'missing' });
  assert.deepEqual(faults('appoint', { ...given, 'trained-at': '' }), { 'trained-at': 'missing' });
});

test('auditors propose nothing, operators run the service, managers appoint as well', () => {
  assert.deepEqual(offered(['system-auditor']), []);
  assert.ok(offered(['system-operator']).includes('delete-archived') && !offered(['system-operator']).includes('appoint'));
  assert.ok(offered(['security-officer']).includes('delete-archived') && offered(['security-officer']).includes('appoint'));
});

test('every text that the forms ask for is there', () => {
  const ids = [...TTLS.map((seconds) => `office-ttl-${seconds}`), 'office-field-measure', 'office-field-ttl', 'office-field-reason-form'];
  for (const [name, { asks, taken }] of Object.entries(MEASURES)) {
    ids.push(`office-measure-${name}`);
    if (taken) ids.push(`office-take-${name}`);
    for (const field of asks) {
      ids.push(`office-field-${field}`, `office-field-${field}-form`);
      for (const value of FIELDS[field].from ?? []) ids.push(`office-${field}-${value}`);
    }
  }
  for (const lang of ['ja', 'en']) assert.deepEqual(ids.filter((id) => !v.texts[lang].includes(id)), [], lang);
});

test('only a signature over just this switch is sent to the module', () => {
  const { text, good, other_type: foreign } = v.switch;
  assert.ok(isSwitch(good, text));
  for (const bad of ['', 'x', `${good}.AA`, good.slice(0, -4), foreign, good.split('.').slice(0, 2).join('.')]) assert.ok(!isSwitch(bad, text), bad);
  assert.ok(!isSwitch(good, text.replace('false', 'true')));
  assert.equal(switchCommand(text), `natsuin-cm approve --key officer.key --root cm-root.jwk --to disabled --serial 4 --reason='it'\\''s $(broken)' --exp ${JSON.parse(text).exp}`);
  const other = (change) => JSON.stringify({ ...JSON.parse(text), ...change });
  for (const bad of ['', '[]', '{}', 'null', text.replace('"serial":4', '"serial":"4; rm"'), other({ reason: undefined }), other({ reason: 7 }), other({ reason: 'a\u202eb' }), other({ reason: 'a\nb' })]) assert.equal(switchCommand(bad), null, bad);
});

test('a certificate of destruction is the root\'s, of this key, by this proposal', async () => {
  const { root, other_root: foreign, proposal, key, certificate, other } = v.destroyed;
  assert.ok(await isDestruction(certificate, key, proposal, [foreign, root]));
  assert.ok(!(await isDestruction(certificate, key, proposal, [foreign])));
  assert.ok(!(await isDestruction(other, key, proposal, [root])));
  assert.ok(!(await isDestruction(certificate, key, `${proposal.slice(0, -1)}A`, [root])));
  assert.ok(!(await isDestruction('x', key, proposal, [root])));
});

test('two messages are the same whatever the order of their members', () => {
  assert.ok(same({ a: 1, b: [{ c: 2, d: 3 }] }, { b: [{ d: 3, c: 2 }], a: 1 }));
  for (const [a, b] of [[{ a: 1 }, { a: 2 }], [{ a: 1 }, { a: 1, b: undefined }], [[1], { 0: 1 }], [{ a: null }, { a: {} }], [[1, 2], [2, 1]], [{ a: 1 }, { b: 1 }]]) {
    assert.ok(!same(a, b) && !same(b, a), JSON.stringify([a, b]));
  }
});

test.after(() => writeFileSync(process.env.ANSWERS, JSON.stringify(out)));
