"""Programs thrown by a fair dice, one for each seed: quick, and always the same. `python -m` this plays some."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from .guarantees import hold, hold_at_the_end
from .steps import STEPS
from .twins import Twins

SETTINGS: dict[str, Sequence[Any]] = {
    "capacity": (1, 2, 3, 5, None), "limit": (1, 2, 3), "replaces": (False, True), "gap": (0.0, 0.0, 0.0, 2.0),
    "starts": (True, True, True, False),
}  # fmt: skip
LENGTH = 60


def one_more(twins: Twins, choice: Callable[[Sequence[Any]], Any]) -> None:
    """One step, chosen among those that are possible now."""
    possible = [step for step in STEPS if step.when(twins)]
    step = choice([step for step in possible for _ in range(step.weight)])
    arguments = {name: choice(choices) for name, choices in step.choices.items()}
    twins.log.append((step.do.__name__, arguments))
    step.do(twins, **arguments)


def play(seed: int, reached: Counter[str]) -> None:
    """One program; an AssertionError says which guarantee broke, at which step, and what led there."""
    dice = random.Random(seed)
    settings = {name: dice.choice(choices) for name, choices in SETTINGS.items()}
    twins = Twins(reached, **settings)
    try:
        for _ in range(LENGTH):
            one_more(twins, dice.choice)
            hold(twins)
        hold_at_the_end(twins)
    except Exception as error:
        steps = "\n".join(map(repr, twins.log))
        raise AssertionError(f"{error}\nseed={seed} step={len(twins.log)}, {settings}\n{steps}") from error


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        play(number, Counter())
