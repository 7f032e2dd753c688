"""The envelope: one task, and the policy for running it.

An `Envelope` is four things: its policy, its payload, an id and a key. Everything that is the same for all envelopes
of a kind stands in a `Policy`, made once and shared, so that a million envelopes of one kind cost little and a queue
folds hooks and stamps once per kind, not once per envelope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Unpack, cast

from .errors import InvalidEnvelopeError
from .policy import (
    DEFAULT_MAX_ATTEMPTS,
    LOOP,
    THREADS,
    Duration,
    EnvelopeOptions,
    FailureHook,
    Hook,
    Invoker,
    Overrides,
    Policy,
    PolicyOptions,
    Stamp,
    check_options,
    checked_stamps,
    checked_type,
    frozen,
    is_coroutine,
    policy_for,
)
from .schedules import Schedule
from .text import bounded_repr, class_name, error_text, name_of

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from .context import AsyncContext, Context
    from .decision import Decision

    P = TypeVar("P", default=Any)
    Q = TypeVar("Q")  # the payload of a function's own; a class's would not be looked for in a call on the bare class
    Handler = Callable[[Context, "Envelope[Q]"], Any] | Callable[[AsyncContext, "Envelope[Q]"], Any]
    HookOf = Callable[[Context, "Envelope[Q]"], object] | Callable[[AsyncContext, "Envelope[Q]"], object]
    FailureHookOf = (
        Callable[[Context, "Envelope[Q]", BaseException], Decision | None]
        | Callable[[AsyncContext, "Envelope[Q]", BaseException], Decision | Awaitable[Decision | None] | None]
    )
else:
    from typing import TypeVar

    P = TypeVar("P")

__all__ = [
    "LOOP", "THREADS", "Duration", "Envelope", "EnvelopeType", "FailureHook", "Hook", "Invoker", "Policy", "Stamp",
    "checked_stamps", "is_coroutine",
]  # fmt: skip

_ONE = EnvelopeOptions.__optional_keys__ | {"deadline"}
_KIND = PolicyOptions.__optional_keys__
_OVERRIDE = Overrides.__optional_keys__


class Envelope(Generic[P]):
    """One task: a handler, a payload, and the policy for running it.

    `invoke(ctx, envelope)` does the work. Everything else is optional. *id* is anything that you call it by, *type* the
    kind of work: both are for logs, and the queue does not look at them. *key* says what counts as the same work (None:
    this very object). *interval* or *schedule* makes it periodic; *deadline* bounds one run. A larger *priority* runs
    first. *max_attempts* is the most runs of a one-off, whatever asks for more; None for no limit.

    Of the hooks, a success calls before, (invoke,) after, success; an error before, failure; `StopEnvelope` before,
    after; `RetryEnvelope` none after invoke. `failure_hook(ctx, envelope, error)` decides what follows; a periodic's is
    never called. *stamps* wrap invoke alone, the first one outermost.

    Durations are seconds or `timedelta`. Only `payload` can be assigned later; envelopes compare by identity, and one
    may be in several queues. Raises `InvalidEnvelopeError` (or its subclass `InvalidIntervalError`), naming the fault;
    TypeError for an unknown option.

    >>> greet = Envelope(lambda ctx, envelope: print("hello", envelope.payload), payload="world", deadline=3)
    >>> greet.deadline
    3.0
    """

    __slots__ = ("__weakref__", "_id", "_key", "_plain_for", "_policy", "payload")

    payload: P

    def __init__(
        self,
        invoke: Handler[P],
        *,
        id: Any = None,
        type: str = "",
        payload: P | None = None,
        key: Hashable = None,
        interval: Duration | None = None,
        schedule: Schedule | None = None,
        deadline: Duration | None = None,
        priority: int = 0,
        max_attempts: int | None = DEFAULT_MAX_ATTEMPTS,
        before_hook: HookOf[P] | None = None,
        after_hook: HookOf[P] | None = None,
        success_hook: HookOf[P] | None = None,
        failure_hook: FailureHookOf[P] | None = None,
        stamps: Iterable[Stamp] = (),
    ) -> None:
        if stamps.__class__ is not tuple:
            stamps = frozen(stamps)
        options = (
            invoke, type, interval, schedule, deadline, priority, max_attempts,
            before_hook, after_hook, success_hook, failure_hook, stamps,
        )  # fmt: skip
        policy = policy_for(options)
        self._policy = policy
        self._id = id
        self.payload = payload  # type: ignore[assignment]  # without one, None is what its handler gets
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
        invoke: Handler[Q],
        payload: Q | None = None,
        *,
        deadline: Duration | None = None,
        **options: Unpack[EnvelopeOptions],
    ) -> Envelope[Q]:
        """A one-off: it runs until it has succeeded, stopped or been dropped."""
        if options.get("interval") is not None or options.get("schedule") is not None:
            raise InvalidEnvelopeError(
                "once() makes a one-off: use Envelope.every() for interval, Envelope() for schedule"
            )
        cls._check_options(options, "Envelope.once()")
        make = cast(Any, cls)  # whose own parameter is not looked for here
        made: Envelope[Q] = make(invoke, payload=payload, deadline=deadline, **options)
        return made

    @classmethod
    def every(
        cls,
        interval: Duration,
        invoke: Handler[Q],
        payload: Q | None = None,
        *,
        deadline: Duration | None = None,
        **options: Unpack[EnvelopeOptions],
    ) -> Envelope[Q]:
        """A periodic: it runs at once, and again *interval* seconds after each run has ended."""
        if interval is None:
            raise InvalidEnvelopeError("interval must be seconds or a timedelta, not None: use Envelope.once()")
        cls._check_options(options, "Envelope.every()")
        make = cast(Any, cls)  # whose own parameter is not looked for here
        made: Envelope[Q] = make(invoke, payload=payload, interval=interval, deadline=deadline, **options)
        return made

    @classmethod
    def _check_options(cls, options: Iterable[str], caller: str) -> None:
        if cls.__init__ is Envelope.__init__:  # a subclass may take what it likes
            check_options(options, _ONE, caller)

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
    if isinstance(key, Envelope):  # it is the key of its own entry already
        raise InvalidEnvelopeError(f"key must not be an envelope, such as {bounded_repr(key)}: use what names the work")
    try:
        hash(key)
    except Exception as error:
        reason = error_text(error, 200)
        raise InvalidEnvelopeError(f"key must be hashable, not {bounded_repr(key)} ({reason})") from None


def check_envelope(envelope: Envelope[Any]) -> None:
    """Raise InvalidEnvelopeError for an instance of a subclass that cannot be in a queue."""
    if type(getattr(envelope, "_policy", None)) is not Policy:
        raise InvalidEnvelopeError(
            f"{class_name(envelope)} is an Envelope that was not set up: call super().__init__(invoke, ...) in its "
            "own __init__"
        )
    try:
        hash(envelope)
    except Exception as error:
        raise InvalidEnvelopeError(
            f"{class_name(envelope)} must be hashable ({error_text(error, 200)}): envelopes compare by identity, "
            "leave out its own __eq__ and __hash__"
        ) from None


def check_policy(policy: Iterable[str], caller: str) -> None:
    """Raise for what is no option of a kind of envelopes, in the name of what was called."""
    for name in ("id", "key"):
        if name in policy:
            raise InvalidEnvelopeError(f"{name} belongs to one envelope: give it to .envelope()")
    check_options(policy, _KIND, caller)


class EnvelopeType(Generic[P]):
    """A kind of envelope: one shared policy, checked once. It stays callable as the function it was made of.

    *payload* is the class of the payloads, for type checkers; when it runs nothing is checked. *policy* are the options
    of `Envelope` but *id* and *key*, which belong to one envelope. It belongs to no queue. Raises as `Envelope`.

    >>> email = EnvelopeType("email", invoke=lambda ctx, envelope: None, deadline=3)
    >>> email.envelope({"to": "ann@example.org"}, id=7)
    <Envelope 'email' id=7>
    """

    def __init__(
        self, type: str, *, invoke: Handler[P], payload: type[P] | None = None, **policy: Unpack[PolicyOptions]
    ) -> None:
        checked_type(type)
        check_policy(policy, "EnvelopeType()")
        self._options: dict[str, Any] = {"type": type, **policy}
        self._policy = Envelope(invoke, **self._options)._policy
        self._options["stamps"] = self._policy.stamps  # what was given may be a generator, or be changed later
        self.type = type
        self.invoke = invoke
        self.payload = payload
        self.__doc__ = getattr(invoke, "__doc__", None)
        self.__name__ = getattr(invoke, "__name__", type)
        self.__wrapped__ = invoke

    def envelope(
        self,
        payload: P | None = None,
        *,
        id: Any = None,
        key: Hashable = None,
        **overrides: Unpack[Overrides],
    ) -> Envelope[P]:
        """An envelope of this kind. With *overrides* of the policy it gets a policy of its own."""
        if overrides:
            check_options(overrides, _OVERRIDE, "EnvelopeType.envelope()")
            options: dict[str, Any] = {**self._options, **overrides}
            return Envelope(options.pop("invoke", self.invoke), payload=payload, id=id, key=key, **options)
        if key is not None:
            check_key(key)
        return Envelope._of(self._policy, payload, id, key)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler itself, without any queue."""
        return self.invoke(*args, **kwargs)

    def __repr__(self) -> str:
        return f"EnvelopeType({self.type!r})"
