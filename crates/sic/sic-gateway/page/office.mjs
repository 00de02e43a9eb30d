// What officers look at before they approve: acts of kind `officer`, and their documents in words.

import { Refused, verifyAct } from './act.mjs';
import { b64u, sha256 } from './jose.mjs';
import { samKeys } from './net.mjs';
import { clean, foreign, now, t } from './ui.mjs';

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

export const rolesOf = (office) =>
  office.roles.flatMap((role, i) => [i > 0 && ' + ', ...t(`office-role-${role}`)]).filter(Boolean);

/** What is proposed, in one sentence; the same that the command line shows. */
export function inWords({ measure, facts }) {
  // Another tenant's person with the tenant's name behind.
  const name = foreign(`${facts.name ?? ''}${facts.tenant ? ` (${facts.tenant})` : ''}`);
  const code = (text) => foreign(text);
  switch (measure.measure) {
    case 'appoint': return t('office-do-appoint', { name: foreign(measure.name), what: span(rolesOf(measure.office)) });
    case 'account': return t('office-do-account', { name, what: code(measure.account) });
    case 'office': return t('office-do-office', { name, what: span(rolesOf(measure.office)) });
    case 'dismiss': return t('office-do-dismiss', { name });
    case 'key': return t(`office-do-key-${measure.action}`, { name, what: code(measure.key) });
    case 'factors': return t('office-do-factors', { name });
    case 'client': return t('office-do-client', { name: foreign(measure.name), what: code(measure.client) });
    case 'forget-client': return t('office-do-forget-client', { what: code(measure.client) });
    case 'settings': return t(`office-do-settings-${measure.part}`, { what: code(measure.digest) });
    case 'module': return t(measure.enabled ? 'office-do-module-on' : 'office-do-module-off');
    case 'restore': return t('office-do-restore', { name: foreign(measure.zone), what: code(measure.backup) });
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
