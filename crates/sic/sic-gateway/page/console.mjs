// The officers' console: what each role needs, on one page. A session lets its owner look; every approval is a proof of its
// own over an act that this page has checked. The session lives in memory and ends idle, in any case, and with the page.

import { Refused } from './act.mjs';
import { unconfirmed } from './confirm.mjs';
import { ask, atTheEnd, begin, end as endSession, forget, me, openLogIn, prove, said } from './desk.mjs';
import { entries } from './log.mjs';
import { day } from './measures.mjs';
import { No, call, config, loadConfig } from './net.mjs';
import { declaredOf, inWords, isDestruction, isSwitch, levelOf, openAct, read, rolesOf, switchCommand } from './office.mjs';
import { dropOwn, goOn, mayPropose, mayTake, propose, take, trainingOf } from './propose.mjs';
import { announce, clean, clock, el, facts, field, foreign, lang, loadTexts, message, now, s, saveLink, show, stamp, t, title } from './ui.mjs';

/** What stands on whose page. The SAM decides what it answers to whom; this is the order in which it is needed. */
const PAGES = {
  'security-officer': [approvals, people, state, keys, clients, alerts],
  'system-administrator': [state, clients, alerts, approvals],
  'system-operator': [alerts, state, keys, clients, approvals],
  'system-auditor': [search, log, state, people, alerts, approvals],
};
const SEES_PEOPLE = ['security-officer', 'system-auditor'];
/** Seconds after which a checkpoint is late. */
const LATE = 300;
const GROUPS = ['account', 'access', 'act', 'alarm', 'attestation', 'audit', 'certificate', 'change', 'client', 'clock', 'cm', 'factor', 'key', 'login',
  'notice', 'office', 'officer', 'pages', 'parameter', 'person', 'proposal', 'registration', 'request', 'revocation', 'rows', 'sad', 'sap', 'service', 'settings',
  'signature', 'signer', 'token', 'voucher'];

const account = () => me.account;
const roles = () => me.office.roles;

// --- logging in

function logIn(notice) {
  forget();
  heard = {};
  title(s('office-log-in'));
  const name = field('account', t('office-account'), t('office-account-hint'), { type: 'text', autocomplete: 'username', autocapitalize: 'off', spellcheck: 'false', maxlength: '129' });
  const place = el('div', { class: 'actions' });
  const next = async (event) => {
    event.preventDefault();
    const given = name.input.value.trim();
    const wanted = given.startsWith('officer.') ? given : `officer.${given}`;
    if (!name.fail(!/^officer\.[A-Za-z0-9._-]{1,56}$/.test(wanted) && s('office-account-form'))) return name.input.focus();
    place.replaceChildren(el('p', { class: 'dot full', role: 'status' }, t('sic-loading')));
    try {
      const opened = await openLogIn(wanted);
      const enter = async (proof) => {
        await begin(opened, proof);
        if (!goOn()) await home();
      };
      place.replaceChildren(prove(opened, t('office-log-in-passkey'), '', enter, logIn));
    } catch (error) {
      logIn(said(error, 'office-log-in-refused'));
    }
    return undefined;
  };
  const submit = el('button', { type: 'submit', form: 'log-in' }, t('office-next'));
  place.append(submit);
  show(el('h1', {}, t('office-log-in')), el('p', { class: 'lead' }, t('office-log-in-lead')), notice,
    el('form', { id: 'log-in', class: 'card', novalidate: true, onsubmit: next }, name.node), place);
  (notice ?? name.input).focus({ preventScroll: true });
}

// --- the page of a role

/** What the other zones have said in this session. Each asking is an entry of theirs, so that is once, and when somebody looks again. */
let heard = {};

function zonesOf(session, anew) {
  // Each in its own time: a zone that hangs holds up nothing but its own part.
  if (anew || heard.session !== session) {
    heard = { session, zones: (config.beside ?? []).filter((zone) => zone.log).map(({ name }) => ({ name, is: beside(name, 'state') })) };
  }
  return heard.zones;
}

