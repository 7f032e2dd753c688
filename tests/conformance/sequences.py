"""What the tests of the sequences share: handlers that wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rate_envelope_queue import Envelope

from .harness import Harness

FOREVER = 1000.0  # test seconds: a wait that must not happen


def noop(ctx: Any, envelope: Any) -> None: ...


def held(h: Harness, gate: Any, **options: Any) -> Envelope:
    """Marks its payload and attempt, waits at *gate*, whatever its context says, and returns the number of the run."""
    runs: list[int] = []

    def invoke(ctx: Any, envelope: Any) -> int:
        h.mark((envelope.payload, ctx.attempt))
        runs.append(len(runs) + 1)
        number = runs[-1]
        gate.wait(ctx)
        return number

    return Envelope(invoke, **options)


def begin(h: Harness, queue: Any, gate: Any, envelope: Envelope) -> None:
    """Start the queue, send *envelope*, and wait until it is at the gate."""
    queue.start()
    assert queue.send(envelope) == 1
    h.until(lambda: gate.waiting == 1)


def waits_for_its_context(h: Harness) -> Callable[[Any, Any], None]:
    """A handler that marks its payload and attempt, and ends as cancelled when its context does."""

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark((envelope.payload, ctx.attempt))
        ctx.wait()
        ctx.check()

    return invoke


def balances(queue: Any) -> bool:
    """Whether the ledger holds now: every accepted entry has ended once or is in the queue, and every run likewise."""
    stats = queue.stats()
    ended = stats.succeeded + stats.stopped + stats.dropped + stats.returned + stats.abandoned
    ran = stats.runs_succeeded + stats.runs_failed + stats.runs_cancelled + stats.runs_stopped + stats.runs_abandoned
    return bool(stats.accepted == ended + stats.occupancy and stats.runs_started == ran + stats.running)
