"""Section L: delayed adds, on a WorkQueue whose clock is virtual: it moves only when the test says so."""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue.testing import VirtualClock
from rate_envelope_queue.workqueue import ExponentialBackoff, ShutDown, WorkQueue


class Bench:
    """A WorkQueue, and its clock."""

    def __init__(self, **options: Any) -> None:
        self.clock = VirtualClock()
        self.queue: WorkQueue[str] = WorkQueue(clock=self.clock, **options)

    def step(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def ready(self) -> list[str]:
        """Everything that can be had now, in order; all of it done with."""
        found = []
        while True:
            try:
                found.append(self.queue.get(timeout=0))
            except TimeoutError:
                break
        for item in found:
            self.queue.done(item)
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_l82_not_a_millisecond_early(bench: Bench) -> None:
    """L82: add_after 50 ms: not at 49, there at 50; not again 10 s later."""
    bench.queue.add_after("foo", 0.050)
    assert len(bench.queue) == 0
    assert bench.ready() == []
    bench.step(0.049)
    assert bench.ready() == []
    bench.step(0.001)
    assert len(bench.queue) == 1
    assert bench.ready() == ["foo"]
    bench.step(10)
    assert bench.ready() == []
    assert len(bench.queue) == 0


def test_l82_no_delay_is_an_add(bench: Bench) -> None:
    """L82: a delay of 0 adds at once."""
    bench.queue.add_after("foo", 0)
    assert bench.ready() == ["foo"]


@pytest.mark.parametrize("delay", [float("nan"), float("inf"), True, "1"])
def test_l82_what_is_no_delay_is_refused(bench: Bench, delay: Any) -> None:
    """L82: a delay that is no time is refused, names the argument, and adds nothing."""
    with pytest.raises((ValueError, TypeError), match="delay"):
        bench.queue.add_after("foo", delay)
    bench.step(10)
    assert bench.ready() == []


def test_l83_the_earlier_time_wins_over_a_later_add(bench: Bench) -> None:
    """L83: 50 then 70 ms: once, at 50."""
    bench.queue.add_after("foo", 0.050)
    bench.queue.add_after("foo", 0.070)
    assert bench.ready() == []
    bench.step(0.050)
    assert bench.ready() == ["foo"]
    bench.step(0.020)
    assert bench.ready() == []
    bench.step(10)
    assert bench.ready() == []


def test_l84_an_earlier_time_replaces_the_later(bench: Bench) -> None:
    """L84: 50 then 30: once, at 30."""
    bench.queue.add_after("foo", 0.050)
    bench.queue.add_after("foo", 0.030)
    bench.step(0.029)
    assert bench.ready() == []
    bench.step(0.001)
    assert bench.ready() == ["foo"]
    bench.step(0.020)
    assert bench.ready() == []
    bench.step(10)
    assert bench.ready() == []


def test_l84_a_plain_add_is_the_earliest_of_all(bench: Bench) -> None:
    """L84: an add of what is delayed makes it ready now, once."""
    bench.queue.add_after("foo", 0.050)
    bench.queue.add("foo")
    assert bench.ready() == ["foo"]
    bench.step(10)
    assert bench.ready() == []


def test_l84_a_delayed_add_of_what_waits_changes_nothing(bench: Bench) -> None:
    """L84: add_after of what is ready already is merged into it."""
    bench.queue.add("foo")
    bench.queue.add_after("foo", 0.050)
    assert bench.ready() == ["foo"]
    bench.step(10)
    assert bench.ready() == []


def test_l85_the_order_is_that_of_due_times(bench: Bench) -> None:
    """L85: 1 s, 50 ms, later 2 s: order second, first, third."""
    bench.queue.add_after("first", 1)
    bench.queue.add_after("second", 0.050)
    bench.step(0.060)
    assert bench.ready() == ["second"]
    bench.queue.add_after("third", 2)
    bench.step(1)
    assert bench.ready() == ["first"]
    bench.step(2)
    assert bench.ready() == ["third"]


def test_l86_several_due_in_one_step(bench: Bench) -> None:
    """L86: 1, 0.5, 0.25 s, step 2 s: order third, second, first."""
    bench.queue.add_after("first", 1)
    bench.queue.add_after("second", 0.5)
    bench.queue.add_after("third", 0.25)
    assert bench.ready() == []
    bench.step(2)
    assert bench.ready() == ["third", "second", "first"]


def test_l86_equal_due_times_keep_the_order_of_adds(bench: Bench) -> None:
    """L86: a hundred items due at the same instant come in the order in which they were added."""
    items = [str(number) for number in range(100)]
    for item in items:
        bench.queue.add_after(item, 1)
    bench.step(1)
    assert bench.ready() == items


def test_l86_a_delayed_add_while_processed_waits_for_done(bench: Bench) -> None:
    """L86: delayed while it is processed: it comes at its time, but never before done."""
    bench.queue.add("foo")
    assert bench.queue.get(timeout=0) == "foo"
    bench.queue.add_after("foo", 1)
    bench.step(2)
    assert bench.ready() == []
    bench.queue.done("foo")
    assert bench.ready() == ["foo"]

    bench.queue.add("bar")
    assert bench.queue.get(timeout=0) == "bar"
    bench.queue.add_after("bar", 1)
    bench.queue.done("bar")
    assert bench.ready() == []
    bench.step(1)
    assert bench.ready() == ["bar"]


def test_l86_rate_limited_adds_are_delayed_adds() -> None:
    """L86: add_rate_limited delays by what the limiter says; forget starts again."""
    bench = Bench(limiter=ExponentialBackoff(0.001, 1))
    at = bench.clock.now()
    waited = []
    for _ in range(4):
        before = bench.clock.now()
        bench.queue.add_rate_limited("foo")
        while not bench.ready():
            bench.step(0.0005)
        waited.append(bench.clock.now() - before)
    assert waited == pytest.approx([0.001, 0.002, 0.004, 0.008], abs=1e-9)
    assert bench.queue.num_requeues("foo") == 4
    bench.queue.forget("foo")
    bench.queue.add_rate_limited("foo")
    bench.step(0.001)
    assert bench.ready() == ["foo"]
    assert bench.clock.now() - at == pytest.approx(0.016)


def test_l86_a_shutdown_ends_delayed_adds(bench: Bench) -> None:
    """L86: what is still delayed at the shutdown is never delivered, and neither shutdown waits for it."""
    bench.queue.add_after("foo", 1)
    bench.queue.shut_down_with_drain()
    bench.queue.add_after("bar", 1)
    bench.step(10)
    assert len(bench.queue) == 0
    with pytest.raises(ShutDown):
        bench.queue.get()
