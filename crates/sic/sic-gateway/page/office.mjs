// What officers look at before they approve: acts of kind `officer`, and their documents in words.

import { Refused, verifyAct } from './act.mjs';
import { b64u, exactly, fromB64u, sha256, verifyJws } from './jose.mjs';
import { samKeys } from './net.mjs';
import { clean, el, foreign, now, t } from './ui.mjs';

const notGenuine = () => new Refused('error-act-not-genuine');

/** A checked act with its digest, passkeys and document; a log-in has no document. */
export async function openAct(answer, login) {
  return checkAct(answer, login, await samKeys(), now());
}

/** The same with keys and time given. */
export async function checkAct(answer, login, keys, time) {
  const { act, digest } = await verifyAct(answer.act, keys, 'officer', time);
  const passkeys = answer.passkeys;
  if (login) {
    if (act.what !== 'log-in' || answer.document !== '') throw notGenuine();
    return { act, digest, passkeys };
  }
  if (b64u(await sha256(answer.document)) !== act.document) throw notGenuine();
  const document = read(answer.document);
  if (document?.sam !== act.sam || document.measure.measure !== act.what) throw notGenuine();
  return { act, digest, passkeys, document, text: answer.document };
}

/** A document, if it is one. */
export function read(text) {
  try {
    const document = JSON.parse(text);
    return typeof document.measure?.measure === 'string' ? document : null;
  } catch {
    return null;
  }
}

/** What the officers of the module sign beside their approval: with which command, or nothing if it isn't of the form. */
export function switchCommand(text) {
  let told;
  try {
    told = JSON.parse(text);
  } catch {
    return null;
  }
  const good = exactly(told, ['sam', 'root', 'enabled', 'reason', 'serial', 'exp']) && typeof told.enabled === 'boolean' &&
    typeof told.reason === 'string' && clean(told.reason) === told.reason && [told.serial, told.exp].every(Number.isSafeInteger);
  if (!good) return null;
  const to = told.enabled ? 'enabled' : 'disabled';
  // The reason is somebody's words: one word of the shell, whatever stands in it.
  const reason = `'${told.reason.replaceAll("'", `'\\''`)}'`;
  return `natsuin-cm approve --key officer.key --root cm-root.jwk --to ${to} --serial ${told.serial} --reason=${reason} --exp ${told.exp}`;
}

/** Whether this is somebody's signature for the module over just these bytes. Whose it is, and whether it is good, is the module's to say. */
export function isSwitch(jws, text) {
  try {
    const [head, payload, value, ...more] = jws.split('.');
    const { alg, typ } = JSON.parse(new TextDecoder().decode(fromB64u(head)));
    return more.length === 0 && alg === 'ES256' && typ === 'natsuin-cm-switch+jws' && fromB64u(value).length === 64 &&
      payload === b64u(new TextEncoder().encode(text));
  } catch {
    return false;
  }
}

/** Whether this is the word of a pinned root that this key was destroyed with this proposal. */
export async function isDestruction(jws, key, proposal, roots) {
  for (const root of roots) {
    const text = await verifyJws(jws, 'natsuin-destruction+jws', root).catch(() => null);
    if (text === null) continue;
    const told = JSON.parse(text);
    return told.key === key && told.act === proposal;
  }
  return false;
}

export const rolesOf = (office) =>
  office.roles.flatMap((role, i) => [i > 0 && ' + ', ...t(`office-role-${role}`)]).filter(Boolean);

/** A key's level and why it isn't higher, and where it comes from. */
export const levelOf = ({ level, origin, case: way }) => [
  el('p', {}, t(`office-level-${level.because}`, { n: level.level })),
  level.needs.length > 0 && el('p', { class: 'hint' }, t('office-level-needs', { what: clean(level.needs.join(', ')) })),
  el('p', { class: 'quiet' }, t(`office-origin-${way}`), ' ', el('code', {}, clean(origin))),
];

/** What rests on the operator's word alone: evaluations, each once. */
export const declaredOf = (declared) => foreign([...new Set(declared.map((one) => one.reference))].join(', '));

/** What is proposed, in one sentence; the same that the command line shows. */
export function inWords({ measure, facts }) {
  // Another tenant's person with the tenant's name behind.
  const name = foreign(`${facts.name ?? ''}${facts.tenant ? ` (${facts.tenant})` : ''}`);
  const code = (text) => foreign(text);
  switch (measure.measure) {
    case 'appoint': return t('office-do-appoint', { name: foreign(measure.name), what: span(rolesOf(measure.office)) });
    case 'account': return t(facts.wait ? 'office-do-account-again' : 'office-do-account', { name, what: code(measure.account) });
    case 'confirm': return t('office-do-confirm', { name, what: code(`${measure.passkey} (${measure.account})`) });
    case 'office': return t('office-do-office', { name, what: span(rolesOf(measure.office)) });
    case 'dismiss': return t('office-do-dismiss', { name });
    case 'key': return t(`office-do-key-${measure.action}`, { name, what: code(measure.key) });
    case 'factors': return t('office-do-factors', { name });
    case 'client': return t('office-do-client', { name: foreign(measure.name), what: code(measure.client) });
    case 'forget-client': return t('office-do-forget-client', { what: code(measure.client) });
    case 'settings': return t(`office-do-settings-${measure.part}`, { what: code(measure.digest) });
    case 'module': return t(measure.enabled ? 'office-do-module-on' : 'office-do-module-off');
    case 'delete-archived': return t('office-do-delete-archived', { name: foreign(`${measure.zone.toUpperCase()} (0–${measure.size - 1})`), what: code(measure.archive) });
    case 'forget-person': return t('office-do-forget-person', { what: code(measure.subject) });
    case 'end-keys': return t(`office-do-end-keys-${measure.cause}`, { name: measure.tenant ? foreign(measure.tenant) : span(t('office-whole-service')), what: code(String(facts.keys)) });
    default: return [clean(measure.measure)];
  }
}

function span(nodes) {
  const node = document.createElement('span');
  node.append(...nodes);
  return node;
}
