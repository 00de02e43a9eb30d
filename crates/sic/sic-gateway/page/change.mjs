// Acts about a person's keys and ways to approve: what they mean, in plain words with their consequence.

import { b64u, open, seal, sealPair, thumbprint } from './jose.mjs';
import { call, config } from './net.mjs';
import * as passkey from './passkey.mjs';
import * as provider from './provider.mjs';
import { qrSvg } from './qr.mjs';
import { clean, el, facts, field, foreign, group4, hex, message, s, stamp, t } from './ui.mjs';

const MIN_PIN = 8;
const KEY_NAMES = {
  'rsa-2048': 'RSA 2048', 'rsa-3072': 'RSA 3072', 'rsa-4096': 'RSA 4096', 'p-256': 'ECDSA P-256', 'p-384': 'ECDSA P-384',
  ed25519: 'Ed25519',
};
const CASES = { '2-i': 'sic-import-ca', '2-ii': 'sic-import-ca-signer', '3-i': 'sic-import-own' };

/** The word that the texts of this act end with. */
export function nameOf(act) {
  if (act.kind !== 'factor') return act.kind;
  const { do: what, method } = act.change;
  return what === 'add' ? `add-${method}` : what;
}

/** What is asked, in plain words: heading, consequence, the key, and what happened before. */
export function changeBody(act) {
  const name = nameOf(act);
  const when = (seconds) => (seconds === null ? t('sic-never') : stamp(seconds));
  const since = act.since;
  const changed = since.act !== null || since.factors !== null || since.keys !== null;
  const keyRows = (key) => [
    [t('sic-cert'), key.subject ? foreign(key.subject) : t('sic-no-cert')],
    [t('sic-key'), act.alg && `${KEY_NAMES[act.alg] ?? clean(act.alg)} `, el('code', { class: 'quiet' }, clean(key.id))],
  ];
  return [
    el('h1', {}, t(`sic-ask-${name}`)),
    el('p', { class: 'lead' }, t(`sic-means-${name}`)),
    FINAL.includes(name) && el('p', { class: 'note' }, t('sic-final')),
    el('section', { class: 'card' }, facts([
      [t('sic-person'), foreign(act.person.name)],
      ...(act.key ? keyRows(act.key) : []),
      ...(act.kind === 'import' ? importRows(act) : []),
      act.keys && [t('sic-leave-keys'), el('ul', {}, act.keys.map((k) => el('li', {}, foreign(k.subject || k.id))))],
      act.factors && [t('sic-leave-factors'), String(act.factors.length)],
      [t('sic-since-act'), when(since.act)],
      [t('sic-since-factors'), when(since.factors)],
      [t('sic-since-keys'), when(since.keys)],
    ]), changed && el('p', { class: 'hint' }, t('sic-since-hint'))),
  ];
}

const importRows = (act) => [
  [t('sic-import-key'), `${KEY_NAMES[act.alg] ?? clean(act.alg)} `, el('code', { class: 'quiet', id: 'spki' }, group4(act.spki))],
  [t('sic-import-case'), t(CASES[act.case])],
  [t('sic-import-level'), t('sic-level', { n: act.level })],
  [t('sic-import-until'), stamp(act.until)],
];

const FINAL = ['destroy', 'leave', 'hand-over'];

/** Whether something has to be done before the proof: something new is made, or compared. */
export const makesNew = (act) =>
  act.kind === 'hand-over' || (act.kind === 'factor' && ['add', 'add-device', 'pin'].includes(act.change.do));

/** What the key of a receiver or device is told by: 80 bits of its thumbprint. */
export const keyCode = async (jwk) => hex((await thumbprint(jwk)).slice(0, 10));

/** The step before. `done(fresh)` gets what is sent along with the proof, `failed(error)` what went wrong. */
export async function makeNew(session, done, failed) {
  const { act, digest, keys, exclude } = session;
  if (act.kind === 'hand-over') return receiverStep(await keyCode(act.receiver), done);
  if (act.change.do === 'add' && act.change.method === 'passkey') return passkeyStep(session, done);
  if (act.change.do === 'add' && act.change.method === 'idp') return providerStep(session, done);
  let seed = null;
  if (act.change.do === 'add') {
    try {
      const pair = await sealPair();
      const answer = await call('factor/seed', { act: b64u(digest), key: pair.jwk });
      seed = JSON.parse(await open(answer.sealed, pair, 'natsuin-seed+jwe', digest));
    } catch (error) {
      return failed(error);
    }
  }
  const code = act.change.do === 'add-device' && (await keyCode(act.change.key));
  return pinStep({ digest, keys }, seed, code, done);
}

