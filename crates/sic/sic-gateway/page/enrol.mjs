// The enrolment page: binds the person's passkey, or PIN and authenticator app, by a voucher.

import { Refused, sameShown, verifyAct } from './act.mjs';
import { b64u, fromB64u, open, seal, sealPair, sha256 } from './jose.mjs';
import { Lost, No, call, config, loadConfig, samKeys } from './net.mjs';
import * as passkey from './passkey.mjs';
import * as provider from './provider.mjs';
import { qrSvg } from './qr.mjs';
import { announce, brand, clean, el, facts, field, foreign, group4, loadTexts, message, now, s, show, stamp, t, title } from './ui.mjs';

const MIN_PIN = 8;
const KEY_NAMES = {
  'rsa-2048': 'RSA 2048', 'rsa-3072': 'RSA 3072', 'rsa-4096': 'RSA 4096', 'p-256': 'ECDSA P-256', 'p-384': 'ECDSA P-384',
  ed25519: 'Ed25519',
};

let voucher;
let secret;
let session;
let timer;
let notice;
/** What ends the wait for a provider. */
let asking;

async function openVoucher(previous) {
  clearTimeout(timer);
  const keys = await samKeys();
  const answer = await call('enrol/open', { voucher });
  const { act, digest } = await verifyAct(answer.act, keys, 'enrol', now());
  if (act.voucher !== voucher || act.rp_id !== config.rp_id) throw new Refused('error-act-not-genuine');
  session = { act, digest, keys, exclude: answer.exclude, providers: answer.providers ?? [] };
  timer = setTimeout(expired, Math.max(0, act.exp * 1000 - Date.now()));
  if (previous && !sameShown(previous, act)) return choose(message('note', t('sic-changed')));
  return undefined;
}

const sealFor = (members) => {
  const act = b64u(session.digest);
  return seal(JSON.stringify({ act, secret, ...members }), session.keys.seal, 'natsuin-sad+jwe', session.digest);
};

const place = (node) => {
  notice.hidden = !node;
  notice.replaceChildren(...(node ? [node] : []));
  if (node) node.focus();
};

/** Who enrols, what is made, and the two ways. */
async function choose(said) {
  const { act, digest, exclude } = session;
  const office = act.person.id.startsWith('officer.') ? 'sic-enrol-by-office-account' : 'sic-enrol-by-office';
  const by = { ra: 'sic-enrol-by-ra', ssa: 'sic-enrol-by-ssa', office }[act.by];
  title(s('sic-enrol-ask'));
  notice = el('div', { hidden: true });
  const bytes = await sha256('natsuin-user-v1\n', act.person.id);
  const name = s('sic-passkey-user', { name: clean(act.person.name) });
  const user = { id: bytes, name, displayName: name };
  const options = passkey.createOptions(digest, config.rp_id, s('sic-passkey-service'), user, exclude, act.level === 3);
  const canPasskey = act.methods.includes('passkey') && passkey.possible();
  const collected = act.methods.includes('collected');
  const providers = act.methods.includes('idp') ? session.providers : [];
  const canPin = collected || act.methods.includes('pin-totp');
  const make = () => {
    const abort = new AbortController();
    const pending = passkey.create(options, abort);
    place(el('p', { class: 'dot', role: 'status', tabindex: '-1' }, t('sic-wait-device')));
    pending.then((made) => register({}, made), (error) => {
      if (error.fast && error.message !== 'InvalidStateError') return place(inAppNote());
      return place(message('note', t('sic-enrol-cancelled'), t('sic-enrol-cancelled-do')));
    });
  };
  show(
    brand(act),
    el('h1', {}, t('sic-enrol-ask')),
    el('p', { class: 'lead' }, t('sic-enrol-lead')),
    el('section', { class: 'card' }, facts([
      [t('sic-enrol-for'), el('strong', {}, foreign(act.person.name))],
      [t('sic-enrol-by'), t(by)],
      act.keys.length > 0 && [t('sic-enrol-keys'), act.keys.map((k) => KEY_NAMES[k] ?? k).join(', ')],
      [t('sic-enrol-ceiling'), t('sic-level', { n: act.level })],
      act.replaces && [t('sic-leave-keys'), el('ul', {}, act.replaces.keys.map((k) => el('li', {}, foreign(k.subject || k.id))))],
    ]), act.replaces && el('p', { class: 'note' }, t('sic-enrol-replaces')),
    act.exportable && el('p', { class: 'note' }, t('sic-enrol-exportable')),
    act.one_time && el('p', { class: 'note' }, t('sic-enrol-one-time')), el('p', { class: 'hint' }, t('sic-enrol-not-me'))),
    notice,
    canPasskey && el('section', { class: 'card' },
      el('h2', {}, t('sic-enrol-passkey')),
      el('p', {}, t('sic-enrol-passkey-what')),
      el('p', { class: 'hint' }, t('sic-enrol-passkey-next')),
      el('button', { type: 'button', id: 'make-passkey', onclick: make }, t('sic-enrol-passkey'))),
    canPin && el('section', { class: 'card' },
      el('h2', {}, t('sic-enrol-pin')),
      el('p', {}, t(collected ? 'sic-enrol-collected' : 'sic-enrol-pin-what')),
      el('button', { class: canPasskey ? 'plain' : null, type: 'button', id: 'use-pin', onclick: usePin }, t('sic-enrol-pin'))),
    providers.map((hint, n) => el('section', { class: 'card' },
      el('h2', {}, t('sic-enrol-provider', { name: foreign(hint.name) })),
      el('p', {}, t('sic-enrol-provider-what')),
      el('button', { class: canPasskey || canPin ? 'plain' : null, type: 'button', id: `use-provider-${n}`, onclick: () => useProvider(hint) },
        t('sic-enrol-provider', { name: foreign(hint.name) })))),
    !canPasskey && !canPin && !providers.length && inAppNote(),
    el('p', { class: 'small quiet' }, t('sic-enrol-lost')),
  );
  place(said);
}

