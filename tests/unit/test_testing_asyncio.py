"""The simulated queue of asyncio: coroutine handlers in virtual time, whatever loop the test is on, or none."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from rate_envelope_queue import (
    CapacityExceededError,
    Decision,
    Envelope,
    QueueState,
    QueueStateError,
    StopMode,
    retry_with_backoff,
)
from rate_envelope_queue.testing import (
    AsyncSimulatedEnvelopeQueue,
    SimulatedEnvelopeQueue,
    VirtualClock,
    assert_not_sent,
    assert_sent,
)
from rate_envelope_queue.workqueue import ExponentialBackoff


def started(name: str = "q", **options: Any) -> AsyncSimulatedEnvelopeQueue:
    """A running queue, made by a test that is no coroutine."""
    queue = AsyncSimulatedEnvelopeQueue(name, **options)
    at_once(queue.start())
    return queue


def at_once(awaitable: Any) -> Any:
    """What *awaitable* gives. It must not suspend."""
    try:
        awaitable.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it suspended")


@pytest.fixture(params=["asyncio", "debug", "uvloop"])
def run(request: pytest.FixtureRequest, uvloop_is_warm: None) -> Iterator[Callable[[Any], Any]]:
    """Runs a coroutine on a loop of one kind."""
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            yield runner.run
    else:
        with asyncio.Runner(debug=request.param == "debug") as runner:
            yield runner.run


async def ends(ctx: Any, envelope: Any) -> Any:
    return envelope.payload


async def sleeps(ctx: Any, envelope: Any) -> float:
    """Sleeps as long as the payload says; returns when it ended."""
    await asyncio.sleep(envelope.payload)
    return ctx.queue.clock.now()


async def for_ever(ctx: Any, envelope: Any) -> None:
    await asyncio.Event().wait()


# Time


def test_retries_at_their_instants(run: Callable[[Any], Any]) -> None:
    """A coroutine that fails is tried again after exactly what its backoff says; nothing is slept."""
    times: list[float] = []

    async def flaky(ctx: Any, envelope: Any) -> str:
        times.append(ctx.queue.clock.now())
        if ctx.attempt < 4:
            raise ConnectionError
        return "done"

    def again(ctx: Any, envelope: Any, error: BaseException) -> Decision:
        return retry_with_backoff()

    async def test() -> None:
        async with AsyncSimulatedEnvelopeQueue("q", backoff=ExponentialBackoff(600, 6000)) as queue:
            future = queue.submit(Envelope(flaky, failure_hook=again))
            queue.advance(1799)
            assert not future.done()
            assert await future == "done"
            assert times == [0, 600, 1800, 4200]

    run(test())


@pytest.mark.parametrize("spends", ["ctx.wait", "asyncio.sleep", "timeout", "wait_for", "clock.sleep", "thread"])
def test_what_spends_virtual_time(spends: str) -> None:
    """A handler may await its context and all that asyncio does with time; a plain call blocks the loop as in life."""
    ways: dict[str, Callable[[Any], Any]] = {
        "ctx.wait": lambda ctx: ctx.wait(5),
        "asyncio.sleep": lambda ctx: asyncio.sleep(5),
        "timeout": times_out,
        "wait_for": lambda ctx: asyncio.wait_for(asyncio.sleep(5), 100),
        "clock.sleep": lambda ctx: ctx.queue.clock.sleep(5),
        "thread": lambda ctx: asyncio.to_thread(ctx.queue.clock.sleep, 5),
    }

    async def handler(ctx: Any, envelope: Any) -> float:
        spent = ways[spends](ctx)
        if isinstance(spent, Awaitable):
            await spent
        return ctx.queue.clock.now()

    queue = started()
    future = queue.submit(Envelope(handler))
    queue.advance(4.999)
    assert not future.done()
    queue.advance(10)
    assert future.result() == 5


async def times_out(ctx: Any) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await asyncio.sleep(100)


def test_workers_overlap_in_virtual_time() -> None:
    """As many runs wait at the same time as there are workers, coroutines and plain functions alike."""

    def plain(ctx: Any, envelope: Any) -> float:
        ctx.wait(10)
        return float(ctx.queue.clock.now())

    queue = started(workers=2)
    futures = [queue.submit(Envelope(sleeps, payload=10)), queue.submit(Envelope(plain))]
    futures += [queue.submit(Envelope(plain)), queue.submit(Envelope(sleeps, payload=10))]
    queue.advance(100)
    assert [future.result() for future in futures] == [10, 10, 20, 20]


def test_a_deadline_cancels_at_its_instant() -> None:
    """A coroutine is cancelled at its deadline, whatever it awaits, and the run has failed by then."""
    queue, ended = started(), []

    async def handler(ctx: Any, envelope: Any) -> None:
        try:
            await envelope.payload()
        finally:
            ended.append(ctx.queue.clock.now())

    for waits in (asyncio.Event().wait, lambda: asyncio.sleep(1000)):
        queue.send(Envelope(handler, payload=waits, deadline=7))
    queue.advance(1000)
    assert ended == [7, 7]
    assert [letter.error.split(":")[0] for letter in queue.dead_letters()] == ["DeadlineExceeded"] * 2


def test_tasks_of_a_handler_live_on_the_clock() -> None:
    """A TaskGroup in a handler works as in life; a run ends when the handler does."""
    log: list[Any] = []

    async def step(clock: VirtualClock, seconds: float) -> None:
        await asyncio.sleep(seconds)
        log.append((seconds, clock.now()))

    async def handler(ctx: Any, envelope: Any) -> None:
        async with asyncio.TaskGroup() as group:
            for seconds in (3, 1, 2):
                group.create_task(step(ctx.queue.clock, seconds))

    queue = started()
    queue.send(Envelope(handler))
    queue.advance(10)
    assert log == [(1, 1), (2, 2), (3, 3)]
    assert queue.stats().succeeded == 1


def test_a_periodic_and_stuck_runs() -> None:
    """Schedules and the watch for stuck runs are as exact as on threads."""
    told: list[float] = []
    ticks: list[float] = []

    class Watching:
        def on_stuck(self, event: Any) -> None:
            told.append(queue.clock.now())

    async def stubborn(ctx: Any, envelope: Any) -> None:
        for _ in range(100):
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                pass

    async def tick(ctx: Any, envelope: Any) -> None:
        ticks.append(ctx.queue.clock.now())

    queue = started(stuck_after=5, observers=[Watching()])
    queue.send(Envelope(stubborn, deadline=2), Envelope.every(30, tick))
    queue.advance(90)
    assert (told, ticks) == ([7], [0, 30, 60, 90])


# Beside threads


def test_one_clock_for_both_flavours() -> None:
    """Queues of both flavours on one clock move together, in the order in which they were made, and may call each
    other."""
    clock = VirtualClock()
    log: list[Any] = []
    threads = SimulatedEnvelopeQueue("threads", clock=clock)
    threads.start()
    loop = started("loop", clock=clock)

    async def answers(ctx: Any, envelope: Any) -> None:
        log.append(("loop", clock.now()))
        threads.send(Envelope(lambda ctx, envelope: log.append(("threads", clock.now()))), delay=2)

    threads.send(Envelope.every(3, lambda ctx, envelope: loop.send(Envelope(answers), delay=1)))
    loop.advance(4)
    assert log == [("loop", 1), ("threads", 3), ("loop", 4)]


def test_handlers_await_queues() -> None:
    """A handler awaits the future, the join and the room of another queue while time goes on."""
    clock = VirtualClock()
    first, second = started("first", clock=clock), started("second", clock=clock, workers=1, capacity=1)

    async def handler(ctx: Any, envelope: Any) -> list[Any]:
        seen = [await second.submit(Envelope(sleeps, payload=5))]
        second.send(Envelope(sleeps, payload=5))
        await second.send_wait(Envelope(sleeps, payload=5))
        seen.append(clock.now())
        await second.join()
        return [*seen, clock.now()]

    assert at_once(first.submit(Envelope(handler)).__await__()) == [5, 10, 15]


# What a test awaits


async def stops(ctx: Any, envelope: Any) -> None:
    await ctx.queue.stop(StopMode.STOP, wait=False)


def test_what_a_test_awaits_lets_time_pass(run: Callable[[Any], Any]) -> None:
    """join, send_wait, stop, run and the future of submit let virtual time go on, on whatever loop the test is."""

    async def test() -> None:
        queue = AsyncSimulatedEnvelopeQueue("q", workers=1, capacity=1)
        await queue.start()
        queue.send(Envelope(sleeps, payload=10))
        assert await queue.send_wait(Envelope(sleeps, payload=10)) == 1
        assert queue.clock.now() == 10
        with pytest.raises(CapacityExceededError):
            await queue.send_wait(Envelope(ends), timeout=3)
        assert queue.clock.now() == 13
        assert await queue.join(timeout=2) is False
        assert await queue.join() is True
        assert queue.clock.now() == 20
        assert await queue.submit(Envelope(sleeps, payload=10)) == 30
        queue.send(Envelope(sleeps, payload=10))
        assert (await queue.stop()).succeeded == 1
        assert queue.clock.now() == 40
        await queue.start()
        queue.send(Envelope(stops), delay=60)
        assert (await queue.run()).state is QueueState.STOPPED
        assert queue.clock.now() == 100

    run(test())


def test_what_can_never_come_true_raises() -> None:
    """Where nothing is left that could happen, awaiting raises and does not hang; the queue is as it was."""
    queue = started()
    future = queue.submit(Envelope(for_ever))
    for hopeless in (queue.join, queue.stop):
        with pytest.raises(QueueStateError, match="would never return"):
            at_once(hopeless())
    with pytest.raises(QueueStateError, match="would never return"):
        at_once(future.__await__())
    report = at_once(queue.terminate(timeout=1, grace=1))
    assert (len(report.returned), len(report.abandoned)) == (1, 0)


def test_a_test_sets_what_a_handler_awaits() -> None:
    """An event that a handler awaits may be set by the test, which no loop runs."""
    queue, event = started(), asyncio.Event()

    async def handler(ctx: Any, envelope: Any) -> bool:
        return await event.wait()

    future = queue.submit(Envelope(handler))
    queue.run_until_idle()
    assert not future.done()
    event.set()
    queue.run_until_idle()
    assert future.result() is True


def test_assertions_about_what_was_sent() -> None:
    """The helpers ask queues of both flavours."""
    queue = AsyncSimulatedEnvelopeQueue("q")
    queue.send(Envelope(ends, type="email", payload="ann@example.org"))
    assert_sent(queue, type="email", payload="ann@example.org", count=1)
    assert_not_sent(queue, type="sms")


def test_the_lifespan_of_an_app() -> None:
    """An app whose lifespan is the queue's is tested in virtual time: what it sends in a request runs when told."""
    fastapi = pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    queue = AsyncSimulatedEnvelopeQueue("web")
    app = fastapi.FastAPI(lifespan=queue.lifespan)
    app.post("/jobs", status_code=202)(lambda: queue.send(Envelope(sleeps, payload=3600, type="job")))

    async def test() -> None:
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as web:
            assert (await web.post("/jobs")).status_code == 202
            assert_sent(queue, type="job", count=1)
            queue.advance(3600)
            assert queue.stats().succeeded == 1
        assert queue.state is QueueState.STOPPED

    asyncio.run(test())


