// What officers can propose: who may, what each measure asks for, and the measure made of what was given. One table; the form, the
// check and the message to the SAM all come from it.

import { b64u, fromB64u, sha256 } from './jose.mjs';

const OFFICER = 'security-officer';
const ADMINISTRATOR = 'system-administrator';
const OPERATOR = 'system-operator';
const AUDITOR = 'system-auditor';
const MANAGERS = [OFFICER, ADMINISTRATOR];
const RUNNERS = [OFFICER, ADMINISTRATOR, OPERATOR];

const DAY = 24 * 3600;
/** Longest name and reason in characters. */
export const MAX_WORDS = 200;
/** For so many seconds a proposal can be approved, to choose from. */
export const TTLS = [3600, 8 * 3600, DAY, 3 * DAY, 7 * DAY];

/** Beginning of a day in Japan in UTC seconds, and so many more; nothing for no day. */
export const day = (text, more) => (text ? Math.floor(Date.parse(`${text}T00:00:00+09:00`) / 1000) + more : null);

const ID = /^[A-Za-z0-9._-]{1,64}$/;
const id = (text) => ID.test(text);
/** One that an account is named after. */
const short = (text) => /^[A-Za-z0-9._-]{1,56}$/.test(text);
// What an account of an officer is called, with or without its beginning.
const named = (text) => short(text.replace(/^officer\./, ''));
const words = (text) => [...text].length <= MAX_WORDS && !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text);
const date = (text) => /^\d{4}-\d\d-\d\d$/.test(text) && Number.isFinite(Date.parse(text));
const person = (text) => text.split('/').length <= 2 && text.split('/').every(id);
const size = (text) => /^[1-9]\d{0,14}$/.test(text) && Number(text) % 256 === 0;
const digest = (text) => {
  try {
    return fromB64u(text).length === 32;
  } catch {
    return false;
  }
};

/**
 * What is asked for, by name: the form that an answer must have, or the answers there are. `tenant` gets its answers from whoever
 * shows it.
 */
export const FIELDS = {
  officer: { form: short },
  name: { form: words },
  identity: { form: words },
  role: { from: [OFFICER, ADMINISTRATOR, OPERATOR, AUDITOR, 'both'] },
  until: { form: date, type: 'date' },
  'trained-at': { form: date, type: 'date', optional: true },
  'trained-until': { form: date, type: 'date', optional: true },
  account: { form: named },
  key: { form: id },
  action: { from: ['suspend', 'resume', 'destroy'] },
  person: { form: id },
  registration: { form: id },
  enabled: { from: ['on', 'off'] },
  tenant: { form: (text) => text === EVERY || id(text) },
  cause: { from: ['end-of-service', 'incident'] },
  zone: { from: ['cm', 'sam', 'ssa'] },
  archive: { form: digest },
  size: { form: size, type: 'number' },
  forgotten: { form: person },
};
/** In place of a tenant: the whole service. No tenant is called so. */
export const EVERY = '*';

const OFFICE = ['role', 'until', 'trained-at', 'trained-until'];

function officeOf(given) {
  const both = given.role === 'both';
  // The day named is the last one.
  const office = { roles: both ? [ADMINISTRATOR, OPERATOR] : [given.role], until: day(given.until, DAY) };
  if (both) office.both = true;
  if (given['trained-at']) office.training = { at: day(given['trained-at'], 0), until: day(given['trained-until'], DAY) };
  return office;
}

/** The commitment to what tells a person from all others; as the ceremony makes it. */
const identityOf = (text) => sha256('natsuin-identity-v1\n', text.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, ''));

/**
 * Every measure that the SAM takes from a person's hand, but the one that is asked for on a page of its own (`confirm.mjs`): `by` whom, what it `asks`, and how it is `made` of what was given and of
 * fresh random bytes. `secret`: how many of these, and what they are for: the invitation of an officer, that of a signer, or the
 * salt of a commitment. `limit`: seconds for which it can be approved at most. `taken`: who asked takes it and has it carried out.
 */
