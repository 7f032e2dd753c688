"""The scope that all contexts of the runs since one start share: one flag cancels them all."""

from __future__ import annotations

from _thread import LockType
from collections.abc import Callable
from typing import Any

from ..context import Context, Scope
from .clock import LONGEST_WAIT
from .parking import new_bell


class ThreadScope(Scope):
    """A scope whose waits block a thread. `first_context`, immutable, serves every first run without a deadline."""

    __slots__ = ("_waiting", "first_context")

    def __init__(self, queue: Any, clock: Callable[[], float]) -> None:
        super().__init__(queue, clock)
        self.first_context = Context(self, 1, None)
        self._waiting: dict[Any, None] = {}  # what wakes each of them, in order

    def wait(self, until: float | None) -> None:
        """Block until the scope is cancelled, or until *until* on its clock."""
        bell = new_bell()
        self._waiting[bell] = None  # before the look: `cancel` sets the flag before it rings
        try:
            self._block(bell, until)
        finally:
            self._waiting.pop(bell, None)

    def _block(self, bell: LockType, until: float | None) -> None:
        while not self.cancelled:
            left = LONGEST_WAIT if until is None else min(LONGEST_WAIT, until - self.clock())
            if left <= 0:
                return
            bell.acquire(True, left)

    def cancel(self) -> None:
        """End all contexts, and wake those that wait on one. Without a lock: `__del__` may call it inside `wait`."""
        self.cancelled = True
        for bell in list(self._waiting):
            if self._waiting.pop(bell, bell) is None:  # nobody else has rung it
                bell.release()
