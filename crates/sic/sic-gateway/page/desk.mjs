// Who is at work on the officers' page: the session, the calls within it, and the passkey that begins a session or proves an
// approval. The session lives in memory and ends idle, in any case, and with the page.

import { Refused } from './act.mjs';
import { b64u } from './jose.mjs';
import { Lost, No, call, config } from './net.mjs';
import { openAct } from './office.mjs';
import * as passkey from './passkey.mjs';
import { clean, el, message, now, s, t } from './ui.mjs';

/** The session, its account, its officer and their office; nothing while nobody is logged in. */
export let me;

let timer;
let over = () => {};
/** Calls of the session that still wait. */
let calls = new AbortController();

/** What is done when a session has come to its end; it gets the error that made it so, if one did. */
export function atTheEnd(done) {
  over = done;
}

/** Nobody is logged in from here on. */
export function forget() {
  clearTimeout(timer);
  me = undefined;
}

function stay() {
  clearTimeout(timer);
  const left = Math.min(me.idle, me.until - now());
  timer = setTimeout(() => over(), Math.max(0, left) * 1000);
}

/** A call within the session. */
export async function ask(path, body = {}) {
  const answer = await call(`office/${path}`, { session: me.session, ...body }, calls.signal);
  stay();
  return answer;
}

/** The checked act with which this account logs in. */
export async function openLogIn(account) {
  const opened = await openAct(await call('office/log-in/open', { account }), true);
  if (opened.act.person.id !== account) throw new Refused('error-act-not-genuine');
  return opened;
}

/** Begins a session by a proof over that act. */
export async function begin(opened, proof) {
  const answer = await call('office/log-in', { proof });
  me = { ...answer, account: opened.act.person.id, tenant: opened.act.tenant };
  stay();
}

/** Ends the session at the SAM. What it still asks for is given up, as it would be refused. */
export function end() {
  calls.abort();
  calls = new AbortController();
  return call('office/log-out', { session: me.session });
}

/**
 * The same for somebody who is logged in: what has consequences wants a session of this minute. The earlier one ends before, for two at
 * a time are an alarm (`double-session`). Whether a session began; if none did, the page has come to the end of the one before.
 */
export async function beginAnew(opened, proof) {
  // It would end by itself.
  if (me) await end().catch(() => {});
  try {
    await begin(opened, proof);
  } catch (error) {
    over(error);
    return false;
  }
  return true;
}

/**
 * A button whose press starts the passkey at once; `done` gets the proof, `failed` the words for why there is none, or for why what
 * was done with it was refused (`refused`: id of these words). With `ready`, only if that says so.
 */
export function prove(opened, label, kind, done, failed, { ready = () => true, refused = 'office-refused' } = {}) {
  // Made before the click: browsers refuse a prompt that comes after waiting.
  const options = passkey.getOptions(opened.digest, config.rp_id, opened.passkeys);
  const button = el('button', {
    id: 'prove', type: 'button', class: kind,
    onclick: () => {
      if (!ready()) return;
      const pending = passkey.get(options, new AbortController());
      button.disabled = true;
      pending
        .then((made) => done({ method: 'passkey', act: b64u(opened.digest), ...made }))
        .catch((error) => {
          const known = error instanceof No || error instanceof Refused || error instanceof Lost;
          failed(known ? said(error, refused) : message('note', t('error-cancelled'), t('error-cancelled-do')));
        });
    },
  }, label);
  return button;
}

/** An error as words. `id`: what happened; what to do is said by the rule that stands against it, or for the kind of refusal. */
export function said(error, id) {
  if (error instanceof Lost) return message('alarm', t('office-lost'), t('office-lost-do'));
  if (error instanceof Refused) return message('alarm', t(error.code), t(`${error.code}-do`));
  if (!(error instanceof No)) return message('alarm', t('error-act-not-genuine'), t('error-act-not-genuine-do', { ref: '–' }));
  const why = error.rule ? `office-rule-${error.rule}` : `${id}-${error.code}`;
  const rule = error.rule && el('p', { class: 'small' }, t('office-rule', { what: el('code', {}, clean(error.rule)) }));
  return message('alarm', t(id), t(s(why) === why ? `${id}-do` : why), rule);
}
