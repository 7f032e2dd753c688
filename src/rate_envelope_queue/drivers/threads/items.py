"""`WorkQueue`: the work queue of client-go for threads."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from datetime import timedelta
from typing import TypeVar

from ...durations import timeout as checked_timeout
from ..clock import LONGEST_WAIT, real_now
from ..items import ItemQueue, Row, ShutDown
from ..parking import new_bell

T = TypeVar("T", bound=Hashable)


class WorkQueue(ItemQueue[T]):
    """A queue of items (any hashables) that consumers take, work on, and give back with `done`.

    *limiter* serves `add_rate_limited` (None: `default_controller_limiter()`); *clock* needs `now()`. Every method may
    be called from any thread; only `get`, iteration and `shut_down_with_drain` block, in real time, whatever the clock.
    A shutdown drops what is delayed, as in client-go.

    >>> queue = WorkQueue[str]()
    >>> queue.add("a"); queue.add("b"); queue.add("a")
    >>> len(queue), queue.get()
    (2, 'a')
    >>> queue.done("a")
    """

    def get(self, timeout: float | timedelta | None = None) -> T:
        """Take the next item; give it back with `done`.

        Blocks until there is one, for at most *timeout* seconds (0: not at all), and then raises TimeoutError. Raises
        `ShutDown` once the queue is shut down and nothing waits.
        """
        limit = checked_timeout(timeout)
        ends_at = None if limit is None else real_now() + limit
        row = Row(self._parking.new_bell())
        try:
            while True:
                envelope, left = self._ask(row, ends_at, real_now)
                if envelope is not None:
                    item: T = envelope.payload
                    return item
                wait = LONGEST_WAIT if left is None else max(0.0, min(LONGEST_WAIT, left))
                row.was_woken = row.bell.acquire(True, wait)
        except BaseException:
            if row.stands:  # interrupted: a wake that was meant for this consumer goes to another
                self._call(self._leave_row, row)
            raise

    def shut_down_with_drain(self, timeout: float | timedelta | None = None) -> bool:
        """As `shut_down`, and block until all that waits has been taken and done. False when *timeout* passed first.

        Consumers must call `done` for every item. A later `shut_down` ends the wait. What is delayed is dropped.
        """
        limit = checked_timeout(timeout)
        ends_at = None if limit is None else real_now() + limit
        bell = new_bell()
        self._ring(self._call(self._shut_down, bell))
        try:
            while True:
                left = LONGEST_WAIT if ends_at is None else max(0.0, ends_at - real_now())
                if bell.acquire(True, min(LONGEST_WAIT, left)) or left == 0.0:
                    break
        finally:
            is_over = self._call(self._leave_drain, bell)
        return is_over

    def __iter__(self) -> Iterator[T]:
        """Items until the shutdown; the consumer calls `done` for each."""
        while True:
            try:
                item = self.get()
            except ShutDown:
                return
            yield item
