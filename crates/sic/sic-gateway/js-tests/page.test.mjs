// Run by `cargo test -p sic-gateway` with the vectors that Rust made; writes what Rust opens again.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import test from 'node:test';
import { gzipSync } from 'node:zlib';

import { APPROVED_HERE, Refused, sameShown, verifyAct, verifyStatement } from '../page/act.mjs';
import { makesNew, nameOf } from '../page/change.mjs';
import { b64u, fromB64u, open, seal, sealPair, thumbprint } from '../page/jose.mjs';
import { checkAct } from '../page/office.mjs';
import { CHANNEL, address, ask } from '../page/provider.mjs';
import { matrix } from '../page/qr.mjs';
import { clean, group4, middle, time } from '../page/ui.mjs';

const v = JSON.parse(readFileSync(process.env.VECTORS, 'utf8'));
const out = {};
const refused = (code) => (e) => e instanceof Refused && e.code === code;
const forged = refused('error-act-not-genuine');
const keysNow = () => verifyStatement(v.statement, v.roots, v.now);

test('only a pinned root vouches, and only in its time', async () => {
  const keys = await keysNow();
  assert.equal(keys.sam, 'sam.test');
  assert.equal(b64u(await thumbprint(v.roots[0])), v.root_kid);
  await assert.rejects(verifyStatement(v.statement, v.other_roots, v.now), forged);
  await assert.rejects(verifyStatement(v.statement, [], v.now), forged);
  await assert.rejects(verifyStatement(v.act, v.roots, v.now), forged);
  await assert.rejects(verifyStatement(v.statement, v.roots, v.now + 90000), refused('error-clock-skew'));
  for (const jws of v.bad_statements) await assert.rejects(verifyStatement(jws, v.roots, v.now), forged);
});

test('the act of the SAM is accepted and has the digest that Rust computes', async () => {
  const { act, digest } = await verifyAct(v.act, await keysNow(), 'sign', v.now);
  assert.equal(b64u(digest), v.digest);
  assert.equal(act.items.length, 2);
  const enrol = await verifyAct(v.enrol, await keysNow(), 'enrol', v.now);
  assert.equal(enrol.act.voucher, 'v-1');
});

test('acts that are forged, altered, of another kind or out of form are refused', async () => {
  const keys = await keysNow();
  for (const [why, jws] of Object.entries(v.bad_acts)) {
    await assert.rejects(verifyAct(jws, keys, 'sign', v.now), forged, why);
  }
  await assert.rejects(verifyAct(v.enrol, keys, 'sign', v.now), forged);
  await assert.rejects(verifyAct(v.act, keys, 'enrol', v.now), forged);
  await assert.rejects(verifyAct(v.act, keys, 'sign', v.now + 300), refused('error-clock-skew'));
  await assert.rejects(verifyAct(v.act, keys, 'sign', v.now - 61), refused('error-clock-skew'));
  await verifyAct(v.act, keys, 'sign', v.now + 299);
  for (let i = 0; i < 3; i++) {
    const parts = v.act.split('.');
    const bytes = fromB64u(parts[i]);
    bytes[bytes.length >> 1] ^= 1;
    parts[i] = b64u(bytes);
    await assert.rejects(verifyAct(parts.join('.'), keys, 'sign', v.now), forged, `part ${i}`);
  }
});

test('acts about keys and factors are told apart by their own kind and form', async () => {
  const keys = await keysNow();
  for (const [name, jws] of v.changes) {
    if (name.startsWith('bad')) {
      await assert.rejects(verifyAct(jws, keys, APPROVED_HERE, v.now), forged, name);
      continue;
    }
    const { act } = await verifyAct(jws, keys, APPROVED_HERE, v.now);
    assert.equal(nameOf(act), name);
    assert.equal(makesNew(act), ['add-passkey', 'add-pin-totp', 'add-idp', 'add-device', 'pin', 'hand-over'].includes(name));
    await assert.rejects(verifyAct(jws, keys, 'sign', v.now), forged, name);
    for (const lang of ['en', 'ja']) {
      const texts = readFileSync(new URL(`../../../base/web-ui/messages/${lang}/sic.ftl`, import.meta.url), 'utf8');
      for (const id of ['ask', 'means', 'do']) assert.ok(texts.includes(`\nsic-${id}-${name} = `), `${id} ${name}`);
    }
  }
  await assert.rejects(verifyAct(v.enrol, keys, APPROVED_HERE, v.now), forged);
});

