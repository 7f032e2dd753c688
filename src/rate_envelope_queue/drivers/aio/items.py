"""`AsyncWorkQueue`: the work queue of client-go for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from datetime import timedelta
from typing import Any, TypeVar

from ...durations import timeout as checked_timeout
from ..items import ItemQueue, Row, ShutDown
from ..parking import Parking
from .bells import Bell

T = TypeVar("T", bound=Hashable)


class _Parking(Parking):
    __slots__ = ()

    def new_bell(self) -> Any:
        return Bell(asyncio.get_running_loop())


class AsyncWorkQueue(ItemQueue[T]):
    """A queue of items (any hashables) that consumers take, work on, and give back with `done`, on event loops.

    The same names as `WorkQueue`; `get` and `shut_down_with_drain` are awaited, and iteration is `async for`. All else
    are plain calls, from any thread. A consumer that is cancelled while it waits loses no item.

    >>> async def main():
    ...     queue = AsyncWorkQueue[str]()
    ...     queue.add("a")
    ...     print(await queue.get())
    >>> asyncio.run(main())
    a
    """

    def _new_parking(self, machine: Any) -> Parking:
        return _Parking(machine)

    async def get(self, timeout: float | timedelta | None = None) -> T:
        """Take the next item; give it back with `done`.

        Waits until there is one, for at most *timeout* seconds (0: not at all), and then raises TimeoutError. Raises
        `ShutDown` once the queue is shut down and nothing waits.
        """
        limit = checked_timeout(timeout)
        now = self._now
        ends_at = None if limit is None else now() + limit
        row = Row(self._parking.new_bell())
        try:
            while True:
                envelope, left = self._ask(row, ends_at, now)
                if envelope is not None:
                    item: T = envelope.payload
                    return item
                row.was_woken = await row.bell.wait(left)
        except BaseException:
            if row.stands:  # cancelled: a wake that was meant for this consumer goes to another
                self._call(self._leave_row, row)
            raise

    async def shut_down_with_drain(self, timeout: float | timedelta | None = None) -> bool:
        """As `shut_down`, and wait until all that waits has been taken and done. False when *timeout* passed first.

        Consumers must call `done` for every item. A later `shut_down` ends the wait. What is delayed is dropped.
        """
        limit = checked_timeout(timeout)
        now = self._now
        ends_at = None if limit is None else now() + limit
        bell = Bell(asyncio.get_running_loop())
        self._ring(self._call(self._shut_down, bell))
        try:
            while True:
                left = None if ends_at is None else max(0.0, ends_at - now())
                if await bell.wait(left) or left == 0.0:
                    break
        finally:
            is_over = self._call(self._leave_drain, bell)
        return is_over

    async def __aiter__(self) -> AsyncIterator[T]:
        """Items until the shutdown; the consumer calls `done` for each."""
        while True:
            try:
                item = await self.get()
            except ShutDown:
                return
            yield item
