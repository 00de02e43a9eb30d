// The way to an identity provider and back. Its page opens beside this one, which keeps the act. What it says comes to `/p` of this
// origin, and from there over a channel of this origin: a window that was elsewhere is none of ours any more.

import { b64u } from './jose.mjs';

export const CHANNEL = 'natsuin-provider';

/** The provider's page for an act: an ID token for its digest, by somebody who proves themselves anew. */
export function address(hint, digest, state) {
  const url = new URL(hint.authorize);
  const members = {
    response_type: 'id_token', response_mode: 'fragment', scope: 'openid', client_id: hint.client, redirect_uri: `${location.origin}/p`,
    state, nonce: b64u(digest), prompt: 'login', max_age: '0', ...(hint.acr.length && { acr_values: hint.acr.join(' ') }),
  };
  for (const [name, value] of Object.entries(members)) url.searchParams.set(name, value);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw new TypeError('address');
  return url.href;
}

/** Opens the provider's page; has to be called by a press. Answers its ID token; fails when it says no, or on `abort`. */
export function ask(hint, digest, abort) {
  const state = b64u(crypto.getRandomValues(new Uint8Array(32)));
  const channel = new BroadcastChannel(CHANNEL);
  const answer = new Promise((resolve, reject) => {
    channel.onmessage = ({ data }) => {
      if (data?.state !== state) return;
      if (typeof data.id_token === 'string') resolve(data.id_token);
      else reject(new Error('refused'));
    };
    abort.signal.addEventListener('abort', () => reject(new Error('stopped')));
  });
  window.open(address(hint, digest, state), '_blank', 'noopener');
  return answer.finally(() => channel.close());
}
