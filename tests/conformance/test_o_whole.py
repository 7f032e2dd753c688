"""Section O: the whole. Nothing is kept alive after its outcome, and a restart leaves nothing behind."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rate_envelope_queue import (
    Cancelled,
    Envelope,
    EnvelopeQueue,
    RetryEnvelope,
    StopEnvelope,
    StopMode,
    drop,
    retry_now,
)
from rate_envelope_queue.testing import SimulatedEnvelopeQueue

from .harness import Harness, concurrent_only, threads_only


class Payload:
    """Something that can be referred to weakly."""


class Boom(Exception):
    """An error that can be referred to weakly."""


class Watched:
    """Weak references to an envelope, its payload, and what its runs raise and return."""

    def __init__(self, behave: Callable[[Any], Any] | None = None, **options: Any) -> None:
        self.refs: dict[str, weakref.ref[Any]] = {}
        self.number = 0
        self.behave = behave
        self.options = options

    def envelope(self) -> Envelope:
        """A fresh one, that only the caller holds."""

        def invoke(ctx: Any, envelope: Any) -> Any:
            result = Payload()
            self.note("result", result)
            try:
                if self.behave is not None:
                    self.behave(ctx)
            except BaseException as error:
                self.note("error", error)
                raise
            return result

        payload = Payload()
        envelope = Envelope(invoke, payload=payload, **self.options)
        self.note("payload", payload)
        self.note("envelope", envelope)
        return envelope

    def note(self, name: str, thing: Any) -> None:
        self.number += 1
        self.refs[f"{name} {self.number}"] = weakref.ref(thing)

    def alive(self) -> list[str]:
        """What is still there."""
        return [name for name, ref in self.refs.items() if ref() is not None]


@pytest.fixture
def no_gc() -> Iterator[None]:
    """No collector: what is freed is freed by counting references alone."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


pytestmark = pytest.mark.usefixtures("no_gc")


def fails(ctx: Any) -> None:
    raise Boom("on purpose")


def stops(ctx: Any) -> None:
    raise StopEnvelope


def fails_twice(ctx: Any) -> None:
    if ctx.attempt < 3:
        raise Boom("on purpose")


def retries_twice(ctx: Any) -> None:
    if ctx.attempt < 3:
        raise RetryEnvelope(0)


def ignored(*args: Any) -> None: ...


EVERYTHING: dict[str, Any] = {
    "deadline": 30,
    "before_hook": ignored,
    "after_hook": ignored,
    "success_hook": ignored,
    "failure_hook": lambda ctx, envelope, error: retry_now(),
    "stamps": [lambda next: lambda ctx, envelope: next(ctx, envelope)],
}


@pytest.mark.parametrize(
    ("behave", "options"),
    [
        pytest.param(None, {}, id="succeeded"),
        pytest.param(None, EVERYTHING, id="succeeded with everything on"),
        pytest.param(None, {"key": "k"}, id="succeeded with a key"),
        pytest.param(None, {"priority": 3}, id="succeeded with a priority"),
        pytest.param(stops, {}, id="stopped"),
        pytest.param(stops, {"interval": 1000}, id="periodic stopped"),
        pytest.param(fails_twice, EVERYTHING, id="failed twice, then succeeded"),
        pytest.param(retries_twice, {}, id="asked for a retry twice"),
    ],
)
def test_o99_freed_after_the_outcome(h: Harness, behave: Any, options: dict[str, Any]) -> None:
    """O99: an envelope, its payload, its errors and its result are freed after the outcome, without the collector."""
    queue = h.queue(hook_timeout_floor=30)
    watched = Watched(behave, **options)
    queue.start()
    queue.send(watched.envelope())
    h.until(lambda: len(queue) == 0)
    h.until(lambda: watched.alive() == [])
    assert queue.stats().accepted == 1


def test_o99_freed_while_other_work_goes_on(h: Harness) -> None:
    """O99: the same for each of many, with delays, while the worker that ran it is busy with the next."""
    queue = h.queue()
    watched = Watched()
    gate = h.gate()
    queue.start()
    for number in range(20):
        queue.send(watched.envelope(), delay=h.s(0.01 * (number % 3)))
    h.until(lambda: len(queue) == 0)
    queue.send(Envelope(lambda ctx, envelope: gate.wait(ctx)))
    h.until(lambda: gate.waiting == 1)
    assert watched.alive() == []
    gate.open()


