"""Every error the package raises, and the two exceptions a handler raises on purpose.

One root, `EnvelopeQueueError`; each class says what to do about it, and carries its facts as attributes. `StopEnvelope`
and `RetryEnvelope` are control flow, not errors, and stand outside that tree.
"""

from __future__ import annotations

from datetime import timedelta

from .durations import nonnegative


class EnvelopeQueueError(Exception):
    """The root of everything that this package reports as wrong.

    >>> from rate_envelope_queue import Envelope
    >>> try:
    ...     Envelope("no function")
    ... except EnvelopeQueueError as error:
    ...     print(type(error).__name__)
    InvalidEnvelopeError
    """


class InvalidEnvelopeError(EnvelopeQueueError, ValueError):
    """An envelope, or an argument that goes with one, is wrong; the message names it. Mend the call.

    >>> from rate_envelope_queue import Envelope
    >>> Envelope(print, deadline=0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    rate_envelope_queue.errors.InvalidEnvelopeError: deadline must be more than 0 seconds, not 0: ...
    """


class InvalidIntervalError(InvalidEnvelopeError):
    """The deadline is longer than the interval, so that one run could outlive its period. Shorten the deadline.

    Equal is allowed.

    >>> from rate_envelope_queue import Envelope
    >>> Envelope.every(5, print, deadline=6)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    rate_envelope_queue.errors.InvalidIntervalError: deadline=6 is longer than the interval of 5 s: ...
    """


class QueueStateError(EnvelopeQueueError):
    """The queue cannot do this in its present state, or from where it was asked.

    From where: inside a handler that would wait for itself, by a signal handler that interrupted the queue, in the
    child of a fork, on another event loop.

    >>> from rate_envelope_queue import Envelope, EnvelopeQueue
    >>> queue = EnvelopeQueue("mail")
    >>> queue.send(Envelope(print))
    1
    >>> queue.join()
    Traceback (most recent call last):
        ...
    rate_envelope_queue.errors.QueueStateError: the queue is init with 1 one-offs: start it, or join never returns
    """


class QueueNotRunningError(QueueStateError):
    """The queue is stopping or stopped and takes nothing in. Start it, or send elsewhere.

    >>> from rate_envelope_queue import Envelope, EnvelopeQueue
    >>> with EnvelopeQueue("mail") as queue:
    ...     pass
    >>> queue.send(Envelope(print))
    Traceback (most recent call last):
        ...
    rate_envelope_queue.errors.QueueNotRunningError: the queue is stopped: start it before sending
    """


class QueueTerminatedError(QueueStateError):
    """The queue was terminated and will never run again. Make a new one.

    >>> from rate_envelope_queue import EnvelopeQueue
    >>> queue = EnvelopeQueue("mail")
    >>> report = queue.terminate()
    >>> queue.start()
    Traceback (most recent call last):
        ...
    rate_envelope_queue.errors.QueueTerminatedError: the queue was terminated: make a new one
    """


class CapacityExceededError(EnvelopeQueueError):
    """The envelopes do not fit; nothing of the batch was taken. Send later, or wait with `send_wait`.

    `capacity` and `occupancy` are those of the queue at that moment; `needed` is the number of distinct new entries.

    >>> from rate_envelope_queue import Envelope, EnvelopeQueue
    >>> queue = EnvelopeQueue("mail", capacity=1)
    >>> try:
    ...     queue.send(Envelope(print), Envelope(print))
    ... except CapacityExceededError as error:
    ...     error.capacity, error.occupancy, error.needed
    (1, 0, 2)
    """

    def __init__(self, capacity: int, occupancy: int, needed: int) -> None:
        self.capacity = capacity
        self.occupancy = occupancy
        self.needed = needed
        super().__init__(f"{needed} more would not fit: {occupancy} of {capacity} places are taken")

    def __reduce__(self) -> tuple[object, ...]:
        return (CapacityExceededError, (self.capacity, self.occupancy, self.needed))


class DeadlineExceeded(EnvelopeQueueError, TimeoutError):  # noqa: N818  named as the standard library names TimeoutError
    """A run, or one of its hooks, went on past its time.

    Raised by `ctx.check()`; what a failure hook is given when a coroutine was cancelled at its deadline, or a before
    hook took too long. The handler's own `TimeoutError` is never turned into it.

    >>> issubclass(DeadlineExceeded, TimeoutError)
    True
    """


class Cancelled(EnvelopeQueueError):  # noqa: N818  a state of affairs, as in asyncio.CancelledError
    """The queue ended this run or this entry, because it was stopped, terminated, cancelled or cleared.

    Raised by `ctx.check()` once the queue has given up on the run, and by the future of an entry that was returned or
    abandoned.

    >>> from rate_envelope_queue import Envelope, EnvelopeQueue
    >>> queue = EnvelopeQueue("mail")
    >>> future = queue.submit(Envelope(print))
    >>> queue.clear()
    [<Envelope 'print'>]
    >>> future.result()
    Traceback (most recent call last):
        ...
    rate_envelope_queue.errors.Cancelled: the envelope was returned before it had succeeded
    """


class StopEnvelope(Exception):  # noqa: N818  control flow, as StopIteration
    """Raise it in a handler, before or after hook to end the entry as stopped: no success hook, no retry, no period.

    The after hook is called (once). From a success or failure hook it is reported and ignored.

    >>> from rate_envelope_queue import Envelope
    >>> from rate_envelope_queue.testing import SimulatedEnvelopeQueue
    >>> def poll(ctx, envelope):
    ...     raise StopEnvelope("nothing left to look for")
    >>> queue = SimulatedEnvelopeQueue("test")
    >>> queue.start()
    >>> queue.send(Envelope.every(60, poll))
    1
    >>> queue.advance(3600)
    >>> queue.stats().runs_started, queue.stats().stopped
    (1, 1)
    """


class RetryEnvelope(Exception):  # noqa: N818  control flow
    """Raise it in a handler to be run again: after *after* seconds, or when it is None as the backoff limiter says.

    0 means at once. No other hook is called, the run counts as failed, and `max_attempts` applies. A periodic simply
    waits for its next time. From a before hook it means the same; from any other it is reported and ignored.

    >>> from rate_envelope_queue import Envelope
    >>> from rate_envelope_queue.testing import SimulatedEnvelopeQueue
    >>> def poll(ctx, envelope):
    ...     if ctx.attempt == 1:
    ...         raise RetryEnvelope(after=60)
    >>> queue = SimulatedEnvelopeQueue("test")
    >>> queue.start()
    >>> queue.submit(Envelope(poll)).result()
    >>> queue.clock.now()
    60.0
    """

    def __init__(self, after: float | timedelta | None = None) -> None:
        span = None if after is None else nonnegative(after, "after")
        super().__init__("retry" if span is None else f"retry after {span} s")
        self.after = span

    def __reduce__(self) -> tuple[object, ...]:
        return (RetryEnvelope, (self.after,))
