// Proposing, and taking what was approved: forms made from the table of measures. Each ends with a passkey, for the SAM wants a session of
// this minute for both.

import { Refused } from './act.mjs';
import { ask, beginAnew, me, openLogIn, prove, said } from './desk.mjs';
import { b64u } from './jose.mjs';
import { EVERY, FIELDS, MEASURES, TTLS, build, day, faults, offered, same } from './measures.mjs';
import { config } from './net.mjs';
import { inWords, read } from './office.mjs';
import { clean, el, facts, field, foreign, lang, message, now, s, saveLink, show, stamp, t, title } from './ui.mjs';

/** What its owner has begun to propose: kept until it is proposed, whatever comes between. */
let draft;

/** What only its owner has and is shown but once, with the account: until they have left it, also if the session ends before. */
let kept;

/** Nothing is kept for whoever logs out. */
export function dropOwn() {
  draft = undefined;
  kept = undefined;
}

/** Shows whoever has logged in again what they had not left when the session ended; whether there was anything. */
export function goOn() {
  // It isn't for anybody else.
  if (kept?.account !== me.account) kept = undefined;
  kept?.shown();
  return kept !== undefined;
}

/** Shows by `shown` what only whoever is logged in has; kept until they leave it. */
export function keep(shown) {
  kept = { account: me.account, shown };
  shown();
}

/** The way home from what was kept. */
const leave = (home) => el('div', { class: 'actions' }, el('button', {
  id: 'to-home', type: 'button',
  onclick: () => {
    kept = undefined;
    home();
  },
}, t('office-to-home')));

const back = (home) => el('button', { class: 'link small', type: 'button', onclick: () => home() }, t('back'));
const wordForWord = (text) => el('details', {}, el('summary', {}, t('office-document')), el('code', { class: 'code' }, clean(text)));

/** Whether somebody with these roles may propose anything. */
export const mayPropose = (roles) => offered(roles).length > 0;

/** The form. `ways`: `{head, home}` of the page around it. */
export function propose(ways, { state }, notice) {
  if (!me) return; // The session ended meanwhile.
  if (draft?.account !== me.account) draft = newDraft(state.tenants ?? []);
  const { kind, ttl, reason, fields } = draft;
  title(s('office-propose'));
  const asked = el('div', { id: 'asked', class: 'stack' });
  const choose = () => {
    const { asks, limit } = MEASURES[kind.input.value];
    asked.replaceChildren(...asks.map((name) => fields(name).node));
    // What can't be approved for so long isn't offered.
    for (const option of ttl.input.options) option.disabled = limit !== undefined && Number(option.value) > limit;
    ttl.input.value = String(Math.min(draft.wanted, limit ?? draft.wanted));
  };
  kind.input.onchange = choose;
  ttl.input.onchange = () => {
    draft.wanted = Number(ttl.input.value);
  };
  choose();
  const next = (event) => {
    event.preventDefault();
    const ready = given(kind.input.value, fields, reason);
    if (ready) return review(ways, { state }, { ...ready, ttl: Number(ttl.input.value) });
    document.querySelector('#propose-form [aria-invalid=true]')?.focus();
    return undefined;
  };
  show(ways.head(), notice, el('h1', {}, t('office-propose')), el('p', { class: 'lead' }, t('office-propose-lead')),
    el('form', { id: 'propose-form', class: 'card', novalidate: true, onsubmit: next }, kind.node, asked, reason.node, ttl.node),
    el('div', { class: 'actions' }, el('button', { type: 'submit', form: 'propose-form' }, t('office-next')), back(ways.home)));
  (notice ?? kind.input).focus({ preventScroll: true });
}

