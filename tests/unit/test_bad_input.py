"""Bad input: every argument of every public call is checked where it is given, and the message names it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from rate_envelope_queue import (
    Cancelled,
    CapacityExceededError,
    DeadlineExceeded,
    Decision,
    Envelope,
    EnvelopeQueue,
    EnvelopeQueueError,
    EnvelopeType,
    InvalidEnvelopeError,
    InvalidIntervalError,
    QueueNotRunningError,
    QueueState,
    QueueStateError,
    QueueTerminatedError,
    RetryEnvelope,
    StopEnvelope,
    drop,
    logging_stamp,
    retry_after,
)
from rate_envelope_queue.decision import DecisionKind
from rate_envelope_queue.events import Observer
from rate_envelope_queue.schedules import cron, every, fixed_rate
from rate_envelope_queue.testing import SimulatedEnvelopeQueue
from rate_envelope_queue.workqueue import ExponentialBackoff, FastSlow, MaxOf, MaxWait, TokenBucket, WorkQueue

NAN, INFINITE = float("nan"), float("inf")
NO_DURATION = [-1, -0.001, NAN, INFINITE, -INFINITE, True, False, "1", 1e300, 10**400, [], timedelta(-1), timedelta.max]
NO_COUNT = [0, -1, 1.5, NAN, True, "4", None, []]
NO_BOOL = ["yes", None, 2, 1.0, []]
WRONG = (TypeError, ValueError)


def noop(ctx: Any, envelope: Any) -> None: ...


async def coroutine(ctx: Any, envelope: Any) -> None: ...


class AsyncCallable:
    async def __call__(self, ctx: Any, envelope: Any) -> None: ...


@pytest.fixture(params=[EnvelopeQueue, SimulatedEnvelopeQueue])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The constructor of a queue."""
    constructor: Callable[..., Any] = request.param
    return constructor


