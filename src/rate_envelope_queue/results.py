"""The values a queue answers with: states, outcomes, counts and reports. All immutable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .envelope import Envelope


class Outcome(Enum):
    """How an entry ended. Each accepted entry ends with exactly one, and `QueueStats` counts them by these names.

    SUCCEEDED: the handler returned. STOPPED: by `StopEnvelope`. DROPPED: it failed, and was not to be retried.
    RETURNED: taken out by `cancel`, `clear` or `terminate` before it had succeeded. ABANDONED: a stop gave up on its
    run.

    >>> Outcome("dropped")
    <Outcome.DROPPED: 'dropped'>
    """

    SUCCEEDED = "succeeded"
    STOPPED = "stopped"
    DROPPED = "dropped"
    RETURNED = "returned"
    ABANDONED = "abandoned"


class QueueState(Enum):
    """Where a queue is in its life: init, running, stopping, stopped, running again, and at last terminated.

    >>> from rate_envelope_queue import EnvelopeQueue
    >>> queue = EnvelopeQueue("mail")
    >>> queue.state
    <QueueState.INIT: 'init'>
    >>> with queue:
    ...     queue.state
    <QueueState.RUNNING: 'running'>
    >>> queue.state
    <QueueState.STOPPED: 'stopped'>
    """

    INIT = "init"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATED = "terminated"


class StopMode(Enum):
    """What `stop` does with ready work: DRAIN runs it, STOP keeps it for the next start.

    >>> from rate_envelope_queue import EnvelopeQueue
    >>> queue = EnvelopeQueue("cache", stop_mode=StopMode.STOP)      # what stop() does when it is not told
    >>> queue.stop(StopMode.DRAIN).mode
    <StopMode.DRAIN: 'drain'>
    """

    DRAIN = "drain"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One consistent count of everything, read off the queue's book under its lock.

    At every moment `accepted == succeeded + stopped + dropped + returned + abandoned + occupancy`, and
    `runs_started == runs_succeeded + runs_failed + runs_cancelled + runs_stopped + runs_abandoned + running`.

    Since the queue was made: `accepted` entries; `succeeded`, `stopped`, `dropped`, `returned` and `abandoned` are
    those that have ended, by `Outcome`; `coalesced` sends that merged into an entry; `refused` envelopes, for want of
    room or because the queue took none in; `late` runs that succeeded after their deadline; `abandoned_ended` runs that
    ended after all; `retried` one-offs that failed and were scheduled again.

    Now: `buffered` entries wait in INIT, `ready` ones in any other state; `delayed` ones wait for a time (a delay, a
    retry, a period); `running` ones run; `occupancy` is all of them, `len(queue)`; `workers` is how many there are to
    be.

    >>> from rate_envelope_queue import Envelope, EnvelopeQueue
    >>> queue = EnvelopeQueue("mail")
    >>> queue.send(Envelope(print), Envelope(print))
    2
    >>> stats = queue.stats()
    >>> stats.accepted, stats.buffered, stats.occupancy
    (2, 2, 2)
    """

    accepted: int
    succeeded: int
    stopped: int
    dropped: int
    returned: int
    abandoned: int
    coalesced: int
    refused: int
    buffered: int
    ready: int
    delayed: int
    running: int
    occupancy: int
    runs_started: int
    runs_succeeded: int
    runs_failed: int
    runs_cancelled: int
    runs_stopped: int
    runs_abandoned: int
    abandoned_ended: int
    late: int
    workers: int
    state: QueueState
    retried: int


def _bounds() -> tuple[float, ...]:
    """1, 2.5 and 5 of each decade from 10 ns to 11 days; the decades are the buckets of client-go, to the last bit."""
    found = []
    decade = 10e-9
    for _ in range(15):
        found += [decade, 2.5 * decade, 5 * decade]
        decade *= 10
    return tuple(found)