async function home(notice, anew = false) {
  // The SAM answers nothing else before somebody has confirmed whose passkey it is.
  if (me?.unconfirmed) return unconfirmed(ways, notice);
  const data = {};
  try {
    data.state = await ask('state');
    data.proposals = (await ask('proposals')).proposals;
    if (roles().some((role) => SEES_PEOPLE.includes(role))) data.people = await ask('people');
  } catch (error) {
    const over = error instanceof No && ['not-found', 'expired'].includes(error.code);
    return logIn(over ? message('note', t('office-session-over'), t('office-session-over-do')) : said(error, 'office-refused'));
  }
  data.zones = zonesOf(me.session, anew);
  const parts = [...new Set(roles().flatMap((role) => PAGES[role]))];
  title(s('office-home'));
  show(head(), notice, el('h1', {}, t('office-home')), parts.map((part) => part(data)));
  announce(s('office-home'));
  if (notice) notice.focus({ preventScroll: true });
  return undefined;
}

function head() {
  const who = t('office-at-work', { name: foreign(me.name), what: el('em', {}, rolesOf(me.office)), time: el('span', { class: 'num' }, clock(me.until)) });
  return el('div', { class: 'row spread small' }, el('p', {}, who),
    el('div', { class: 'row' },
      el('button', { id: 'again', class: 'plain smallb', type: 'button', onclick: () => home(undefined, true) }, t('office-look-again')),
      el('button', { id: 'log-out', class: 'plain smallb', type: 'button', onclick: leave }, t('office-log-out'))));
}

async function leave() {
  dropOwn();
  try {
    await endSession();
  } catch (error) {
    // The session ends by itself.
    if (!(error instanceof No)) return logIn(said(error, 'office-refused'));
  }
  return logIn(message('note', t('office-logged-out')));
}

const section = (id, name, ...content) => el('section', { id, class: 'stack', 'aria-labelledby': `${id}-name` }, el('h2', { id: `${id}-name` }, t(name)), content);
const empty = (id) => el('p', { class: 'empty' }, t(id));

function approvals(data) {
  const { proposals } = data;
  const open = proposals.filter((p) => ['open', 'waiting', 'approved'].includes(p.state));
  open.sort((a, b) => b.yours - a.yours);
  const over = proposals.filter((p) => !open.includes(p));
  return section('approvals', 'office-approvals',
    mayPropose(roles()) && el('div', { class: 'row' }, el('button', { id: 'propose', class: 'plain', type: 'button', onclick: () => propose(ways, data) }, t('office-propose'))),
    open.length ? open.map((info) => proposal(info)) : empty('office-none'),
    over.length > 0 && el('details', {}, el('summary', {}, t('office-over', { n: over.length })), el('div', { class: 'stack' }, over.map((info) => proposal(info)))));
}

function proposal(info) {
  const told = read(info.document);
  if (!told) return null;
  return el('article', { class: 'card', 'data-proposal': info.proposal },
    el('p', { class: `status ${{ open: 'wait', waiting: 'wait', approved: 'part', ended: 'no', expired: 'no' }[info.state] ?? ''}` }, t(`office-state-${info.state}`)),
    el('h3', {}, inWords(told)),
    facts([
      [t('office-reason'), foreign(told.reason)],
      [t('office-by'), foreign(told.requester.name), ' ', stamp(told.at)],
      info.state === 'open' && [t('office-until'), stamp(told.exp)],
      info.due && [t('office-due-at'), stamp(info.due)],
      [t('office-approved-by'), info.approvals.length ? info.approvals.map((a) => el('p', {}, foreign(a.name), ' ', stamp(a.at))) : t('audit-none'),
        ' ', el('span', { class: 'quiet' }, `(${s('office-needs', { n: info.needs })})`)],
    ]),
    info.yours && el('div', { class: 'row' },
      el('button', { type: 'button', class: 'look', onclick: () => look(info) }, t('office-look'))),
    mayTake(info, told) && el('div', { class: 'row' },
      el('button', { type: 'button', class: 'take', onclick: () => take(ways, info) }, t('office-take'))),
    ['open', 'waiting'].includes(info.state) && told.requester.officer === me.officer && [
      info.state === 'open' && el('p', { class: 'hint' }, t('office-own')),
      el('div', { class: 'row' }, el('button', { type: 'button', class: 'end plain', onclick: () => end(info) }, t('office-refuse')))],
    info.state === 'done' && told.measure.measure === 'end-keys' && ending(info.proposal));
}

