// The page: who may look, which queue is shown, and what is done to it.
import { Refused, act, logIn, session, tokenInAddress } from "./api.js";
import { Charts } from "./charts.js";
import { askForClear, askForStop, tell } from "./dialogs.js";
import { find, make, name, say, show } from "./dom.js";
import { Head } from "./head.js";
import { Live } from "./live.js";
import { Tables } from "./tables.js";
import { number, rate } from "./text.js";

let actions = [];
let state = null;
let chosen = 0;

const head = new Head(onAction);
const charts = new Charts(find("charts"));
const tables = new Tables(find("tables"), onAction);
const live = new Live({
  onHistory: (past) => charts.history(past),
  onState: (wanted) => {
    connected(true);
    wanted.queues.forEach((queue) => queue.point && charts.add(queue.queue, queue.point, wanted.now));
    render(wanted);
  },
  onLost: (seconds) => connected(false, seconds),
  onRefused: () => logInPage(),
});

function connected(isSo, seconds = 0) {
  name(find("live"), `live ${isSo ? "on" : "off"}`);
  say(find("live-text"), isSo ? "Live" : "Lost");
  find("board").classList.toggle("stale", !isSo);
  show(find("lost"), !isSo);
  if (!isSo) say(find("lost"), `Connection lost: what is shown is ${seconds} seconds old. Trying again…`);
}

function render(wanted) {
  state = wanted;
  chosen = Math.min(chosen, state.queues.length - 1);
  const queue = state.queues[chosen];
  document.title = `${queue.name} – queues`;
  show(find("login"), false);
  show(find("board"), true);
  renderTabs();
  head.show(queue, actions);
  if (queue.error) return;
  charts.show(chosen);
  tables.show(queue, actions);
}

// Tabs, one for each queue; the arrow keys go from one to the next.
function renderTabs() {
  const tabs = find("tabs");
  show(tabs, state.queues.length > 1);
  while (tabs.children.length < state.queues.length) tabs.append(newTab(tabs.children.length));
  state.queues.forEach((queue, place) => {
    const tab = tabs.children[place];
    const [dot, title, count] = tab.children;
    const isChosen = place === chosen;
    name(dot, `dot ${queue.is_paused ? "paused" : queue.state}`);
    say(title, queue.name);
    say(count, queue.stats ? `${number(queue.stats.ready + queue.stats.buffered)} ready, ${rate(queue.rates.started)}/s` : queue.state);
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
  });
}

function newTab(place) {
  const tab = make("button", "tab", make("span", "dot"), make("span", "tab-name"), make("span", "tab-count"));
  tab.type = "button";
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", "board");
  tab.addEventListener("click", () => choose(place));
  tab.addEventListener("keydown", (event) => {
    const last = state.queues.length - 1;
    const goal = { ArrowRight: place === last ? 0 : place + 1, ArrowLeft: place === 0 ? last : place - 1, Home: 0, End: last }[event.key];
    if (goal === undefined) return;
    event.preventDefault();
    choose(goal);
    find("tabs").children[goal].focus();
  });
  return tab;
}

function choose(place) {
  chosen = place;
  render(state);
}

async function onAction(action, wanted, button = null) {
  const queue = state.queues[chosen];
  let body = wanted;
  if (action === "stop") body = await askForStop(queue);
  if (action === "clear_dead_letters") body = await askForClear(queue);
  if (body === null) return;
  button?.setAttribute("aria-busy", "true");
  try {
    const answer = await act(queue.queue, action, body);
    tell(`${queue.name}: ${answer.done}`);
    render(answer.state);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) logInPage();
    else tell(error instanceof Refused ? `${queue.name}: ${error.message}` : "The server could not be reached.", true);
  } finally {
    button?.removeAttribute("aria-busy");
  }
}

function logInPage(fault = "") {
  live.stop();
  show(find("board"), false);
  show(find("tabs"), false);
  show(find("lost"), false);
  show(find("login"), true);
  name(find("live"), "live");
  say(find("live-text"), "Not logged in");
  say(find("login-fault"), fault);
  find("token").focus();
}

async function enter(token) {
  try {
    actions = token === null ? await session() : await logIn(token);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) {
      logInPage(token === null ? "" : "That is not the token.");
    } else {
      connected(false);
      say(find("lost"), error instanceof Refused ? `The server refuses this page: ${error.message}` : "The server cannot be reached. Trying again…");
      if (!(error instanceof Refused)) setTimeout(() => enter(token), 2000);
    }
    return;
  }
  find("token").value = "";
  live.start();
}

find("login").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(find("token").value.trim());
});

const inAddress = tokenInAddress();
enter(inAddress);
window.addEventListener("hashchange", () => {
  const token = tokenInAddress();
  if (token !== null) enter(token);
});
