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
    """How an entry ended. Each accepted entry ends with exactly one."""

    SUCCEEDED = "succeeded"
    STOPPED = "stopped"
    DROPPED = "dropped"
    RETURNED = "returned"
    ABANDONED = "abandoned"


class QueueState(Enum):
    """Where a queue is in its life: init, running, stopping, stopped, running again, and at last terminated."""

    INIT = "init"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATED = "terminated"


class StopMode(Enum):
    """What `stop` does with ready work: DRAIN runs it, STOP keeps it for the next start."""

    DRAIN = "drain"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One consistent count of everything, read off the queue's book under its lock.

    At every moment `accepted == succeeded + stopped + dropped + returned + abandoned + occupancy`, and
    `runs_started == runs_succeeded + runs_failed + runs_cancelled + runs_stopped + runs_abandoned + running`.
    `buffered` are the entries that wait in INIT; `ready` counts those that wait in any other state.
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

    `abandoned` were still running when the stop gave up on them. `succeeded` and `dropped` count entries that ended
    during the stop; `elapsed` is seconds. A provisional report (from `wait=False`, or from inside a handler) has the
    state STOPPING; the next `stop()` returns the final one.
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

    `error` is text, never the exception: a kept exception would keep everything its traceback saw. `at_utc` is wall
    time, timezone-aware.
    """

    envelope: Envelope
    error: str
    reason: str | None
    attempts: int
    at_utc: datetime


@dataclass(frozen=True, slots=True)
class EntryView:
    """One entry as `snapshot` saw it; `phase` is ready, delayed, running or blocked, `due_in` seconds from then."""

    envelope: Envelope
    key: Hashable
    phase: str
    attempt: int
    due_in: float | None
