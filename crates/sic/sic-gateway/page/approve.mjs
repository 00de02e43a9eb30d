// The approval page: the only place where a signature, or a change of a key or of the ways to approve, is approved.

import { APPROVED_HERE, Refused, sameShown, verifyAct } from './act.mjs';
import { changeBody, makeNew, makesNew, nameOf } from './change.mjs';
import { b64u, fromB64u, seal, sha256 } from './jose.mjs';
import { Lost, No, call, config, loadConfig, samKeys } from './net.mjs';
import * as passkey from './passkey.mjs';
import * as provider from './provider.mjs';
import { listOf } from './list.mjs';
import {
  announce, brand, clean, clock, el, facts, field, foreign, loadTexts, message, now, pause, s, show, stamp, t, title,
} from './ui.mjs';

const MIN_PIN = 8;

let rid;
let session;
let way;
let declined = 0;
let timers = [];
let bar;
let form;

/** What will be signed isn't known yet, and nobody is shown it. */
const open = () => session.act.kind === 'sign-open';
const count = () => (open() ? session.act.count : session.act.items.length);
const signs = () => session.act.kind === 'sign' || open();
/** Text of a button or notice: of this number of documents, or of this kind of change. */
const label = (id) => (signs() ? byNumber(id) : t(`sic-do-${nameOf(session.act)}`));
const ofKind = (id) => (signs() ? id : `${id}-change`);
const byNumber = (id) => (open() ? t(`${id}-open`, { n: count() }) : count() === 1 ? t(`${id}-one`) : t(`${id}-many`, { n: count() }));
const ways = () => session.methods.filter((m) => {
  if (m === 'passkey') return passkey.possible() && session.passkeys.length;
  return m === 'pin-totp' || (m === 'idp' && session.providers.length);
});

async function openRequest(previous) {
  timers.forEach(clearTimeout);
  const keys = await samKeys();
  const answer = await call('open', { rid });
  const { act, digest } = await verifyAct(answer.act, keys, APPROVED_HERE, now());
  session = { act, digest, keys, methods: answer.methods, passkeys: answer.passkeys, exclude: answer.exclude ?? [], providers: answer.providers ?? [], newProviders: answer.new_providers ?? [], made: false, fresh: null };
  const usable = ways();
  if (!usable.includes(way)) way = usable[0];
  const left = (seconds) => Math.max(0, (act.exp - seconds) * 1000 - Date.now());
  timers = [setTimeout(expired, left(0)), setTimeout(() => announce(s('sic-one-minute')), left(60))];
  const same = previous && sameShown(previous, act);
  ready(previous && message('note', t(same ? 'sic-same-again' : 'sic-changed')));
  if (previous && !same) scrollTo(0, 0);
}

/** Shows everything that is approved, and the ways to say yes or no. */
function ready(notice) {
  if (!signs()) return readyChange(notice);
  const { act } = session;
  const { client, key } = act;
  const heading = byNumber('sic-ask');
  const asked = open() ? 'sic-ask-open' : count() === 1 ? 'sic-ask-one' : 'sic-ask-many';
  title(`${s(asked, { n: count() })}: ${clean(client.name)}`);
  bar = el('div', { class: 'actions' });
  form = way === 'pin-totp' ? pinForm() : null;
  const changed = Object.values(act.since).some((time) => time !== null);
  const when = (seconds) => (seconds === null ? t('sic-never') : stamp(seconds));
  show(
    brand(act),
    el('h1', {}, heading),
    el('p', { class: 'lead row spread' }, el('span', {}, t('sic-from', { client: foreign(client.name) })),
      el('span', { class: 'small' }, t('sic-until', { time: el('span', { class: 'num' }, clock(act.exp)) }))),
    !client.known && message('note', t('sic-client-unknown', { client: foreign(client.name) })),
    open() ? openNote(act) : el('div', { class: 'stack' }, listOf(act.items),
      el('p', { class: 'small quiet' }, t(client.signed && client.known ? 'sic-signed-by-client' : 'sic-list-from-service'))),
    el('section', { class: 'card' }, facts([
      [t('sic-person'), foreign(act.person.name)],
      [t('sic-key'), el('span', {}, t('sic-level', { n: act.level })), ' ', el('code', { class: 'quiet' }, clean(key.id))],
      act.declared && [t('sic-declared'), t('sic-declared-by', { what: foreign(act.declared.join(', ')) })],
      [t('sic-cert'), foreign(key.subject)],
      [t('sic-count'), byNumber('sic-count')],
      Boolean(act.renew) && [t('sic-renew'), t('sic-renew-until', { time: stamp(act.renew) })],
      [t('sic-since-act'), when(act.since.act)],
      [t('sic-since-factors'), when(act.since.factors)],
      [t('sic-since-keys'), when(act.since.keys)],
    ]), changed && el('p', { class: 'hint' }, t('sic-since-hint'))),
    form?.node,
    wayLine(),
    bar,
  );
  buttons(notice);
}

