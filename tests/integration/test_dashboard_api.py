"""What the dashboard tells of a queue, and what its actions do, asked as the page asks."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI

from rate_envelope_queue import (
    AsyncEnvelopeQueue,
    Envelope,
    EnvelopeQueue,
    QueueState,
    StopEnvelope,
    StopMode,
    drop,
    retry_after,
)
from rate_envelope_queue.dashboard import dashboard
from rate_envelope_queue.testing import AsyncSimulatedEnvelopeQueue, SimulatedEnvelopeQueue

from .dashboard_world import BEARER, TOKEN, Held, act, ask, fails, look, noop, state_of, stopped_at_end, until


@pytest.fixture
def queue() -> SimulatedEnvelopeQueue:
    queue = SimulatedEnvelopeQueue("mail", workers=2, capacity=10, stop_mode=StopMode.STOP)
    queue.start()
    return queue


# What it tells


def test_the_counts(queue: Any) -> None:
    """Every field of QueueStats, the state, the capacity, and whether it is paused."""
    app = dashboard(queue)
    queue.send(*[Envelope(noop) for _ in range(3)])
    queue.send(Envelope(noop), delay=10)
    queue.pause()
    state = state_of(app)
    stats = queue.stats()
    assert state["name"] == "mail"
    assert (state["state"], state["is_paused"], state["capacity"]) == ("running", True, 10)
    assert {name: getattr(stats, name) for name in state["stats"]} == {**state["stats"], "state": QueueState.RUNNING}
    assert (state["stats"]["ready"], state["stats"]["delayed"], state["stats"]["workers"]) == (3, 1, 2)


def test_no_capacity() -> None:
    """capacity is null for a queue without limit."""
    assert state_of(dashboard(SimulatedEnvelopeQueue("q", capacity=None)))["capacity"] is None


def test_what_is_due(queue: Any) -> None:
    """The next first, with type, id and seconds; a retry says which attempt comes."""
    app = dashboard(queue)
    queue.send(Envelope(noop, type="later", id=7), delay=20)
    queue.send(Envelope(fails, type="again", id="x", failure_hook=lambda ctx, envelope, error: retry_after(5)))
    queue.run_until_idle()
    first, second = state_of(app)["due"]
    assert (first["type"], first["id"], first["due_in"], first["attempt"]) == ("again", "x", 5.0, 2)
    assert (second["type"], second["id"], second["due_in"], second["attempt"]) == ("later", "7", 20.0, 1)


def test_an_envelope_without_type(queue: Any) -> None:
    """It is called by its handler's name; without an id there is none."""
    app = dashboard(queue)
    queue.send(Envelope(noop), delay=1)
    (due,) = state_of(app)["due"]
    assert (due["type"], due["id"]) == ("noop", None)


def test_dead_letters(queue: Any) -> None:
    """The newest first, with what is known of each."""
    app = dashboard(queue)
    for number in range(2):
        queue.send(Envelope(fails, type="mail", id=number, payload=f"no {number}",
                            failure_hook=lambda ctx, envelope, error: drop("gone")))  # fmt: skip
        queue.run_until_idle()
    letters = state_of(app)["dead_letters"]
    assert letters["count"] == 2
    newest, oldest = letters["recent"]
    assert (newest["type"], newest["id"], newest["error"], newest["reason"]) == (
        "mail",
        "1",
        "RuntimeError: no 1",
        "gone",
    )
    assert (newest["attempts"], oldest["id"]) == (1, "0")
    assert newest["at"] == queue.dead_letters()[1].at_utc.isoformat(timespec="milliseconds")


def test_what_runs() -> None:
    """Those that began first come first, with attempt and age; what ran before the dashboard was there has no age."""
    held = Held()
    queue = EnvelopeQueue("mail", workers=3)
    with stopped_at_end(queue):
        queue.start()
        queue.send(Envelope(held, type="before", id=0))
        until(lambda: held.runs == 1)
        app = dashboard(queue, token=TOKEN)
        for number in (1, 2):
            queue.send(Envelope(held, type="mail", id=number, deadline=100))
            until(lambda number=number: held.runs == number + 1)
        before, first, second = state_of(app)["running"]
        assert (before["type"], before["id"], before["age"]) == ("before", "0", None)
        assert [(each["type"], each["id"], each["attempt"]) for each in (first, second)] == [
            ("mail", "1", 1),
            ("mail", "2", 1),
        ]
        assert first["age"] >= second["age"] >= 0
        held.gate.set()
        queue.join()
        look(app)
        assert state_of(app)["running"] == []


