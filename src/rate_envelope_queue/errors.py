"""Every error the package raises, and the two exceptions a handler raises on purpose.

One root, `EnvelopeQueueError`; each class says what to do about it, and carries its facts as attributes. `StopEnvelope`
and `RetryEnvelope` are control flow, not errors, and stand outside that tree.
"""

from __future__ import annotations

from datetime import timedelta

from .durations import nonnegative


class EnvelopeQueueError(Exception):
    """The root of everything that this package reports as wrong."""


class InvalidEnvelopeError(EnvelopeQueueError, ValueError):
    """An envelope, or an argument that goes with one, is wrong; the message names it. Mend the call."""


class InvalidIntervalError(InvalidEnvelopeError):
    """The deadline is longer than the interval, so that one run could outlive its period. Shorten the deadline."""


class QueueStateError(EnvelopeQueueError):
    """The queue cannot do this in its present state, or from where it was asked."""


class QueueNotRunningError(QueueStateError):
    """The queue is stopping or stopped and takes nothing in. Start it, or send elsewhere."""


class QueueTerminatedError(QueueStateError):
    """The queue was terminated and will never run again. Make a new one."""


class CapacityExceededError(EnvelopeQueueError):
    """The envelopes do not fit; nothing of the batch was taken. Send later, or wait with `send_wait`.

    `capacity` and `occupancy` are those of the queue at that moment; `needed` is the number of distinct new entries.
    """

    def __init__(self, capacity: int, occupancy: int, needed: int) -> None:
        self.capacity = capacity
        self.occupancy = occupancy
        self.needed = needed
        super().__init__(f"{needed} more would not fit: {occupancy} of {capacity} places are taken")

    def __reduce__(self) -> tuple[object, ...]:
        return (CapacityExceededError, (self.capacity, self.occupancy, self.needed))


class DeadlineExceeded(EnvelopeQueueError, TimeoutError):  # noqa: N818  named as the standard library names TimeoutError
    """A run, or one of its hooks, went on past its time."""


class Cancelled(EnvelopeQueueError):  # noqa: N818  a state of affairs, as in asyncio.CancelledError
    """The queue ended this run or this entry, because it was stopped, terminated or cleared."""


class StopEnvelope(Exception):  # noqa: N818  control flow, as StopIteration
    """Raise it in a handler or hook to end the entry as stopped: no success hook, no retry, no further period."""


class RetryEnvelope(Exception):  # noqa: N818  control flow
    """Raise it in a handler to be run again: after *after* seconds, or when it is None as the backoff limiter says.

    No failure hook is called, and `max_attempts` applies. A periodic simply waits for its next time.
    """

    def __init__(self, after: float | timedelta | None = None) -> None:
        span = None if after is None else nonnegative(after, "after")
        super().__init__("retry" if span is None else f"retry after {span} s")
        self.after = span

    def __reduce__(self) -> tuple[object, ...]:
        return (RetryEnvelope, (self.after,))
