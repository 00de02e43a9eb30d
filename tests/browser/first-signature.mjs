// From an invitation to a signed file, and the life of the key, in a real browser: portal, SIC page, e-contract page.
// Usage: node first-signature.mjs READY_FILE PDF OUT_DIR. Ends with exit code 0 only if everything went as it should.
// Screenshots of every page go to OUT_DIR.

import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import assert from 'node:assert/strict';
import { life } from './life.mjs';
import { PHONE, launch, person as someone, room, submit, totp, until } from './kit.mjs';

const [readyFile, pdf, outDir] = process.argv.slice(2);
const ready = JSON.parse(readFileSync(readyFile, 'utf8'));
const browser = await launch();
const person = (name, options) => someone(browser, outDir, name, options);

/**
 * Signs up at the portal with the login name `login`, with a login passkey or without; ends on the SIC's enrolment page.
 * Returns the login's seed.
 */
async function signUp({ page, look }, invitation, login, passkey) {
  await page.goto(invitation);
  await look('invitation');
  await page.locator('.actions a.button').click();
  await page.fill('#name', login);
  await page.fill('#password', 'correct horse battery');
  await page.fill('#again', 'correct horse battery');
  await page.check('#terms');
  await look('account');
  await submit(page);
  const seed = (await page.locator('#seed').innerText()).replace(/\s/g, '');
  await look('login-app');
  await page.fill('#code', totp(seed));
  await submit(page);
  await page.locator('#make-login-passkey').waitFor();
  await look('login-passkey');
  if (passkey) await pressWhenReady(page, '#make-login-passkey');
  else await page.locator('#later').click();
  await page.waitForURL(`${ready.sic}/e**`);
  return seed;
}

/** Presses a passkey button after the challenge has come. */
async function pressWhenReady(page, button) {
  await page.locator('input[name=challenge]:not([value=""])').waitFor({ state: 'attached' });
  await page.locator(button).click();
}

async function logOut({ page }) {
  await page.goto(`${ready.portal}/security`);
  await page.locator('form[action="/logout"] button').click();
  await page.waitForURL(`${ready.portal}/`);
}

/** Uploads the file at the e-contract page and goes to the approval page. */
async function toApproval({ page, look }, logIn) {
  await page.goto(ready.sca);
  await page.setInputFiles('#file', pdf);
  await look('upload');
  await submit(page);
  await page.waitForURL('**/documents/*');
  await look('document');
  await submit(page);
  await page.waitForFunction((portal) => location.href.startsWith(portal) || document.querySelector('a[href$="/go"]'), ready.portal);
  if (logIn) await logIn();
  else if (page.url().startsWith(ready.portal)) {
    await look('consent');
    await page.locator('button[value=yes]').click();
  }
  const go = page.locator('a[href$="/go"]');
  await go.waitFor();
  await look('prepared');
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator('a[href$="/prepared.pdf"]').click()]);
  const prepared = join(outDir, 'prepared.pdf');
  await download.saveAs(prepared);
  await go.click();
  await page.waitForURL(`${ready.sic}/a**`);
  await page.locator('#approve').waitFor();
  await look('approve');
  return prepared;
}

/** The approval page says of the prepared file, and of no other, that it is what will be signed. */
async function compareFiles({ page, look }, prepared, original) {
  await page.locator('#own-file summary').click();
  const said = page.locator('#compared .note, #compared .alarm');
  await page.setInputFiles('#compare', prepared);
  await said.waitFor();
  assert.match(await said.getAttribute('class'), /note/, await said.innerText());
  await look('compared');
  await page.setInputFiles('#compare', original);
  await page.locator('#compared .alarm').waitFor();
  assert.match(await said.innerText(), new RegExp(basename(original).replace(/[.]/g, '[.]')));
  await look('compared-other');
}

