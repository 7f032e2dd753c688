"""Line 70a for as_executor: the rulings of CONTRACT 2 and 7 about the executor are tests."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import pytest

from rate_envelope_queue import CapacityExceededError, Envelope, QueueNotRunningError, QueueState

from .harness import Harness, blocking_only

pytestmark = blocking_only("an Executor blocks whoever asks for a result: AsyncEnvelopeQueue has none")


def fail(*args: Any) -> None:
    raise ZeroDivisionError(*args)


def running(h: Harness, **options: Any) -> Any:
    queue = h.queue(**options)
    queue.start()
    return queue


def test_is_an_executor(h: Harness) -> None:
    """70a executor: as_executor gives a concurrent.futures.Executor: submit and map over this queue."""
    queue = running(h, workers=2)
    executor = queue.as_executor()
    assert isinstance(executor, Executor)
    assert executor.submit(pow, 2, exp=5).result(20) == 32
    assert executor.submit(lambda fn: fn, fn=3).result(20) == 3
    assert list(executor.map(pow, [2, 3, 4], [5, 2, 1])) == [32, 9, 4]
    assert queue.stats().succeeded == 5


def test_failures_belong_to_their_futures(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """70a executor: an executor's failures belong to its futures: no dead letter, no warning."""
    queue = running(h)
    future = queue.as_executor().submit(fail, "mine")
    with pytest.raises(ZeroDivisionError, match="mine"):
        future.result(20)
    queue.join()
    assert list(queue.dead_letters()) == []
    assert [record for record in caplog.records if record.levelno >= 30] == []


def test_a_failure_is_not_retried(h: Harness) -> None:
    """70a executor: a function that failed is not called again."""
    queue = running(h)
    assert queue.as_executor().submit(lambda: h.mark("called") or fail()).exception(20) is not None
    queue.join()
    assert h.labels() == ["called"]


def test_shutdown_waits_for_its_own_futures(h: Harness) -> None:
    """70a executor: shutdown waits for its own futures, and for nothing else."""
    queue = running(h)
    executor = queue.as_executor()
    futures = [executor.submit(h.mark, number) for number in range(3)]
    queue.send(Envelope(h.handler("never")), delay=h.s(1000))
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert h.labels() == [0, 1, 2]


def test_with_shuts_down(h: Harness) -> None:
    """70a executor: with shuts it down."""
    queue = running(h)
    with queue.as_executor() as executor:
        future = executor.submit(pow, 2, 3)
    assert future.done()
    with pytest.raises(RuntimeError):
        executor.submit(pow, 2, 3)


def test_shutdown_affects_only_its_own(h: Harness) -> None:
    """70a executor: shutdown affects only its own futures: the queue and its other executors go on."""
    queue, gate = running(h), h.gate()
    queue.send(Envelope(lambda ctx, envelope: gate.wait(ctx)))
    h.until(lambda: gate.waiting)
    one, other = queue.as_executor(), queue.as_executor()
    mine, yours = one.submit(pow, 2, 3), other.submit(pow, 2, 4)
    plain = queue.submit(Envelope(h.handler("plain")))
    one.shutdown(wait=False, cancel_futures=True)
    assert (mine.cancelled(), yours.done(), plain.done()) == (True, False, False)
    assert queue.state is QueueState.RUNNING
    gate.open()
    assert (yours.result(20), plain.result(20)) == (16, "plain")
    assert other.submit(pow, 2, 5).result(20) == 32


def test_shutdown_cancels_what_waits(h: Harness) -> None:
    """70a executor: cancel_futures cancels what waits, and leaves nothing of it in the queue."""
    queue = running(h)
    queue.pause()
    executor = queue.as_executor()
    waiting = [executor.submit(pow, 2, number) for number in range(3)]
    executor.shutdown(cancel_futures=True)
    assert [future.cancelled() for future in waiting] == [True] * 3
    assert len(queue) == 0


def test_shutdown_without_waiting(h: Harness) -> None:
    """70a executor: shutdown(wait=False) returns at once, and what was submitted is still done."""
    queue, gate = running(h), h.gate()
    queue.send(Envelope(lambda ctx, envelope: gate.wait(ctx)))
    h.until(lambda: gate.waiting)
    executor = queue.as_executor()
    future = executor.submit(pow, 2, 3)
    executor.shutdown(wait=False)
    assert not future.done()
    gate.open()
    assert future.result(20) == 8


def test_submit_after_shutdown(h: Harness) -> None:
    """70a executor: `submit` after shutdown raises RuntimeError; shutdown twice is fine."""
    queue = running(h)
    executor = queue.as_executor()
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(pow, 2, 3)
    with pytest.raises(RuntimeError):
        executor.map(pow, [2], [3])
    assert len(queue) == 0


def test_what_the_queue_refuses(h: Harness) -> None:
    """70a executor: it works over this queue: its capacity and its state hold."""
    queue = h.queue(capacity=1)
    executor = queue.as_executor()
    executor.submit(pow, 2, 3)
    with pytest.raises(CapacityExceededError):
        executor.submit(pow, 2, 3)
    queue.start()
    queue.stop()
    with pytest.raises(QueueNotRunningError):
        executor.submit(pow, 2, 3)
    executor.shutdown()


def test_a_future_may_be_cancelled(h: Harness) -> None:
    """70a executor: its futures may be cancelled while they wait."""
    queue = h.queue()
    future = queue.as_executor().submit(h.mark, "never")
    assert future.cancel()
    queue.start()
    h.pass_time(1)
    assert (h.labels(), len(queue)) == ([], 0)


@pytest.mark.parametrize("function", [None, 5, "pow"])
def test_what_cannot_be_called(h: Harness, function: Any) -> None:
    """70a executor: submit takes what can be called."""
    with pytest.raises(TypeError):
        h.queue().as_executor().submit(function)
