"""Cancellation: whose it was, and that none is left behind for the next envelope.

A worker's task runs one envelope after another, so a cancellation that was meant for one must not reach the next.
Whatever cancels the task, ourselves included, passes `WorkerTask.cancel`, which marks the runner as disturbed; at the
end of the phase in which that happened, `absorb` makes the task as good as new.

Rules for changing it: one cancel a phase; the count of cancellations is drained, never assumed to be 1, because
TaskGroup and `asyncio.timeout` compare it; up to CPython 3.12 a cancellation that was requested but not delivered
stays pending though the count is 0, and must be swallowed by a turn of the loop.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from math import inf
from typing import TYPE_CHECKING, Any

from ...context import AsyncContext, RunContext
from ...core.entries import Handle
from ...core.settle import is_a
from ...errors import Cancelled, DeadlineExceeded
from ..rules import House, Runner
from ..stacks import stack_of_coroutine, stack_of_thread
from .bells import a_turn

if TYPE_CHECKING:
    from .offload import Job
    from .workers import LoopCrew

_new = object.__new__


class WorkerTask(asyncio.Task[None]):
    """The task of one worker. It has no task for each envelope: `current_task()` is the same for all its runs."""

    runner: LoopRunner

    def cancel(self, msg: Any | None = None) -> bool:
        """As every task; the worker is told."""
        self.runner.is_disturbed = True
        return super().cancel(msg)


class GuardTask(asyncio.Task[None]):
    """A task that nobody cancels but a loop that shuts down, and that cancels all at once, before any of them runs."""

    crew: LoopCrew

    def cancel(self, msg: Any | None = None) -> bool:
        """As every task; the workers are told."""
        self.crew.is_dying = True
        return super().cancel(msg)


class LoopRunner(Runner):
    """The state of the run that a worker on a loop is in.

    `limit_at` is until when the phase may go on. `is_disturbed`: the task was cancelled, by whomever; `is_fired`: for
    the deadline; `is_given_up`: for a stop. `handle` is what runs, `job` the plain function that it waits for;
    `has_called`: it has waited for one.
    """

    __slots__ = (
        "crew", "deadlines", "handle", "has_called", "is_disturbed", "is_fired", "is_given_up", "job", "limit_at",
        "task",
    )  # fmt: skip

    task: WorkerTask

    def __init__(self, house: House, crew: LoopCrew) -> None:
        self.crew = crew
        self.deadlines = crew.deadlines
        self.handle: Handle = None
        self.job: Job | None = None
        self.limit_at = inf
        self.is_disturbed = self.is_fired = self.is_given_up = False
        self.has_called = False
        super().__init__(house, crew.scope)

    def close(self) -> None:
        """Let go of the run's objects; a KeyboardInterrupt of user code goes on to the loop."""
        self.has_called = False
        self.limit_at = inf
        super().close()
        if self.interrupt is not None:
            self.crew.interrupt(self.interrupt)
            self.interrupt = None

    def _make_context(self, until: float | None) -> Any:
        """The context of a phase that begins, and may go on until *until*."""
        context: RunContext = _new(AsyncContext)
        context._scope = self.scope
        context._attempt = self.attempt
        context._deadline = until
        self._limit(inf if until is None else until)
        return context

    # The phases

    def _limit(self, until: float) -> None:
        self.limit_at = until
        if until < self.deadlines.earliest:
            self.deadlines.note(until)

    def check_before(self) -> None:
        """The before hook returned: no invoke under a cancelled context, or after the hook's budget."""
        super().check_before()
        self._limit(inf if self.deadline_at is None else self.deadline_at)

    def invoked(self, error: BaseException | None) -> BaseException | None:
        """Before and invoke are over: the error that counts from here on."""
        return super().invoked(None if error is None else self.owned(error))

    def after_raised(self, error: BaseException | None, raised: BaseException) -> BaseException | None:
        """The after hook raised."""
        return super().after_raised(error, self.owned(raised))

    def hook_raised(self, hook: str, raised: BaseException) -> None:
        """Report what a hook raised; the run's result stands."""
        super().hook_raised(hook, self.owned(raised))

    # Whose cancellation

    def owned(self, error: BaseException) -> BaseException:
        """What *error* means: a cancellation of ours by the name of its cause, anything else as it is."""
        if asyncio._get_running_loop() is not self.crew.loop:  # it has closed under the run, which is thrown away
            if not is_a(error, GeneratorExit):  # a `finally` raised
                self.house.reporter.callback_failed("the end of a run whose loop was closed", error)
            raise GeneratorExit from error
        if not self.is_disturbed or not is_a(error, CancelledError):
            return error
        ours: BaseException
        if self.is_fired and self.job is None:  # a plain function is not cancelled by its deadline, but left behind
            ours = DeadlineExceeded("the deadline passed, and the coroutine was cancelled")
        elif self.is_given_up or self.crew.is_dying:
            self.scope.cancelled = True
            ours = Cancelled("the queue gave up on this run: it is stopping")
        else:
            return error
        ours.__cause__ = error
        return ours

    def is_told_again(self) -> bool:
        """Whether the context has ended, which a plain function waited through: then the task is cancelled again."""
        if self.scope.cancelled:
            self.is_given_up = True
        elif self.has_called and self.deadline_at is not None and self.scope.clock() >= self.deadline_at:
            self.is_fired = True
        else:
            return False
        self.task.cancel()
        return True

    async def absorb(self) -> None:
        """The phase is over in which the task was cancelled: leave nothing of it behind but its limit, for a next that
        has no other."""
        task, until = self.task, self.limit_at
        self.limit_at = inf
        while self.is_disturbed:
            self.is_disturbed = self.is_fired = self.is_given_up = False
            while task.cancelling():
                task.uncancel()
            if task._must_cancel:  # type: ignore[attr-defined]
                try:
                    await a_turn()
                except CancelledError:
                    self.is_disturbed = True  # and look again: another may have come with it
        self._limit(until)
        if self.crew.is_dying:
            self.scope.cancelled = True

    def stack(self) -> str:
        """Where the run is, as text."""
        job = self.job
        return stack_of_thread(job.thread) if job is not None else stack_of_coroutine(self.task.get_coro())