/** That the documents are not shown, and how much the application may sign instead, until when. */
const openNote = (act) => message('alarm', t('sic-open-what', { client: foreign(act.client.name) }),
  t('sic-open-limits', { n: act.count, time: stamp(act.until) }));

/** A change: what it means; what is new is made first, then the person says yes or no. */
async function readyChange(notice) {
  const { act } = session;
  title(s(`sic-ask-${nameOf(act)}`));
  bar = el('div', { class: 'actions' });
  if (makesNew(act) && !session.made) {
    form = null;
    const made = (fresh) => {
      session.made = true;
      session.fresh = fresh;
      ready(fresh && message('note', t('sic-new-made'), t('sic-new-made-do')));
    };
    const step = await makeNew(session, made, failed);
    if (!step) return undefined;
    show(brand(act), changeBody(act), step, bar);
    bar.replaceChildren(...[notice, cancelButton()].filter(Boolean));
    return undefined;
  }
  form = way === 'pin-totp' ? pinForm() : null;
  show(brand(act), changeBody(act), form?.node, wayLine(), bar);
  return buttons(notice);
}

const cancelButton = () =>
  el('button', { id: 'refuse', class: 'plain', type: 'button', onclick: () => refuse(false) }, t(signs() ? 'sic-refuse' : 'sic-cancel'));

/** How the approval works, and the other way if there is one. */
function wayLine() {
  const others = ways().filter((m) => m !== way);
  const names = { passkey: 'sic-use-passkey', 'pin-totp': 'sic-use-pin', idp: 'sic-use-provider' };
  return el('div', { class: 'small' },
    way === 'passkey' && el('p', { class: 'quiet' }, t('sic-passkey-hint')),
    way === 'idp' && el('p', { class: 'quiet' }, t('sic-provider-hint')),
    others.map((other, n) =>
      el('button', { id: n ? `other-way-${n}` : 'other-way', class: 'link small', type: 'button', onclick: () => { way = other; ready(); form?.focus(); } },
        t(names[other]))));
}

/** The bar with its buttons live, and what happened last above them. */
function buttons(notice) {
  const yes =
    way === 'passkey'
      ? passkeyButton()
      : way === 'idp'
      ? session.providers.map(providerButton)
      : way === 'pin-totp' && el('button', { id: 'approve', class: 'sign', type: 'submit', form: 'pin-form' }, label('sic-approve'));
  bar.replaceChildren(
    ...[
      notice ?? (!way && message('alarm', t('sic-no-method'), t('sic-no-method-do'), copyLink())),
      !notice && passkey.inApp() && way === 'passkey' && inAppNote(),
      ...[yes].flat(),
      cancelButton(),
      el('button', { id: 'unknown', class: 'link small', type: 'button', onclick: askUnknown }, t('sic-unknown')),
    ].filter(Boolean),
  );
  if (notice) notice.focus({ preventScroll: true });
}

function passkeyButton() {
  // Made before the click: browsers refuse a prompt that comes after waiting.
  const options = passkey.getOptions(session.digest, config.rp_id, session.passkeys);
  return el('button', {
    id: 'approve', class: 'sign', type: 'button',
    onclick: () => {
      const abort = new AbortController();
      const pending = passkey.get(options, abort);
      waiting(t('sic-wait-device'), () => abort.abort());
      pending.then((made) => approve({ method: 'passkey', act: b64u(session.digest), ...made }), notApproved);
    },
  }, label('sic-approve-passkey'));
}

function providerButton(hint, n) {
  return el('button', {
    id: n ? `approve-${n}` : 'approve', class: 'sign', type: 'button',
    onclick: () => {
      const abort = new AbortController();
      const act = b64u(session.digest);
      const pending = provider.ask(hint, session.digest, abort);
      waiting(t('sic-wait-provider'), () => abort.abort());
      const no = () => buttons(message('note', t('sic-provider-no'), t('sic-provider-no-do')));
      pending.then((word) => approve({ method: 'idp', act, id_token: word }), no);
    },
  }, t('sic-approve-provider', { name: foreign(hint.name) }));
}

function notApproved(error) {
  declined += 1;
  if (error.fast && passkey.inApp()) return buttons(inAppNote());
  // Too fast for a prompt, or the second time: probably the passkey is elsewhere.
  const elsewhere = error.fast || declined > 1;
  if (elsewhere) return buttons(message('note', t('error-no-passkey-here'), t('error-no-passkey-here-do'), copyLink()));
  return buttons(message('note', t('error-cancelled'), t('error-cancelled-do')));
}

