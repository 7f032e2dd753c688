"""Line 70a for send_wait: each ruling of CONTRACT 6 is a test."""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue import (
    CapacityExceededError,
    Envelope,
    QueueState,
    QueueStateError,
    QueueTerminatedError,
    StopMode,
)

from .harness import Handle, Harness


def noop(ctx: Any, envelope: Any) -> None: ...


def full(h: Harness, capacity: int = 1) -> tuple[Any, list[Envelope]]:
    """A queue that runs, full of entries that stay until they are cancelled."""
    queue = h.queue(capacity=capacity)
    queue.start()
    envelopes = [Envelope(noop) for _ in range(capacity)]
    queue.send(*envelopes, delay=h.s(1000))
    return queue, envelopes


def waiter(h: Harness, queue: Any, *envelopes: Envelope, timeout: float | None = None) -> Handle:
    """A send_wait beside the test, which has begun to wait."""
    handle = h.in_background(lambda: queue.send_wait(*envelopes, timeout=timeout))
    h.pass_time(4)
    assert not handle.done
    return handle


def test_with_room_it_is_a_send(h: Harness) -> None:
    """70a send_wait: with room it returns at once, and what it sent runs in order."""
    queue = h.queue(capacity=2)
    queue.send_wait(Envelope(h.handler(1)), Envelope(h.handler(2)), timeout=0)
    assert len(queue) == 2
    queue.start()
    h.until(lambda: h.labels() == [1, 2])


def test_blocks_until_there_is_room(h: Harness) -> None:
    """70a send_wait: blocks until there is room."""
    queue = h.queue(capacity=1)
    queue.start()
    queue.send(Envelope(h.handler("first", seconds=3)))
    began_at = h.now()
    h.until(lambda: queue.stats().running)
    queue.send_wait(Envelope(h.handler("second")))
    assert h.now() >= h.times("first")[0] + 3 - 1e-6
    assert h.now() - began_at == h.about(3)
    h.until(lambda: h.labels() == ["first", "second"])


def test_times_out(h: Harness) -> None:
    """70a send_wait: times out with CapacityExceededError, not before its time, and nothing is sent."""
    queue, _ = full(h)
    began_at = h.now()
    with pytest.raises(CapacityExceededError) as caught:
        queue.send_wait(Envelope(h.handler("never")), timeout=h.s(2))
    assert h.now() - began_at == h.about(2)
    assert (caught.value.capacity, caught.value.occupancy, caught.value.needed) == (1, 1, 1)
    queue.clear()
    assert (len(queue), queue.stats().accepted) == (0, 1)
    h.pass_time(1)
    assert h.labels() == []


def test_timeout_zero(h: Harness) -> None:
    """70a send_wait: timeout=0 means at once: CapacityExceededError when there is no room now."""
    queue, _ = full(h)
    with pytest.raises(CapacityExceededError):
        queue.send_wait(Envelope(noop), timeout=0)


def test_is_fifo_among_waiters(h: Harness) -> None:
    """70a send_wait: FIFO among waiters."""
    queue, envelopes = full(h, capacity=3)
    waiters = [waiter(h, queue, Envelope(noop, id=number)) for number in range(3)]
    for number, envelope in enumerate(envelopes):
        queue.pause()
        queue.cancel(envelope)
        waiters[number].result()
        assert [waiter.done for waiter in waiters] == [at <= number for at in range(3)]


def test_a_small_batch_does_not_pass_a_large_one(h: Harness) -> None:
    """70a send_wait: FIFO among waiters: a later one that would fit waits for the one before it."""
    queue, envelopes = full(h, capacity=3)
    queue.pause()
    large = waiter(h, queue, Envelope(noop), Envelope(noop))
    small = waiter(h, queue, Envelope(noop))
    queue.cancel(envelopes[0])
    h.pass_time(1)
    assert (large.done, small.done, len(queue)) == (False, False, 2)
    queue.cancel(envelopes[1])
    large.result()
    h.pass_time(1)
    assert (small.done, len(queue)) == (False, 3)
    queue.cancel(envelopes[2])
    small.result()


def test_is_seated_in_the_section_that_frees_room(h: Harness) -> None:
    """70a send_wait: seated in the very section that frees room: no moment shows the room as free."""
    queue, envelopes = full(h, capacity=2)
    queue.pause()
    both = waiter(h, queue, Envelope(noop), Envelope(noop))
    queue.clear()
    assert len(queue) == 2
    both.result()
    one = waiter(h, queue, Envelope(noop, key="new"))
    assert not queue.cancel(envelopes[0])
    assert queue.cancel(queue.snapshot()[0].envelope)
    assert len(queue) == 2
    one.result()
    assert queue.cancel("new")


def test_a_plain_send_may_pass(h: Harness) -> None:
    """70a send_wait: a plain send may pass waiters."""
    queue, envelopes = full(h, capacity=3)
    queue.pause()
    large = waiter(h, queue, Envelope(noop), Envelope(noop))
    queue.cancel(envelopes[0])
    assert queue.send(Envelope(noop)) == 1
    assert not large.done
    queue.clear()
    large.result()


def test_duplicates_never_wait(h: Harness) -> None:
    """70a send_wait: duplicates never wait."""
    queue, envelopes = full(h, capacity=2)
    queue.pause()
    queue.send_wait(envelopes[0], timeout=0)
    queue.send_wait(envelopes[1], envelopes[0], envelopes[1])
    assert (len(queue), queue.stats().ready, queue.stats().delayed) == (2, 2, 0)


