"""Rare sequences, each of which once went wrong. They are about what several rules do together."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
import warnings
from functools import partial
from typing import Any

import pytest

from rate_envelope_queue import (
    AsyncEnvelopeQueue,
    CapacityExceededError,
    Envelope,
    EnvelopeQueue,
    InvalidEnvelopeError,
    QueueState,
    StopMode,
    retry_with_backoff,
)
from rate_envelope_queue.schedules import fixed_rate
from rate_envelope_queue.testing import SimulatedEnvelopeQueue, VirtualClock
from rate_envelope_queue.workqueue import ExponentialBackoff, WorkQueue

from .harness import Harness, concurrent_only, threads_only

PATIENCE = 10.0
VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("variable", default=None)


def test_a_batch_runs_in_copies_of_its_senders_context(h: Harness) -> None:
    """CONTRACT 3: with capture_context each envelope of a batch has a copy of its own, at the same time as others."""
    queue = h.queue(workers=4, capture_context=True)
    seen: list[Any] = []

    def handler(ctx: Any, envelope: Any) -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set(envelope.payload)
        h.work(ctx, 0.1)

    VARIABLE.set("sender")
    queue.start()
    queue.send(*[Envelope(handler, payload=number) for number in range(4)])
    assert queue.join(h.s(PATIENCE) * 100)
    assert seen == ["sender"] * 4
    assert queue.stats().succeeded == 4


def test_a_batch_that_can_never_fit_does_not_wait(h: Harness) -> None:
    """CONTRACT 6: send_wait refuses a batch of more keys than the capacity, though some are in the queue now."""
    queue = h.queue(capacity=2)
    one, two, three = (Envelope(h.handler()) for _ in range(3))
    queue.send(one, Envelope(h.handler()))
    before = h.now()
    with pytest.raises(CapacityExceededError):
        queue.send_wait(one, two, three, timeout=h.s(100))
    assert h.now() - before == h.about(0)


class AlwaysAtOnce:
    """A schedule whose every answer is long ago."""

    jitter = 0.0
    period = None

    def first(self, *, now: float, wall_utc: Any) -> float:
        return 0.0

    def next(self, *, planned: float, started: float, now: float, wall_utc: Any) -> float:
        return 0.0


def test_a_drain_ends_though_a_schedule_says_at_once(h: Harness) -> None:
    """CONTRACT 7: a period that comes due during a drain is kept, whatever its schedule answers."""
    queue = h.queue()
    runs: list[int] = []
    queue.start()
    envelope = Envelope(lambda ctx, e: (runs.append(1), h.work(ctx, 0.01)), schedule=AlwaysAtOnce())
    queue.send(envelope)
    h.until(lambda: len(runs) >= 2)
    assert queue.stop().kept == (envelope,)


def test_what_was_due_before_a_drain_runs_in_it(h: Harness) -> None:
    """CONTRACT 7: kept is what becomes due during the drain; what was due before is ready work, and runs."""
    queue = h.queue()
    gate = h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, e: gate.wait(ctx)))
    h.until(lambda: gate.waiting)
    queue.send(Envelope(h.handler("due")), delay=h.s(1))
    queue.send(Envelope(h.handler("not yet")), delay=h.s(1000))
    h.pass_time(2)
    stopping = h.in_background(queue.stop)
    h.until(lambda: queue.state.value == "stopping")
    gate.open()
    assert len(stopping.result().kept) == 1
    assert h.labels() == ["due"]


def test_the_grid_survives_a_resend_and_a_cancelled_run() -> None:
    """CONTRACT 3: a run that the stop cancelled leaves the grid of a fixed rate as it was, sent again or not."""
    queue = SimulatedEnvelopeQueue("q")
    queue.start()
    queue.advance(3)
    began: list[float] = []

    def handler(ctx: Any, envelope: Any) -> None:
        began.append(queue.clock.now())
        if len(began) == 2:
            ctx.wait()
            ctx.check()

    envelope = Envelope(handler, schedule=fixed_rate(10))
    queue.send(envelope)
    queue.advance(10.5)
    queue.send(envelope)
    queue.stop(timeout=0)
    queue.advance(0.5)
    queue.start()
    queue.advance(30)
    assert began == [3, 13, 14, 23, 33, 43]


def test_a_success_hook_gets_nothing_past_the_deadline() -> None:
    """CONTRACT 3: after a success in time, hooks never outlive the deadline, though the after hook took long."""
    queue = SimulatedEnvelopeQueue("q")
    queue.start()
    left: list[Any] = []
    queue.send(
        Envelope(
            lambda ctx, e: queue.clock.sleep(0.9),
            deadline=1,
            after_hook=lambda ctx, e: queue.clock.sleep(2),
            success_hook=lambda ctx, e: left.append((ctx.remaining(), ctx.done)),
        )
    )
    queue.advance(9)
    assert left == [(0.0, True)]


def test_replacing_keeps_the_place_whatever_is_cancelled() -> None:
    """CONTRACT 4: a replaced entry keeps its place among the priorities when debris is cleared away."""
    queue = SimulatedEnvelopeQueue("q", workers=1, duplicates="replace")
    ran: list[str] = []

    def noting(name: str) -> Any:
        return lambda ctx, e: ran.append(name)

    other = Envelope(noting("other"))
    queue.send(Envelope(noting("old"), key="k"))
    queue.send(other)
    queue.send(Envelope(noting("urgent"), priority=1))
    queue.send(Envelope(noting("new"), key="k", priority=5))
    queue.cancel(other)
    queue.start()
    queue.advance(1)
    assert ran == ["urgent", "new"]


def test_a_late_start_counts_against_the_rate() -> None:
    """CONTRACT 5: a token reserved long ago and used now is no second start at the same instant."""
    queue = SimulatedEnvelopeQueue("q", workers=3, start_rate=1)
    queue.start()
    began: list[float] = []
    first, second, third, fourth = (Envelope(lambda ctx, e: began.append(queue.clock.now())) for _ in range(4))
    queue.send(first, second)
    queue.advance(0.5)
    queue.cancel(second)
    queue.advance(9.5)
    queue.send(third, fourth)
    queue.advance(5)
    assert began == [0, 10, 11]


def test_an_abandoned_run_is_forgotten_by_the_backoff() -> None:
    """CONTRACT 7: the late end of an abandoned run changes nothing but a counter, in the limiter either."""
    backoff = ExponentialBackoff(1, 100)
    queue = SimulatedEnvelopeQueue("q", backoff=backoff)

    def handler(ctx: Any, envelope: Any) -> None:
        queue.clock.sleep(10)
        raise ValueError

    envelope = Envelope(handler, failure_hook=lambda ctx, e, error: retry_with_backoff())
    queue.start()
    queue.send(envelope)
    queue.advance(1)
    queue.stop(timeout=0, grace=0)
    queue.advance(20)
    assert queue.stats().abandoned_ended == 1
    assert backoff.num_requeues(envelope) == 0


def test_a_resize_below_what_runs_under_a_start_rate_ends() -> None:
    """The simulated queue: a token that nobody may use is no event, or `advance` would never return."""
    queue = SimulatedEnvelopeQueue("q", workers=2, start_rate=1)
    queue.start()
    queue.send(Envelope(lambda ctx, e: ctx.wait(10)), Envelope(lambda ctx, e: None))
    queue.advance(0.1)
    queue.resize(1)
    queue.advance(5)
    assert queue.stats().running == 1


def test_a_stuck_run_is_found_whatever_rounding_does() -> None:
    """The simulated queue: that a run is stuck is computed in one way, or `advance` would never return."""
    queue = SimulatedEnvelopeQueue("q", stuck_after=1.4)
    queue.start()
    queue.send(Envelope(lambda ctx, e: queue.clock.sleep(20), deadline=1.5), delay=25.5)
    queue.advance(35)
    assert queue.clock.now() == 35


def test_join_where_effects_are_delivered(h: Harness) -> None:
    """CONTRACT 7: whoever delivers effects is inside, and has nothing to wait for when nothing is left."""
    queue = h.queue()
    queue.start()
    joined: list[Any] = []
    future = queue.submit(Envelope(h.handler()))
    future.add_done_callback(lambda f: joined.append(queue.join()))
    h.until(lambda: joined)
    assert joined == [True]
    assert queue.stop().kept == ()


@threads_only
def test_runs_of_a_queue_started_twice_at_once_can_be_cancelled(h: Harness) -> None:
    """CONTRACT 7: when two threads start a queue, every run is one that terminate cancels."""
    for _ in range(20):
        queue = EnvelopeQueue("q", workers=4)
        queue.send(*[Envelope(lambda ctx, e: ctx.wait() and ctx.check()) for _ in range(8)])
        both = threading.Barrier(2)
        threads = [threading.Thread(target=lambda both=both, queue=queue: (both.wait(), queue.start())) for _ in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report = queue.terminate(timeout=PATIENCE)
        assert (report.abandoned, len(report.returned)) == ((), 8)


@threads_only
def test_a_slow_callback_does_not_hold_a_stop_past_its_time(h: Harness) -> None:
    """CONTRACT 7: stop returns at timeout + grace, though a future's callback blocks a worker."""
    queue = h.queue()
    queue.start()
    blocks = threading.Event()
    queue.submit(Envelope(h.handler())).add_done_callback(lambda f: blocks.wait(PATIENCE))
    h.until(lambda: queue.stats().succeeded)
    before = h.now()
    queue.stop(timeout=0.05, grace=0.05)
    assert (h.now() - before) * h.unit < 0.5
    blocks.set()


