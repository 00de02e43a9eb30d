// What the page believes: statements by a pinned root, acts by the key in such a statement, nothing else.

import { b64u, exactly, fromB64u, kidOf, sha256, thumbprint, verifyJws } from './jose.mjs';

/** Why something is not shown. `code` is the id of an error text. */
export class Refused extends Error {
  constructor(code, detail) {
    super(detail ?? code);
    this.code = code;
  }
}

const notGenuine = (detail) => new Refused('error-act-not-genuine', detail);
const MAX_LIFE = 300;
/** Longest time in seconds for what is signed without being shown. */
const MAX_OPEN = 600;
const SKEW = 60;
const HASH_LENGTH = { sha256: 32, sha384: 48, sha512: 64 };
const COMMON = [
  'v', 'kind', 'sam', 'tenant', 'nonce', 'iat', 'exp', 'epoch', 'policy', 'level', 'person', 'return',
];
const MEMBERS = {
  sign: [...COMMON, 'key', 'client', 'algs', 'items', 'renew', 'since'],
  'sign-open': [...COMMON, 'key', 'client', 'algs', 'count', 'until', 'since'],
  enrol: [...COMMON, 'voucher', 'by', 'methods', 'keys', 'replaces', 'rp_id'],
  suspend: [...COMMON, 'key', 'alg', 'since'],
  resume: [...COMMON, 'key', 'alg', 'since'],
  destroy: [...COMMON, 'key', 'alg', 'since'],
  leave: [...COMMON, 'registration', 'keys', 'factors', 'since'],
  factor: [...COMMON, 'registration', 'change', 'rp_id', 'since'],
  import: [...COMMON, 'registration', 'alg', 'spki', 'case', 'until', 'since'],
  'hand-over': [...COMMON, 'key', 'alg', 'receiver', 'since'],
  officer: [...COMMON, 'what', 'document', 'text', 'needs', 'since'],
};
/** Members that may be missing: of every kind, and of these. */
const BRAND = 'brand';
const OPTIONAL = { enrol: ['exportable', 'one_time'], sign: ['declared'] };
/** Kinds that are approved on the page of a request. */
export const APPROVED_HERE = ['sign', 'sign-open', 'suspend', 'resume', 'destroy', 'leave', 'factor', 'import', 'hand-over'];
/** Where a key that comes in was made. */
const CASES = ['2-i', '2-ii', '3-i'];
const CHANGES = {
  add: ['do', 'method'], 'add-device': ['do', 'key'], remove: ['do', 'factor', 'method'], pin: ['do', 'factor'], unlock: ['do', 'factor'],
};

/** The SAM's keys, if one of the pinned roots vouches for them at `now` (UTC seconds). */
export async function verifyStatement(statement, roots, now) {
  const keys = await byRoot(statement, 'natsuin-keys+jws', roots);
  return inTime(keys, ['sam', 'epoch', 'act', 'seal', 'nbf', 'exp'], 48 * 3600, now);
}

/** The module's import key, if one of the pinned roots vouches for it at `now`. */
export async function verifyImportKey(statement, roots, keys, now) {
  const told = await byRoot(statement, 'natsuin-import-key+jws', roots);
  if (told.sam !== keys.sam) throw notGenuine('issuer');
  return inTime(told, ['sam', 'key', 'nbf', 'exp'], 24 * 3600, now).key;
}

function inTime(told, members, life, now) {
  if (!exactly(told, members) || told.exp <= told.nbf || told.exp - told.nbf > life) throw notGenuine('statement');
  if (now < told.nbf - SKEW || now >= told.exp) throw new Refused('error-clock-skew', 'statement');
  return told;
}

/** What a pinned root has signed. */
async function byRoot(statement, typ, roots) {
  try {
    const kid = kidOf(statement);
    const prints = await Promise.all(roots.map(async (r) => b64u(await thumbprint(r))));
    const root = roots[prints.indexOf(kid)];
    if (!root) throw new Error('no pinned root');
    return JSON.parse(await verifyJws(statement, typ, root));
  } catch (e) {
    throw notGenuine(e.message);
  }
}

