// What somebody sees whose passkey was enrolled by a link and isn't confirmed yet: its digits, to be read out, and the one thing to ask for.

import { Refused } from './act.mjs';
import { ask, me, said } from './desk.mjs';
import { same } from './measures.mjs';
import { read } from './office.mjs';
import { announce, clean, el, message, s, show, t, title } from './ui.mjs';

/** For so many seconds it can be confirmed. */
const TTL = 7 * 24 * 3600;

/** Asks within the session that has just begun. `ways`: `{head, home}` of the page around it. */
export function unconfirmed(ways, notice) {
  if (!me) return; // The session ended meanwhile.
  const measure = { measure: 'confirm', officer: me.officer, account: me.account, passkey: me.unconfirmed };
  const button = el('button', {
    id: 'ask-confirm', type: 'button',
    onclick: async () => {
      button.disabled = true;
      try {
        const info = await ask('propose', { measure, reason: s('office-unconfirmed-reason'), ttl: TTL });
        if (!same(read(info.document)?.measure, measure)) throw new Refused('error-act-not-genuine');
        unconfirmed(ways, message('note', t('office-unconfirmed-asked'), t('office-unconfirmed-asked-do')));
      } catch (error) {
        unconfirmed(ways, said(error, 'office-unconfirmed-refused'));
      }
    },
  }, t('office-unconfirmed-ask'));
  title(s('office-unconfirmed'));
  show(ways.head(), notice, el('h1', {}, t('office-unconfirmed')), el('p', { class: 'lead' }, t('office-unconfirmed-lead')),
    el('section', { class: 'card' }, el('h2', {}, t('office-passkey')), el('code', { id: 'passkey', class: 'code' }, clean(me.unconfirmed)),
      el('p', {}, t('office-unconfirmed-do'))),
    el('div', { class: 'actions' }, button));
  announce(s('office-unconfirmed'));
  (notice ?? button).focus({ preventScroll: true });
}