const inAppNote = () => message('note', t('error-in-app-browser'), t('error-in-app-browser-do'));

/** Binds the person's account at a provider: its word about this enrolment. */
function useProvider(hint) {
  // Whoever presses again waits for the new answer alone.
  asking?.abort();
  const abort = new AbortController();
  asking = abort;
  const pending = provider.ask(hint, session.digest, abort);
  place(el('p', { class: 'dot', role: 'status', tabindex: '-1' }, t('sic-wait-provider')));
  pending.then((word) => register({}, null, word), () => {
    if (asking === abort) place(message('note', t('sic-provider-no'), t('sic-provider-no-do')));
  });
}

async function usePin() {
  place(el('p', { class: 'dot', role: 'status', tabindex: '-1' }, t('sic-loading')));
  try {
    // Typing and scanning take a while: begin them with a fresh act.
    if (session.act.exp - now() < 240) {
      const before = session.act;
      await openVoucher(before);
      if (!sameShown(before, session.act)) return;
    }
    const pair = await sealPair();
    const answer = await call('enrol/seed', { act: b64u(session.digest), sealed: await sealFor({}), key: pair.jwk });
    const seed = JSON.parse(await open(answer.sealed, pair, 'natsuin-seed+jwe', session.digest));
    pinForm(seed);
  } catch (error) {
    failed(error, 'sic-enrol-refused-passkey-do');
  }
}

function pinForm(seed) {
  const hidden = { type: 'password', autocomplete: 'new-password', autocapitalize: 'off', spellcheck: 'false', maxlength: '64' };
  const pin = field('pin', t('sic-pin'), t('sic-enrol-pin-rule', { n: MIN_PIN }), hidden);
  const again = field('pin2', t('sic-enrol-pin-again'), null, hidden);
  const otp = field('otp', t('sic-enrol-otp'), null, { type: 'text', inputmode: 'numeric', autocomplete: 'one-time-code', maxlength: '6', class: 'codeish' });
  const send = (event) => {
    event.preventDefault();
    const checks = [
      [pin, [...pin.input.value].length < MIN_PIN && s('sic-pin-short', { n: MIN_PIN })],
      [again, pin.input.value !== again.input.value && s('sic-enrol-pin-differs')],
      [otp, !/^[0-9]{6}$/.test(otp.input.value) && s('sic-otp-form')],
    ];
    const wrong = checks.filter(([f, text]) => !f.fail(text)).map(([f]) => f);
    if (wrong.length) return wrong[0].input.focus();
    return register({ pin: pin.input.value, otp: otp.input.value });
  };
  title(s('sic-enrol-pin'));
  notice = el('div', { hidden: true });
  const code = qrSvg(seed.uri, s('sic-enrol-qr'));
  show(
    el('h1', {}, t('sic-enrol-pin')),
    el('form', { class: 'stack-l', novalidate: true, onsubmit: send },
      el('section', { class: 'card' }, el('h2', {}, t('sic-enrol-pin-new')), pin.node, again.node),
      el('section', { class: 'card' },
        el('h2', {}, t('sic-enrol-app')),
        el('p', {}, t('sic-enrol-app-how')),
        code && el('div', { class: 'qr' }, code),
        el('p', { class: 'label' }, t('sic-enrol-seed')),
        el('code', { class: 'code', id: 'seed' }, group4(seed.seed)),
        otp.node),
      el('div', { class: 'actions' },
        notice,
        el('button', { id: 'enrol', type: 'submit' }, t('sic-enrol-send')),
        el('button', { class: 'plain', type: 'button', onclick: () => choose() }, t('sic-enrol-other')))),
  );
  notice.className = 'full';
  pin.input.focus();
}