def test_o99_a_dropped_one_is_kept_until_evicted(h: Harness) -> None:
    """O99: a dropped envelope stays in the dead letters until another one pushes it out; its error never does."""
    queue = h.queue(dead_letter_limit=2)
    watched, others = Watched(fails), Watched(fails)
    queue.start()
    queue.send(watched.envelope())
    assert queue.join(timeout=60)
    h.until(lambda: {name.split()[0] for name in watched.alive()} == {"envelope", "payload"})
    assert "Boom: on purpose" in queue.dead_letters()[0].error
    queue.send(others.envelope())
    assert queue.join(timeout=60)
    assert {name.split()[0] for name in watched.alive()} == {"envelope", "payload"}
    queue.send(others.envelope())
    assert queue.join(timeout=60)
    h.until(lambda: watched.alive() == [])
    assert len(queue.dead_letters()) == 2


@pytest.mark.parametrize("hook", [None, lambda ctx, envelope, error: drop("enough")])
def test_o99_a_dropped_one_is_freed_when_cleared(h: Harness, hook: Any) -> None:
    """O99: clear_dead_letters lets go of what was dropped, decided by a hook or by having none."""
    queue = h.queue()
    watched = Watched(fails, failure_hook=hook)
    queue.start()
    queue.send(watched.envelope())
    assert queue.join(timeout=60)
    queue.clear_dead_letters()
    h.until(lambda: watched.alive() == [])


@pytest.mark.parametrize("how", ["cancel", "clear", "terminate"])
@pytest.mark.parametrize("delay", [0, 1000])
def test_o99_what_is_returned_is_freed(h: Harness, how: str, delay: float) -> None:
    """O99: once returned by cancel, clear or terminate, an envelope belongs to the caller alone."""
    h.queue("bystander")  # keeps time moving
    queue = h.queue()
    watched = Watched()
    queue.start()
    queue.pause()
    envelope = watched.envelope()
    queue.send(envelope, delay=delay)
    others = [Watched().envelope() for _ in range(3)]
    queue.send(*others, delay=delay)
    if how == "cancel":
        assert queue.cancel(envelope)
    elif how == "clear":
        assert envelope in queue.clear()
    else:
        assert envelope in queue.terminate().returned
        h.queues.remove(queue)
        del queue  # its last report names what it returned
        h.pass_time(0.1)  # its workers leave
        gc.collect()  # a queue itself may be a cycle
    del envelope
    h.until(lambda: watched.alive() == [])


def test_o99_a_future_holds_its_result_and_no_more(h: Harness) -> None:
    """O99: a future keeps what it resolved to; when it is let go of, that is freed too."""
    queue = h.queue()
    watched, failing = Watched(), Watched(fails)
    queue.start()
    future, other = queue.submit(watched.envelope()), queue.submit(failing.envelope())
    assert queue.join(timeout=60)
    queue.clear_dead_letters()
    assert isinstance(future.result(), Payload)
    h.until(lambda: [name.split()[0] for name in watched.alive()] == ["result"])
    assert isinstance(other.exception(), Boom)
    del future, other
    h.until(lambda: watched.alive() == failing.alive() == [])


def test_o99_a_cancelled_future_lets_go(h: Harness) -> None:
    """O99: an entry withdrawn by its last future is freed."""
    queue = h.queue()
    watched = Watched()
    future = queue.submit(watched.envelope())
    assert future.cancel()
    assert len(queue) == 0
    h.until(lambda: watched.alive() == [])


def test_o99_replaced_envelopes_are_freed(h: Harness) -> None:
    """O99: with duplicates="replace", what was replaced is freed at once: waiting, delayed, or as a re-send."""
    queue = h.queue(duplicates="replace")
    gate = h.gate()
    watched = Watched(key="k")
    last = Envelope(lambda ctx, envelope: gate.wait(ctx), key="k")
    for delay in (0, 1000):
        queue.send(watched.envelope(), delay=delay)
    queue.send(last)
    assert watched.alive() == []
    queue.start()
    h.until(lambda: gate.waiting == 1)
    queue.send(watched.envelope())
    queue.send(Envelope(ignored, key="k"))
    assert watched.alive() == []
    gate.open()
    assert queue.join(timeout=60)


