"""Queues of both flavours, driven from the main thread in one way.

An event loop has a thread of its own: a handler that blocks it cannot keep a signal from being heard, nor the process
from ending in time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import wait
from contextlib import suppress
from signal import Signals
from typing import Any, Protocol, TypeVar

from .. import AsyncEnvelopeQueue, EnvelopeQueue, QueueState, StopReport
from ..text import bounded_repr, error_text
from .options import UsageFault
from .signals import LOOK_AGAIN

GRACE = 1.0  # seconds from the cancelling of a run until it is given up on
SLACK = 2.0  # seconds that a stop may take beyond that before it is no longer waited for
START_PATIENCE = 10.0  # seconds for a start on a loop that handlers of another queue may block

T = TypeVar("T")
AnyQueue = EnvelopeQueue | AsyncEnvelopeQueue


class Loop:
    """An event loop that runs in a daemon thread from its first use on."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def begin(self, work: Coroutine[Any, Any, T]) -> Any:
        """Start *work* on the loop; a `concurrent.futures.Future` of it."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="event loop", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Cancel what is left, wait a moment, and end. A loop that is blocked is left behind."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        with suppress(Exception):
            self.begin(_cancel_all()).result(SLACK)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SLACK)
        if not thread.is_alive():
            loop.close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=GRACE)
    await asyncio.get_running_loop().shutdown_asyncgens()


class Host(Protocol):
    """A queue, as the command line drives it."""

    @property
    def queue(self) -> AnyQueue:
        """The queue itself."""
        ...

    def start(self) -> None:
        """Start it, and return once it runs; raises as `start` of the queue."""
        ...

    def begin_stop(self, timeout: float | None) -> None:
        """Begin or harden a stop in the queue's own mode. Never blocks."""
        ...

    def report(self) -> StopReport | None:
        """The report of the stop that has ended; None when it cannot be had."""
        ...


def has_stopped(host: Host) -> bool:
    """Whether nothing of it runs any more."""
    return host.queue.state in (QueueState.STOPPED, QueueState.TERMINATED)


class ThreadHost:
    """A queue on threads."""

    def __init__(self, queue: EnvelopeQueue) -> None:
        self.queue = queue

    def start(self) -> None:
        """Start it."""
        self.queue.start()

    def begin_stop(self, timeout: float | None) -> None:
        """Begin to stop."""
        self.queue.stop(wait=False, timeout=timeout, grace=GRACE)

    def report(self) -> StopReport | None:
        """What became of everything."""
        return self.queue.stop(timeout=SLACK, grace=0.0) if has_stopped(self) else self.queue.last_report


class LoopHost:
    """A queue on an event loop."""

    def __init__(self, queue: AsyncEnvelopeQueue, loop: Loop) -> None:
        self.queue, self._loop = queue, loop

    def start(self) -> None:
        """Start it."""
        future = self._loop.begin(self.queue.start())
        for _ in range(round(START_PATIENCE / LOOK_AGAIN)):
            wait((future,), LOOK_AGAIN)
            if future.done() or self.queue.state is QueueState.RUNNING:  # its first handler may block the loop already
                break
        else:
            raise TimeoutError("a handler of another queue blocks the event loop")
        if future.done():
            future.result()

    def begin_stop(self, timeout: float | None) -> None:
        """Begin to stop."""
        self._loop.begin(self.queue.stop(wait=False, timeout=timeout, grace=GRACE))

    def report(self) -> StopReport | None:
        """What became of everything."""
        if not has_stopped(self):
            return self.queue.last_report
        with suppress(TimeoutError):
            report: StopReport = self._loop.begin(self.queue.stop(timeout=SLACK, grace=0.0)).result(2 * SLACK)
            return report
        return self.queue.last_report


def host_of(queue: AnyQueue, loop: Loop) -> Host:
    """The host of *queue*, whichever its flavour."""
    if isinstance(queue, AsyncEnvelopeQueue):
        return LoopHost(queue, loop)
    return ThreadHost(queue)


def start_all(hosts: list[Host]) -> None:
    """Start them; when one cannot be started, those that were are stopped again, and `UsageFault` says why."""
    started: list[Host] = []
    for host in hosts:
        try:
            host.start()
        except Exception as error:
            for other in started:
                other.begin_stop(0.0)
            raise UsageFault(f"{bounded_repr(host.queue)} cannot be started: {error_text(error, 300)}") from None
        started.append(host)


def announced(note: Signals, limit: float | None, signals: int) -> str:
    """What is said when the signal *note* has come, the *signals*-th."""
    if signals > 1:
        return f"{note.name}: what still runs is cancelled, and given up on after {GRACE:g} s"
    bound = "" if limit is None else f", for at most {limit:g} s"
    return f"{note.name}: stopping{bound}; once more to cancel what runs"
