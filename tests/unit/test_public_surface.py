"""The public surface: the names, their documentation, their signatures, and the values and errors behind them."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from types import ModuleType
from typing import Any

import pytest

import rate_envelope_queue as package
from rate_envelope_queue import (
    CapacityExceededError,
    Context,
    DeadLetter,
    Decision,
    Envelope,
    EnvelopeQueue,
    EnvelopeType,
    Outcome,
    QueueState,
    QueueStats,
    RetryEnvelope,
    StopMode,
    StopReport,
    drop,
    retry_after,
    retry_now,
    retry_with_backoff,
)
from rate_envelope_queue.decision import DecisionKind
from rate_envelope_queue.testing import SimulatedEnvelopeQueue

# What the contract names, module by module; a module may have more.
NAMES = {
    "rate_envelope_queue": """
        EnvelopeQueue Envelope EnvelopeType Context Outcome StopMode StopReport QueueState QueueStats DeadLetter
        drop retry_now retry_after retry_with_backoff Decision StopEnvelope RetryEnvelope logging_stamp events
        Measured Histogram
        EnvelopeQueueError InvalidEnvelopeError InvalidIntervalError QueueStateError QueueNotRunningError
        QueueTerminatedError CapacityExceededError DeadlineExceeded Cancelled
    """,
    "rate_envelope_queue.schedules": "every fixed_rate cron Schedule",
    "rate_envelope_queue.workqueue": """
        WorkQueue ShutDown RateLimiter ExponentialBackoff FastSlow TokenBucket MaxOf MaxWait default_controller_limiter
    """,
    "rate_envelope_queue.testing": "VirtualClock SimulatedEnvelopeQueue assert_sent assert_not_sent sent",
    "rate_envelope_queue.prometheus": "register unregister",
    "rate_envelope_queue.events": """
        Observer Accepted Coalesced Refused Started Succeeded Failed Stopped Cancelled Late Ended HookFailed Retried
        Dropped Stuck Abandoned StateChanged OBSERVABLE
    """,
}


def public_names(module: ModuleType) -> list[str]:
    """What the module offers: its `__all__`, or the public names that it makes itself."""
    offered = getattr(module, "__all__", None)
    if offered is not None:
        return sorted(offered)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )


def public_methods(cls: type) -> dict[str, Any]:
    """The public methods and properties of *cls*, its own and those of our classes that it derives from."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith(package.__name__) and not issubclass(base, Enum):
            found |= {name: value for name, value in vars(base).items() if not name.startswith("_")}
    return {name: value for name, value in found.items() if is_method(value)}


def is_method(value: object) -> bool:
    """Whether it is something that is called or computed, not a field."""
    return inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod))


OFFERED = [
    pytest.param(getattr(importlib.import_module(module), name), id=f"{module.removeprefix('rate_envelope_')}.{name}")
    for module in NAMES
    for name in public_names(importlib.import_module(module))
    if name not in ("events", "OBSERVABLE", "OTHER")  # a module and constants
]
CLASSES = [case for case in OFFERED if isinstance(case.values[0], type)]


# Names and documentation


@pytest.mark.parametrize("module", NAMES)
def test_the_names_are_there(module: str) -> None:
    """Every name of the contract can be imported from where the contract says, and is offered there."""
    offered = importlib.import_module(module)
    missing = set(NAMES[module].split()) - set(dir(offered))
    assert missing == set()
    if hasattr(offered, "__all__"):
        assert set(NAMES[module].split()) <= set(offered.__all__)
        assert len(offered.__all__) == len(set(offered.__all__))
        assert all(hasattr(offered, name) for name in offered.__all__)