async function passkeyStep({ act, digest, exclude }, done) {
  const bytes = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(`natsuin-user-v1\n${act.person.id}`)));
  const name = s('sic-passkey-user', { name: clean(act.person.name) });
  const user = { id: bytes, name, displayName: name };
  const options = passkey.createOptions(digest, config.rp_id, s('sic-passkey-service'), user, exclude, act.level === 3);
  const notice = el('div', {});
  const make = () => {
    const pending = passkey.create(options, new AbortController());
    notice.replaceChildren(el('p', { class: 'dot', role: 'status' }, t('sic-wait-device')));
    pending.then((registration) => done({ method: 'passkey', registration }), () => {
      notice.replaceChildren(message('note', t('sic-enrol-cancelled'), t('sic-enrol-cancelled-do')));
    });
  };
  return el('section', { class: 'card' },
    el('p', {}, t('sic-new-passkey-first')), notice,
    el('button', { id: 'make-new', type: 'button', onclick: make }, t('sic-enrol-passkey')));
}

function providerStep({ digest, newProviders }, done) {
  const notice = el('div', {});
  const ask = (hint) => {
    const pending = provider.ask(hint, digest, new AbortController());
    notice.replaceChildren(el('p', { class: 'dot', role: 'status' }, t('sic-wait-provider')));
    pending.then((word) => done({ method: 'idp', id_token: word }), () => {
      notice.replaceChildren(message('note', t('sic-provider-no'), t('sic-provider-no-do')));
    });
  };
  return el('section', { class: 'card' },
    el('p', {}, t('sic-new-provider-first')), notice,
    newProviders.map((hint, n) =>
      el('button', { id: n ? `make-new-${n}` : 'make-new', type: 'button', onclick: () => ask(hint) }, t('sic-enrol-provider', { name: foreign(hint.name) }))));
}

/** A page can be told any key: the person brings its code from the program that has the key, and it is compared here. */
const codeField = (id, label, hint) => field(id, label, hint, {
  type: 'text', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', maxlength: '40', class: 'codeish',
});
const isCode = (given, code) => given.input.value.replace(/\s/g, '').toLowerCase() === code;

function receiverStep(code, done) {
  const given = codeField('receiver', t('sic-receiver'), t('sic-receiver-hint'));
  const compare = (event) => {
    event.preventDefault();
    if (!given.fail(!isCode(given, code) && s('sic-receiver-other'))) return given.input.focus();
    return done(null);
  };
  return el('form', { class: 'card', id: 'new-form', novalidate: true, onsubmit: compare },
    given.node, el('button', { id: 'make-new', type: 'submit' }, t('sic-next')));
}

function pinStep({ digest, keys }, seed, code, done) {
  const device = code && codeField('device', t('sic-device'), t('sic-device-hint'));
  const hidden = { type: 'password', autocomplete: 'new-password', autocapitalize: 'off', spellcheck: 'false', maxlength: '64' };
  const pin = field('new-pin', t('sic-new-pin'), t('sic-enrol-pin-rule', { n: MIN_PIN }), hidden);
  const again = field('new-pin2', t('sic-enrol-pin-again'), null, hidden);
  const otp = seed && field('new-otp', t('sic-enrol-otp'), null, { type: 'text', inputmode: 'numeric', autocomplete: 'one-time-code', maxlength: '6', class: 'codeish' });
  const send = async (event) => {
    event.preventDefault();
    const checks = [
      ...(device ? [[device, !isCode(device, code) && s('sic-device-other')]] : []),
      [pin, [...pin.input.value].length < MIN_PIN && s('sic-pin-short', { n: MIN_PIN })],
      [again, pin.input.value !== again.input.value && s('sic-enrol-pin-differs')],
      ...(otp ? [[otp, !/^[0-9]{6}$/.test(otp.input.value) && s('sic-otp-form')]] : []),
    ];
    const wrong = checks.filter(([f, text]) => !f.fail(text)).map(([f]) => f);
    if (wrong.length) return wrong[0].input.focus();
    const secrets = { act: b64u(digest), new_pin: pin.input.value, ...(otp && { otp: otp.input.value }) };
    const sealed = await seal(JSON.stringify(secrets), keys.seal, 'natsuin-sad+jwe', digest);
    pin.input.value = '';
    again.input.value = '';
    return done({ method: 'pin-totp', sealed });
  };
  const symbol = seed && qrSvg(seed.uri, s('sic-enrol-qr'));
  return el('form', { class: 'card', id: 'new-form', novalidate: true, onsubmit: send },
    device && device.node, pin.node, again.node,
    seed && [
      el('p', {}, t('sic-enrol-app-how')),
      symbol && el('div', { class: 'qr' }, symbol),
      el('p', { class: 'label' }, t('sic-enrol-seed')),
      el('code', { class: 'code', id: 'seed' }, group4(seed.seed)),
      otp.node,
    ],
    el('button', { id: 'make-new', type: 'submit' }, t('sic-next')));
}
