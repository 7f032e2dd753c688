"""The page in a real browser: it shows what happens, does what is asked, and runs nothing that is not its own.

Every test fails on an error in the console and on a violation of the content policy. The pictures are in
build/dashboard/; with REQ_PICTURE=1 the one of the README is taken anew.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from rate_envelope_queue import Envelope, EnvelopeQueue, QueueState, drop, retry_after
from rate_envelope_queue.dashboard import Server, dashboard, serve

from .dashboard_world import HOSTILE, TOKEN, Held, fails, noop, stopped_at_end, until

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "build" / "dashboard"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CANVASES = "[...document.querySelectorAll('canvas')]"
BUTTONS = "[...document.querySelectorAll('button, input')].filter((node) => node.checkVisibility() && !node.disabled)"
IDS = "[...document.querySelectorAll('[id]')].map((node) => node.id)"
FOCUSED = "[document.activeElement.tagName, document.activeElement.ariaLabel ?? document.activeElement.textContent]"
WIDE, NARROW = {"width": 1360, "height": 900}, {"width": 360, "height": 780}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """One browser window, which remembers all that went wrong in it."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.faults: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("dialog", self._asked)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def visit(self, server: Server) -> Any:
        """The page of *server*, once it shows its first state."""
        self.page.goto(server.url)
        expect(self.page.locator("#live-text")).to_have_text("Live")
        return self.page

    def forgive(self, pattern: str) -> None:
        """What the browser itself reports of a refusal that the test wants."""
        self.faults = [fault for fault in self.faults if not re.search(pattern, fault)]


