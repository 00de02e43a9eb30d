// Officers propose, approve and take in a real browser: what each role is offered, what it gets refused, and what comes of it.
// Usage: node propose.mjs READY_FILE KEY OUT_DIR. KEY: one of a signer's. Ends with exit code 0 only if everything went as it should.
// Screenshots go to OUT_DIR.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { PHONE, launch, person, submit } from './kit.mjs';
import { officers } from './officers.mjs';

const [readyFile, key, outDir] = process.argv.slice(2);
const ready = JSON.parse(readFileSync(readyFile, 'utf8'));
const browser = await launch();
const officer = officers(browser, ready, outDir, 'propose', 1_000_000);

const fill = async (page, answers) => {
  for (const [id, value] of Object.entries(answers)) {
    const input = page.locator(`#${id}`);
    if (await input.evaluate((node) => node.tagName === 'SELECT')) await input.selectOption(value);
    else await input.fill(value);
  }
};

const begin = async (page, measure, answers) => {
  await page.locator('#propose').click();
  await fill(page, { measure, ...answers });
};

/** The rest of it, by passkey; answers the proposal's name. */
const finish = async (page, look) => {
  await submit(page);
  await page.locator('#prove').waitFor();
  if (look) await look('propose-ask');
  await page.locator('#prove').click();
  await page.locator('[data-made]').waitFor();
  return page.locator('[data-made]').getAttribute('data-made');
};

const change = (page) => page.locator('.actions button.link').click();

/** Logs in on a page that has come to its log-in and wasn't loaded again. */
const logInThere = async (page, name) => {
  await page.locator('#account').fill(name);
  await page.locator('#log-in ~ .actions button[type=submit]').click();
  await page.locator('#prove').click();
  await page.locator('#log-out').waitFor();
};

/** The session ends while the page is open, and its owner logs in again. */
const again = async ({ page, post, complaints }, name) => {
  assert.equal((await post('log-out')).status, 200);
  await page.locator('#again').click();
  await logInThere(page, name);
  complaints.length = 0;
};

const approve = async (name, proposal, lang = 'en') => {
  const { page, logIn, complaints } = await officer(name, lang);
  await logIn();
  await page.locator(`[data-proposal="${proposal}"] button.look`).click();
  await page.locator('#prove.sign').click();
  await page.locator('#approvals').waitFor();
  assert.deepEqual(complaints, []);
  await page.context().close();
};

const MANAGED = ['appoint', 'account', 'office', 'dismiss'];
const RUN = ['key', 'factors', 'module', 'end-keys', 'delete-archived'];
const OFFERED = {
  sato: [...MANAGED, ...RUN, 'forget-person'], tanaka: [...MANAGED, ...RUN, 'forget-person'], ito: RUN, watanabe: null,
};
const DIGEST = 'A'.repeat(43);
const EXAMPLES = {
  dismiss: { officer: 'takahashi' },
  'forget-person': { subject: DIGEST },
  'delete-archived': { zone: 'sam', archive: DIGEST, size: 256 },
  // These stand in the signed configuration, whoever asks.
  client: { client: 'c', name: 'C', keys: [] },
};

/** Forms that were looked at. */
const seen = new Set();

// What a role may not propose is neither offered nor accepted.
for (const [name, expected] of Object.entries(OFFERED)) {
  const { page, logIn, post, look, complaints } = await officer(name, 'ja', PHONE);
  await logIn();
  assert.equal(await page.locator('#propose').count(), expected ? 1 : 0, `${name} proposes`);
  if (expected) {
    await page.locator('#propose').click();
    const kinds = await page.locator('#measure option').evaluateAll((all) => all.map((one) => one.value));
    assert.deepEqual([...kinds].sort(), [...expected].sort(), `${name} is offered this`);
    // Each form can be used by everybody.
    for (const kind of kinds.filter((one) => !seen.has(one))) {
      await page.locator('#measure').selectOption(kind);
      await look(`form-${kind}`);
      seen.add(kind);
    }
  }
  for (const [measure, members] of Object.entries(EXAMPLES)) {
    if (expected?.includes(measure)) continue;
    const { status, content } = await post('propose', { measure: { measure, ...members }, reason: 'because', ttl: 3600 });
    assert.equal(status, 422, `${name} asks for ${measure}`);
    if (measure !== 'client') assert.equal(content.rule, 'role', `${name} asks for ${measure}`);
  }
  complaints.length = 0;
  await page.context().close();
}