async function register(secrets, made, word) {
  place(el('p', { class: 'dot', role: 'status', tabindex: '-1' }, t('sic-sending')));
  try {
    const sealed = await sealFor(secrets);
    await call('enrol/register', { act: b64u(session.digest), sealed, ...(made && { passkey: made }), ...(word && { id_token: word }) });
    done();
  } catch (error) {
    failed(error, made ? 'sic-enrol-refused-passkey-do' : 'sic-enrol-refused-do');
  }
}

function done() {
  clearTimeout(timer);
  title(s('sic-enrol-done'));
  const link = el('a', { class: 'button', href: session.act.return, hidden: true }, t('sic-enrol-back'));
  show(el('h1', {}, t('sic-enrol-done')), link);
  announce(s('sic-enrol-done'));
  setTimeout(() => { link.hidden = false; }, 3000);
  location.replace(session.act.return);
}

function failed(error, todo) {
  if (error instanceof Lost) return place(message('alarm', t('sic-enrol-unknown'), t('sic-enrol-unknown-do')));
  if (error instanceof Refused) return place(message('alarm', t(error.code), t(`${error.code}-do`)));
  if (error instanceof No && error.code === 'refused') {
    const unmet = error.requirement && el('p', { class: 'small' }, el('code', {}, clean(error.requirement)));
    return place(message('alarm', t('sic-enrol-refused'), t(todo), unmet));
  }
  if (error instanceof No && error.code === 'expired') return expired();
  return fatal(error);
}

function expired() {
  clearTimeout(timer);
  title(s('sic-enrol-expired'));
  show(
    el('h1', {}, t('sic-enrol-expired')),
    el('p', {}, t('sic-enrol-expired-do')),
    el('div', { class: 'row' }, el('button', { type: 'button', onclick: again }, t('sic-prepare-again'))),
  );
  announce(s('sic-enrol-expired'));
}

async function again() {
  try {
    const before = session.act;
    await openVoucher(before);
    if (sameShown(before, session.act)) await choose(message('note', t('sic-same-again')));
  } catch (error) {
    fatal(error);
  }
}

const ENDINGS = {
  used: 'sic-enrol-used', locked: 'sic-enrol-locked', 'not-now': 'error-service-not-signing',
};

function fatal(error) {
  clearTimeout(timer);
  const code =
    error instanceof No ? (ENDINGS[error.code] ?? 'sic-enrol-not-found')
    : error instanceof Refused ? error.code
    : error instanceof Lost ? 'sic-unreachable'
    : 'error-act-not-genuine';
  const ref = el('code', {}, clean(voucher ?? '').slice(0, 12));
  title(s(code));
  show(
    el('h1', {}, t(code)),
    el('p', {}, t(`${code}-do`, { ref })),
    config?.help && el('div', { class: 'row' }, el('a', { class: 'button plain', href: config.help }, t('sic-open-portal'))),
    el('p', { class: 'small quiet' }, t('reference', { ref: ref.cloneNode(true) }), ' · ', stamp(now())),
  );
}

async function main() {
  await loadTexts();
  for (const link of document.querySelectorAll('a.lang')) link.href += location.hash;
  try {
    await loadConfig();
    const parts = /^#([A-Za-z0-9._-]{1,64})\.([A-Za-z0-9_-]{22})$/.exec(location.hash);
    if (!parts || fromB64u(parts[2]).length !== 16) throw new Refused('sic-no-link');
    [, voucher, secret] = parts;
    await openVoucher(null);
    await choose();
  } catch (error) {
    fatal(error);
  }
}

addEventListener('hashchange', () => location.reload());
main();