def test_o99_an_abandoned_run_holds_on_only_while_it_goes_on(h: Harness) -> None:
    """O99: an abandoned run keeps its envelope while it is going; after its end nothing does, but the stop report."""
    queue = h.queue()
    gate = h.gate()
    watched = Watched(gate.wait)
    queue.start()
    queue.send(watched.envelope())
    h.until(lambda: gate.waiting == 1)
    assert len(queue.stop(timeout=0, grace=0).abandoned) == 1
    gate.open()
    h.until(lambda: queue.stats().abandoned_ended == 1)
    queue.start()
    queue.stop()  # a new report takes the place of the old one
    h.until(lambda: watched.alive() == [])


def test_o99_a_run_cancelled_by_terminate_is_freed(h: Harness) -> None:
    """O99: the error that ends a cancelled run is freed, and its envelope once the report is."""
    h.queue("bystander")  # keeps time moving
    queue = h.queue()

    def waits(ctx: Any) -> None:
        h.mark("waiting")
        ctx.wait()
        ctx.check()

    watched = Watched(waits)
    queue.start()
    future = queue.submit(watched.envelope())
    h.until(lambda: h.labels() == ["waiting"])
    report = queue.terminate()
    assert len(report.returned) == 1
    with pytest.raises(Cancelled):
        future.result(timeout=60)
    h.queues.remove(queue)
    del queue, report, future
    h.pass_time(0.1)  # its workers leave
    gc.collect()  # a queue itself may be a cycle
    h.until(lambda: watched.alive() == [])


def open_files() -> list[str]:
    return os.listdir("/proc/self/fd")


@concurrent_only
@pytest.mark.parametrize("workers", [1, 4])
def test_o100_a_thousand_restarts_leave_no_thread_and_no_file(h: Harness, workers: int) -> None:
    """O100: 1,000 restarts of one queue leave no thread and no file descriptor, whatever way each stop is made."""
    queue = h.queue(workers=workers)
    queue.start()
    queue.stop(timeout=60)  # whatever the process starts once is there now
    threads, files = set(threading.enumerate()), len(open_files())
    ways: list[Callable[[], Any]] = [
        lambda: queue.stop(),
        lambda: queue.stop(StopMode.STOP),
        lambda: queue.stop(timeout=60),
        lambda: (queue.stop(wait=False), queue.stop()),
    ]
    runs = 0
    for number in range(1000):
        queue.start()
        if number % 2:
            queue.send(Envelope(ignored))
            runs += 1
        ways[number % 4]()
    h.until(lambda: set(threading.enumerate()) <= threads)
    assert len(open_files()) <= files
    queue.start()
    assert queue.join(timeout=60)
    assert queue.stats().succeeded == runs


@threads_only
def test_o100_a_thousand_queues_leave_no_thread_and_no_file(h: Harness) -> None:
    """O100: the same for 1,000 queues that are made, used and forgotten."""
    threads, files = set(threading.enumerate()), len(open_files())
    forgotten = []
    for _ in range(1000):
        with EnvelopeQueue("short", workers=2) as queue:
            queue.send(Envelope(ignored))
        assert queue.stats().succeeded == 1
        forgotten.append(weakref.ref(queue))
    del queue
    h.until(lambda: set(threading.enumerate()) <= threads)
    assert len(open_files()) <= files
    gc.collect()
    assert [ref for ref in forgotten if ref() is not None] == []


def test_o100_a_thousand_simulated_restarts_leave_no_thread() -> None:
    """O100: a simulated queue leaves no carrier behind, restarted 1,000 times and then forgotten."""
    threads, files = set(threading.enumerate()), len(open_files())
    queue = SimulatedEnvelopeQueue("simulated", workers=2)
    for _ in range(1000):
        queue.start()
        queue.send(Envelope(lambda ctx, envelope: ctx.wait(1)), Envelope(ignored))
        queue.stop()
    assert queue.stats().succeeded == 2000
    for thread in set(threading.enumerate()) - threads:  # one may still be on its way out
        thread.join(60)
    assert set(threading.enumerate()) <= threads
    assert len(open_files()) <= files
