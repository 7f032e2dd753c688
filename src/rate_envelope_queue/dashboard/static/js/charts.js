// Three charts of the last minutes. A point is [at, started, succeeded, failed, ready, delayed, running, p50, p95, wait].
import { make, say } from "./dom.js";
import { NOTHING, number, rate, seconds } from "./text.js";

const LEAST_SPAN = 60; // seconds shown
const SPAN = 300;
const MOST = 320; // points kept
const HEIGHT = 160;

const CHARTS = [
  {
    title: "Throughput", what: "runs a second", text: rate,
    lines: [["started", 1, "a"], ["succeeded", 2, "b"], ["failed", 3, "c"]],
  },
  {
    title: "Depth", what: "entries", text: number,
    lines: [["ready", 4, "a"], ["delayed", 5, "d"], ["running", 6, "b"]],
  },
  {
    title: "Latency", what: "of a run, and of the wait before it", text: seconds, floor: 0.001,
    lines: [["p50", 7, "b"], ["p95", 8, "a"], ["wait p95", 9, "d"]],
  },
];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

class Chart {
  constructor(parent, { title, what, text, lines, floor = 1 }) {
    this.lines = lines;
    this.text = text;
    this.title = title;
    this.values = lines.map(() => make("b", "", NOTHING));
    const legend = make("div", "legend", ...lines.map(([label, , key], place) =>
      make("span", "", make("i", `key key-${key}`), label, this.values[place])));
    this.plot = make("div", "plot");
    this.plot.setAttribute("role", "img");
    this.what = what;
    parent.append(make("figure", "panel", make("figcaption", "panel-head", make("h2", "", title), legend), this.plot));
    this.chart = new window.uPlot(this.options(floor), [[], ...lines.map(() => [])], this.plot);
    new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width > 0) this.chart.setSize({ width, height: HEIGHT });
    }).observe(this.plot);
  }

  options(floor) {
    const axis = {
      stroke: () => colour("--soft"), font: "11px ui-sans-serif, system-ui, sans-serif",
      grid: { stroke: () => colour("--grid"), width: 1 }, ticks: { show: false },
    };
    return {
      width: 300, height: HEIGHT, padding: [8, 20, 0, 0], legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { range: (_, min, max) => (max === null ? [0, SPAN] : [max - Math.min(SPAN, Math.max(LEAST_SPAN, max - min)), max]) },
        y: { range: (_, __, max) => [0, Math.max(floor, (max ?? 0) * 1.12)] },
      },
      axes: [
        { ...axis, space: 70, size: 26, values: (_, splits) => splits.map(clockTime) },
        { ...axis, space: 32, size: 54, values: (_, splits) => splits.map((value) => this.text(value)) },
      ],
      series: [{}, ...this.lines.map(([label, , key]) => ({
        label, stroke: () => colour(`--chart-${key}`), width: 1.6, points: { show: false }, spanGaps: true,
      }))],
      hooks: { setCursor: [() => this.tell()] },
    };
  }

  show(points) {
    const columns = [points.map((point) => point.at)];
    for (const [, field] of this.lines) columns.push(points.map((point) => point.values[field]));
    this.chart.setData(columns);
    this.tell();
  }

  // The values under the pointer, else the last ones.
  tell() {
    const { data, cursor } = this.chart;
    const place = cursor.idx ?? data[0].length - 1;
    const said = this.lines.map(([label], line) => {
      const value = this.text(data[line + 1][place] ?? null);
      say(this.values[line], value);
      return `${label} ${value}`;
    });
    this.plot.setAttribute("aria-label", `${this.title} of the last minutes, ${this.what}: ${said.join(", ")}`);
  }
}

function clockTime(at) {
  const date = new Date(at * 1000);
  const two = (value) => String(value).padStart(2, "0");
  const seconds_ = date.getSeconds() ? `:${two(date.getSeconds())}` : "";
  return `${two(date.getHours())}:${two(date.getMinutes())}${seconds_}`;
}

export class Charts {
  constructor(parent) {
    this.charts = CHARTS.map((chart) => new Chart(parent, chart));
    this.points = []; // of each queue
    this.offset = null; // from the server's clock to ours
    document.addEventListener("theme", () => this.charts.forEach(({ chart }) => chart.redraw(false, true)));
  }

  // What the server remembers; *points* came after the last state that we have.
  history({ now, points }) {
    this.offset ??= Date.now() / 1000 - now;
    if (this.now !== undefined && now < this.now) { // another start of the server
      this.points = [];
      this.offset = Date.now() / 1000 - now;
    }
    points.forEach((some, queue) => some.forEach((point) => this.add(queue, point, now)));
  }

  add(queue, values, now) {
    this.now = now;
    const points = (this.points[queue] ??= []);
    const at = values[0] + this.offset;
    if (points.length && at <= points[points.length - 1].at) return;
    points.push({ at, values });
    if (points.length > MOST) points.splice(0, points.length - MOST);
  }

  show(queue) {
    const points = this.points[queue] ?? [];
    this.charts.forEach((chart) => chart.show(points));
  }
}
