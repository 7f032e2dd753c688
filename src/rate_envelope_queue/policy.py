"""The policy of an envelope: everything that is the same for all envelopes of a kind, checked once and shared.

The names of its options stand here, for people, type checkers and error messages alike.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable
from datetime import timedelta
from functools import partial
from inspect import (
    CO_ASYNC_GENERATOR,
    CO_COROUTINE,
    CO_GENERATOR,
    isasyncgenfunction,
    iscoroutinefunction,
    isgeneratorfunction,
)
from operator import is_
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypedDict

from .durations import limit, whole
from .errors import InvalidEnvelopeError, InvalidIntervalError
from .schedules import Schedule, every
from .text import bounded_repr

if TYPE_CHECKING:
    from .context import AsyncContext, Context
    from .decision import Decision
    from .envelope import Envelope, FailureHookOf, HookOf

Duration = float | timedelta
Invoker = Callable[["Context", "Envelope[Any]"], Any]
Stamp = Callable[[Invoker], Invoker]
Hook = Callable[["Context", "Envelope[Any]"], object]
FailureHook = Callable[["Context", "Envelope[Any]", BaseException], "Decision | None"]

DEFAULT_MAX_ATTEMPTS = 25
THREADS, LOOP = "threads", "loop"  # marks of plain envelopes: without and with coroutine functions


class SharedOptions(TypedDict, total=False):
    """The options that every way to make an envelope takes."""

    priority: int
    max_attempts: int | None
    before_hook: HookOf[Any] | None
    after_hook: HookOf[Any] | None
    success_hook: HookOf[Any] | None
    failure_hook: FailureHookOf[Any] | None
    stamps: Iterable[Stamp]


class EnvelopeOptions(SharedOptions, total=False):
    """What `Envelope.once` and `Envelope.every` take besides their own arguments."""

    id: Any
    type: str
    key: Hashable


class PolicyOptions(SharedOptions, total=False):
    """What a kind of envelopes is made of, besides its type and its handler."""

    interval: Duration | None
    schedule: Schedule | None
    deadline: Duration | None


class Overrides(PolicyOptions, total=False):
    """What one envelope of a kind may have otherwise."""

    type: str
    invoke: Invoker | Callable[[AsyncContext, Envelope[Any]], Any]


class Policy:
    """How envelopes of one kind are run. Immutable by agreement; checked when it is made; shared.

    `timetable` is the schedule in effect, from `interval` or `schedule`. `plan` belongs to the drivers: the plan that
    was used last, so that a run finds it without a look-up.
    """

    __slots__ = (
        "__weakref__",
        "after_hook",
        "before_hook",
        "deadline",
        "failure_hook",
        "has_coroutines",
        "interval",
        "invoke",
        "is_quiet",
        "max_attempts",
        "options",
        "plain_for",
        "plan",
        "priority",
        "schedule",
        "stamps",
        "success_hook",
        "timetable",
        "type",
    )

    def __init__(self, options: tuple[Any, ...]) -> None:
        self.options = options
        (
            invoke,
            type_,
            interval,
            schedule,
            deadline,
            priority,
            max_attempts,
            before,
            after,
            success,
            failure,
            stamps,
        ) = options
        _check_callables(invoke, type_, before, after, success, failure)
        self.invoke: Invoker = invoke
        self.type: str = type_
        self.before_hook: Hook | None = before
        self.after_hook: Hook | None = after
        self.success_hook: Hook | None = success
        self.failure_hook: FailureHook | None = failure
        self.stamps = checked_stamps(stamps)
        self._set_numbers(interval, deadline, priority, max_attempts)
        self._set_timetable(schedule)
        self.has_coroutines = any(map(is_coroutine, (invoke, before, after, success, failure, *self.stamps)))
        self.plain_for = "" if self.timetable is not None or self.priority else LOOP if self.has_coroutines else THREADS
        self.is_quiet = False
        self.plan: Any = None

    def _set_numbers(self, interval: object, deadline: object, priority: object, max_attempts: object) -> None:
        try:
            self.interval = limit(interval, "interval")
            self.deadline = limit(deadline, "deadline")
            self.max_attempts = None if max_attempts is None else whole(max_attempts, "max_attempts", least=1)
            if isinstance(priority, bool) or not isinstance(priority, int):
                raise TypeError(f"priority must be an int, larger first, not {bounded_repr(priority)}")
        except (TypeError, ValueError) as error:
            raise InvalidEnvelopeError(str(error)) from None
        self.priority = priority

    def _set_timetable(self, schedule: object) -> None:
        if schedule is not None and self.interval is not None:
            raise InvalidEnvelopeError("give interval or schedule, not both")
        if schedule is not None and (isinstance(schedule, type) or not isinstance(schedule, Schedule)):
            raise InvalidEnvelopeError(
                f"schedule must be every(), fixed_rate(), cron() or another Schedule, not {bounded_repr(schedule)}"
            )
        self.schedule: Schedule | None = schedule
        self.timetable: Schedule | None = schedule if self.interval is None else every(self.interval)
        period = None if self.timetable is None else self.timetable.period
        if self.deadline is not None and period is not None and self.deadline > period:
            raise InvalidIntervalError(
                f"deadline={self.deadline:g} is longer than the interval of {period:g} s: "
                "make the deadline at most the interval"
            )


def check_options(given: Iterable[str], known: frozenset[str], caller: str) -> None:
    """TypeError, in the name of what was called, for an option that does not exist."""
    for name in given:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name[:100], known, 1)
            advice = f": did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{caller} got an unexpected keyword argument {bounded_repr(name)}{advice}")


def checked_type(type_: object) -> str:
    """*type_* as the name of a kind, which is not empty."""
    if not isinstance(type_, str) or not type_:
        raise InvalidEnvelopeError(f"type must be a non-empty str, not {bounded_repr(type_)}")
    return type_


def _check_callables(
    invoke: object, type_: object, before: object, after: object, success: object, failure: object
) -> None:
    if not callable(invoke):
        raise InvalidEnvelopeError(f"invoke must be callable as invoke(ctx, envelope), not {bounded_repr(invoke)}")
    if not isinstance(type_, str):
        raise InvalidEnvelopeError(f"type must be a str, not {bounded_repr(type_)}")
    hooks = {"before_hook": before, "after_hook": after, "success_hook": success, "failure_hook": failure}
    for name, hook in hooks.items():
        if hook is not None and not callable(hook):
            raise InvalidEnvelopeError(f"{name} must be callable or None, not {bounded_repr(hook)}")
        _refuse_generator(hook, name)
    _refuse_generator(invoke, "invoke")


def _refuse_generator(function: object, name: str) -> None:
    if is_generator(function):
        raise InvalidEnvelopeError(
            f"{name} must be a plain or a coroutine function, and {bounded_repr(function)} never runs: calling a "
            "generator function only makes a generator; leave out its yield"
        )


def checked_stamps(stamps: object) -> tuple[Stamp, ...]:
    """*stamps* as a tuple of callables, or InvalidEnvelopeError."""
    if isinstance(stamps, (str, bytes)) or not isinstance(stamps, Iterable):
        raise InvalidEnvelopeError(f"stamps must be a sequence of callables, not {bounded_repr(stamps)}")
    chain = tuple(stamps)
    for stamp in chain:
        if not callable(stamp):
            raise InvalidEnvelopeError(f"stamps must be callable as stamp(next), not {bounded_repr(stamp)}")
        _refuse_generator(stamp, "stamps")
    return chain


def frozen(stamps: object) -> tuple[Stamp, ...]:
    """*stamps* as they are now, as a tuple: what is done to a list later changes no policy.

    The tuple of the policy made last when they are the same stamps, so that this policy is found again.
    """
    chain = checked_stamps(stamps)
    last = _last_policy()
    if last is not None and len(chain) == len(last.stamps) and all(map(is_, chain, last.stamps)):
        return last.stamps
    return chain


def is_coroutine(function: object) -> bool:
    """Whether calling *function* gives a coroutine. Plain functions are told apart without `inspect`."""
    if type(function) is FunctionType:
        return bool(function.__code__.co_flags & CO_COROUTINE) or iscoroutinefunction(function)
    return function is not None and any(map(iscoroutinefunction, _called_by(function)))


def is_generator(function: object) -> bool:
    """Whether calling *function* gives a generator: nothing of its body runs then."""
    if type(function) is FunctionType:
        return bool(function.__code__.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR))
    return function is not None and any(
        isgeneratorfunction(it) or isasyncgenfunction(it) for it in _called_by(function)
    )


def _called_by(function: Any) -> tuple[object, ...]:
    """What may run when *function* is called: itself, inside any `partial`, or its class's `__call__`."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type):
        return ()
    return function, getattr(function, "__call__", None)  # noqa: B004


_no_policy: Callable[[], Policy | None] = lambda: None  # noqa: E731
_last_policy: Callable[[], Policy | None] = _no_policy  # a weak reference: the policy made last, shared when it fits


def policy_for(options: tuple[Any, ...]) -> Policy:
    """The policy made last when every option is the very same object, else a new one.

    Services build the same kind of envelope again and again. Compared by identity: 1 == True, and a user's `__eq__`
    would be called.
    """
    global _last_policy
    last = _last_policy()
    if last is not None:
        for mine, its in zip(options, last.options, strict=True):
            if mine is not its:
                break
        else:
            return last
    policy = Policy(options)
    _last_policy = weakref.ref(policy)
    return policy
