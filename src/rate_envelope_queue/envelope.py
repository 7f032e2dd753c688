"""The envelope: one task, and the policy for running it.

An `Envelope` is four things: its policy, its payload, an id and a key. Everything that is the same for all envelopes
of a kind stands in a `Policy`, made once and shared, so that a million envelopes of one kind cost little and a queue
folds hooks and stamps once per kind, not once per envelope.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable
from datetime import timedelta
from inspect import CO_COROUTINE, iscoroutinefunction
from operator import is_
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic

from .durations import limit, whole
from .errors import InvalidEnvelopeError, InvalidIntervalError
from .schedules import Schedule, every
from .text import bounded_repr, name_of

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from .context import Context
    from .decision import Decision

    P = TypeVar("P", default=Any)
else:
    from typing import TypeVar

    P = TypeVar("P")

Duration = float | timedelta
Invoker = Callable[["Context", "Envelope[Any]"], Any]
Stamp = Callable[[Invoker], Invoker]
Hook = Callable[["Context", "Envelope[Any]"], object]
FailureHook = Callable[["Context", "Envelope[Any]", BaseException], "Decision | None"]

DEFAULT_MAX_ATTEMPTS = 25
THREADS, LOOP = "threads", "loop"  # marks of plain envelopes: without and with coroutine functions


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
        self.has_coroutines = any(map(is_coroutine, (invoke, before, after, success, failure)))
        self.plain_for = "" if self.timetable or self.priority else LOOP if self.has_coroutines else THREADS
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


def checked_stamps(stamps: object) -> tuple[Stamp, ...]:
    """*stamps* as a tuple of callables, or InvalidEnvelopeError."""
    if isinstance(stamps, (str, bytes)) or not isinstance(stamps, Iterable):
        raise InvalidEnvelopeError(f"stamps must be a sequence of callables, not {bounded_repr(stamps)}")
    chain = tuple(stamps)
    for stamp in chain:
        if not callable(stamp):
            raise InvalidEnvelopeError(f"stamps must be callable as stamp(next), not {bounded_repr(stamp)}")
    return chain


def _frozen(stamps: object) -> tuple[Stamp, ...]:
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
    if function is None:
        return False
    if type(function) is FunctionType:
        return bool(function.__code__.co_flags & CO_COROUTINE) or iscoroutinefunction(function)
    if type(function) is type:
        return False
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


_DEFAULTS = ("", None, None, None, 0, DEFAULT_MAX_ATTEMPTS, None, None, None, None, ())
_no_policy: Callable[[], Policy | None] = lambda: None  # noqa: E731
_last_policy: Callable[[], Policy | None] = _no_policy  # a weak reference: the policy made last, shared when it fits


def _policy_for(options: tuple[Any, ...]) -> Policy:
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


class Envelope(Generic[P]):
    """One task: a handler, a payload, and the policy for running it.

    `invoke(ctx, envelope)` does the work. Everything else is optional: `interval` or `schedule` makes it periodic,
    `deadline` (seconds) bounds a run, hooks run around it, `stamps` wrap it, `key` says what counts as the same work.
    Durations are seconds or `timedelta`. Only `payload` can be assigned later; envelopes compare by identity, and one
    may be in several queues. Raises `InvalidEnvelopeError` (or its subclass `InvalidIntervalError`), naming the fault.

    >>> greet = Envelope(lambda ctx, envelope: print("hello", envelope.payload), payload="world", deadline=3)
    >>> greet.deadline
    3.0
    """

    __slots__ = ("__weakref__", "_id", "_key", "_plain_for", "_policy", "payload")

    payload: P

    def __init__(
        self,
        invoke: Callable[[Context, Envelope[P]], Any],
        *,
        id: Any = None,
        type: str = "",
        payload: P = None,  # type: ignore[assignment]
        key: Hashable = None,
        interval: Duration | None = None,
        schedule: Schedule | None = None,
        deadline: Duration | None = None,
        priority: int = 0,
        max_attempts: int | None = DEFAULT_MAX_ATTEMPTS,
        before_hook: Callable[[Context, Envelope[P]], object] | None = None,
        after_hook: Callable[[Context, Envelope[P]], object] | None = None,
        success_hook: Callable[[Context, Envelope[P]], object] | None = None,
        failure_hook: Callable[[Context, Envelope[P], BaseException], Decision | None] | None = None,
        stamps: Iterable[Stamp] = (),
    ) -> None:
        if stamps.__class__ is not tuple:
            stamps = _frozen(stamps)
        options = (
            invoke, type, interval, schedule, deadline, priority, max_attempts,
            before_hook, after_hook, success_hook, failure_hook, stamps,
        )  # fmt: skip
        policy = _policy_for(options)
        self._policy = policy
        self._id = id
        self.payload = payload
        self._key = key
        self._plain_for = policy.plain_for
        if key is not None:
            check_key(key)
            self._plain_for = ""

    @classmethod
    def _of(cls, policy: Policy, payload: Any, id: Any = None, key: Hashable = None) -> Envelope[Any]:
        """An envelope over a policy that exists already."""
        self = cls.__new__(cls)
        self._policy = policy
        self._id = id
        self.payload = payload
        self._key = key
        self._plain_for = policy.plain_for if key is None else ""
        return self

    @classmethod
    def once(
        cls,
        invoke: Callable[[Context, Envelope[P]], Any],
        payload: P = None,  # type: ignore[assignment]
        *,
        deadline: Duration | None = None,
        **options: Any,
    ) -> Envelope[P]:
        """A one-off: it runs until it has succeeded, stopped or been dropped."""
        if options.get("interval") is not None or options.get("schedule") is not None:
            raise InvalidEnvelopeError(
                "once() makes a one-off: use Envelope.every() for interval, Envelope() for schedule"
            )
        return cls(invoke, payload=payload, deadline=deadline, **options)

    @classmethod
    def every(
        cls,
        interval: Duration,
        invoke: Callable[[Context, Envelope[P]], Any],
        payload: P = None,  # type: ignore[assignment]
        *,
        deadline: Duration | None = None,
        **options: Any,
    ) -> Envelope[P]:
        """A periodic: it runs at once, and again *interval* seconds after each run has ended."""
        if interval is None:
            raise InvalidEnvelopeError("interval must be seconds or a timedelta, not None: use Envelope.once()")
        return cls(invoke, payload=payload, interval=interval, deadline=deadline, **options)

    @property
    def invoke(self) -> Invoker:
        """The handler."""
        return self._policy.invoke

    @property
    def id(self) -> Any:
        """What the user calls it; the queue does not look at it."""
        return self._id

    @property
    def type(self) -> str:
        """The kind of work, for logs and metrics."""
        return self._policy.type

    @property
    def key(self) -> Hashable:
        """What counts as the same work; None means this very object."""
        return self._key

    @property
    def interval(self) -> float | None:
        """Seconds between the end of a run and the next, or None."""
        return self._policy.interval

    @property
    def schedule(self) -> Schedule | None:
        """The schedule as given, or None."""
        return self._policy.schedule

    @property
    def deadline(self) -> float | None:
        """Seconds that one run may take, or None."""
        return self._policy.deadline

    @property
    def priority(self) -> int:
        """A larger number runs first."""
        return self._policy.priority

    @property
    def max_attempts(self) -> int | None:
        """Runs of a one-off before it is dropped, or None without limit."""
        return self._policy.max_attempts

    @property
    def before_hook(self) -> Hook | None:
        """Called before the handler."""
        return self._policy.before_hook

    @property
    def after_hook(self) -> Hook | None:
        """Called after a success, and after StopEnvelope."""
        return self._policy.after_hook

    @property
    def success_hook(self) -> Hook | None:
        """Called after a success."""
        return self._policy.success_hook

    @property
    def failure_hook(self) -> FailureHook | None:
        """Called after a failed run of a one-off; its Decision says what follows."""
        return self._policy.failure_hook

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """The middleware around the handler, outermost first."""
        return self._policy.stamps

    @property
    def is_periodic(self) -> bool:
        """Whether it has an interval or a schedule."""
        return self._policy.timetable is not None

    def __repr__(self) -> str:
        parts = [bounded_repr(self.type or name_of(self.invoke))]
        if self._id is not None:
            parts.append(f"id={bounded_repr(self._id)}")
        if self._key is not None:
            parts.append(f"key={bounded_repr(self._key)}")
        return f"<Envelope {' '.join(parts)}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an envelope cannot be pickled or copied: it compares by identity; make another one")


def check_key(key: Hashable) -> None:
    """Raise InvalidEnvelopeError when *key* cannot be a key."""
    try:
        hash(key)
    except Exception as error:
        raise InvalidEnvelopeError(f"key must be hashable, not {bounded_repr(key)} ({error})") from None


class EnvelopeType(Generic[P]):
    """A kind of envelope: one shared policy, checked once. It stays callable as the function it was made of.

    *payload* is the class of the payloads, for typing and for the engines that store them; None takes anything.

    >>> email = EnvelopeType("email", invoke=lambda ctx, envelope: None, deadline=3)
    >>> email.envelope({"to": "ann@example.org"}, id=7)
    <Envelope 'email' id=7>
    """

    def __init__(
        self, type: str, *, invoke: Callable[[Context, Envelope[P]], Any], payload: type[P] | None = None, **policy: Any
    ) -> None:
        if not isinstance(type, str) or not type:
            raise InvalidEnvelopeError(f"type must be a non-empty str, not {bounded_repr(type)}")
        for name in ("id", "key"):
            if name in policy:
                raise InvalidEnvelopeError(f"{name} belongs to one envelope: give it to .envelope()")
        self._options = {"type": type, **policy}
        self._policy = Envelope(invoke, **self._options)._policy
        self._options["stamps"] = self._policy.stamps  # what was given may be a generator, or be changed later
        self.type = type
        self.invoke = invoke
        self.payload = payload
        self.__doc__ = getattr(invoke, "__doc__", None)
        self.__name__ = getattr(invoke, "__name__", type)
        self.__wrapped__ = invoke

    def envelope(self, payload: P = None, *, id: Any = None, key: Hashable = None, **overrides: Any) -> Envelope[P]:  # type: ignore[assignment]
        """An envelope of this kind. With *overrides* of the policy it gets a policy of its own."""
        if overrides:
            options = {**self._options, **overrides}
            return Envelope(options.pop("invoke", self.invoke), payload=payload, id=id, key=key, **options)
        if key is not None:
            check_key(key)
        return Envelope._of(self._policy, payload, id, key)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler itself, without any queue."""
        return self.invoke(*args, **kwargs)

    def __repr__(self) -> str:
        return f"EnvelopeType({self.type!r})"