# What it cannot do


@pytest.mark.parametrize("reaches", [lambda: asyncio.open_connection("localhost", 1), lambda: resolved()])
def test_the_real_world_is_refused(reaches: Callable[[], Any]) -> None:
    """What waits for the real world fails its run at once, with an error that says what to do."""

    async def handler(ctx: Any, envelope: Any) -> None:
        await reaches()

    queue = started()
    queue.send(Envelope(handler))
    queue.run_until_idle()
    assert "ctx.wait(seconds)" in queue.dead_letters()[0].error


async def resolved() -> Any:
    return await asyncio.get_running_loop().getaddrinfo("localhost", 1)


def test_a_handler_cannot_advance_its_clock() -> None:
    """`advance` in a handler is an error that names what to do."""

    async def handler(ctx: Any, envelope: Any) -> None:
        ctx.queue.advance(1)

    queue = started()
    queue.send(Envelope(handler))
    queue.run_until_idle()
    assert "ctx.wait(seconds)" in queue.dead_letters()[0].error


def test_the_clock_must_be_virtual() -> None:
    """Another clock could not be moved."""
    with pytest.raises(TypeError, match="clock must be a VirtualClock, not object"):
        AsyncSimulatedEnvelopeQueue("q", clock=object())  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["invoke", "plain", "success_hook", "observer"])
