"""The machine by itself: what of the sequences that bite, 1 to 7, can only be seen there."""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue.core import effects
from rate_envelope_queue.core.entries import BLOCKED
from rate_envelope_queue.core.settle import RUN_SUCCEEDED, Verdict, cancelled, dropped, next_period, stopped
from rate_envelope_queue.envelope import Envelope
from rate_envelope_queue.limiters import TokenBucket
from rate_envelope_queue.results import Outcome, QueueState, StopMode

from .machine_world import World, handler, many, plain, retry


def abandon(world: World, envelope: Envelope, *, resent: bool = False, delay: float | None = None) -> Any:
    """Run *envelope*, perhaps send it again, give up on it, start again; the handle that still runs."""
    world.send(envelope)
    handle = world.take()
    if resent:
        world.send(envelope, delay=delay)
    world.stop(timeout=0, grace=0)
    world.start()
    return handle


def test_s01_the_resend_yields_no_later_than_the_retry() -> None:
    """S01: re-sent while running, STOP, the run asks for a retry in 5 s: kept once, ready, attempt 1."""
    world, envelope = World(), plain()
    world.send(envelope)
    handle = world.take()
    assert world.send(envelope) == 0
    world.stop(StopMode.STOP)
    world.end(handle, retry(5))
    assert world.report().kept == (envelope,)
    assert world.machine.delays.size == 0
    world.start()
    again = world.take()
    assert (again.attempt, again.envelope) == (1, envelope)


def test_s01_a_delayed_resend_yields_to_an_earlier_retry() -> None:
    """S01: the earlier of the two times wins, whichever it is."""
    for asked, after, due in ((3.0, 5.0, 3.0), (5.0, 3.0, 3.0)):
        world, envelope = World(), plain()
        world.send(envelope)
        handle = world.take()
        world.send(envelope, delay=asked)
        world.end(handle, retry(after))
        assert world.machine.next_at() == due


def test_s02_the_last_of_send_and_cancel_wins() -> None:
    """S02: cancel, send: one more run. Send, cancel: none. Send, cancel, send: one more."""
    for calls, runs in (("cs", 2), ("sc", 1), ("scs", 2), ("csc", 1)):
        world, envelope = World(), plain()
        world.send(envelope)
        handle = world.take()
        for call in calls:
            if call == "s":
                assert world.send(envelope) == 0
            else:
                assert world.cancel(envelope)
        world.end(handle)
        assert 1 + len(world.take_all()) == runs
        assert world.machine.count(Outcome.SUCCEEDED) == 1


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        (None, Outcome.SUCCEEDED),
        (stopped(ValueError()), Outcome.STOPPED),
        (dropped(ValueError()), Outcome.DROPPED),
        (retry(), Outcome.RETURNED),
        (retry(5), Outcome.RETURNED),
        (cancelled(), Outcome.RETURNED),
        (next_period(RUN_SUCCEEDED, 9, 9, error=None, is_late=False), Outcome.RETURNED),
    ],
)
def test_s02_how_a_cancelled_run_ends(verdict: Verdict | None, outcome: Outcome) -> None:
    """S02: a cancelled run keeps what it achieved; what would have gone on is RETURNED."""
    world, envelope = World(), plain()
    world.send(envelope)
    handle = world.take()
    world.cancel(envelope)
    world.end(handle, verdict) if verdict else world.end(handle)
    assert (world.machine.count(outcome), len(world.machine.entries)) == (1, 0)


