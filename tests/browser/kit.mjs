// What the browser stories share: a browser, people with authenticators, pictures of what they see, one-time codes.

import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const AXE = readFileSync(new URL('./node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');

export const PHONE = { viewport: { width: 390, height: 844 } };

/** How long the browser is waited for at each step, in ms: longer than a busy machine needs. */
export const PATIENCE = 120_000;

/** A browser that goes nowhere but to this machine. */
export const launch = () => chromium.launch({
  executablePath: '/usr/bin/chromium',
  timeout: PATIENCE,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP *.localhost 127.0.0.1'],
});

/** A one-time code (RFC 6238), `ahead` steps of 30 s from now. */
export function totp(base32, ahead = 0) {
  const bits = [...base32.replace(/\s/g, '')].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
  const seed = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30000) + ahead));
  const mac = createHmac('sha1', seed).update(counter).digest();
  const at = mac[19] & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

/** Waits until the present step of codes lasts so many seconds more, so that the code of the step before is still good when it arrives. */
export async function room(seconds) {
  const left = 30000 - (Date.now() % 30000);
  if (left < seconds * 1000) await new Promise((go) => { setTimeout(go, left); });
}

/** Asks again and again until something holds that no event tells of. */
export async function until(what, holds) {
  for (let waited = 0; !await holds(); waited += 100) {
    assert.ok(waited < PATIENCE, what);
    await new Promise((go) => { setTimeout(go, 100); });
  }
}

/** Nothing on the page keeps people out who see or point in another way, and nothing is wider than the screen. */
export async function accessible(page, where) {
  // The pages' own policy forbids foreign scripts; the debugger's evaluation isn't one.
  const found = await page.evaluate(`${AXE}; axe.run(document, { runOnly: ['wcag2a', 'wcag2aa'] })`);
  const bad = found.violations.filter((v) => ['serious', 'critical'].includes(v.impact));
  assert.deepEqual(bad.map((v) => `${v.id}: ${v.nodes[0].html}`), [], `${where}: accessible`);
  const wide = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
  assert.ok(wide <= 0, `${where}: ${wide} px wider than the screen`);
}

/**
 * A person with a browser and an authenticator: what the browser complained of, the policies it was given, and pictures
 * (`NAME-NN-WHAT.png` in `outDir`) of what it showed.
 */
export async function person(browser, outDir, name, options) {
  const context = await browser.newContext({ acceptDownloads: true, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (m) => m.type() === 'error' && complaints.push(m.text()));
  page.on('pageerror', (e) => complaints.push(String(e)));
  const policies = new Map();
  page.on('response', (r) => policies.set(r.url(), r.headers()['content-security-policy']));
  const cdp = await context.newCDPSession(page);
  await cdp.send('WebAuthn.enable');
  const { authenticatorId } = await cdp.send('WebAuthn.addVirtualAuthenticator', {
    options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
  });
  let n = 0;
  const look = async (what) => {
    n += 1;
    await page.waitForLoadState();
    await page.screenshot({ path: join(outDir, `${name}-${String(n).padStart(2, '0')}-${what}.png`), fullPage: true });
    await accessible(page, `${name} ${what}`);
  };
  const passkeys = async () => (await cdp.send('WebAuthn.getCredentials', { authenticatorId })).credentials;
  const give = async (credential) => {
    // As a passkey that is kept in step on several devices: what was known of it before is out of date.
    await cdp.send('WebAuthn.removeCredential', { authenticatorId, credentialId: credential.credentialId }).catch(() => {});
    await cdp.send('WebAuthn.addCredential', { authenticatorId, credential });
  };
  return { page, look, complaints, policies, passkeys, give };
}

/** Sends the form that the page is about. */
export const submit = (page) => page.locator('.actions button[type=submit]').first().click();