@pytest.mark.parametrize("end", ["succeeds", "fails", "stops", "is cancelled", "is abandoned"])
def test_a_run_that_is_over_does_not_run(end: str) -> None:
    """However a run ends, it is no longer shown as running."""
    begun, gate = threading.Event(), threading.Event()

    def handler(ctx: Any, envelope: Envelope) -> None:
        begun.set()
        if end == "is cancelled":
            ctx.wait()
            ctx.check()
        assert gate.wait(20)
        if end == "fails":
            raise ValueError
        if end == "stops":
            raise StopEnvelope

    queue = EnvelopeQueue("q", workers=1)
    app = dashboard(queue)
    with stopped_at_end(queue):
        queue.start()
        queue.send(Envelope(handler, deadline=1000))
        assert begun.wait(20)
        assert len(state_of(app)["running"]) == 1
        if end == "is cancelled":
            queue.stop(timeout=0, grace=20)
        elif end == "is abandoned":
            queue.stop(timeout=0, grace=0)
        else:
            gate.set()
            queue.join()
        look(app)
        assert state_of(app)["running"] == []
        gate.set()


def test_what_is_listed_is_bounded() -> None:
    """A queue of very many entries is told in a few dozens of them."""
    queue = SimulatedEnvelopeQueue("q", capacity=None, dead_letter_limit=None)
    queue.start()
    app = dashboard(queue)
    queue.send(*[Envelope(fails) for _ in range(500)])
    queue.run_until_idle()
    queue.send(*[Envelope(noop) for _ in range(5000)], delay=10)
    state = state_of(app)
    assert (len(state["due"]), len(state["dead_letters"]["recent"]), state["dead_letters"]["count"]) == (20, 50, 500)