/** Ends a proposal: one's own, or one that one could have approved. */
async function end(info) {
  try {
    await ask('proposal/end', { proposal: info.proposal });
    await home(message('note', t('office-ended-now')));
  } catch (error) {
    await home(said(error, 'office-refused'));
  }
}

/** How far it is with ending all keys: asked for when somebody wants to know. */
function ending(id) {
  const place = el('div', { class: 'stack', role: 'status' });
  const part = (one) => [el('p', {}, t('office-ending-of', { name: foreign(one.tenant), at: stamp(one.at) })),
    el('ul', {}, ['keys', 'marked', 'destroyed', 'waiting', 'told'].map((what) =>
      el('li', {}, t(`office-ending-${what}`, { n: what === 'marked' ? one.ended : one[what] }))))];
  const run = async () => {
    try {
      const is = await ask('proposal/progress', { proposal: id });
      place.replaceChildren(el('p', { class: is.complete ? 'status' : 'status wait' }, t(is.complete ? 'office-ending-complete' : 'office-ending-going-on')),
        ...is.parts.flatMap(part), ...(is.complete ? [certificates(id)] : []));
    } catch (error) {
      place.replaceChildren(said(error, 'office-refused'));
    }
  };
  return el('div', { class: 'stack' }, el('div', { class: 'row' }, el('button', { type: 'button', class: 'ending plain', onclick: run }, t('office-ending-look'))), place);
}

/** The module's certificates of everything that was destroyed, each checked with the pinned roots; as `natsuin officer ended` writes them. */
function certificates(id) {
  const place = el('div', { class: 'row', role: 'status' });
  const load = async () => {
    place.replaceChildren(el('p', { class: 'dot' }, t('sic-loading')));
    try {
      const lines = [];
      for (let after = null; ;) {
        const { keys: some, next } = await ask('proposal/certificates', { proposal: id, ...(after && { after }) });
        for (const one of some) {
          if (!(await isDestruction(one.certificate, one.key, id, config.roots))) throw new Refused('error-act-not-genuine');
          lines.push(`${one.certificate}\n`);
        }
        if (!next) break;
        if (after !== null && next <= after) throw new Refused('error-act-not-genuine');
        after = next;
      }
      place.replaceChildren(saveLink('save-certificates', 'destroyed.txt', lines.join(''), t('office-ending-save', { n: lines.length })));
    } catch (error) {
      place.replaceChildren(said(error, 'office-refused'));
    }
  };
  place.append(el('button', { type: 'button', class: 'certificates plain', onclick: load }, t('office-ending-fetch')));
  return place;
}

