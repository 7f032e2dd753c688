"""What an observer is told, in the past tense.

An observer is an object with some of the methods of `Observer`. It is looked at once, when it is given to the queue: a
method it does not have costs nothing. Methods are called without a lock, from whichever thread made the event; one
that raises is logged and not called again.

Each thing is told once, so that what was told can be counted: at every moment at which nothing is being delivered,
the events since the queue was made are as many as `QueueStats` says. Entries: `accepted`, `coalesced`, `refused`, and
one `ended` for each outcome. Runs: `started`, and for each that is over one of `succeeded`, `failed`, `stopped`,
`cancelled` and `abandoned`. `late` is told beside `succeeded`.

In order are the events that one thread makes. A run's are all made by its worker: `started` before the handler is
called; when it is over `succeeded` (or `failed` ...), `late`, `retried` or `dropped`, `ended`. A `send` tells of
`accepted` before it returns, and another thread may tell of `started` before that; so may the worker of a retry, before
the one of the run before it has told of `failed`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .text import traceback_text

if TYPE_CHECKING:
    from .envelope import Envelope
    from .errors import EnvelopeQueueError
    from .results import DeadLetter, Outcome, QueueState


@dataclass(frozen=True, slots=True)
class Accepted:
    """A send brought a new entry."""

    queue: str
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Coalesced:
    """A send merged into an entry that was there. `envelope` is the one that was sent."""

    queue: str
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Refused:
    """An envelope was not taken in; one event for each of a batch. `error` is what the sender gets."""

    queue: str
    envelope: Envelope
    error: EnvelopeQueueError


@dataclass(frozen=True, slots=True)
class Started:
    """A worker took an entry, and its run begins.

    `waited` seconds it was ready and no worker was free (or the start rate held it back). `latency` is since it was
    sent, delays and backoff included; since it was due, for the next run of a periodic. Both None for what was sent
    before anybody listened.
    """

    queue: str
    envelope: Envelope
    attempt: int
    waited: float | None
    latency: float | None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A run ended well, of a one-off or of a periodic.

    `duration` is the seconds of the whole run, hooks included, from `Started` on; `latency` is that of `Started`.
    `is_late`: the handler returned after its deadline.
    """

    queue: str
    envelope: Envelope
    attempt: int
    duration: float | None
    latency: float | None
    is_late: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A run ended with an error, whatever followed.

    `duration` and `latency` as of `Succeeded`: None unless somebody listens to `started`, `succeeded` or `ended`, or
    the queue measures its times.
    """

    queue: str
    envelope: Envelope
    attempt: int
    error: BaseException
    duration: float | None = None
    latency: float | None = None

    def traceback(self) -> str:
        """The error's traceback as text, bounded."""
        return traceback_text(self.error)


@dataclass(frozen=True, slots=True)
class Stopped:
    """A run ended by `StopEnvelope`, and with it its entry. `duration` and `latency` as of `Failed`."""

    queue: str
    envelope: Envelope
    attempt: int
    duration: float | None
    latency: float | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A stop cancelled a run; its entry is kept, unless it is returned. `duration` and `latency` as of `Failed`."""

    queue: str
    envelope: Envelope
    attempt: int
    duration: float | None
    latency: float | None


@dataclass(frozen=True, slots=True)
class Late:
    """A run succeeded after its deadline."""

    queue: str
    envelope: Envelope
    attempt: int


@dataclass(frozen=True, slots=True)
class Ended:
    """An entry has left the queue, with the one outcome it will ever have.

    `age` is the seconds since it was sent, or sent again while it ran; of a periodic, since its last run was due. None
    when it was sent before anybody listened.
    """

    queue: str
    envelope: Envelope
    outcome: Outcome
    age: float | None


@dataclass(frozen=True, slots=True)
class HookFailed:
    """A hook raised, or answered something that is not a Decision; the run's own result stands. `hook` names it."""

    queue: str
    envelope: Envelope
    attempt: int
    error: BaseException
    hook: str