def test_rates_and_deltas(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was counted since the last sample, and that per second; two samples at once do not make a rate."""
    now = [1000.0]
    monkeypatch.setattr("rate_envelope_queue.dashboard.board.real_now", lambda: now[0])
    app = dashboard(queue)
    state_of(app)
    queue.send(*[Envelope(noop) for _ in range(6)], Envelope(fails))
    queue.run_until_idle()
    now[0] += 2.0
    state = state_of(app)
    assert state["rates"] == {
        "accepted": 3.5, "started": 3.5, "succeeded": 3.0, "failed": 0.5, "dropped": 0.5, "refused": 0.0
    }  # fmt: skip
    assert (state["deltas"]["runs_started"], state["deltas"]["runs_failed"], state["deltas"]["late"]) == (7, 1, 0)
    now[0] += 0.01
    look(app)
    assert state_of(app)["rates"] == state["rates"]


def test_a_sample_is_shared(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many look, the queue is read once a second."""
    now = [1000.0]
    monkeypatch.setattr("rate_envelope_queue.dashboard.board.real_now", lambda: now[0])
    reads: list[int] = []
    monkeypatch.setattr(queue, "stats", lambda stats=queue.stats: reads.append(1) or stats())
    app = dashboard(queue)
    for _ in range(50):
        state_of(app)
    assert len(reads) == 1
    now[0] += 1.0
    state_of(app)
    assert len(reads) == 2


def test_types(queue: Any) -> None:
    """For each type: runs, failures, and how long they took."""
    app = dashboard(queue)

    def takes(ctx: Any, envelope: Envelope) -> None:
        queue.clock.sleep(envelope.payload)

    queue.send(*[Envelope(takes, type="slow", payload=float(number)) for number in (1, 2, 3, 10)])
    queue.send(Envelope(fails, type="bad"), Envelope(noop, type="bad"))
    queue.advance(30)
    types = {each["type"]: each for each in state_of(app)["types"]}
    assert (types["bad"]["succeeded"], types["bad"]["failed"]) == (1, 1)
    slow = types["slow"]
    assert (slow["succeeded"], slow["mean"], slow["max"]) == (4, 4.0, 10.0)
    assert slow["p95"] == pytest.approx(10.0, rel=0.2)


def test_types_are_forgotten_after_minutes(queue: Any) -> None:
    """What a type did more than five minutes ago does not count."""
    app = dashboard(queue)
    queue.send(Envelope(noop, type="old"))
    queue.run_until_idle()
    assert [each["type"] for each in state_of(app)["types"]] == ["old"]
    queue.advance(600)
    look(app)
    assert state_of(app)["types"] == []


def test_very_many_types(queue: Any) -> None:
    """Types made of numbers without end are counted together: the table, and the memory, are bounded."""
    app = dashboard(queue)
    for number in range(300):
        queue.send(Envelope(noop, type=f"type-{number}"))
        queue.run_until_idle()
    types = {each["type"]: each["succeeded"] for each in state_of(app)["types"]}
    assert len(types) == 101
    assert (types["type-0"], types["(other types)"]) == (1, 200)


def test_nothing_piles_up_while_nobody_looks(queue: Any) -> None:
    """Very many runs between two looks are counted all the same."""
    app = dashboard(queue)
    for _ in range(1000):
        queue.send(*[Envelope(noop, type="t") for _ in range(10)])
        queue.run_until_idle()
    (types,) = state_of(app)["types"]
    assert types["succeeded"] == 10_000


def test_a_queue_that_cannot_be_read(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown as such, and the others are shown as ever."""
    other = SimulatedEnvelopeQueue("other")
    app = dashboard(queue, other)

    def broken() -> Any:
        raise RuntimeError("the clock is gone")

    monkeypatch.setattr(queue, "stats", broken)
    bad, good = state_of(app, 0), state_of(app, 1)
    assert (bad["state"], bad["error"]) == ("unknown", "RuntimeError: the clock is gone")
    assert (good["name"], good["state"]) == ("other", "init")


def test_a_clock_that_tells_nonsense() -> None:
    """What a clock of the user's makes of ages and times may be no number: the others are told all the same."""

    class Clock:
        def __init__(self) -> None:
            self.time: Any = 0.0

        def now(self) -> Any:
            return self.time

        def wall_utc(self) -> datetime:
            return datetime(2024, 1, 1, tzinfo=UTC)

    clock, held = Clock(), Held()
    queue = EnvelopeQueue("mail", clock=clock)
    app = dashboard(queue)
    with stopped_at_end(queue):
        queue.start()
        queue.send(Envelope(held))
        until(lambda: held.runs)
        queue.send(Envelope(noop), delay=1000)
        try:
            for nonsense, state in ((float("nan"), "running"), (float("-inf"), "running"), ("noon", "unknown")):
                clock.time = nonsense
                look(app)
                told = state_of(app)
                assert (told["name"], told["state"]) == ("mail", state)
                assert [each["due_in"] for each in told.get("due", ())] == [None] * (state == "running")
        finally:
            clock.time = 0.0
            held.gate.set()


# What it does


def test_pause_and_resume(queue: Any) -> None:
    """The answer says what was done, and how the queue is now."""
    app = dashboard(queue, token=TOKEN, allow_actions=True)
    answer = act(app, "pause").json()
    assert (answer["done"], answer["state"]["queues"][0]["is_paused"], queue.is_paused) == ("paused", True, True)
    assert (act(app, "resume").json()["done"], queue.is_paused) == ("resumed", False)


def test_resize(queue: Any) -> None:
    """Workers, as many as are wanted; what is no number of workers is refused by name."""
    app = dashboard(queue, token=TOKEN, allow_actions=True)
    assert act(app, "resize", {"workers": 5}).status_code == 200
    assert queue.stats().workers == 5
    for wrong in (0, -1, 1.5, "3", None, True, 10**9):
        answer = act(app, "resize", {"workers": wrong})
        assert (answer.status_code, "workers" in answer.text) == (422, True)
    assert queue.stats().workers == 5


@pytest.mark.parametrize(("body", "ran"), [({}, []), ({"mode": "stop"}, []), ({"mode": "drain"}, ["ready"])])
def test_stop_and_start(body: dict[str, Any], ran: list[str]) -> None:
    """stop begins a stop in the mode that was asked for, else in the queue's own; start starts it again."""
    done: list[str] = []
    queue = SimulatedEnvelopeQueue("q", stop_mode=StopMode.STOP)
    app = dashboard(queue, token=TOKEN, allow_actions=True)
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: done.append("ready")))
    assert act(app, "stop", body).status_code == 200
    queue.run_until_idle()
    assert (queue.state, done) == (QueueState.STOPPED, ran)
    assert act(app, "start").json()["done"] == "started"
    assert queue.state is QueueState.RUNNING