// An administrator proposes an auditor; what is wrong is said beside it, and nothing typed is lost.
let link;
{
  const tanaka = await officer('tanaka', 'en');
  const { page, logIn, look, complaints } = tanaka;
  await logIn();
  const answers = { officer: 'haya shi', name: '林 八重', identity: 'staff 8', role: 'system-auditor', until: '', 'trained-at': '2026-01-15', 'trained-until': '', reason: 'Second auditor =1+1' };
  await begin(page, 'appoint', answers);
  await submit(page);
  for (const id of ['officer', 'until', 'trained-until']) assert.equal(await page.locator(`#${id}`).getAttribute('aria-invalid'), 'true', id);
  assert.equal(await page.locator('#name').getAttribute('aria-invalid'), 'false');
  await look('faults');
  const now = new Date(Date.now() + 300 * 24 * 3600 * 1000).toISOString().slice(0, 10);
  await fill(page, { officer: 'hayashi', until: '2019-12-31', 'trained-until': now });
  await submit(page);
  // The SAM has its own mind about the term.
  await page.locator('#prove').click();
  await page.locator('#app .alarm').waitFor();
  assert.match(await page.locator('#app .alarm').innerText(), /not proposed[\s\S]*last day lies behind/);
  for (const [id, value] of Object.entries({ ...answers, officer: 'hayashi', until: '2019-12-31', 'trained-until': now })) {
    assert.equal(await page.locator(`#${id}`).inputValue(), value, `${id} is still there`);
  }
  await look('refused');
  complaints.length = 0;
  await fill(page, { until: now });
  const proposal = await finish(page, look);
  assert.match(await page.locator('h1').innerText(), /Appoint 林 八重 as system auditor/);
  link = await page.locator('#ticket').innerText();
  assert.ok(link.startsWith(`${new URL(ready.console).origin}/e#${proposal}.`), link);
  assert.doesNotMatch(await page.locator('#app details').textContent(), /staff 8/, 'a commitment only');
  await look('proposed');
  await again(tanaka, 'tanaka');
  assert.equal(await page.locator('#ticket').innerText(), link, 'it isn\'t lost with the session');
  await page.locator('#to-home').click();
  const card = page.locator(`[data-proposal="${proposal}"]`);
  await card.waitFor();
  assert.equal(await card.locator('button.look').count(), 0, 'others approve it');
  assert.deepEqual(complaints, []);
  await page.context().close();
  await approve('sato', proposal);
  await approve('suzuki', proposal, 'ja');
}
{
  const { page, logIn, complaints } = await officer('sato', 'en');
  await logIn();
  const row = page.locator('#people tr', { hasText: '林 八重' });
  assert.match(await row.innerText(), /system auditor[\s\S]*15 Jan 2026/);
  assert.doesNotMatch(await row.innerText(), /no training/);
  // A renewal says what will stand for a training, also if that is none.
  const until = new Date(Date.now() + 300 * 24 * 3600 * 1000).toISOString().slice(0, 10);
  await begin(page, 'office', { officer: 'hayashi', role: 'system-auditor', until, reason: 'Another year' });
  await submit(page);
  await page.locator('#prove').waitFor();
  assert.match(await page.locator('#app .facts').innerText(), /no training recorded/);
  await change(page);
  await fill(page, { 'trained-at': '2026-02-16', 'trained-until': until });
  await submit(page);
  await page.locator('#prove').waitFor();
  assert.match(await page.locator('#app .facts').innerText(), /16 Feb 2026/);
  assert.doesNotMatch(await page.locator('#app .facts').innerText(), /no training/);
  await change(page);
  await page.locator('#propose-form ~ .actions button.link').click();
  // Nobody proposes anything about themselves.
  await begin(page, 'dismiss', { officer: 'sato', reason: 'I leave' });
  await submit(page);
  await page.locator('#prove').click();
  await page.locator('#app .alarm').waitFor();
  assert.match(await page.locator('#app .alarm').innerText(), /about yourself/);
  // If the log-in is refused, the session before is over as well; nothing typed is lost.
  await page.route('**/sap/v1/office/log-in', (route) => route.fulfill({ status: 422, contentType: 'application/json', body: '{"code":"expired"}' }), { times: 1 });
  await submit(page);
  await page.locator('#prove').click();
  await page.locator('#account').waitFor();
  assert.match(await page.locator('#app .alarm').innerText(), /refused\. Nothing was done/);
  await logInThere(page, 'sato');
  await page.locator('#propose').click();
  assert.deepEqual(await Promise.all(['measure', 'officer', 'reason'].map((id) => page.locator(`#${id}`).inputValue())), ['dismiss', 'sato', 'I leave']);
  complaints.length = 0;
  // The invitation leads the new auditor to their passkey.
  await page.goto(link);
  await page.locator('#app', { hasText: '林 八重' }).waitFor();
  assert.deepEqual(complaints, []);
  await page.context().close();
}

