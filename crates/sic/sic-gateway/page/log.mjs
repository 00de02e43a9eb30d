// Entries of the audit log as sentences; the same as `natsuin audit search` shows.

import { clean, el, foreign, s, stamp, t } from './ui.mjs';

const PERSONS = ['person', 'owner', 'account'];
const TIMES = ['until', 'sign_until'];
const WORDS = ['reason', 'method', 'what', 'state', 'to', 'why', 'effect', 'roles', 'change'];
// Entries of older programs don't have them.
const LATER = { session: null, from: null, credential: null };
const DIGEST = /^[A-Za-z0-9_-]{43}$/;

const known = (id) => s(id) !== id;

/** Words of the programs' own text are translated if there are words for them. */
function word(text) {
  const ids = text.split('+').map((part) => `audit-word-${part}`);
  return ids.every(known) ? ids.map((id) => s(id)).join(' + ') : foreign(text);
}

function shown(name, value, { person, from }) {
  const who = PERSONS.includes(name);
  if (value === null && name === 'from') return s('audit-from-unknown');
  if (value === null) return s(who || name === 'client' ? 'audit-somebody' : 'audit-none');
  if (typeof value === 'string') {
    if (who && person) return foreign(person);
    if (name === 'from' && from) return foreign(from);
    if (DIGEST.test(value)) return `${value.slice(0, 10)}…`;
    return WORDS.includes(name) ? word(value) : foreign(value);
  }
  if (typeof value === 'number') return TIMES.includes(name) ? stamp(value) : String(value);
  if (typeof value === 'boolean') return s(value ? 'audit-yes' : 'audit-no');
  return foreign(JSON.stringify(value));
}

/** What happened, as nodes. `beside`: `{person, from}`, what is known beside the log. */
export function sentence(body, beside) {
  const id = `event-${body.kind.replaceAll('.', '-')}`;
  if (!known(id)) return t('audit-unknown-event', { kind: foreign(body.kind) });
  const detail = Object.entries({ ...LATER, ...body.detail });
  const values = detail.map(([name, value]) => [name, shown(name, value, beside)]);
  return t(id, Object.fromEntries(values));
}

/** Rows of entries: time, outcome, sentence, and the text as it is logged. */
export function entries(list) {
  return el('ol', { class: 'card flat rows' }, list.map(({ seq, body, person, from }) => {
    let read;
    try {
      read = JSON.parse(body);
    } catch {
      read = null;
    }
    if (typeof read?.kind !== 'string') return el('li', {}, el('code', {}, clean(body)));
    const outcome = `audit-outcome-${read.outcome}`;
    return el('li', { class: 'entry' },
      el('p', { class: 'row small quiet' }, stamp(read.at), seq !== undefined && el('span', { class: 'num' }, `#${seq}`),
        el('span', { class: 'tag' }, known(outcome) ? s(outcome) : foreign(read.outcome))),
      el('p', {}, sentence(read, { person, from })),
      el('details', {}, el('summary', {}, t('office-raw')), el('code', { class: 'code' }, clean(body))));
  }));
}
