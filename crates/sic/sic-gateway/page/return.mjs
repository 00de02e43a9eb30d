// Where an identity provider sends a browser back: hands its answer to the page that waits for it, and is done.

import { CHANNEL } from './provider.mjs';
import { el, loadTexts, s, show, t, title } from './ui.mjs';

async function main() {
  const given = new URLSearchParams(location.hash.slice(1));
  // The answer stays in no history.
  history.replaceState(null, '', location.pathname + location.search);
  const channel = new BroadcastChannel(CHANNEL);
  channel.postMessage({ state: given.get('state'), id_token: given.get('id_token') });
  channel.close();
  window.close();
  await loadTexts();
  title(s('sic-provider-back'));
  show(el('h1', {}, t('sic-provider-back')), el('p', {}, t('sic-provider-back-do')));
}

main();
