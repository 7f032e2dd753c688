"""One small language for the conformance tests, spoken by the simulated queue and by the one on threads.

Times in a test are in test seconds. On the simulated driver they are virtual and exact; on threads one of them takes
`Harness.unit` real seconds, lower bounds hold exactly, and upper bounds are generous.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from .ledger import Counts, check_events

IS_WATCHED = os.environ.get("REQ_WATCHED") == "1"  # every queue has an observer of everything, and measures
REAL_UNIT = 0.05  # real seconds that stand for one second of a test
SLACK = 10.0  # how late, in test seconds, a busy machine may be
PATIENCE = 20.0  # seconds after which a condition has failed

threads_only = pytest.mark.parametrize("h", ["threads"], indirect=True)
unwatched_only = pytest.mark.skipif(IS_WATCHED, reason="it says itself who watches")
simulated_only = pytest.mark.parametrize("h", ["simulated"], indirect=True)
virtual_only = pytest.mark.parametrize("h", ["simulated", "asyncio"], indirect=True)
concurrent_only = pytest.mark.parametrize("h", ["threads", "asyncio", "uvloop"], indirect=True)
loops_only = pytest.mark.parametrize("h", ["asyncio", "uvloop"], indirect=True)
real_loops_only = pytest.mark.parametrize("h", ["real asyncio", "uvloop"], indirect=True)


def cooperative_only(*, see: str) -> pytest.MarkDecorator:
    """For a test whose handlers learn from `ctx.wait()` that their time is up, and go on.

    A coroutine is cancelled there. So on asyncio the test is run with handlers that catch that ("stubborn"), and *see*
    is the module that says what holds for those that do not.
    """
    assert Path(__file__).with_name(f"{see}.py").exists(), f"there is no {see}"
    return pytest.mark.parametrize("h", ["simulated", "threads", "stubborn"], indirect=True)


def blocking_only(reason: str) -> pytest.MarkDecorator:
    """For a test of what only queues have whose calls block; *reason* says what."""
    assert reason
    return pytest.mark.parametrize("h", ["simulated", "threads"], indirect=True)


class Harness:
    """Makes queues of one kind and moves their time; the fixture `h`."""

    kind = ""
    unit = 1.0
    is_virtual = False  # time passes only when the test says so, and exactly

    def __init__(self) -> None:
        self.log: list[tuple[float, Any]] = []
        self.queues: list[Any] = []
        self.gates: list[Gate] = []
        self.heard: WeakKeyDictionary[Any, Counts] = WeakKeyDictionary()  # by those of the queues that are watched
        self.over = threading.Event()
        self.threads_before = set(threading.enumerate())

    def queue(self, name: str = "q", **options: Any) -> Any:
        """A queue, not started; terminated when the test is over."""
        options = {"workers": 1, "hook_timeout_floor": self.s(0.8), **options}
        heard = Counts()
        if IS_WATCHED:
            options["observers"] = (*options.get("observers", ()), heard)
        queue = self._make(name, options)
        self.queues.append(queue)
        if IS_WATCHED:
            queue.start_measuring()
            self.heard[queue] = heard
        return queue

    def s(self, seconds: float) -> float:
        """*seconds* of a test as the duration to give to a queue, an envelope or a context."""
        return seconds * self.unit

    def mark(self, label: Any) -> None:
        """Write (now, *label*) into `log`."""
        self.log.append((self.now(), label))

    def handler(self, label: Any = None, seconds: float = 0.0) -> Callable[[Any, Any], Any]:
        """A handler that marks *label* (None: the payload), works for *seconds* and returns the label."""

        def invoke(ctx: Any, envelope: Any) -> Any:
            shown = envelope.payload if label is None else label
            self.mark(shown)
            if seconds:
                self.work(ctx, seconds)
            return shown

        return invoke

    def labels(self) -> list[Any]:
        """The labels marked so far, in order."""
        return [label for _, label in list(self.log)]

    def times(self, label: Any) -> list[float]:
        """The instants at which *label* was marked."""
        return [at for at, found in list(self.log) if found == label]

    def gate(self) -> Gate:
        """A gate for handlers, closed."""
        gate = Gate(self)
        self.gates.append(gate)
        return gate

    def about(self, seconds: float) -> About:
        """Equal to an instant or a span that is *seconds*: exactly in virtual time, never early in real time."""
        return About(seconds, 1e-6 if self.is_virtual else SLACK)

    def now(self) -> float:
        """Test seconds since this harness was made."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let *seconds* go by."""
        raise NotImplementedError

    def until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
        """Let time go by until *condition* holds; fail after *timeout* (in real time: real seconds)."""
        raise NotImplementedError

    def until_virtually(self, condition: Callable[[], Any], timeout: float) -> None:
        """`until` in virtual time."""
        ends_at = self.now() + timeout
        while not condition():
            assert self.now() < ends_at, f"not so within {timeout} virtual seconds; log: {self.log}"
            self.pass_time(self._step())

    def _step(self) -> float:
        """Up to the next due time when nothing runs, else a short step."""
        entries = [entry for queue in self.queues for entry in queue.snapshot()]
        due = [entry.due_in for entry in entries if entry.phase == "delayed"]
        return max(0.01, min(due)) if due and len(due) == len(entries) else 0.01

    def work(self, ctx: Any, seconds: float) -> None:
        """Occupy the worker for *seconds*, whatever the context says."""
        raise NotImplementedError

    def hold(self, ctx: Any, is_over: Callable[[], bool]) -> None:
        """Occupy the worker until *is_over*, which is looked at after every `let_go` at the latest."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Have `hold` look again."""

    def await_stop(self, ctx: Any) -> None:
        """Occupy the worker until a stop has begun."""
        while not (ctx.stopping or self.over.is_set()):
            self.work(ctx, 0.01)

    def in_background(self, call: Callable[[], Any]) -> Handle:
        """Make a blocking *call* beside the test."""
        raise NotImplementedError

    def close(self) -> None:
        """End every queue, release every handler, and fail when a thread is left over."""
        self.over.set()
        for gate in self.gates:
            gate.open()
        for queue in self.queues:
            queue.terminate(timeout=0, grace=0)
        self._settle()
        for queue in self.queues:
            check_ledger(queue)
            if queue in self.heard:
                check_events(self.heard[queue], queue)
        deadline = time.monotonic() + PATIENCE
        for thread in set(threading.enumerate()) - self.threads_before:
            if not is_shared(thread):
                thread.join(max(0.0, deadline - time.monotonic()))
                assert not thread.is_alive(), f"{thread} outlived its test"

    def _make(self, name: str, options: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _settle(self) -> None:
        """Let handlers that were abandoned come to their end."""


class SimulatedHarness(Harness):
    """Virtual time: nothing moves unless the test says so."""

    kind = "simulated"
    is_virtual = True

    def __init__(self) -> None:
        from rate_envelope_queue.testing import VirtualClock

        super().__init__()
        self.clock = VirtualClock()
        self.started_at = self.clock.now()
        self.side: Any = None

    def _make(self, name: str, options: dict[str, Any]) -> Any:
        from rate_envelope_queue.testing import SimulatedEnvelopeQueue

        return SimulatedEnvelopeQueue(name, **{"clock": self.clock, **options})

    def now(self) -> float:
        return self.clock.now() - self.started_at

    def pass_time(self, seconds: float) -> None:
        if self.queues:
            self.queues[0].advance(seconds)

    def until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
        self.until_virtually(condition, timeout)

    def work(self, ctx: Any, seconds: float) -> None:
        ctx.queue.clock.sleep(seconds)

    def hold(self, ctx: Any, is_over: Callable[[], bool]) -> None:
        while not is_over():
            ctx.queue.clock.sleep(0.001)

    def in_background(self, call: Callable[[], Any]) -> Handle:
        from rate_envelope_queue import Envelope

        if self.side is None:
            self.side = self.queue("beside the test", workers=16)
            self.side.start()
        handle = Handle(self, call)
        self.side.send(Envelope(lambda ctx, envelope: handle.run()))
        return handle

    def _settle(self) -> None:
        self.pass_time(1000)


class ThreadsHarness(Harness):
    """Real threads in real time."""

    kind = "threads"
    unit = REAL_UNIT

    def __init__(self) -> None:
        super().__init__()
        self.started_at = time.monotonic()
        self.turn = threading.Condition()

    def _make(self, name: str, options: dict[str, Any]) -> Any:
        from rate_envelope_queue import EnvelopeQueue

        return EnvelopeQueue(name, **options)

    def now(self) -> float:
        return (time.monotonic() - self.started_at) / self.unit

    def pass_time(self, seconds: float) -> None:
        threading.Event().wait(self.s(seconds))

    def until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
        ends_at = time.monotonic() + timeout
        tick = threading.Event()
        while not condition():
            assert time.monotonic() < ends_at, f"not so within {timeout} real seconds; log: {self.log}"
            tick.wait(0.001)

    def work(self, ctx: Any, seconds: float) -> None:
        self.over.wait(self.s(seconds))

    def hold(self, ctx: Any, is_over: Callable[[], bool]) -> None:
        with self.turn:
            self.turn.wait_for(is_over)

    def let_go(self) -> None:
        with self.turn:
            self.turn.notify_all()

    def in_background(self, call: Callable[[], Any]) -> Handle:
        handle = Handle(self, call)
        threading.Thread(target=handle.run, name="beside the test", daemon=True).start()
        return handle


class Gate:
    """Holds handlers until it is opened. `waiting` is how many are inside."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._opened = threading.Event()
        self._counting = threading.Lock()
        self.waiting = 0

    def wait(self, ctx: Any) -> None:
        """Block the handler, whatever its context says, until the gate is open."""
        with self._counting:
            self.waiting += 1
        try:
            self._harness.hold(ctx, self._opened.is_set)
        finally:
            with self._counting:
                self.waiting -= 1

    def open(self) -> None:
        """Let go whoever waits or will wait."""
        self._opened.set()
        self._harness.let_go()


class Handle:
    """A call that is made beside the test."""

    def __init__(self, harness: Harness, call: Callable[[], Any]) -> None:
        self._harness = harness
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None
        self._ended = threading.Event()

    @property
    def done(self) -> bool:
        """Whether the call has returned or raised."""
        return self._ended.is_set()

    def run(self) -> None:
        """Make the call; for the harness."""
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()

    def result(self, timeout: float = PATIENCE) -> Any:
        """What the call returned; raises what it raised."""
        self._harness.until(self._ended.is_set, timeout)
        if self._error is not None:
            raise self._error
        return self._value


class About:
    """Equal to a time that is not before *seconds* and not more than *slack* after it."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, seconds: float, slack: float) -> None:
        self._seconds = seconds
        self._slack = slack

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (int, float)):
            return NotImplemented
        return self._seconds - 1e-6 <= other <= self._seconds + self._slack

    def __repr__(self) -> str:
        return f"{self._seconds} (+{self._slack})"


def check_ledger(queue: Any) -> None:
    """Each accepted entry has ended with one outcome or is in the queue; each run has ended in one way or runs."""
    stats = queue.stats()
    ended = stats.succeeded + stats.stopped + stats.dropped + stats.returned + stats.abandoned
    assert stats.accepted == ended + stats.occupancy
    runs = stats.runs_succeeded + stats.runs_failed + stats.runs_cancelled + stats.runs_stopped + stats.runs_abandoned
    assert stats.runs_started == runs + stats.running


def is_shared(thread: threading.Thread) -> bool:
    """Whether *thread* belongs to the process and not to one queue: the watchdog, started once when first needed."""
    return "watchdog" in thread.name
