"""Threads of the queue's own, for plain functions.

A plain function cannot be interrupted: whoever waits for it does so to its end, whatever is cancelled meanwhile; only
a loop that shuts down leaves it behind, and its run is abandoned then. Results come back in batches: one wake of the
loop for all that ended since the last.
"""

from __future__ import annotations

import threading
from _thread import get_ident
from asyncio import AbstractEventLoop, CancelledError, Future, current_task
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from ...core.entries import envelope_of
from ...envelope import Envelope
from .bells import a_turn, call_on
from .cancels import WorkerTask

if TYPE_CHECKING:
    from .workers import LoopCrew


class Job:
    """One call of a plain function. `orphaned` is called, in its thread, if it ends after nobody waits any more."""

    __slots__ = (
        "_arguments",
        "_context",
        "_function",
        "error",
        "future",
        "is_done",
        "lock",
        "orphaned",
        "thread",
        "value",
    )

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], context: Context) -> None:
        self._function: Any = function
        self._arguments: Any = arguments
        self._context: Any = context
        self.future: Future[None] | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.is_done = False
        self.orphaned: Callable[[], object] | None = None
        self.lock = threading.Lock()
        self.thread = 0

    def run(self) -> None:
        """Call the function; never raises."""
        self.thread = get_ident()
        try:
            self.value = self._context.run(self._function, *self._arguments)
        except BaseException as error:
            self.error = error
        self._function = self._arguments = self._context = None
        with self.lock:
            self.is_done = True
            orphaned = self.orphaned
        if orphaned is not None:
            orphaned()

    def leave(self, orphaned: Callable[[], object]) -> bool:
        """Wait for it no longer; False when it has ended."""
        with self.lock:
            if not self.is_done:
                self.orphaned = orphaned
            return not self.is_done

    def wake(self) -> None:
        """Have whoever waits look again."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    def result(self) -> Any:
        """What the function returned; raises what it raised."""
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self.value


class Offload:
    """The threads of one crew, made when they are needed. Used on the loop alone."""

    def __init__(self, crew: LoopCrew, loop: AbstractEventLoop) -> None:
        self._crew = crew
        self._loop = loop
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._ended: deque[Job] = deque()
        self._is_called = False  # the loop will collect what has ended

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What *function* returns, called in a thread, in a copy of the present context."""
        task = current_task()
        runner = task.runner if isinstance(task, WorkerTask) else None
        if runner is not None and runner.is_told_again():
            await a_turn()  # raises it
        job = Job(function, arguments, copy_context())
        self._submit(job)
        if runner is not None:
            runner.job = job
            runner.has_called = True
        try:
            while not job.is_done:
                job.future = self._loop.create_future()
                try:
                    await job.future
                except CancelledError:  # it cannot be interrupted: wait on, unless the loop goes away
                    if self._crew.is_dying and not job.is_done:
                        if runner is None:  # a stamp's own task called it
                            self._leave_behind(job, arguments[-1])
                        raise
        finally:
            job.future = None
            if runner is not None and job.is_done:
                runner.job = None
        if runner is not None and runner.is_disturbed:
            await runner.absorb()  # those that it waited through were not for what comes next
        return job.result()

    def _leave_behind(self, job: Job, envelope: Envelope) -> None:
        """The run of *envelope* is told that *job* goes on."""
        for runner in self._crew.runners:
            handle = runner.handle
            if handle is not None and envelope_of(handle, handle) is envelope:
                runner.job = job

    def _submit(self, job: Job) -> None:
        if self._busy >= self._threads:
            name = f"{self._crew.queue.name}-plain-{self._threads}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()  # raises where there can be no more
            self._threads += 1
        self._busy += 1
        self._jobs.put(job)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            self._ended.append(job)
            del job
            if not self._is_called:
                self._is_called = True
                call_on(self._loop, self._collect)

    def _collect(self) -> None:
        self._is_called = False  # before looking: what ends from now on calls again
        while self._ended:
            self._busy -= 1
            self._ended.popleft().wake()

    def close(self) -> None:
        """Let the threads go; those that are inside a function, once it returns."""
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0
