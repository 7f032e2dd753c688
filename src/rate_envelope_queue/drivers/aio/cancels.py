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
from ...core.settle import Verdict, is_a
from ...envelope import Envelope
from ...errors import Cancelled, DeadlineExceeded
from ..plan import Plan
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

    __slots__ = ("crew", "handle", "has_called", "is_disturbed", "is_fired", "is_given_up", "job", "limit_at", "task")

    task: WorkerTask

    def __init__(self, house: House, crew: LoopCrew) -> None:
        self.crew = crew
        self.handle: Handle = None
        self.job: Job | None = None
        self.limit_at = inf
        self.is_disturbed = self.is_fired = self.is_given_up = False
        self.has_called = False
        super().__init__(house, crew.scope)

    def close(self) -> None:
        """Let go of the run's objects."""
        self.limit_at = inf
        super().close()

    def _make_context(self, until: float | None) -> Any:
        context: RunContext = _new(AsyncContext)
        context._scope = self.scope
        context._attempt = self.attempt
        context._deadline = until
        return context

    # The phases

    def _limit(self, until: float) -> None:
        """A phase begins that may go on until *until*."""
        self.limit_at = until
        deadlines = self.crew.deadlines
        if until < deadlines.earliest:
            deadlines.note(until)

    def open(self, plan: Plan, envelope: Envelope, attempt: int) -> None:
        """A run begins: its deadline counts from now."""
        super().open(plan, envelope, attempt)
        self.has_called = False
        if self.deadline_at is not None:
            self._limit(self.deadline_at)

    def before_context(self) -> Any:
        """For the before hook: its budget, within the deadline."""
        context = super().before_context()
        if self.before_until != self.deadline_at:
            self._limit(self.before_until)
        return context

    def check_before(self) -> None:
        """The before hook returned: no invoke under a cancelled context, or after the hook's budget."""
        super().check_before()
        self.limit_at = inf
        if self.deadline_at is not None:
            self._limit(self.deadline_at)

    def invoked(self, error: BaseException | None) -> BaseException | None:
        """Before and invoke are over: the error that counts from here on."""
        self.limit_at = inf
        return super().invoked(None if error is None else self.owned(error))

    def hook_context(self) -> Any:
        """For after and success hooks: their budget within the deadline; past it, a fresh floor."""
        context = super().hook_context()
        self._limit(context._deadline)  # type: ignore[arg-type]  # a hook's context always has one
        return context

    def failure_context(self) -> Any:
        """For the failure hook: a budget of its own."""
        context = super().failure_context()
        self._limit(context._deadline)  # type: ignore[arg-type]
        return context

    def after_raised(self, error: BaseException | None, raised: BaseException) -> BaseException | None:
        """The after hook raised."""
        return super().after_raised(error, self.owned(raised))

    def hook_raised(self, hook: str, raised: BaseException) -> None:
        """Report what a hook raised; the run's result stands."""
        super().hook_raised(hook, self.owned(raised))

    def verdict(self, error: BaseException | None, decision: object) -> Verdict:
        """What follows."""
        self.limit_at = inf
        return super().verdict(error, decision)

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
        """The phase is over in which the task was cancelled: leave nothing of it behind."""
        task = self.task
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
        if self.crew.is_dying:
            self.scope.cancelled = True

    def stack(self) -> str:
        """Where the run is, as text."""
        job = self.job
        return stack_of_thread(job.thread) if job is not None else stack_of_coroutine(self.task.get_coro())
