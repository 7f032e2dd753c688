"""What is measured: buckets, many values, keys and clocks that raise, and what of the machine stays as quick as it is.

That each wait and run is measured as it was is shown by the programs of `tests/property`.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import pytest

from rate_envelope_queue import Envelope, Histogram, Outcome
from rate_envelope_queue.core import effects
from rate_envelope_queue.core.settle import SUCCESS
from rate_envelope_queue.core.times import MOST_PENDING
from rate_envelope_queue.events import OBSERVABLE
from rate_envelope_queue.results import BOUNDS

from .machine_world import World, handler, plain, retry

OF_SENDS, OF_RUNS = {"accepted", "coalesced"}, {"started", "succeeded", "ended"}


def watched(*told: str, is_measured: bool = False, **options: Any) -> World:
    world = World(**options)
    world.machine.watch(frozenset(told), is_measured=is_measured)
    world.done()
    return world


def run(world: World, envelope: Envelope, waits: float, takes: float) -> None:
    """Send it, let it wait, and run it."""
    world.send(envelope)
    world.now += waits
    handle = world.take()
    world.now += takes
    world.end(handle, SUCCESS)


def test_the_bounds_are_decades_as_client_go_computes_them() -> None:
    """CONTRACT 11: every third bound is a bucket of client-go, `ExponentialBuckets(10e-9, 10, 12)`, to the last bit."""
    decade = 10e-9
    for index in range(12):
        assert BOUNDS[3 * index] == decade
        decade *= 10
    assert list(BOUNDS) == sorted(BOUNDS)
    assert BOUNDS[9] == 9.999999999999999e-06


@pytest.mark.parametrize("how", ["one by one", "together"])
def test_many_values_are_in_their_buckets(how: str) -> None:
    """11: more values than are kept unsorted, on and between bounds, below and above all."""
    values = [0.0, *BOUNDS, *(bound * 1.01 for bound in BOUNDS), 1e9] * (2 * MOST_PENDING // len(BOUNDS))
    world = watched(is_measured=True)
    for value in values if how == "together" else values[:92]:
        run(world, plain(), 0, value)
        if how == "one by one":
            measured = world.machine.measured()
    measured = world.machine.measured()
    assert measured is not None
    seen = values if how == "together" else values[:92]
    expected = [0] * (len(BOUNDS) + 1)
    # what is measured are differences of a clock that has come far: looked for by the difference itself
    now = 0.0
    total = 0.0
    for value in seen:
        began, now = now, now + value
        expected[bisect_left(BOUNDS, now - began)] += 1
        total += now - began
    assert measured.ran == Histogram(BOUNDS, tuple(expected), pytest.approx(total))
    assert (measured.ran.count, measured.waited.count) == (len(seen), len(seen))
    assert measured.waited.counts[0] == len(seen)


@pytest.mark.parametrize("is_older", [False, True])
def test_a_backlog_is_put_into_buckets_in_time(is_older: bool) -> None:
    """11: a worker that takes one plain envelope after another keeps a bounded number of values, also when the backlog
    is older than the measuring, so that nobody knows how long it waited."""
    world = watched(is_measured=not is_older)
    world.send(*[plain() for _ in range(MOST_PENDING + 10)])
    world.machine.watch(frozenset(), is_measured=True)
    handle, most = world.take(), 0
    times = world.machine.times
    assert times is not None
    while handle is not None:
        world.now += 1
        handle = world.turn(handle)
        most = max(most, len(times._both.pending), len(times._runs.pending))
    assert most <= MOST_PENDING
    measured = world.machine.measured()
    assert measured is not None
    waited = 0 if is_older else sum(range(MOST_PENDING + 10))
    assert (measured.ran.total, measured.waited.total) == (MOST_PENDING + 10, waited)


def test_runs_with_notes_are_bounded_too() -> None:
    """11: what has a key, and so a record of its own, is put into buckets in time as well."""
    world = watched(is_measured=True)
    for number in range(MOST_PENDING + 10):
        run(world, Envelope(handler, key=number), 1, 2)
    times = world.machine.times
    assert times is not None
    assert len(times._runs.pending) < MOST_PENDING
    measured = world.machine.measured()
    assert measured is not None
    assert (measured.ran.total, measured.waited.total) == (2.0 * (MOST_PENDING + 10), 1.0 * (MOST_PENDING + 10))


@pytest.mark.parametrize("event", OBSERVABLE)
def test_an_event_that_is_rare_costs_nothing_until_it_comes(event: str) -> None:
    """Only what is told of every send takes the short way of sends, of every run that of runs."""
    world = watched(event)
    assert bool(world.machine.swift) == (event not in OF_SENDS | OF_RUNS)
    assert world.machine.calm == (event not in OF_RUNS)


@pytest.mark.parametrize("told", [(), ("failed", "dropped", "stuck")])
def test_when_nobody_watches_any_more_the_short_ways_are_back(told: tuple[str, ...]) -> None:
    """Who has watched leaves nothing behind."""
    world = watched(*OBSERVABLE, is_measured=True)
    world.send(plain())
    world.machine.watch(frozenset(told), is_measured=False)
    world.done()
    assert (world.machine.swift, world.machine.calm, world.machine.times) == ("threads", True, None)
    assert world.machine.measured() is None


class Key:
    """A key that can be looked up until it is bad."""

    is_bad = False

    def __hash__(self) -> int:
        if self.is_bad:
            raise ValueError("no hash any more")
        return 1


def told_of(world: World) -> list[tuple[str, ...]]:
    return [effect[1:2] + effect[3:4] for effect in world.found(effects.TOLD)]


def test_a_key_that_raises_is_told_as_failed_and_ended() -> None:
    """I-19: what is evicted has failed, and ended; nothing is known of times then, and the rest goes on."""
    world, key = watched("failed", "ended", is_measured=True), Key()
    world.send(Envelope(handler, key=key), plain())
    handle = world.take()
    key.is_bad = True
    error = ValueError("no hash any more")
    with pytest.raises(ValueError, match="no hash"):
        world.machine.turn(handle, SUCCESS, None)
    world.machine.evict(handle, error)
    key.is_bad = False
    world.done()
    assert [(event[0], event[1]) for event in told_of(world)] == [("failed", 1), ("ended", Outcome.DROPPED)]
    assert world.machine.stats().runs_failed == 1
    world.end(world.take(), SUCCESS)
    measured = world.machine.measured()
    assert measured is not None
    assert (measured.unfinished, measured.ran.count, measured.depth) == (0, 1, 0)


@pytest.mark.parametrize(
    "method", ["admitted", "readied", "resent", "unsent", "begun", "over", "goes_round", "planned"]
)
def test_a_key_that_raises_is_not_measured(method: str) -> None:
    """9: each note about a time is harmless where a user's key raises: the rules of the queue go on."""
    world, key = watched(is_measured=True), Key()
    key.is_bad = True
    times = world.machine.times
    arguments: dict[str, tuple[Any, ...]] = {
        "admitted": ({},), "readied": (1.0,), "begun": (1.0,), "planned": (1.0,),
    }  # fmt: skip
    options = {"is_ready": True} if method == "resent" else {}
    if method in ("unsent", "over", "goes_round"):  # of an empty dict nothing is looked up
        world.send(Envelope(handler, key="other"), Envelope(handler, key="another"))
        world.take()
        world.send(Envelope(handler, key="other"))
        world.send(Envelope(handler, key="another"))
    assert getattr(times, method)(key, *arguments.get(method, ()), **options) is None


