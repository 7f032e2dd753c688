"""What follows a run: plain functions from the run's result and the user's decision to a verdict.

A verdict is what the pipeline hands to the machine. Nothing here knows a queue, a lock or a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..decision import Decision, DecisionKind, retry_after, retry_now, retry_with_backoff
from ..durations import nonnegative
from ..errors import RetryEnvelope, StopEnvelope
from ..results import Outcome
from ..text import cause_of

if TYPE_CHECKING:
    from ..envelope import Policy

RUN_SUCCEEDED, RUN_FAILED, RUN_CANCELLED, RUN_STOPPED = range(4)

_Group: Any = BaseExceptionGroup
_members_of: Callable[[BaseException], tuple[BaseException, ...]] = _Group.exceptions.__get__


class Verdict:
    """How a run ended and what is to follow.

    `outcome` None: the entry goes on, after `after` seconds, or for a periodic at `due` (`planned` is what its schedule
    gave, before jitter). `resets`: attempts start again at 1.
    """

    __slots__ = ("after", "backed_off", "due", "error", "is_late", "outcome", "planned", "reason", "resets", "run")

    def __init__(self, run: int, outcome: Outcome | None = None, *, error: BaseException | None = None) -> None:
        self.run = run
        self.outcome = outcome
        self.error = error
        self.reason: str | None = None
        self.after = 0.0
        self.due: float | None = None
        self.planned: float | None = None
        self.is_late = False
        self.resets = False
        self.backed_off = False


SUCCESS = Verdict(RUN_SUCCEEDED, Outcome.SUCCEEDED)  # shared by every one-off that succeeds in time


def late_success() -> Verdict:
    """A one-off succeeded after its deadline."""
    verdict = Verdict(RUN_SUCCEEDED, Outcome.SUCCEEDED)
    verdict.is_late = True
    return verdict


def stopped(error: BaseException) -> Verdict:
    """The user ended the entry with StopEnvelope."""
    return Verdict(RUN_STOPPED, Outcome.STOPPED, error=error)


def cancelled() -> Verdict:
    """The stopping queue ended the run: the entry goes on at once, its attempt is not counted."""
    return Verdict(RUN_CANCELLED)


def next_period(run: int, planned: float, due: float, *, error: BaseException | None, is_late: bool) -> Verdict:
    """A periodic's run ended, well or badly, and the next one is at *due*."""
    verdict = Verdict(run, error=error)
    verdict.planned = planned
    verdict.due = due
    verdict.is_late = is_late
    verdict.resets = run == RUN_SUCCEEDED
    return verdict


def unscheduled(run: int, error: BaseException) -> Verdict:
    """A periodic's run ended, well or badly, and its schedule could not say when the next one is: it is dropped."""
    verdict = Verdict(run, Outcome.DROPPED, error=error)
    verdict.reason = "its schedule failed"
    return verdict


def dropped(error: BaseException, reason: str | None = None) -> Verdict:
    """The entry ends as dropped."""
    verdict = Verdict(RUN_FAILED, Outcome.DROPPED, error=error)
    verdict.reason = reason
    return verdict


def is_a(error: BaseException, kind: type[BaseException]) -> bool:
    """isinstance, without asking the exception for its `__class__`, which a user may have made raise."""
    return issubclass(type(error), kind)


def failed(policy: Policy, attempt: int, error: BaseException, decision: Decision | None) -> Verdict:
    """A one-off's run failed: what the failure hook decided, within `max_attempts`.

    A verdict with `backed_off` still lacks its `after`: the caller asks the limiter, which is user code.
    """
    if is_a(error, RetryEnvelope):
        decision = _asked_for(error)
    if decision is None or decision.kind is DecisionKind.DROP:
        return dropped(error, None if decision is None else decision.reason)
    if policy.max_attempts is not None and attempt >= policy.max_attempts:
        return dropped(error, f"max_attempts={policy.max_attempts} reached")
    verdict = Verdict(RUN_FAILED, error=error)
    verdict.after = decision.after or 0.0
    verdict.backed_off = decision.kind is DecisionKind.RETRY_WITH_BACKOFF
    return verdict


def _asked_for(error: BaseException) -> Decision:
    """What a RetryEnvelope asks for; an `after` that was tampered with counts as none."""
    try:
        after = nonnegative(getattr(error, "after", None), "after")
    except BaseException:  # of a subclass it may be anything, and may raise
        return retry_with_backoff()
    return retry_after(after) if after else retry_now()


def asks_to_stop(error: BaseException) -> bool:
    """Whether *error* is a StopEnvelope, was raised from one, or is a group that holds one."""
    seen: set[int] = set()
    pending: list[BaseException] = [error]
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if is_a(one, StopEnvelope):
            return True
        if is_a(one, BaseExceptionGroup):
            pending.extend(_members_of(one))
        cause = cause_of(one)
        if cause is not None:
            pending.append(cause)
    return False