@pytest.mark.parametrize("key", [None, "k"])
def test_s03_a_new_entry_waits_behind_an_abandoned_run(key: str | None) -> None:
    """S03: abandon, restart, send the same: a new entry, blocked; the late end readies it and counts nothing else."""
    world, envelope = World(), Envelope(handler, key=key)
    old = abandon(world, envelope)
    assert world.machine.count(Outcome.ABANDONED) == 1
    assert world.send(envelope) == 1
    assert world.take() is None
    assert world.machine.stats().ready == 1
    before = world.machine.stats()
    world.end(old, dropped(ValueError("late")))
    after = world.machine.stats()
    assert (after.dropped, after.runs_failed, after.accepted) == (0, 0, before.accepted)
    assert (after.abandoned_ended, world.found(effects.DEAD)) == (1, [])
    assert world.take_all() == [envelope]
    assert world.machine.swift
    assert world.machine.calm


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("how", ["cancel", "clear", "terminate", "replace"])
def test_s04_what_is_kept_behind_an_abandoned_run_goes_first(key: str | None, how: str) -> None:
    """S04: abandoned with a re-send, and the successor leaves before the old run ends: its end finds its key."""
    world, envelope = World(is_replacing=True), Envelope(handler, key=key)
    old = abandon(world, envelope, resent=True)
    assert world.machine.entries[key or envelope].phase == BLOCKED  # type: ignore[union-attr]
    if how == "cancel":
        assert world.cancel(key or envelope)
    elif how == "clear":
        assert world.done(world.machine.clear()) == [envelope]
    elif how == "terminate":
        world.terminate()
        assert world.report().returned == (envelope,)
    else:
        world.send(Envelope(handler, key=key) if key else envelope)
    world.end(old)
    assert (world.machine.ghosts, world.machine.abandoned_ended) == ({}, 1)
    assert len(world.take_all()) == (how == "replace")


@pytest.mark.parametrize("key", [None, "k"])
def test_s04_a_delayed_resend_is_never_early(key: str | None) -> None:
    """S04: the pending re-send had a delay: neither the abandonment nor the end of the old run shortens it."""
    world, envelope = World(), Envelope(handler, key=key)
    old = abandon(world, envelope, resent=True, delay=5)
    world.end(old)
    assert world.take() is None
    world.at(5)
    assert world.take_all() == [envelope]


@pytest.mark.parametrize("key", [None, "k"])
def test_s04_due_while_the_old_run_goes_on(key: str | None) -> None:
    """S04: a delayed entry comes due while an abandoned run holds its key: it waits for that, without being lost."""
    world, envelope = World(), Envelope(handler, key=key)
    old = abandon(world, envelope)
    world.send(envelope, delay=5)
    world.at(6)
    assert world.take() is None
    assert world.machine.stats().ready == 1
    world.end(old)
    assert world.take_all() == [envelope]


@pytest.mark.parametrize("key", [None, "k"])
def test_s04_abandoned_twice(key: str | None) -> None:
    """S04: the successor runs after the old run's end, and may be abandoned as well: each late end counts once."""
    world, envelope = World(), Envelope(handler, key=key)
    first = abandon(world, envelope, resent=True)
    world.end(first)
    second = world.take()
    world.stop(timeout=0, grace=0)
    world.start()
    world.send(envelope)
    world.end(second)
    assert world.take_all() == [envelope]
    assert (world.machine.abandoned_ended, world.machine.runs_abandoned) == (2, 2)


def test_s04_futures_go_with_the_successor() -> None:
    """S04: the future of the abandoned run is answered by the run that follows it, once."""
    world, envelope = World(), plain()
    world.send(envelope, future="future")
    handle = world.take()
    world.send(envelope)
    world.stop(timeout=0, grace=0)
    assert world.report().kept == world.report().abandoned == (envelope,)
    world.start()
    world.end(handle, value="old")
    assert world.found(effects.ENDED) == []
    world.end(world.take(), value="new")
    assert world.found(effects.ENDED) == [(effects.ENDED, ["future"], Outcome.SUCCEEDED, None, "new")]


def test_s04_an_abandoned_periodic_is_lost_and_said_to_be() -> None:
    """S04: a periodic whose run is abandoned has ended: LOST is said once."""
    world, periodic = World(), Envelope(handler, interval=5)
    world.machine.send([periodic], None, {periodic: (0.0, 0.0)})
    world.done()
    world.take()
    world.stop(timeout=0, grace=0)
    assert world.found(effects.LOST) == [(effects.LOST, periodic)]
    assert world.report().abandoned == (periodic,)
    assert world.machine.periodics == 0


def test_s05_equal_due_times_are_never_compared_further() -> None:
    """S05: entries due at one instant are neither compared nor merged, also when some were moved there later."""
    world, envelopes = World(), many(50, key=None)
    world.send(*envelopes, delay=5)
    late = many(50)
    world.send(*late, delay=9)
    for envelope in late:
        world.machine.send([envelope], 5.0)
    world.at(5)
    assert world.take_all() == envelopes + late


