"""Programs thrown by a fair dice, one for each seed: quick, and always the same. `python -m` this plays some."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rate_envelope_queue.core import book, delays

from .guarantees import hold, hold_at_the_end
from .steps import STEPS
from .twins import Twins

SETTINGS: dict[str, Sequence[Any]] = {
    "capacity": (1, 2, 3, 5, None), "limit": (1, 2, 3), "replaces": (False, True), "gap": (0.0, 0.0, 2.0),
    "starts": (True, True, True, False), "watch": ("nobody", "meter", "observer", "observer of retries"),
}  # fmt: skip
LENGTH = 80


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
    options = {name: dice.choice(choices) for name, choices in SETTINGS.items()}
    twins = Twins(reached, **options)
    try:
        for _ in range(LENGTH):
            one_more(twins, dice.choice)
            hold(twins)
        hold_at_the_end(twins)
    except Exception as error:
        what = str(error) if isinstance(error, AssertionError) else repr(error)
        steps = "\n".join(map(repr, twins.log))
        raise AssertionError(f"{what}\nseed={seed} step={len(twins.log)}, {options}\n{steps}") from error


def main(first: int, last: int) -> int:
    """Play the seeds from *first* until one fails (1), or up to *last* (0). Every other one leaves debris in place."""
    for seed in range(first, last):
        book.SMALL = 0 if seed % 2 else delays.SMALL
        try:
            play(seed, Counter())
        except AssertionError as error:
            print(f"failed after {seed - first + 1}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
