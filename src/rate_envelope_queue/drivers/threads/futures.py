"""The future of a submitted envelope, for threads."""

from __future__ import annotations

from collections.abc import Hashable
from concurrent.futures import Future
from typing import Any, Protocol

from ...errors import Cancelled, StopEnvelope
from ...results import Outcome


class Owner(Protocol):
    """What a future asks of its queue."""

    def _detach(self, key: Hashable, future: EnvelopeFuture) -> bool: ...

    def _is_running(self, key: Hashable) -> bool: ...

    def _advance_until_done(self, future: EnvelopeFuture, timeout: float | None) -> float | None: ...


class EnvelopeFuture(Future[Any]):
    """Resolves with the final outcome of a one-off; holds nothing of the envelope once it has.

    It can be cancelled whenever the entry waits, also between two attempts: it then leaves the entry, which is
    withdrawn when nobody else asked for it.
    """

    def __init__(self, owner: Owner, key: Hashable) -> None:
        super().__init__()
        self._owner: Owner | None = owner
        self._key: Hashable = key

    def cancel(self) -> bool:
        """Leave the entry. False when it runs now, or is over."""
        owner = self._owner
        if owner is None or self.done():
            return self.cancelled()
        if not owner._detach(self._key, self):
            return self.cancelled()
        try:
            super().cancel()
        finally:  # a callback may raise what ends a program: those who wait are told all the same
            self.set_running_or_notify_cancel()
            self._let_go()
        return True

    def running(self) -> bool:
        """Whether the entry runs at this moment."""
        owner = self._owner
        return owner is not None and not self.done() and owner._is_running(self._key)

    def result(self, timeout: float | None = None) -> Any:
        """What invoke returned; raises what ended it: the last error, StopEnvelope, or Cancelled when returned."""
        return super().result(self._wait(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise, or None."""
        return super().exception(self._wait(timeout))

    def _wait(self, timeout: float | None) -> float | None:
        """Virtual time passes here, for queues that live in it. How long to wait in real time after that."""
        owner = self._owner
        return timeout if owner is None else owner._advance_until_done(self, timeout)

    def _let_go(self) -> None:
        self._owner = None
        self._key = None

    def _resolve(self, outcome: Outcome, error: BaseException | None, value: Any) -> None:
        """Set the result; called once, by the queue, without a lock."""
        self._let_go()
        if outcome is Outcome.SUCCEEDED:
            self.set_result(value)
        elif outcome is Outcome.STOPPED or outcome is Outcome.DROPPED:
            self.set_exception(error if error is not None else StopEnvelope())
        else:
            self.set_exception(Cancelled(f"the envelope was {outcome.value} before it had succeeded"))
