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
    ended after all.

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


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that was dropped. Send `envelope` again to give it another chance.

    `error` is text, never the exception: a kept exception would keep everything its traceback saw. `reason` is what was
    given to `drop`, or says that `max_attempts` was reached or the failure hook failed; else None. `at_utc` is wall
    time, timezone-aware.

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