@threads_only
def test_workers_added_while_it_starts(h: Harness) -> None:
    """I-13: a resize during start is honoured: there are as many workers as asked for."""
    queue = h.queue(workers=1)
    real = queue._grow

    def grow(pool: Any, count: int) -> None:
        queue._grow = real
        real(pool, count)
        queue.resize(5)

    queue._grow = grow
    queue.start()
    gate = h.gate()
    queue.send(*[Envelope(lambda ctx, e: gate.wait(ctx)) for _ in range(5)])
    h.until(lambda: gate.waiting == 5)


@threads_only
def test_threads_that_left_are_forgotten(h: Harness) -> None:
    """I-17: a queue that grows and shrinks for ever keeps nothing of the threads that have left."""
    queue = h.queue(workers=1)
    queue.start()
    for _ in range(10):
        queue.resize(8)
        queue.resize(1)
        h.until(lambda: queue._pool.size == 1)
    h.until(lambda: len(queue._pool.threads) == 1)


def test_a_consumer_that_gives_up_passes_the_wake_on() -> None:
    """L82: a delayed item is handed out in time, though the consumer that watched the clock has left."""
    queue = WorkQueue[str]()
    got: list[str] = []

    def give_up() -> None:
        with pytest.raises(TimeoutError):
            queue.get(timeout=0.05)

    first = threading.Thread(target=give_up)
    first.start()
    second = threading.Thread(target=lambda: got.append(queue.get()))
    second.start()
    queue.add_after("item", 0.2)
    first.join()
    second.join(PATIENCE)
    assert got == ["item"]


