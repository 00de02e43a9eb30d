// After an act of kind `import` was approved: the key is read here, proven, and sealed for the cryptographic module.

import { verifyImportKey } from './act.mjs';
import { b64u, seal, sha256 } from './jose.mjs';
import { No, call, config } from './net.mjs';
import { clean, el, message, now, s, stamp, t } from './ui.mjs';

/** What WebCrypto calls kinds of key: for importing, and for the proof of possession. */
const KINDS = {
  'p-256': [{ name: 'ECDSA', namedCurve: 'P-256' }, { name: 'ECDSA', hash: 'SHA-256' }],
  'rsa-2048': [{ name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, { name: 'RSASSA-PKCS1-v1_5' }],
  'rsa-3072': [{ name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, { name: 'RSASSA-PKCS1-v1_5' }],
  'rsa-4096': [{ name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, { name: 'RSASSA-PKCS1-v1_5' }],
  ed25519: [{ name: 'Ed25519' }, { name: 'Ed25519' }],
};
const MAX_FILE = 64 * 1024;

/** The file isn't the key that was approved. `code` is the id of a text. */
export class NotThisKey extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/** The bytes of a PKCS#8 file, PEM or DER. */
export function pkcs8Of(bytes) {
  const text = new TextDecoder('latin1').decode(bytes);
  const pem = /-----BEGIN PRIVATE KEY-----([\sA-Za-z0-9+/=]+)-----END PRIVATE KEY-----/.exec(text);
  if (pem) return Uint8Array.from(atob(pem[1].replace(/\s/g, '')), (c) => c.charCodeAt(0));
  if (text.includes('-----BEGIN')) throw new NotThisKey('sic-bring-form');
  return bytes;
}

/** `SEQUENCE {r, s}` from the two halves that WebCrypto gives (RFC 3279 §2.2.3). */
export function ecdsaDer(raw) {
  const integer = (half) => {
    let at = 0;
    while (at < half.length - 1 && half[at] === 0) at += 1;
    const sign = half[at] & 0x80 ? [0] : [];
    return [2, half.length - at + sign.length, ...sign, ...half.slice(at)];
  };
  const body = [...integer(raw.slice(0, raw.length / 2)), ...integer(raw.slice(raw.length / 2))];
  return Uint8Array.from([0x30, body.length, ...body]);
}

/** The message for the module with this private key: the key, and its proof for this person and act. */
export async function prove(pkcs8, act, digest) {
  const kind = KINDS[act.alg];
  if (!kind) throw new NotThisKey('sic-bring-kind');
  let spki;
  let own;
  let key;
  try {
    key = await crypto.subtle.importKey('pkcs8', pkcs8, kind[0], true, ['sign']);
    const { d, p, q, dp, dq, qi, key_ops, ...open } = await crypto.subtle.exportKey('jwk', key);
    const half = await crypto.subtle.importKey('jwk', open, kind[0], true, ['verify']);
    spki = new Uint8Array(await crypto.subtle.exportKey('spki', half));
    own = new Uint8Array(await crypto.subtle.exportKey('pkcs8', key));
  } catch {
    throw new NotThisKey('sic-bring-form');
  }
  const print = b64u(await sha256(spki));
  if (print !== act.spki) throw new NotThisKey('sic-bring-other');
  const bound = `natsuin-import-v1\n${act.sam}\n${act.person.id}\n${b64u(digest)}\n${print}`;
  const value = new Uint8Array(await crypto.subtle.sign(kind[1], key, new TextEncoder().encode(bound)));
  const proof = act.alg === 'p-256' ? ecdsaDer(value) : value;
  return JSON.stringify({
    sam: act.sam, owner: act.person.id, act: b64u(digest), pkcs8: b64u(own), spki: b64u(spki), proof: b64u(proof),
  });
}

/** What to do with an approved import: choose the file here, or use the command line; a CA brings its key itself. */
export function bringStep({ act, digest, keys }, done) {
  const code = el('code', { class: 'code', id: 'import-act' }, b64u(digest));
  const until = el('p', { class: 'small' }, t('sic-bring-until', { time: stamp(act.until) }));
  if (act.case === '2-i') {
    return [el('h1', {}, t('sic-bring-ca')), el('p', { class: 'lead' }, t('sic-bring-ca-do')), code, until,
      el('div', { class: 'actions' }, el('a', { class: 'button', href: act.return }, t('sic-go-on')))];
  }
  const file = el('input', { id: 'key-file', type: 'file', accept: '.pem,.key,.der,.p8' });
  const notice = el('div', {});
  const say = (node) => {
    notice.replaceChildren(node);
    node.focus?.();
  };
  const bring = async (event) => {
    event.preventDefault();
    const chosen = file.files[0];
    if (!chosen || chosen.size > MAX_FILE) return say(message('alarm', t('sic-bring-form'), t('sic-bring-form-do')));
    say(el('p', { class: 'dot', role: 'status' }, t('sic-sending')));
    try {
      const pkcs8 = pkcs8Of(new Uint8Array(await chosen.arrayBuffer()));
      const plain = await prove(pkcs8, act, digest);
      const { statement } = await call('import/key', { act: b64u(digest) });
      const to = await verifyImportKey(statement, config.roots, keys, now());
      const envelope = await seal(plain, to, 'natsuin-key+jwe', digest);
      await call('import', { act: b64u(digest), envelope });
      return done();
    } catch (error) {
      return say(trouble(error));
    }
  };
  return [
    el('h1', {}, t('sic-bring')), el('p', { class: 'lead' }, t('sic-bring-what')),
    el('form', { class: 'card', id: 'bring-form', onsubmit: bring },
      el('div', { class: 'field' }, el('label', { for: 'key-file' }, t('sic-bring-file')),
        el('p', { class: 'hint' }, t('sic-bring-hint')), file),
      notice, el('button', { id: 'bring', type: 'submit' }, t('sic-bring-send'))),
    el('section', { class: 'card' }, el('p', {}, t('sic-bring-cli')), code, until),
    el('div', { class: 'actions' }, el('a', { class: 'button plain', href: act.return }, t('sic-bring-later'))),
  ];
}

function trouble(error) {
  if (error instanceof NotThisKey) return message('alarm', t(error.code), t(`${error.code}-do`));
  if (error instanceof No && error.code === 'used') return message('note', t('sic-bring-used'));
  if (error instanceof No && error.requirement) {
    return message('alarm', t('sic-bring-refused'), t('sic-bring-refused-do'), el('p', { class: 'small' }, el('code', {}, clean(error.requirement))));
  }
  if (error instanceof No && error.code !== 'not-now') return message('alarm', t('sic-bring-over'), t('sic-bring-over-do'));
  if (error.code && !(error instanceof No)) return message('alarm', t(error.code), t(`${error.code}-do`));
  return message('alarm', t('sic-bring-again'), s('sic-bring-again-do'));
}
