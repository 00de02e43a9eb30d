// Officers in a real browser: what each role sees on its page, what it doesn't, and one approval by passkey.
// Usage: node console.mjs READY_FILE PROPOSAL OUT_DIR. PROPOSAL: one by `sato` that waits for others. Ends with exit code 0
// only if everything went as it should. Screenshots of every page go to OUT_DIR.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { PHONE, launch } from './kit.mjs';
import { officers } from './officers.mjs';

const [readyFile, proposal, outDir] = process.argv.slice(2);
const ready = JSON.parse(readFileSync(readyFile, 'utf8'));
const browser = await launch();

const officer = officers(browser, ready, outDir, 'console', 0);

/** Names of the parts that stand on the page. */
const parts = (page) => page.locator('#app > section').evaluateAll((list) => list.map((s) => s.id));

const SEES = {
  sato: ['approvals', 'people', 'state', 'keys', 'clients', 'alerts'],
  tanaka: ['state', 'clients', 'alerts', 'approvals'],
  ito: ['alerts', 'state', 'keys', 'clients', 'approvals'],
  watanabe: ['search', 'log', 'state', 'people', 'alerts', 'approvals'],
};

/** What is asked for beside the page, and who gets it. */
const NOTHING = { from: null, until: null, kinds: ['service.'], person: null, key: null, outcome: null, after: null };
const ASKED = [
  ['people', {}, ['sato', 'watanabe']],
  ['audit', NOTHING, ['watanabe']],
  ['beside', { zone: 'ssa', what: 'clients', search: '' }, ['sato', 'tanaka', 'ito']],
  ['beside', { zone: 'cm', what: 'log', search: JSON.stringify({ ...NOTHING, limit: 1 }) }, ['watanabe']],
  ['beside', { zone: 'cm', what: 'state', search: '' }, Object.keys(SEES)],
];

/** What the module's log would say of a token that lost a key, and the SAM of the module's tokens. */
const LOST = { zone: 'cm', node: 'cm-1', n: 9, at: 1_800_000_000, subject: 'service', outcome: 'failure', class: 'transaction', kind: 'alarm', detail: { what: 'cm-key-missing' } };
const TOKENS = { state: 'degraded', device: '2 devices', members: [{ device: 'maker model 1', state: 'well' }, { device: null, state: 'out' }] };

/** What the page hears of zones, as it is, but for a module in trouble. */
const trouble = (page) => page.addInitScript(([lost, tokens]) => {
  const real = window.fetch;
  window.fetch = async (url, options) => {
    const answer = await real(url, options);
    const asked = options?.body ? JSON.parse(options.body) : {};
    const own = url === '/sap/v1/office/state';
    if (!own && !(asked.zone === 'cm' && asked.what === 'state')) return answer;
    const told = await answer.json();
    if (own) told.module = tokens;
    else told.alerts.unshift(lost);
    return Response.json(told);
  };
}, [{ seq: 8, body: JSON.stringify(LOST) }, TOKENS]);

for (const [name, expected] of Object.entries(SEES)) {
  for (const [lang, options] of [['ja', PHONE], ['en', {}]]) {
    const { page, look, logIn, complaints, post } = await officer(name, lang, options);
    await logIn();
    assert.deepEqual(await parts(page), expected, `${name} sees this`);
    // Other zones say how they are in their own time.
    await page.locator('[data-zone] .dot').first().waitFor({ state: 'detached' });
    await look('home');
    const card = page.locator(`[data-proposal="${proposal}"]`);
    assert.equal(await card.count(), 1, 'everybody sees the proposal');
    assert.equal(await card.locator('button.look').count(), 0, `${name} can't approve it`);
    const ends = page.locator('#keys');
    if (expected.includes('keys')) assert.match(await ends.innerText(), lang === 'ja' ? /1か月以内に切れるものはありません/ : /None ends within a month/);
    if (expected.includes('state')) assert.match(await page.locator('#state').innerText(), lang === 'ja' ? /同期していない/ : /unsynchronised/);
    if (expected.includes('state')) {
      // One backup was made lately; what was tried out is too old.
      const state = page.locator('#state');
      assert.match(await state.innerText(), lang === 'ja' ? /最後の作成/ : /last made/);
      assert.equal(await state.locator('.status.no').count(), 1, 'a late trial, and nothing else');
      for (const zone of ['cm', 'ssa']) {
        const told = state.locator(`[data-zone="${zone}"]`);
        assert.equal(await told.locator('tbody tr').count(), 1, `one node of ${zone}`);
        assert.match(await told.innerText(), lang === 'ja' ? /日本時間/ : /JST/, 'the time of its last checkpoint and entry');
      }
    }
    assert.deepEqual(await page.locator('#alerts [data-zone]').evaluateAll((list) => list.map((zone) => zone.dataset.zone)), ['cm', 'ssa']);
    if (expected.includes('clients')) {
      await page.locator('#look-clients').click();
      const row = page.locator('#client-list [data-client]');
      await row.first().waitFor();
      assert.match(await page.locator('#client-list').innerText(), lang === 'ja' ? /利用可/ : /may call/);
      await look('clients');
    }
    if (expected.includes('people')) {
      // The development stack trained everybody; whoever wasn't is named.
      const people = await page.locator('#people').innerText();
      assert.doesNotMatch(people, lang === 'ja' ? /教育の記録なし/ : /no training recorded/);
    }
    if (name === 'watanabe') {
      const found = page.locator('#found li.entry');
      await page.locator('#kind').selectOption('officer.');
      await page.locator('#search-form button[type=submit]').click();
      await found.first().waitFor();
      const text = await page.locator('#found').textContent();
      assert.match(text, lang === 'ja' ? /任命した: システム監査者/ : /was appointed: system auditor/);
      await look('search');
      // The log is given its places every second; the reading before is then found in it.
      await page.locator('#kind').selectOption('audit.');
      for (let tries = 0; ; tries += 1) {
        await page.locator('#search-form button[type=submit]').click();
        await page.locator('#found .dot').waitFor({ state: 'detached' });
        if (/officer\.watanabe/.test(await page.locator('#found').textContent())) break;
        assert.ok(tries < 500, 'the reading is an entry');
        // The gateway counts calls.
        await page.waitForTimeout(100);
      }
      await look('readings');
      // Other zones' logs, in the same words; the SAM let the account look, and that zone noted who read.
      await page.locator('#kind').selectOption('');
      for (const [zone, said] of [['cm', lang === 'ja' ? /鍵/ : /key/i], ['ssa', lang === 'ja' ? /アカウント/ : /account/i]]) {
        await page.locator('#zone').selectOption(zone);
        await page.locator('#search-form button[type=submit]').click();
        await page.locator('#found .dot').waitFor({ state: 'detached' });
        await found.first().waitFor();
        assert.match(await page.locator('#found').textContent(), said);
        await look(`search-${zone}`);
      }
    } else {
      assert.equal(await page.locator('#search').count(), 0);
    }
    // What isn't on the page isn't given out either: the SAM refuses it to this very session, not only to none.
    for (const [path, body, roles] of ASKED) {
      const { status } = await post(path, body);
      assert.equal(status, roles.includes(name) ? 200 : 422, `${name} asks for ${path} ${JSON.stringify(body)}`);
    }
    const { status: own, content: state } = await post('state');
    assert.equal(own, 200);
    const seesKeys = expected.includes('keys');
    assert.deepEqual([state.keys.length > 0, state.levels !== null], [seesKeys, seesKeys], `${name} is told of keys`);
    assert.equal((await post('state', { session: 'A'.repeat(43) })).status, 422, 'a session of nobody\'s gets nothing');
    complaints.length = 0;
    await page.locator('#log-out').click();
    await page.locator('#account').waitFor();
    // Nothing is kept: a page that is loaded again knows nobody.
    await page.reload();
    await page.locator('#account').waitFor();
    assert.equal(await page.locator('#log-out').count(), 0);
    assert.deepEqual(complaints, []);
    await page.context().close();
  }
}

