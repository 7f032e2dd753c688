"""What happens to queues when the process forks, exits, or is asked by a signal to end."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from ..errors import QueueStateError
from ..results import QueueState
from . import watchdog
from .clock import real_now

if TYPE_CHECKING:
    from .threads.queue import EnvelopeQueue

EXIT_TIMEOUT = 5.0  # seconds for all queues that are still running when the interpreter exits

LOOK_AGAIN = 0.25  # seconds; a signal that comes just before a wait begins is noted only when the wait ends


class Registered(Protocol):
    """What a fork and the exit concern."""

    def _forked(self) -> None: ...

    def _exit(self, timeout: float) -> None: ...


_queues: WeakSet[Registered] = WeakSet()
_lock = threading.RLock()  # a signal handler may make a queue while one is being made


def register(queue: Registered) -> None:
    """Look after *queue* at fork and at exit."""
    with _lock:
        _queues.add(queue)


def _all() -> list[Registered]:
    with _lock:
        return list(_queues)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    watchdog.renew()
    for queue in list(_queues):
        queue._forked()


def _at_exit() -> None:
    """Drain what still runs, for a few seconds in all; daemon threads alone would cut jobs in the middle."""
    ends_at = real_now() + EXIT_TIMEOUT
    for queue in _all():
        queue._exit(max(0.0, ends_at - real_now()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
try:
    threading._register_atexit(_at_exit)  # type: ignore[attr-defined]  # private: before threads can no longer be used
except AttributeError:
    atexit.register(_at_exit)


class ForkedLock:
    """Stands in for the lock of a queue that was in use when the process forked: every use says so."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Refuse."""
        raise QueueStateError(
            "this queue was in use when the process forked, and its threads did not come along: "
            "make and start the queue in the child"
        )

    def release(self) -> None:
        """Refuse."""
        self.acquire()

    def _is_owned(self) -> bool:
        return False


def serve(queue: EnvelopeQueue, inbox: SimpleQueue[Any], timeout: float | None, grace: float) -> None:
    """Until *queue* has stopped: the first signal in *inbox* stops it, a second cancels what still runs."""
    signals = 0
    while queue.state not in (QueueState.STOPPED, QueueState.TERMINATED):
        try:
            note = inbox.get(timeout=LOOK_AGAIN)
        except Empty:
            continue
        if note is not None:
            signals += 1
            queue.stop(wait=False, timeout=0.0 if signals > 1 else timeout, grace=grace)


@contextmanager
def signals_to(inbox: Any) -> Iterator[None]:
    """While inside, put SIGINT and SIGTERM into *inbox*; QueueStateError outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        raise QueueStateError(
            "run() takes over SIGINT and SIGTERM, which needs the main thread: use start() and stop()"
        )

    def note(number: int, frame: object) -> None:
        inbox.put(number)  # SimpleQueue.put may be called from a signal handler

    previous: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, note)
        yield
    finally:
        for signal_number, handler in previous.items():
            signal.signal(signal_number, handler if handler is not None else signal.SIG_DFL)