/** What is approved in another browser is gone on with in this one, where it began: the service's page waits for it. */
const inAppNote = () => message('note', t('error-in-app-browser'), t('error-in-app-browser-do'),
  copyLink('sic-copy-and-wait', () => location.assign(session.act.return)),
  el('a', { id: 'wait-here', class: 'button plain smallb', href: session.act.return }, t('sic-wait-here')));

function copyLink(text = 'sic-copy-link', then = () => {}) {
  const copied = () => {
    button.textContent = s('sic-copied');
    then();
  };
  const button = el('button', {
    class: 'plain smallb', type: 'button',
    onclick: () => navigator.clipboard?.writeText(location.href).then(copied, () => {}),
  }, t(text));
  return button;
}

function pinForm() {
  const pin = field('pin', t('sic-pin'), t('sic-pin-hint', { n: MIN_PIN }), { type: 'password', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', maxlength: '64' });
  const otp = field('otp', t('sic-otp'), t('sic-otp-hint'), { type: 'text', inputmode: 'numeric', autocomplete: 'one-time-code', maxlength: '6', class: 'codeish' });
  const send = async (event) => {
    event.preventDefault();
    const pinGood = pin.fail([...pin.input.value].length < MIN_PIN && s('sic-pin-short', { n: MIN_PIN }));
    const otpGood = otp.fail(!/^[0-9]{6}$/.test(otp.input.value) && s('sic-otp-form'));
    if (!pinGood || !otpGood) return (pinGood ? otp : pin).input.focus();
    const act = b64u(session.digest);
    const secrets = JSON.stringify({ act, pin: pin.input.value, otp: otp.input.value });
    waiting(t('sic-sending'));
    const sealed = await seal(secrets, session.keys.seal, 'natsuin-sad+jwe', session.digest);
    otp.input.value = '';
    return approve({ method: 'pin-totp', act, sealed });
  };
  const node = el('form', { id: 'pin-form', class: 'card', novalidate: true, onsubmit: send }, pin.node, otp.node);
  return { node, focus: () => pin.input.focus() };
}

function waiting(text, stop) {
  bar.replaceChildren(
    el('p', { class: 'dot full', role: 'status' }, text),
    ...(stop ? [el('button', { class: 'plain', type: 'button', onclick: stop }, t('sic-stop-waiting'))] : []),
  );
}

async function approve(proof) {
  waiting(t('sic-sending'));
  try {
    await call('approve', { proof, ...(session.fresh && { new: session.fresh }) });
    accepted();
  } catch (error) {
    await failed(error);
  }
}

async function accepted() {
  if (session.act.kind !== 'import') return leave('sic-accepted');
  // A key that may come in now: it is read here or by another program, never by the service.
  timers.forEach(clearTimeout);
  const { bringStep } = await import('./bring.mjs');
  title(s('sic-bring'));
  show(bringStep(session, () => leave('sic-bring-done')));
  return announce(s('sic-bring'));
}

/** Goes where the act says, which the SAM has signed; an answer that names another place isn't followed. */
function leave(text) {
  timers.forEach(clearTimeout);
  const link = el('a', { class: 'button', href: session.act.return, hidden: true }, t('sic-go-on'));
  title(s(text));
  show(el('h1', {}, t(text)), link);
  announce(s(text));
  setTimeout(() => { link.hidden = false; }, 3000);
  location.replace(session.act.return);
}

async function failed(error) {
  if (error instanceof Lost) return findOut();
  if (error instanceof Refused) return buttons(message('alarm', t(error.code), t(`${error.code}-do`)));
  if (!(error instanceof No)) return end('error-act-not-genuine');
  switch (error.code) {
    case 'refused':
      if (error.requirement) return buttons(message('alarm', t('sic-requirement'), t('sic-requirement-do'), unmet(error.requirement)));
      if (error.tries === undefined) return buttons(message('alarm', t(ofKind('sic-refused')), t('sic-refused-do')));
      return buttons(message('alarm', t('error-pin-or-code-wrong', { n: error.tries }), t('error-pin-or-code-wrong-do')));
    case 'locked':
      session.methods = session.methods.filter((m) => m !== 'pin-totp');
      way = ways()[0];
      return ready(message('alarm', t('error-factor-locked'), t('error-factor-locked-do')));
    case 'expired':
      return expired();
    case 'not-now':
      return buttons(message('alarm', t('error-service-not-signing'), t('error-service-not-signing-do')));
    default:
      return end(ENDINGS[error.code] ?? 'sic-refused');
  }
}

/** The requirement that isn't met, as the SAM names it. */
const unmet = (requirement) => el('p', { class: 'small' }, el('code', {}, clean(requirement)));

const ENDINGS = {
  'not-found': 'sic-not-found', used: 'error-act-used', withdrawn: 'error-act-withdrawn',
  'key-stopped': 'error-key-stopped', expired: 'error-link-expired', 'not-now': 'error-service-not-signing',
};

/** The answer got lost: no second approval before it is known what became of the first. */
async function findOut() {
  const act = b64u(session.digest);
  bar.replaceChildren(message('note', t('error-unknown-outcome'), t('error-unknown-outcome-do')), el('p', { class: 'dot full' }));
  let open = 0;
  for (let wait = 1000; ; wait = Math.min(wait * 1.5, 10000)) {
    await pause(wait);
    let state;
    try {
      state = (await call('outcome', { act })).state;
    } catch (error) {
      if (error instanceof No) return end('sic-not-found');
      continue;
    }
    if (state === 'approved') return accepted();
    if (state === 'refused') return leave(signs() ? 'sic-refused-done' : 'sic-cancelled-done');
    if (state === 'expired') return expired();
    // A request on its way may still arrive; after two looks it won't.
    if (++open > 1) return buttons(message('note', t(ofKind('sic-not-arrived')), t('sic-not-arrived-do')));
  }
}

function expired() {
  timers.forEach(clearTimeout);
  form?.node.remove();
  bar.replaceChildren(
    message('note', t('error-act-expired'), t('error-act-expired-do')),
    el('button', { id: 'again', type: 'button', onclick: again }, t('sic-prepare-again')),
    el('button', { class: 'plain', type: 'button', onclick: () => refuse(false) }, t('sic-refuse')),
  );
  announce(s('error-act-expired'));
}

async function again() {
  waiting(t('sic-loading'));
  try {
    await openRequest(session.act);
  } catch (error) {
    fatal(error);
  }
}

async function refuse(unknown) {
  waiting(t('sic-sending'));
  try {
    await call('refuse', { act: b64u(session.digest), unknown });
  } catch (error) {
    // An act that is over can't be refused any more, and nothing is signed either.
    if (!(error instanceof No)) return failed(error);
  }
  return unknown ? reported() : leave(signs() ? 'sic-refused-done' : 'sic-cancelled-done');
}

function askUnknown() {
  bar.replaceChildren(
    message('note', t('sic-unknown-ask'), t('sic-unknown-what')),
    el('button', { id: 'report', type: 'button', onclick: () => refuse(true) }, t('sic-unknown-send')),
    el('button', { class: 'plain', type: 'button', onclick: () => buttons() }, t('back')),
  );
  bar.firstChild.focus({ preventScroll: true });
}

function reported() {
  timers.forEach(clearTimeout);
  title(s('sic-unknown-done'));
  show(
    el('h1', {}, t('sic-unknown-done')),
    el('p', {}, t('sic-unknown-stop')),
    el('div', { class: 'row' },
      config.help && el('a', { class: 'button', href: config.help }, t('sic-open-portal')),
      el('a', { class: 'button plain', href: session.act.return }, t('sic-go-on'))),
  );
}

/** Nothing can be approved here any more. */
async function end(code, requirement) {
  timers.forEach(clearTimeout);
  const ref = b64u(await sha256(rid ?? '')).slice(0, 8);
  title(s(code));
  const grave = code === 'error-act-not-genuine';
  const words = [el('h1', {}, t(code)), el('p', {}, t(`${code}-do`, { ref: el('code', {}, ref) })), requirement && unmet(requirement)];
  show(
    grave ? el('div', { class: 'alarm', role: 'alert' }, el('strong', {}, t('error-word')), words) : words,
    el('div', { class: 'row' },
      session && !grave && el('a', { class: 'button plain', href: session.act.return }, t('sic-go-on')),
      config?.help && el('a', { class: 'button plain', href: config.help }, t('sic-open-portal'))),
    el('p', { class: 'small quiet' }, t('reference', { ref: el('code', {}, ref) }), ' · ', stamp(now())),
  );
}

function fatal(error) {
  if (error instanceof No && error.requirement) return end('sic-requirement', error.requirement);
  if (error instanceof No) return end(ENDINGS[error.code] ?? 'sic-not-found');
  if (error instanceof Refused) return end(error.code);
  if (error instanceof Lost) return end('sic-unreachable');
  return end('error-act-not-genuine');
}

async function main() {
  await loadTexts();
  // The fragment stays with the reader when the language changes; servers never see it.
  for (const link of document.querySelectorAll('a.lang')) link.href += location.hash;
  try {
    await loadConfig();
    rid = location.hash.slice(1);
    if (!/^[A-Za-z0-9_-]{43}$/.test(rid) || fromB64u(rid).length !== 32) throw new Refused('sic-no-link');
    await openRequest(null);
  } catch (error) {
    fatal(error);
  }
}

addEventListener('hashchange', () => location.reload());
main();
