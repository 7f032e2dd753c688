"""What an observer is told, in the past tense.

An observer is an object with some of the methods of `Observer`. It is looked at once, when the queue is made: a method
it does not have costs nothing. Methods are called without a lock, from whichever thread made the event; one that
raises is logged and not called again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .text import traceback_text

if TYPE_CHECKING:
    from .envelope import Envelope
    from .results import DeadLetter, QueueState

OBSERVABLE = ("failed", "hook_failed", "retried", "dropped", "stuck", "abandoned", "state_changed")


@dataclass(frozen=True, slots=True)
class Failed:
    """A run ended with an error, whatever followed."""

    queue: str
    envelope: Envelope
    attempt: int
    error: BaseException

    def traceback(self) -> str:
        """The error's traceback as text, bounded."""
        return traceback_text(self.error)


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
    loop, so they must not block. One that raises is logged and not called again. TypeError, when the queue is made, for
    a method that listens to no event.

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
    def on_failed(self, event: Failed) -> None:
        """A run ended with an error."""

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
