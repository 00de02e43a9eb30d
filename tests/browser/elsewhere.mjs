// Identity elsewhere, in a real browser: a certificate in the handshake logs its person in, nobody else's does, and an identity provider's
// page opens beside the approval page and answers through `/p`.
//
// node elsewhere.mjs JOB.json SHOTS

import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { launch, person, totp, until } from './kit.mjs';

const [, , jobFile, outDir] = process.argv;
const job = JSON.parse(readFileSync(jobFile, 'utf8'));
const browser = await launch();
const card = ({ cert, key }) => ({
  ignoreHTTPSErrors: true,
  clientCertificates: [{ origin: job.asking, certPath: cert, keyPath: key }],
});

/** Logs in with name, password and code; a code counts once. */
let ahead = 0;
async function logIn(page, next) {
  await page.goto(`${job.portal}/login?next=${next}`);
  await page.fill('#name', job.user);
  await page.fill('#password', job.password);
  await page.fill('#code', totp(job.seed, ahead));
  ahead += 1;
  await page.locator('.actions button[type=submit]').click();
  await page.waitForURL(`${job.portal}${next}`);
}

async function withCertificate(page) {
  await page.goto(`${job.portal}/login`);
  const asked = page.waitForResponse((r) => r.url().startsWith(job.asking));
  await page.locator('#certificate').click();
  await asked;
}

// --- a card ---
{
  const { page, look } = await person(browser, outDir, 'card', card(job.card));
  await logIn(page, '/security');
  await look('security');
  await page.fill('#certificate-name', '個人番号カード');
  await page.locator('#bind-certificate').click();
  await page.waitForURL(`${job.portal}/security`);
  await page.getByRole('heading', { name: '個人番号カード' }).waitFor();
  await look('bound');
  await page.context().close();
}
{
  const { page, look, complaints } = await person(browser, outDir, 'again', card(job.card));
  await withCertificate(page);
  // The card opens the portal.
  await page.waitForURL(`${job.portal}/keys`);
  await look('in');
  assert.deepEqual(complaints, []);
  await page.context().close();
}
for (const [name, options] of [['other', card(job.other)], ['none', { ignoreHTTPSErrors: true }]]) {
  const { page, look } = await person(browser, outDir, name, options);
  await withCertificate(page);
  await page.locator('[role=alert]').waitFor();
  assert.notEqual(new URL(page.url()).pathname, '/keys', `${name}: not in`);
  await look('refused');
  await page.goto(`${job.portal}/keys`);
  assert.equal(new URL(page.url()).pathname, '/login', `${name}: not in afterwards`);
  await page.context().close();
}

// --- a provider ---
{
  const { page, look, complaints } = await person(browser, outDir, 'provider', {});
  await logIn(page, '/signing');
  const key = page.locator('section.card', { has: page.locator('.status') }).first();
  await key.locator('form[action="/signing/stop"] button').click();
  const resume = key.locator('form:has(input[name=do][value=resume]) button');
  await resume.waitFor();
  await resume.click();
  await page.waitForURL(`${job.sic}/a**`);
  await page.locator('#approve').waitFor();
  await look('approve');

  // Its page opens and says nothing: the person stops waiting, and nothing is lost.
  const context = page.context();
  await context.route(`${job.issuer}/authorize**`, (route) => route.fulfill({ status: 200, contentType: 'text/plain', body: 'busy' }));
  let opened = context.waitForEvent('page');
  await page.locator('#approve').click();
  const busy = await opened;
  await busy.waitForURL(`${job.issuer}/authorize**`);
  const asked = new URL(busy.url());
  assert.equal(asked.searchParams.get('redirect_uri'), `${job.sic}/p`);
  assert.equal(asked.searchParams.get('prompt'), 'login');
  await look('waiting');
  // A word that comes with another state is none for this page, and `/p` says only that one goes back.
  const stray = await context.newPage();
  await stray.goto(`${job.sic}/p#state=stray&id_token=x.y.z`);
  await stray.locator('h1').waitFor();
  assert.equal(new URL(stray.url()).hash, '', 'the answer stays in no history');
  await stray.close();
  assert.equal(await page.locator('#approve').count(), 0, 'still waiting');
  await page.locator('.dot ~ button').click();
  await page.locator('#approve').waitFor();
  await look('stopped-waiting');
  await busy.close();
  await context.unroute(`${job.issuer}/authorize**`);

  opened = context.waitForEvent('page');
  await page.locator('#approve').click();
  const there = await opened;
  await page.waitForURL(`${job.portal}/**`);
  await until('the provider sent it to /p', () => there.isClosed() || new URL(there.url()).pathname === '/p');
  await page.goto(`${job.portal}/signing`);
  await key.locator('form[action="/signing/stop"] button').waitFor();
  await look('resumed');
  assert.deepEqual(complaints, []);
  await context.close();
}
await browser.close();
