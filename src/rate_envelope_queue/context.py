"""The context: what a handler or hook is told about the run it is in.

A context is cheap and cooperative: nothing is armed for it. Whether its time is up is read off the clock when asked;
whether the queue cancelled it, off the scope that all runs since one start share.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .durations import timeout
from .errors import Cancelled, DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from .drivers.aio.queue import AsyncEnvelopeQueue
    from .drivers.threads.queue import EnvelopeQueue


class Scope:
    """What all contexts of the runs since one start share. The drivers say how to wait."""

    __slots__ = ("cancelled", "clock", "queue", "stopping")

    def __init__(self, queue: Any, clock: Callable[[], float]) -> None:
        self.queue = queue
        self.clock = clock
        self.cancelled = False
        self.stopping = False

    def wait(self, until: float | None) -> None:
        """Block until the scope is cancelled or until *until* (monotonic; None: no time), whichever is first."""
        raise NotImplementedError

    async def pause(self, until: float | None, deadline: float | None) -> None:
        """As `wait`, on an event loop; at *deadline* the run's own task is cancelled, and others come back."""
        raise NotImplementedError


class RunContext:
    """What every context tells about its run. Reading it is safe from any thread and from any task."""

    __slots__ = ("_attempt", "_deadline", "_scope")

    def __init__(self, scope: Scope, attempt: int, deadline: float | None) -> None:
        self._scope = scope
        self._attempt = attempt
        self._deadline = deadline

    @property
    def attempt(self) -> int:
        """1 on the first run; for a periodic, 1 + the consecutive failures before this run."""
        return self._attempt

    @property
    def deadline(self) -> float | None:
        """The instant, on the queue's monotonic clock, at which this context ends; None without one."""
        return self._deadline

    @property
    def queue(self) -> EnvelopeQueue | AsyncEnvelopeQueue:
        """The queue that runs it."""
        return self._scope.queue  # type: ignore[no-any-return]

    @property
    def stopping(self) -> bool:
        """True from the moment a stop begins: finish soon, or save where you are. `wait` does not wake for it."""
        return self._scope.stopping

    @property
    def cancelled(self) -> bool:
        """True once the queue has given up on this run: terminated, or past the timeout of a stop."""
        return self._scope.cancelled

    @property
    def done(self) -> bool:
        """Whether the context has ended: cancelled, or past its deadline."""
        scope = self._scope
        return scope.cancelled or (self._deadline is not None and scope.clock() >= self._deadline)

    def remaining(self) -> float | None:
        """Seconds until the deadline, 0.0 when it has passed, None without one."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - self._scope.clock())

    def check(self) -> None:
        """Raise `Cancelled` or `DeadlineExceeded` when the context has ended, else do nothing."""
        if self._scope.cancelled:
            raise Cancelled("the queue gave up on this run: it is stopping")
        if self.done:
            raise DeadlineExceeded("the deadline has passed")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} attempt={self._attempt} remaining={self.remaining()}>"


class Context(RunContext):
    """Handed to plain handlers and hooks as their first argument. Reading it is safe from any thread.

    >>> def handler(ctx, envelope):
    ...     while not ctx.wait(0.5):     # True once the deadline has passed or the queue gives up on this run
    ...         ...                      # poll something
    ...     ctx.check()                  # raises DeadlineExceeded or Cancelled
    """

    __slots__ = ()

    def wait(self, seconds: float | timedelta | None = None) -> bool:
        """Sleep *seconds* (None: until the context ends). True when the context ended first.

        Blocks the calling thread; wakes at once when the queue gives up on the run (terminated, or past the timeout of
        a stop), but not when a stop begins: wait in short steps and look at `stopping`.
        """
        span = timeout(seconds, "seconds")
        scope = self._scope
        ends_at = self._deadline
        if span is not None:
            wakes_at = scope.clock() + span
            if ends_at is None or wakes_at < ends_at:
                scope.wait(wakes_at)
                return scope.cancelled
        scope.wait(ends_at)
        return True


class AsyncContext(RunContext):
    """Handed to coroutine handlers and hooks as their first argument.

    At the deadline, and when the queue gives up on the run, what the coroutine awaits is cancelled, `wait` included: a
    handler need not ask. Tasks that it made are not; they can ask, or wait on the context themselves.

    >>> async def handler(ctx, envelope):
    ...     while not await ctx.wait(0.5):
    ...         ...                      # poll something
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def queue(self) -> AsyncEnvelopeQueue:
            """The queue that runs it."""
            ...

    async def wait(self, seconds: float | timedelta | None = None) -> bool:
        """Sleep *seconds* (None: until the context ends). True when the context has ended.

        Lets the event loop go on. In the coroutine of the run itself the end of the context comes as a cancellation. It
        does not wake when a stop begins: wait in short steps and look at `stopping`.
        """
        span = timeout(seconds, "seconds")
        scope = self._scope
        await scope.pause(None if span is None else scope.clock() + span, self._deadline)
        return self.done
