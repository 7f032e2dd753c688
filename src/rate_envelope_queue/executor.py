"""A `concurrent.futures.Executor` over an envelope queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .context import Context
from .drivers import process
from .drivers.threads.futures import EnvelopeFuture
from .durations import timeout as checked_timeout
from .envelope import Envelope, Policy
from .text import bounded_repr

if TYPE_CHECKING:
    from .drivers.threads.queue import EnvelopeQueue

A = ParamSpec("A")
R = TypeVar("R")


def _call(ctx: Context, envelope: Envelope[Any]) -> Any:
    """Call what was submitted; a stamp may do so more than once."""
    function, args, kwargs = envelope.payload
    try:
        return function(*args, **kwargs)
    finally:
        del function, args, kwargs  # a failure's traceback holds this frame


class _Future(EnvelopeFuture):
    """Lets go of the function and its arguments once it has its result: a failure's traceback holds the envelope."""

    def __init__(self, queue: EnvelopeQueue, envelope: Envelope[Any]) -> None:
        super().__init__(queue, envelope)
        self._envelope: Envelope[Any] | None = envelope

    def _let_go(self) -> None:
        super()._let_go()
        envelope, self._envelope = self._envelope, None
        if envelope is not None:
            envelope.payload = None


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
        process.register(self)
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
            envelope = Envelope._of(self._policy, (fn, args, kwargs))
            future = self._queue._submit(envelope, _Future(self._queue, envelope))
            self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def map(
        self, fn: Callable[..., R], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[R]:
        """The results in the order of the arguments, all submitted at once; TimeoutError *timeout* seconds from now.

        What waits is cancelled when one of them fails, when the iterator is closed once it has begun, and when one
        cannot be submitted. *chunksize* has no effect.
        """
        limit = checked_timeout(timeout)
        now = self._queue.clock.now
        ends_at = None if limit is None else now() + limit
        futures: list[Future[R]] = []
        try:
            futures.extend(self.submit(fn, *arguments) for arguments in zip(*iterables, strict=False))
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        futures.reverse()

        def results() -> Iterator[R]:
            try:
                while futures:  # each is let go of before its result is handed out
                    yield _result_of(futures.pop(), None if ends_at is None else ends_at - now())
            finally:
                for future in futures:
                    future.cancel()

        return results()

    def _forked(self) -> None:
        """In the child of a fork: a thread of the parent may have been inside."""
        self._lock = threading.RLock()

    def _exit(self, timeout: float) -> None:
        """The interpreter exits: the queue drains."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; with *cancel_futures* cancel what waits, with *wait* block until the rest is done."""
        self._queue._refuse_if_forked()
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