def test_an_item_due_before_the_shutdown_is_handed_out() -> None:
    """K, L: what was due when the queue was shut down is delivered, whether or not anybody had looked."""
    clock = VirtualClock()
    queue = WorkQueue[str](clock=clock)
    queue.add_after("due", 1)
    queue.add_after("later", 5)
    clock.advance(2)
    queue.shut_down()
    assert queue.get(timeout=0) == "due"
    assert len(queue) == 0


def test_an_item_readded_with_a_delay_that_passed() -> None:
    """K80: in flight and added again with a delay that was over at the shutdown: done brings it back."""
    clock = VirtualClock()
    queue = WorkQueue[str](clock=clock)
    queue.add("item")
    assert queue.get() == "item"
    queue.add_after("item", 1)
    clock.advance(2)
    queue.shut_down()
    queue.done("item")
    assert queue.get(timeout=0) == "item"


def test_a_stop_that_was_joined_was_waited_for(h: Harness) -> None:
    """CONTRACT 7: a stop that was begun without waiting and then waited for has been waited for, and says so."""
    queue = h.queue()
    queue.start()
    queue.send(Envelope(h.handler("work", 1)))
    h.until(h.labels)
    assert not queue.stop(wait=False).waited
    assert queue.stop(StopMode.DRAIN).waited


class Treacherous:
    """A key that can be hashed when it is sent, and then no more."""

    is_bad = False

    def __hash__(self) -> int:
        if self.is_bad:
            raise ValueError("no hash any more")
        return 1


@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_a_key_that_raises_ends_no_worker(h: Harness, ends: str) -> None:
    """CONTRACT 9: what ran under a key that cannot be looked up any more is dropped; the worker goes on."""
    queue = h.queue(workers=1)
    queue.start()
    key = Treacherous()

    def handler(ctx: Any, envelope: Any) -> None:
        key.is_bad = True
        if ends == "raises":
            raise KeyError

    queue.send(Envelope(handler, key=key))
    h.until(lambda: queue.stats().dropped)
    queue.send(Envelope(h.handler("next")))
    h.until(h.labels)
    assert h.labels() == ["next"]
    h.until(lambda: queue.stats().occupancy == 0)
    assert queue.stats().running == 0
    assert [letter.reason for letter in queue.dead_letters()] == ["its key or the clock raised"]


