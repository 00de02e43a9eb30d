// Building the page without ever parsing HTML, texts from the message files, times in Japan.

let texts = {};
export const lang = globalThis.document?.documentElement.lang === 'en' ? 'en' : 'ja';

export async function loadTexts() {
  texts = await (await fetch(`/sic/messages.${lang}.json`)).json();
}

/** Text by id with its values, as nodes: values may be nodes themselves. */
export function t(id, values = {}) {
  return (texts[id] ?? id)
    .split(/(\{[a-z_]+\})/)
    .filter((part) => part !== '')
    .map((part) => (part.startsWith('{') && part.slice(1, -1) in values ? values[part.slice(1, -1)] : part));
}

/** The same as plain text. */
export function s(id, values) {
  return t(id, values).map((p) => p.textContent ?? p).join('');
}

/** Makes an element. `on*` members become listeners, everything else attributes. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(9).filter((c) => c != null && c !== false).map((c) => c.nodeType ? c : String(c)));
  return node;
}

/** Text from outside: control characters and marks that turn the direction of text become visible. */
export function clean(text) {
  return String(text).replace(
    /[\p{Cc}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\u{e0000}-\u{e007f}]/gu,
    '\ufffd',
  );
}

export const foreign = (text) => el('bdi', {}, clean(text));

/** Cuts in the middle, so that the ending of a file name stays. */
export function middle(text, max) {
  const chars = [...text];
  if (chars.length <= max) return text;
  const tail = Math.floor((max - 1) / 2);
  return `${chars.slice(0, max - 1 - tail).join('')}…${chars.slice(-tail).join('')}`;
}

export const group4 = (text) => text.replace(/(.{4})(?=.)/gu, '$1 ');
export const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');

const two = (n) => String(n).padStart(2, '0');

/** Day and time in Japan; the zone's name is added. */
export function time(seconds, in_lang = lang) {
  const d = new Date((seconds + 9 * 3600) * 1000);
  const clock = [d.getUTCHours(), d.getUTCMinutes(), d.getUTCSeconds()].map(two).join(':');
  const [year, month, day] = [d.getUTCFullYear(), d.getUTCMonth(), d.getUTCDate()];
  return in_lang === 'ja'
    ? `${year}年${month + 1}月${day}日(${'日月火水木金土'[d.getUTCDay()]}) ${clock} 日本時間`
    : `${day} ${'JanFebMarAprMayJunJulAugSepOctNovDec'.slice(month * 3, month * 3 + 3)} ${year}, ${clock} JST`;
}

/** Hour and minute in Japan, for a limit that is minutes away. */
export function clock(seconds) {
  const d = new Date((seconds + 9 * 3600) * 1000);
  return `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
}

export const stamp = (seconds) =>
  el('time', { datetime: new Date(seconds * 1000).toISOString(), class: 'num' }, time(seconds));

export const facts = (pairs) =>
  el('dl', { class: 'facts' }, pairs.filter(Boolean).map(([k, ...v]) => el('div', {}, el('dt', {}, k), el('dd', {}, v))));

/** Whose signers this is for, as the SAM has signed it; nothing, where the provider has no tenants' names to tell apart. */
export function brand({ brand: shown }) {
  if (!shown) return null;
  const node = el('p', { class: 'whose', id: 'brand' }, t('sic-brand', { name: foreign(shown[lang]) }));
  // A style attribute would be refused by the page's own policy; this isn't one.
  if (shown.colour) node.style.setProperty('--brand', shown.colour);
  return node;
}

/** Error or notice as *what happened* and *what to do*. */
export function message(kind, what, todo, ...more) {
  return el(
    'div',
    { class: kind, role: kind === 'alarm' ? 'alert' : 'status', tabindex: '-1' },
    kind === 'alarm' && el('strong', {}, t('error-word')),
    el('p', {}, el('em', {}, what)),
    todo && el('p', {}, todo),
    more,
  );
}

/** A labelled input that can be pasted into; secrets can be shown. With `options`, pairs of value and text, a choice; with `rows`, long. */
export function field(id, label, hint, { options, ...attributes }) {
  const tag = options ? 'select' : attributes.rows ? 'textarea' : 'input';
  const input = el(tag, { id, 'aria-describedby': `${id}-hint ${id}-error`, required: true, ...attributes },
    options?.map(([value, text]) => el('option', { value }, text)));
  const error = el('p', { class: 'error', id: `${id}-error`, hidden: true });
  const secret = attributes.type === 'password';
  const show = secret && el('button', {
    type: 'button', class: 'plain smallb', 'aria-controls': id,
    onclick: () => {
      const hidden = input.type === 'password';
      input.type = hidden ? 'text' : 'password';
      show.textContent = s(hidden ? 'hide' : 'show');
    },
  }, t('show'));
  const node = el(
    'div', { class: 'field' }, el('label', { for: id }, label),
    hint && el('p', { class: 'hint', id: `${id}-hint` }, hint),
    secret ? el('div', { class: 'with' }, input, show) : input, error,
  );
  const fail = (text) => {
    error.hidden = !text;
    error.textContent = text ?? '';
    input.setAttribute('aria-invalid', String(Boolean(text)));
    return !text;
  };
  return { node, input, fail };
}

const root = () => document.getElementById('app');

/** Puts the page's content in place of the old. */
export function show(...nodes) {
  root().replaceChildren(...nodes.flat(9).filter(Boolean));
}

/** Says something to screen readers without moving the focus. */
export function announce(text) {
  document.getElementById('live').textContent = text;
}

export function title(text) {
  document.title = `${text} — ${s('product')}`;
}

/** A link that saves `text` as a file of this name. It lives as long as the page. */
export function saveLink(id, name, text, label) {
  const href = URL.createObjectURL(new Blob([text], { type: 'application/octet-stream' }));
  return el('a', { id, class: 'button plain', href, download: name }, label);
}

/** Waits before something that people didn't press. */
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export const now = () => Math.floor(Date.now() / 1000);