// The new auditor enrols a passkey with that link, and sees nothing before an officer who didn't make it has confirmed its digits.
{
  const { page, look, complaints } = await person(browser, outDir, 'propose-hayashi-en', { locale: 'en-GB' });
  await page.goto(link);
  await page.locator('#make-passkey').click();
  await page.locator('#account').waitFor();
  await logInThere(page, 'hayashi');
  const digits = await page.locator('#passkey').innerText();
  assert.match(digits, /^(\d{4} ){5}\d{4}$/);
  for (const part of ['approvals', 'people', 'search', 'log', 'alerts']) assert.equal(await page.locator(`#${part}`).count(), 0, part);
  await look('unconfirmed');
  await page.locator('#ask-confirm').click();
  await page.locator('#app .note').waitFor();
  await look('asked');
  for (const [name, lang, options] of [['suzuki', 'ja', PHONE], ['sato', 'en', {}]]) {
    const { page: other, logIn, look: sees, complaints: others } = await officer(name, lang, options);
    await logIn();
    assert.match(await other.locator('#people').innerText(), lang === 'ja' ? /パスキー未確認/ : /passkey not confirmed/);
    await other.locator('[data-proposal]', { hasText: digits }).locator('button.look').click();
    await other.locator('#prove.sign').waitFor();
    assert.equal(await other.locator('#passkey').innerText(), digits);
    assert.match(await other.locator('#app .note').innerText(), lang === 'ja' ? /読み上げてもらって/ : /read these digits out/);
    await sees('confirm');
    if (name === 'sato') {
      await other.locator('#prove.sign').click();
      await other.locator('#approvals').waitFor();
    }
    assert.deepEqual(others, []);
    await other.context().close();
  }
  await page.locator('#log-out').click();
  await logInThere(page, 'hayashi');
  await page.locator('#search').waitFor();
  assert.deepEqual(complaints, []);
  await page.context().close();
}

// An operator has a signer's key stopped: one officer is enough for that.
{
  const { page, logIn, complaints } = await officer('ito', 'ja', PHONE);
  await logIn();
  await begin(page, 'key', { key, action: 'suspend', reason: '端末の紛失' });
  const proposal = await finish(page);
  await approve('takahashi', proposal);
  await page.locator('#to-home').click();
  await page.locator('#approvals details > summary').first().click();
  assert.match(await page.locator(`[data-proposal="${proposal}"] .status`).innerText(), /完了/);
  assert.match(await page.locator('#keys').innerText(), /停止中/);
  assert.deepEqual(complaints, []);
  await page.context().close();
}

// What somebody else carries out is taken by who asked, once, with its proofs.
{
  const ito = await officer('ito', 'en');
  const { page, logIn, look, complaints } = ito;
  await logIn();
  await begin(page, 'delete-archived', { zone: 'sam', archive: DIGEST, size: '512', reason: 'disk of the SAM' });
  const proposal = await finish(page);
  await approve('suzuki', proposal);
  await page.locator('#to-home').click();
  const card = page.locator(`[data-proposal="${proposal}"]`);
  await card.waitFor();
  assert.equal(await card.locator('button.take').count(), 0, 'one approval is missing');
  await approve('takahashi', proposal);
  const other = await officer('tanaka', 'en');
  await other.logIn();
  assert.equal(await other.page.locator(`[data-proposal="${proposal}"] button.take`).count(), 0, 'it is for who asked');
  await other.page.context().close();
  await page.locator('#again').click();
  await card.locator('button.take').click();
  await page.locator('#prove').waitFor();
  await look('take');
  await page.locator('#prove').click();
  await page.locator('#save-taken').waitFor();
  await look('taken');
  // What is given once isn't lost with the session.
  await again(ito, 'ito');
  const [saved] = await Promise.all([page.waitForEvent('download'), page.locator('#save-taken').click()]);
  assert.equal(saved.suggestedFilename(), 'taken.json');
  const taken = JSON.parse(readFileSync(await saved.path(), 'utf8'));
  assert.deepEqual(Object.keys(taken).sort(), ['approvals', 'document', 'statement', 'warrant']);
  assert.equal(taken.approvals.length, 2);
  assert.deepEqual(JSON.parse(taken.document).measure, { measure: 'delete-archived', zone: 'sam', archive: DIGEST, size: 512 });
  const warrant = JSON.parse(Buffer.from(taken.warrant.split('.')[1], 'base64url').toString());
  assert.equal(warrant.proposal, proposal);
  await page.locator('#to-home').click();
  await page.locator('#approvals details > summary').first().click();
  assert.match(await card.locator('.status').innerText(), /done/);
  assert.equal(await card.locator('button.take').count(), 0);
  assert.deepEqual(complaints, []);
  await page.context().close();
}