def test_s05_cancel_and_resend_to_the_same_instant() -> None:
    """S05: old places in the heap stay void, however often; the heap does not grow without bound."""
    world, envelope = World(), plain()
    for _ in range(500):
        world.send(envelope, delay=5)
        assert world.cancel(envelope)
    world.send(envelope, delay=5)
    assert len(world.machine.heap) < 100
    world.at(5)
    assert world.take_all() == [envelope]


def test_s05_a_burst_is_made_ready_in_slices() -> None:
    """S05: a thousand due at once are not made ready in one section; all come, in order."""
    world, envelopes = World(), many(1000)
    world.send(*envelopes, delay=1)
    world.at(1)
    first = world.take()
    assert 0 < len(world.machine.ready) < 1000
    world.end(first)
    assert world.take_all() == envelopes[1:]


@pytest.mark.parametrize("how", ["cancel", "pause", "clear"])
def test_s06_who_takes_the_last_ready_one_out_ends_the_drain(how: str) -> None:
    """S06: during a drain nobody runs and the last ready entry goes: that very call detects the quiet."""
    world, envelope = World(rate=TokenBucket(0.001, 1)), plain()
    world.send(plain())
    world.end(world.take())
    world.send(envelope)
    assert world.take() is None  # the start rate says: not yet
    world.stop()
    assert world.machine.state is QueueState.STOPPING
    {
        "cancel": lambda: world.machine.cancel(envelope),
        "pause": world.machine.pause,
        "clear": world.machine.clear,
    }[how]()
    world.done()
    assert world.machine.state is QueueState.STOPPED
    assert world.report().kept == ((envelope,) if how == "pause" else ())


def test_s06_only_debris_is_left() -> None:
    """S06: the last run ends and only cancelled envelopes are left in the ready queue: the drain is over."""
    world, envelopes = World(), many(3)
    world.send(*envelopes)
    running = world.take()
    world.stop()
    for envelope in envelopes[1:]:
        world.cancel(envelope)
    assert world.turn(running) is None
    assert world.machine.state is QueueState.STOPPED


def test_s06_a_drain_of_a_paused_queue_and_its_resume() -> None:
    """S06: a stop of a paused queue keeps what waits; resumed while its last run goes on, it drains after all."""
    world, envelopes = World(), many(2)
    world.send(*envelopes)
    running = world.take()
    world.machine.pause()
    world.stop()
    assert world.machine.takable == ()
    world.machine.resume()
    assert world.turn(running) is envelopes[1]
    world.end(envelopes[1])
    assert world.report().kept == ()


@pytest.mark.parametrize("count", [3, 100])
def test_s07_no_token_for_debris(count: int) -> None:
    """S07: with cancelled envelopes in front, or alone, nothing is reserved for them; the live head gets the token."""
    world, envelopes = World(rate=TokenBucket(0.1, 1)), many(count)
    world.send(*envelopes)
    for envelope in envelopes:
        world.cancel(envelope)
    assert world.take() is None
    assert world.machine.reserved is None
    world.send(*envelopes)
    for envelope in envelopes[: count // 3]:
        world.cancel(envelope)
    assert world.take() is envelopes[count // 3]


@pytest.mark.parametrize("count", [3, 100])
def test_s07_a_reserved_token_goes_to_the_next_head(count: int) -> None:
    """S07: the head for which a token was reserved is cancelled: the next one has it, at the same time."""
    world, envelopes = World(rate=TokenBucket(0.1, 1)), many(count)
    world.send(*envelopes)
    world.end(world.take())
    assert (world.take(), world.machine.next_at()) == (None, 10)
    world.cancel(envelopes[1])
    world.at(9)
    assert world.take() is None
    world.at(10)
    assert world.take() is envelopes[2]


def test_s07_a_reserved_token_survives_pause_and_stop() -> None:
    """S07: pausing, stopping and starting again neither loses the reserved time nor takes another."""
    world, envelopes = World(rate=TokenBucket(0.1, 1)), many(2)
    world.send(*envelopes)
    world.end(world.take())
    assert world.take() is None
    world.machine.pause()
    assert world.machine.next_at() is None
    world.machine.resume()
    world.stop(StopMode.STOP)
    world.start()
    assert world.machine.next_at() == 10
    world.at(10)
    assert world.take() is envelopes[1]
