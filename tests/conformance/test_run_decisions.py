"""Contract section 3: decisions, attempts, backoff and dead letters."""

from __future__ import annotations

from datetime import UTC

import pytest

from rate_envelope_queue import Envelope, StopEnvelope, drop, retry_after, retry_now, retry_with_backoff
from rate_envelope_queue.workqueue import ExponentialBackoff

from .running import fails_times, finish, marks, marks_and_raises, raises, run, started


def test_3_retry_now_goes_to_the_tail(h):
    """3: `retry_now()`, at the tail."""

    def invoke(ctx, envelope):
        h.mark(envelope.payload)
        if envelope.payload == "a" and ctx.attempt == 1:
            raise ValueError

    run(h, *[Envelope.once(invoke, name, failure_hook=lambda *args: retry_now()) for name in "abc"])
    assert h.labels() == ["a", "b", "c", "a"]


def test_3_max_attempts_ends_in_drop_whatever_the_hook_says(h):
    """3: `max_attempts` ends in drop whatever the hook says."""
    for decision in (retry_now(), retry_after(h.s(1)), retry_with_backoff()):
        envelope = Envelope.once(raises(ValueError), max_attempts=2, failure_hook=lambda *args, d=decision: d)
        queue, _ = run(h, envelope)
        assert (queue.stats().runs_failed, queue.stats().dropped) == (2, 1)


def test_3_max_attempts_is_25_unless_said(h):
    """3: without a `max_attempts` there are 25 runs."""
    queue, _ = run(h, Envelope.once(raises(ValueError), failure_hook=lambda *args: retry_now()))
    assert (queue.stats().runs_failed, queue.stats().dropped) == (25, 1)


def test_3_max_attempts_none_means_no_limit(h):
    """3: `max_attempts=None` means no limit: it goes on until it succeeds."""
    queue, _ = run(h, Envelope.once(fails_times(h, 40), max_attempts=None, failure_hook=lambda *args: retry_now()))
    assert (queue.stats().runs_failed, queue.stats().succeeded) == (40, 1)


def test_3_a_hook_may_drop_before_max_attempts(h):
    """3: `drop(reason)` ends the entry at once, with the attempts it had."""

    def failure(ctx, envelope, error):
        return retry_now() if ctx.attempt < 2 else drop("enough")

    queue, _ = run(h, Envelope.once(raises(ValueError), failure_hook=failure))
    (letter,) = queue.dead_letters()
    assert (letter.attempts, letter.reason) == (2, "enough")


def test_3_the_default_backoff(h):
    """3: `backoff=None` is `ExponentialBackoff(0.005, 1000)` per entry."""
    first, second = [
        Envelope.once(raises(ValueError), max_attempts=4, failure_hook=lambda *args: retry_with_backoff()) for _ in "ab"
    ]
    queue, seen = run(h, first, second)
    for envelope in (first, second):
        waits = [event.after for event in seen.retried if event.envelope is envelope]
        assert waits == pytest.approx([0.005, 0.01, 0.02])
    assert queue.stats().dropped == 2


@pytest.mark.parametrize("outcome", ["succeeded", "stopped", "dropped", "returned"])
def test_3_the_backoff_is_forgotten_at_every_outcome(h, outcome):
    """3: the backoff is forgotten at every outcome."""

    def invoke(ctx, envelope):
        h.mark("run")
        if ctx.attempt < 3:
            raise ValueError
        if outcome == "stopped":
            raise StopEnvelope
        if outcome == "dropped":
            raise KeyError
        if outcome == "returned":
            ctx.queue.cancel(envelope)
            raise ValueError

    def failure(ctx, envelope, error):
        return None if isinstance(error, KeyError) else retry_with_backoff()

    envelope = Envelope.once(invoke, failure_hook=failure)
    queue, seen = run(h, envelope, backoff=ExponentialBackoff(h.s(1), h.s(100)))
    assert getattr(queue.stats(), outcome) == 1
    del seen.retried[2:]
    queue.send(envelope)
    finish(queue)
    assert [event.after / h.unit for event in seen.retried][:3] == pytest.approx([1, 2, 1])
    assert getattr(queue.stats(), outcome) == 2


class Remembers:
    """A backoff limiter that notes what it is asked."""

    def __init__(self, queue_of=lambda: None):
        self.calls = []
        self.queue_of = queue_of
        self.inside = []

    def when(self, item, *, now):
        self.calls.append("when")
        return 0.0

    def forget(self, item):
        self.calls.append("forget")
        self.inside.append(len(self.queue_of()))

    def num_requeues(self, item):
        return 0


def test_3_forget_comes_before_the_entry_ends(h):
    """3: `forget` comes before the entry ends: meanwhile the entry is still in the queue."""
    made = []
    limiter = Remembers(lambda: made[0])
    queue = started(h, backoff=limiter)
    made.append(queue)
    queue.send(Envelope.once(fails_times(h, 2), failure_hook=lambda *args: retry_with_backoff()))
    finish(queue)
    assert limiter.calls == ["when", "when", "forget"]
    assert limiter.inside == [1]


