// The tables: what runs, what is due, dead letters, types.
import { Rows, make, name, say, show } from "./dom.js";
import { NOTHING, date, number, seconds, share, time } from "./text.js";

const entryCell = (item, cell) => {
  const [main, id, payload] = cell.children.length ? cell.children : [make("div", "main"), make("div", "sub"), make("div", "sub pre clamp")];
  if (!cell.children.length) cell.append(main, id, payload);
  say(main, item.type);
  say(id, item.id ?? "");
  show(id, item.id !== null);
  say(payload, item.payload ?? "");
  show(payload, item.payload !== undefined);
};

const text = (value) => (item, cell) => say(cell, value(item));

const errorCell = (item, cell) => {
  const [error, reason] = cell.children.length ? cell.children : [make("div", "clamp"), make("div", "sub clamp")];
  if (!cell.children.length) cell.append(error, reason);
  say(error, item.error || item.reason || NOTHING);
  say(reason, item.reason ?? "");
  show(reason, Boolean(item.error && item.reason && !item.error.includes(item.reason)));
  cell.title = item.error;
};

const letterTime = (item, cell) => {
  say(cell, time(item.at));
  cell.title = date(item.at);
};

const entry = { title: "Entry", fill: entryCell, kind: "text" };
const attempt = { title: "Attempt", fill: text((item) => item.attempt), kind: "number", optional: true };

const TABLES = [
  {
    title: "Running", empty: "Nothing runs.", key: (item) => item.entry, from: (queue) => queue.running,
    count: (queue) => queue.stats.running,
    columns: [entry, attempt, { title: "Age", fill: text((item) => seconds(item.age)), kind: "number" }],
    button: { label: "Cancel", action: "cancel", body: (item) => ({ entry: item.entry }), hint: "not to run again: this run goes on" },
  },
  {
    title: "Next due", empty: "Nothing is delayed.", key: (item) => item.entry, from: (queue) => queue.due,
    count: (queue) => queue.stats.delayed,
    columns: [entry, attempt, { title: "Due in", fill: text((item) => seconds(item.due_in)), kind: "number" }],
    button: { label: "Cancel", action: "cancel", body: (item) => ({ entry: item.entry }), hint: "take it out" },
  },
  {
    title: "Dead letters", empty: "No dead letters.", wide: true, key: (item) => item.letter,
    from: (queue) => queue.dead_letters.recent, count: (queue) => queue.dead_letters.count, clears: "clear_dead_letters",
    columns: [
      entry, { title: "Error", fill: errorCell, kind: "text" },
      { title: "Attempts", fill: text((item) => item.attempts), kind: "number", optional: true },
      { title: "At", fill: letterTime, kind: "number", optional: true },
    ],
    button: { label: "Retry", action: "retry", body: (item) => ({ letter: item.letter }), hint: "send it again" },
  },
  {
    title: "Slowest types", note: "last 5 minutes", empty: "No run has ended yet.", key: (item) => item.type,
    from: (queue) => top(queue.types.filter((type) => type.p95 !== null), (type) => type.p95),
    columns: [
      { title: "Type", fill: text((item) => item.type), kind: "text" },
      { title: "Runs", fill: text((item) => number(item.succeeded + item.failed)), kind: "number" },
      { title: "Mean", fill: text((item) => seconds(item.mean)), kind: "number", optional: true },
      { title: "p95", fill: text((item) => seconds(item.p95)), kind: "number" },
      { title: "Longest", fill: text((item) => seconds(item.max)), kind: "number", optional: true },
    ],
  },
  {
    title: "Most failing types", note: "last 5 minutes", empty: "No run has failed.", key: (item) => item.type,
    from: (queue) => top(queue.types.filter((type) => type.failed), (type) => type.failed),
    columns: [
      { title: "Type", fill: text((item) => item.type), kind: "text" },
      { title: "Failed", fill: text((item) => number(item.failed)), kind: "number" },
      { title: "Runs", fill: text((item) => number(item.succeeded + item.failed)), kind: "number" },
      { title: "Share", fill: text((item) => share(item.failed, item.succeeded + item.failed)), kind: "number" },
    ],
  },
];

function top(types, by) {
  return types.sort((one, other) => by(other) - by(one) || one.type.localeCompare(other.type)).slice(0, 10);
}

class Table {
  constructor(parent, wanted, onAction) {
    Object.assign(this, wanted);
    this.onAction = onAction;
    this.counter = make("span", "count");
    this.clear = make("button", "small end", "Clear all…");
    this.clear.type = "button";
    this.clear.addEventListener("click", () => onAction(this.clears, {}));
    const head = make("div", "panel-head", make("h2", "", this.title), this.counter);
    if (this.clears) head.append(this.clear);
    this.nothing = make("p", "empty", this.empty);
    this.body = make("tbody");
    this.actHead = make("th", "act");
    this.actHead.append(make("span", "", ""));
    const titles = make("tr", "", ...this.columns.map((column) => {
      const cell = make("th", classOf(column), column.title);
      cell.scope = "col";
      return cell;
    }));
    if (this.button) titles.append(this.actHead);
    this.table = make("table", "", make("thead", "", titles), this.body);
    this.table.setAttribute("aria-label", this.title);
    this.scroll = make("div", "scroll", this.table);
    const panel = make("section", this.wide ? "panel wide" : "panel", head, this.nothing, this.scroll);
    panel.tabIndex = -1;
    panel.setAttribute("aria-label", this.title);
    parent.append(panel);
    this.rows = new Rows(this.body, { key: this.key, fresh: () => this.fresh(), update: (row, item) => this.update(row, item) });
  }

  fresh() {
    const row = make("tr", "", ...this.columns.map((column) => make("td", classOf(column))));
    if (!this.button) return row;
    const button = make("button", "small", this.button.label);
    button.type = "button";
    button.title = this.button.hint;
    button.addEventListener("click", () => this.onAction(this.button.action, this.button.body(row.item), button));
    row.append(make("td", "act", button));
    return row;
  }

  update(row, item) {
    row.item = item;
    this.columns.forEach((column, place) => column.fill(item, row.children[place]));
    if (!this.button) return;
    const cell = row.lastElementChild;
    cell.firstElementChild.setAttribute("aria-label", `${this.button.label} ${item.type} ${item.id ?? ""}`.trim());
    show(cell, this.acts);
  }

  show(queue, actions) {
    const items = this.from(queue);
    const all = this.count?.(queue);
    this.acts = Boolean(this.button) && actions.includes(this.button.action);
    show(this.actHead, this.acts);
    show(this.clear, actions.includes(this.clears) && all > 0);
    say(this.counter, all === undefined ? this.note : all > items.length && items.length ? `${number(items.length)} of ${number(all)}` : number(all));
    this.rows.show(items);
    show(this.nothing, items.length === 0);
    show(this.scroll, items.length > 0);
    // What can be scrolled must be reached by the keyboard.
    const overflows = this.scroll.scrollHeight > this.scroll.clientHeight;
    if (overflows !== this.scroll.hasAttribute("tabindex")) {
      if (overflows) this.scroll.tabIndex = 0;
      else this.scroll.removeAttribute("tabindex");
    }
  }
}

const classOf = (column) => `${column.kind}${column.optional ? " optional" : ""}`;

export class Tables {
  constructor(parent, onAction) {
    this.tables = TABLES.map((table) => new Table(parent, table, onAction));
  }

  show(queue, actions) {
    this.tables.forEach((table) => table.show(queue, actions));
  }
}