@pytest.fixture
def visitor(browser: Any, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    options = {"viewport": WIDE, "color_scheme": "light", **getattr(request, "param", {})}
    context = browser.new_context(**options)
    context.add_init_script(
        "window.violations = []; addEventListener('securitypolicyviolation', "
        "(event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`))"
    )
    visitor = Visitor(context)
    yield visitor
    violations = visitor.page.evaluate("window.violations") if visitor.page.url.startswith("http") else []
    context.close()
    assert visitor.faults == []
    assert visitor.dialogs == []
    assert violations == []


@pytest.fixture
def queue() -> Iterator[EnvelopeQueue]:
    queue = EnvelopeQueue("mail", workers=4, capacity=200)
    with stopped_at_end(queue):
        queue.start()
        yield queue


@pytest.fixture
def served(queue: EnvelopeQueue) -> Iterator[Server]:
    with serve(queue, token=TOKEN, allow_actions=True) as server:
        yield server


@contextmanager
def traffic(*queues: EnvelopeQueue, a_second: float = 60.0) -> Iterator[None]:
    """Mail, reports and digests, some slow and some failing, until the end of the block."""
    over = threading.Event()
    chance = random.Random(5)

    def work(ctx: Any, envelope: Envelope) -> None:
        longest = {"report.render": 0.9, "mail.send": 0.15, "webhook.post": 0.05}.get(envelope.type, 0.02)
        over.wait(chance.random() * longest)
        if chance.random() < {"mail.send": 0.06, "webhook.post": 0.15}.get(envelope.type, 0.0):
            raise ConnectionError("451 4.7.1 greylisted, try again later")

    def decide(ctx: Any, envelope: Envelope, error: BaseException) -> Any:
        return drop("550 5.1.1 no such mailbox") if chance.random() < 0.2 else retry_after(1 + 20 * chance.random())

    def feed() -> None:
        number = 0
        while not over.wait(1 / a_second):
            for queue in queues:
                number += 1
                kind = chance.choice(["mail.send"] * 6 + ["webhook.post"] * 3 + ["report.render"])
                if queue.state is QueueState.RUNNING and len(queue) < 150:
                    queue.send(Envelope(work, type=kind, id=f"{kind[:1]}-{number}", failure_hook=decide, deadline=5))

    for queue in queues:
        queue.send(Envelope.every(30, noop, type="cache.refresh", id="prices"))
        queue.send(Envelope(noop, type="digest.daily", id="2024-06-01"), delay=4 * 3600)
    thread = threading.Thread(target=feed, name="traffic")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def picture(page: Any, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


# What it shows


def test_the_charts_move(visitor: Visitor, queue: EnvelopeQueue, served: Server) -> None:
    """While the queue works, numbers and charts change by themselves."""
    with traffic(queue):
        page = visitor.visit(served)
        plots = page.locator(".plot")
        expect(plots).to_have_count(3)
        expect(plots.first).to_have_attribute("aria-label", re.compile(r"started [1-9]"))

        def drawn() -> list[str]:
            found: list[str] = page.evaluate(f"{CANVASES}.map((canvas) => canvas.toDataURL())")
            return found

        before = drawn()
        started = page.locator(".tile", has_text="Started").locator(".note")
        first = started.inner_text()
        expect(started).not_to_have_text(first)
        changed = f"(old) => {CANVASES}.every((canvas, place) => canvas.toDataURL() !== old[place])"
        page.wait_for_function(changed, arg=before)


def test_what_runs_is_due_and_is_dead(visitor: Visitor, queue: EnvelopeQueue, served: Server) -> None:
    """The tables hold what the queue holds."""
    held = Held()
    queue.send(Envelope(held, type="mail.send", id="m-1"))
    queue.send(Envelope(noop, type="digest", id="tomorrow"), delay=86400)
    queue.send(Envelope(fails, type="webhook", id="w-7", payload="410 gone",
                        failure_hook=lambda ctx, envelope, error: drop("not wanted")))  # fmt: skip
    until(lambda: held.runs and queue.dead_letters())
    page = visitor.visit(served)
    expect(row(page, "Running", "m-1")).to_contain_text("mail.send")
    expect(row(page, "Next due", "tomorrow")).to_contain_text("23 h 59 min")
    expect(row(page, "Dead letters", "w-7")).to_contain_text("RuntimeError: 410 gone")
    expect(row(page, "Dead letters", "w-7")).to_contain_text("not wanted")
    expect(row(page, "Most failing types", "webhook")).to_contain_text("100 %")
    age = row(page, "Running", "m-1").locator("td").nth(2)
    before = age.inner_text()
    expect(age).not_to_have_text(before)
    held.gate.set()
    expect(row(page, "Running", "m-1")).to_have_count(0)
    expect(row(page, "Slowest types", "mail.send")).to_have_count(1)


def row(page: Any, table: str, text: str) -> Any:
    return page.get_by_role("table", name=table, exact=True).locator("tbody tr", has_text=text)


def test_several_queues(visitor: Visitor, queue: EnvelopeQueue) -> None:
    """A tab for each, by pointer and by the arrow keys; each shows its own."""
    second, third = EnvelopeQueue("webhooks", workers=9), EnvelopeQueue("reports", capacity=None)
    second.send(Envelope(noop, type="of the second"), delay=100)
    with stopped_at_end(second, third), serve(queue, second, third) as server:
        page = visitor.visit(server)
        tabs = page.get_by_role("tab")
        expect(tabs).to_have_count(3)
        expect(page.locator("h1#name")).to_have_text("mail")
        tabs.nth(1).click()
        expect(page.locator("h1#name")).to_have_text("webhooks")
        expect(page.locator("#state")).to_have_text("init")
        expect(row(page, "Next due", "of the second")).to_have_count(1)
        page.keyboard.press("ArrowRight")
        expect(page.locator("h1#name")).to_have_text("reports")
        expect(page.locator(".tile", has_text="Occupancy")).to_contain_text("no limit")
        page.keyboard.press("ArrowRight")
        expect(page.locator("h1#name")).to_have_text("mail")
        expect(tabs.nth(0)).to_be_focused()
        expect(tabs.nth(0)).to_have_attribute("aria-selected", "true")


def test_payloads_on_the_page(visitor: Visitor, queue: EnvelopeQueue) -> None:
    """With show_payloads they stand below what they belong to."""
    queue.send(Envelope(noop, type="mail.send", payload={"to": "ann@example.org"}), delay=100)
    with serve(queue, show_payloads=True) as server:
        page = visitor.visit(server)
        expect(row(page, "Next due", "mail.send")).to_contain_text("{'to': 'ann@example.org'}")


# What it does


def test_a_stop_from_the_page(visitor: Visitor, queue: EnvelopeQueue, served: Server) -> None:
    """Stop asks first; then the queue stops, and the page shows it and offers to start it."""
    page = visitor.visit(served)
    page.get_by_role("button", name="Stop…").click()
    dialog = page.get_by_role("dialog", name="Stop mail?")
    dialog.get_by_role("button", name="Leave it").click()
    expect(dialog).to_be_hidden()
    assert queue.state is QueueState.RUNNING
    page.get_by_role("button", name="Stop…").click()
    dialog.get_by_role("button", name="Stop the queue").click()
    expect(page.locator("#state")).to_have_text("stopped")
    assert queue.state is QueueState.STOPPED
    expect(page.get_by_role("button", name="Stop…")).to_be_hidden()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#state")).to_have_text("running")
    assert queue.state is QueueState.RUNNING


def test_a_stop_with_mode_and_timeout(visitor: Visitor, queue: EnvelopeQueue, served: Server) -> None:
    """What is chosen in the dialog is what the queue is told: STOP keeps what waits, the timeout cancels what runs."""
    begun = threading.Event()

    def patient(ctx: Any, envelope: Envelope) -> None:
        begun.set()
        ctx.wait()
        ctx.check()

    queue.resize(1)
    queue.send(Envelope(patient))
    queue.send(Envelope(noop))
    assert begun.wait(20)
    page = visitor.visit(served)
    page.get_by_role("button", name="Stop…").click()
    page.get_by_text("Stop", exact=True).click()
    page.get_by_label("Cancel what still runs after (seconds)").fill("0.1")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("stopped")
    report = queue.last_report
    assert report is not None
    assert (report.mode.value, report.timed_out, len(report.kept)) == ("stop", True, 2)


def test_pause_resume_and_resize(visitor: Visitor, queue: EnvelopeQueue, served: Server) -> None:
    """The other controls, with the keyboard alone."""
    page = visitor.visit(served)
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#paused")).to_be_visible()
    assert queue.is_paused
    page.keyboard.press("Space")
    expect(page.locator("#paused")).to_be_hidden()
    assert not queue.is_paused
    page.get_by_role("button", name="One worker more").press("Enter")
    expect(page.locator("#workers")).to_have_text("5 workers")
    page.get_by_role("button", name="One worker less").press("Enter")
    expect(page.locator("#workers")).to_have_text("4 workers")
    assert queue.stats().workers == 4


def test_retry_cancel_and_clear(visitor: Visitor, queue: EnvelopeQueue, served: Server) -> None:
    """The buttons of a row act on that row."""
    queue.send(*[Envelope(fails, type="mail", id=f"dead-{number}") for number in range(3)])
    queue.send(*[Envelope(noop, type="mail", id=f"due-{number}") for number in range(3)], delay=1000)
    until(lambda: len(queue.dead_letters()) == 3)
    queue.pause()
    page = visitor.visit(served)
    page.get_by_role("button", name="Retry mail dead-1").click()
    expect(row(page, "Dead letters", "dead-1")).to_have_count(0)
    assert {letter.envelope.id for letter in queue.dead_letters()} == {"dead-0", "dead-2"}
    page.get_by_role("button", name="Cancel mail due-1").click()
    expect(row(page, "Next due", "due-1")).to_have_count(0)
    assert {view.envelope.id for view in queue.snapshot()} == {"due-0", "due-2", "dead-1"}
    page.get_by_role("button", name="Clear all…").click()
    page.get_by_role("button", name="Clear them").click()
    expect(page.get_by_text("No dead letters.")).to_be_visible()
    assert queue.dead_letters() == ()


def test_what_the_queue_refuses_is_said(visitor: Visitor, queue: EnvelopeQueue, served: Server) -> None:
    """An action that could not be done leaves a word, and the page goes on."""
    queue.send(Envelope(fails, type="mail", id="dead"))
    until(queue.dead_letters)
    queue.send(*[Envelope(noop) for _ in range(200)], delay=1000)
    page = visitor.visit(served)
    page.get_by_role("button", name="Retry mail dead").click()
    expect(page.locator(".toast.bad")).to_contain_text("CapacityExceededError")
    assert len(queue.dead_letters()) == 1
    visitor.forgive("409")


def test_read_only(visitor: Visitor, queue: EnvelopeQueue) -> None:
    """Without actions there are no buttons for them, and it says so."""
    queue.send(Envelope(noop), delay=100)
    queue.send(Envelope(fails))
    until(queue.dead_letters)
    with serve(queue) as server:
        page = visitor.visit(server)
        expect(page.locator("#read-only")).to_be_visible()
        expect(page.get_by_role("button")).to_have_count(1)  # the colours


# Who may come in


def test_the_token_in_the_address(visitor: Visitor, served: Server) -> None:
    """It leaves the address at once, is not to be had by scripts, and a reload needs no other."""
    sent: list[str] = []
    visitor.page.on("request", lambda request: sent.append(request.url))
    page = visitor.visit(served)
    assert page.url == f"{served.address}/"
    assert not [url for url in sent if TOKEN in url and "#" not in url]
    assert page.evaluate("document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)") == "{}{}"
    (cookie,) = visitor.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], TOKEN in cookie["value"]) == (True, "Strict", False)
    page.reload()
    expect(page.locator("#live-text")).to_have_text("Live")