class FailingClock:
    """The clock of the machine, which sometimes fails."""

    fails = False

    def now(self) -> float:
        if self.fails:
            self.fails = False
            raise OSError("no clock")
        return time.monotonic()

    def wall_utc(self) -> Any:
        raise NotImplementedError


@concurrent_only
def test_a_clock_that_raises_ends_no_worker(h: Harness) -> None:
    """CONTRACT 9: a clock that raises once, while a worker settles a run, ends neither the worker nor the queue."""
    clock = FailingClock()
    queue = h.queue(workers=1, clock=clock)
    queue.start()

    def handler(ctx: Any, envelope: Any) -> None:
        clock.fails = True

    queue.send(Envelope(lambda ctx, e: None), delay=1000)  # so that a worker looks at the clock
    for _ in range(3):
        queue.send(Envelope(handler))
    queue.send(Envelope(h.handler("next")))
    h.until(h.labels)
    assert h.labels() == ["next"]


def test_an_envelope_is_no_key() -> None:
    """CONTRACT 4: an envelope is the key of its own entry, and of no other."""
    with pytest.raises(InvalidEnvelopeError, match="must not be an envelope"):
        Envelope(print, key=Envelope(print))


def test_a_simulated_queue_tells_of_stuck_runs_at_their_instant() -> None:
    """CONTRACT 2: the same program, the same order, always: no thread beside the virtual clock tells of anything."""
    told: list[tuple[float, bool]] = []

    class Watching:
        def on_stuck(self, event: Any) -> None:
            told.append((queue.clock.now(), threading.current_thread().name.endswith("carrier")))

    queue = SimulatedEnvelopeQueue("q", stuck_after=1, observers=[Watching()])
    queue.start()
    queue.send(Envelope(lambda ctx, e: queue.clock.sleep(10), deadline=2))
    queue.advance(20)
    assert told == [(3.0, True)]


@pytest.mark.parametrize(("fails", "kept"), [(False, 0), (True, 2)])
def test_lifespan_stops_as_with_does(fails: bool, kept: int) -> None:
    """CONTRACT 2: an app that ends by an exception stops the queue with STOP, as `with` does; else its own mode."""
    queue = EnvelopeQueue("q", workers=1)
    queue.pause()

    async def app() -> None:
        async with queue.lifespan():
            queue.send(*[Envelope(lambda ctx, e: None) for _ in range(2)])
            if fails:
                raise KeyError("the app")
            queue.resume()

    if fails:
        with pytest.raises(KeyError):
            asyncio.run(app())
    else:
        asyncio.run(app())
    report = queue.last_report
    assert report is not None
    assert (len(report.kept), report.mode) == (kept, StopMode.STOP if fails else StopMode.DRAIN)


def test_lifespan_with_a_bound_gives_up() -> None:
    """CONTRACT 2: `lifespan` takes the timeout and grace of `stop`, also by `partial`; wrong ones start nothing."""
    queue = EnvelopeQueue("q", workers=1)
    runs, may_end = threading.Event(), threading.Event()

    def handler(ctx: Any, envelope: Any) -> None:
        runs.set()
        may_end.wait(20)

    async def app(lifespan: Any) -> None:
        async with lifespan(None):
            queue.send(Envelope(handler), Envelope(handler))
            await asyncio.to_thread(runs.wait, 20)

    with pytest.raises(ValueError, match="timeout"):
        asyncio.run(app(partial(queue.lifespan, timeout=-1)))
    assert queue.state is QueueState.INIT
    asyncio.run(app(partial(queue.lifespan, timeout=0, grace=0)))
    report = queue.last_report
    may_end.set()
    assert report is not None
    assert (len(report.abandoned), len(report.kept), report.timed_out) == (1, 1, True)


@pytest.mark.parametrize(("waiting", "warns"), [(0, False), (3, True)])
def test_a_closed_loop_warns_of_what_is_kept(waiting: int, warns: bool) -> None:
    """CONTRACT 7: the warning counts what is kept, and not the plain function that was left behind."""
    queue = AsyncEnvelopeQueue("q", workers=1)
    goes_on, ended = threading.Event(), threading.Event()

    def plain(ctx: Any, envelope: Any) -> None:
        goes_on.set()
        ended.wait(PATIENCE)

    async def program() -> None:
        await queue.start()
        queue.send(Envelope(plain), *[Envelope(lambda ctx, e: None) for _ in range(waiting)])
        while not goes_on.is_set():
            await asyncio.sleep(0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(program())
    ended.set()
    told = [str(one.message) for one in caught if one.category is ResourceWarning]
    assert len(told) == warns
    assert all(text.endswith("entries kept, to run once it is started on another loop: 3") for text in told)