/** A checked act of one of these kinds with its digest: `{act, digest}`. */
export async function verifyAct(jws, keys, kinds, now) {
  let act;
  try {
    act = JSON.parse(await verifyJws(jws, 'natsuin-act+jws', keys.act));
  } catch (e) {
    throw notGenuine(e.message);
  }
  const { kind } = act;
  if (![kinds].flat().includes(kind) || !whole(act) || act.v !== 1) throw notGenuine('kind or members');
  if (act.sam !== keys.sam || act.epoch !== keys.epoch) throw notGenuine('issuer');
  if (![act.iat, act.exp].every(Number.isSafeInteger) || act.exp <= act.iat || act.exp - act.iat > MAX_LIFE) {
    throw notGenuine('life');
  }
  if (Object.hasOwn(act, BRAND) && !isBrand(act.brand)) throw notGenuine('members');
  if (!exactly(act.person, ['id', 'name']) || !/^https?:\/\//.test(act.return)) throw notGenuine('members');
  if (kind === 'sign') checkSign(act);
  else if (kind === 'sign-open') checkOpen(act);
  else if (kind === 'enrol') checkEnrol(act);
  else checkChange(act);
  // Minted a moment ago: if it isn't valid now, the clock here is wrong.
  if (now >= act.exp || act.iat > now + SKEW) throw new Refused('error-clock-skew', 'act');
  return { act, digest: await sha256('natsuin-act-v1\n', jws) };
}

const optional = (kind) => [BRAND, ...(Object.hasOwn(OPTIONAL, kind) ? OPTIONAL[kind] : [])];
const whole = (act) => exactly(act, [...MEMBERS[act.kind], ...optional(act.kind).filter((name) => Object.hasOwn(act, name))]);
const isKey = (key) => exactly(key, ['id', 'version', 'spki', 'cert', 'subject']);
const isPublic = (jwk) => exactly(jwk, ['kty', 'crv', 'x', 'y']);
const isName = (text) => typeof text === 'string' && text !== '' && [...text].length <= 60;
const isBrand = (brand) =>
  exactly(brand, ['ja', 'en', ...(Object.hasOwn(brand ?? {}, 'colour') ? ['colour'] : [])]) && isName(brand.ja) && isName(brand.en) &&
  /^#[0-9a-f]{6}$/.test(brand.colour ?? '#000000');
/** Evaluations that the operator names; where there are none, the member is missing. */
const isDeclared = (list) =>
  list === undefined || (Array.isArray(list) && list.length > 0 && list.every((one) => typeof one === 'string' && one !== ''));
const isSince = (since) => exactly(since, ['act', 'factors', 'keys']);

function checkEnrol({ replaces, exportable, one_time: oneTime }) {
  const form =
    replaces === null ||
    (exactly(replaces, ['registration', 'keys']) && Array.isArray(replaces.keys) && replaces.keys.every(isKey));
  if (!form || ![exportable, oneTime].every((flag) => [undefined, true].includes(flag))) throw notGenuine('members');
}

const FORMS = {
  leave: (act) => Array.isArray(act.keys) && act.keys.every(isKey) && Array.isArray(act.factors),
  factor: ({ change }) =>
    Object.hasOwn(CHANGES, change?.do) && exactly(change, CHANGES[change.do]) &&
    (change.do !== 'add-device' || isPublic(change.key)),
  import: (act) => CASES.includes(act.case) && fromB64u(act.spki).length === 32 && Number.isSafeInteger(act.until),
  'hand-over': (act) => isKey(act.key) && isPublic(act.receiver),
  officer: (act) =>
    typeof act.what === 'string' && typeof act.text === 'string' && Number.isSafeInteger(act.needs) && fromB64u(act.document).length === 32,
};

function checkChange(act) {
  const form = Object.hasOwn(FORMS, act.kind) ? FORMS[act.kind](act) : isKey(act.key);
  if (!isSince(act.since) || !form) throw notGenuine('members');
}

/** Without a list only at level 1, and within bounds. */
function checkOpen(act) {
  const form =
    isKey(act.key) &&
    exactly(act.client, ['id', 'name', 'known', 'signed']) &&
    isSince(act.since) &&
    act.level === 1 &&
    [act.count, act.until].every(Number.isSafeInteger) &&
    act.count >= 1 &&
    act.count <= 10000 &&
    act.until >= act.exp &&
    act.until - act.iat <= MAX_OPEN;
  if (!form) throw notGenuine('members');
}

function checkSign(act) {
  const form =
    isKey(act.key) &&
    exactly(act.client, ['id', 'name', 'known', 'signed']) &&
    isSince(act.since) &&
    isDeclared(act.declared) &&
    Array.isArray(act.items) &&
    act.items.length >= 1 &&
    act.items.length <= 10000 &&
    act.items.every(checkItem);
  if (!form) throw notGenuine('members');
}

function checkItem(item) {
  const length = HASH_LENGTH[item.ha];
  const form =
    item.form === 'hash'
      ? exactly(item, ['form', 'ha', 'h', 'label'])
      : item.form === 'doc' &&
        (exactly(item, ['form', 'ha', 'h', 'label', 'd', 'm']) ||
          exactly(item, ['form', 'ha', 'h', 'label', 'd', 'm', 'ranges'])) &&
        fromB64u(item.d).length === length;
  return form && typeof item.label === 'string' && fromB64u(item.h).length === length;
}

/** Whether two acts say the same in everything but the moment of minting (SAP step 5). */
export function sameShown(a, b) {
  const shown = (act) => JSON.stringify({ ...act, nonce: 0, iat: 0, exp: 0 });
  return shown(a) === shown(b);
}