/** A page of somebody else's can neither frame the approval page nor keep a hand on it in a window of its own. */
async function hostilePage(context, approval) {
  const evil = await context.newPage();
  await evil.route('http://evil.localhost/**', (route) =>
    route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>evil</title><body>' }));
  await evil.goto('http://evil.localhost/');
  await evil.evaluate((url) => {
    const frame = document.createElement('iframe');
    frame.src = url;
    return new Promise((done) => {
      frame.onload = done;
      document.body.append(frame);
    });
  }, approval);
  await until('the approval page refuses the frame', () => /^chrome-error:/.test(evil.frames()[1]?.url()));
  const [opened] = await Promise.all([
    context.waitForEvent('page'),
    evil.evaluate((url) => { globalThis.under = window.open(url); }, approval),
  ]);
  await opened.locator('h1').waitFor();
  assert.equal(await opened.evaluate(() => window.opener), null);
  await until('no hand on the opened window', () => evil.evaluate(() => globalThis.under.closed));
  await opened.close();
  await evil.close();
}

async function result({ page, look }, file) {
  await page.waitForURL(`${ready.sca}/documents/*`);
  await page.locator('a[href$="/signed.pdf"]').first().waitFor();
  await look('result');
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator('a[href$="/signed.pdf"]').first().click()]);
  await download.saveAs(join(outDir, file));
}

