"""The table of steps that programs are made of, and what steps have in common.

A step says when it is possible and what its arguments may be; hypothesis draws them, and so does a dice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from rate_envelope_queue.envelope import Envelope

from .naive import RUNNING, key_of
from .twins import Twins

PICK = range(12)
YES_NO = (False, True)
DELAYS = (0.0, 0.0, 0.0, 1.0, 2.0, 5.0)
BATCHES = [(one,) for one in range(10)] * 3 + [(one, other) for one in range(10) for other in range(10)]
BATCHES += [(0, 1, 2, 3), (3, 4, 5, 6), (7, 0, 8, 0), (4, 4, 9, 9)]


@dataclass(frozen=True)
class Step:
    """`do(twins, **arguments)`, drawn from *choices*; chosen *weight* times as often as others, *when* possible."""

    do: Callable[..., None]
    weight: int
    when: Callable[[Twins], Any]
    choices: dict[str, Sequence[Any]]

    def __repr__(self) -> str:
        return self.do.__name__


STEPS: list[Step] = []


def step(
    weight: int = 1, when: Callable[[Twins], Any] = lambda t: True, **choices: Sequence[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A function is a step."""

    def listed(do: Callable[..., None]) -> Callable[..., None]:
        STEPS.append(Step(do, weight, when, choices))
        return do

    return listed


def is_live(twins: Twins) -> bool:
    return twins.model.state is RUNNING


def runs(twins: Twins) -> bool:
    return is_live(twins) and bool(twins.model.active())


def of_key(twins: Twins, key: Hashable, index: int) -> list[Envelope]:
    """An envelope with this key, maybe another than the one that is there."""
    same = [envelope for envelope in twins.envelopes if key_of(envelope) == key]
    return [same[index % len(same)]]


def one_of(choices: Sequence[Any], index: int) -> Any:
    return choices[index % len(choices)]


def delay_something(twins: Twins, which: int) -> float:
    """The seconds until the first is due; if nothing is delayed, something will be."""
    if not twins.model.delayed:
        twins.send([twins.envelopes[which]], 1.0)
    return max(0.0, min(twins.model.delayed)[0] - twins.model.now) if twins.model.delayed else 0.0


def run_something(twins: Twins, which: int) -> None:
    """Send it, and let it run if it may."""
    twins.send([twins.envelopes[which]])
    twins.take_all()


def some_run(twins: Twins, index: int) -> Hashable:
    """What runs; something is sent if nothing does. None when it may not run."""
    if not twins.model.active():
        run_something(twins, index % 10)
    return one_of(twins.model.active(), index) if twins.model.active() else None


def finish_if_it_runs(twins: Twins, key: Hashable, how: str, after: float, *, takes: bool) -> None:
    running = [other for _, other in twins.handles]
    if key in running:
        twins.finish(running.index(key), how, after, takes=takes)