export const MEASURES = {
  appoint: {
    by: MANAGERS, asks: ['officer', 'name', 'identity', ...OFFICE], secret: [16, 'officer'],
    made: async (given, bytes) => ({
      officer: given.officer, name: given.name, identity: b64u(await identityOf(given.identity)), office: officeOf(given),
      account: `officer.${given.officer}`, secret: b64u(await sha256(bytes)),
    }),
  },
  account: {
    by: MANAGERS, asks: ['officer', 'account'], secret: [16, 'officer'],
    made: async (given, bytes) => ({
      officer: given.officer, account: `officer.${given.account.replace(/^officer\./, '')}`, secret: b64u(await sha256(bytes)),
    }),
  },
  office: { by: MANAGERS, asks: ['officer', ...OFFICE], made: (given) => ({ officer: given.officer, office: officeOf(given) }) },
  dismiss: { by: MANAGERS, asks: ['officer'], made: ({ officer }) => ({ officer }) },
  key: { by: RUNNERS, asks: ['key', 'action'], made: ({ key, action }) => ({ key, action }) },
  factors: {
    by: RUNNERS, asks: ['person', 'registration'], secret: [16, 'signer'],
    made: async (given, bytes) => ({ person: given.person, registration: given.registration, secret: b64u(await sha256(bytes)) }),
  },
  module: { by: RUNNERS, asks: ['enabled'], limit: 3600, made: ({ enabled }) => ({ enabled: enabled === 'on' }) },
  'end-keys': {
    by: RUNNERS, asks: ['tenant', 'cause'], made: ({ tenant, cause }) => (tenant === EVERY ? { cause } : { tenant, cause }),
  },
  'delete-archived': {
    by: RUNNERS, asks: ['zone', 'archive', 'size'], taken: true,
    made: (given) => ({ zone: given.zone, archive: given.archive, size: Number(given.size) }),
  },
  'forget-person': {
    by: MANAGERS, asks: ['forgotten'], secret: [32, 'salt'], taken: true,
    made: async (given, bytes) => ({ subject: b64u(await sha256('natsuin-forget-person-v1\n', bytes, given.forgotten)) }),
  },
};

/** Names of the measures that somebody with these roles may propose. */
export const offered = (roles) => Object.keys(MEASURES).filter((name) => MEASURES[name].by.some((role) => roles.includes(role)));

/** What is wrong with the answers, by field: `missing` or `form`. Answers come without spaces around them. */
export function faults(name, given) {
  const found = {};
  for (const field of MEASURES[name].asks) {
    const { form, from, optional } = FIELDS[field];
    const text = given[field] ?? '';
    if (text === '') {
      if (!optional) found[field] = 'missing';
    } else if (from ? !from.includes(text) : !form(text)) {
      found[field] = 'form';
    }
  }
  // A training has its day and its end, or isn't told at all.
  const [at, until] = ['trained-at', 'trained-until'].map((field) => given[field] ?? '');
  if (MEASURES[name].asks.includes('trained-at') && (at === '') !== (until === '')) found[at === '' ? 'trained-at' : 'trained-until'] = 'missing';
  return found;
}

/** `{measure, bytes}`: what is sent to the SAM, and the random bytes in it, which the SAM never sees. */
export async function build(name, given, random = (bytes) => crypto.getRandomValues(bytes)) {
  const { secret, made } = MEASURES[name];
  const bytes = secret && random(new Uint8Array(secret[0]));
  return { measure: { measure: name, ...(await made(given, bytes)) }, bytes };
}

/** Whether two messages say the same; the order of their members says nothing. */
export function same(a, b) {
  const isObject = (value) => value !== null && typeof value === 'object';
  if (!isObject(a) || !isObject(b)) return a === b;
  const names = Object.keys(a);
  return Array.isArray(a) === Array.isArray(b) && names.length === Object.keys(b).length &&
    names.every((member) => Object.hasOwn(b, member) && same(a[member], b[member]));
}
