"""Section I: capacity. One entry is one unit for its whole life, and `send` is all or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue import CapacityExceededError, Envelope, QueueStateError, StopMode, retry_after

from .harness import Harness, concurrent_only


def noop(ctx: Any, envelope: Any) -> None: ...


def held(h: Harness) -> tuple[Any, Envelope]:
    """A gate, and an envelope whose handler waits at it."""
    gate = h.gate()
    return gate, Envelope(lambda ctx, envelope: gate.wait(ctx))


def fill(queue: Any, room: int) -> list[Envelope]:
    """Send *room* envelopes one by one, and see that one more is refused and changes nothing."""
    taken = len(queue)
    others = [Envelope(noop) for _ in range(room)]
    assert [queue.send(other) for other in others] == [1] * room
    before = queue.stats()
    with pytest.raises(CapacityExceededError) as refusal:
        queue.send(Envelope(noop))
    assert (refusal.value.capacity, refusal.value.occupancy, refusal.value.needed) == (taken + room, taken + room, 1)
    after = queue.stats()
    assert (after.occupancy, after.accepted, after.ready, after.delayed) == (
        before.occupancy, before.accepted, before.ready, before.delayed,
    )  # fmt: skip
    assert after.refused == before.refused + 1
    return others


def test_i66_a_blocked_envelope_sent_49_times_takes_one_place(h: Harness) -> None:
    """I66: capacity 50, 49 sends of one envelope whose handler is blocked -> occupancy 1, and 49 others still fit."""
    queue = h.queue(capacity=50)
    gate, envelope = held(h)
    queue.start()
    assert queue.send(envelope) == 1
    h.until(lambda: gate.waiting == 1)
    assert [queue.send(envelope) for _ in range(48)] == [0] * 48
    assert len(queue) == 1
    fill(queue, 49)
    assert len(queue) == 50
    gate.open()
    assert queue.join(timeout=60)
    stats = queue.stats()
    assert (len(queue), stats.accepted, stats.succeeded, stats.coalesced) == (0, 50, 50, 48)
    assert stats.runs_started == 51  # the blocked one ran once more, for all its re-sends


def test_i66_the_same_before_it_has_started(h: Harness) -> None:
    """I66: as well when the queue is in init and the 49 sends are buffered; one batch counts a duplicate once."""
    queue = h.queue(capacity=50)
    gate, envelope = held(h)
    gate.open()
    assert queue.send(*[envelope] * 24) == 1
    assert [queue.send(envelope) for _ in range(25)] == [0] * 25
    assert (len(queue), queue.stats().buffered) == (1, 1)
    fill(queue, 49)
    queue.start()
    assert queue.join(timeout=60)
    assert queue.stats().runs_started == 50


def test_i67_a_periodic_sent_ten_more_times_takes_one_place(h: Harness) -> None:
    """I67: a periodic sent 10 more times -> occupancy 1; buffered, running, and between its periods."""
    queue = h.queue(capacity=3)
    gate = h.gate()
    periodic = Envelope.every(h.s(1000), lambda ctx, envelope: gate.wait(ctx))
    assert [queue.send(periodic) for _ in range(11)] == [1] + [0] * 10
    assert len(queue) == 1
    queue.start()
    h.until(lambda: gate.waiting == 1)
    assert [queue.send(periodic) for _ in range(10)] == [0] * 10
    assert len(queue) == 1
    gate.open()
    h.until(lambda: queue.stats().delayed == 1)
    assert queue.stats().runs_started == 2
    queue.pause()
    assert [queue.send(periodic) for _ in range(10)] == [0] * 10
    assert (len(queue), queue.stats().accepted) == (1, 1)
    fill(queue, 2)


def test_i68_a_periodic_inside_its_success_hook_leaves_the_other_place_free(h: Harness) -> None:
    """I68: capacity 2 with one periodic inside its success hook -> one more send fits, and a second does not."""
    queue = h.queue(capacity=2, hook_timeout_floor=30)
    gate = h.gate()
    periodic = Envelope.every(h.s(1000), noop, success_hook=lambda ctx, envelope: gate.wait(ctx))
    queue.send(periodic)
    queue.start()
    h.until(lambda: gate.waiting == 1)
    (other,) = fill(queue, 1)
    gate.open()
    assert queue.join(timeout=60)
    assert queue.cancel(other) is False  # it has run
    stats = queue.stats()
    assert (stats.occupancy, stats.delayed, stats.succeeded) == (1, 1, 1)


def test_i68_a_reschedule_needs_no_room(h: Harness) -> None:
    """I68: retries and periods of a full queue go on: a reschedule never needs new room."""
    queue = h.queue(capacity=2)
    attempts: list[int] = []

    def fails_twice(ctx: Any, envelope: Any) -> None:
        attempts.append(ctx.attempt)
        with pytest.raises(CapacityExceededError):
            queue.send(Envelope(noop))
        if ctx.attempt < 3:
            raise ValueError("again")

    queue.send(
        Envelope(fails_twice, failure_hook=lambda ctx, envelope, error: retry_after(h.s(0.5))),
        Envelope.every(h.s(1000), noop),
    )
    queue.start()
    assert queue.join(timeout=60)
    assert attempts == [1, 2, 3]
    assert len(queue) == 1


def test_i69_send_wait_blocks_until_there_is_room(h: Harness) -> None:
    """I69: send_wait blocks until room: when it returns, what was in the way has ended."""
    queue = h.queue(capacity=1)
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: h.work(ctx, 1)))
    h.until(lambda: queue.stats().running == 1)
    queue.send_wait(Envelope(h.handler("waited for")), timeout=60)
    assert queue.stats().succeeded >= 1
    assert queue.join(timeout=60)
    assert h.labels() == ["waited for"]
    assert h.times("waited for") == [h.about(1)]


def test_i69_a_send_wait_is_seated_when_room_is_made(h: Harness) -> None:
    """I69: a send_wait that waits is seated by whatever makes room: here a cancel, while the worker stays occupied."""
    queue = h.queue(capacity=2)
    gate, blocker = held(h)
    waiting = Envelope(noop)
    queue.start()
    queue.send(blocker)
    h.until(lambda: gate.waiting == 1)
    queue.send(waiting)
    seated = h.in_background(lambda: queue.send_wait(Envelope(h.handler("seated")), timeout=60))
    h.pass_time(0.2)
    assert not seated.done
    assert queue.cancel(waiting)
    seated.result()
    assert (len(queue), queue.stats().ready) == (2, 1)
    gate.open()
    assert queue.join(timeout=60)
    assert h.labels() == ["seated"]


def test_i69_send_wait_times_out(h: Harness) -> None:
    """I69: send_wait times out with CapacityExceededError, and nothing of its batch was taken."""
    queue = h.queue(capacity=2)
    gate, blocker = held(h)
    queue.start()
    queue.send(blocker)
    h.until(lambda: gate.waiting == 1)
    asked_at = h.now()
    with pytest.raises(CapacityExceededError) as refusal:
        queue.send_wait(Envelope(noop), Envelope(noop), timeout=h.s(0.5))
    assert h.now() - asked_at == h.about(0.5)
    assert (refusal.value.capacity, refusal.value.occupancy, refusal.value.needed) == (2, 1, 2)
    assert (len(queue), queue.stats().accepted) == (1, 1)
    gate.open()
    assert queue.join(timeout=60)
    assert queue.stats().runs_started == 1


def test_i69_send_wait_with_timeout_0_does_not_wait(h: Harness) -> None:
    """I69: timeout=0 means at once: taken when it fits, refused when not."""
    queue = h.queue(capacity=1)
    queue.send_wait(Envelope(noop), timeout=0)
    with pytest.raises(CapacityExceededError):
        queue.send_wait(Envelope(noop), timeout=0)
    assert len(queue) == 1


def test_i69_a_batch_larger_than_the_capacity_never_waits(h: Harness) -> None:
    """I69: a batch larger than the capacity raises at once, even without a timeout and into an empty queue."""
    queue = h.queue(capacity=2)
    queue.start()
    with pytest.raises(CapacityExceededError) as refusal:
        queue.send_wait(*[Envelope(noop) for _ in range(3)])
    assert (refusal.value.capacity, refusal.value.occupancy, refusal.value.needed) == (2, 0, 3)
    twice = Envelope(noop)
    queue.send_wait(twice, twice, Envelope(noop), timeout=60)  # three envelopes, but two entries
    assert queue.join(timeout=60)
    assert queue.stats().accepted == 2


def test_i69_duplicates_never_wait(h: Harness) -> None:
    """I69: a send_wait of what is there already merges at once, however full the queue is."""
    queue = h.queue(capacity=1)
    gate, blocker = held(h)
    queue.start()
    queue.send_wait(blocker)
    h.until(lambda: gate.waiting == 1)
    queue.send_wait(blocker)
    queue.send_wait(blocker, blocker)
    assert queue.stats().coalesced == 3
    gate.open()
    assert queue.join(timeout=60)
    assert queue.stats().runs_started == 2


@pytest.mark.parametrize("where", ["invoke", "before_hook", "success_hook", "failure_hook"])
def test_i69_inside_a_worker_send_wait_raises_instead_of_deadlocking(h: Harness, where: str) -> None:
    """I69: inside a worker of its own queue send_wait raises QueueStateError when it would have to wait."""
    queue = h.queue(capacity=1, hook_timeout_floor=30)
    errors: list[BaseException] = []

    def send_wait(*args: Any) -> None:
        try:
            queue.send_wait(Envelope(noop))
        except Exception as error:
            errors.append(error)

    def fails(ctx: Any, envelope: Any) -> None:
        raise ValueError("so that the failure hook is called")

    envelope = Envelope(
        send_wait if where == "invoke" else fails if where == "failure_hook" else noop,
        **({} if where == "invoke" else {where: send_wait}),
    )
    queue.start()
    queue.send(envelope)
    assert queue.join(timeout=60)
    assert [type(error) for error in errors] == [QueueStateError]
    assert queue.stats().accepted == 1


def test_i69_inside_a_worker_send_wait_works_while_there_is_room(h: Harness) -> None:
    """I69: inside a worker, with room for it, send_wait is a send."""
    queue = h.queue(capacity=2)
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: queue.send_wait(Envelope(h.handler("sent inside")))))
    assert queue.join(timeout=60)
    assert h.labels() == ["sent inside"]


def test_i69_a_worker_may_wait_for_room_in_another_queue(h: Harness) -> None:
    """I69: the refusal is about the worker's own queue: into another one a worker may wait."""
    queue, other = h.queue("own"), h.queue("other", capacity=1)
    other.start()
    queue.start()
    other.send(Envelope(lambda ctx, envelope: h.work(ctx, 1)))
    h.until(lambda: other.stats().running == 1)
    queue.send(Envelope(lambda ctx, envelope: other.send_wait(Envelope(h.handler("in the other")), timeout=60)))
    assert queue.join(timeout=60)
    assert other.join(timeout=60)
    assert h.labels() == ["in the other"]