@pytest.fixture(params=["init", "running"])
def queue(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A simulated queue, in INIT and running; at the end it must be as it was, and empty."""
    queue = SimulatedEnvelopeQueue("q")
    if request.param == "running":
        queue.start()
    state = queue.state
    yield queue
    assert (queue.state, len(queue), queue.stats().accepted) == (state, 0, 0)
    queue.terminate()


# The constructor of a queue


BAD_OPTIONS = {
    "workers": NO_COUNT,
    "capacity": [0, -1, 1.5, NAN, True, "many", []],
    "stop_mode": ["now", 1, True, None, object()],
    "wait_on_stop": NO_BOOL,
    "stamps": [5, None, "stamp", b"stamp", [None], [1], (noop, "stamp")],
    "backoff": [5, "exponential", object(), ExponentialBackoff, noop, True],
    "start_rate": [0, -1, NAN, INFINITE, True, "fast", [], timedelta(1), ExponentialBackoff(1, 2), TokenBucket],
    "duplicates": ["merge", "KEEP", "", None, True, 1],
    "strict_deadline": NO_BOOL,
    "hook_timeout_fraction": [-1, -0.1, NAN, INFINITE, True, "half", None, []],
    "hook_timeout_floor": NO_DURATION,
    "stuck_after": NO_DURATION,
    "capture_context": NO_BOOL,
    "dead_letter_limit": [-1, 1.5, NAN, True, "few", []],
    "clock": [5, "now", object(), noop],
    "observers": [5, None, "observer", [object()], [5]],
}


@pytest.mark.parametrize(("option", "value"), [(name, value) for name, bad in BAD_OPTIONS.items() for value in bad])
def test_a_wrong_queue_option(make: Callable[..., Any], option: str, value: Any) -> None:
    """CONTRACT 2: wrong queue options raise ValueError or TypeError naming the option."""
    with pytest.raises(WRONG, match=option):
        make("q", **{option: value})


BEYOND = {
    "workers": [10**5000, -(10**5000), 10**30],
    "capacity": [-(10**5000)],
    "start_rate": [10**400, 10**5000, -(10**5000), 5e-324],
    "hook_timeout_fraction": [10**400, 10**5000, -(10**5000)],
    "hook_timeout_floor": [10**5000, -(10**5000)],
    "stuck_after": [10**5000, -(10**5000)],
    "dead_letter_limit": [10**30, 10**5000, -(10**5000)],
}


@pytest.mark.parametrize(
    ("option", "value"),
    [pytest.param(name, bad[at], id=f"{name} {at}") for name, bad in BEYOND.items() for at in range(len(bad))],
)
def test_a_queue_option_beyond_all_bounds(make: Callable[..., Any], option: str, value: Any) -> None:
    """CONTRACT 2: wrong queue options raise ValueError naming the option, in one bounded sentence, however large."""
    with pytest.raises(ValueError, match=f"^{option} must be ") as caught:
        make("q", **{option: value})
    assert len(str(caught.value)) < 300
    assert caught.value.__class__ is ValueError


def test_the_largest_options(make: Callable[..., Any]) -> None:
    """CONTRACT 2: what is only large is taken."""
    queue = make("q", capacity=10**5000, start_rate=1e300, dead_letter_limit=10**18)
    assert queue.send(Envelope(noop)) == 1
    queue.terminate()


def test_a_burst_beyond_all_bounds() -> None:
    """CONTRACT 10: TokenBucket refuses a burst that it could not count, by name."""
    with pytest.raises(ValueError, match=r"^burst must be "):
        TokenBucket(1, burst=10**400)


@pytest.mark.parametrize("name", ["deadline", "interval", "stuck_after"])
@pytest.mark.parametrize("value", [0, -1, -0.5, timedelta(0), timedelta(-1)])
def test_a_limit_that_is_not_above_zero(name: str, value: Any) -> None:
    """CONTRACT 1: deadline, interval and stuck_after must be more than 0; the message says so, and to use None."""
    with pytest.raises(ValueError, match=rf"^{name} must be more than 0 seconds, not .+: use None for no {name}"):
        EnvelopeQueue("q", stuck_after=value) if name == "stuck_after" else Envelope(noop, **{name: value})


class Typo(Observer):
    """It means on_dropped."""

    def on_droped(self, event: Any) -> None: ...


class NoEvent(Observer):
    """It listens to what does not happen."""

    def on_weather(self, event: Any) -> None: ...


class AsyncObserver:
    """Nobody would await it."""

    async def on_failed(self, event: Any) -> None: ...


class LazyObserver(Observer):
    """Its method only makes a generator."""

    def on_stuck(self, event: Any) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    ("observer", "message"),
    [
        (Typo(), r"on_droped.*did you mean on_dropped\?"),
        (type("Stranger", (), {"on_droped": noop, "on_failed": noop})(), r"on_droped.*did you mean on_dropped\?"),
        (NoEvent(), r"on_weather.*on_failed"),
        (AsyncObserver(), r"on_failed of .* must be a plain method"),
        (AsyncMock(), r"on_accepted of .* must be a plain method"),
        (LazyObserver(), r"on_stuck of .* must be a plain method"),
    ],
    ids=["typo", "typo of a stranger", "no event", "async", "AsyncMock", "generator"],
)
def test_an_observer_that_would_hear_nothing(make: Callable[..., Any], observer: Any, message: str) -> None:
    """CONTRACT 2: an observer with a method that would never be carried out is refused, naming the method."""
    with pytest.raises(TypeError, match=f"^observers: .*{message}"):
        make("q", observers=[observer])


def test_observers_that_hear() -> None:
    """CONTRACT 2: a Mock hears all, and an object of another trade what it has a method for."""
    mock, stranger = Mock(), type("Server", (), {"on_message": noop, "on_close": noop, "on_dropped": Mock()})()
    with SimulatedEnvelopeQueue("q", observers=[mock, stranger]) as queue:
        queue.send(Envelope(lambda ctx, envelope: 1 / 0))
    assert (mock.on_failed.call_count, mock.on_dropped.call_count, stranger.on_dropped.call_count) == (1, 1, 1)
    assert mock.on_state_changed.call_count >= 2


@pytest.mark.parametrize("name", ["", None, 5, b"q", True])
def test_a_wrong_name(make: Callable[..., Any], name: Any) -> None:
    """CONTRACT 2: the name is a text that is not empty."""
    with pytest.raises(WRONG, match="name"):
        make(name)


def test_no_name(make: Callable[..., Any]) -> None:
    """CONTRACT 2: a queue has a name."""
    with pytest.raises(TypeError, match="name"):
        make()


def test_capacity_zero_says_use_none(make: Callable[..., Any]) -> None:
    """CONTRACT 1: capacity=0 is refused with "use None"."""
    with pytest.raises(ValueError, match=r"(?s)capacity.*use None"):
        make("q", capacity=0)


def test_options_are_keywords(make: Callable[..., Any]) -> None:
    """CONTRACT 2: options are given by keyword, and by the names of the contract."""
    with pytest.raises(TypeError):
        make("q", 4)
    with pytest.raises(TypeError, match="worker"):
        make("q", worker=4)


def test_a_subclass_of_token_bucket(make: Callable[..., Any]) -> None:
    """CONTRACT 5: subclasses of TokenBucket are refused as start_rate."""

    class Bucket(TokenBucket):
        pass

    with pytest.raises(WRONG, match="start_rate"):
        make("q", start_rate=Bucket(1))


def test_what_is_right_is_taken(make: Callable[..., Any]) -> None:
    """CONTRACT 2: the right values are taken, None where it means no limit, timedelta where seconds are."""
    queue = make(
        "q", workers=2, capacity=None, wait_on_stop=False, stamps=[logging_stamp()], backoff=FastSlow(0, 1, 2),
        start_rate=TokenBucket(5, burst=2), duplicates="replace", strict_deadline=True, hook_timeout_fraction=1,
        hook_timeout_floor=timedelta(seconds=1), stuck_after=timedelta(minutes=1), capture_context=True,
        dead_letter_limit=5, clock=None, observers=[Observer()],
    )  # fmt: skip
    assert queue.stats().workers == 2
    queue.terminate()


# The methods of a queue


@pytest.mark.parametrize("call", ["stop", "terminate", "send_wait", "join"])
@pytest.mark.parametrize("value", NO_DURATION)
def test_a_wrong_timeout(queue: Any, call: str, value: Any) -> None:
    """CONTRACT 1: a wrong timeout is refused by name, and nothing happens."""
    with pytest.raises(WRONG, match="timeout"):
        getattr(queue, call)(timeout=value)


@pytest.mark.parametrize("call", ["stop", "terminate"])
@pytest.mark.parametrize("value", [*NO_DURATION, None])
def test_a_wrong_grace(queue: Any, call: str, value: Any) -> None:
    """CONTRACT 1: a wrong grace is refused by name, and nothing happens."""
    with pytest.raises(WRONG, match="grace"):
        getattr(queue, call)(grace=value)


@pytest.mark.parametrize("call", ["stop", "terminate"])
@pytest.mark.parametrize("value", ["yes", 2, 1.0, []])
def test_a_wrong_wait(queue: Any, call: str, value: Any) -> None:
    """CONTRACT 2: a wrong wait is refused by name, and nothing happens."""
    with pytest.raises(WRONG, match="wait"):
        getattr(queue, call)(wait=value)


@pytest.mark.parametrize("value", ["now", 1, True, object(), QueueState.STOPPED])
def test_a_wrong_mode(queue: Any, value: Any) -> None:
    """CONTRACT 2: an unknown mode is refused by name, and nothing happens."""
    with pytest.raises(WRONG, match="mode"):
        queue.stop(value)
    with pytest.raises(WRONG, match="mode"):
        queue.stop(mode=value)


@pytest.mark.parametrize("value", [*NO_DURATION, None])
def test_a_wrong_delay(queue: Any, value: Any) -> None:
    """CONTRACT 1: a wrong delay is an InvalidEnvelopeError that names it, and nothing is sent."""
    with pytest.raises(InvalidEnvelopeError, match="delay"):
        queue.send(Envelope(noop), delay=value)


@pytest.mark.parametrize("value", NO_COUNT)
def test_a_wrong_size(queue: Any, value: Any) -> None:
    """CONTRACT 2: resize takes as many workers as the constructor would, and nothing else."""
    with pytest.raises(WRONG, match="workers"):
        queue.resize(value)


@pytest.mark.parametrize("value", [None, 5, "mail", noop, object(), Envelope, EnvelopeType("mail", invoke=noop)])
def test_what_is_no_envelope(queue: Any, value: Any) -> None:
    """CONTRACT 2: send, send_wait and submit take envelopes, and nothing else."""
    for call in (queue.send, queue.send_wait, queue.submit):
        with pytest.raises(InvalidEnvelopeError):
            call(value)


def test_a_list_of_envelopes(queue: Any) -> None:
    """CONTRACT 2: send([a, b]) says "use send(*envelopes)", and so does send_wait in its own name."""
    batch: Any = [Envelope(noop), Envelope(noop)]
    for value in (batch, tuple(batch)):
        with pytest.raises(InvalidEnvelopeError, match=r"send\(\*envelopes\)"):
            queue.send(value)
    with pytest.raises(InvalidEnvelopeError, match=r"\(\*envelopes\)"):
        queue.send_wait(batch)


def generator() -> Iterator[Any]:
    yield Envelope(noop)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (lambda: generator(), r"use send\(\*envelopes\)"),
        (dict, r"use send\(\*envelopes\)"),
        (lambda: EnvelopeType("mail", invoke=noop), r"use its \.envelope\(payload\)"),
        (lambda: noop, r"use Envelope\(function\)"),
        (lambda: partial(noop, None), r"use Envelope\(function\)"),
        (lambda: "mail", "^envelopes must be Envelope objects, not 'mail'$"),
    ],
    ids=["generator", "dict", "EnvelopeType", "function", "partial", "str"],
)
def test_advice_for_what_is_no_envelope(queue: Any, value: Callable[[], Any], advice: str) -> None:
    """CONTRACT 2: send says what to do with what is nearly an envelope."""
    for call in (queue.send, queue.send_wait, queue.submit):
        with pytest.raises(InvalidEnvelopeError, match=advice):
            call(value())


class Comparable(Envelope[Any]):
    """It has an `__eq__`, and so no hash."""

    def __eq__(self, other: object) -> bool:
        return self is other


class NotSetUp(Envelope[Any]):
    """It forgot about its base."""

    def __init__(self) -> None:
        self.payload = 5


class HashRaises:
    """A key that cannot be hashed, nor its error be shown."""

    def __hash__(self) -> int:
        raise ShyError


class ShyError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


@pytest.mark.parametrize(
    ("make_it", "advice"),
    [(lambda: Comparable(noop), r"Comparable.*hashable.*__eq__"), (NotSetUp, r"NotSetUp.*super\(\)\.__init__")],
    ids=["unhashable", "not set up"],
)
def test_a_subclass_of_envelope_that_cannot_be_sent(queue: Any, make_it: Callable[[], Any], advice: str) -> None:
    """CONTRACT 2: a subclass that cannot be in a queue is refused with the reason, alone and in a batch."""
    for call in (queue.send, queue.send_wait, queue.submit, queue.cancel, partial(queue.send, Envelope(noop))):
        with pytest.raises(InvalidEnvelopeError, match=advice):
            call(make_it())


@pytest.mark.parametrize("answer", [None, "5", INFINITE, NAN, True, 10**400], ids=lambda answer: str(answer)[:5])
def test_a_schedule_without_a_first_run(queue: Any, answer: Any) -> None:
    """CONTRACT 3: a schedule whose first answer is no instant is refused by name when its envelope is sent."""
    bad = type("Lunar", (), {"jitter": 0.0, "period": None, "next": noop, "first": lambda self, **times: answer})()
    for call in (queue.send, queue.send_wait, partial(queue.send, Envelope(noop))):
        with pytest.raises(InvalidEnvelopeError, match=r"(?s)^schedule .*Lunar.* gives no first run: "):
            call(Envelope(noop, schedule=bad))


@pytest.mark.parametrize("value", [-1, 1.5, NAN, True, "4", None, []])
def test_a_wrong_limit(queue: Any, value: Any) -> None:
    """CONTRACT 2: snapshot and next_due take a number of entries."""
    for look in (queue.snapshot, queue.next_due):
        with pytest.raises(WRONG, match="limit"):
            look(value)


@pytest.mark.parametrize("key", [[], {}, ([],), HashRaises()])
def test_cancel_of_what_cannot_be_a_key(queue: Any, key: Any) -> None:
    """CONTRACT 2: cancel takes an envelope or a key; what cannot be a key is refused by that name."""
    with pytest.raises(InvalidEnvelopeError, match="key must be hashable"):
        queue.cancel(key)
    with pytest.raises(InvalidEnvelopeError, match="key must be hashable"):
        Envelope(noop, key=key)


def test_a_sentence_for_submit_of_a_periodic(queue: Any) -> None:
    """CONTRACT 2: submit of a periodic: InvalidEnvelopeError."""
    with pytest.raises(InvalidEnvelopeError):
        queue.submit(Envelope.every(1, noop))


@pytest.mark.parametrize("seconds", [*NO_DURATION, None])
def test_advance(queue: Any, seconds: Any) -> None:
    """CONTRACT 2: advance takes seconds."""
    with pytest.raises(WRONG, match="seconds"):
        queue.advance(seconds)


@pytest.mark.parametrize("seconds", [*NO_DURATION, None])
def test_clock_sleep(seconds: Any) -> None:
    """CONTRACT 2: queue.clock.sleep takes seconds."""
    assert_refused_inside(lambda ctx: ctx.queue.clock.sleep(seconds), WRONG, "seconds")


@pytest.mark.parametrize("seconds", NO_DURATION)
def test_context_wait(seconds: Any) -> None:
    """CONTRACT 3: ctx.wait takes seconds, or None."""
    assert_refused_inside(lambda ctx: ctx.wait(seconds), WRONG, "seconds")


def assert_refused_inside(call: Callable[[Any], Any], error: Any, match: str) -> None:
    """*call* with the context of a run raises *error*."""
    queue = SimulatedEnvelopeQueue("q")
    raised: list[BaseException] = []

    def invoke(ctx: Any, envelope: Any) -> None:
        with pytest.raises(error, match=match) as caught:
            call(ctx)
        raised.append(caught.value)

    with queue:
        queue.send(Envelope(invoke))
    assert len(raised) == 1


# handler and EnvelopeType


@pytest.mark.parametrize("type_", ["", None, 5, b"mail", True])
def test_a_wrong_type(queue: Any, type_: Any) -> None:
    """CONTRACT 2: handler and EnvelopeType need a type that is a text and not empty."""
    with pytest.raises(WRONG, match="type"):
        queue.handler(type_)(noop)
    with pytest.raises(InvalidEnvelopeError, match="type"):
        EnvelopeType(type_, invoke=noop)


@pytest.mark.parametrize("function", [None, 5, "mail", object()])
def test_a_handler_that_is_no_function(queue: Any, function: Any) -> None:
    """CONTRACT 2: handler decorates a function."""
    with pytest.raises(InvalidEnvelopeError, match="invoke"):
        queue.handler("mail")(function)


def test_two_handlers_for_one_type(queue: Any) -> None:
    """CONTRACT 2: two handlers for one type are refused by its name."""
    first, second = queue.handler("news"), queue.handler("news")
    first(noop)
    queue.handler("mail")(noop)
    with pytest.raises(InvalidEnvelopeError, match="mail"):
        queue.handler("mail")
    with pytest.raises(InvalidEnvelopeError, match="news"):
        second(noop)


@pytest.mark.parametrize("type_", ["", None, 5, b"mail", True, [], {}])
def test_the_type_is_checked_before_a_function_is_decorated(queue: Any, type_: Any) -> None:
    """CONTRACT 2: handler refuses a wrong type and a wrong option at once, not only when it decorates."""
    with pytest.raises(InvalidEnvelopeError, match="type must be a non-empty str"):
        queue.handler(type_)
    with pytest.raises(TypeError, match=r"handler\(\) got .*dead_line.*'deadline'"):
        queue.handler("mail", dead_line=1)


def test_a_bare_handler(queue: Any) -> None:
    """CONTRACT 2: handler without a type takes the function's name, with options or without."""

    @queue.handler
    def mail(ctx: Any, envelope: Any) -> None:
        """Send it."""

    assert isinstance(mail, EnvelopeType)
    assert (mail.type, mail.envelope(5).type, mail.envelope(5).payload, mail.__doc__) == ("mail", "mail", 5, "Send it.")
    assert queue.handler(noop, deadline=3).envelope().deadline == 3.0
    with pytest.raises(InvalidEnvelopeError, match="mail"):
        queue.handler("mail")
    with pytest.raises(InvalidEnvelopeError, match=r"type .*__name__"):
        queue.handler(partial(noop, None))


@pytest.mark.parametrize(
    ("option", "value"),
    [("deadline", 0), ("deadline", -1), ("interval", NAN), ("priority", 1.5), ("max_attempts", 0), ("stamps", 5)],
)
def test_a_wrong_policy(queue: Any, option: str, value: Any) -> None:
    """CONTRACT 2: the policy of a kind is checked when the kind is made."""
    with pytest.raises(InvalidEnvelopeError, match=option):
        queue.handler("mail", **{option: value})(noop)
    with pytest.raises(InvalidEnvelopeError, match=option):
        EnvelopeType("mail", invoke=noop, **{option: value})
    with pytest.raises(InvalidEnvelopeError, match=option):
        EnvelopeType("mail", invoke=noop).envelope(1, **{option: value})


def test_an_unknown_policy(queue: Any) -> None:
    """CONTRACT 2: a policy that does not exist is refused by name."""
    with pytest.raises(WRONG, match="dead_line"):
        queue.handler("mail", dead_line=1)(noop)
    with pytest.raises(WRONG, match="dead_line"):
        EnvelopeType("mail", invoke=noop, dead_line=1)
    with pytest.raises(WRONG, match="dead_line"):
        EnvelopeType("mail", invoke=noop).envelope(1, dead_line=1)


@pytest.mark.parametrize("name", ["id", "key"])
def test_what_belongs_to_one_envelope(queue: Any, name: str) -> None:
    """CONTRACT 2: id and key belong to one envelope, not to a kind."""
    with pytest.raises(WRONG, match=name):
        queue.handler("mail", **{name: 1})(noop)
    with pytest.raises(WRONG, match=name):
        EnvelopeType("mail", invoke=noop, **{name: 1})


def test_an_envelope_of_a_kind_with_a_wrong_key() -> None:
    """CONTRACT 2: a key is hashable, also in EnvelopeType.envelope."""
    kind = EnvelopeType("mail", invoke=noop)
    with pytest.raises(InvalidEnvelopeError, match="key"):
        kind.envelope(1, key=[])
    with pytest.raises(InvalidEnvelopeError, match="key"):
        kind.envelope(1, key=[], deadline=1)


# Coroutine functions


@pytest.mark.parametrize("function", [coroutine, AsyncCallable(), partial(coroutine, None), AsyncCallable().__call__])
@pytest.mark.parametrize("place", ["invoke", "before_hook", "after_hook", "success_hook", "failure_hook"])
def test_coroutine_functions(queue: Any, place: str, function: Any) -> None:
    """CONTRACT 2: EnvelopeQueue refuses coroutine functions with InvalidEnvelopeError, wherever they stand."""
    envelope = Envelope(**{"invoke": noop, place: function})
    for call in (queue.send, queue.send_wait, queue.submit):
        with pytest.raises(InvalidEnvelopeError):
            call(envelope)
    with pytest.raises(InvalidEnvelopeError):
        queue.send(Envelope(noop), envelope)


def test_a_coroutine_function_as_a_handler(queue: Any) -> None:
    """CONTRACT 2: handler refuses a coroutine function too."""
    with pytest.raises(InvalidEnvelopeError):
        queue.handler("mail")(coroutine)
    with pytest.raises(InvalidEnvelopeError):
        queue.handler("other mail", failure_hook=coroutine)(noop)


# Envelopes


BAD_POLICY = {
    "type": [None, 5, b"mail", True],
    "key": [[], {}, ([],)],
    "interval": [*NO_DURATION, 0],
    "deadline": [*NO_DURATION, 0],
    "schedule": [5, "every day", object(), every],
    "priority": [None, 1.5, NAN, True, "high", []],
    "max_attempts": [0, -1, 1.5, NAN, True, "few", []],
    "before_hook": [5, "hook", [], True],
    "after_hook": [5, "hook", [], True],
    "success_hook": [5, "hook", [], True],
    "failure_hook": [5, "hook", [], drop()],
    "stamps": [5, None, "stamp", b"stamp", [None], [1]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, bad in BAD_POLICY.items() for value in bad])
def test_a_wrong_argument_of_an_envelope(name: str, value: Any) -> None:
    """CONTRACT 2: an envelope refuses a wrong argument with InvalidEnvelopeError, naming it."""
    with pytest.raises(InvalidEnvelopeError, match=name):
        Envelope(noop, **{name: value})


def test_an_unknown_argument_of_an_envelope() -> None:
    """CONTRACT 2: an argument that does not exist is refused by name, in the name of what was called."""
    makers: dict[str, Callable[..., Any]] = {
        "Envelope.__init__": Envelope,
        "Envelope.once": Envelope.once,
        "Envelope.every": partial(Envelope.every, 1),
        "EnvelopeType": partial(EnvelopeType, "mail", invoke=noop),
        "EnvelopeType.envelope": EnvelopeType("mail", invoke=noop).envelope,
    }
    for caller, make in makers.items():
        arguments = () if caller.startswith("EnvelopeType") else (noop,)
        with pytest.raises(TypeError, match=rf"^{re.escape(caller)}\(\) got .*'dead_line'") as caught:
            make(*arguments, dead_line=1)
        assert caller == "Envelope.__init__" or str(caught.value).endswith("did you mean 'deadline'?")


def test_a_subclass_of_envelope_may_take_arguments_of_its_own() -> None:
    """CONTRACT 2: once and every hand on what the constructor of a subclass takes."""

    class Tagged(Envelope[Any]):
        def __init__(self, *args: Any, tag: str, **options: Any) -> None:
            super().__init__(*args, **options)
            self.tag = tag

    make: Any = Tagged
    assert (make.once(noop, tag="a").tag, make.every(1, noop, tag="b").tag) == ("a", "b")


def test_arguments_of_an_envelope_are_keywords() -> None:
    """CONTRACT 2: all but invoke are given by keyword."""
    with pytest.raises(TypeError):
        Envelope(noop, 1)  # type: ignore[misc]


def test_interval_and_schedule() -> None:
    """CONTRACT 2: interval or schedule, not both; once takes neither, every needs its interval."""
    with pytest.raises(InvalidEnvelopeError, match="schedule"):
        Envelope(noop, interval=1, schedule=every(1))
    with pytest.raises(InvalidEnvelopeError, match="interval"):
        Envelope.once(noop, interval=1)
    with pytest.raises(InvalidEnvelopeError, match="schedule"):
        Envelope.once(noop, schedule=every(1))
    nothing: Any = None
    with pytest.raises(InvalidEnvelopeError, match="interval"):
        Envelope.every(nothing, noop)


def test_a_deadline_longer_than_a_schedule() -> None:
    """CONTRACT 3: a deadline longer than the interval is InvalidIntervalError, equal is allowed, for schedules too."""
    for schedule in (every(1), fixed_rate(1)):
        with pytest.raises(InvalidIntervalError):
            Envelope(noop, schedule=schedule, deadline=1.5)
        Envelope(noop, schedule=schedule, deadline=1)


# Schedules, limiters, decisions and stamps


@pytest.mark.parametrize("value", [*NO_DURATION, 0, None])
def test_a_wrong_period(value: Any) -> None:
    """CONTRACT 3: a schedule refuses a wrong interval or period by name."""
    with pytest.raises(InvalidEnvelopeError, match="interval"):
        every(value)
    with pytest.raises(InvalidEnvelopeError, match="period"):
        fixed_rate(value)


@pytest.mark.parametrize("value", [*NO_DURATION, None])
def test_a_wrong_jitter(value: Any) -> None:
    """CONTRACT 3: a schedule refuses a wrong jitter by name."""
    for make in (partial(every, 5), partial(fixed_rate, 5), partial(cron, "* * * * *")):
        with pytest.raises(InvalidEnvelopeError, match="jitter"):
            make(jitter=value)


@pytest.mark.parametrize("expression", ["", "no cron", "* * *", "61 * * * *", None, 5])
def test_a_wrong_cron_expression(expression: Any) -> None:
    """CONTRACT 3: cron refuses what is no expression, showing it."""
    with pytest.raises(InvalidEnvelopeError, match="expression"):
        cron(expression)


@pytest.mark.parametrize("tz", ["Mars/Olympus", "", 5, True])
def test_a_wrong_time_zone(tz: Any) -> None:
    """CONTRACT 3: cron refuses what is no time zone by name."""
    with pytest.raises(InvalidEnvelopeError, match="tz"):
        cron("* * * * *", tz=tz)


@pytest.mark.parametrize("value", [*NO_DURATION, 0, None])
def test_limiters_refuse_wrong_durations(value: Any) -> None:
    """CONTRACT 10: limiters refuse wrong durations by name."""
    with pytest.raises(WRONG, match="base"):
        ExponentialBackoff(value, 1000)
    with pytest.raises(WRONG, match="max"):
        ExponentialBackoff(0.001, value)
    with pytest.raises(WRONG, match="slow"):
        FastSlow(1, value, 3)
    with pytest.raises(WRONG, match="max"):
        MaxWait(FastSlow(1, 2, 3), value)


@pytest.mark.parametrize("value", [0, -1, NAN, INFINITE, True, "1", None])
def test_a_wrong_rate(value: Any) -> None:
    """CONTRACT 10: TokenBucket refuses a wrong rate by name."""
    with pytest.raises(WRONG, match="rate"):
        TokenBucket(value, burst=1)


@pytest.mark.parametrize("value", NO_COUNT)
def test_a_wrong_burst(value: Any) -> None:
    """CONTRACT 10: TokenBucket refuses a wrong burst by name."""
    with pytest.raises(WRONG, match="burst"):
        TokenBucket(1, burst=value)


@pytest.mark.parametrize("value", [None, 5, "limiter", object(), ExponentialBackoff])
def test_what_is_no_limiter(value: Any) -> None:
    """CONTRACT 10: MaxOf and MaxWait take limiters, and nothing else."""
    with pytest.raises(WRONG, match="limiter"):
        MaxOf(value)
    with pytest.raises(WRONG, match="limiter"):
        MaxWait(value, 1)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("name", None), ("name", 5), ("limiter", 5), ("limiter", ExponentialBackoff), ("clock", 5), ("clock", object())],
)
def test_a_wrong_work_queue(argument: str, value: Any) -> None:
    """CONTRACT 10: WorkQueue refuses a wrong argument by name."""
    with pytest.raises(WRONG, match=argument):
        WorkQueue(**{argument: value})