def test_the_token_is_asked_for(visitor: Visitor, served: Server) -> None:
    """Without it nothing is shown but the question; a wrong one is told so, the right one lets in."""
    page = visitor.page
    page.goto(f"{served.address}/")
    expect(page.get_by_label("Token")).to_be_focused()
    expect(page.locator("#board")).to_be_hidden()
    assert "mail" not in page.locator("body").inner_text()
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_text("That is not the token.")).to_be_visible()
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#live-text")).to_have_text("Live")
    visitor.forgive("401")


def test_the_page_of_another_site(visitor: Visitor, queue: EnvelopeQueue, served: Server) -> None:
    """A page of another origin on this machine, visited by somebody who is logged in, can neither read nor act."""
    visitor.visit(served)
    evil = FastAPI()
    evil.get("/", response_class=HTMLResponse)(lambda: f'<title>evil</title><iframe src="{served.address}/"></iframe>')
    with running(evil) as address:
        page = visitor.page
        page.goto(address)
        answers = page.evaluate(
            """async (there) => {
                const attempt = (path, options) => fetch(there + path, { credentials: "include", ...options })
                    .then(async (answer) => `read ${answer.status} ${await answer.text()}`, () => "refused");
                const post = { method: "POST", mode: "no-cors", headers: { "Content-Type": "text/plain" }, body: "{}" };
                const json = { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" };
                return [
                    await attempt("/api/state", {}), await attempt("/api/session", {}),
                    await attempt("/api/queues/0/stop", json), await attempt("/api/queues/0/stop", post),
                ];
            }""",
            served.address,
        )
        assert answers == ["refused"] * 4
        framed = page.frames[1]
        assert framed.url.startswith(("chrome-error:", "about:blank"))
    assert queue.state is QueueState.RUNNING
    visitor.forgive("CORS|ERR_FAILED|403|frame-ancestors|ERR_BLOCKED|404")


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Some other service, on a port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, loop="asyncio"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def test_hostile_text(visitor: Visitor, served: Server, queue: EnvelopeQueue) -> None:
    """Markup in names, types, ids, errors, reasons and payloads is text: no script runs, no image is loaded."""
    hostile = EnvelopeQueue(HOSTILE, workers=1)
    held = Held()
    with stopped_at_end(hostile), serve(hostile, queue, allow_actions=True, show_payloads=True) as server:
        hostile.start()
        hostile.send(Envelope(fails, type=HOSTILE, id=HOSTILE, payload=HOSTILE,
                              failure_hook=lambda ctx, envelope, error: drop(HOSTILE)))  # fmt: skip
        hostile.send(Envelope(noop, type=HOSTILE, id=HOSTILE, payload=[HOSTILE]), delay=1000)
        hostile.send(Envelope(held, type=HOSTILE, id=HOSTILE, payload={HOSTILE: HOSTILE}))
        until(lambda: held.runs)
        requested: list[str] = []
        visitor.page.on("request", lambda request: requested.append(request.url))
        page = visitor.visit(server)
        for table in ("Running", "Next due", "Dead letters"):
            expect(row(page, table, "<script>alert(1)</script>")).to_have_count(1)
            expect(row(page, table, "onerror=alert(2)")).to_have_count(1)
        expect(page.locator("h1#name")).to_contain_text("<img src=x onerror=alert(2)>")
        page.get_by_role("button", name="Stop…").click()
        expect(page.locator("#dialog-title")).to_contain_text("<script>")
        page.keyboard.press("Escape")
        page.get_by_role("button", name=re.compile("^Retry")).click()
        expect(page.locator(".toast").first).to_contain_text("<script>")
        assert page.locator("main script, main img, main iframe, #tabs img").count() == 0
        assert not [url for url in requested if url.endswith("/x")]
        held.gate.set()


