"""What a failure hook may answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from .durations import seconds
from .text import bounded_repr


class DecisionKind(Enum):
    """The four things that can follow a failed run.

    >>> DecisionKind.DROP.value
    'drop'
    """

    DROP = "drop"
    RETRY_NOW = "retry_now"
    RETRY_AFTER = "retry_after"
    RETRY_WITH_BACKOFF = "retry_with_backoff"


@dataclass(frozen=True, slots=True, repr=False)
class Decision:
    """An immutable answer of a failure hook; make one with the four functions of this module.

    `after` is seconds, for RETRY_AFTER only; `reason` is the text given to `drop`. Raises TypeError or ValueError,
    naming the argument, for what the four functions would not have made.

    >>> decision = retry_after(60)
    >>> decision.kind, decision.after
    (<DecisionKind.RETRY_AFTER: 'retry_after'>, 60.0)
    """

    kind: DecisionKind
    after: float | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if type(self.kind) is not DecisionKind:
            raise TypeError(f"kind must be a DecisionKind such as DecisionKind.DROP, not {bounded_repr(self.kind)}")
        if self.kind is DecisionKind.RETRY_AFTER:
            wanted = seconds(self.after, "after")
            object.__setattr__(self, "after", wanted if wanted > 0 else 1.0)
        elif self.after is not None:
            raise ValueError(f"after goes with RETRY_AFTER alone, not with {self.kind.name}: leave it out")
        if self.reason is not None and not isinstance(self.reason, str):
            raise TypeError(f"reason must be a str or None, not {bounded_repr(self.reason)}")

    def __repr__(self) -> str:
        given = self.reason if self.kind is DecisionKind.DROP else self.after
        return f"{self.kind.value}({'' if given is None else bounded_repr(given)})"


# Read past what a subclass may have put in their place.
_Decision: Any = Decision
_kind_of: Callable[[object], Any] = _Decision.kind.__get__
_after_of: Callable[[object], Any] = _Decision.after.__get__
_reason_of: Callable[[object], Any] = _Decision.reason.__get__


def understood(answer: object) -> Decision | None:
    """*answer* of a failure hook as a Decision that is sound; None when it is none, whatever its class says."""
    try:
        if issubclass(type(answer), Decision):
            return Decision(_kind_of(answer), _after_of(answer), _reason_of(answer))
    except Exception:  # a subclass left fields out, or filled them wrongly
        pass
    return None


def drop(reason: str | None = None) -> Decision:
    """End the entry as dropped; *reason* goes into its dead letter.

    >>> drop("no such mailbox")
    drop('no such mailbox')
    """
    return Decision(DecisionKind.DROP, reason=reason)


def retry_now() -> Decision:
    """Run it again at once, behind what is ready already.

    >>> retry_now()
    retry_now()
    """
    return Decision(DecisionKind.RETRY_NOW)


def retry_after(after: float | timedelta) -> Decision:
    """Run it again *after* seconds from the end of the failed run; 0 or less means 1 second.

    >>> retry_after(0)
    retry_after(1.0)
    """
    return Decision(DecisionKind.RETRY_AFTER, after=after)  # type: ignore[arg-type]  # made seconds by the check


def retry_with_backoff() -> Decision:
    """Run it again when the queue's backoff limiter says.

    With `backoff=None` that is `ExponentialBackoff(0.005, 1000)`, as in client-go: 5 ms, then twice as long after each
    failure of this entry, at most 1000 s. The entry's count is forgotten when it ends. `max_attempts` still applies.

    >>> retry_with_backoff()
    retry_with_backoff()
    """
    return Decision(DecisionKind.RETRY_WITH_BACKOFF)