@pytest.mark.parametrize("value", [NAN, INFINITE, True, "1", None, [], 1e300])
def test_a_wrong_add_after(value: Any) -> None:
    """CONTRACT 10: add_after refuses what is no duration by name."""
    queue: WorkQueue[str] = WorkQueue()
    with pytest.raises(WRONG, match="delay"):
        queue.add_after("item", value)
    assert len(queue) == 0


@pytest.mark.parametrize("value", NO_DURATION)
def test_a_wrong_get(value: Any) -> None:
    """CONTRACT 10: get refuses a wrong timeout by name."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("item")
    with pytest.raises(WRONG, match="timeout"):
        queue.get(timeout=value)
    assert len(queue) == 1


@pytest.mark.parametrize("item", [[], {}, ([],)])
def test_an_item_that_cannot_be_hashed(item: Any) -> None:
    """CONTRACT 10: items are hashable; what is not is refused, and the queue works on."""
    queue: WorkQueue[Any] = WorkQueue()
    for call in (queue.add, queue.add_rate_limited, lambda item: queue.add_after(item, 1)):
        with pytest.raises(WRONG):
            call(item)
    queue.add("item")
    assert queue.get(timeout=0) == "item"


@pytest.mark.parametrize("value", [NAN, INFINITE, True, "1", None, [], 1e300, timedelta.max])
def test_a_wrong_retry_after(value: Any) -> None:
    """CONTRACT 3: retry_after refuses what is no duration by name; 0 or less means 1 s."""
    with pytest.raises(WRONG, match="after"):
        retry_after(value)
    assert retry_after(0).after == retry_after(-5).after == 1.0


@pytest.mark.parametrize("value", NO_DURATION)
def test_a_wrong_retry_envelope(value: Any) -> None:
    """CONTRACT 3: RetryEnvelope refuses what is no duration by name."""
    with pytest.raises(WRONG, match="after"):
        RetryEnvelope(value)


@pytest.mark.parametrize("value", [5, b"no", ValueError("no")])
def test_a_wrong_reason(value: Any) -> None:
    """CONTRACT 3: drop takes a text as its reason."""
    with pytest.raises(WRONG, match="reason"):
        drop(value)


@pytest.mark.parametrize("kind", ["drop", None, 1, DecisionKind])
def test_a_decision_of_a_wrong_kind(kind: Any) -> None:
    """CONTRACT 2: a Decision that is made by hand names a kind that is none, when it is made."""
    with pytest.raises(TypeError, match="kind"):
        Decision(kind)


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE, True, "5", None, [], 1e300])
def test_a_decision_with_a_wrong_after(value: Any) -> None:
    """CONTRACT 3: a Decision that is made by hand refuses what is no duration by name, as `retry_after` does."""
    with pytest.raises(WRONG, match="after"):
        Decision(DecisionKind.RETRY_AFTER, after=value)


@pytest.mark.parametrize("kind", [DecisionKind.DROP, DecisionKind.RETRY_NOW, DecisionKind.RETRY_WITH_BACKOFF])
def test_a_decision_with_an_after_that_would_be_ignored(kind: DecisionKind) -> None:
    """CONTRACT 2: only RETRY_AFTER has a time; beside another kind it is refused, not obeyed nor forgotten."""
    with pytest.raises(ValueError, match=f"after.*{kind.name}"):
        Decision(kind, after=7)


def test_a_decision_with_a_wrong_reason() -> None:
    """CONTRACT 2: a Decision that is made by hand takes a text as its reason."""
    reason: Any = 5
    with pytest.raises(TypeError, match="reason"):
        Decision(DecisionKind.DROP, reason=reason)


def test_a_decision_by_hand_is_the_same_as_by_function() -> None:
    """CONTRACT 3: seconds or timedelta, 0 or less means 1 s, whoever makes the Decision."""
    span: Any = timedelta(seconds=5)
    assert Decision(DecisionKind.RETRY_AFTER, after=span) == retry_after(5)
    assert Decision(DecisionKind.RETRY_AFTER, after=-5) == retry_after(0)
    assert Decision(DecisionKind.DROP, reason="no") == drop("no")


def test_a_wrong_logging_stamp() -> None:
    """CONTRACT 2: logging_stamp takes a logger or its name, and a level."""
    bad: Any
    for bad in (None, 5, object()):
        with pytest.raises(WRONG, match="logger"):
            logging_stamp(bad)
    for bad in (None, "loud", 1.5):
        with pytest.raises(WRONG, match="level"):
            logging_stamp("mail", level=bad)


# The errors themselves


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (InvalidEnvelopeError, (EnvelopeQueueError, ValueError)),
        (InvalidIntervalError, (InvalidEnvelopeError,)),
        (DeadlineExceeded, (EnvelopeQueueError, TimeoutError)),
        (QueueStateError, (EnvelopeQueueError,)),
        (QueueNotRunningError, (QueueStateError,)),
        (QueueTerminatedError, (QueueStateError,)),
        (CapacityExceededError, (EnvelopeQueueError,)),
        (Cancelled, (EnvelopeQueueError,)),
    ],
)
def test_the_tree_of_errors(error: type[BaseException], bases: tuple[type[BaseException], ...]) -> None:
    """CONTRACT 2: each error stands where the contract says."""
    for base in bases:
        assert issubclass(error, base)


def test_control_flow_is_no_error_of_ours() -> None:
    """CONTRACT 2: StopEnvelope and RetryEnvelope are raised on purpose, and stand outside the tree of errors."""
    assert not issubclass(StopEnvelope, EnvelopeQueueError)
    assert not issubclass(RetryEnvelope, EnvelopeQueueError)


def test_stopped_and_terminated_are_told_apart() -> None:
    """CONTRACT 2: QueueNotRunningError and QueueTerminatedError are not each other's kind."""
    assert not issubclass(QueueTerminatedError, QueueNotRunningError)
    assert not issubclass(QueueNotRunningError, QueueTerminatedError)