def test_ctrl_c_is_raised_to_the_caller(place: str) -> None:
    """A KeyboardInterrupt of user code is raised to whoever lets time pass; the queue goes on when told again."""
    interrupts = [KeyboardInterrupt("of the user")]

    def interrupt(*args: Any) -> None:
        if interrupts:
            raise interrupts.pop()

    async def handler(ctx: Any, envelope: Any) -> None:
        if place == "invoke":
            interrupt()
        if place == "observer":
            raise ValueError

    class Observing:
        on_failed = interrupt

    options: dict[str, Any] = {"observers": [Observing()]} if place == "observer" else {}
    queue = started(workers=1, **options)
    hooks: dict[str, Any] = {"success_hook": interrupt} if place == "success_hook" else {}
    queue.send(Envelope(interrupt if place == "plain" else handler, **hooks))
    queue.send(Envelope(ends))
    with pytest.raises(KeyboardInterrupt, match="of the user"):
        queue.advance(10)
    queue.advance(10)
    stats = queue.stats()
    assert (stats.running, stats.succeeded + stats.dropped, stats.workers) == (0, 2, 1)


# Always the same


PROGRAM = """
import asyncio, sys
from rate_envelope_queue import Envelope
from rate_envelope_queue.testing import AsyncSimulatedEnvelopeQueue

queue = AsyncSimulatedEnvelopeQueue("q", workers=7)
async def handler(ctx, envelope):
    for _ in range(3):
        await asyncio.sleep(envelope.payload % 5)
        await asyncio.to_thread(queue.clock.sleep, envelope.payload % 3)
        print(envelope.payload, queue.clock.now())
    await ctx.wait(envelope.payload % 11)
    if envelope.payload % 13 == 0:
        await asyncio.Event().wait()
def plain(ctx, envelope):
    ctx.wait(envelope.payload % 4)
    print("plain", envelope.payload, queue.clock.now())
asyncio.run(queue.start())
for number in range(60):
    queue.send(Envelope(plain if number % 7 == 0 else handler, payload=number, deadline=40, key=str(number)))
queue.advance(60)
report = asyncio.run(queue.terminate(timeout=1))
print([envelope.payload for envelope in report.returned], queue.clock.now())
"""


def test_the_same_program_gives_the_same_order() -> None:
    """Whatever the hash seed: every step of every handler comes in the same order, at the same instant."""
    said = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    assert len(said.pop().splitlines()) > 60


def test_a_queue_that_is_forgotten_leaves_nothing() -> None:
    """A queue that was dropped in the middle of runs goes without a warning, and its threads with it."""
    queue = started()
    queue.send(Envelope(for_ever), Envelope(sleeps, payload=10, deadline=20), Envelope(ends))
    queue.advance(1)
    gone = weakref.ref(queue)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del queue
        gc.collect()
    assert gone() is None
    assert not [thread for thread in threading.enumerate() if "q-plain" in thread.name]


def test_the_fixture(async_simulated_queue: AsyncSimulatedEnvelopeQueue, virtual_clock: VirtualClock) -> None:
    """The fixture gives a queue that has been started, on the clock of the test."""
    assert async_simulated_queue.clock is virtual_clock
    future = async_simulated_queue.submit(Envelope(sleeps, payload=3))
    virtual_clock.advance(3)
    assert future.result() == 3
