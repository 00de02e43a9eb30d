// Login passkeys: asks for a challenge when the page has come, calls the authenticator as the first statement of a click,
// and sends what it answered with an ordinary form. Without this script the other forms of the page still work.

/** Faster than any prompt: the browser can't do it here. */
const TOO_FAST = 300;
/** A challenge is renewed after this long, before the service forgets it; in milliseconds. */
const RENEW = 240_000;

const b64u = (buffer) =>
  btoa(Array.from(new Uint8Array(buffer), (b) => String.fromCharCode(b)).join(''))
    .replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
const fromB64u = (text) =>
  Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));

const credentials = (list) =>
  list.map(({ id, transports }) => ({ type: 'public-key', id: fromB64u(id), transports: transports.length ? transports : undefined }));

const ways = {
  login: {
    options: ({ challenge, rp_id }) => ({ challenge: fromB64u(challenge), rpId: rp_id, userVerification: 'required', timeout: 120_000 }),
    call: (publicKey, signal) => navigator.credentials.get({ publicKey, signal }),
    fields: ({ rawId, response }) => ({
      id: b64u(rawId),
      auth_data: b64u(response.authenticatorData),
      client_data: b64u(response.clientDataJSON),
      sig: b64u(response.signature),
      user: response.userHandle ? b64u(response.userHandle) : '',
    }),
  },
  register: {
    options: ({ challenge, rp_id, service, user, user_name, exclude }) => ({
      challenge: fromB64u(challenge),
      rp: { id: rp_id, name: service },
      user: { id: fromB64u(user), name: user_name, displayName: user_name },
      pubKeyCredParams: [-7, -8, -257].map((alg) => ({ type: 'public-key', alg })),
      authenticatorSelection: { residentKey: 'required', requireResidentKey: true, userVerification: 'required' },
      attestation: 'none',
      excludeCredentials: credentials(exclude),
      timeout: 120_000,
    }),
    call: (publicKey, signal) => navigator.credentials.create({ publicKey, signal }),
    fields: ({ rawId, response }) => ({
      id: b64u(rawId),
      client_data: b64u(response.clientDataJSON),
      attestation: b64u(response.attestationObject),
      transports: (response.getTransports?.() ?? []).slice(0, 8).join(' '),
    }),
  },
};

function offer(form) {
  const way = ways[form.dataset.passkey];
  const button = form.querySelector('button');
  const said = form.querySelector('[data-said]');
  let asked;
  let options;
  let abort;
  const say = (which) => {
    said.textContent = which ? said.dataset[which] : '';
    said.hidden = !which;
  };

  async function renew() {
    const body = new URLSearchParams({ token: form.elements.token.value, ceremony: form.dataset.passkey });
    const answer = await fetch('/passkeys/begin', { method: 'POST', body });
    if (!answer.ok) throw new Error(String(answer.status));
    const told = await answer.json();
    options = way.options(told);
    form.elements.challenge.value = told.challenge;
    asked = Date.now();
  }

  const old = () => !options || Date.now() - asked > RENEW;
  const keep = () => old() && !document.hidden && renew().catch(() => undefined);

  button.addEventListener('click', () => {
    if (old()) {
      say('later');
      renew().then(() => say('again'), () => say('later'));
      return;
    }
    abort?.abort();
    abort = new AbortController();
    const pressed = performance.now();
    const mine = abort;
    way.call(options, mine.signal).then(
      (made) => {
        for (const [name, value] of Object.entries(way.fields(made))) form.elements[name].value = value;
        form.submit();
      },
      (error) => {
        if (mine.signal.aborted) return;
        const fast = performance.now() - pressed < TOO_FAST;
        if (error.name === 'InvalidStateError') say('known');
        else say(fast ? 'impossible' : 'cancelled');
      },
    );
  });
  document.addEventListener('visibilitychange', keep);
  setInterval(keep, RENEW / 4);
  // Shown at once; a press before the challenge has come says so.
  form.hidden = false;
  return renew().catch(() => undefined);
}

/** Tells the authenticator which of its passkeys are still good here, where the browser can. */
function tidy(list) {
  const { rpId, userId, ids } = list.dataset;
  const allAcceptedCredentialIds = ids.split(' ').filter((id) => id);
  PublicKeyCredential.signalAllAcceptedCredentials?.({ rpId, userId, allAcceptedCredentialIds })?.catch(() => undefined);
}

if (globalThis.PublicKeyCredential && navigator.credentials) {
  document.querySelectorAll('form[data-passkey]').forEach(offer);
  document.querySelectorAll('[data-user-id]').forEach(tidy);
}