test('an act without a list is of level 1, bounded, and told apart from one with a list', async () => {
  const keys = await keysNow();
  for (const [name, jws] of Object.entries(v.opens)) {
    if (name.startsWith('bad')) {
      await assert.rejects(verifyAct(jws, keys, APPROVED_HERE, v.now), forged, name);
      continue;
    }
    const { act } = await verifyAct(jws, keys, APPROVED_HERE, v.now);
    assert.deepEqual([act.kind, act.count, act.items], ['sign-open', 3, undefined]);
    await assert.rejects(verifyAct(jws, keys, 'sign', v.now), forged, name);
  }
});

test('a provider is asked for a fresh proof of this act, and only its answer to this page counts', async () => {
  globalThis.location = { origin: 'https://sic.example' };
  const digest = fromB64u(v.digest);
  const hint = { name: 'OP', issuer: 'https://op.example', authorize: 'https://op.example/a?x=1', client: 'sam', acr: ['a', 'b'] };
  const url = new URL(address(hint, digest, 'state'));
  const said = Object.fromEntries(url.searchParams);
  assert.deepEqual(said, {
    x: '1', response_type: 'id_token', response_mode: 'fragment', scope: 'openid', client_id: 'sam',
    redirect_uri: 'https://sic.example/p', state: 'state', nonce: v.digest, prompt: 'login', max_age: '0', acr_values: 'a b',
  });
  assert.throws(() => address({ ...hint, authorize: 'javascript:alert(1)' }, digest, 's'), TypeError);

  let opened;
  globalThis.window = { open: (...args) => { opened = args; } };
  const other = new BroadcastChannel(CHANNEL);
  const pending = ask(hint, digest, new AbortController());
  assert.deepEqual(opened.slice(1), ['_blank', 'noopener']);
  const state = new URL(opened[0]).searchParams.get('state');
  other.postMessage({ state: 'another', id_token: 'forged' });
  other.postMessage({ state, id_token: 'word' });
  assert.equal(await pending, 'word');
  const refusing = ask(hint, digest, new AbortController());
  other.postMessage({ state: new URL(opened[0]).searchParams.get('state'), id_token: null });
  await assert.rejects(refusing);
  const abort = new AbortController();
  const stopped = ask(hint, digest, abort);
  abort.abort();
  await assert.rejects(stopped);
  other.close();
  delete globalThis.window;
  delete globalThis.location;
});

test('what keys may be made for is said in known members only', async () => {
  const keys = await keysNow();
  for (const [name, jws] of Object.entries(v.enrols)) {
    if (name.startsWith('bad')) await assert.rejects(verifyAct(jws, keys, 'enrol', v.now), forged, name);
    else assert.ok((await verifyAct(jws, keys, 'enrol', v.now)).act[name.replace('-plain', '').replace('-', '_')], name);
  }
});

test('what a level rests on is a list of names, or missing', async () => {
  const keys = await keysNow();
  for (const [name, jws] of Object.entries(v.declared)) {
    if (name.startsWith('bad')) await assert.rejects(verifyAct(jws, keys, 'sign', v.now), forged, name);
    else assert.equal((await verifyAct(jws, keys, 'sign', v.now)).act.declared[0], 'test, not evaluated', name);
  }
  assert.equal((await verifyAct(v.act, keys, 'sign', v.now)).act.declared, undefined);
});

test('a fresh act is the same only if all that was shown is', async () => {
  const keys = await keysNow();
  const { act } = await verifyAct(v.act, keys, 'sign', v.now);
  assert.ok(sameShown(act, { ...act, nonce: 'x', iat: 1, exp: 2 }));
  const changes = [
    { items: [...act.items].reverse() }, { level: 3 }, { client: { ...act.client, signed: true } }, { return: 'x' },
    { renew: 5 }, { since: { act: 1, factors: null } }, { person: { ...act.person, name: 'x' } }, { algs: [] },
    { brand: { ja: 'x', en: 'x' } }, { declared: ['x'] },
  ];
  for (const change of changes) assert.ok(!sameShown(act, { ...act, ...change }), JSON.stringify(change));
});

