// Run by `cargo test -p ssa-service`: the script of pages that wait, in a browser that stands in.

import assert from 'node:assert/strict';
import test from 'node:test';

test('it asks while there is something to wait for, and goes on once', async (t) => {
  const timers = [];
  const went = [];
  const answers = [true, false];
  let asked = 0;
  let looked = null;
  globalThis.document = {
    hidden: false,
    querySelector: () => ({ dataset: { waiting: '/waiting', next: '/next' } }),
    addEventListener: (_, listener) => {
      looked = listener;
    },
  };
  globalThis.location = { replace: (to) => went.push(to) };
  t.mock.method(globalThis, 'fetch', async () => {
    asked += 1;
    return { ok: true, json: async () => ({ waits: answers.shift() }) };
  });
  t.mock.method(globalThis, 'setTimeout', (run, pause) => {
    timers.push({ run, pause });
  });
  await import('../page/waiting.mjs');
  assert.equal(timers[0].pause, 2_000);
  await timers.shift().run();
  assert.deepEqual([went, timers.map((timer) => timer.pause)], [[], [3_000]]);
  await timers.shift().run();
  assert.deepEqual(went, ['/next']);
  // While that is being loaded nothing is asked, and nothing sends the page there again.
  await looked();
  assert.deepEqual([went.length, timers.length, asked], [1, 0, 2]);
});
