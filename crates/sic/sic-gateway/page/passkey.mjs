// WebAuthn, as the first statement of a click handler: no awaiting before it.

import { b64u, fromB64u } from './jose.mjs';

/** Faster than any prompt: the browser can't do it here. */
const TOO_FAST = 300;

export const possible = () => Boolean(globalThis.PublicKeyCredential && navigator.credentials);
export const inApp = () => /\bLine\/|FBAN|FBAV|Instagram|MicroMessenger|; wv\)/.test(navigator.userAgent);

const allow = (hints) =>
  hints.map((h) => ({ type: 'public-key', id: fromB64u(h.id), transports: h.transports.length ? h.transports : undefined }));

function watched(promise, abort) {
  const began = performance.now();
  return promise.catch((error) => {
    const fast = performance.now() - began < TOO_FAST;
    throw Object.assign(new Error(error.name), { fast: fast && !abort.signal.aborted });
  });
}

/** Options of a later [`get`]; made before the click. */
export const getOptions = (digest, rpId, hints) => ({
  publicKey: {
    challenge: digest, rpId, allowCredentials: allow(hints), userVerification: 'required', timeout: 120000,
    hints: hints.every((h) => h.transports.includes('internal')) ? ['client-device'] : [],
  },
});

/** Starts the prompt at once; answers the members of the proof. */
export async function get(options, abort) {
  const made = await watched(navigator.credentials.get({ ...options, signal: abort.signal }), abort);
  return {
    id: b64u(made.rawId),
    authData: b64u(made.response.authenticatorData),
    clientData: b64u(made.response.clientDataJSON),
    sig: b64u(made.response.signature),
  };
}

export const createOptions = (digest, rpId, service, user, exclude, attested) => ({
  publicKey: {
    challenge: digest,
    rp: { id: rpId, name: service },
    user,
    pubKeyCredParams: [-7, -8, -257].map((alg) => ({ type: 'public-key', alg })),
    authenticatorSelection: { residentKey: 'required', requireResidentKey: true, userVerification: 'required' },
    attestation: attested ? 'direct' : 'none',
    excludeCredentials: allow(exclude),
    timeout: 120000,
  },
});

/** Starts the prompt at once; answers the registration. */
export async function create(options, abort) {
  const made = await watched(navigator.credentials.create({ ...options, signal: abort.signal }), abort);
  return {
    id: b64u(made.rawId),
    clientData: b64u(made.response.clientDataJSON),
    attestation: b64u(made.response.attestationObject),
    transports: (made.response.getTransports?.() ?? []).slice(0, 8),
  };
}