// On a phone, in Japanese, with a passkey.
{
  const her = await person('ja-phone', { locale: 'ja-JP', ...PHONE });
  const { page, look } = her;
  await signUp(her, ready.invitations[0], 'michiko', true);
  assert.deepEqual((await her.passkeys()).map((p) => p.rpId), ['localhost']);
  await page.locator('#make-passkey').waitFor();
  await look('enrol');
  await page.locator('#make-passkey').click();
  await page.waitForURL(`${ready.portal}/**`);
  await look('keys');
  // Two passkeys on purpose: one for the portal, one for the approval page.
  assert.deepEqual((await her.passkeys()).map((p) => p.rpId).sort(), ['localhost', 'sic.localhost']);

  // A look-alike of the SIC page on the portal's origin is not offered the signing passkey.
  const offered = await page.evaluate(async () => {
    const challenge = new Uint8Array(32);
    try {
      await navigator.credentials.get({ publicKey: { challenge, rpId: 'sic.localhost', userVerification: 'required', timeout: 2000 } });
      return 'an assertion';
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(offered, 'SecurityError');

  // She logs out, and the application's request brings her back in with the login passkey.
  await logOut(her);
  const prepared = await toApproval(her, async () => {
    await page.locator('#passkey').waitFor();
    await look('login');
    await pressWhenReady(page, '#passkey');
  });
  await compareFiles(her, prepared, pdf);
  const approval = page.url();
  // The page that approves refuses to be framed.
  assert.match(her.policies.get(approval.split('#')[0]), /frame-ancestors 'none'/);
  await hostilePage(page.context(), approval);
  // The window that the hostile page opened asked for an act of its own; the older one is dead.
  await page.reload();
  await page.locator('#approve').waitFor();
  // A double click is one approval.
  await page.evaluate(() => {
    const button = document.querySelector('#approve');
    button.click();
    button.click();
  });
  await result(her, 'signed-ja.pdf');

  // What was approved can't be approved again.
  await page.goto(approval);
  await page.reload();
  await page.locator('h1').waitFor();
  await page.waitForFunction(() => !document.querySelector('.bone'));
  await look('used');
  assert.equal(await page.locator('#approve').count(), 0);

  // An app's own browser shows no passkeys: she approves in another one with the same link. The page where she began waits for that, and
  // goes on by itself.
  await page.addInitScript(() => Object.defineProperty(navigator, 'userAgent', { configurable: true, get: () => 'Mozilla/5.0 (Linux; Android 16; wv)' }));
  await toApproval(her);
  const link = page.url();
  await page.locator('#wait-here').click();
  await page.waitForURL(`${ready.portal}/oauth2/resume/*`);
  await page.waitForResponse((r) => r.url().startsWith(`${ready.portal}/oauth2/waiting/`));
  await look('waits');
  assert.match(page.url(), /\/oauth2\/resume\//, 'nobody has decided yet');
  const other = await person('ja-other', { locale: 'ja-JP', ...PHONE });
  for (const passkey of await her.passkeys()) await other.give(passkey);
  await other.page.goto(link);
  await other.page.locator('#approve').click();
  await other.page.waitForURL(`${ready.portal}/oauth2/resume/*`);
  await other.look('go-back');
  for (const passkey of await other.passkeys()) await her.give(passkey);
  await result(her, 'signed-app.pdf');
  await page.addInitScript(() => { delete navigator.userAgent; });

  // And she can say no.
  await toApproval(her);
  await page.locator('#refuse').click();
  await page.waitForURL(`${ready.sca}/documents/*`);
  await look('refused');
  assert.equal(await page.locator('a[href$="/signed.pdf"]').count(), 0);
  await life(her, ready, async () => {}, true);
  assert.deepEqual(her.complaints.filter((c) => !c.includes('status of 4')), [], 'the browser has nothing to complain of');
}

// On a desktop, in English, with a PIN and an authenticator app.
{
  const him = await person('en-desktop', { locale: 'en-GB', viewport: { width: 1280, height: 900 } });
  const { page, look } = him;
  const login = await signUp(him, ready.invitations[1], 'robert', false);
  await page.locator('#use-pin').click();
  const seed = (await page.locator('#seed').innerText()).replace(/\s/g, '');
  await page.fill('#pin', 'a long signing pin');
  await page.fill('#pin2', 'a long signing pin');
  await look('enrol-pin');
  // The code of the step before, so that three are at hand; it is refused once the present step is over.
  await room(15);
  await page.fill('#otp', totp(seed, -1));
  await page.locator('#enrol').click();
  await page.waitForURL(`${ready.portal}/**`);
  await look('keys');
  await toApproval(him);
  await page.fill('#pin', 'a long signing pin');
  await page.fill('#otp', totp(seed));
  await look('approve-pin');
  await page.locator('#approve').click();
  await result(him, 'signed-en.pdf');

  await life(him, ready, async () => {
    await page.fill('#pin', 'a long signing pin');
    await page.fill('#otp', totp(seed, 1));
    await look('resume-pin');
  }, false);

  // Without a login passkey he logs in with password and code, adds one, names it, logs in with it, and removes it.
  await logOut(him);
  await page.goto(`${ready.portal}/login?next=/security`);
  await page.fill('#name', 'robert');
  await page.fill('#password', 'correct horse battery');
  await page.fill('#code', totp(login, 1));
  await submit(page);
  await page.waitForURL(`${ready.portal}/security`);
  await page.fill('#new-name', 'Office PC');
  await look('security-empty');
  await pressWhenReady(page, '#make-login-passkey');
  await page.locator('#passkey-1').waitFor();
  assert.equal(await page.locator('#passkey-1').innerText(), 'Office PC');
  await look('security');
  await logOut(him);
  await page.goto(`${ready.portal}/login`);
  await pressWhenReady(page, '#passkey');
  await page.waitForURL(`${ready.portal}/keys`);
  await page.goto(`${ready.portal}/security`);
  await page.locator('details', { hasText: 'Remove' }).last().locator('summary').click();
  await look('security-remove');
  await page.locator('form[action$="/remove"] button').click();
  await page.locator('.empty').waitFor();
  // The browser is told: it offers the passkey no more.
  await until('the passkey is gone', async () => (await him.passkeys()).length === 0);
  assert.deepEqual(him.complaints.filter((c) => !c.includes('status of 4')), [], 'the browser has nothing to complain of');
}

await browser.close();
console.log('from invitation to signed file: passkey on a phone, PIN on a desktop');