def test_the_package_offers_nothing_else() -> None:
    """A star import brings exactly `__all__`; the public names of the package are those, and its modules."""
    namespace: dict[str, Any] = {}
    exec("from rate_envelope_queue import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(package.__all__)
    others = {name for name in vars(package) if not name.startswith("_")} - set(package.__all__)
    assert {name for name in others if not isinstance(getattr(package, name), ModuleType)} == set()


@pytest.mark.parametrize("value", OFFERED)
def test_it_is_documented(value: Any) -> None:
    """Each class and function has a docstring of its own, not the one that a dataclass would make up."""
    doc = (value.__doc__ or "").strip()
    assert doc
    assert not doc.startswith(f"{value.__name__}(")


@pytest.mark.parametrize("cls", CLASSES)
def test_its_methods_are_documented(cls: type) -> None:
    """Each public method and property of a public class has a docstring, its own or the one it overrides."""
    undocumented = [name for name in public_methods(cls) if not (inspect.getdoc(getattr(cls, name)) or "").strip()]
    assert undocumented == []


def test_the_documentation_is_looked_at() -> None:
    """The tests above see classes with many methods, and inherited ones."""
    assert {"send", "stop", "dead_letters", "lifespan", "state"} <= set(public_methods(EnvelopeQueue))
    assert {"send", "advance", "clock"} <= set(public_methods(SimulatedEnvelopeQueue))
    assert len(CLASSES) > 30


# Signatures


def shape(function: Callable[..., Any]) -> str:
    """The parameters of *function* and their defaults, without annotations."""
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


SIGNATURES = {
    Envelope.__init__: "(self, invoke, *, id=None, type='', payload=None, key=None, interval=None, schedule=None, "
    "deadline=None, priority=0, max_attempts=25, before_hook=None, after_hook=None, success_hook=None, "
    "failure_hook=None, stamps=())",
    Envelope.once: "(invoke, payload=None, *, deadline=None, **options)",
    Envelope.every: "(interval, invoke, payload=None, *, deadline=None, **options)",
    EnvelopeQueue.__init__: "(self, name, *, workers=4, capacity=1000000, stop_mode=<StopMode.DRAIN: 'drain'>, "
    "wait_on_stop=True, stamps=(), backoff=None, start_rate=None, duplicates='keep', strict_deadline=False, "
    "hook_timeout_fraction=0.5, hook_timeout_floor=0.8, stuck_after=None, capture_context=False, "
    "dead_letter_limit=1000, clock=None, observers=())",
    EnvelopeQueue.start: "(self)",
    EnvelopeQueue.stop: "(self, mode=None, *, wait=None, timeout=None, grace=1.0)",
    EnvelopeQueue.terminate: "(self, *, wait=None, timeout=None, grace=1.0)",
    EnvelopeQueue.stats: "(self)",
    EnvelopeQueue.send: "(self, *envelopes, delay=0)",
    EnvelopeQueue.send_wait: "(self, *envelopes, timeout=None)",
    EnvelopeQueue.submit: "(self, envelope)",
    EnvelopeQueue.cancel: "(self, envelope_or_key)",
    EnvelopeQueue.clear: "(self)",
    EnvelopeQueue.join: "(self, timeout=None)",
    EnvelopeQueue.pause: "(self)",
    EnvelopeQueue.resume: "(self)",
    EnvelopeQueue.resize: "(self, workers)",
    EnvelopeQueue.add_observer: "(self, observer)",
    EnvelopeQueue.remove_observer: "(self, observer)",
    EnvelopeQueue.start_measuring: "(self)",
    EnvelopeQueue.stop_measuring: "(self)",
    EnvelopeQueue.measured: "(self)",
    EnvelopeQueue.dead_letters: "(self)",
    EnvelopeQueue.clear_dead_letters: "(self)",
    EnvelopeQueue.retry_dead_letter: "(self, letter)",
    EnvelopeQueue.snapshot: "(self, limit=1000)",
    EnvelopeQueue.next_due: "(self, limit=20)",
    EnvelopeQueue.run: "(self, *, timeout=None, grace=1.0)",
    EnvelopeQueue.handler: "(self, type, **policy)",
    EnvelopeQueue.as_executor: "(self)",
    EnvelopeType.__init__: "(self, type, *, invoke, payload=None, **policy)",
    EnvelopeType.envelope: "(self, payload=None, *, id=None, key=None, **overrides)",
    Context.wait: "(self, seconds=None)",
    Context.remaining: "(self)",
    Context.check: "(self)",
    drop: "(reason=None)",
    retry_now: "()",
    retry_after: "(after)",
    retry_with_backoff: "()",
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_a_signature(function: Callable[..., Any]) -> None:
    """The parameters, which of them are keyword-only, and the defaults are those of the contract."""
    assert shape(function) == SIGNATURES[function]


@pytest.mark.parametrize("name", sorted(public_methods(EnvelopeQueue)))
def test_the_simulated_queue_has_the_same_methods(name: str) -> None:
    """What is written for `EnvelopeQueue` is called in the same way on `SimulatedEnvelopeQueue`."""
    real, simulated = getattr(EnvelopeQueue, name), getattr(SimulatedEnvelopeQueue, name)
    assert type(simulated) is type(real)
    if callable(real):
        assert shape(simulated) == shape(real)


def test_the_simulated_queue_has_the_same_options() -> None:
    """Its constructor takes every option of `EnvelopeQueue`, with the same default, and no other."""
    options = {
        name: each.default
        for name, each in inspect.signature(EnvelopeQueue).parameters.items()
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert len(options) == 16
    queue = SimulatedEnvelopeQueue("test", **options)
    assert queue.stats() == SimulatedEnvelopeQueue("test").stats()
    with pytest.raises(TypeError, match="unknown"):
        SimulatedEnvelopeQueue("test", unknown=1)


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (EnvelopeQueue, "state name last_report clock is_paused capacity"),
        (Context, "deadline done stopping attempt queue"),
        (
            Envelope,
            "invoke id type key interval schedule deadline priority max_attempts before_hook after_hook success_hook "
            "failure_hook stamps",
        ),
    ],
)
def test_what_is_read_as_an_attribute(cls: type, names: str) -> None:
    """These are properties, and cannot be assigned."""
    for name in names.split():
        assert isinstance(getattr(cls, name), property)
        assert getattr(cls, name).fset is None


# Values


FIELDS = {
    QueueStats: "accepted succeeded stopped dropped returned abandoned coalesced refused buffered ready delayed "
    "running occupancy runs_started runs_succeeded runs_failed runs_cancelled runs_stopped runs_abandoned "
    "abandoned_ended late workers state",
    StopReport: "mode state waited timed_out elapsed kept returned abandoned succeeded dropped initiated_from_handler",
    DeadLetter: "envelope error reason attempts at_utc",
}
LETTER = DeadLetter(Envelope(print), "ValueError: no", None, 1, datetime(2024, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("cls", FIELDS, ids=lambda cls: cls.__name__)
def test_the_fields_of_a_value(cls: type) -> None:
    """The contract's fields come first and in its order; more may follow."""
    assert dataclasses.is_dataclass(cls)
    fields = [field.name for field in dataclasses.fields(cls)]
    assert fields[: len(FIELDS[cls].split())] == FIELDS[cls].split()


@pytest.mark.parametrize(
    "value",
    [SimulatedEnvelopeQueue("test").stats(), SimulatedEnvelopeQueue("test").stop(), LETTER, drop("no"), retry_now()],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_immutable(value: Any) -> None:
    """No field can be assigned or deleted, and no attribute added; equal values are equal and hash alike."""
    fields = [name for name in dir(value) if not name.startswith("_") and not callable(getattr(value, name))]
    assert fields
    for name in [*fields, "something_new"]:
        with pytest.raises((AttributeError, TypeError)):
            setattr(value, name, None)
    for name in fields:
        with pytest.raises((AttributeError, TypeError)):
            delattr(value, name)
        assert getattr(value, name) == getattr(value, name)
    if not isinstance(value, DeadLetter):
        again = copy.copy(value)
        assert (again, hash(again)) == (value, hash(value))


def test_a_report_lists_envelopes_in_tuples() -> None:
    """What a report lists cannot be changed through it."""
    queue = SimulatedEnvelopeQueue("test")
    envelope = Envelope(print)
    queue.start()
    queue.send(envelope)
    report = queue.terminate()
    assert (report.kept, report.returned, report.abandoned) == ((), (envelope,), ())


@pytest.mark.parametrize(
    ("enum", "members"),
    [
        (Outcome, "SUCCEEDED STOPPED DROPPED RETURNED ABANDONED"),
        (QueueState, "INIT RUNNING STOPPING STOPPED TERMINATED"),
        (StopMode, "DRAIN STOP"),
        (DecisionKind, "DROP RETRY_NOW RETRY_AFTER RETRY_WITH_BACKOFF"),
    ],
)
def test_the_members_of_an_enum(enum: type[Enum], members: str) -> None:
    """These and no others; the value of each is its name in lower case, as it stands in logs and metrics."""
    assert [member.name for member in enum] == members.split()
    assert [member.value for member in enum] == members.lower().split()


@pytest.mark.parametrize(
    ("decision", "facts"),
    [
        (drop(), (DecisionKind.DROP, None, None)),
        (drop("no"), (DecisionKind.DROP, None, "no")),
        (retry_now(), (DecisionKind.RETRY_NOW, None, None)),
        (retry_after(3), (DecisionKind.RETRY_AFTER, 3.0, None)),
        (retry_with_backoff(), (DecisionKind.RETRY_WITH_BACKOFF, None, None)),
    ],
    ids=repr,
)
def test_what_a_decision_says(decision: Decision, facts: tuple[Any, ...]) -> None:
    """A decision has a kind, a time for `retry_after` alone, and the reason given to `drop`."""
    assert (decision.kind, decision.after, decision.reason) == facts


# Errors


HIERARCHY: dict[str, list[str | type[Exception]]] = {
    "EnvelopeQueueError": [Exception],
    "InvalidEnvelopeError": ["EnvelopeQueueError", ValueError],
    "InvalidIntervalError": ["InvalidEnvelopeError"],
    "QueueStateError": ["EnvelopeQueueError"],
    "QueueNotRunningError": ["QueueStateError"],
    "QueueTerminatedError": ["QueueStateError"],
    "CapacityExceededError": ["EnvelopeQueueError"],
    "DeadlineExceeded": ["EnvelopeQueueError", TimeoutError],
    "Cancelled": ["EnvelopeQueueError"],
    "StopEnvelope": [Exception],
    "RetryEnvelope": [Exception],
}


@pytest.mark.parametrize("name", HIERARCHY)
def test_the_bases_of_an_error(name: str) -> None:
    """One root for what is wrong; what a handler raises on purpose stands outside it."""
    bases = [getattr(package, base) if isinstance(base, str) else base for base in HIERARCHY[name]]
    assert list(getattr(package, name).__bases__) == bases


def test_every_error_is_in_the_hierarchy() -> None:
    """No exception of the package is missing above."""
    offered = {name for name in package.__all__ if inspect.isclass(getattr(package, name))}
    assert {name for name in offered if issubclass(getattr(package, name), BaseException)} == set(HIERARCHY)


def test_errors_can_be_pickled() -> None:
    """An error that crosses a process keeps its text and its facts."""
    full = pickle.loads(pickle.dumps(CapacityExceededError(10, 9, 2)))
    assert (full.capacity, full.occupancy, full.needed, str(full)) == (10, 9, 2, str(CapacityExceededError(10, 9, 2)))
    for name in HIERARCHY:
        if name not in ("CapacityExceededError", "RetryEnvelope"):
            assert pickle.loads(pickle.dumps(getattr(package, name)("text"))).args == ("text",)
    assert pickle.loads(pickle.dumps(RetryEnvelope(3))).after == 3.0


# What cannot be copied


@pytest.mark.parametrize(
    "value",
    [EnvelopeQueue("q"), SimulatedEnvelopeQueue("q"), Envelope(print), Envelope(print, key=1, payload="p")],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, *(lambda value, p=p: pickle.dumps(value, p) for p in range(6))],
    ids=["copy", "deepcopy", *(f"pickle {protocol}" for protocol in range(6))],
)
def test_a_queue_or_an_envelope_cannot_be_copied(value: Any, duplicate: Callable[[Any], Any]) -> None:
    """Neither has a meaning but as itself: TypeError, which says what to do instead."""
    with pytest.raises(TypeError, match=r"cannot be pickled or copied: .*\bmake\b"):
        duplicate(value)
