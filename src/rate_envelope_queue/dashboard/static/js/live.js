// The stream of states. A stream ends now and then, and the browser opens the next; what matters is when the last came.

const LATE = 4000; // milliseconds without a state after which the connection counts as lost
const LONGEST = 15000;

export class Live {
  constructor({ onHistory, onState, onLost, onRefused }) {
    Object.assign(this, { onHistory, onState, onLost, onRefused });
    this.source = null;
    this.heardAt = 0;
    this.wait = 500;
    this.timer = null;
  }

  start() {
    this.stop();
    this.heardAt = Date.now();
    this.open();
    this.timer = setInterval(() => this.look(), 500);
  }

  stop() {
    clearInterval(this.timer);
    this.source?.close();
    this.source = null;
  }

  open() {
    this.source?.close();
    const source = new EventSource("api/events");
    source.addEventListener("history", (event) => this.onHistory(JSON.parse(event.data)));
    source.addEventListener("state", (event) => {
      this.heardAt = Date.now();
      this.wait = 500;
      this.onState(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      if (source === this.source && source.readyState === EventSource.CLOSED) this.retry();
    });
    this.source = source;
  }

  // The browser has given up: ask why, and try again more and more slowly.
  async retry() {
    this.source = null;
    try {
      const answer = await fetch("api/session", { cache: "no-store" });
      if (answer.status === 401 && this.timer !== null) {
        this.stop();
        this.onRefused();
        return;
      }
    } catch { /* nobody there */ }
    setTimeout(() => {
      if (this.timer !== null && this.source === null) this.open();
    }, this.wait);
    this.wait = Math.min(LONGEST, this.wait * 2);
  }

  look() {
    const silent = Date.now() - this.heardAt;
    if (silent > LATE) this.onLost(Math.round(silent / 1000));
  }
}
