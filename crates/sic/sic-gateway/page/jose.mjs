// JWS ES256 and JWE ECDH-ES/A256GCM on WebCrypto, with fixed headers. The same format as the Rust crate `jose`.

const utf8 = new TextEncoder();
const EC = { name: 'ECDSA', namedCurve: 'P-256' };
const DH = { name: 'ECDH', namedCurve: 'P-256' };

/** base64url without padding. */
export function b64u(bytes) {
  let text = '';
  for (const b of new Uint8Array(bytes)) text += String.fromCharCode(b);
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

/** Strict inverse of b64u: one text for one byte string. */
export function fromB64u(text) {
  if (typeof text !== 'string' || !/^[A-Za-z0-9_-]*$/.test(text)) throw new Error('not base64url');
  const raw = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  const bytes = Uint8Array.from(raw, (c) => c.charCodeAt(0));
  if (b64u(bytes) !== text) throw new Error('not base64url');
  return bytes;
}

export async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', concat(parts)));
}

function concat(parts) {
  const arrays = parts.map((p) => (typeof p === 'string' ? utf8.encode(p) : p));
  const out = new Uint8Array(arrays.reduce((n, a) => n + a.length, 0));
  let at = 0;
  for (const a of arrays) {
    out.set(a, at);
    at += a.length;
  }
  return out;
}

/** Whether `value` is an object with exactly these members. */
export function exactly(value, names) {
  return (
    value !== null &&
    typeof value === 'object' &&
    !Array.isArray(value) &&
    Object.keys(value).sort().join() === [...names].sort().join()
  );
}

function checkJwk(jwk) {
  const good =
    exactly(jwk, ['kty', 'crv', 'x', 'y']) &&
    jwk.kty === 'EC' &&
    jwk.crv === 'P-256' &&
    fromB64u(jwk.x).length === 32 &&
    fromB64u(jwk.y).length === 32;
  if (!good) throw new Error('not a P-256 key');
  return jwk;
}

/** RFC 7638 thumbprint of a P-256 key: 32 bytes. */
export async function thumbprint(jwk) {
  const { x, y } = checkJwk(jwk);
  return sha256(`{"crv":"P-256","kty":"EC","x":"${x}","y":"${y}"}`);
}

/** The unverified `kid` of a JWS, to find its key. */
export function kidOf(jws) {
  return JSON.parse(new TextDecoder().decode(fromB64u(String(jws).split('.')[0]))).kid;
}

/** Payload text of a compact JWS by this key with this type; throws for anything else. */
export async function verifyJws(jws, typ, jwk) {
  const parts = String(jws).split('.');
  if (parts.length !== 3) throw new Error('not a JWS');
  const kid = b64u(await thumbprint(jwk));
  // Headers have one form only, so comparing the text also refuses further and doubled members.
  if (parts[0] !== b64u(utf8.encode(JSON.stringify({ alg: 'ES256', typ, kid })))) throw new Error('other header');
  const key = await crypto.subtle.importKey('jwk', checkJwk(jwk), EC, false, ['verify']);
  const signed = utf8.encode(`${parts[0]}.${parts[1]}`);
  const good = await crypto.subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, key, fromB64u(parts[2]), signed);
  if (!good) throw new Error('not authentic');
  return new TextDecoder('utf-8', { fatal: true }).decode(fromB64u(parts[1]));
}

/** Concat KDF of SP 800-56A with SHA-256, one round (RFC 7518 §4.6.2). */
async function derive(privateKey, publicJwk, apu, apv, use) {
  const peer = await crypto.subtle.importKey('jwk', checkJwk(publicJwk), DH, false, []);
  const z = new Uint8Array(await crypto.subtle.deriveBits({ name: 'ECDH', public: peer }, privateKey, 256));
  const n = (value) => new Uint8Array([0, 0, value >> 8, value & 255]);
  const key = await sha256(n(1), z, n(7), 'A256GCM', n(32), apu, n(32), apv, n(256));
  return crypto.subtle.importKey('raw', key, 'AES-GCM', false, [use]);
}

async function publicOf(key) {
  const { kty, crv, x, y } = await crypto.subtle.exportKey('jwk', key);
  return { kty, crv, x, y };
}

/** A fresh key pair for messages to this page. */
export async function sealPair() {
  const pair = await crypto.subtle.generateKey(DH, false, ['deriveBits']);
  return { privateKey: pair.privateKey, jwk: await publicOf(pair.publicKey) };
}

/** Seals `text` for `recipient`; `apu` are the 32 bytes of what it belongs to. */
export async function seal(text, recipient, typ, apu) {
  const pair = await sealPair();
  const apv = await thumbprint(recipient);
  const kid = b64u(apv);
  const header = { alg: 'ECDH-ES', enc: 'A256GCM', typ, kid, epk: pair.jwk, apu: b64u(apu), apv: kid };
  const head = b64u(utf8.encode(JSON.stringify(header)));
  const key = await derive(pair.privateKey, recipient, apu, apv, 'encrypt');
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const params = { name: 'AES-GCM', iv, additionalData: utf8.encode(head) };
  const out = new Uint8Array(await crypto.subtle.encrypt(params, key, utf8.encode(text)));
  return `${head}..${b64u(iv)}.${b64u(out.slice(0, -16))}.${b64u(out.slice(-16))}`;
}

/** Opens what was sealed for `pair` with this type and context. */
export async function open(jwe, pair, typ, apu) {
  const [head, wrapped, iv, body, tag, ...more] = String(jwe).split('.');
  if (wrapped !== '' || tag === undefined || more.length) throw new Error('not a JWE');
  const header = JSON.parse(new TextDecoder().decode(fromB64u(head)));
  const apv = await thumbprint(pair.jwk);
  const good =
    exactly(header, ['alg', 'enc', 'typ', 'kid', 'epk', 'apu', 'apv']) &&
    header.alg === 'ECDH-ES' &&
    header.enc === 'A256GCM' &&
    header.typ === typ &&
    header.kid === b64u(apv) &&
    header.apv === b64u(apv) &&
    header.apu === b64u(apu);
  if (!good) throw new Error('other header');
  const key = await derive(pair.privateKey, header.epk, apu, apv, 'decrypt');
  const params = { name: 'AES-GCM', iv: fromB64u(iv), additionalData: utf8.encode(head) };
  const data = concat([fromB64u(body), fromB64u(tag)]);
  return new TextDecoder('utf-8', { fatal: true }).decode(await crypto.subtle.decrypt(params, key, data));
}
