"""What a failure hook may answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from .durations import seconds
from .text import bounded_repr


class DecisionKind(Enum):
    """The four things that can follow a failed run."""

    DROP = "drop"
    RETRY_NOW = "retry_now"
    RETRY_AFTER = "retry_after"
    RETRY_WITH_BACKOFF = "retry_with_backoff"


@dataclass(frozen=True, slots=True, repr=False)
class Decision:
    """An immutable answer of a failure hook; make one with the four functions of this module.

    `after` is seconds, for RETRY_AFTER only; `reason` is the text given to `drop`.
    """

    kind: DecisionKind
    after: float | None = None
    reason: str | None = None

    def __repr__(self) -> str:
        given = self.reason if self.kind is DecisionKind.DROP else self.after
        return f"{self.kind.value}({'' if given is None else bounded_repr(given)})"


def drop(reason: str | None = None) -> Decision:
    """End the entry as dropped; *reason* goes into its dead letter.

    >>> drop("no such mailbox")
    drop('no such mailbox')
    """
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"reason must be a str or None, not {bounded_repr(reason)}")
    return Decision(DecisionKind.DROP, reason=reason)


def retry_now() -> Decision:
    """Run it again at once, behind what waits already."""
    return Decision(DecisionKind.RETRY_NOW)


def retry_after(after: float | timedelta) -> Decision:
    """Run it again *after* seconds from the end of the failed run; 0 or less means 1 second.

    >>> retry_after(0)
    retry_after(1.0)
    """
    wanted = seconds(after, "after")
    return Decision(DecisionKind.RETRY_AFTER, after=wanted if wanted > 0 else 1.0)


def retry_with_backoff() -> Decision:
    """Run it again when the queue's backoff limiter says."""
    return Decision(DecisionKind.RETRY_WITH_BACKOFF)
