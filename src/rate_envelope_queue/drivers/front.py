"""The front of a queue: what is the same for threads and asyncio, plain calls that never block.

Sending, cancelling, looking. How runs are run, and how a caller waits, is the driver's (`threads`, `aio`, `simulated`).
`send` is a hot path.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable
from contextvars import copy_context
from datetime import datetime, timedelta
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from ..core import reading
from ..core.admission import Starts
from ..core.entries import key_of
from ..core.machine import Machine
from ..durations import nonnegative, whole
from ..envelope import (
    THREADS,
    Duration,
    Envelope,
    EnvelopeType,
    Stamp,
    check_envelope,
    check_key,
    check_policy,
)
from ..errors import InvalidEnvelopeError
from ..policy import PolicyOptions, checked_type
from ..results import EntryView, QueueState, QueueStats, StopReport
from ..schedules import Schedule
from ..text import bounded_repr, class_name, error_text
from . import process
from .clock import Clock
from .delivery import Delivery
from .letters import Letters
from .options import Options, refuse_coroutines
from .plan import PlanBook
from .reporting import Reporter
from .rules import House, jittered
from .watched import Observed

if TYPE_CHECKING:
    from ..envelope import Handler

Q = TypeVar("Q")
AT_ONCE = 0  # the default of delay, told by identity: False is not it


def _advice(value: object) -> str:
    """What to do with *value* instead of sending it."""
    if isinstance(value, EnvelopeType):
        return ": use its .envelope(payload)"
    if callable(value):
        return ": use Envelope(function)"
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return ": use send(*envelopes)"
    return ""


class QueueFront(Observed, Letters):
    """Everything of a queue that is a plain call in every flavour."""

    def __init__(self, options: Options) -> None:
        self._name = options.name
        self._options = options
        self._clock = options.clock
        self._clock_now = options.clock.now
        self._reporter = Reporter(options.name, self._on_interrupt(), self._retire)
        for observer in options.observers:
            self._reporter.add(observer, self._reporter.methods_of(observer))
        self._types: dict[str, EnvelopeType[Any]] = {}
        self._house = House(
            self._clock_now, options.clock.wall_utc, options.backoff, self._reporter, self._randomness(),
            is_strict=options.is_strict,
        )  # fmt: skip
        machine = Machine(
            self._clock_now, capacity=options.capacity, workers=options.workers, is_replacing=options.is_replacing,
            rate=options.start_rate,
            is_capturing=options.captures_context, plain_for=self._plain_for(),
        )  # fmt: skip
        delivery = Delivery(
            self._reporter, options.clock.wall_utc, letter_limit=options.dead_letter_limit, forget=self._house.forget,
            on_cancel=self._cancel_runs, on_sweep=self._sweep, on_stopped=self._stopped,
        )  # fmt: skip
        self._letters = delivery.letters
        super().__init__(machine, delivery, self._new_plans(options.stamps, options.hook_fraction, options.hook_floor))
        self._watch()
        process.register(self)

    def _limiters(self) -> tuple[object, ...]:
        return self._options.backoff, self._options.start_rate

    def _randomness(self) -> Callable[[], float]:
        return random.Random().random

    def _on_interrupt(self) -> Callable[[BaseException], None] | None:
        """Whom to give a KeyboardInterrupt that user code raised for a caller's sake."""
        return None

    def _plain_for(self) -> str:
        """The mark of the envelopes that need no question here."""
        return THREADS

    def _new_plans(self, stamps: tuple[Stamp, ...], fraction: float, floor: float) -> PlanBook:
        return PlanBook(stamps, fraction=fraction, floor=floor)

    def _cancel_runs(self, scope: Any) -> None:
        """The contexts of all runs under *scope* end now."""
        raise NotImplementedError

    def _stopped(self, ticket: Any) -> None:
        """A stop has ended."""
        raise NotImplementedError

    def _exit(self, timeout: float) -> None:
        """The interpreter exits."""
        raise NotImplementedError

    def _sweep(self) -> None:
        machine = self._machine
        while machine.ticket is not None and machine.ticket.sweeps:
            self._call(machine.tick, self._clock_now())

    # Sending

    def send(self, *envelopes: Envelope[Any], delay: Duration = AT_ONCE) -> int:
        """Take in all *envelopes* or none; how many became new entries (a duplicate merges into the one that is there).

        *delay* seconds pass before they may run. Never blocks. Raises `CapacityExceededError` when the new ones do not
        fit, `QueueNotRunningError` while stopping or stopped, `QueueTerminatedError`, `InvalidEnvelopeError`; after any
        of them nothing has changed. Before `start`, envelopes wait in the queue.
        """
        if delay is not AT_ONCE:
            return self._send(envelopes, delay)
        machine = self._machine
        new = wake = None
        is_inside = False
        try:
            self._acquire()
            if not machine.is_busy:
                machine.is_busy = is_inside = True
                new = machine.send_one(envelopes[0]) if len(envelopes) == 1 else machine.send_many(envelopes)
                if self._idle:
                    wake = self._parking.next_wake()
                machine.is_busy = is_inside = False
            self._release()
        except (AttributeError, TypeError):  # no envelope, or a subclass that cannot be hashed: `_check` says which
            self._abort_section(is_inside)
            new = None
        except BaseException:
            if is_inside:  # not by a method: after a RecursionError there may be no frame for it
                machine.is_busy = False
                self._release()
            else:
                self._abort_section(is_inside=False)
            raise
        finally:
            if wake is not None:
                wake.release()
        return self._send(envelopes, delay) if new is None else new

    def _send(
        self, envelopes: tuple[Envelope[Any], ...], delay: Duration, admit: Callable[..., int] | None = None
    ) -> int:
        self._check(envelopes)
        try:
            span = nonnegative(delay, "delay")
        except (TypeError, ValueError) as error:
            raise InvalidEnvelopeError(str(error)) from None
        starts = self._starts(envelopes, span)
        due = self._clock_now() + span if span else None
        context = self._sender_context()
        return self._call(admit or self._machine.send, envelopes, due, starts, None, context)

    def _sender_context(self) -> Any:
        return copy_context() if self._machine.is_capturing else None

    def _check(self, envelopes: tuple[object, ...]) -> None:
        for envelope in envelopes:
            if not isinstance(envelope, Envelope):
                raise InvalidEnvelopeError(
                    f"envelopes must be Envelope objects, not {bounded_repr(envelope)}{_advice(envelope)}"
                )
            check_envelope(envelope)
            self._check_colour(envelope)

    def _check_colour(self, envelope: Envelope[Any]) -> None:
        policy = envelope._policy
        if policy.has_coroutines:
            hooks = (policy.before_hook, policy.after_hook, policy.success_hook, policy.failure_hook)
            refuse_coroutines((policy.invoke,), "invoke")
            refuse_coroutines(hooks, "a hook")
            refuse_coroutines(policy.stamps, "a stamp")

    def _starts(self, envelopes: tuple[Envelope[Any], ...], delay: float) -> Starts | None:
        """When the periodics among *envelopes* first run. Their schedules are user code: asked before the lock."""
        starts: dict[Envelope, tuple[float, float | None]] = {}
        for envelope in envelopes:
            timetable = envelope._policy.timetable
            if timetable is not None:
                now = self._clock_now()
                wall = self._clock.wall_utc()
                if delay:
                    wall += timedelta(seconds=delay)
                planned, due = self._first(timetable, now + delay, wall)
                starts[envelope] = (planned, due if due > now else None)
        return starts or None

    def _first(self, timetable: Schedule, now: float, wall_utc: datetime) -> tuple[float, float]:
        """When *timetable* wants its first run, and when that will be."""
        answer: object = timetable.first(now=now, wall_utc=wall_utc)
        try:
            if isinstance(answer, bool) or not isinstance(answer, (int, float, Real)):
                raise TypeError(f"first() must answer an instant as a number, not {bounded_repr(answer)}")
            planned = float(answer)
            return planned, jittered(planned, timetable.jitter if planned > now else 0.0, self._house.random)
        except Exception as error:
            raise InvalidEnvelopeError(
                f"schedule {class_name(timetable)} gives no first run: {error_text(error, 200)}"
            ) from error

    def cancel(self, envelope_or_key: Envelope[Any] | Hashable) -> bool:
        """Take an entry out. Waiting or delayed: it is returned. Running: not interrupted, but its last run.

        False when there is no such entry. Never blocks.
        """
        if isinstance(envelope_or_key, Envelope):
            check_envelope(envelope_or_key)
            key = key_of(envelope_or_key)
        else:
            key = envelope_or_key
            check_key(key)
        return self._call(self._machine.cancel, key)

    def clear(self) -> list[Envelope[Any]]:
        """Return everything that does not run, in order of acceptance; what runs is cancelled as by `cancel`."""
        return self._call(self._machine.clear)

    def pause(self) -> None:
        """Start no run until `resume`; what runs goes on, and `send` takes in as before. Survives stop and start."""
        self._call(self._machine.pause)

    def resume(self) -> None:
        """End a `pause`."""
        self._call(self._machine.resume)

    # Reading

    @property
    def name(self) -> str:
        """What logs and metrics call it."""
        return self._name

    @property
    def clock(self) -> Clock:
        """The clock it was made with."""
        self._refuse_if_forked()
        return self._clock

    @property
    def capacity(self) -> int | None:
        """The most entries at a time; None for no limit."""
        self._refuse_if_forked()
        return self._options.capacity

    @property
    def state(self) -> QueueState:
        """Where it is in its life."""
        self._refuse_if_forked()
        return self._machine.state

    @property
    def is_paused(self) -> bool:
        """Whether it was paused and not resumed, in whatever state."""
        self._refuse_if_forked()
        return self._machine.is_paused

    @property
    def last_report(self) -> StopReport | None:
        """The report of the last stop that has ended, or None."""
        return self._call(self._read_last_report)

    def _read_last_report(self) -> StopReport | None:
        return self._machine.last_report  # in a section, since it goes with the state

    def stats(self) -> QueueStats:
        """One consistent count of everything."""
        return self._call(self._machine.stats)

    def snapshot(self, limit: int = 1000) -> tuple[EntryView, ...]:
        """The first *limit* entries in order of acceptance, as they are at one moment."""
        most = whole(limit, "limit", least=0)
        return tuple(self._call(self._machine.snapshot, most))

    def next_due(self, limit: int = 20) -> tuple[EntryView, ...]:
        """What is delayed, the next due first, at most *limit* entries; it costs that many, not as many as there are.

        Right after very many entries have been cancelled it may show fewer.
        """
        most = whole(limit, "limit", least=0)
        return tuple(self._call(reading.next_due, self._machine, most))

    def __len__(self) -> int:
        return self._call(len, self._machine.entries)  # in a section: never in the middle of a batch

    def __bool__(self) -> bool:
        return True  # an empty queue is still a queue

    def __repr__(self) -> str:
        state, entries = self._machine.state.value, len(self._machine.entries)
        return f"<{type(self).__name__} {bounded_repr(self._name)} {state}, {entries} entries>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a queue cannot be pickled or copied: send its envelopes' payloads, and make a queue there")

    # Handlers

    @overload
    def handler(self, type: Handler[Q], **policy: Unpack[PolicyOptions]) -> EnvelopeType[Q]: ...

    @overload
    def handler(self, type: str, **policy: Unpack[PolicyOptions]) -> Callable[[Handler[Q]], EnvelopeType[Q]]: ...

    def handler(self, type: Any, **policy: Unpack[PolicyOptions]) -> Any:
        """A decorator that makes an `EnvelopeType` of a function: `@queue.handler("email", deadline=3)`.

        Without a type, as `@queue.handler`, the type is the function's name. Raises `InvalidEnvelopeError` when the
        type has a handler already.
        """
        self._refuse_if_forked()
        check_policy(policy, "handler()")
        if not callable(type):
            self._check_new_type(type)
            return lambda invoke: self._add_handler(type, invoke, policy)
        name = getattr(type, "__name__", None)
        if name is None:
            raise InvalidEnvelopeError(f"type must be given for what has no __name__: {bounded_repr(type)}")
        return self._add_handler(name, type, policy)

    def _check_new_type(self, type: object) -> None:
        if checked_type(type) in self._types:
            raise InvalidEnvelopeError(f"type {bounded_repr(type)} has a handler already: choose another type")

    def _add_handler(self, type: str, invoke: Callable[..., Any], policy: PolicyOptions) -> EnvelopeType[Any]:
        self._check_new_type(type)
        kind: EnvelopeType[Any] = EnvelopeType(type, invoke=invoke, **policy)
        self._check_colour(kind.envelope(None))
        self._types[type] = kind
        return kind

    def _note_kept(self, report: StopReport) -> None:
        one_offs = sum(not envelope.is_periodic for envelope in report.kept)
        if report.kept:
            self._reporter.kept(one_offs, len(report.kept) - one_offs)
