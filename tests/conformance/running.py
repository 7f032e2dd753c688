"""What the tests about runs share: an observer that remembers, times that are not meant to pass, functions that
raise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from rate_envelope_queue import Envelope

from .harness import Harness, check_ledger


class Seen:
    """An observer that keeps every event of the kinds that runs make."""

    def __init__(self) -> None:
        self.failed: list[Any] = []
        self.hook_failed: list[Any] = []
        self.retried: list[Any] = []
        self.dropped: list[Any] = []
        self.stuck: list[Any] = []

    def on_failed(self, event: Any) -> None:
        self.failed.append(event)

    def on_hook_failed(self, event: Any) -> None:
        self.hook_failed.append(event)

    def on_retried(self, event: Any) -> None:
        self.retried.append(event)

    def on_dropped(self, event: Any) -> None:
        self.dropped.append(event)

    def on_stuck(self, event: Any) -> None:
        self.stuck.append(event)


def ample(h: Harness, seconds: float) -> float:
    """A deadline that is not meant to pass: exact in virtual time, far too long on a machine that may stall."""
    return seconds if h.is_virtual else 30.0


def widen(h: Harness) -> None:
    """Let a test second take longer on threads: for tests in which a run must start well before a short deadline."""
    if not h.is_virtual:
        h.unit = 0.2


def patient(h: Harness) -> dict[str, Any]:
    """Options of a queue whose hooks are not meant to outlive their budget."""
    return {"hook_timeout_floor": ample(h, 0.8)}


def started(h: Harness, **options: Any) -> Any:
    """A running queue with patient hooks."""
    queue = h.queue(**{**patient(h), **options})
    queue.start()
    return queue


def run(h: Harness, *envelopes: Envelope, **options: Any) -> tuple[Any, Seen]:
    """Run one-offs, and their retries, to the end; the queue, still running, and what its observer saw."""
    seen = Seen()
    queue = started(h, observers=(seen,), **options)
    queue.send(*envelopes)
    finish(queue)
    return queue, seen


def run_once(h: Harness, *envelopes: Envelope, **options: Any) -> tuple[Any, Seen, Any]:
    """One run each and no more, periodic or not: drained. The stopped queue, what its observer saw, and its report."""
    seen = Seen()
    queue = started(h, observers=(seen,), **options)
    queue.send(*envelopes)
    report = queue.stop(timeout=30)
    return queue, seen, report


def finish(queue: Any) -> None:
    """Wait until every one-off has ended and its effects were delivered."""
    assert queue.join(timeout=30)


def marks(h: Harness, label: Any) -> Callable[..., None]:
    """A handler or hook that only marks *label*."""
    return lambda *args: h.mark(label)


def raises(error: type[BaseException] | Callable[[], BaseException]) -> Callable[..., Any]:
    """A handler or hook that raises a fresh *error* each time."""

    def raising(*args: Any) -> Any:
        raise error()

    return raising


def marks_and_raises(
    h: Harness, label: Any, error: type[BaseException] | Callable[[], BaseException]
) -> Callable[..., Any]:
    """A handler or hook that marks *label* and raises a fresh *error* each time."""

    def raising(*args: Any) -> Any:
        h.mark(label)
        raise error()

    return raising


def gaps(times: list[float]) -> list[float]:
    """The spans between successive *times*."""
    return [later - earlier for earlier, later in pairwise(times)]


def fails_times(h: Harness, count: int, *, takes: float = 0.0) -> Callable[..., Any]:
    """A handler that marks "run", fails *count* times, and then marks "done"."""
    runs: list[None] = []

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark("run")
        runs.append(None)
        if takes:
            h.work(ctx, takes)
        if len(runs) <= count:
            raise ValueError(f"failure {len(runs)}")
        h.mark("done")

    return invoke


def goes_on(h: Harness, queue: Any) -> None:
    """Check that the queue still works in all its parts: at once, later, and to its end."""
    queue.send(Envelope.once(marks(h, "at once")))
    queue.send(Envelope.once(marks(h, "later")), delay=h.s(0.2))
    finish(queue)
    assert h.labels()[-2:] == ["at once", "later"]
    check_ledger(queue)
    queue.stop(timeout=30)
    assert queue.stats().running == 0
