"""What a failure hook may answer."""

from __future__ import annotations

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


class Decision:
    """An immutable answer of a failure hook; make one with the four functions of this module.

    `kind` is a `DecisionKind`; `after` is seconds, for RETRY_AFTER only; `reason` is the text given to `drop`.
    """

    __slots__ = ("after", "kind", "reason")

    kind: DecisionKind
    after: float | None
    reason: str | None

    def __init__(self, kind: DecisionKind, after: float | None = None, reason: str | None = None) -> None:
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "after", after)
        object.__setattr__(self, "reason", reason)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Decision is immutable; make another one instead of setting {name}")

    def __repr__(self) -> str:
        given = self.reason if self.kind is DecisionKind.DROP else self.after
        return f"{self.kind.value}({'' if given is None else bounded_repr(given)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decision):
            return NotImplemented
        return (self.kind, self.after, self.reason) == (other.kind, other.after, other.reason)

    def __hash__(self) -> int:
        return hash((self.kind, self.after, self.reason))

    def __reduce__(self) -> tuple[object, ...]:
        return (Decision, (self.kind, self.after, self.reason))


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