def test_a_stop_waits_for_nothing() -> None:
    """The answer comes at once, while a handler runs; its timeout cancels what still runs then."""
    cancelled = threading.Event()

    def handler(ctx: Any, envelope: Envelope) -> None:
        ctx.wait()
        cancelled.set()
        ctx.check()

    queue = EnvelopeQueue("q", workers=1)
    app = dashboard(queue, token=TOKEN, allow_actions=True)
    with stopped_at_end(queue):
        queue.start()
        queue.send(Envelope(handler))
        until(lambda: queue.stats().running == 1)
        answer = act(app, "stop", {"timeout": 0.01})
        assert answer.json()["done"] == "the queue is stopping"
        assert cancelled.wait(20)
        until(lambda: queue.state is QueueState.STOPPED)
        assert queue.last_report is not None
        assert queue.last_report.timed_out


@pytest.mark.parametrize("body", [{"mode": "kill"}, {"timeout": -1}, {"timeout": "soon"}, {"wait": True}, {"mode": 1}])
def test_a_wrong_stop(queue: Any, body: dict[str, Any]) -> None:
    """What stop does not take is refused, and the queue runs on."""
    app = dashboard(queue, token=TOKEN, allow_actions=True)
    assert act(app, "stop", body).status_code == 422
    assert queue.state is QueueState.RUNNING


def test_start_while_terminated(queue: Any) -> None:
    """What the queue refuses is 409, with its reason."""
    app = dashboard(queue, token=TOKEN, allow_actions=True)
    queue.terminate()
    answer = act(app, "start")
    assert (answer.status_code, "terminated" in answer.json()["error"]) == (409, True)


def test_cancel(queue: Any) -> None:
    """An entry that is shown can be taken out; of two with the same type and id, the one that was meant."""
    app = dashboard(queue, token=TOKEN, allow_actions=True)
    envelopes = [Envelope(noop, type="same", id="same") for _ in range(2)]
    queue.send(envelopes[0], delay=10)
    queue.send(envelopes[1], delay=20)
    first, second = state_of(app)["due"]
    assert act(app, "cancel", {"entry": second["entry"]}).status_code == 200
    assert [view.envelope for view in queue.snapshot()] == [envelopes[0]]
    assert act(app, "cancel", {"entry": second["entry"]}).status_code == 404
    for wrong in (None, "1", 1.5, True, [], 10**20, -1):
        assert act(app, "cancel", {"entry": wrong}).status_code == 404
    assert len(queue) == 1
    assert act(app, "cancel", {"entry": first["entry"]}).status_code == 200
    assert len(queue) == 0


def test_retry(queue: Any) -> None:
    """A dead letter is sent again and is no dead letter any more; a second time it is not there."""
    app = dashboard(queue, token=TOKEN, allow_actions=True)
    queue.send(*[Envelope(fails, id=number) for number in range(3)])
    queue.run_until_idle()
    newest, wanted, oldest = state_of(app)["dead_letters"]["recent"]
    assert act(app, "retry", {"letter": wanted["letter"]}).json()["done"] == "sent again"
    assert [letter.envelope.id for letter in queue.dead_letters()] == [0, 2]
    assert [view.envelope.id for view in queue.snapshot()] == [1]
    assert act(app, "retry", {"letter": wanted["letter"]}).status_code == 404
    assert {newest["letter"], oldest["letter"]} == {each["letter"] for each in fresh(app)["dead_letters"]["recent"]}


def fresh(app: Any) -> dict[str, Any]:
    look(app)
    return state_of(app)


def test_a_retry_that_does_not_fit(queue: Any) -> None:
    """409, and the letter is kept."""
    app = dashboard(queue, token=TOKEN, allow_actions=True)
    queue.send(Envelope(fails))
    queue.run_until_idle()
    queue.send(*[Envelope(noop) for _ in range(10)], delay=10)
    (letter,) = state_of(app)["dead_letters"]["recent"]
    assert act(app, "retry", {"letter": letter["letter"]}).status_code == 409
    assert len(queue.dead_letters()) == 1


def test_clear_dead_letters(queue: Any) -> None:
    """All of them, and nothing else."""
    app = dashboard(queue, token=TOKEN, allow_actions=True)
    queue.send(Envelope(fails), Envelope(fails))
    queue.run_until_idle()
    assert act(app, "clear_dead_letters").json()["done"] == "2 dead letters cleared"
    assert (queue.dead_letters(), queue.stats().dropped) == ((), 2)