function newDraft(tenants) {
  const choice = (id, options) => field(id, t(`office-field-${id}`), hint(id), { options });
  const any = (options) => [['', s('office-choose')], ...options];
  const kinds = offered(me.office.roles).map((name) => [name, s(`office-measure-${name}`)]);
  const made = new Map();
  const make = (name) => {
    const { from, type } = FIELDS[name];
    if (name === 'tenant') {
      const own = [me.tenant, s('office-tenant-own', { what: clean(me.tenant) })];
      return choice(name, any([[EVERY, s('office-whole-service')], own, ...tenants.map((one) => [one.tenant, `${clean(one.brand[lang])} (${clean(one.tenant)})`])]));
    }
    if (from) return choice(name, any(from.map((value) => [value, s(`office-${name}-${value}`)])));
    return field(name, t(`office-field-${name}`), hint(name), {
      type: type ?? 'text', required: !FIELDS[name].optional, autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false',
      ...(type && { class: 'short' }), ...(type === 'number' && { min: 256, step: 256 }),
    });
  };
  return {
    account: me.account,
    kind: choice('measure', kinds),
    ttl: choice('ttl', TTLS.map((seconds) => [String(seconds), s(`office-ttl-${seconds}`)])),
    /** For so long it can be approved where nothing limits it. */
    wanted: 24 * 3600,
    reason: field('reason', t('office-reason'), t('office-field-reason-hint'), { type: 'text', autocomplete: 'off', maxlength: '200' }),
    fields: (name) => made.get(name) ?? made.set(name, make(name)).get(name),
  };
}

function hint(name) {
  const id = `office-field-${name}-hint`;
  return s(id) === id ? null : t(id);
}

/** What was given, if it can be proposed; what can't is marked. */
function given(name, fields, reason) {
  const answers = Object.fromEntries(MEASURES[name].asks.map((one) => [one, fields(one).input.value.trim()]));
  const wrong = faults(name, answers);
  const good = MEASURES[name].asks.map((one) => fields(one).fail(wrong[one] && s(wrong[one] === 'missing' ? 'office-field-missing' : `office-field-${one}-form`)));
  const why = reason.input.value.trim();
  const told = reason.fail((why === '' && s('office-field-missing')) || (!FIELDS.name.form(why) && s('office-field-reason-form')));
  return good.every(Boolean) && told ? { name, answers, why } : null;
}

/** The same in words, and the passkey that proposes it. */
async function review(ways, data, { name, answers, why, ttl }) {
  const again = (notice) => propose(ways, data, notice);
  let opened;
  let made;
  try {
    made = await build(name, answers);
    opened = await openLogIn(me.account);
  } catch (error) {
    return again(said(error, 'office-propose-refused'));
  }
  const { measure, bytes } = made;
  // Names and numbers are the SAM's to say, in the document that it makes.
  const told = { measure, facts: { name: answers.officer ?? answers.person ?? '…', keys: '…' } };
  const done = async (proof) => {
    if (!(await beginAnew(opened, proof))) return;
    const info = await ask('propose', { measure, reason: why, ttl });
    const document = read(info.document);
    if (!document || !same(document.measure, measure) || document.reason !== why) throw new Refused('error-act-not-genuine');
    draft = undefined;
    keep(() => proposed(ways, info, document, { name, bytes, answers }));
  };
  title(s('office-propose-ask'));
  show(ways.head(), el('h1', {}, t('office-propose-ask')),
    el('section', { class: 'card' }, el('h2', { id: 'words' }, inWords(told)), facts([
      [t('office-reason'), foreign(why)],
      [t('office-until'), stamp(now() + ttl)],
      answers.until && [t('office-term'), stamp(day(answers.until, 24 * 3600))],
      // What is recorded by then is replaced, also by nothing.
      measure.office && [t('office-training'), measure.office.training ? trainingOf(measure.office.training) : t('office-training-missing')],
    ]), wordForWord(JSON.stringify(measure))),
    el('p', { class: 'hint' }, t('office-propose-names')),
    el('div', { class: 'actions' }, prove(opened, t('office-propose-now'), '', done, again, { refused: 'office-propose-refused' }),
      el('button', { class: 'link small', type: 'button', onclick: () => again() }, t('office-propose-change'))));
  document.getElementById('prove').focus({ preventScroll: true });
  return undefined;
}

/** A training, as it stands with an office. */
export const trainingOf = ({ at, until }) => [stamp(at), ' – ', stamp(until)];

