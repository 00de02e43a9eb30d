// What will be signed: one document, or thousands in real rows.

import { compare } from './file.mjs';
import { fromB64u } from './jose.mjs';
import { clean, el, facts, foreign, group4, hex, message, middle, s, t } from './ui.mjs';

/** From this many documents on, searching and grouping help. */
const MANY = 12;
/** Rows that stand in the page at once; a telephone is slow with thousands. */
const AT_ONCE = 100;

export function listOf(items) {
  const names = items.map((i) => clean(i.label));
  const rows = new Rows(items, names);
  const card = el('section', { class: 'card flat', 'aria-label': s('sic-items') }, rows.list);
  const twins = sameContent(items);
  const notes = [
    twins && el('p', { class: 'note' }, t('sic-same-content', { label: twins })),
    items.length > 1 && el('p', { class: 'small quiet' }, t('sic-all-or-none')),
    items.some((i) => i.form === 'doc') && ownFile(items, names),
  ];
  if (items.length < MANY) return [card, notes];
  return [groups(names, rows), search(names, rows), card, rows.bar, notes];
}

/** A window on the rows: all of them can be reached, a hundred stand there. */
class Rows {
  constructor(items, names) {
    this.items = items;
    this.names = names;
    this.list = el('ol', { class: 'rows' });
    this.said = el('span', { class: 'small quiet num', role: 'status', id: 'rows-shown' });
    this.before = this.#button('rows-before', 'sic-rows-before', -1);
    this.after = this.#button('rows-after', 'sic-rows-after', 1);
    this.bar = el('nav', { class: 'row spread', 'aria-label': s('sic-items') }, this.before, this.said, this.after);
    this.show(items.map((_, i) => i));
  }

  /** Shows the rows with these numbers, from the first on. */
  show(numbers) {
    this.numbers = numbers;
    this.#draw(0);
  }

  #button(id, text, step) {
    const turn = () => {
      this.#draw(this.from + step * AT_ONCE);
      this.list.scrollIntoView({ block: 'start' });
    };
    return el('button', { id, class: 'plain smallb', type: 'button', onclick: turn }, t(text));
  }

  #draw(from) {
    this.from = from;
    const to = Math.min(from + AT_ONCE, this.numbers.length);
    const numbered = this.items.length > 1;
    this.list.replaceChildren(
      ...this.numbers.slice(from, to).map((i) => row(this.items[i], this.names[i], numbered ? i + 1 : 0)),
    );
    this.before.disabled = from === 0;
    this.after.disabled = to === this.numbers.length;
    this.bar.hidden = this.numbers.length <= AT_ONCE;
    this.said.replaceChildren(...t('sic-rows-shown', { from: from + 1, to, total: this.numbers.length }).map(String));
  }
}

function row(item, name, number) {
  const value = [
    el('p', { class: 'quiet small' }, t(item.form === 'doc' ? 'sic-hash-of-doc' : 'sic-hash'), ' ', item.ha.toUpperCase().replace('SHA', 'SHA-')),
    el('code', { class: 'code' }, group4(hex(fromB64u(item.h)))),
  ];
  return el('li', {},
    el('p', { class: 'name' }, number > 0 && el('span', { class: 'quiet num' }, `${number} `), foreign(middle(name, 80))),
    el('details', {}, el('summary', {}, t('sic-hash')), [...name].length > 80 && el('p', {}, foreign(name)), value,
      el('p', { class: 'hint' }, t('sic-hash-hint'))));
}

/** Numbers of documents whose bytes are equal; many of them are named by the first few. */
function sameContent(items) {
  const seen = new Map();
  items.forEach((item, i) => {
    const numbers = seen.get(item.h);
    if (numbers) numbers.push(i + 1);
    else seen.set(item.h, [i + 1]);
  });
  const few = (list, join) => (list.length > 12 ? [...list.slice(0, 12), '…'] : list).join(join);
  return few([...seen.values()].filter((n) => n.length > 1).map((n) => few(n, ', ')), ' / ');
}

/** Names with their digits replaced, rarest first: that is where a foreign document stands out. */
function groups(names, rows) {
  const found = new Map();
  names.forEach((name, i) => {
    const pattern = name.replace(/[0-90-9]+/gu, '*');
    const numbers = found.get(pattern);
    if (numbers) numbers.push(i);
    else found.set(pattern, [i]);
  });
  if (found.size < 2 || found.size > 20) return null;
  const sorted = [...found].sort((a, b) => a[1].length - b[1].length);
  return el('section', { class: 'card' },
    el('h2', {}, t('sic-groups')),
    facts(sorted.map(([pattern, numbers]) => [
      el('button', { class: 'link', type: 'button', onclick: () => rows.show(numbers) }, foreign(middle(pattern, 60))),
      el('span', { class: 'num' }, t('sic-group-count', { n: numbers.length })),
      numbers.length === 1 && [' ', el('span', { class: 'tag' }, t('sic-group-odd'))],
    ])));
}

function search(names, rows) {
  const found = el('p', { class: 'small quiet num', role: 'status' }, t('sic-found', { n: names.length, total: names.length }));
  const lower = names.map((name) => name.toLowerCase());
  const input = el('input', {
    id: 'find', type: 'search', autocomplete: 'off',
    oninput: () => {
      const wanted = input.value.toLowerCase();
      const hits = [];
      lower.forEach((name, i) => name.includes(wanted) && hits.push(i));
      rows.show(hits);
      const n = hits.length;
      found.replaceChildren(...t(n ? 'sic-found' : 'sic-none-found', { n, total: names.length }).map(String));
    },
  });
  return el('div', { class: 'field' }, el('label', { for: 'find' }, t('sic-search')), input, found);
}

/** Is the file on this device what will be signed? */
function ownFile(items, names) {
  const said = el('div', { role: 'status', id: 'compared' });
  const input = el('input', {
    id: 'compare', type: 'file', multiple: true,
    onchange: async () => {
      said.replaceChildren();
      for (const file of input.files) said.append(await verdict(file, items, names));
    },
  });
  return el('details', { class: 'card', id: 'own-file' },
    el('summary', {}, t('sic-file-title')),
    el('div', { class: 'field' },
      el('label', { for: 'compare' }, t('sic-file-choose')), el('p', { class: 'hint' }, t('sic-file-hint')), input, said));
}

async function verdict(file, items, names) {
  const name = foreign(middle(clean(file.name), 60));
  let found;
  try {
    found = await compare(file, items);
  } catch {
    found = { is: [], why: 'unread' };
  }
  if (!found.is.length) return message('alarm', t(`sic-file-${found.why}`, { name }));
  const which = found.is.slice(0, 5).map((i) => `${i + 1} ${middle(names[i], 40)}`).join(', ');
  return message('note', t('sic-file-same', { name, label: foreign(which) }));
}
