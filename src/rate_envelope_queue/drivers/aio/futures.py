"""The future of a submitted envelope, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any, Protocol

from ...core.settle import is_a
from ...errors import Cancelled, StopEnvelope
from ...results import Outcome
from .bells import call_on


class Owner(Protocol):
    """What a future asks of its queue."""

    def _detach(self, key: Hashable, future: EnvelopeFuture) -> bool: ...


class EnvelopeFuture(asyncio.Future[Any]):
    """Resolves with the final outcome of a one-off. It belongs to the loop on which `submit` was called.

    Cancelled while the entry waits, it leaves the entry, which is withdrawn when nobody else asked for it. A run that
    goes on is not interrupted: the future is cancelled all the same, and the result is nobody's.
    """

    def __init__(self, owner: Owner, key: Hashable, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._owner: Owner | None = owner
        self._key: Hashable = key

    def cancel(self, msg: Any | None = None) -> bool:
        """Leave the entry. False when it is over."""
        owner, self._owner = self._owner, None
        if owner is not None and not self.done():
            owner._detach(self._key, self)
        self._key = None
        return super().cancel(msg)

    def _resolve(self, outcome: Outcome, error: BaseException | None, value: Any) -> None:
        """Set the result; called once, by the queue, in any thread."""
        call_on(self.get_loop(), self._settle, outcome, error, value)

    def _settle(self, outcome: Outcome, error: BaseException | None, value: Any) -> None:
        self._owner = self._key = None
        if self.done():
            return
        if outcome is Outcome.SUCCEEDED:
            self.set_result(value)
        elif outcome is Outcome.STOPPED or outcome is Outcome.DROPPED:
            self.set_exception(_storable(error))
        else:
            self.set_exception(Cancelled(f"the envelope was {outcome.value} before it had succeeded"))


def _storable(error: BaseException | None) -> BaseException:
    """*error* as a future may hold it: StopIteration would end whoever awaits it."""
    if error is None:
        return StopEnvelope()
    if not is_a(error, StopIteration):
        return error
    wrapped = RuntimeError("the handler raised StopIteration")
    wrapped.__cause__ = error
    return wrapped
