// Small tools for the document. Text is only ever set as text.

export const find = (id) => document.getElementById(id);

export function make(tag, name = "", ...children) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  for (const child of children) node.append(child);
  return node;
}

export function say(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function name(node, wanted) {
  if (node.className !== wanted) node.className = wanted;
}

export function show(node, isShown) {
  if (node.hidden === isShown) node.hidden = !isShown;
}

// Rows that stay the same elements as long as their keys are there, so that what has the focus keeps it.
export class Rows {
  constructor(body, { key, fresh, update }) {
    this.body = body;
    this.key = key;
    this.fresh = fresh;
    this.update = update;
    this.rows = new Map();
  }

  show(items) {
    const old = this.rows;
    this.rows = new Map();
    items.forEach((item, place) => {
      const key = this.key(item);
      const row = old.get(key) ?? this.fresh(item);
      old.delete(key);
      this.rows.set(key, row);
      this.update(row, item);
      const there = this.body.children[place];
      if (there !== row) this.body.insertBefore(row, this.dropped(there, old) ?? null);
    });
    const lost = [...this.body.children].filter((row) => ![...this.rows.values()].includes(row));
    const hadFocus = lost.some((row) => row.contains(document.activeElement));
    lost.forEach((row) => row.remove());
    if (hadFocus) this.body.closest("[tabindex]")?.focus({ preventScroll: true });
  }

  // Rows that go are taken out before others are moved past them: moving takes the focus away.
  dropped(there, old) {
    const gone = new Set(old.values());
    let next = there;
    while (next && gone.has(next) && !next.contains(document.activeElement)) {
      const after = next.nextElementSibling;
      next.remove();
      next = after;
    }
    return next;
  }
}
