// Calls to the SAM through the gateway.

import { Refused, verifyStatement } from './act.mjs';
import { now } from './ui.mjs';

export let config;

export async function loadConfig() {
  config = await (await fetch('/sic/config.json')).json();
  if (location.origin !== config.origin) throw new Refused('sic-wrong-address');
}

/** No answer came: whether it was done is unknown. */
export class Lost extends Error {}

/** The SAM said no. */
export class No extends Error {
  constructor(refusal) {
    super(refusal.code);
    this.code = refusal.code;
    this.tries = refusal.tries_left;
    this.requirement = refusal.requirement;
    this.rule = refusal.rule;
  }
}

/** One call; with `signal`, one that can be given up. */
export async function call(path, body, signal) {
  let answer;
  let content;
  try {
    answer = await fetch(`/sap/v1/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      redirect: 'error',
      signal,
    });
    content = await answer.json().catch(() => ({}));
  } catch {
    throw new Lost();
  }
  if (answer.status === 200) return content;
  if (answer.status === 422) throw new No(content);
  if (answer.status === 429) throw new Refused('sic-busy');
  if (answer.status === 503) throw new Refused('sic-unreachable');
  if (answer.status === 400 || answer.status === 413) throw new No({ code: 'malformed' });
  throw new Lost();
}

/** The SAM's keys of now, vouched for by a pinned root. */
export async function samKeys() {
  const { statement } = await call('keys', {});
  return verifyStatement(statement, config.roots, now());
}
