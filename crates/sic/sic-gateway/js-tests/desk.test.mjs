// Run by `cargo test -p sic-gateway`: sessions at a SAM that only writes down what it is asked.

import assert from 'node:assert/strict';
import test from 'node:test';

import { ask, atTheEnd, begin, beginAnew, forget, me } from '../page/desk.mjs';
import { Lost, No } from '../page/net.mjs';
import { dropOwn, goOn, keep } from '../page/propose.mjs';

const opened = { act: { person: { id: 'officer.a' }, tenant: 'acme' } };
const PROOF = { act: 'x' };

/** What the SAM is asked from here on; `answer` gets each path and says the status and the content, or throws. */
function sam(answer) {
  const asked = [];
  globalThis.fetch = async (url, { body }) => {
    const path = url.replace('/sap/v1/office/', '');
    asked.push([path, JSON.parse(body)]);
    const [status, content] = answer(path, asked.length);
    return { status, json: async () => content };
  };
  return asked;
}

const session = (name) => [200, { session: name, officer: 'a', idle: 600, until: Math.floor(Date.now() / 1000) + 3600 }];
const ends = [];
atTheEnd((error) => {
  ends.push(error);
  forget();
});

test('a session that is begun anew comes after the end of the one before', async () => {
  const asked = sam((path, n) => (path === 'log-in' ? session(`s${n}`) : [200, {}]));
  await begin(opened, PROOF);
  assert.ok(await beginAnew(opened, PROOF));
  assert.deepEqual(asked, [['log-in', { proof: PROOF }], ['log-out', { session: 's1' }], ['log-in', { proof: PROOF }]]);
  assert.equal(me.session, 's3');
  assert.deepEqual(ends, []);
  forget();
});

test('one that the SAM has ended already is in nobody\'s way', async () => {
  sam(() => session('s1'));
  await begin(opened, PROOF);
  for (const fails of [() => [422, { code: 'not-found' }], () => { throw new TypeError(); }]) {
    const asked = sam((path) => (path === 'log-in' ? session('s2') : fails()));
    assert.ok(await beginAnew(opened, PROOF));
    assert.deepEqual(asked.map(([path]) => path), ['log-out', 'log-in']);
    assert.equal(me.session, 's2');
  }
  assert.deepEqual(ends, []);
  forget();
});

test('what a session still asks for is given up with it', async () => {
  sam(() => session('s1'));
  await begin(opened, PROOF);
  let stopped;
  globalThis.fetch = (url, { signal }) => new Promise((_, fail) => {
    stopped = signal;
    signal.addEventListener('abort', () => fail(signal.reason));
  });
  const lost = assert.rejects(ask('beside'), Lost);
  assert.equal(stopped.aborted, false);
  const asked = sam((path) => (path === 'log-in' ? session('s2') : [200, {}]));
  assert.ok(await beginAnew(opened, PROOF));
  await lost;
  assert.ok(stopped.aborted);
  // The new one asks as before.
  await ask('state');
  assert.deepEqual(asked.map(([path]) => path), ['log-out', 'log-in', 'state']);
  forget();
});

test('a refused log-in is the end of the session before, and says why', async () => {
  for (const [fails, kind] of [[() => [422, { code: 'expired' }], No], [() => { throw new TypeError(); }, Lost]]) {
    sam(() => session('s1'));
    await begin(opened, PROOF);
    sam((path) => (path === 'log-in' ? fails() : [200, {}]));
    assert.equal(await beginAnew(opened, PROOF), false);
    assert.equal(me, undefined);
    assert.equal(ends.length, 1);
    assert.ok(ends.pop() instanceof kind);
  }
});

test('what is shown once is there again for its owner after the end of the session, and for nobody else', async () => {
  sam(() => session('s1'));
  const as = (id) => begin({ act: { person: { id }, tenant: 'acme' } }, PROOF);
  let times = 0;
  await as('officer.a');
  assert.equal(goOn(), false);
  keep(() => { times += 1; });
  forget();
  await as('officer.a');
  assert.ok(goOn());
  assert.equal(times, 2);
  forget();
  await as('officer.b');
  assert.equal(goOn(), false);
  forget();
  await as('officer.a');
  assert.equal(goOn(), false);
  // Logging out is the end of it.
  keep(() => { times += 1; });
  dropOwn();
  assert.equal(goOn(), false);
  assert.equal(times, 3);
  forget();
});