/** The act of one approval: what it says, and the two answers. */
async function look(info, notice, typed = '') {
  let opened;
  try {
    opened = await openAct(await ask('proposal/open', { proposal: info.proposal }), false);
    if (opened.act.person.id !== account() || opened.text !== info.document) throw new Refused('error-act-not-genuine');
  } catch (error) {
    return home(said(error, 'office-refused'));
  }
  const { act, document: told } = opened;
  const when = (seconds) => (seconds === null ? t('sic-never') : stamp(seconds));
  title(s('office-approve-title'));
  // The module believes its officers' own keys only.
  const signed = told.measure.measure === 'module' && switchField(told.facts.switch, typed);
  const done = async (proof) => {
    await call('office/proposal/approve', { proof, ...(signed && { switch: signed.value() }) });
    await home(message('note', t('office-approved')));
  };
  show(head(), notice, el('h1', {}, t('office-approve-title')),
    el('section', { class: 'card' }, el('h2', {}, inWords(told)), facts([
      [t('office-reason'), foreign(told.reason)],
      [t('office-by'), foreign(told.requester.name)],
      told.facts.subject && [t('sic-cert'), foreign(told.facts.subject)],
      told.facts.assurance && [t('office-level'), levelOf(told.facts.assurance)],
      told.facts.assurance?.level.declared.length > 0 && [t('office-declared'), declaredOf(told.facts.assurance.level.declared)],
      told.measure.measure === 'confirm' && [t('office-passkey'), el('code', { id: 'passkey', class: 'code' }, clean(told.measure.passkey))],
      told.measure.office && [t('office-term'), stamp(told.measure.office.until)],
      told.measure.office && [t('office-training'), told.measure.office.training ? trainingOf(told.measure.office.training) : t('office-training-missing')],
      [t('office-needed'), t('office-needs', { n: act.needs })],
      [t('office-until'), stamp(act.exp)],
      [t('sic-since-act'), when(act.since.act)],
      [t('sic-since-factors'), when(act.since.factors)],
    ]), told.measure.measure === 'confirm' && el('p', { class: 'note' }, t('office-confirm-how', { name: foreign(told.facts.name), who: foreign(told.facts.asked_by) })),
    el('details', {}, el('summary', {}, t('office-document')), el('code', { class: 'code' }, clean(opened.text)))),
    signed && signed.node,
    el('div', { class: 'actions' },
      prove(opened, t('office-approve'), 'sign', done, (why) => look(info, why, signed && signed.value()), signed ? { ready: signed.ready } : {}),
      el('button', { id: 'refuse', class: 'plain', type: 'button', onclick: () => end(info) }, t('office-refuse')),
      el('button', { class: 'link small', type: 'button', onclick: () => home() }, t('back'))));
  if (notice) notice.focus({ preventScroll: true });
  return undefined;
}