def test_numbers_belong_to_their_queue(queue: Any) -> None:
    """An action goes to the queue that it names; there is no other than those that are shown."""
    other = SimulatedEnvelopeQueue("other")
    app = dashboard(queue, other, token=TOKEN, allow_actions=True)
    act(app, "pause", queue=1)
    assert (queue.is_paused, other.is_paused) == (False, True)
    assert act(app, "pause", queue=2).status_code == 404
    assert act(app, "explode").status_code == 404
    assert act(app, "pause", {"surprise": 1}).status_code == 422


def test_nothing_is_kept_alive(queue: Any) -> None:
    """What was shown and has ended is let go of."""
    import gc
    import weakref

    app = dashboard(queue, show_payloads=True)
    envelope = Envelope(fails, id=("an", "odd", "id"), payload={"large": 1})
    queue.send(envelope)
    queue.send(envelope, delay=3)
    watch = weakref.ref(envelope)
    state_of(app)
    queue.advance(5)
    fresh(app)
    queue.clear_dead_letters()
    del envelope
    fresh(app)
    until(lambda: (gc.collect() and watch() is None) or watch() is None)


# asyncio, and mounted


def test_an_asyncio_queue_on_its_own_loop() -> None:
    """Mounted into the service that runs the queue: its actions are awaited on that loop."""
    import httpx

    async def main() -> None:
        queue = AsyncEnvelopeQueue("mail")
        service = FastAPI(lifespan=queue.lifespan)
        service.mount("/queues", dashboard(queue, token=TOKEN, allow_actions=True))
        ended: list[str] = []

        async def handler(ctx: Any, envelope: Envelope) -> None:
            ended.append(envelope.id)

        transport = httpx.ASGITransport(service)
        async with (
            service.router.lifespan_context(service),
            httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=BEARER) as client,
        ):
            queue.send(Envelope(handler, id="a"))
            await queue.join()
            answer = await client.get("/queues/api/state")
            assert answer.json()["queues"][0]["stats"]["succeeded"] == 1
            for action, state in (("stop", QueueState.STOPPED), ("start", QueueState.RUNNING)):
                assert (await client.post(f"/queues/api/queues/0/{action}", json={})).status_code == 200
                if state is QueueState.STOPPED:
                    await queue.stop()
                assert queue.state is state
            assert (await client.post("/queues/api/queues/0/resize", json={"workers": 2})).status_code == 200
            queue.send(Envelope(handler, id="b"))
            await queue.join()
            assert ended == ["a", "b"]

    asyncio.run(main())


def test_mounted_under_a_path() -> None:
    """The page is at the path with a slash at its end; the cookie belongs to that path alone."""
    service = FastAPI()
    queue = SimulatedEnvelopeQueue("mail")
    service.mount("/admin/queues", dashboard(queue, token=TOKEN))
    page = ask(service, "GET", "/admin/queues/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert ask(service, "GET", "/admin/queues").headers["location"].endswith("/admin/queues/")
    for path in ("static/js/main.js", "static/css/page.css", "static/icon.svg", "static/vendor/uplot/LICENSE"):
        assert ask(service, "GET", f"/admin/queues/{path}").status_code == 200
    answer = ask(service, "POST", "/admin/queues/api/session", json={"token": TOKEN})
    assert "Path=/admin/queues/" in answer.headers["set-cookie"]


def test_files_are_asked_for_again(queue: Any) -> None:
    """A file that has not changed is not sent again."""
    app = dashboard(queue)
    first = ask(app, "GET", "/static/js/main.js")
    again = ask(app, "GET", "/static/js/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_every_file_that_the_page_names_is_there(queue: Any) -> None:
    """Scripts, styles, imports, images."""
    import re

    app = dashboard(queue)
    page = ask(app, "GET", "/").text
    wanted = re.findall(r'(?:href|src)="(static/[^"]+)"', page)
    assert len(wanted) >= 7
    for path in wanted:
        answer = ask(app, "GET", f"/{path}")
        assert answer.status_code == 200, path
        for module in re.findall(r'from "\./([^"]+)"', answer.text):
            assert ask(app, "GET", f"/static/js/{module}").status_code == 200, module


def test_a_simulated_asyncio_queue_is_shown() -> None:
    """Whatever has the methods of a queue."""
    queue = AsyncSimulatedEnvelopeQueue("sim")
    queue.send(Envelope(noop), delay=5)
    assert state_of(dashboard(queue))["stats"]["delayed"] == 1
