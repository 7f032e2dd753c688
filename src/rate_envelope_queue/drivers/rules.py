"""The rules of one run that need a clock or user code: budgets, lateness, what to ask, and the verdict.

A Runner belongs to one worker and serves its runs one after another; user code never sees it. The pipelines
(`threads.pipeline`, `aio.pipeline`) call it at fixed points and hold no rule of their own; what follows a run is
decided in core/settle.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime
from math import isfinite
from typing import Any

from ..context import Context
from ..core import settle
from ..core.entries import Entry, Handle, key_of
from ..core.settle import SUCCESS, Verdict, is_a
from ..decision import drop, understood
from ..envelope import Envelope
from ..errors import Cancelled, DeadlineExceeded, RetryEnvelope
from ..limiters import RateLimiter
from ..text import bounded_repr, error_text, without_traceback
from .plan import Plan, PlanBook
from .reporting import Reporter
from .scope import ThreadScope
from .stacks import stack_of_thread

_new = object.__new__
NOTHING: Any = None


class House:
    """What the runs of one queue share."""

    __slots__ = ("clock", "is_strict", "limiter", "random", "reporter", "wall_utc")

    def __init__(
        self,
        clock: Callable[[], float],
        wall_utc: Callable[[], datetime],
        limiter: RateLimiter,
        reporter: Reporter,
        random: Callable[[], float],
        *,
        is_strict: bool,
    ) -> None:
        self.clock = clock
        self.wall_utc = wall_utc
        self.limiter = limiter
        self.reporter = reporter
        self.random = random
        self.is_strict = is_strict

    def forget(self, key: Hashable) -> None:
        """Let the limiter forget *key*; it is user code."""
        try:
            self.limiter.forget(key)
        except BaseException as error:
            self.reporter.callback_failed("forget of the backoff limiter", error)


class Runner:
    """The state of the run that a worker is in."""

    __slots__ = (
        "attempt", "before_until", "context", "deadline_at", "envelope", "hook_fault", "house", "interrupt",
        "invoked_at", "is_late", "is_reported", "is_stopped", "plan", "planned", "scope", "started_at", "thread",
        "value", "was_backed_off",
    )  # fmt: skip

    plan: Plan
    envelope: Envelope
    context: Context

    def __init__(self, house: House, scope: ThreadScope, thread: int = 0) -> None:
        self.house = house
        self.scope = scope
        self.thread = thread
        self.attempt = 1
        self.planned = 0.0  # of a periodic: what its schedule gave for this run
        self.was_backed_off = False  # the limiter remembers the entry
        self.started_at = 0.0  # set for periodics and under a deadline
        self.invoked_at: float | None = None  # when invoke returned, until the next hook has used it
        self.before_until = 0.0
        self.is_late = self.is_stopped = False
        self.is_reported = False  # as stuck
        self.hook_fault: str | None = None  # what went wrong in the failure hook of this run
        self.interrupt: BaseException | None = None  # a KeyboardInterrupt of user code, for who runs it for a caller
        self.close()

    def close(self) -> None:
        """Let go of the run's objects."""
        self.envelope = self.plan = self.context = self.value = NOTHING
        self.deadline_at: float | None = None

    def _make_context(self, until: float | None) -> Context:
        context = _new(Context)  # the constructor would cost twice as much, four times a run
        context._scope = self.scope
        context._attempt = self.attempt
        context._deadline = until
        return context

    def begin(self, handle: Handle, plans: PlanBook) -> Any:
        """Begin the run of what was taken, with all its notes. The contextvars to run it in, if it has its own."""
        context = None
        attempt = 1
        self.was_backed_off = False
        if handle.__class__ is Entry:
            envelope, attempt, notes = handle.envelope, handle.attempt, handle.notes
            if notes is not None:
                self.was_backed_off = notes.backed_off
                self.planned = 0.0 if notes.planned is None else notes.planned
                context = notes.context
        else:
            envelope = handle
        plan = envelope._policy.plan
        if plan is None or plan.book is not plans:
            plan = plans.plan(envelope._policy)
        self.open(plan, envelope, attempt)
        return context

    def fault(self, error: BaseException) -> Verdict:
        """The pipeline itself failed, or a context could not be entered: the worker lives, and the entry is dropped."""
        self.house.reporter.callback_failed("the run of an envelope", error)
        return settle.dropped(error, "its run could not be carried out")

    def stack(self) -> str:
        """Where the run is, as text."""
        return stack_of_thread(self.thread)

    def open(self, plan: Plan, envelope: Envelope, attempt: int) -> None:
        """A run begins: its deadline counts from now."""
        self.plan = plan
        self.envelope = envelope
        self.attempt = attempt
        self.is_late = self.is_stopped = self.is_reported = False
        self.hook_fault = None
        scope = self.scope
        deadline = plan.deadline
        if deadline is not None:
            self.started_at = now = scope.clock()
            self.deadline_at = until = now + deadline
            self.context = self._make_context(until)
        else:
            self.deadline_at = None
            self.context = scope.first_context if attempt == 1 else self._make_context(None)
            if plan.is_periodic:
                self.started_at = scope.clock()

    def before_context(self) -> Context:
        """For the before hook: its budget, within the deadline."""
        plan = self.plan
        if plan.is_level:
            self.before_until = self.deadline_at or 0.0  # level means that there is one
            return self.context
        began = self.scope.clock() if plan.deadline is None else self.started_at
        self.before_until = until = began + plan.budget
        return self._make_context(until)

    def check_before(self) -> None:
        """The before hook returned: no invoke under a cancelled context, or after the hook's budget."""
        scope = self.scope
        if scope.cancelled:
            raise Cancelled("the queue gave up on this run: it is stopping")
        if scope.clock() >= self.before_until:
            raise DeadlineExceeded("the before hook went on past its time")

    def invoked(self, error: BaseException | None) -> BaseException | None:
        """Before and invoke are over: was it late, does it ask to stop? The error that counts from here on."""
        if error is not None:
            self.invoked_at = None
            self.is_stopped = settle.asks_to_stop(error)
            return error
        deadline_at = self.deadline_at
        if deadline_at is None:
            self.invoked_at = None
            return None
        self.invoked_at = now = self.scope.clock()
        if now >= deadline_at:
            if self.house.is_strict:
                return DeadlineExceeded("the handler returned after its deadline, and strict_deadline is set")
            self.is_late = True
        return None

    def hook_context(self) -> Context:
        """For after and success hooks: their budget within the deadline; past it, a fresh floor."""
        plan = self.plan
        if plan.is_level and not self.is_late:
            return self.context
        now = self.invoked_at
        if now is None:
            now = self.scope.clock()
        else:
            self.invoked_at = None
        deadline_at = self.deadline_at
        until = now + plan.budget
        if self.is_late:
            until = now + plan.floor
        elif deadline_at is not None and until > deadline_at:
            until = deadline_at
        return self._make_context(until)

    def after_raised(self, error: BaseException | None, raised: BaseException) -> BaseException | None:
        """The after hook raised: StopEnvelope ends the entry, anything else is reported and ignored."""
        if settle.asks_to_stop(raised):
            self.is_stopped = True
            return raised
        self.hook_raised("after_hook", raised)
        return error

    def hook_raised(self, hook: str, raised: BaseException) -> None:
        """Report what a hook raised; the run's result stands."""
        if is_a(raised, KeyboardInterrupt):
            self.interrupt = raised
        if hook == "failure_hook":
            self.hook_fault = f"failure_hook failed: {error_text(raised, 200)}"
        try:
            self.house.reporter.hook_failed(self.envelope, self.attempt, raised, hook)
        except BaseException as again:
            if is_a(again, KeyboardInterrupt):
                self.interrupt = again
            self.house.reporter.callback_failed(f"the report of a failed {hook}", again)

    def is_cancelled(self, error: BaseException) -> bool:
        """Whether the queue ended the run, not the user."""
        return is_a(error, Cancelled) and self.scope.cancelled

    def asks_failure(self, error: BaseException) -> bool:
        """Whether the failure hook is to be called."""
        if self.is_stopped:
            return False
        return not is_a(error, RetryEnvelope) and not self.is_cancelled(error)

    def failure_context(self) -> Context:
        """For the failure hook: a budget of its own, so that it can still report a timeout."""
        return self._make_context(self.scope.clock() + self.plan.budget)

    def verdict(self, error: BaseException | None, decision: object) -> Verdict:
        """What follows."""
        plan = self.plan
        if error is None and not (plan.is_periodic or self.is_late or self.was_backed_off):
            return SUCCESS
        envelope = self.envelope
        if error is not None and is_a(error, KeyboardInterrupt):
            self.interrupt = error
        verdict = self._decide(plan, envelope, error, decision)
        if error is not None and verdict.run == settle.RUN_FAILED:
            self._report_failure(envelope, error, is_retried=verdict.outcome is None and not plan.is_periodic)
            if plan.stamp_error is not None:
                without_traceback(plan.stamp_error)  # the same exception again and again: it must not grow
        if self.was_backed_off and verdict.outcome is not None:
            self.house.forget(key_of(envelope))
        return verdict

    def _report_failure(self, envelope: Envelope, error: BaseException, *, is_retried: bool) -> None:
        """Report it; whatever goes wrong in that, what follows the run was decided and stands."""
        try:
            self.house.reporter.failed(envelope, self.attempt, error, is_retried=is_retried)
        except BaseException as raised:
            if is_a(raised, KeyboardInterrupt):
                self.interrupt = raised
            self.house.reporter.callback_failed("the report of a failed run", raised)

    def _decide(self, plan: Plan, envelope: Envelope, error: BaseException | None, decision: object) -> Verdict:
        if error is None and not plan.is_periodic:
            return settle.late_success() if self.is_late else SUCCESS
        if error is not None and self.is_stopped:
            return settle.stopped(error)
        if error is not None and self.is_cancelled(error):
            return settle.cancelled()
        if plan.is_periodic:
            return self._next_period(envelope, error)
        assert error is not None
        decided = None if decision is None else understood(decision)
        if decision is not None and decided is None:
            self.hook_raised(
                "failure_hook", TypeError(f"it must return a Decision or None, not {bounded_repr(decision)}: dropped")
            )
        if self.hook_fault is not None:
            decided = drop(self.hook_fault)
        verdict = settle.failed(envelope._policy, self.attempt, error, decided)
        if verdict.backed_off:
            verdict.after = self._backoff(envelope)
        return verdict

    def _backoff(self, envelope: Envelope) -> float:
        """Ask the limiter, which is user code; without a usable answer the wait is a second."""
        try:
            after = float(self.house.limiter.when(key_of(envelope), now=self.house.clock()))
            if isfinite(after) and after >= 0:
                return after
            raise ValueError(f"it must answer 0 or more seconds, not {after}")
        except BaseException as error:
            self.hook_raised("backoff limiter", error)
            return 1.0

    def _next_period(self, envelope: Envelope, error: BaseException | None) -> Verdict:
        run = settle.RUN_SUCCEEDED if error is None else settle.RUN_FAILED
        timetable = envelope._policy.timetable
        assert timetable is not None
        house = self.house
        try:
            planned = timetable.next(
                planned=self.planned, started=self.started_at, now=house.clock(), wall_utc=house.wall_utc()
            )
            due = jittered(planned, timetable.jitter, house.random)
        except BaseException as raised:
            self.hook_raised("schedule", raised)
            return settle.unscheduled(run, raised if error is None else error)
        return settle.next_period(run, planned, due, error=error, is_late=self.is_late)


def jittered(planned: float, jitter: float, random: Callable[[], float]) -> float:
    """*planned* plus a random part of *jitter*; ValueError when the schedule's answer is no time."""
    due = float(planned) + (float(jitter) * random() if jitter else 0.0)
    if not isfinite(due):
        raise ValueError(f"a schedule must answer a finite instant, not {due}")
    return due
