// Officers with a browser each, for the stories of their page.

import { readFileSync } from 'node:fs';
import { person } from './kit.mjs';

const standard = (text) => Buffer.from(text, 'base64url').toString('base64');

/**
 * Makes officers, whose authenticators have the passkeys that the stack of the ready file enrolled. `uses`: a passkey counts its uses,
 * and one that went back would be a copy, and an alarm; each story at the same stack begins above the one before.
 */
export const officers = (browser, ready, outDir, story, uses) => async (name, lang, options = {}) => {
  const known = ready.officers.find((o) => o.officer === name);
  const file = JSON.parse(readFileSync(known.file, 'utf8'));
  const { page, look, complaints, give } = await person(browser, outDir, `${story}-${name}-${lang}`, { locale: lang === 'ja' ? 'ja-JP' : 'en-GB', ...options });
  uses += 1000;
  await give({ credentialId: standard(file.id), isResidentCredential: true, rpId: new URL(file.url).hostname, privateKey: standard(file.key), userHandle: standard('AAAA'), signCount: uses, backupEligibility: true, backupState: true });
  let session;
  page.on('request', (request) => {
    if (request.method() === 'POST' && request.url().includes('/sap/v1/office/')) session = request.postDataJSON().session ?? session;
  });
  let seen = false;
  const logIn = async () => {
    await page.goto(ready.console);
    await page.locator('#account').fill(name);
    if (!seen) await look('log-in');
    seen = true;
    await page.locator('#log-in ~ .actions button[type=submit]').click();
    await page.locator('#prove').click();
    await page.locator('#log-out').waitFor();
  };
  /** Asks beside the page what its own session gets: `{status, content}`. */
  const post = (path, body = {}) => page.evaluate(async ([url, text]) => {
    const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: text });
    return { status: answer.status, content: await answer.json().catch(() => null) };
  }, [`/sap/v1/office/${path}`, JSON.stringify({ session, ...body })]);
  return { page, look, logIn, complaints, post, account: known.account };
};