def test_a_duplicate_passes_waiters(h: Harness) -> None:
    """70a send_wait: duplicates never wait, whoever waits before them."""
    queue, envelopes = full(h)
    queue.pause()
    other = waiter(h, queue, Envelope(noop))
    queue.send_wait(envelopes[0], timeout=0)
    assert not other.done
    queue.clear()
    other.result()


def test_only_distinct_new_ones_need_room(h: Harness) -> None:
    """70a send_wait: needs room for its distinct new entries only."""
    queue, envelopes = full(h, capacity=2)
    queue.pause()
    queue.cancel(envelopes[1])
    new = Envelope(noop)
    queue.send_wait(envelopes[0], new, new, timeout=0)
    assert len(queue) == 2


def test_a_batch_larger_than_the_capacity(h: Harness) -> None:
    """70a send_wait: a batch larger than the capacity raises CapacityExceededError at once."""
    queue = h.queue(capacity=2)
    queue.start()
    began_at = h.now()
    with pytest.raises(CapacityExceededError) as caught:
        queue.send_wait(*(Envelope(noop) for _ in range(3)))
    assert (caught.value.capacity, caught.value.needed) == (2, 3)
    assert h.now() - began_at == h.about(0)
    assert len(queue) == 0


def test_without_capacity_it_never_waits(h: Harness) -> None:
    """70a send_wait: with capacity=None there is always room."""
    queue = h.queue(capacity=None)
    queue.send_wait(*(Envelope(noop) for _ in range(100)), timeout=0)
    assert len(queue) == 100


@pytest.mark.parametrize("hook", ["invoke", "before_hook", "success_hook"])
def test_inside_a_worker_of_its_own_queue(h: Harness, hook: str) -> None:
    """70a send_wait: QueueStateError inside a worker of its own queue when it would have to wait."""
    queue = h.queue(capacity=1)

    def inside(ctx: Any, envelope: Any) -> None:
        with pytest.raises(QueueStateError):
            ctx.queue.send_wait(Envelope(noop))
        with pytest.raises(QueueStateError):
            ctx.queue.send_wait(Envelope(noop), timeout=h.s(1))
        h.mark("refused")

    queue.start()
    queue.send(Envelope(**{"invoke": noop, hook: inside}))
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["refused"]


def test_inside_a_worker_with_room(h: Harness) -> None:
    """70a send_wait: inside a worker of its own queue it is a send, as long as there is room."""
    queue = h.queue(capacity=2)
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: ctx.queue.send_wait(Envelope(h.handler("sent")))))
    h.until(lambda: h.labels() == ["sent"])


def test_inside_a_worker_of_another_queue(h: Harness) -> None:
    """70a send_wait: a worker of another queue may wait."""
    queue, envelopes = full(h)
    other = h.queue("other")
    other.start()
    other.send(Envelope(lambda ctx, envelope: queue.send_wait(Envelope(h.handler("sent")))))
    h.pass_time(1)
    assert len(other) == 1
    queue.cancel(envelopes[0])
    h.until(lambda: h.labels() == ["sent"])


def test_one_that_gives_up_lets_the_next_in(h: Harness) -> None:
    """70a send_wait: when the first in the line times out, the next that fits is seated at once."""
    queue, envelopes = full(h, capacity=3)
    queue.pause()
    large = waiter(h, queue, Envelope(noop), Envelope(noop), timeout=h.s(12))
    small = waiter(h, queue, Envelope(noop, key="small"))
    queue.cancel(envelopes[0])
    assert not small.done
    with pytest.raises(CapacityExceededError):
        large.result()
    small.result()
    assert queue.cancel("small")


def test_in_init(h: Harness) -> None:
    """70a send_wait: in INIT it waits too, and is seated when the start has made room."""
    queue = h.queue(capacity=1)
    queue.send(Envelope(h.handler("first")))
    second = waiter(h, queue, Envelope(h.handler("second")))
    queue.start()
    second.result()
    h.until(lambda: h.labels() == ["first", "second"])


@pytest.mark.parametrize("mode", list(StopMode))
def test_pending_when_the_queue_stops(h: Harness, mode: StopMode) -> None:
    """70a send_wait: pending when the queue stops: it is refused like a send, and nothing is sent."""
    queue, envelopes = full(h)
    second = waiter(h, queue, Envelope(h.handler("never")))
    report = queue.stop(mode)
    with pytest.raises(QueueStateError):
        second.result()
    assert report.kept == tuple(envelopes)
    assert queue.state is QueueState.STOPPED


def test_pending_when_the_queue_is_terminated(h: Harness) -> None:
    """70a send_wait: pending when the queue is terminated: QueueTerminatedError."""
    queue, _ = full(h)
    second = waiter(h, queue, Envelope(noop))
    queue.terminate()
    with pytest.raises(QueueTerminatedError):
        second.result()


def test_many_waiters(h: Harness) -> None:
    """70a send_wait: many waiters through one small queue: all are seated, none twice."""
    queue = h.queue(workers=2, capacity=2)
    queue.start()
    waiters = [h.in_background(lambda n=number: queue.send_wait(Envelope(h.handler(n)))) for number in range(16)]
    for each in waiters:
        each.result()
    queue.join()
    assert sorted(h.labels()) == list(range(16))
