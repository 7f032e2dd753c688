"""Plans: hooks, stamps and budgets folded once for each queue and policy, so that a run inspects nothing."""

from __future__ import annotations

from _thread import LockType, allocate_lock
from collections.abc import Callable
from types import CoroutineType
from typing import Any
from weakref import WeakKeyDictionary

from ..envelope import Envelope, Invoker, Policy, Stamp
from ..errors import InvalidEnvelopeError
from ..policy import is_coroutine, is_generator
from ..text import bounded_repr, without_traceback


class Plan:
    """How a queue runs envelopes of one policy. `invoke` is the handler inside its stamps.

    `is_bare`: no hook, no deadline, one-off: calling `invoke` is all there is. `is_level`: hooks have no budget shorter
    than the deadline, so that one context serves the whole run.
    """

    __slots__ = (
        "after", "before", "book", "budget", "deadline", "failure", "floor", "invoke", "is_bare", "is_level",
        "is_periodic", "stamp_error", "success",
    )  # fmt: skip

    def __init__(self, book: PlanBook, policy: Policy) -> None:
        self.book = book
        self.is_periodic = policy.timetable is not None
        self.before: Callable[..., Any] | None = book.hook(policy.before_hook)
        self.after: Callable[..., Any] | None = book.hook(policy.after_hook)
        self.success: Callable[..., Any] | None = book.hook(policy.success_hook)
        self.failure: Callable[..., Any] | None = None if self.is_periodic else book.hook(policy.failure_hook)
        self.deadline = policy.deadline
        self.floor = book.floor
        self.budget = book.floor if policy.deadline is None else max(book.fraction * policy.deadline, book.floor)
        self.is_level = policy.deadline is not None and self.budget >= policy.deadline
        hooks = (self.before, self.after, self.success)
        self.is_bare = hooks == (None, None, None) and policy.deadline is None and not self.is_periodic
        self.stamp_error: BaseException | None = None
        self.invoke: Invoker = policy.invoke
        try:
            self.invoke = book.fold(policy)
        except BaseException as error:  # user code: the run fails, not the worker
            self._fail(without_traceback(error))

    def _fail(self, error: BaseException) -> None:
        self.stamp_error = error
        self.is_bare = False

        def invoke(ctx: Any, envelope: Envelope) -> Any:
            raise error

        self.invoke = self.book.invoker(invoke)


def fold(invoke: Invoker, *layers: tuple[Stamp, ...], is_plain: bool = False) -> Invoker:
    """*invoke* inside its stamps: the last layer is outermost, and in each layer the first stamp.

    With *is_plain* an invoker that is a coroutine function is refused.
    """
    for layer in layers:
        for stamp in reversed(layer):
            invoke = stamp(invoke)
            if not callable(invoke) or is_generator(invoke):
                close(invoke)
                raise InvalidEnvelopeError(
                    f"the stamp {bounded_repr(stamp)} must return an invoker, not {bounded_repr(invoke)}"
                )
            if is_plain and is_coroutine(invoke):
                raise InvalidEnvelopeError(
                    f"the stamp {bounded_repr(stamp)} returned the coroutine function {bounded_repr(invoke)}, and "
                    "EnvelopeQueue runs threads: use AsyncEnvelopeQueue"
                )
    return invoke


def finished(value: Any, what: str) -> Any:
    """*value*, which the hook *what* returned; TypeError when it is a coroutine: nobody in a thread would await it."""
    if value is not None and type(value) is CoroutineType:
        raise _not_awaited(value, what)
    return value


def refuse_coroutine(value: Any, policy: Policy) -> None:
    """Raise TypeError when the result of a handler is a coroutine. What an executor's futures get is not looked at."""
    if type(value) is CoroutineType and not policy.is_quiet:
        raise _not_awaited(value, "handler")


def _not_awaited(coroutine: Any, what: str) -> TypeError:
    """The error for a coroutine that *what* returned in a thread; it is closed."""
    name = bounded_repr(coroutine)
    close(coroutine)
    return TypeError(f"the {what} returned {name}, which was not awaited: use AsyncEnvelopeQueue for coroutines")


def close(value: object) -> None:
    """Close *value* if it is a coroutine that will not be awaited, so that Python does not warn of it."""
    if type(value) is CoroutineType:
        try:
            value.close()
        except BaseException:  # it had been begun by somebody, and what it does then is user code
            pass


class PlanBook:
    """The plans of one queue. A policy's plan goes with the policy."""

    def __init__(self, stamps: tuple[Stamp, ...], *, fraction: float, floor: float) -> None:
        self.stamps = stamps
        self.fraction = fraction
        self.floor = floor
        self._plans: WeakKeyDictionary[Policy, Plan] = WeakKeyDictionary()
        self._folding: dict[Policy, LockType] = {}
        self._lock = allocate_lock()

    # How this flavour calls: as they are

    def hook(self, hook: Any) -> Any:
        """*hook* as the pipeline calls it."""
        return hook

    def invoker(self, invoke: Invoker) -> Invoker:
        """*invoke* as stamps and the pipeline call it."""
        return invoke

    def fold(self, policy: Policy) -> Invoker:
        """The handler of *policy* inside its stamps."""
        return fold(self.invoker(policy.invoke), policy.stamps, self.stamps, is_plain=True)

    def plan(self, policy: Policy) -> Plan:
        """The plan for *policy*, folded by whoever comes first; others wait for it. No lock is held meanwhile."""
        while True:
            with self._lock:
                plan = self._plans.get(policy)
                if plan is not None:
                    policy.plan = plan
                    return plan
                ours = policy not in self._folding
                if ours:
                    gate = allocate_lock()
                    gate.acquire()
                    self._folding[policy] = gate
                else:
                    gate = self._folding[policy]
            if ours:
                return self._make(policy, gate)
            with gate:  # open once it is folded
                pass

    def _make(self, policy: Policy, gate: LockType) -> Plan:
        try:
            plan = Plan(self, policy)
            with self._lock:
                self._plans[policy] = plan
            policy.plan = plan
            return plan
        finally:
            with self._lock:
                del self._folding[policy]
            gate.release()

    def renew_locks(self) -> None:
        """In a forked child: a lock held by a thread that is no more would never be released."""
        self._lock = allocate_lock()
        self._folding = {}
