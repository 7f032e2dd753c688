"""The work queue of Kubernetes client-go, for controllers: fair, stingy, and safe for many producers and consumers.

* Fair: items are handed out in the order in which they were added.
* Stingy: an item is not handed to two consumers at once; added again before it is handed out, it is handed out once.
* Added again while a consumer has it, it comes back once that consumer is done.
* Consumers are told when the queue is shut down.

    queue = WorkQueue[str]("deployments")
    for key in queue:                      # in each consumer; ends at shutdown
        try:
            reconcile(key)
            queue.forget(key)
        except Exception:
            queue.add_rate_limited(key)
        finally:
            queue.done(key)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from datetime import timedelta
from typing import Any, Generic, TypeVar

from .core.entries import RUNNING, Entry
from .core.machine import Machine
from .core.settle import SUCCESS
from .drivers.clock import LONGEST_WAIT, Clock, SystemClock
from .durations import seconds
from .durations import timeout as checked_timeout
from .envelope import Envelope, Policy
from .errors import EnvelopeQueueError, QueueStateError
from .limiters import (
    ExponentialBackoff,
    FastSlow,
    MaxOf,
    MaxWait,
    RateLimiter,
    TokenBucket,
    default_controller_limiter,
)
from .results import StopMode
from .text import bounded_repr

__all__ = [
    "ExponentialBackoff",
    "FastSlow",
    "MaxOf",
    "MaxWait",
    "RateLimiter",
    "ShutDown",
    "TokenBucket",
    "WorkQueue",
    "default_controller_limiter",
]

T = TypeVar("T", bound=Hashable)
R = TypeVar("R")

_NOTHING = object()  # the key of the item None


class ShutDown(EnvelopeQueueError):  # noqa: N818  the name is client-go's
    """The work queue was shut down and has nothing left to hand out: end the consumer's loop."""


def _never_called(ctx: Any, envelope: Any) -> None:
    """A work queue hands items out; it runs nothing."""


_POLICY: Policy = Envelope(_never_called)._policy