test('what the page seals, Rust opens', async () => {
  const keys = await keysNow();
  const digest = fromB64u(v.digest);
  out.sealed = await seal(JSON.stringify({ act: v.digest, pin: '暗証 12345', otp: '123456' }), keys.seal, 'natsuin-sad+jwe', digest);
  out.again = await seal('x', keys.seal, 'natsuin-sad+jwe', digest);
  assert.notEqual(out.sealed.split('.')[0], out.again.split('.')[0], 'a fresh key each time');
});

test('what Rust seals, the page opens, and nothing else', async () => {
  const pair = {
    privateKey: await crypto.subtle.importKey('jwk', v.page_key, { name: 'ECDH', namedCurve: 'P-256' }, false, ['deriveBits']),
    jwk: v.page_public,
  };
  const digest = fromB64u(v.digest);
  assert.equal(JSON.parse(await open(v.seed, pair, 'natsuin-seed+jwe', digest)).seed, 'GEZDGNBVGY3TQOJQ');
  await assert.rejects(open(v.seed, pair, 'natsuin-sad+jwe', digest));
  await assert.rejects(open(v.seed, pair, 'natsuin-seed+jwe', new Uint8Array(32)));
  await assert.rejects(open(v.seed, await sealPair(), 'natsuin-seed+jwe', digest));
  const parts = v.seed.split('.');
  for (const i of [2, 3, 4]) {
    const bytes = fromB64u(parts[i]);
    bytes[0] ^= 1;
    const changed = parts.with ? parts.with(i, b64u(bytes)) : parts;
    await assert.rejects(open(changed.join('.'), pair, 'natsuin-seed+jwe', digest), `part ${i}`);
  }
});

test('base64url has one form', () => {
  assert.deepEqual([...fromB64u('AQID')], [1, 2, 3]);
  for (const bad of ['AQ==', 'AQ\n', 'A+8', 'AR', 'A', 5, null]) assert.throws(() => fromB64u(bad), String(bad));
});

test('foreign text shows what hides in it; names keep their code points', () => {
  assert.equal(clean('a\u202efdp.exe\n\u200b'), 'a\ufffdfdp.exe\ufffd\ufffd');
  const kept = '髙﨑𠮷\ufa19邉\u{e0100}';
  assert.equal(clean(kept), kept);
  assert.equal(middle('業務委託契約書(第三版).pdf', 11), '業務委託契…).pdf');
  assert.equal(group4('0123456789'), '0123 4567 89');
  assert.equal(time(1795323912, 'ja'), '2026年11月22日(日) 14:05:12 日本時間');
  assert.equal(time(1795323912, 'en'), '22 Nov 2026, 14:05:12 JST');
});

test('QR symbols', () => {
  out.qr = v.qr.map((text) => ({ text, masks: [0, 1, 2, 3, 4, 5, 6, 7].map((m) => matrix(text, m)) }));
  assert.equal(matrix('x'.repeat(2000), 0), null);
});

test('an officer sees exactly the document that the act names', async () => {
  const keys = await keysNow();
  const { document, act } = await checkAct(v.office.approve, false, keys, v.now);
  assert.equal(document.measure.key, 'k');
  assert.equal(act.needs, 2);
  assert.equal((await checkAct(v.office.log_in, true, keys, v.now)).act.what, 'log-in');
  await assert.rejects(checkAct(v.office.log_in, false, keys, v.now), forged, 'a log-in is no approval');
  await assert.rejects(checkAct(v.office.approve, true, keys, v.now), forged, 'an approval is no log-in');
  for (const [why, answer] of Object.entries(v.office.bad)) {
    await assert.rejects(checkAct(answer, false, keys, v.now), forged, why);
  }
  await assert.rejects(verifyAct(v.office.approve.act, keys, APPROVED_HERE, v.now), forged, 'not on the signers\' page');
});

test('scripts of each page take at most 20 kB compressed', () => {
  const size = (names) =>
    names.reduce((n, name) => n + gzipSync(readFileSync(new URL(`../page/${name}.mjs`, import.meta.url))).length, 0);
  const common = ['act', 'jose', 'net', 'passkey', 'ui'];
  for (const page of [['approve', 'list'], ['enrol', 'qr']]) {
    const bytes = size([...common, ...page]);
    assert.ok(bytes <= 20000, `${page}: ${bytes} bytes`);
  }
});

test.after(() => writeFileSync(process.env.ANSWERS, JSON.stringify(out)));
