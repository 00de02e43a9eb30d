// The life of a key after its first signature, as a part of a person's story: stopped in one tap, resumed with full proof, a
// second way to approve, the pages for keys that come, and the end.

import assert from 'node:assert/strict';
import { totp } from './kit.mjs';

/**
 * What `person` can do at the page for stops and changes. `prove` gives the proof on the SIC's page, up to the button.
 * Without `strong` the person has nothing that counts as much as a passkey.
 */
export async function life({ page, look }, ready, prove, strong) {
  const go = async () => {
    await page.goto(`${ready.portal}/signing`);
    await page.locator('section.card').first().waitFor();
  };
  const key = page.locator('section.card', { has: page.locator('.status') }).first();
  const factors = page.locator('section.card', { has: page.locator('a[href^="/signing/device/"]') });
  const wish = (where, what) => where.locator(`form:has(input[name=do][value=${what}]) button`);
  const stop = key.locator('form[action="/signing/stop"] button');
  const toSic = async (button) => {
    await button.click();
    await page.waitForURL(`${ready.sic}/a**`);
    await page.locator('#refuse').waitFor();
  };
  const approve = async () => {
    await prove();
    await page.locator('#approve').click();
    await page.waitForURL(`${ready.portal}/**`);
    await go();
  };

  // Stopping takes one tap, and no proof.
  await go();
  await look('life');
  await stop.click();
  await wish(key, 'resume').waitFor();
  await look('stopped');
  assert.equal(await stop.count(), 0);
  // Resuming is asked of the SAM and takes the whole proof, which the person can refuse.
  await toSic(wish(key, 'resume'));
  await look('resume');
  await page.locator('#refuse').click();
  await page.waitForURL(`${ready.portal}/**`);
  await go();
  assert.equal(await stop.count(), 0, 'still stopped');
  await toSic(wish(key, 'resume'));
  await approve();
  assert.equal(await stop.count(), 1, 'it signs again');
  await look('resumed');

  // Nobody is led to make a passkey that the SAM wouldn't take.
  assert.equal(await wish(factors, 'factor-add-passkey').count(), strong ? 1 : 0);
  if (!strong) return;

  // A PIN beside the passkey: made on the SIC's page, and allowed by the proof of what is there.
  await toSic(wish(factors, 'factor-add-pin-totp'));
  const seed = (await page.locator('#seed').innerText()).replace(/\s/g, '');
  await page.fill('#new-pin', 'another long pin');
  await page.fill('#new-pin2', 'another long pin');
  await page.fill('#new-otp', totp(seed));
  await look('add-pin');
  await page.locator('#make-new').click();
  await approve();
  assert.equal(await wish(factors, 'factor-remove').count(), 2);
  await look('added');

  // What a key from elsewhere needs, and a device's: a public key that isn't one is told, and loses nothing.
  await factors.locator('a[href^="/signing/import/"]').click();
  await page.waitForURL('**/signing/import/**');
  await look('import');
  await go();
  await factors.locator('a[href^="/signing/device/"]').click();
  await page.waitForURL('**/signing/device/**');
  await look('device');
  await page.fill('#key', '{"kty": "EC"}');
  await page.locator('form[action="/signing/device"] button').click();
  await page.locator('h1').waitFor();
  await look('device-refused');
  await go();

  // The end of a key says that it is one.
  await toSic(wish(key, 'destroy'));
  await look('destroy');
  await approve();
  assert.equal(await key.locator('form').count(), 0, 'nothing can be asked of it any more');
  await look('destroyed');
}
