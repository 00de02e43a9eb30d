// What will be signed: one document, or thousands in real rows.

import { fromB64u } from './jose.mjs';
import { clean, el, facts, foreign, group4, hex, middle, s, t } from './ui.mjs';

/** From this many documents on, searching and grouping help. */
const MANY = 12;

export function listOf(items) {
  const names = items.map((i) => clean(i.label));
  const rows = items.map((item, i) => row(item, names[i], items.length > 1 ? i + 1 : 0));
  const list = el('ol', { class: 'rows' }, rows);
  const card = el('section', { class: 'card flat', 'aria-label': s('sic-items') }, list);
  const twins = sameContent(items);
  const notes = [
    twins && el('p', { class: 'note' }, t('sic-same-content', { label: twins })),
    items.length > 1 && el('p', { class: 'small quiet' }, t('sic-all-or-none')),
  ];
  if (items.length < MANY) return [card, notes];
  return [groups(names), search(rows, names), card, notes];
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

/** Numbers of documents whose bytes are equal. */
function sameContent(items) {
  const seen = new Map();
  items.forEach((item, i) => seen.set(item.h, [...(seen.get(item.h) ?? []), i + 1]));
  return [...seen.values()].filter((n) => n.length > 1).map((n) => n.join(', ')).join(' / ');
}

/** Names with their digits replaced, rarest first: that is where a foreign document stands out. */
function groups(names) {
  const counts = new Map();
  for (const name of names) {
    const pattern = name.replace(/[0-90-9]+/gu, '*');
    counts.set(pattern, (counts.get(pattern) ?? 0) + 1);
  }
  if (counts.size < 2 || counts.size > 20) return null;
  const sorted = [...counts].sort((a, b) => a[1] - b[1]);
  return el('section', { class: 'card' },
    el('h2', {}, t('sic-groups')),
    facts(sorted.map(([pattern, n]) => [
      foreign(middle(pattern, 60)), el('span', { class: 'num' }, t('sic-group-count', { n })),
      n === 1 && [' ', el('span', { class: 'tag' }, t('sic-group-odd'))],
    ])));
}

function search(rows, names) {
  const found = el('p', { class: 'small quiet num', role: 'status' }, t('sic-found', { n: names.length, total: names.length }));
  const input = el('input', {
    id: 'find', type: 'search', autocomplete: 'off',
    oninput: () => {
      const wanted = input.value.toLowerCase();
      let n = 0;
      names.forEach((name, i) => {
        const hit = name.toLowerCase().includes(wanted);
        rows[i].hidden = !hit;
        n += hit ? 1 : 0;
      });
      found.replaceChildren(...t(n ? 'sic-found' : 'sic-none-found', { n, total: names.length }).map(String));
    },
  });
  return el('div', { class: 'field' }, el('label', { for: 'find' }, t('sic-search')), input, found);
}
