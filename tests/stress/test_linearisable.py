"""I-20: whatever threads do at the same time, it is as if they had done it one after another.

Rounds on real queues are written down and explained (`histories`, `linearise`); that the checker refuses what is wrong
is shown here with histories made by hand, and that it finds faults of the drivers in `test_driver_mutants`.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from rate_envelope_queue import Envelope, QueueState, StopMode
from tests.property.naive import key_of

from .histories import play
from .linearise import Call, NotLinearisableError, linearise
from .specification import Sequential

IS_SOAK = bool(os.environ.get("REQ_SOAK"))


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_every_history_is_explained(kind: str) -> None:
    """I-20: Clients that send, cancel, clear, look, pause, resize, start and stop at once, and the runs between."""
    met = play(kind, random.randrange(10**9) if IS_SOAK else 0, seconds=100.0 if IS_SOAK else 5.0)
    assert met["pairs"] > met["rounds"] * 10, f"they hardly met: {met}"
    assert met["undecided"] <= 1 + met["rounds"] / 100, f"too much was given up: {met}"


# The checker: histories made by hand, for one queue of two workers that takes three

ENVELOPES = {name: Envelope(lambda ctx, envelope: None, id=name) for name in "abcd"}
EMPTY = Sequential(list(ENVELOPES.values()), 3, 2, replaces=False)
STATS = EMPTY.read_stats()
RUNNING = replace(STATS, state=QueueState.RUNNING)
STOPPED = (StopMode.STOP, QueueState.STOPPED, False, (), (), (), 0, 0)


def send(name: str, called: float, returned: float, answer: Any = 1) -> Call:
    return Call("send", ((name,),), answer, called, returned)


def run(name: str, called: float, ended: float, how: str = "success") -> list[Call]:
    """What a worker writes down of a run whose first line is at *called* and whose last is at *ended*."""
    key = key_of(ENVELOPES[name])
    return [Call("begin", (key,), (name, 1), 0, called), Call("end", (key, how, 1), None, ended)]


def stop(called: float, returned: float, **changes: Any) -> list[Call]:
    answer = (changes.get("mode", StopMode.STOP), *STOPPED[1:3], changes.get("kept", ()), *STOPPED[4:])
    return [Call("stop", (1, answer[0]), None, called, returned), Call("returns", (1,), answer, called, returned)]


START = Call("start", (), None, 1, 2)
CLEAR = Call("clear", (), ("a",), 5, 8)
ACCEPTED: dict[str, list[list[Call]]] = {
    "nothing": [],
    "a send beside stats that does not show it": [[send("a", 1, 4)], [Call("stats", (), STATS, 2, 3)]],
    "a send beside stats that shows it": [
        [send("a", 1, 4)],
        [Call("stats", (), replace(STATS, accepted=1, buffered=1, occupancy=1), 2, 3)],
    ],
    "a run begins before its first line": [
        [
            START,
            send("a", 3, 4),
            Call("stats", (), replace(RUNNING, accepted=1, running=1, occupancy=1, runs_started=1), 5, 6),
        ],
        run("a", 7, 8),
    ],
    "a run of which nobody sees the end": [[START, send("a", 3, 4)], run("a", 7, inf)],
    "a refused send beside the stop": [[START, *stop(5, 9)], [send("a", 6, 7, "QueueNotRunningError")]],
    "an accepted send beside the stop": [[START, *stop(5, 9, kept=("a",))], [send("a", 6, 7)]],
    "a cancel of what runs": [[START, send("a", 3, 4), Call("cancel", ("a",), True, 5, 9)], run("a", 6, 10, "retry")],
    "two sends that fill it, whoever was first": [
        [send("a", 1, 9), send("b", 10, 11)],
        [send("c", 2, 8), send("d", 12, 13, ("CapacityExceededError", 3, 3, 1))],
    ],
}
REFUSED: dict[str, list[list[Call]]] = {
    "a send that is lost": [[send("a", 1, 2), Call("stats", (), STATS, 3, 4)]],
    "a send that is there twice": [[send("a", 1, 2), Call("clear", (), ("a", "a"), 3, 4)]],
    "a send that is never run and never kept": [[START, send("a", 3, 4), *stop(5, 6)]],
    "a send accepted after stop returned": [[START, *stop(3, 4), send("a", 5, 6)]],
    "a cancel that found nothing, and should have": [[send("a", 1, 2), Call("cancel", ("a",), False, 3, 4)]],
    "a cancel that found what was cleared": [[send("a", 1, 2), CLEAR, Call("cancel", ("a",), True, 9, 10)]],
    "an entry in stats after a clear returned it": [
        [send("a", 1, 2), CLEAR],
        [Call("stats", (), replace(STATS, accepted=1, buffered=1, occupancy=1), 9, 10)],
    ],
    "stats that are half before and half after": [
        [send("a", 1, 9)],
        [Call("stats", (), replace(STATS, accepted=1), 2, 3)],
    ],
    "stats that go back": [
        [send("a", 1, 9)],
        [Call("stats", (), replace(STATS, accepted=1, buffered=1, occupancy=1), 2, 3), Call("stats", (), STATS, 4, 5)],
    ],
    "a run out of turn": [
        [START, Call("resize", (1,), None, 3, 4), send("a", 5, 6), send("b", 7, 8)],
        [*run("b", 9, 10), *run("a", 11, 12)],
    ],
    "a run during a pause": [[START, Call("pause", (), None, 3, 4), send("a", 5, 6)], run("a", 7, 8)],
    "a run that the cancel had taken": [
        [START, send("a", 3, 4), Call("cancel", ("a",), True, 5, 6)],
        run("a", 7, 8), [Call("stats", (), replace(RUNNING, accepted=1, returned=1), 9, 10)],
    ],
    "two runs of one worker": [
        [START, Call("resize", (1,), None, 3, 4), Call("send", (("a", "b"),), 2, 5, 6)],
        run("a", 7, 10), run("b", 8, 9),
    ],
    "one run more than sends": [[START, send("a", 3, 4)], [*run("a", 5, 6), *run("a", 7, 8)]],
    "a stop that leaves a run behind": [[START, send("a", 3, 4), *stop(6, 7)], run("a", 5, 9)],
    "a drain that drains nothing": [[START, send("a", 3, 4), *stop(6, 7, mode=StopMode.DRAIN, kept=("a",))]],
    "a dead letter that comes too late for the join": [
        [START, send("a", 3, 4), Call("join", (1,), None, 7, 8), Call("returns", (1,), True, 7, 8),
         Call("letters", (), (), 9, 10)],
        run("a", 5, 6, "drop"), [Call("bury", ("a",), True, 6, 20)],
    ],
    "one place too many": [[Call("send", (("a", "b", "c", "d"),), 4, 1, 2)]],
    "a refusal for want of room, with room": [[send("a", 1, 2, ("CapacityExceededError", 3, 3, 1))]],
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_checker_explains(name: str) -> None:
    """I-20: A history that can be explained is, with all of its calls, and none before one that had returned."""
    order = linearise(ACCEPTED[name], EMPTY)
    assert sorted(map(id, order)) == sorted(id(call) for process in ACCEPTED[name] for call in process)
    assert all(later.returned >= call.called for at, call in enumerate(order) for later in order[at:])


@pytest.mark.parametrize("name", REFUSED)
def test_the_checker_refuses(name: str) -> None:
    """I-20: A history that is wrong is not explained, and the message shows how far one gets."""
    with pytest.raises(NotLinearisableError, match="no order explains it") as caught:
        linearise(REFUSED[name], EMPTY)
    assert caught.value.left