/** What is said with a link: whose it is, and from when on it is good. */
const invited = (use, { facts: known }) => (use === 'signer' ? 'office-hand-over-signer' : known.wait ? 'office-invited-again' : 'office-invited');

/** What was proposed, word for word as it will be approved, and what only its proposer has from here on. */
function proposed(ways, info, told, { name, bytes, answers }) {
  title(s('office-proposed'));
  const secret = bytes && b64u(bytes);
  const ticket = `${info.proposal}.${secret}`;
  const use = MEASURES[name].secret?.[1];
  const link = use === 'officer' ? `${config.origin}/e#${ticket}` : `/e#${ticket}`;
  show(ways.head(), message('note', t('office-proposed'), t('office-proposed-do')),
    el('h1', {}, inWords(told)),
    el('section', { class: 'card', 'data-made': info.proposal }, facts([
      [t('office-reason'), foreign(told.reason)],
      told.facts.subject && [t('sic-cert'), foreign(told.facts.subject)],
      [t('office-needed'), t('office-needs', { n: info.needs })],
      [t('office-until'), stamp(told.exp)],
    ]), wordForWord(info.document)),
    (use === 'officer' || use === 'signer') && el('section', { class: 'card' },
      el('h2', {}, t('office-hand-over')),
      el('p', {}, t(invited(use, told), { name: foreign(told.measure.name ?? told.facts.name) })),
      el('code', { id: 'ticket', class: 'code' }, link), use === 'officer' && el('p', {}, t('office-invited-confirm')), el('p', { class: 'hint' }, t('office-hand-over-once'))),
    use === 'salt' && el('section', { class: 'card' },
      el('h2', {}, t('office-hand-over')),
      el('p', {}, t('office-salt', { name: foreign(answers.forgotten) })),
      el('code', { id: 'salt', class: 'code' }, secret), saveLink('save-salt', 'salt.txt', secret, t('office-salt-save')),
      el('p', { class: 'hint' }, t('office-hand-over-once'))),
    leave(ways.home));
  document.querySelector('#app .note').focus({ preventScroll: true });
}

/** Whether whoever is logged in takes this proposal now. */
export const mayTake = (info, told) => info.state === 'approved' && told.requester.officer === me.officer && MEASURES[told.measure.measure]?.taken === true;

/** What was taken, to be saved. */
function taken(ways, told, text) {
  title(s('office-taken'));
  show(ways.head(), message('note', t('office-taken'), t(`office-take-${told.measure.measure}`)), el('h1', {}, inWords(told)),
    el('section', { class: 'card' }, saveLink('save-taken', 'taken.json', text, t('office-taken-save')), el('p', { class: 'hint' }, t('office-taken-once')),
      el('details', {}, el('summary', {}, t('office-taken-text')), el('code', { class: 'code' }, clean(text)))),
    leave(ways.home));
  document.querySelector('#app .note').focus({ preventScroll: true });
}

/** Takes what was approved, once, by a passkey: its proofs go into a file for whoever carries it out. */
export async function take(ways, info) {
  const told = read(info.document);
  let opened;
  try {
    opened = await openLogIn(me.account);
  } catch (error) {
    return ways.home(said(error, 'office-refused'));
  }
  const next = t(`office-take-${told.measure.measure}`);
  const done = async (proof) => {
    if (!(await beginAnew(opened, proof))) return;
    const text = `${JSON.stringify(await ask('proposal/take', { proposal: info.proposal }), null, 2)}\n`;
    keep(() => taken(ways, told, text));
  };
  title(s('office-take-ask'));
  show(ways.head(), el('h1', {}, t('office-take-ask')),
    el('section', { class: 'card' }, el('h2', {}, inWords(told)), facts([
      [t('office-reason'), foreign(told.reason)],
      [t('office-approved-by'), info.approvals.map((a) => el('p', {}, foreign(a.name), ' ', stamp(a.at)))],
    ]), el('p', { class: 'hint' }, next)),
    el('div', { class: 'actions' }, prove(opened, t('office-take-now'), '', done, (why) => ways.home(why)), back(ways.home)));
  document.getElementById('prove').focus({ preventScroll: true });
  return undefined;
}