# When the server is gone


def test_the_connection_is_lost_and_found(visitor: Visitor, queue: EnvelopeQueue) -> None:
    """It says so, keeps what it showed, and goes on by itself once the server is back."""
    with serve(queue, token=TOKEN, allow_actions=True) as server:
        port = server.port
        page = visitor.visit(server)
    expect(page.locator("#lost")).to_contain_text("Connection lost")
    expect(page.locator("#live-text")).to_have_text("Lost")
    expect(page.locator("h1#name")).to_have_text("mail")
    with serve(queue, token=TOKEN, port=port, allow_actions=True):
        expect(page.locator("#lost")).to_be_hidden(timeout=30_000)
        expect(page.locator("#live-text")).to_have_text("Live")
    visitor.forgive("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE")


def test_a_new_start_has_a_new_token(visitor: Visitor, queue: EnvelopeQueue) -> None:
    """When the server was started anew with another token, the page asks for that."""
    with serve(queue) as server:
        port = server.port
        page = visitor.visit(server)
    with serve(queue, port=port) as server:
        expect(page.get_by_label("Token")).to_be_visible(timeout=30_000)
        assert server.token is not None
        page.get_by_label("Token").fill(server.token)
        page.get_by_role("button", name="Show the queues").click()
        expect(page.locator("#live-text")).to_have_text("Live")
    visitor.forgive("ERR_|401")