class WorkQueue(Generic[T]):
    """A queue of items (any hashables) that consumers take, work on, and give back with `done`.

    *limiter* serves `add_rate_limited` (None: `default_controller_limiter()`); *clock* needs `now()`. Every method may
    be called from any thread; only `get`, iteration and `shut_down_with_drain` block.

    >>> queue = WorkQueue[str]()
    >>> queue.add("a"); queue.add("b"); queue.add("a")
    >>> len(queue), queue.get()
    (2, 'a')
    """

    def __init__(self, name: str = "", *, limiter: RateLimiter | None = None, clock: Clock | None = None) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {bounded_repr(name)}")
        if limiter is not None and (isinstance(limiter, type) or not isinstance(limiter, RateLimiter)):
            raise TypeError(f"limiter must have when, forget and num_requeues, not {bounded_repr(limiter)}")
        if clock is not None and not callable(getattr(clock, "now", None)):
            raise TypeError(f"clock must have now(), and {bounded_repr(clock)} has not")
        self.name = name
        self._limiter = default_controller_limiter() if limiter is None else limiter
        self._now: Callable[[], float] = (SystemClock() if clock is None else clock).now
        self._changed = threading.Condition(threading.RLock())
        self._machine = Machine(self._now)
        self._machine.start()
        self._is_shutting_down = False
        self._waits_for_drain = False

    def _call(self, operation: Callable[..., R], *args: Any) -> R:
        """Do *operation* under the lock; what it lets go of dies outside."""
        machine = self._machine
        junk: list[Any] = []
        try:
            with self._changed:
                if machine.is_busy:
                    raise QueueStateError("the work queue was entered again by the thread that is inside it")
                machine.is_busy = True
                try:
                    return operation(*args)
                finally:
                    machine.is_busy = False
                    junk, machine.outbox = machine.outbox, []
        finally:
            junk.clear()

    def add(self, item: T) -> None:
        """Have *item* handed out. Waiting already: nothing. With a consumer: again once it is done.

        Never blocks. After a shutdown it does nothing.
        """
        self._call(self._add, item, None)

    def _add(self, item: T, due: float | None) -> None:
        if self._is_shutting_down:
            return
        key = _NOTHING if item is None else item
        hash(key)
        self._machine.send((Envelope._of(_POLICY, item, None, key),), due)
        self._changed.notify()

    def add_after(self, item: T, delay: float | timedelta) -> None:
        """Have *item* handed out once *delay* seconds have passed; 0 or less is at once.

        If it is delayed already, the earlier time wins; if a consumer has it, it comes back when that one is done and
        the delay has passed. Never blocks. After a shutdown it does nothing.
        """
        span = seconds(delay, "delay")
        self._call(self._add, item, self._now() + span if span > 0 else None)

    def add_rate_limited(self, item: T) -> None:
        """Have *item* handed out once the limiter says so."""
        if not self._is_shutting_down:
            self.add_after(item, self._limiter.when(item, now=self._now()))

    def forget(self, item: T) -> None:
        """The limiter may forget *item*: it succeeded or was given up. Its consumer still calls `done`."""
        self._limiter.forget(item)

    def num_requeues(self, item: T) -> int:
        """How often *item* was added by `add_rate_limited` since it was last forgotten."""
        return self._limiter.num_requeues(item)

    def get(self, timeout: float | timedelta | None = None) -> T:
        """Take the next item; give it back with `done`.

        Blocks until there is one, for at most *timeout* seconds (0: not at all), and then raises TimeoutError. Raises
        `ShutDown` once the queue is shut down and nothing waits.
        """
        limit = checked_timeout(timeout)
        ends_at = None if limit is None else self._now() + limit
        with self._changed:
            while True:
                handle = self._call(self._machine.turn, None, None, None)
                if handle is not None:
                    item: T = handle.envelope.payload
                    if self._machine.takable:
                        self._changed.notify()
                    return item
                if self._is_shutting_down:
                    raise ShutDown("the work queue was shut down")
                left = LONGEST_WAIT if ends_at is None else ends_at - self._now()
                if left <= 0:
                    raise TimeoutError(f"nothing to take within {limit} s")
                at = self._machine.next_at()
                self._changed.wait(left if at is None else min(left, max(0.0, at - self._now())))

    def done(self, item: T) -> None:
        """The consumer has finished with *item*. Added again meanwhile, it waits again now."""
        self._call(self._done, item)

    def _done(self, item: T) -> None:
        entry = self._machine.entries.get(_NOTHING if item is None else item)
        if isinstance(entry, Entry) and entry.phase == RUNNING:
            self._machine.finish(entry, SUCCESS, None)
            self._changed.notify_all() if self._is_shutting_down else self._changed.notify()

    def shut_down(self) -> None:
        """Take in nothing more; consumers get what waits, then `ShutDown`. Returns at once, and ends a drain's wait."""
        self._call(self._shut_down, False)

    def shut_down_with_drain(self, timeout: float | timedelta | None = None) -> bool:
        """As `shut_down`, and block until all that waits has been taken and done. False when *timeout* passed first.

        Consumers must call `done` for every item. A later `shut_down` ends the wait.
        """
        limit = checked_timeout(timeout)
        with self._changed:
            self._call(self._shut_down, True)
            return self._changed.wait_for(self._has_drained, limit)

    def _shut_down(self, drains: bool) -> None:
        self._waits_for_drain = drains
        if not self._is_shutting_down:
            self._is_shutting_down = True
            self._machine.stop(StopMode.DRAIN, None, 0.0, is_ending=False, is_inside=False, waited=False)
        self._changed.notify_all()

    def _has_drained(self) -> bool:
        return not self._waits_for_drain or (self._machine.active == 0 and self._machine.live_ready() == 0)

    @property
    def shutting_down(self) -> bool:
        """Whether `shut_down` was called."""
        return self._is_shutting_down

    def __len__(self) -> int:
        """How many items wait to be taken; those with a consumer and those delayed do not count."""
        return self._call(self._count_waiting)

    def _count_waiting(self) -> int:
        self._machine.promote()
        return self._machine.live_ready()

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[T]:
        """Items until the shutdown; the consumer calls `done` for each."""
        while True:
            try:
                item = self.get()
            except ShutDown:
                return
            yield item

    def __repr__(self) -> str:
        return f"<WorkQueue {bounded_repr(self.name)}, {len(self)} waiting>"
