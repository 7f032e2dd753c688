"""Section 3, 7 and 9 of the contract on an event loop, under torture: whose cancellation it was, and that none is left.

The seed is printed when a test fails; timing decides the rest. REQ_TORTURE_SEED takes another seed, REQ_SOAK more runs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from rate_envelope_queue import AsyncEnvelopeQueue, Envelope, QueueState, retry_now
from rate_envelope_queue.drivers.clock import SystemClock

from .aio_kinds import KINDS
from .aio_torture import new_loop, play, play_each_kind

SEED = int(os.environ.get("REQ_TORTURE_SEED", "0"))
RUNS = 10_000 if os.environ.get("REQ_SOAK") else 3_000
PATIENCE = 20.0
needs_uvloop = pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")


@pytest.fixture(autouse=True, scope="module")
def warmed() -> None:
    """The first loop of uvloop opens a pipe that stays."""
    if importlib.util.find_spec("uvloop") is not None:
        with asyncio.Runner(loop_factory=lambda: new_loop("uvloop")) as runner:
            runner.run(asyncio.sleep(0))


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=needs_uvloop)])
def loop_name(request: pytest.FixtureRequest) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a queue whose loop shuts down says what it keeps
        yield request.param


def live(loop_name: str, plot: Callable[[], Awaitable[Any]]) -> Any:
    """What *plot* returns on a loop of its own, which is shut down then. A hang is a TimeoutError."""

    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await plot()

    with asyncio.Runner(loop_factory=lambda: new_loop(loop_name)) as runner:
        return runner.run(bounded())


def workers_of(queue: AsyncEnvelopeQueue) -> list[asyncio.Task[Any]]:
    """The tasks of its workers."""
    names = {f"{queue.name}-{number}" for number in range(100)}
    return [task for task in asyncio.all_tasks() if task.get_name() in names]


class Failures(list[Any]):
    """An observer: the errors of the runs that failed."""

    def on_failed(self, event: Any) -> None:
        self.append(event.error)


async def probe(ctx: Any, envelope: Any) -> int:
    """Notices a cancellation that was left behind."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    await asyncio.sleep(0)
    return before


def test_torture(loop_name: str) -> None:
    """3, 7, 8, 9: Nasty handlers, strays, stops, restarts, dying loops: every run ends once, for its own cause."""
    counts = play(SEED, loop_name, RUNS)
    print(f"seed {SEED}: {dict(counts)}")
    happened = ("play_storm", "play_death", "succeeded", "kept", "late", "deadlines", "users_cancelled", "struck")
    assert [what for what in happened if counts[what] < RUNS / 500] == []


