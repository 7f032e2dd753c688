"""Section G: what a failure hook decides about a one-off."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import Mock

import pytest

from rate_envelope_queue import (
    Decision,
    Envelope,
    RetryEnvelope,
    drop,
    retry_after,
    retry_now,
    retry_with_backoff,
)
from rate_envelope_queue.decision import DecisionKind
from rate_envelope_queue.workqueue import ExponentialBackoff

from .harness import virtual_only
from .running import Seen, ample, fails_times, finish, gaps, marks, raises, run, started


def once(h, invoke, **hooks):
    """The one-off of this section: deadline 1 s."""
    return Envelope.once(invoke, deadline=ample(h, 1), **hooks)


def answers(decision):
    """A failure hook that always decides the same."""
    return lambda ctx, envelope, error: decision


def test_g52_none_means_drop(h):
    """G52: hook returns None -> dropped, 1 run."""
    queue, _ = run(h, once(h, fails_times(h, 1), failure_hook=answers(None)))
    assert h.labels() == ["run"]
    assert (queue.stats().dropped, queue.stats().runs_started, len(queue)) == (1, 1, 0)
    assert len(queue.dead_letters()) == 1


def test_g53_drop_puts_the_entry_into_the_dead_letters(h):
    """G53: drop() -> the same, in the dead letters."""
    envelope = once(h, fails_times(h, 1), failure_hook=answers(drop("no such mailbox")))
    queue, seen = run(h, envelope)
    (letter,) = queue.dead_letters()
    assert h.labels() == ["run"]
    assert (queue.stats().dropped, queue.stats().runs_started) == (1, 1)
    assert (letter.envelope, letter.reason, letter.attempts) == (envelope, "no such mailbox", 1)
    assert letter.error == "ValueError: failure 1"
    assert [event.letter for event in seen.dropped] == [letter]


def test_g53_drop_needs_no_reason(h):
    """G53: drop() without a reason -> dropped, in the dead letters without one."""
    queue, _ = run(h, once(h, fails_times(h, 1), failure_hook=answers(drop())))
    assert [letter.reason for letter in queue.dead_letters()] == [None]


def test_g54_retry_now(h):
    """G54: retry_now, handler takes 0.5 s, fails once -> second run ends at 1.0 s, success hook, 2 runs in all."""
    queue = started(h)
    began = h.now()
    queue.send(
        once(
            h,
            fails_times(h, 1, takes=0.5),
            failure_hook=answers(retry_now()),
            success_hook=marks(h, "success"),
        )
    )
    finish(queue)
    assert h.labels() == ["run", "run", "done", "success"]
    assert h.times("done")[0] - began == h.about(1.0)
    assert (queue.stats().runs_started, queue.stats().succeeded) == (2, 1)


def test_g55_retry_after(h):
    """G55: retry_after(2) -> nothing before 2.0 s, 2 runs."""
    queue = started(h)
    began = h.now()
    queue.send(once(h, fails_times(h, 1), failure_hook=answers(retry_after(h.s(2)))))
    h.until(lambda: queue.stats().delayed == 1)
    assert h.labels() == ["run"]
    finish(queue)
    assert h.labels() == ["run", "run", "done"]
    assert h.times("run")[1] - began == h.about(2.0)


def test_g55_retry_after_counts_from_the_end_of_the_run(h):
    """G55: retry_after(2) after a run of 3 s -> nothing before 5.0 s."""
    queue = started(h)
    began = h.now()
    queue.send(Envelope.once(fails_times(h, 1, takes=3), failure_hook=answers(retry_after(h.s(2)))))
    finish(queue)
    assert h.times("run")[1] - began == h.about(5.0)


def test_g56_retry_after_nothing_means_a_second(h):
    """G56: retry_after(0) -> 1 s (1 s of the clock, not of the test); a negative time means the same."""
    queue = started(h, workers=2)

    def invoke(ctx, envelope):
        h.mark(envelope.payload)
        if ctx.attempt == 1:
            raise ValueError

    queue.send(*[once(h, invoke, payload=delay, failure_hook=answers(retry_after(delay))) for delay in (0, -3)])
    finish(queue)
    assert [gaps(h.times(delay)) for delay in (0, -3)] == [[h.about(1 / h.unit)]] * 2


def test_g57_completion_order_of_mixed_decisions(h):
    """G57: five envelopes, 1 worker: ok; retry_after 3; ok; retry_after 2; retry_now -> completion order 1, 3, 5, 4,
    2."""
    stretch = 1 if h.is_virtual else 5  # so that a stall between two runs cannot turn their due times round
    decisions = {2: retry_after(h.s(3 * stretch)), 4: retry_after(h.s(2 * stretch)), 5: retry_now()}

    def invoke(ctx, envelope):
        if envelope.payload in decisions and ctx.attempt == 1:
            raise ValueError
        h.mark(envelope.payload)

    def decide(ctx, envelope, error):
        return decisions[envelope.payload]

    queue = started(h)
    queue.send(*[once(h, invoke, payload=number, failure_hook=decide) for number in (1, 2, 3, 4, 5)])
    finish(queue)
    assert h.labels() == [1, 3, 5, 4, 2]


def test_g58_retry_with_backoff(h):
    """G58: retry_with_backoff under ExponentialBackoff(1 ms, 1 s): waits 1, 2, 4, 8 ms; forgotten after success."""
    seen = Seen()
    queue = started(h, observers=(seen,), backoff=ExponentialBackoff(h.s(0.001), h.s(1)))
    failures = [True] * 4 + [False, True, False]

    def invoke(ctx, envelope):
        h.mark("run")
        if failures.pop(0):
            raise ValueError

    envelope = once(h, invoke, failure_hook=answers(retry_with_backoff()))
    queue.send(envelope)
    finish(queue)
    assert gaps(h.times("run")) == [h.about(0.001), h.about(0.002), h.about(0.004), h.about(0.008)]
    queue.send(envelope)
    finish(queue)
    assert [event.after / h.unit for event in seen.retried] == pytest.approx([0.001, 0.002, 0.004, 0.008, 0.001])
    assert queue.stats().succeeded == 2


def test_g59_max_attempts_ends_what_would_go_on_for_ever(h):
    """G59: max_attempts=3, retry_now for ever -> 3 runs, dropped."""
    attempts = []

    def invoke(ctx, envelope):
        attempts.append(ctx.attempt)
        raise ValueError

    queue, seen = run(h, once(h, invoke, max_attempts=3, failure_hook=answers(retry_now())))
    (letter,) = queue.dead_letters()
    assert attempts == [1, 2, 3]
    assert (queue.stats().runs_failed, queue.stats().dropped, letter.attempts) == (3, 1, 3)
    assert [event.attempt for event in seen.retried] == [1, 2]


class RaisesWhenShown:
    def __repr__(self):
        raise RuntimeError("no repr either")


@pytest.mark.parametrize(
    "answer", ["retry", True, 5, retry_now, RaisesWhenShown()], ids=["str", "bool", "int", "function", "hostile"]
)
def test_g60_an_answer_that_is_no_decision(h, answer):
    """G60: a decision that is not a Decision -> reported, dropped."""
    queue, seen = run(h, once(h, marks(h, "ok")), once(h, fails_times(h, 1), failure_hook=answers(answer)))
    (event,) = seen.hook_failed
    assert event.hook == "failure_hook"
    assert isinstance(event.error, Exception)
    assert h.labels() == ["ok", "run"]
    assert (queue.stats().dropped, queue.stats().succeeded) == (1, 1)


class Unchecked(Decision):
    """A subclass that does not check what it is made of."""

    def __post_init__(self):
        pass


class Pretends(Decision):
    """A subclass whose kind cannot be read."""

    @property
    def kind(self):
        raise RuntimeError("no kind for you")


SUBCLASSES = {
    "kind is a text": lambda: Unchecked("retry_now"),
    "after is a text": lambda: Unchecked(DecisionKind.RETRY_AFTER, after="5"),
    "after is NaN": lambda: Unchecked(DecisionKind.RETRY_AFTER, after=float("nan")),
    "no fields": lambda: object.__new__(Decision),
    "kind raises": lambda: object.__new__(Pretends),
    "looks like one": lambda: Mock(spec=drop()),
}


@pytest.mark.parametrize("answer", SUBCLASSES.values(), ids=SUBCLASSES)
def test_g60_a_subclass_of_decision_that_is_unsound(h, answer):
    """G60: a Decision whose fields are not what a Decision has -> reported, dropped; the workers live."""
    queue, seen = run(h, once(h, fails_times(h, 1), failure_hook=lambda *args: answer()), once(h, marks(h, "ok")))
    (event,) = seen.hook_failed
    assert event.hook == "failure_hook"
    assert h.labels() == ["run", "ok"]
    assert (queue.stats().dropped, queue.stats().succeeded) == (1, 1)


def test_g60_a_sound_subclass_of_decision_is_a_decision(h):
    """G60: what is a Decision, whatever else it is, is obeyed."""
    queue, seen = run(h, once(h, fails_times(h, 1), failure_hook=answers(Unchecked(DecisionKind.RETRY_NOW))))
    assert (seen.hook_failed, h.labels(), queue.stats().succeeded) == ([], ["run", "run", "done"], 1)


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        (raises(lambda: KeyError("no such user")), "failure_hook failed: KeyError: 'no such user'"),
        (raises(lambda: ValueError("x" * 5000)), "failure_hook failed: ValueError: xxx"),
        (lambda *args: "retry", "failure_hook failed: TypeError: it must return a Decision or None, not 'retry'"),
    ],
    ids=["raises", "raises at length", "answers nonsense"],
)
def test_g60_the_dead_letter_says_that_the_hook_failed(h, hook, text):
    """G60: a failure hook that raises or answers no Decision -> the reason of the dead letter says so, bounded."""
    queue, _ = run(h, once(h, fails_times(h, 1), failure_hook=hook), once(h, raises(ValueError)))
    bad, plain = queue.dead_letters()
    assert bad.reason.startswith(text)
    assert len(bad.reason) < 300
    assert plain.reason is None


@pytest.mark.parametrize("place", ["before_hook", "invoke"])
def test_g61_retry_envelope_needs_no_hook(h, place):
    """G61: RetryEnvelope(after=...) without a hook -> retried."""

    def again(ctx, envelope):
        h.mark("run")
        if ctx.attempt == 1:
            raise RetryEnvelope(after=h.s(2))

    queue = started(h)
    began = h.now()
    queue.send(once(h, **{"invoke": marks(h, "invoke"), place: again}))
    finish(queue)
    assert h.times("run")[1] - began == h.about(2)
    assert (queue.stats().runs_started, queue.stats().succeeded) == (2, 1)


class AsksFor(RetryEnvelope):
    """A RetryEnvelope that sets its time itself."""

    def __init__(self, after):
        super().__init__()
        self.after = after


@virtual_only
@pytest.mark.parametrize("span", [2, 2.0, timedelta(seconds=2)], ids=repr)
def test_g61_a_subclass_of_retry_envelope_that_sets_its_time(h, span):
    """G61: RetryEnvelope(after=...) -> retried after that time, also when a subclass sets it: seconds or timedelta."""
    queue = started(h)
    began = h.now()
    queue.send(once(h, fails_times_with(h, 1, lambda: AsksFor(span))))
    finish(queue)
    assert h.times("run")[1] - began == h.about(2)


@pytest.mark.parametrize("after", [0, 0.0, timedelta(0)], ids=repr)
@pytest.mark.parametrize("error", [RetryEnvelope, AsksFor])
def test_g61_retry_envelope_after_nothing(h, error, after):
    """G61: RetryEnvelope(after=0) -> retried at once."""
    queue, seen = run(h, once(h, fails_times_with(h, 1, lambda: error(after))))
    assert ([event.after for event in seen.retried], queue.stats().succeeded) == ([0.0], 1)


class AfterRaises(RetryEnvelope):
    """A RetryEnvelope whose time cannot be read."""

    @property
    def after(self):
        raise SystemExit("no time for you")

    @after.setter
    def after(self, value):
        pass


NO_TIMES = {
    "a text": lambda: AsksFor("5"),
    "negative": lambda: AsksFor(-1),
    "NaN": lambda: AsksFor(float("nan")),
    "a bool": lambda: AsksFor(True),
    "raises": AfterRaises,
}


@pytest.mark.parametrize("error", NO_TIMES.values(), ids=NO_TIMES)
def test_g61_retry_envelope_whose_time_is_none(h, error):
    """G61: RetryEnvelope without a usable time -> retried by backoff."""
    queue, seen = run(h, once(h, fails_times_with(h, 1, error)), backoff=ExponentialBackoff(0.125, 1))
    assert ([event.after for event in seen.retried], queue.stats().succeeded) == ([0.125], 1)


def fails_times_with(h, count, error):
    """A handler that marks "run" and raises a fresh *error* on its first *count* attempts."""

    def invoke(ctx, envelope):
        h.mark("run")
        if ctx.attempt <= count:
            raise error()

    return invoke


def test_g98_only_the_retry_of_a_one_off_is_a_retry(h):
    """N98: a periodic's next run is not counted as a retry; a retry is."""
    seen = Seen()
    queue = started(h, observers=(seen,))
    periodic = Envelope.every(h.s(1), raises(ValueError), failure_hook=answers(retry_now()))
    one_off = once(h, fails_times(h, 2), failure_hook=answers(retry_now()))
    queue.send(periodic, one_off)
    h.until(lambda: queue.stats().runs_failed >= 4 and queue.stats().succeeded == 1)
    assert [event.envelope for event in seen.retried] == [one_off, one_off]
    assert [(event.attempt, event.after) for event in seen.retried] == [(1, 0.0), (2, 0.0)]