def test_a_stream_that_ends_is_not_a_loss(visitor: Visitor, served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams end by themselves now and then; whoever looks does not notice."""
    monkeypatch.setattr("rate_envelope_queue.dashboard.stream.SECONDS", 0.3)
    streams: list[str] = []
    visitor.page.on("request", lambda request: streams.append(request.url) if "events" in request.url else None)
    page = visitor.visit(served)
    page.evaluate(
        "window.lost = 0; const lost = document.getElementById('lost');"
        "new MutationObserver(() => { if (!lost.hidden) window.lost += 1; }).observe(lost, { attributes: true })"
    )
    wait_for(page, lambda: len(streams) >= 5)
    assert page.evaluate("window.lost") == 0


def wait_for(page: Any, condition: Callable[[], bool]) -> None:
    """Let the browser go on until *condition* holds."""
    for _ in range(200):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError("not so within 20 s")


# For everybody


def test_the_focus_stays(visitor: Visitor, queue: EnvelopeQueue, served: Server) -> None:
    """Tables change each second; the button that has the focus keeps it, and does not become another's."""
    entries = [Envelope(noop, type="mail", id=f"due-{number}") for number in range(6)]
    for number, entry in enumerate(entries):
        queue.send(entry, delay=1000 + number)
    page = visitor.visit(served)
    button = page.get_by_role("button", name="Cancel mail due-3")
    button.focus()
    queue.cancel(entries[0])
    queue.cancel(entries[5])
    queue.send(Envelope(noop, type="mail", id="earlier"), delay=10)
    expect(row(page, "Next due", "earlier")).to_have_count(1)
    expect(row(page, "Next due", "due-0")).to_have_count(0)
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(row(page, "Next due", "due-3")).to_have_count(0)
    expect(page.get_by_role("region", name="Next due")).to_be_focused()


def test_the_colours(visitor: Visitor, served: Server) -> None:
    """As the system by default; the switch goes through light and dark, and is remembered."""
    page = visitor.visit(served)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    expect(page.locator("body")).not_to_have_css("background-color", light)
    dark = page.evaluate(ground)
    switch = page.locator("#theme")
    for name, colour in (("Light", light), ("Dark", dark)):
        switch.click()
        expect(switch).to_have_text(name)
        assert page.evaluate(ground) == colour
    page.emulate_media(color_scheme="light")
    page.reload()
    expect(switch).to_have_text("Dark")
    assert page.evaluate(ground) == dark


CONTRASTS = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const rgb = (colour, under) => {
        canvas.clearRect(0, 0, 1, 1);
        for (const each of [under, colour]) if (each) { canvas.fillStyle = each; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = (colour) => {
        const [r, g, b] = colour.map((v) => (v /= 255, v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (node) => {
        for (let at = node; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (rgb(colour)[3] === 255) return colour;
        }
        return "#fff";
    };
    const bad = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        if (!own || node.disabled || !node.checkVisibility() || node.closest("script, .skip")) continue;
        const [text, under] = [rgb(getComputedStyle(node).color, ground(node)), rgb(ground(node))].map(light);
        const contrast = (Math.max(text, under) + 0.05) / (Math.min(text, under) + 0.05);
        if (contrast < 4.5) bad.push(`${node.tagName}.${node.className} ${node.textContent.slice(0, 20)} ${contrast}`);
    }
    return bad;
}"""


@pytest.mark.parametrize(
    "visitor", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=["light", "dark"]
)
def test_it_can_be_read(visitor: Visitor, queue: EnvelopeQueue) -> None:
    """Wide and narrow, light and dark: contrast, names of controls, no scrolling to the side. Takes pictures."""
    second = EnvelopeQueue("webhooks", workers=2)
    scheme = visitor.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    with stopped_at_end(second), traffic(queue, second), serve(queue, second, allow_actions=True) as server:
        second.start()
        page = visitor.visit(server)
        wait_for(page, lambda: bool(page.locator("section[aria-label='Dead letters'] tbody tr").count()))
        for name, size in (("wide", WIDE), ("narrow", NARROW)):
            page.set_viewport_size(size)
            expect(page.locator(".tile", has_text="Started")).to_contain_text("/s")
            wait_for(page, lambda: page.evaluate("document.documentElement.scrollWidth <= innerWidth"))
            assert page.evaluate(CONTRASTS) == []
            picture(page, f"{name}-{scheme}")
            page.get_by_role("button", name="Stop…").click()
            assert page.evaluate(CONTRASTS) == []
            picture(page, f"{name}-{scheme}-dialog")
            page.keyboard.press("Escape")
        named = "(node) => Boolean(node.textContent.trim() || node.ariaLabel || node.labels?.length)"
        assert page.evaluate(f"{BUTTONS}.every({named})")
        ids = page.evaluate(IDS)
        assert len(ids) == len(set(ids))
        second.stop(timeout=0, grace=5)


def test_the_whole_page_by_keyboard(visitor: Visitor, queue: EnvelopeQueue, served: Server) -> None:
    """Tab reaches every button that is shown, in the order in which they stand."""
    queue.send(Envelope(noop, type="mail", id="due"), delay=1000)
    page = visitor.visit(served)
    expect(row(page, "Next due", "due")).to_have_count(1)
    wanted = page.evaluate(f"{BUTTONS}.length")
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        tag, label = page.evaluate(FOCUSED)
        if tag == "BODY":
            break
        if tag == "BUTTON" and label not in reached:
            reached.append(label)
    assert len(reached) == wanted
    assert reached[-1] == "Cancel mail due"


# Mounted


def test_mounted_into_a_service(visitor: Visitor, queue: EnvelopeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a path of a FastAPI service the page works as on a port of its own, and lets the service stop."""
    monkeypatch.setattr("rate_envelope_queue.dashboard.stream.SECONDS", 1.0)
    service = FastAPI()
    service.mount("/admin/queues", dashboard(queue, token=TOKEN, allow_actions=True))
    with running(service) as address:
        page = visitor.page
        page.goto(f"{address}/admin/queues#token={TOKEN}")
        expect(page.locator("#live-text")).to_have_text("Live")
        assert page.url == f"{address}/admin/queues/"
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#paused")).to_be_visible()
        assert queue.is_paused
    visitor.forgive("ERR_")


@pytest.mark.skipif("REQ_PICTURE" not in os.environ, reason="takes two minutes; REQ_PICTURE=1 takes it")
def test_the_picture_of_the_readme(visitor: Visitor, queue: EnvelopeQueue) -> None:
    """docs/images/dashboard.png."""
    second = EnvelopeQueue("webhooks", workers=2)
    with stopped_at_end(second), traffic(queue, second), serve(queue, second, allow_actions=True) as server:
        second.start()
        page = visitor.visit(server)
        page.set_viewport_size({"width": 1240, "height": 800})
        page.wait_for_timeout(110_000)
        path = ROOT / "docs" / "images" / "dashboard.png"
        path.parent.mkdir(exist_ok=True)
        page.screenshot(path=path)
        assert path.stat().st_size < 200_000
