"""Section A: what an envelope accepts and refuses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rate_envelope_queue import Envelope, EnvelopeType, InvalidEnvelopeError, InvalidIntervalError

from .harness import Harness


def noop(ctx: Any, envelope: Any) -> None: ...


def test_a1_without_invoke() -> None:
    """A1: no invoke is refused, naming it."""
    with pytest.raises((TypeError, InvalidEnvelopeError), match="invoke"):
        Envelope()  # type: ignore[call-arg]


@pytest.mark.parametrize("invoke", ["handler", 1, object(), b"", ()])
def test_a1_invoke_not_callable(invoke: Any) -> None:
    """A1: invoke not callable -> InvalidEnvelopeError, however the envelope is made."""
    with pytest.raises(InvalidEnvelopeError, match="invoke"):
        Envelope(invoke)
    with pytest.raises(InvalidEnvelopeError, match="invoke"):
        Envelope.once(invoke)
    with pytest.raises(InvalidEnvelopeError, match="invoke"):
        Envelope.every(1, invoke)
    with pytest.raises(InvalidEnvelopeError, match="invoke"):
        EnvelopeType("mail", invoke=invoke)


def test_a2_invoke_none() -> None:
    """A2: invoke None -> InvalidEnvelopeError."""
    nothing: Any = None
    with pytest.raises(InvalidEnvelopeError, match="invoke"):
        Envelope(nothing)
    with pytest.raises(InvalidEnvelopeError, match="invoke"):
        EnvelopeType("mail", invoke=nothing)


def test_a3_attributes_are_readable() -> None:
    """A3: id, type, stamps, payload readable as given; stamps is a tuple."""

    def stamp(next: Any) -> Any:
        return next

    envelope = Envelope(noop, id=7, type="mail", payload={"to": "ann"}, stamps=[stamp, stamp])
    assert (envelope.id, envelope.type, envelope.payload) == (7, "mail", {"to": "ann"})
    assert envelope.stamps == (stamp, stamp)
    assert type(envelope.stamps) is tuple


def test_a3_the_other_attributes_are_readable_too() -> None:
    """A3: the rest of the policy is readable as given, durations as float seconds."""

    def hook(ctx: Any, envelope: Any) -> None: ...

    def failure_hook(ctx: Any, envelope: Any, error: BaseException) -> None: ...

    envelope = Envelope(
        noop, key="k", interval=timedelta(seconds=4), deadline=2, priority=3, max_attempts=5,
        before_hook=hook, after_hook=hook, success_hook=hook, failure_hook=failure_hook,
    )  # fmt: skip
    assert envelope.invoke is noop
    assert (envelope.key, envelope.interval, envelope.deadline) == ("k", 4.0, 2.0)
    assert (envelope.priority, envelope.max_attempts) == (3, 5)
    assert (envelope.before_hook, envelope.after_hook, envelope.success_hook) == (hook, hook, hook)
    assert envelope.failure_hook is failure_hook


def test_a3_defaults() -> None:
    """A3: what was not given has the defaults of the contract."""
    envelope = Envelope(noop)
    assert (envelope.id, envelope.type, envelope.payload, envelope.key) == (None, "", None, None)
    assert (envelope.interval, envelope.schedule, envelope.deadline) == (None, None, None)
    assert (envelope.priority, envelope.max_attempts, envelope.stamps) == (0, 25, ())


def test_a3_only_the_payload_can_be_assigned() -> None:
    """A3 (CONTRACT 2): only payload can be assigned."""
    envelope = Envelope(noop, payload=1)
    envelope.payload = 2
    assert envelope.payload == 2
    for name in ("id", "type", "key", "invoke", "interval", "deadline", "priority", "stamps", "anything"):
        with pytest.raises(AttributeError):
            setattr(envelope, name, None)


def test_a3_envelopes_compare_by_identity() -> None:
    """A3 (CONTRACT 2): envelopes compare by identity."""
    one, other = Envelope(noop, id=1, payload=1, key="k"), Envelope(noop, id=1, payload=1, key="k")
    assert one != other
    assert len({one, other}) == 2


def test_a3_once_and_every() -> None:
    """A3 (CONTRACT 2): Envelope.once makes a one-off, Envelope.every a periodic; both take the payload second."""
    once = Envelope.once(noop, "p", deadline=3, type="mail")
    assert (once.payload, once.interval, once.deadline, once.type) == ("p", None, 3.0, "mail")
    every = Envelope.every(5, noop, "p", deadline=3, id=1)
    assert (every.payload, every.interval, every.deadline, every.id) == ("p", 5.0, 3.0, 1)


BAD_DURATIONS = [
    pytest.param(-1, id="negative"),
    pytest.param(-0.001, id="slightly negative"),
    pytest.param(float("nan"), id="NaN"),
    pytest.param(float("inf"), id="infinite"),
    pytest.param(float("-inf"), id="minus infinite"),
    pytest.param(True, id="True"),
    pytest.param(False, id="False"),
    pytest.param("3", id="text"),
    pytest.param(1e300, id="overflow"),
    pytest.param(10**400, id="huge int"),
    pytest.param(3j, id="complex"),
    pytest.param(timedelta(seconds=-1), id="negative timedelta"),
    pytest.param(timedelta.max, id="timedelta.max"),
]


@pytest.mark.parametrize("name", ["interval", "deadline"])
@pytest.mark.parametrize("value", BAD_DURATIONS)
def test_a4_bad_interval_or_deadline(name: str, value: Any) -> None:
    """A4: a negative, NaN, infinite or bool interval or deadline -> InvalidEnvelopeError that names it."""
    with pytest.raises(InvalidEnvelopeError, match=name):
        Envelope(noop, **{name: value})


@pytest.mark.parametrize("value", BAD_DURATIONS)
def test_a4_bad_interval_of_every_and_deadline_of_once(value: Any) -> None:
    """A4: Envelope.every and Envelope.once refuse the same durations."""
    with pytest.raises(InvalidEnvelopeError, match="interval"):
        Envelope.every(value, noop)
    with pytest.raises(InvalidEnvelopeError, match="deadline"):
        Envelope.once(noop, deadline=value)


@pytest.mark.parametrize("value", [*BAD_DURATIONS, pytest.param(None, id="None")])
def test_a4_bad_delay(h: Harness, value: Any) -> None:
    """A4: a negative, NaN, infinite or bool delay -> InvalidEnvelopeError that names it, and nothing is sent."""
    queue = h.queue()
    with pytest.raises(InvalidEnvelopeError, match="delay"):
        queue.send(Envelope(noop), delay=value)
    assert len(queue) == 0


@pytest.mark.parametrize("name", ["interval", "deadline"])
@pytest.mark.parametrize("value", [0, 0.0, -0.0, timedelta(0)])
def test_a4_zero_says_use_none(name: str, value: Any) -> None:
    """A4 (CONTRACT 1): interval=0 and deadline=0 are refused with "use None"."""
    with pytest.raises(InvalidEnvelopeError, match=f"(?s){name}.*use None"):
        Envelope(noop, **{name: value})


def test_a4_a_timedelta_is_a_duration(h: Harness) -> None:
    """A4 (CONTRACT 1): a duration is float seconds or a timedelta."""
    queue = h.queue()
    queue.start()
    sent_at = h.now()
    assert queue.send(Envelope(h.handler("ran")), delay=timedelta(seconds=h.s(2))) == 1
    h.until(lambda: h.times("ran"))
    assert h.times("ran")[0] - sent_at == h.about(2)
    assert Envelope(noop, deadline=timedelta(milliseconds=1500)).deadline == 1.5


def test_a5_deadline_longer_than_interval() -> None:
    """A5: deadline 3 s with interval 1 s -> InvalidIntervalError; equal accepted."""
    with pytest.raises(InvalidIntervalError):
        Envelope(noop, interval=1, deadline=3)
    with pytest.raises(InvalidIntervalError):
        Envelope.every(1, noop, deadline=3)
    assert Envelope(noop, interval=1, deadline=1).deadline == 1.0
    assert Envelope(noop, interval=3, deadline=1).interval == 3.0