BOUNDS = _bounds()


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often a time in seconds fell into which bucket.

    `counts[i]` values were at most `bounds[i]` and more than the bound before; the last count, for which there is no
    bound, is of those above all. `total` is their sum.

    >>> Histogram((0.1, 1.0), (5, 2, 1), 4.5).count
    8
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a queue has measured of itself since `start_measuring`, in the terms of client-go's workqueue.

    Now: `depth` entries are ready or due, or run and were sent again meanwhile; `unfinished` is how many seconds what
    runs has been running, all together, `longest` the longest of them.

    Since the queue was made: `adds` times an entry became ready (sent, due, or sent again while it ran; a periodic each
    time), `retries` times one was scheduled again after a failure (on a work queue: `add_after` and
    `add_rate_limited`).

    Histograms: `waited`, seconds that an entry was ready before its run began; `latency`, since it was sent (its delay
    and backoff included; a periodic, since it was due); `ran`, from the start of a run to its end, hooks included.

    >>> from rate_envelope_queue import Envelope
    >>> from rate_envelope_queue.testing import SimulatedEnvelopeQueue
    >>> queue = SimulatedEnvelopeQueue("mail")
    >>> queue.start_measuring()
    >>> queue.start()
    >>> queue.send(Envelope(lambda ctx, envelope: ctx.wait(0.3)), delay=2)
    1
    >>> queue.advance(2.1)
    >>> measured = queue.measured()
    >>> measured.latency.total, measured.waited.total, measured.ran.count, round(measured.longest, 3)
    (2.0, 0.0, 0, 0.1)
    """

    depth: int
    adds: int
    retries: int
    waited: Histogram
    latency: Histogram
    ran: Histogram
    unfinished: float
    longest: float


@dataclass(frozen=True, slots=True)
class StopReport:
    """What a stop did. `kept` goes on at the next start; `returned` is out of the queue for good.

    `mode` is the hardest that was asked for, `state` the queue's. `abandoned` were still running when the stop gave up
    on them. `timed_out`: its timeout passed before all was done. `succeeded` and `dropped` count entries that ended
    during the stop; `elapsed` is seconds. `waited`: some caller was to block for it. `initiated_from_handler`: it was
    begun inside a handler or hook of this queue.

    A provisional report (from `wait=False`, or from inside a handler) has the state STOPPING, and lists nothing; the
    next `stop()` returns the final one.

    >>> from rate_envelope_queue import Envelope, EnvelopeQueue
    >>> queue = EnvelopeQueue("mail")
    >>> queue.start()
    >>> queue.send(Envelope(print, type="reminder"), delay=3600)
    1
    >>> report = queue.stop()
    >>> report.kept, report.state.value, report.timed_out
    ((<Envelope 'reminder'>,), 'stopped', False)
    """

    mode: StopMode
    state: QueueState
    waited: bool = True
    timed_out: bool = False
    elapsed: float = 0.0
    kept: tuple[Envelope, ...] = ()
    returned: tuple[Envelope, ...] = ()
    abandoned: tuple[Envelope, ...] = ()
    succeeded: int = 0
    dropped: int = 0
    initiated_from_handler: bool = False


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class DeadLetter:
    """An entry that was dropped. `retry_dead_letter` gives it another chance.

    `error` is text, never the exception: a kept exception would keep everything its traceback saw. `reason` is what was
    given to `drop`, or says that `max_attempts` was reached or the failure hook failed; else None. `at_utc` is wall
    time, timezone-aware. Letters compare by identity, as envelopes do.

    >>> from rate_envelope_queue import Envelope
    >>> from rate_envelope_queue.testing import SimulatedEnvelopeQueue
    >>> def fail(ctx, envelope):
    ...     raise LookupError("no such mailbox")
    >>> queue = SimulatedEnvelopeQueue("mail")
    >>> queue.start()
    >>> queue.send(Envelope(fail))
    1
    >>> queue.run_until_idle()
    >>> [letter] = queue.dead_letters()
    >>> letter.error, letter.attempts
    ('LookupError: no such mailbox', 1)
    """

    envelope: Envelope
    error: str
    reason: str | None
    attempts: int
    at_utc: datetime


@dataclass(frozen=True, slots=True)
class EntryView:
    """One entry as `snapshot` saw it.

    `key` is the envelope itself when it has none. `phase` is "ready", "delayed" (also between retries and periods),
    "running", or "blocked": it waits for an abandoned run with the same key to end. `attempt` is the run that goes on
    or comes next; `due_in` are the seconds until a delayed one is due, else None.

    >>> from rate_envelope_queue import Envelope, EnvelopeQueue
    >>> queue = EnvelopeQueue("mail")
    >>> queue.send(Envelope(print, key="ann"))
    1
    >>> [view] = queue.snapshot()
    >>> view.key, view.phase, view.attempt
    ('ann', 'ready', 1)
    """

    envelope: Envelope
    key: Hashable
    phase: str
    attempt: int
    due_in: float | None