@pytest.mark.parametrize("mode", list(StopMode))
def test_i69_a_stop_ends_the_wait(h: Harness, mode: StopMode) -> None:
    """I69: who waits for room when the queue stops gets QueueStateError, as a send would; nothing of it was taken."""
    queue = h.queue(capacity=1)
    gate, blocker = held(h)
    queue.start()
    queue.send(blocker)
    h.until(lambda: gate.waiting == 1)
    waiting = h.in_background(lambda: queue.send_wait(Envelope(noop)))
    h.pass_time(0.2)
    queue.stop(mode, wait=False)
    with pytest.raises(QueueStateError):
        waiting.result()
    gate.open()
    queue.stop()
    assert queue.stats().accepted == 1


@concurrent_only
def test_i69_many_waiters_all_get_through(h: Harness) -> None:
    """I69: 20 threads that wait for room in a queue of 2 all get it; occupancy is never over the capacity."""
    queue = h.queue(capacity=2, workers=2)
    queue.start()
    seen: list[int] = []
    envelopes = [Envelope(lambda ctx, envelope: seen.append(len(queue))) for _ in range(200)]

    def send_ten(number: int) -> None:
        for envelope in envelopes[number * 10 : number * 10 + 10]:
            queue.send_wait(envelope, timeout=60)

    handles = [h.in_background(lambda number=number: send_ten(number)) for number in range(20)]
    for handle in handles:
        handle.result()
    assert queue.join(timeout=60)
    assert len(seen) == 200
    assert max(seen) <= 2
    assert queue.stats().succeeded == 200
