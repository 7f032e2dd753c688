// The head of a queue: its state, its controls, and the numbers that matter.
import { find, make, name, say, show } from "./dom.js";
import { number, rate, seconds, share } from "./text.js";

const TILES = [
  { title: "Ready", value: ({ stats }) => number(stats.ready + stats.buffered), note: ({ stats }) => (stats.buffered ? "until it is started" : "wait for a worker") },
  { title: "Running", value: ({ stats }) => number(stats.running), unit: ({ stats }) => `of ${number(stats.workers)}`, note: ({ stats }) => (stats.running >= stats.workers && stats.workers ? "all workers busy" : "workers") },
  { title: "Delayed", value: ({ stats }) => number(stats.delayed), note: () => "until their time" },
  { title: "Started", value: ({ rates }) => rate(rates.started), unit: () => "/s", note: ({ stats }) => `${number(stats.runs_started)} in all` },
  { title: "Failed", value: ({ rates }) => rate(rates.failed), unit: () => "/s", note: ({ stats }) => `${number(stats.runs_failed)} in all`, mood: ({ rates }) => (rates.failed > 0 ? "bad" : "") },
  { title: "Run time p95", value: ({ latency }) => seconds(latency.p95), note: ({ latency }) => `longest ${seconds(latency.max)}` },
  { title: "Dead letters", value: ({ dead_letters }) => number(dead_letters.count), note: ({ stats }) => `${number(stats.dropped)} dropped in all`, mood: ({ dead_letters }) => (dead_letters.count ? "warn" : "") },
  { title: "Occupancy", value: ({ stats }) => number(stats.occupancy), note: ({ stats, capacity }) => (capacity === null ? "no limit" : `${share(stats.occupancy, capacity)} of ${number(capacity)}`), mood: ({ stats, capacity }) => (capacity !== null && stats.occupancy >= 0.9 * capacity ? "warn" : "") },
];

class Tile {
  constructor(parent, wanted) {
    Object.assign(this, wanted);
    this.number = make("span");
    this.unitText = make("span", "unit");
    this.noteText = make("span", "note");
    this.node = make("div", "tile", make("dt", "", this.title), make("dd", "", this.number, this.unitText), this.noteText);
    parent.append(this.node);
  }

  show(queue) {
    say(this.number, this.value(queue));
    say(this.unitText, this.unit?.(queue) ?? "");
    say(this.noteText, this.note(queue));
    name(this.node, `tile ${this.mood?.(queue) ?? ""}`.trim());
  }
}

export class Head {
  constructor(onAction) {
    this.tiles = TILES.map((tile) => new Tile(find("tiles"), tile));
    this.queue = null;
    const steps = { fewer: -1, more: 1 };
    for (const id of Object.keys(steps)) {
      find(id).addEventListener("click", () => onAction("resize", { workers: this.queue.stats.workers + steps[id] }, find(id)));
    }
    find("pause").addEventListener("click", () => onAction(this.queue.is_paused ? "resume" : "pause", {}, find("pause")));
    find("start").addEventListener("click", () => onAction("start", {}, find("start")));
    find("stop").addEventListener("click", () => onAction("stop", {}, find("stop")));
  }

  show(queue, actions) {
    this.queue = queue;
    const { state } = queue;
    say(find("name"), queue.name);
    say(find("state"), state);
    name(find("state"), `state ${state}`);
    show(find("paused"), Boolean(queue.is_paused));
    show(find("read-only"), actions.length === 0);
    show(find("controls"), actions.length > 0 && !queue.error);
    show(find("queue-fault"), Boolean(queue.error));
    say(find("queue-fault"), queue.error ? `This queue cannot be read: ${queue.error}` : "");
    for (const part of ["tiles", "charts", "tables"]) show(find(part), !queue.error);
    if (queue.error) return;
    this.tiles.forEach((tile) => tile.show(queue));
    const { workers } = queue.stats;
    say(find("workers"), `${number(workers)} worker${workers === 1 ? "" : "s"}`);
    find("fewer").disabled = workers <= 1;
    say(find("pause"), queue.is_paused ? "Resume" : "Pause");
    show(find("pause"), state !== "terminated");
    show(find("start"), state === "init" || state === "stopped");
    show(find("stop"), state === "running" || state === "stopping");
  }
}
