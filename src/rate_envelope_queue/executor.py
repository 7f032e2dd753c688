"""A `concurrent.futures.Executor` over an envelope queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .context import Context
from .envelope import Envelope, Policy
from .errors import Cancelled
from .text import bounded_repr

if TYPE_CHECKING:
    from .drivers.threads.queue import EnvelopeQueue

A = ParamSpec("A")
R = TypeVar("R")


def _call(ctx: Context, envelope: Envelope[Any]) -> Any:
    """Call what was submitted, and keep no reference to its arguments."""
    function, args, kwargs = envelope.payload
    envelope.payload = None
    try:
        return function(*args, **kwargs)
    except Cancelled:
        envelope.payload = (function, args, kwargs)  # the queue may keep the entry and run it after its next start
        raise
    finally:
        del function, args, kwargs  # a failure's traceback holds this frame


def _result_of(future: Future[R], timeout: float | None) -> R:
    """The result; the future is cancelled when it does not come. No frame keeps a reference to it."""
    try:
        try:
            return future.result(timeout)
        finally:
            future.cancel()
    finally:
        del future


class QueueExecutor(Executor):
    """Runs functions on a queue's workers, beside its envelopes and under its capacity and start rate.

    What is submitted is an ordinary entry: a full queue raises `CapacityExceededError`, a stopped one
    `QueueNotRunningError`. A failure belongs to its future: no dead letter, no warning. Futures can be cancelled while
    they wait, and hold nothing of their arguments once they are done. `shutdown` affects only this executor's futures.

    >>> from rate_envelope_queue import EnvelopeQueue
    >>> with EnvelopeQueue("sums") as queue, queue.as_executor() as executor:
    ...     list(executor.map(pow, [2, 3], [5, 2]))
    [32, 9]
    """

    def __init__(self, queue: EnvelopeQueue) -> None:
        self._queue = queue
        self._lock = threading.RLock()  # a signal handler may come while its thread is inside
        self._is_shut_down = False
        self._pending: set[Future[Any]] = set()
        self._policy: Policy = Envelope(_call, type="executor", max_attempts=1)._policy
        self._policy = Policy(self._policy.options)  # one of its own: it is quiet
        self._policy.is_quiet = True

    def submit(self, fn: Callable[A, R], /, *args: A.args, **kwargs: A.kwargs) -> Future[R]:
        """The future of `fn(*args, **kwargs)`. RuntimeError after `shutdown`."""
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {bounded_repr(fn)}")
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot submit after shutdown: make another executor of the queue")
            future = self._queue.submit(Envelope._of(self._policy, (fn, args, kwargs)))
            self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def map(
        self, fn: Callable[..., R], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[R]:
        """The results in the order of the arguments, all submitted at once; TimeoutError *timeout* seconds from now.

        What waits is cancelled when the iterator is closed or one of them fails. *chunksize* has no effect.
        """
        now = self._queue.clock.now
        ends_at = None if timeout is None else now() + timeout
        futures = [self.submit(fn, *arguments) for arguments in zip(*iterables, strict=False)]
        futures.reverse()

        def results() -> Iterator[R]:
            try:
                while futures:  # each is let go of before its result is handed out
                    yield _result_of(futures.pop(), None if ends_at is None else ends_at - now())
            finally:
                for future in futures:
                    future.cancel()

        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; with *cancel_futures* cancel what waits, with *wait* block until the rest is done."""
        with self._lock:
            self._is_shut_down = True
            pending = list(self._pending)
        if cancel_futures:
            for future in pending:
                future.cancel()
        if wait:
            for future in pending:
                self._queue._advance_until_done(future, None)  # type: ignore[arg-type]
            wait_for(pending)