def test_each_kind(loop_name: str) -> None:
    """3 and 9: Every kind of handler by itself, with one deadline or another, and a probe behind it on its worker."""
    for seed in range(SEED, SEED + RUNS // 500):
        world = play_each_kind(seed, loop_name)
        assert world.sent == len(world.runs) + 1 == 2 * len(KINDS) + 1


class CancelsItsCaller:
    """An observer that cancels the task that tells it."""

    def __init__(self, event: str) -> None:
        setattr(self, f"on_{event}", self.cancel)

    def cancel(self, event: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()


@pytest.mark.parametrize("event", ["failed", "dropped", "retried"])
@pytest.mark.parametrize("deadline", [None, 5])
def test_an_observer_that_cancels_the_worker(loop_name: str, event: str, deadline: float | None) -> None:
    """9: What an observer does to the worker's task between two runs does not reach the next."""

    async def plot() -> list[int]:
        attempts = 2 if event == "retried" else 1
        async with AsyncEnvelopeQueue("q", workers=1, observers=(CancelsItsCaller(event),)) as queue:
            futures = []
            for _ in range(3):
                hook = {"failure_hook": lambda *_: retry_now(), "max_attempts": attempts}
                queue.send(Envelope(fails, deadline=deadline, **hook))
                futures.append(queue.submit(Envelope(probe, deadline=deadline)))
            return await asyncio.gather(*futures)

    async def fails(ctx: Any, envelope: Any) -> None:
        raise ValueError

    assert live(loop_name, plot) == [0, 0, 0]


def test_workers_that_are_cancelled_before_they_have_begun(loop_name: str) -> None:
    """9: A cancellation in the tick of the start loses no worker."""

    async def plot() -> list[int]:
        async with AsyncEnvelopeQueue("q", workers=3) as queue:
            for task in workers_of(queue)[:2]:
                task.cancel()
            barrier = asyncio.Barrier(3)
            return await asyncio.gather(*[queue.submit(Envelope(meet, payload=barrier)) for _ in range(3)])

    async def meet(ctx: Any, envelope: Any) -> int:
        await envelope.payload.wait()
        return await probe(ctx, envelope)

    assert live(loop_name, plot) == [0, 0, 0]


def test_all_tasks_are_cancelled_in_the_tick_of_the_start(loop_name: str) -> None:
    """7: The queue has stopped, though neither its workers nor what watches the loop had begun."""
    queue = AsyncEnvelopeQueue("q", workers=2)
    envelope = Envelope(probe)

    async def start() -> None:
        queue.send(envelope)
        await queue.start()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    live(loop_name, start)
    assert queue.state is QueueState.STOPPED
    assert queue.last_report is not None
    assert queue.last_report.kept == (envelope,)
    live(loop_name, lambda: queue_runs_dry(queue))
    assert queue.stats().succeeded == 1


def test_a_loop_that_shuts_down_lets_the_threads_go(loop_name: str) -> None:
    """7: The threads for plain functions end with the loop of a queue that was not stopped."""
    queue = AsyncEnvelopeQueue("q", workers=2)

    async def plain() -> None:
        await queue.start()
        await queue.submit(Envelope(lambda ctx, envelope: None))
        await asyncio.sleep(0)

    live(loop_name, plain)
    ends_at = time.monotonic() + PATIENCE
    while threads_of(queue):
        assert time.monotonic() < ends_at
        threads_of(queue)[0].join(0.1)


async def queue_runs_dry(queue: AsyncEnvelopeQueue) -> None:
    """Start it, let all run, stop it."""
    async with queue:
        await queue.join()


def threads_of(queue: AsyncEnvelopeQueue) -> list[threading.Thread]:
    """Its threads for plain functions."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{queue.name}-plain")]


@pytest.mark.parametrize("deadline", [None, 5])
def test_a_loop_that_shuts_down_under_a_plain_function(loop_name: str, deadline: float | None) -> None:
    """4 and 7: Its run is abandoned, and keeps its key until the function has returned; the warning comes once."""
    queue = AsyncEnvelopeQueue("q", workers=2)
    inside, gate = threading.Semaphore(0), threading.Event()
    most, here = [0], [0]

    def plain(ctx: Any, envelope: Any) -> None:
        here[0] += 1
        most[0] = max(most[0], here[0])
        inside.release()
        gate.wait(PATIENCE)
        here[0] -= 1

    one, other = (Envelope(plain, key=key, deadline=deadline) for key in "ab")

    async def die() -> None:
        await queue.start()
        queue.send(one, other, Envelope(plain))
        for _ in range(2):
            assert await asyncio.to_thread(inside.acquire, timeout=PATIENCE)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        live(loop_name, die)
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert (queue.state, queue.stats().abandoned, len(queue)) == (QueueState.STOPPED, 2, 1)

    async def go_on() -> None:
        async with queue:
            queue.send(Envelope(plain, key="a"))
            assert await asyncio.to_thread(inside.acquire, timeout=PATIENCE)
            assert here == [3]
            gate.set()
            await queue.join()

    live(loop_name, go_on)
    assert most == [3]
    assert (queue.stats().abandoned_ended, queue.stats().succeeded) == (2, 2)


class CountingClock(SystemClock):
    """Counts how often it is looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def now(self) -> float:  # type: ignore[override]
        self.looks += 1
        return time.monotonic()


def test_a_run_that_outlives_stop_and_deadline_does_not_spin(loop_name: str) -> None:
    """9: A handler that goes on after the stop has cancelled it, and past its deadline, costs the loop nothing."""
    clock = CountingClock()
    looks: list[int] = []

    async def plot() -> None:
        queue = AsyncEnvelopeQueue("q", workers=1, clock=clock)
        await queue.start()
        queue.send(Envelope(stubborn, deadline=0.02))
        await asyncio.sleep(0)
        report = await queue.stop(timeout=0, grace=PATIENCE)
        assert (report.succeeded, report.abandoned) == (1, ())

    async def stubborn(ctx: Any, envelope: Any) -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(PATIENCE)
        for _ in range(2):
            await asyncio.sleep(0.03)
            looks.append(clock.looks)

    live(loop_name, plot)
    assert looks[1] - looks[0] < 10


def test_a_plain_function_past_its_deadline_that_a_dying_loop_leaves_behind(loop_name: str) -> None:
    """8: Its run ends one way, abandoned; it is not reported as failed as well."""
    failures = Failures()
    queue = AsyncEnvelopeQueue("q", workers=1, observers=(failures,))
    gate = threading.Event()

    async def die() -> None:
        await queue.start()
        queue.send(Envelope(lambda ctx, envelope: gate.wait(PATIENCE), deadline=0.001))
        await asyncio.sleep(0.03)

    live(loop_name, die)
    gate.set()
    assert (failures, queue.stats().abandoned, queue.stats().runs_failed) == ([], 1, 0)


def test_a_hook_after_a_stop_was_swallowed_has_its_budget(loop_name: str) -> None:
    """3: A handler that swallows the stop's cancellation has succeeded; its success hook is cancelled at its budget."""

    async def plot() -> None:
        queue = AsyncEnvelopeQueue("q", workers=1, hook_timeout_floor=0.01)
        await queue.start()
        queue.send(Envelope(swallows, success_hook=overruns))
        await asyncio.sleep(0)
        report = await queue.stop(timeout=0, grace=PATIENCE)
        assert (report.succeeded, report.kept, report.abandoned) == (1, (), ())

    async def swallows(ctx: Any, envelope: Any) -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(PATIENCE)

    async def overruns(ctx: Any, envelope: Any) -> None:
        await asyncio.sleep(PATIENCE * 2)

    live(loop_name, plot)


@pytest.mark.parametrize("cause", ["deadline", "stop"])
def test_a_plain_function_that_raises_its_own_cancelled_error(loop_name: str, cause: str) -> None:
    """3: It is never cancelled, so its CancelledError is its own: an ordinary failure, past a deadline and a stop."""
    failures = Failures()
    mine = asyncio.CancelledError("mine")

    def plain(ctx: Any, envelope: Any) -> None:
        ctx.wait()
        threading.Event().wait(0.02)  # until the worker's task was cancelled too
        raise mine

    async def plot() -> None:
        queue = AsyncEnvelopeQueue("q", workers=1, observers=(failures,))
        await queue.start()
        queue.send(Envelope(plain, deadline=0.005 if cause == "deadline" else None))
        await asyncio.sleep(0.01)
        await queue.stop(timeout=0 if cause == "stop" else None, grace=PATIENCE)
        assert len(queue) == 0

    live(loop_name, plot)
    assert failures == [mine]


def test_a_stamp_around_a_late_plain_function_finds_no_count(loop_name: str) -> None:
    """3: A deadline that a plain function has outlived leaves no count, which a TaskGroup would take for its own."""
    counts: list[int] = []

    def stamp(following: Any) -> Any:
        async def call(ctx: Any, envelope: Any) -> None:
            await following(ctx, envelope)
            task = asyncio.current_task()
            assert task is not None
            counts.append(task.cancelling())

        return call

    def plain(ctx: Any, envelope: Any) -> None:
        ctx.wait()
        threading.Event().wait(0.02)

    async def plot() -> None:
        async with AsyncEnvelopeQueue("q", workers=1, stamps=(stamp,)) as queue:
            await queue.submit(Envelope(plain, deadline=0.005))

    live(loop_name, plot)
    assert counts == [0]