def test_3_the_limiter_decides_only_when_asked(h):
    """3: `retry_with_backoff()`: the backoff limiter decides; the other decisions do not ask it."""
    limiter = Remembers()
    limiter.queue_of = list
    decisions = iter([retry_now(), retry_after(h.s(1)), drop()])
    run(h, Envelope.once(raises(ValueError), failure_hook=lambda *args: next(decisions)), backoff=limiter)
    assert "when" not in limiter.calls


def test_3_each_item_has_a_backoff_of_its_own_and_the_clock_is_the_queues(h):
    """3: the limiter is asked as when(item, now=...), with one item per entry and the queue's monotonic clock."""
    items = []

    class Looks(Remembers):
        def when(self, item, *, now):
            items.append((item, now))
            return 0.0

        def forget(self, item):
            pass

    queue = started(h, backoff=Looks())
    began = queue.clock.now()
    for _ in "ab":
        queue.send(Envelope.once(raises(ValueError), max_attempts=3, failure_hook=lambda *args: retry_with_backoff()))
    finish(queue)
    assert len(items) == 4
    assert len({item for item, _ in items}) == 2
    assert all(began <= now <= queue.clock.now() for _, now in items)


def test_3_a_dropped_entry_is_a_dead_letter(h):
    """3: a dropped entry goes to a bounded dead-letter ring (envelope, error as text, attempts, time)."""
    envelope = Envelope.once(raises(lambda: ValueError("no such\x1b[31m host")))
    queue = started(h)
    before = queue.clock.wall_utc()
    queue.send(envelope)
    finish(queue)
    (letter,) = queue.dead_letters()
    assert letter.envelope is envelope
    assert letter.error == "ValueError: no such\\x1b[31m host"
    assert letter.attempts == 1
    assert before <= letter.at_utc <= queue.clock.wall_utc()
    assert letter.at_utc.utcoffset() == UTC.utcoffset(None)


def test_3_the_dead_letters_are_bounded(h):
    """3: the dead-letter ring is bounded by `dead_letter_limit`: the oldest go first."""
    envelopes = [Envelope.once(raises(ValueError), payload=number) for number in range(5)]
    queue, _ = run(h, *envelopes, dead_letter_limit=2)
    assert [letter.envelope.payload for letter in queue.dead_letters()] == [3, 4]
    assert queue.stats().dropped == 5


def test_3_a_long_error_is_cut_in_its_dead_letter(h):
    """3: the error is kept as text, and bounded."""
    queue, _ = run(h, Envelope.once(raises(lambda: ValueError("x" * 1_000_000))))
    (letter,) = queue.dead_letters()
    assert letter.error.startswith("ValueError: xxx")
    assert len(letter.error) < 10_000


def test_3_a_dead_letter_can_be_sent_again(h):
    """3: from the dead letters an envelope can be sent again; it starts at attempt 1."""
    attempts = []

    def invoke(ctx, envelope):
        attempts.append(ctx.attempt)
        if len(attempts) < 4:
            raise ValueError

    queue, _ = run(h, Envelope.once(invoke, max_attempts=3, failure_hook=lambda *args: retry_now()))
    (letter,) = queue.dead_letters()
    assert queue.send(letter.envelope) == 1
    finish(queue)
    assert attempts == [1, 2, 3, 1]
    assert (queue.stats().accepted, queue.stats().dropped, queue.stats().succeeded) == (2, 1, 1)


def test_3_clear_dead_letters(h):
    """3: `clear_dead_letters()` empties the ring and nothing else; what was handed out before stays as it was."""
    queue, _ = run(h, Envelope.once(raises(ValueError)))
    letters = queue.dead_letters()
    queue.clear_dead_letters()
    assert (len(letters), len(queue.dead_letters()), queue.stats().dropped) == (1, 0, 1)
    queue.send(Envelope.once(raises(KeyError)))
    finish(queue)
    assert [letter.error for letter in queue.dead_letters()] == ["KeyError"]


def test_3_the_dead_letters_survive_stop_and_terminate(h):
    """3: dead letters can be read after the queue has ended."""
    queue, _ = run(h, Envelope.once(raises(ValueError)))
    queue.stop()
    assert len(queue.dead_letters()) == 1
    queue.terminate()
    assert len(queue.dead_letters()) == 1


def test_3_only_dropped_entries_are_dead_letters(h):
    """3: succeeded, stopped and still retrying entries are no dead letters; nor is a periodic that fails."""
    queue = started(h)
    retrying = Envelope.once(raises(ValueError), failure_hook=lambda *args: retry_after(1000))
    queue.send(Envelope.once(marks(h, "ok")), Envelope.once(raises(StopEnvelope)), retrying)
    queue.send(Envelope.every(1000, marks_and_raises(h, "periodic", ValueError)))
    h.until(lambda: queue.stats().delayed == 2)
    assert len(queue.dead_letters()) == 0
