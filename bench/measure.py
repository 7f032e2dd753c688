"""How things are measured: contestants take turns inside a round, and a ratio belongs to its round.

A noisy neighbour slows a whole round down, so the ratio of two times of one round says more than either time. The
median of these ratios is what is judged; the range beside it says how far to trust it.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

Contestant = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Samples:
    """One figure per round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    @property
    def spread(self) -> float:
        """Half the range, as a share of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0

    def over(self, other: Samples) -> Samples:
        """The ratio to *other*, round by round."""
        return Samples(tuple(mine / its for mine, its in zip(self.values, other.values, strict=True)))

    def scaled(self, factor: float) -> Samples:
        return Samples(tuple(value * factor for value in self.values))


@contextmanager
def level_gc() -> Iterator[None]:
    """The collector stays on, since its work belongs to whoever causes it; what was there before is not looked at."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def alternate(contestants: Mapping[str, Contestant], rounds: int, *, warm_up: int = 1) -> dict[str, Samples]:
    """Let each contestant have its turn in each round, every other round in reverse; warm-up rounds do not count."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    order: Sequence[str] = list(contestants)
    for index in range(rounds + warm_up):
        for name in order if index % 2 else reversed(order):
            value = contestants[name]()
            if index >= warm_up:
                found[name].append(value)
    return {name: Samples(tuple(values)) for name, values in found.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which *share* of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