// A module in trouble stands on the page of everybody who has to do with it, without being asked for.
for (const [name, lang] of [['ito', 'ja'], ['tanaka', 'en'], ['sato', 'en'], ['watanabe', 'ja']]) {
  const { page, look, logIn, complaints } = await officer(name, lang);
  await trouble(page);
  const asked = [];
  const isBeside = (request) => request.url().endsWith('/office/beside');
  page.on('request', (request) => isBeside(request) && asked.push(request.postDataJSON().zone));
  await logIn();
  const alarm = page.locator('#alerts [data-zone=cm] li.entry');
  await alarm.first().waitFor();
  assert.match(await alarm.first().innerText(), lang === 'ja' ? /トークンに鍵がない/ : /the token hasn't a key any more/);
  const devices = await page.locator('#state ol li').allTextContents();
  assert.deepEqual([devices.length, devices.some((text) => text.includes('maker model 1'))], [2, true]);
  assert.match(devices[1], lang === 'ja' ? /故障のため外した/ : /faulty and left out/);
  await page.locator('[data-zone] .dot').first().waitFor({ state: 'detached' });
  await look('trouble');
  // Each asking is an entry of that zone: once, and again for whoever looks again.
  assert.deepEqual(asked, ['cm', 'ssa']);
  if (name === 'sato') {
    await page.locator('#propose').click();
    await page.locator('#app button.link.small').last().click();
    await alarm.first().waitFor();
    assert.deepEqual(asked, ['cm', 'ssa'], 'the page is drawn again without asking');
  }
  const told = page.waitForRequest(isBeside);
  await page.locator('#again').click();
  await told;
  assert.ok(asked.length > 2, 'whoever looks again asks again');
  await page.locator('[data-zone] .dot').first().waitFor({ state: 'detached' });
  assert.deepEqual(complaints, []);
  await page.context().close();
}

// Two others approve, each with a passkey of their own over what they were shown.
for (const [name, lang] of [['suzuki', 'ja'], ['takahashi', 'en']]) {
  const { page, look, logIn, complaints } = await officer(name, lang);
  await logIn();
  const card = page.locator(`[data-proposal="${proposal}"]`);
  await card.locator('button.look').click();
  await page.locator('#prove.sign').waitFor();
  assert.match(await page.locator('#app').innerText(), lang === 'ja' ? /新人 七海をシステム運用担当者に任命する/ : /Appoint .*新人 七海.* as .*system operator/);
  await look('approve');
  await page.locator('#prove.sign').click();
  await page.locator('#log-out').waitFor();
  await page.locator('#approvals').waitFor();
  await look('approved');
  assert.deepEqual(complaints, []);
  await page.context().close();
}
const { page, logIn } = await officer('sato', 'en');
await logIn();
await page.locator('#approvals details > summary').first().click();
assert.match(await page.locator(`[data-proposal="${proposal}"] .status`).innerText(), /done/);
assert.match(await page.locator('#people').innerText(), /新人 七海/);
// Nobody said that they were trained.
assert.match(await page.locator('#people').innerText(), /no training recorded/);
await browser.close();