@dataclass(frozen=True, slots=True)
class Retried:
    """A failed one-off will run again in `after` seconds; `attempt` is the run that failed."""

    queue: str
    envelope: Envelope
    attempt: int
    after: float


@dataclass(frozen=True, slots=True)
class Dropped:
    """An entry went to the dead letters."""

    queue: str
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Stuck:
    """A run is still going `overdue` seconds past its deadline; `stack` is where its thread was, as text."""

    queue: str
    envelope: Envelope
    attempt: int
    overdue: float
    stack: str


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A stop gave up on a run that went on past its timeout and grace."""

    queue: str
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The queue went from one state to another."""

    queue: str
    old: QueueState
    new: QueueState


def _unused(method: Callable[..., None]) -> Callable[..., None]:
    method.is_unused = True  # type: ignore[attr-defined]
    return method


class Observer:
    """All that can be listened to. Subclass it and override what you want, or bring any object with such methods.

    Methods are plain, called without a lock from whichever thread made the event; on `AsyncEnvelopeQueue` mostly on the
    loop, so they must not block. One that raises is logged and not called again. Given as `observers=` or by
    `queue.add_observer`, which raise TypeError for a method that listens to no event.

    >>> from rate_envelope_queue import EnvelopeQueue
    >>> class States(Observer):
    ...     def on_state_changed(self, event):
    ...         print(event.queue, event.old.value, event.new.value)
    >>> with EnvelopeQueue("mail", observers=[States()]) as queue:
    ...     pass
    mail init running
    mail running stopping
    mail stopping stopped
    """

    @_unused
    def on_accepted(self, event: Accepted) -> None:
        """A send brought a new entry. Listening costs each send some microseconds."""

    @_unused
    def on_coalesced(self, event: Coalesced) -> None:
        """A send merged into an entry that was there. Listening costs each send some microseconds."""

    @_unused
    def on_refused(self, event: Refused) -> None:
        """An envelope was not taken in."""

    @_unused
    def on_started(self, event: Started) -> None:
        """A run begins. Listening costs each run some microseconds."""

    @_unused
    def on_succeeded(self, event: Succeeded) -> None:
        """A run ended well. Listening costs each run some microseconds."""

    @_unused
    def on_failed(self, event: Failed) -> None:
        """A run ended with an error."""

    @_unused
    def on_stopped(self, event: Stopped) -> None:
        """A run ended by `StopEnvelope`."""

    @_unused
    def on_cancelled(self, event: Cancelled) -> None:
        """A stop cancelled a run."""

    @_unused
    def on_late(self, event: Late) -> None:
        """A run succeeded after its deadline."""

    @_unused
    def on_ended(self, event: Ended) -> None:
        """An entry has ended, with its outcome. Listening costs each entry some microseconds."""

    @_unused
    def on_hook_failed(self, event: HookFailed) -> None:
        """A hook raised, or answered what is not a Decision."""

    @_unused
    def on_retried(self, event: Retried) -> None:
        """A failed one-off was scheduled again."""

    @_unused
    def on_dropped(self, event: Dropped) -> None:
        """An entry went to the dead letters."""

    @_unused
    def on_stuck(self, event: Stuck) -> None:
        """A run outlived its deadline by `stuck_after`."""

    @_unused
    def on_abandoned(self, event: Abandoned) -> None:
        """A stop gave up on a run."""

    @_unused
    def on_state_changed(self, event: StateChanged) -> None:
        """The queue changed its state."""


FACTS: dict[str, Callable[..., Any]] = {
    "accepted": Accepted, "coalesced": Coalesced, "refused": Refused, "started": Started, "succeeded": Succeeded,
    "failed": Failed, "stopped": Stopped, "cancelled": Cancelled, "late": Late, "ended": Ended,
    "hook_failed": HookFailed, "retried": Retried, "dropped": Dropped, "stuck": Stuck, "abandoned": Abandoned,
    "state_changed": StateChanged,
}  # fmt: skip
OBSERVABLE = tuple(FACTS)
