"""The thread driver under a scheduler: nothing is lost and nobody sleeps on, in whatever order things happen.

A failure prints its seed; `python -m tests.simulation --from SEED --trace` plays it again, step by step.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rate_envelope_queue import StopMode
from tests.stress.test_aio_mutants import ROOT, Mutant, copy_of_package

from .policies import Enumeration, Policy, RandomWalk
from .stories import Story, play, play_short
from .world import Failure, World, patched

SOAK = bool(os.environ.get("REQ_SOAK"))
SEEDS = 200_000 if SOAK else 2_000
FOUND = [2641, 4082, 10568, 13289]  # each found a fault once


@pytest.fixture(autouse=True)
def simulated() -> Iterator[None]:
    """The driver lives in the world; what it logs is of no interest."""
    logging.disable()
    with patched():
        yield
    logging.disable(logging.NOTSET)


def played(seed: int) -> World:
    """The world after a story; fails with its last steps."""
    world = World(RandomWalk(seed))
    try:
        play(world, seed)
    except Exception as error:
        world.leave()
        tail = "\n".join(world.trace[-60:])
        pytest.fail(f"seed {seed}, step {world.steps}: {type(error).__name__}: {error}\n{tail}", pytrace=False)
    return world


def test_random_walks() -> None:
    """Thousands of stories, each by its seed: senders, stops, starts, cancels, hostile handlers, threads that cannot be
    started, clocks that jump. Whatever the order, what was taken in ends, nothing runs twice at the same time or early,
    stops keep their bounds, and the books agree whenever the lock is released."""
    steps = 0
    for seed in range(SEEDS):
        steps += played(seed).steps
    assert steps > 50 * SEEDS


@pytest.mark.parametrize("seed", FOUND)
def test_a_seed_that_found_a_fault(seed: int) -> None:
    """What was found once is not there any more."""
    played(seed)


@pytest.mark.parametrize("mode", StopMode)
def test_every_order_of_a_short_story(mode: StopMode) -> None:
    """Two senders, one worker, one stop and one start, in every order with at most one interruption (soak: two)."""
    policy = Enumeration(2 if SOAK else 1, ["acquire"])
    orders = 1
    while True:
        world = World(policy, checks=False)
        try:
            play_short(world, mode)
        except Exception as error:
            world.leave()
            trace = "\n".join(world.trace)
            pytest.fail(f"order {orders}: {type(error).__name__}: {error}\n{trace}", pytrace=False)
        if not policy.next_order():
            break
        orders += 1
    assert orders > 20_000


def test_a_seed_replays_byte_for_byte() -> None:
    """The same seed gives the same trace in every process, whatever the hash seed."""
    said = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--from", "7", "--seeds", "20", "--trace"],
            cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=60,
        ).stdout
        for seed in ("0", "1", "4242")
    }  # fmt: skip
    assert len(said) == 1
    assert said.pop().count(b"\n") > 500


# What the world would tell


class First(Policy):
    """Nobody is interrupted, and the first goes on."""

    def interrupts(self, world: World, what: str) -> bool:
        return False

    def choose(self, world: World, ready: list) -> object:  # type: ignore[type-arg, override]
        return ready[0]


def test_a_deadlock_is_told() -> None:
    """Somebody who waits for what never comes is named, and what for."""
    world = World(First())
    world.spawn("patient", lambda: world.block(lambda: False, None, "a miracle"))
    with pytest.raises(Failure, match="deadlock: patient waits for a miracle"):
        world.run()


def test_a_lost_wake_up_is_told() -> None:
    """Work that is ready beside an idle worker, and nobody who goes on."""
    world = World(First())
    story = Story(world, 0, workers=1)

    def actor() -> None:
        story.queue.start()
        world.sleep(1)
        story.queue._parking.is_waking = True  # a wake that nobody has sent
        story.send(story.keyed[0])
        world.sleep(1)

    world.spawn("actor", actor)
    with pytest.raises(Failure, match="lost wake-up"):
        world.run()
    world.leave()


PARKING, WORKERS = "drivers/parking.py", "drivers/threads/workers.py"
CONTROL, FRONT, QUEUE = "drivers/control.py", "drivers/front.py", "drivers/threads/queue.py"
LOOKS = "        at = self._machine.stop_at()\n        if at is not None:"
MUTANTS = [
    Mutant("send_wakes_nobody", ((FRONT, "wake = self._parking.next_wake()", "pass"),)),
    Mutant("a_wake_stays_in_flight", ((PARKING, "self.is_waking = False\n            return bell", "return bell"),)),
    Mutant("a_worker_does_not_pass_it_on", ((WORKERS, "wake = parking.next_wake()", "pass"),)),
    Mutant("nobody_leads", ((WORKERS, "until = parking.park(bell)", "until = parking.park(bell) and None"),)),
    Mutant(
        "the_leader_is_kept", ((PARKING, "self.leader = None\n        if was_woken", "pass\n        if was_woken"),)
    ),
    Mutant("an_earlier_time_is_not_told", ((PARKING, "at >= self.leader_at)", "True)"),)),
    Mutant(
        "a_closed_pool_sleeps_on",
        ((CONTROL, "            bells.extend(self._parking.leave_all())", "            pass"),),
    ),
    Mutant("delivered_is_not_told", ((WORKERS, "machine.delivered()\n", "pass\n"),)),
    Mutant("a_stop_is_not_watched", ((CONTROL, LOOKS, LOOKS.replace("self._machine.stop_at()", "None")),)),
    Mutant(
        "who_waits_does_not_tick",
        ((QUEUE, "elif at is not None and now() >= at:", "elif False:"),),
    ),
    Mutant("too_many_workers_stay", ((WORKERS, "pool.is_closed or pool.size > machine.limit", "pool.is_closed"),)),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_walks_find(tmp_path: Path, mutant: Mutant) -> None:
    """Without one of the rules of the driver, a seed fails."""
    copy_of_package(tmp_path, mutant.changes)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seeds", "400"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "seed" in ran.stdout, ran.stdout + ran.stderr
