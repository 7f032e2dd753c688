"""Looking at a queue (CONTRACT 2 and 3): what is due next, what it was made with, and dead letters one by one."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from rate_envelope_queue import (
    CapacityExceededError,
    Envelope,
    QueueNotRunningError,
    QueueTerminatedError,
    StopMode,
)

from .harness import Harness
from .running import finish, raises, run, started


def noop(ctx: Any, envelope: Any) -> None: ...


def due(queue: Any, limit: int = 20) -> list[Any]:
    return [view.envelope.payload for view in queue.next_due(limit)]


def test_next_due_is_in_order_of_time(h: Harness) -> None:
    """next_due: what is delayed, the next first, ties in the order in which they were sent; nothing that is ready."""
    queue = h.queue()
    times = [random.Random(7).randrange(1, 40) for _ in range(200)]
    for number, time in enumerate(times):
        queue.send(Envelope(noop, payload=(time, number)), delay=time * 1000)
    queue.send(Envelope(noop, payload="ready"))
    expected = sorted((time, number) for number, time in enumerate(times))
    assert due(queue, 1000) == expected
    assert (due(queue), due(queue, 3), due(queue, 0)) == (expected[:20], expected[:3], [])


def test_next_due_says_when(h: Harness) -> None:
    """next_due: each is an EntryView that says in how many seconds; a retry says which run comes next."""
    queue = started(h, stop_mode=StopMode.STOP)
    now = queue.clock.now
    before = now()
    queue.send(Envelope(noop, key="later"), delay=3000)
    after = now()
    h.pass_time(1)
    looked_from = now()
    (view,) = queue.next_due()
    looked_until = now()
    assert (view.key, view.phase, view.attempt) == ("later", "delayed", 1)
    assert before + 3000 - looked_until <= view.due_in <= after + 3000 - looked_from < 3000


def test_next_due_passes_over_what_was_cancelled(h: Harness) -> None:
    """next_due: what was cancelled or moved forward is shown at most once, at its present time."""
    queue = h.queue()
    envelopes = [Envelope(noop, payload=number) for number in range(40)]
    for number, envelope in enumerate(envelopes):
        queue.send(envelope, delay=1000 + number)
    for envelope in envelopes[1:30]:
        queue.cancel(envelope)
    queue.send(envelopes[35], delay=10)
    assert due(queue) == [35, 0, 30, 31, 32, 33, 34, 36, 37, 38, 39]


def test_is_paused(h: Harness) -> None:
    """is_paused: from pause to resume, also across a stop."""
    queue = h.queue()
    seen = [queue.is_paused]
    for step in (queue.pause, queue.start, queue.stop, queue.resume):
        step()
        seen.append(queue.is_paused)
    assert seen == [False, True, True, True, False]


def test_capacity(h: Harness) -> None:
    """capacity: as it was given, None without limit."""
    assert [h.queue(capacity=capacity).capacity for capacity in (1, 500, None)] == [1, 500, None]
    assert h.queue().capacity == 1_000_000


# Dead letters, one by one


def test_retry_dead_letter(h: Harness) -> None:
    """retry_dead_letter: the envelope runs again from attempt 1, and its letter alone is out."""
    attempts: list[tuple[Any, int]] = []

    def invoke(ctx: Any, envelope: Any) -> None:
        attempts.append((envelope.payload, ctx.attempt))
        if len(attempts) < 4:
            raise ValueError

    queue, _ = run(h, *[Envelope.once(invoke, number) for number in range(3)])
    first, second, third = queue.dead_letters()
    assert queue.retry_dead_letter(second) is True
    assert queue.dead_letters() == (first, third)
    finish(queue)
    assert attempts == [(0, 1), (1, 1), (2, 1), (1, 1)]
    assert (queue.stats().accepted, queue.stats().succeeded) == (4, 1)


def test_a_letter_is_retried_once(h: Harness) -> None:
    """retry_dead_letter: False, and nothing is sent, for a letter that was retried, cleared, or has fallen out."""
    queue, _ = run(h, *[Envelope.once(raises(ValueError)) for _ in range(3)], dead_letter_limit=2)
    one, two = queue.dead_letters()
    queue.pause()
    assert (queue.retry_dead_letter(one), queue.retry_dead_letter(one)) == (True, False)
    queue.clear_dead_letters()
    assert queue.retry_dead_letter(two) is False
    assert (len(queue), queue.dead_letters()) == (1, ())


def test_the_letter_of_another_queue(h: Harness) -> None:
    """retry_dead_letter: a letter of another queue is not there."""
    queue, _ = run(h, Envelope.once(raises(ValueError)))
    other = h.queue()
    assert other.retry_dead_letter(queue.dead_letters()[0]) is False
    assert (len(other), len(queue.dead_letters())) == (0, 1)


def test_a_letter_whose_envelope_waits_again(h: Harness) -> None:
    """retry_dead_letter: when the envelope was sent again meanwhile it merges, as every send does, and True."""
    queue, _ = run(h, Envelope.once(raises(ValueError)))
    (letter,) = queue.dead_letters()
    queue.pause()
    queue.send(letter.envelope)
    assert queue.retry_dead_letter(letter) is True
    assert (len(queue), queue.stats().coalesced, queue.dead_letters()) == (1, 1, ())


@pytest.mark.parametrize("refusal", [CapacityExceededError, QueueNotRunningError, QueueTerminatedError])
def test_a_refused_retry_keeps_the_letter(h: Harness, refusal: type[Exception]) -> None:
    """retry_dead_letter raises as send does, and then the letter is where it was."""
    queue, _ = run(h, *[Envelope.once(raises(ValueError)) for _ in range(3)], capacity=3)
    letters = queue.dead_letters()
    if refusal is CapacityExceededError:
        queue.send(*[Envelope(noop) for _ in range(3)], delay=1000)
    elif refusal is QueueNotRunningError:
        queue.stop()
    else:
        queue.terminate()
    with pytest.raises(refusal):
        queue.retry_dead_letter(letters[1])
    assert queue.dead_letters() == letters


@pytest.mark.parametrize("wrong", [None, 1, "letter", Envelope(noop)], ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_letter(h: Harness, wrong: Any) -> None:
    """retry_dead_letter says what it takes."""
    with pytest.raises(TypeError, match=r"letter must be one of dead_letters\(\)"):
        h.queue().retry_dead_letter(wrong)


def test_two_at_once_retry_the_same_letters(h: Harness) -> None:
    """retry_dead_letter from several threads: each letter is sent once, however many ask, and one of them gets True."""
    count = 200
    queue, _ = run(h, *[Envelope.once(raises(ValueError)) for _ in range(count)])
    queue.pause()
    letters = queue.dead_letters()
    answers: list[bool] = []
    go = threading.Barrier(4)

    def retry_all() -> None:
        go.wait()
        answers.extend([queue.retry_dead_letter(letter) for letter in letters])

    threads = [threading.Thread(target=retry_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers.count(True), len(answers)) == (count, 4 * count)
    assert (len(queue), queue.stats().coalesced, queue.dead_letters()) == (count, 0, ())