def test_a_clock_that_raises_refuses_a_send_as_a_whole() -> None:
    """2: after an error of `send` nothing has changed: also where the clock of a queue that measures raises."""
    world = watched(is_measured=True)
    times = world.machine.times
    assert times is not None

    def broken() -> float:
        raise OSError("no clock")

    world.machine.clock = times._clock = broken
    for envelopes in ([plain()], [plain(), plain()]):
        with pytest.raises(OSError, match="no clock"):
            world.send(*envelopes)
    with pytest.raises(OSError, match="no clock"):
        world.machine.send([Envelope(handler, key="k")])
    assert (world.machine.stats().accepted, len(world.machine.ready)) == (0, 0)


def test_what_was_there_before_is_measured_from_its_next_wait_on() -> None:
    """11: nothing is known of how long it has waited, nor of the run that goes on; of the retry all is."""
    world = World(workers=2)
    world.send(Envelope(handler, key="runs"), Envelope(handler, key="waits"))
    handle = world.take()
    world.machine.watch(frozenset(), is_measured=True)
    world.now = 5.0
    waiting = world.take()
    world.now = 6.0
    world.end(handle, retry(1.0))
    world.end(waiting, SUCCESS)
    world.at(8.0)
    world.end(world.take(), SUCCESS)
    measured = world.machine.measured()
    assert measured is not None
    assert (measured.waited.count, measured.waited.total) == (1, 1.0)
    assert (measured.ran.count, measured.ran.total) == (2, 1.0)
    assert measured.latency.count == 0
    assert measured.adds == 3


def test_the_overdue_are_counted_and_left_alone() -> None:
    """11: what is due counts in the depth though no worker has looked; reading changes nothing."""
    world = watched(is_measured=True, workers=1)
    for number in range(20):
        world.send(Envelope(handler, key=number), delay=1.0 + number)
    world.machine.cancel(3)
    world.done()
    world.now = 10.0
    before = world.machine.stats()
    measured = world.machine.measured()
    assert measured is not None
    assert (measured.depth, measured.adds) == (9, 0)
    assert world.machine.stats() == before
    assert world.machine.delays.count_due(10.0, 4) == 4
