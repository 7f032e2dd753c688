"""Items and no envelopes: the queue of client-go's workqueue over the same machine, up to the point of waiting.

Consumers stand in the row of `Parking` as workers do: whoever is woken and does not take an item passes the wake on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import Any, Generic, TypeVar

from ..core.entries import RUNNING, Entry
from ..core.machine import Machine
from ..core.settle import SUCCESS
from ..durations import seconds
from ..envelope import Envelope, Policy
from ..errors import EnvelopeQueueError
from ..limiters import RateLimiter, default_controller_limiter
from ..results import StopMode
from ..text import bounded_repr
from . import process
from .clock import Clock, SystemClock
from .plan import PlanBook
from .watched import Measuring

T = TypeVar("T", bound=Hashable)

_NOTHING = object()  # the key of the item None


class ShutDown(EnvelopeQueueError):  # noqa: N818  the name is client-go's
    """The work queue was shut down and has nothing left to hand out: end the consumer's loop.

    >>> from rate_envelope_queue.workqueue import WorkQueue
    >>> queue = WorkQueue[str]()
    >>> queue.shut_down()
    >>> queue.get()
    Traceback (most recent call last):
        ...
    rate_envelope_queue.drivers.items.ShutDown: the work queue was shut down
    """


def _never_called(ctx: Any, envelope: Any) -> None:
    """A work queue hands items out; it runs nothing."""


_POLICY: Policy = Envelope(_never_called)._policy


class _Letters:
    """Delivers nothing: what the machine lets go of dies here, outside the lock."""

    def deliver(self, outbox: list[Any]) -> None:
        outbox.clear()


class Row:
    """One consumer that asks for an item: its bell, whether it stands in the row, and whether it was woken there."""

    __slots__ = ("bell", "stands", "was_woken")

    def __init__(self, bell: Any) -> None:
        self.bell = bell
        self.stands = self.was_woken = False


class ItemQueue(Measuring, Generic[T]):
    """What is the same for threads and asyncio: plain calls that never block, from any thread."""

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
        machine = Machine(self._now)
        super().__init__(machine, _Letters(), PlanBook((), fraction=0.5, floor=1.0))
        machine.start()
        self._is_shutting_down = False
        self._drainers: list[Any] = []  # the bells of those who wait for a drain
        process.register(self)

    # Adding

    def add(self, item: T) -> None:
        """Have *item* handed out. Waiting already: nothing. With a consumer: again once it is done.

        Never blocks. After a shutdown it does nothing. TypeError when *item* is not hashable.
        """
        self._call(self._add, _key(item), item, None, is_retry=False)

    def _add(self, key: Hashable, item: T, due: float | None, *, is_retry: bool) -> None:
        if not self._is_shutting_down:
            self._machine.retried += is_retry
            self._machine.send((Envelope._of(_POLICY, item, None, key),), due)

    def add_after(self, item: T, delay: float | timedelta) -> None:
        """Have *item* handed out once *delay* seconds have passed; 0 or less is at once.

        If it is delayed already, the earlier time wins, and if it waits already, nothing changes; if a consumer has it,
        it comes back when that one is done and the delay has passed. Never blocks. After a shutdown it does nothing,
        and what is still delayed then is dropped.
        """
        span = seconds(delay, "delay")
        self._call(self._add, _key(item), item, self._now() + span if span > 0 else None, is_retry=True)

    def add_rate_limited(self, item: T) -> None:
        """Have *item* handed out once the limiter says so.

        As `add_after` with what it says. Each call counts as one more failure of *item*, until `forget`. After a
        shutdown it does nothing.
        """
        key = _key(item)
        if self._is_shutting_down:
            return
        try:
            span = seconds(self._limiter.when(item, now=self._now()), "the wait")
        except (TypeError, ValueError) as error:
            raise type(error)(f"the limiter {bounded_repr(self._limiter)} gave no wait: {error}") from error
        self._call(self._add, key, item, self._now() + span if span > 0 else None, is_retry=True)

    def forget(self, item: T) -> None:
        """The limiter may forget *item*: it succeeded or was given up. Its consumer still calls `done`."""
        self._limiter.forget(item)

    def num_requeues(self, item: T) -> int:
        """How often *item* was added by `add_rate_limited` since it was last forgotten."""
        return self._limiter.num_requeues(item)

    # Taking

    def _ask(self, row: Row, ends_at: float | None, now: Callable[[], float]) -> tuple[Any, float | None]:
        """The next item's envelope, or None and for how many seconds to wait in the row; None: until woken.

        TimeoutError at *ends_at* by *now*, `ShutDown` when nothing will come.
        """
        left = None if ends_at is None else ends_at - now()
        envelope, until = self._call(self._take, row, may_wait=left is None or left > 0)
        if envelope is None and left is not None and left <= 0:
            raise TimeoutError("nothing to take within the timeout")
        if until is not None:
            wait = until - self._now()
            left = wait if left is None else min(left, wait)
        return envelope, left

    def _take(self, row: Row, *, may_wait: bool) -> tuple[Any, float | None]:
        """The next item's envelope, or None; the caller stands in the row then, until an instant or until woken."""
        self._leave_row(row)
        handle = self._machine.turn(None, None, None)
        if handle is not None:
            return handle.envelope, None
        if self._is_shutting_down:
            raise ShutDown("the work queue was shut down")
        if not may_wait:
            return None, None
        row.stands = True
        return None, self._parking.park(row.bell)

    def _leave_row(self, row: Row) -> None:
        if row.stands:
            row.bell = self._parking.unpark(row.bell, was_woken=row.was_woken)
        row.stands = row.was_woken = False

    def done(self, item: T) -> None:
        """The consumer has finished with *item*, well or badly. Added again meanwhile, it waits again now.

        Nothing happens when no consumer has it. TypeError when *item* is not hashable.
        """
        self._ring(self._call(self._done, _key(item)))

    def _done(self, key: Hashable) -> list[Any]:
        entry = self._machine.entries.get(key)
        if isinstance(entry, Entry) and entry.phase == RUNNING:
            self._machine.finish(entry, SUCCESS, None)
        return self._drained()

    # Ending

    def shut_down(self) -> None:
        """Take in nothing more; consumers get what waits, then `ShutDown`. Returns at once, and ends a drain's wait.

        What is delayed or rate limited and not yet due is dropped.
        """
        self._ring(self._call(self._shut_down, None))

    def _shut_down(self, drainer: Any) -> list[Any]:
        bells = self._parking.leave_all()
        if not self._is_shutting_down:
            self._is_shutting_down = True
            self._machine.stop(StopMode.DRAIN, None, 0.0, is_ending=False, is_inside=False, waited=False)
        if drainer is None:
            bells += self._drainers
            self._drainers = []
        else:
            self._drainers.append(drainer)
        return bells + self._drained()

    def _drained(self) -> list[Any]:
        """The bells of those who wait for a drain, once it is over."""
        if not self._drainers or not self._has_drained():
            return []
        bells, self._drainers = self._drainers, []
        return bells

    def _has_drained(self) -> bool:
        machine = self._machine
        machine.promote()
        return machine.active == 0 and machine.live_ready() == 0

    def _leave_drain(self, bell: Any) -> bool:
        """The caller waits no longer: whether the drain was over, or the wait was ended."""
        if bell not in self._drainers:
            return True
        self._drainers.remove(bell)
        return False

    @property
    def shutting_down(self) -> bool:
        """Whether `shut_down` was called."""
        return self._is_shutting_down

    # Looking

    def __len__(self) -> int:
        """How many items wait to be taken; those with a consumer and those delayed do not count."""
        return self._call(self._count_waiting)

    def _count_waiting(self) -> int:
        self._machine.promote()
        return self._machine.live_ready()

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {bounded_repr(self.name)}, {self._machine.live_ready()} waiting>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a work queue cannot be pickled or copied: make another, and add the items there")

    # Fork

    def _limiters(self) -> tuple[object, ...]:
        return (self._limiter,)

    def _is_unused(self) -> bool:
        return not self._machine.entries and not self._parking.idle

    def _exit(self, timeout: float) -> None:
        """The interpreter exits: nothing runs here by itself."""


def _key(item: Hashable) -> Hashable:
    try:
        hash(item)
    except TypeError:
        raise TypeError(f"an item must be hashable, not {bounded_repr(item)}") from None
    return _NOTHING if item is None else item