/** Where an officer of the module puts what `natsuin-cm approve` has printed: `{node, value, ready}`. */
function switchField(text, typed) {
  const place = field('switch', t('office-switch'), t('office-switch-hint'), { rows: 6, autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false' });
  place.input.value = typed;
  const value = () => place.input.value.trim();
  const ready = () => {
    const good = place.fail(!isSwitch(value(), text) && s('office-switch-form'));
    if (!good) place.input.focus();
    return good;
  };
  const command = switchCommand(text);
  return { value, ready, node: el('section', { class: 'card' }, el('p', {}, t('office-switch-do')), command && el('code', { id: 'switch-command', class: 'code' }, command), place.node) };
}

function people({ people: known }) {
  if (!known) return null;
  const row = (o) => el('tr', {},
    el('th', { scope: 'row', 'data-label': s('office-name') }, foreign(o.name), o.ended && [' ', el('span', { class: 'tag' }, t('office-ended'))]),
    el('td', { 'data-label': s('office-roles') }, rolesOf(o.office)),
    el('td', { 'data-label': s('office-term') }, stamp(o.office.until), o.due && [' ', el('span', { class: 'tag' }, t('office-due'))]),
    el('td', { 'data-label': s('office-training') }, o.office.training ? trainingOf(o.office.training) : !o.ended && el('span', { class: 'status no' }, t('office-training-missing'))),
    el('td', { 'data-label': s('office-named-by') }, o.named_by.length ? o.named_by.map((id) => foreign(id)).flatMap((n, i) => (i ? [', ', n] : [n])) : t('office-founder')),
    el('td', { 'data-label': s('office-accounts') }, o.accounts.map((a) => el('p', {}, el('code', {}, clean(a.account)), ' ', a.active ? a.last_act && stamp(a.last_act) : t('office-no-passkey'),
      a.unconfirmed && [' ', el('span', { class: 'tag' }, t('office-account-unconfirmed'))]))));
  const names = ['office-name', 'office-roles', 'office-term', 'office-training', 'office-named-by', 'office-accounts'];
  return section('people', 'office-people', el('p', {}, t('office-usable', { n: known.usable })),
    known.refused.length > 0 && message('alarm', t('office-refused-rows', { names: known.refused.map(clean).join(', ') })),
    el('div', { class: 'scroll wide-table' }, el('table', { class: 'cards' },
      el('thead', {}, el('tr', {}, names.map((id) => el('th', { scope: 'col' }, t(id))))), el('tbody', {}, known.officers.map(row)))));
}

const status = (good, yes, no, todo) =>
  el('div', {}, el('p', { class: good ? 'status' : 'status no' }, t(good ? yes : no)), !good && el('p', { class: 'hint' }, t(todo)));

function state({ state: is, zones }) {
  return section('state', 'office-state',
    el('div', { class: 'card' }, facts([
      [t('office-sam'), foreign(is.sam), ' ', el('span', { class: 'quiet' }, `${s('office-version')} ${clean(is.version)}`)],
      [t('office-clock'), clockOf(is)],
      [t('office-module'), moduleOf(is.module)],
      [t('office-backups'), backups(is.backups)],
      [t('office-mail'), mail(is.mail)],
      [t('office-ceiling'), t('sic-level', { n: is.ceiling })],
      is.declared?.length > 0 && [t('office-declared'), declaredOf(is.declared)],
      [t('office-checkpoint'), checkpoint(is.log)],
      [t('office-open'), t('office-open-proposals', { n: is.open })],
      is.due > 0 && [t('office-people'), t('office-due-officers', { n: is.due })],
      is.tenants?.length > 0 && [t('office-tenants'), el('ul', {}, is.tenants.map((one) =>
        el('li', {}, foreign(one.brand[lang]), ' ', el('code', { class: 'quiet' }, clean(one.tenant)), ' ', t('sic-level', { n: one.ceiling }))))],
    ])),
    nodes(is.nodes),
    zones.length > 0 && el('p', { class: 'note' }, t('office-zones-word')),
    ofZones(zones, (zone) => [el('div', { class: 'card' }, facts([
      [t('office-checkpoint'), checkpoint(zone.log)],
      [t('office-log-cosigned'), cosigned(zone.log)],
    ])), nodes(zone.nodes)]));
}

/** Under its name, what each other zone says; once it does. */
function ofZones(zones, shown) {
  return zones.map(({ name, is }) => {
    const place = el('div', { class: 'stack', 'data-zone': name }, el('p', { class: 'dot' }, t('sic-loading')));
    is.then((zone) => el('div', { class: 'stack' }, shown(zone))).catch(() => message('alarm', t('office-zone-refused'), t('office-zone-refused-do')))
      .then((node) => place.replaceChildren(node));
    return [el('h3', {}, known(`office-zone-${name}`, name)), place];
  });
}

function moduleOf(is) {
  if (is === null) return status(false, '', 'office-module-none', 'office-module-do');
  return [el('p', { class: is.state === 'operational' ? 'status' : 'status no' }, known(`office-module-${is.state}`, is.state)),
    is.device !== null && el('p', { class: 'quiet' }, foreign(is.device)),
    is.members.length > 0 && el('ol', { class: 'rows', 'aria-label': s('office-members') }, is.members.map((one) =>
      el('li', { class: one.state === 'well' ? '' : 'status no' }, known(`office-member-${one.state}`, one.state),
        one.device !== null && [' ', el('span', { class: 'quiet' }, foreign(one.device))])))];
}

function clockOf(is) {
  if (is.clock_bound_ms === null) return [el('p', { class: 'status wait' }, t('office-clock-unsynchronised')), el('p', { class: 'hint' }, t('office-clock-unsynchronised-do'))];
  return [status(is.clock, 'office-clock-good', 'office-clock-bad', 'office-clock-do'),
    el('p', { class: 'quiet' }, t('office-clock-bound', { n: is.clock_bound_ms })),
    is.clock_error_ms !== null && el('p', { class: 'quiet' }, t('office-clock-error', { n: is.clock_error_ms })),
    is.clock_sources.length > 0 && el('ul', { class: 'rows', 'aria-label': s('office-clock-sources') }, is.clock_sources.map((one) =>
      el('li', { class: one.state === 'agrees' ? '' : 'status no' }, foreign(one.source), ' ', el('span', { class: 'quiet' },
        s(`audit-word-${one.state}`), one.offset_ms !== null && [' ', t('office-clock-offset', { n: one.offset_ms })]))))];
}

function backups(is) {
  if (is === null) return [el('p', { class: 'status wait' }, t('office-backups-unwatched')), el('p', { class: 'hint' }, t('office-backups-unwatched-do'))];
  const line = (at, late, id) => el('div', {}, el('p', { class: late ? 'status no' : 'status' }, // One piece, so that it wraps as a sentence.
    el('span', {}, t(id), ' ', at === null ? t('office-backup-never') : stamp(at))),
    late && el('p', { class: 'hint' }, t(`${id}-do`)));
  return [line(is.made, is.made_late, 'office-backup-made'), line(is.tried, is.tried_late, 'office-backup-tried'),
    is.tried_made !== null && el('p', { class: 'quiet' }, t('office-backup-tried-made', { at: stamp(is.tried_made) }))];
}

function mail(is) {
  const nothing = is.waiting + is.given_up + is.codes === 0;
  return [!is.courier && status(false, '', 'office-mail-none', 'office-mail-none-do'),
    is.courier && nothing && el('p', { class: 'status' }, t('office-mail-good')),
    is.waiting > 0 && el('p', { class: is.failed > 0 ? 'status no' : 'status wait' }, el('span', {}, t('office-mail-waiting', { n: is.waiting }),
      is.oldest !== null && [' ', t('office-mail-oldest', { at: stamp(is.oldest) })])),
    is.failed > 0 && [el('p', { class: 'quiet' }, t('office-mail-failed', { n: is.failed })), el('p', { class: 'hint' }, t('office-mail-failed-do'))],
    is.given_up > 0 && [el('p', { class: 'status no' }, t('office-mail-given-up', { n: is.given_up })), el('p', { class: 'hint' }, t('office-mail-given-up-do'))],
    is.codes > 0 && el('p', { class: 'status no' }, t('office-mail-codes', { n: is.codes }))];
}

function checkpoint(is) {
  if (is.checkpoint === null) return t('audit-none');
  const late = now() - is.checkpoint > LATE && is.new > 0;
  return [stamp(is.checkpoint), late && [el('p', { class: 'status no' }, t('office-log-late')), el('p', { class: 'hint' }, t('office-log-late-do'))]];
}

const cosigned = (is) => (is.cosigned > 0 ? t('office-log-cosigned-by', { n: is.cosigned }) : t('office-log-not-cosigned'));

/** Nodes with their last entries; those of other zones also with what they said last of their clocks. */
function nodes(list) {
  const clocks = list.some((n) => n.clock);
  const word = { synchronised: 'status', unsynchronised: 'status wait' };
  const clock = (n) => n.clock && el('span', { class: word[n.clock] ?? 'status no' }, known(`audit-word-${n.clock}`, n.clock));
  return el('div', { class: 'scroll' }, el('table', {}, el('caption', {}, t('office-nodes')),
    el('thead', {}, el('tr', {}, ['office-node', 'office-last-entry', clocks && 'office-clock'].filter(Boolean).map((id) => el('th', { scope: 'col' }, t(id))))),
    el('tbody', {}, list.map((n) => el('tr', {}, el('th', { scope: 'row' }, foreign(n.node)), el('td', {}, stamp(n.at)), clocks && el('td', {}, clock(n)))))));
}

function keys({ state: is }) {
  const total = is.keys.reduce((n, [, count]) => n + count, 0);
  return section('keys', 'office-keys',
    is.keys.length === 0 ? empty('office-keys-none') : el('div', { class: 'card' }, facts(is.keys.map(([of, count]) => [stateOf(of), el('span', { class: 'num' }, String(count))])),
      is.keys_more && el('p', { class: 'hint' }, t('office-keys-more', { n: total }))),
    is.levels !== null && el('div', { id: 'levels', class: 'card' }, el('p', { class: 'small quiet' }, t('office-levels', { at: stamp(is.levels.at) })),
      is.levels.keys.length === 0 ? el('p', {}, t('office-levels-none'))
        : facts(is.levels.keys.map(([level, count]) => [t('sic-level', { n: level }), el('span', { class: 'num' }, String(count))]))),
    el('h3', {}, t('office-ending')),
    is.ending.length === 0 ? empty('office-ending-none')
      : el('div', { class: 'card' }, facts(is.ending.map((one) => [stamp(one.at), foreign(one.key),
        one.assurance ? levelOf(one.assurance) : el('p', { class: 'status no' }, t('office-level-unreadable'))])), el('p', { class: 'hint' }, t('office-ending-do'))));
}

function stateOf(word) {
  const id = `office-key-${word}`;
  return s(id) === id ? foreign(word) : t(id);
}

function alerts({ state: is, zones }) {
  const list = (found) => (found.length ? entries(found) : empty('office-alerts-none'));
  return section('alerts', 'office-alerts', zones.length > 0 && el('h3', {}, t('office-zone-sam')), list(is.alerts),
    ofZones(zones, (zone) => list(zone.alerts)));
}

function log({ state: is }) {
  return section('log', 'office-log', el('div', { class: 'card' }, facts([
    [t('office-log-entries'), el('span', { class: 'num' }, String(is.log.entries))],
    [t('office-checkpoint'), checkpoint(is.log)],
    [t('office-log-new'), el('span', { class: 'num' }, String(is.log.new))],
    [t('office-log-cosigned'), cosigned(is.log)],
  ]), el('p', { class: 'hint' }, t('office-log-do'))));
}

// --- the auditor's search

/** What another zone says, for whoever the SAM lets look. It is that zone's word, and shown as such. */
const beside = (zone, what, search = '') => ask('beside', { zone, what, search });

function clients() {
  const zones = (config.beside ?? []).filter((zone) => zone.clients);
  if (zones.length === 0) return null;
  const place = el('div', { id: 'client-list', class: 'stack', role: 'status' });
  const run = async () => {
    place.replaceChildren(el('p', { class: 'dot' }, t('sic-loading')));
    const parts = [];
    for (const zone of zones) {
      try {
        parts.push(listOf(zone.name, (await beside(zone.name, 'clients')).clients, zones.length > 1));
      } catch (error) {
        parts.push(said(error, 'office-clients-refused'));
      }
    }
    place.replaceChildren(...parts);
  };
  return section('clients', 'office-clients', el('p', { class: 'note' }, t('office-clients-word')),
    el('div', { class: 'row' }, el('button', { id: 'look-clients', class: 'plain', type: 'button', onclick: run }, t('office-clients-look'))), place);
}

function listOf(zone, list, named) {
  if (list.length === 0) return empty('office-clients-none');
  const ids = ['office-client', 'office-client-state', 'office-client-proof', 'office-client-used'];
  const row = (one) => el('tr', { 'data-client': clean(one.client) },
    el('th', { scope: 'row', 'data-label': s('office-client') }, foreign(one.contract.name), ' ', el('code', { class: 'quiet' }, clean(one.client))),
    el('td', { 'data-label': s('office-client-state') }, known(`office-client-${one.state}`, one.state)),
    el('td', { 'data-label': s('office-client-proof') }, known(`office-client-by-${one.proof}`, one.proof)),
    el('td', { 'data-label': s('office-client-used') }, el('span', { class: 'num' }, `${Number(one.used[0])} / ${Number(one.used[1])}`)));
  return el('div', { class: 'scroll wide-table' }, el('table', { class: 'cards' }, named && el('caption', {}, foreign(zone)),
    el('thead', {}, el('tr', {}, ids.map((id) => el('th', { scope: 'col' }, t(id))))), el('tbody', {}, list.map(row))));
}

/** The text for a word of the other zone's program, or the word as it came. */
const known = (id, word) => (s(id) === id ? foreign(word) : t(id));

function search() {
  const from = field('from', t('office-search-from'), null, { type: 'date', required: false, class: 'short' });
  const until = field('until', t('office-search-until'), null, { type: 'date', required: false, class: 'short' });
  const person = field('person', t('office-search-person'), null, { type: 'text', required: false, autocomplete: 'off', maxlength: '64' });
  const key = field('key', t('office-search-key'), null, { type: 'text', required: false, autocomplete: 'off', maxlength: '64' });
  const choice = (id, label, options) => {
    const input = el('select', { id }, el('option', { value: '' }, t('office-search-any')), options.map(([value, name]) => el('option', { value }, name)));
    return { input, node: el('div', { class: 'field' }, el('label', { for: id }, label), input) };
  };
  const kind = choice('kind', t('office-search-type'), GROUPS.map((g) => [g === 'alarm' ? g : `${g}.`, s(`office-group-${g}`)]));
  const outcome = choice('outcome', t('office-search-outcome'), ['success', 'failure', 'intent'].map((o) => [o, s(`audit-outcome-${o}`)]));
  const logs = (config.beside ?? []).filter((zone) => zone.log);
  const zone = choice('zone', t('office-search-zone'), logs.map((one) => [one.name, clean(one.name)]));
  zone.input.firstChild.replaceChildren(...t('office-search-own'));
  const found = el('div', { id: 'found', class: 'stack', role: 'status' });
  const run = async (after) => {
    found.replaceChildren(el('p', { class: 'dot' }, t('sic-loading')));
    const wanted = {
      from: day(from.input.value, 0), until: day(until.input.value, 24 * 3600), kinds: kind.input.value ? [kind.input.value] : [],
      person: person.input.value.trim() || null, key: key.input.value.trim() || null, outcome: outcome.input.value || null, after,
    };
    try {
      const other = zone.input.value;
      const answer = other ? await beside(other, 'log', JSON.stringify({ ...wanted, limit: 50 })) : await ask('audit', wanted);
      found.replaceChildren(answer.entries.length ? entries(answer.entries) : empty('audit-nothing-found'),
        ...(answer.archived ?? []).map((part) => el('p', { class: 'note' },
          t('audit-found-archived', { zone: 'SAM', at: stamp(part.last), archive: foreign(part.archive) }))),
        ...(answer.next ? [el('button', { id: 'more', class: 'plain', type: 'button', onclick: () => run(answer.next) }, t('office-search-more'))] : []));
    } catch (error) {
      found.replaceChildren(said(error, 'office-search-refused'));
    }
  };
  const submit = (event) => {
    event.preventDefault();
    run(null);
  };
  return section('search', 'office-search', el('p', { class: 'note' }, t('office-search-recorded')),
    el('form', { id: 'search-form', class: 'card', novalidate: true, onsubmit: submit },
      logs.length > 0 && zone.node, from.node, until.node, kind.node, outcome.node, person.node, key.node,
      el('div', { class: 'row' }, el('button', { type: 'submit' }, t('office-search-do')))),
    found, el('p', { class: 'small quiet' }, t('office-search-export')));
}

/** What the page around gives to its forms. */
const ways = { head, home };

async function main() {
  await loadTexts();
  atTheEnd((error) => logIn(error ? said(error, 'office-refused') : message('note', t('office-session-over'), t('office-session-over-do'))));
  try {
    await loadConfig();
    logIn();
  } catch (error) {
    show(said(error, 'office-refused'));
  }
}

main();