// The module's switch takes a signature by a key of its own; anything else isn't sent.
{
  const { page, logIn } = await officer('ito', 'en');
  await logIn();
  await begin(page, 'module', { enabled: 'off', reason: 'maintenance' });
  assert.ok(await page.locator('#ttl option[value="604800"]').isDisabled(), 'the module takes an hour');
  const proposal = await finish(page);
  await page.context().close();
  const { page: other, logIn: begins, look, complaints, post } = await officer('sato', 'ja', PHONE);
  await begins();
  await other.locator(`[data-proposal="${proposal}"] button.look`).click();
  await other.locator('#switch').waitFor();
  const document = JSON.parse((await post('proposals')).content.proposals.find((one) => one.proposal === proposal).document);
  const { serial, exp } = JSON.parse(document.facts.switch);
  assert.equal(await other.locator('#switch-command').innerText(), `natsuin-cm approve --key officer.key --root cm-root.jwk --to disabled --serial ${serial} --reason='maintenance' --exp ${exp}`);
  await other.locator('#switch').fill('eyJhbGciOiJFUzI1NiJ9.e30.AA');
  await other.locator('#prove.sign').click();
  assert.equal(await other.locator('#switch').getAttribute('aria-invalid'), 'true');
  assert.ok(await other.locator('#prove.sign').isEnabled(), 'nothing was proved');
  await look('switch');
  // A proposal can be ended by whoever could have approved it,
  await other.locator('#refuse').click();
  await other.locator('#approvals').waitFor();
  assert.deepEqual(complaints, []);
}
{
  // and by who asked.
  const sato = await officer('sato', 'en');
  const { page, logIn, complaints } = sato;
  await logIn();
  await begin(page, 'forget-person', { forgotten: 'acme/taro', reason: 'request 12' });
  const proposal = await finish(page);
  const salt = await page.locator('#salt').innerText();
  assert.match(salt, /^[A-Za-z0-9_-]{43}$/);
  await again(sato, 'sato');
  assert.equal(await page.locator('#salt').innerText(), salt);
  assert.doesNotMatch(await page.locator('#app details').textContent(), /taro/, 'a commitment only');
  await page.locator('#to-home').click();
  await page.locator(`[data-proposal="${proposal}"] button.end`).click();
  await page.locator(`[data-proposal="${proposal}"] button.end`).waitFor({ state: 'detached' });
  await page.locator('#approvals details > summary').first().click();
  assert.match(await page.locator(`[data-proposal="${proposal}"] .status`).innerText(), /ended/);
  assert.deepEqual(complaints, []);
}

// The last of it, as the plan for incidents has it: all keys end, and the page hands out the module's certificates.
{
  const { page, logIn, look, complaints } = await officer('ito', 'en');
  await logIn();
  await begin(page, 'end-keys', { tenant: '*', cause: 'incident', reason: 'leak-2026-114' });
  const proposal = await finish(page, look);
  assert.match(await page.locator('h1').innerText(), /Destroy all keys of the whole service, \d+ now, because of an incident/);
  await approve('sato', proposal);
  await approve('suzuki', proposal);
  await page.locator('#to-home').click();
  await page.locator('#approvals details > summary').first().click();
  const card = page.locator(`[data-proposal="${proposal}"]`);
  let told;
  // Asked now and then: the gateway counts calls.
  for (let tries = 0; !told?.complete; tries += 1) {
    assert.ok(tries < 600, 'every key is destroyed');
    if (tries > 0) await page.waitForTimeout(200);
    const [answer] = await Promise.all([page.waitForResponse(/proposal\/progress/), card.locator('button.ending').click()]);
    told = await answer.json();
  }
  await card.locator('button.certificates').click();
  await page.locator('#save-certificates').waitFor();
  await look('ended');
  const [saved] = await Promise.all([page.waitForEvent('download'), page.locator('#save-certificates').click()]);
  assert.equal(saved.suggestedFilename(), 'destroyed.txt');
  const lines = readFileSync(await saved.path(), 'utf8').trimEnd().split('\n');
  assert.equal(lines.length, told.parts.reduce((n, part) => n + part.destroyed, 0));
  assert.ok(lines.length > 0 && lines.every((line) => line.split('.').length === 3));
  assert.deepEqual(complaints, []);
}
await browser.close();
