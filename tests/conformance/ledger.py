"""Observers that hear everything, and whether what they heard is what the queue counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rate_envelope_queue import Outcome
from rate_envelope_queue.events import OBSERVABLE, Observer

RUN_ENDS = ("succeeded", "failed", "stopped", "cancelled", "abandoned")


class Counts(Observer):
    """Counts what it is told, and keeps nothing of it; several threads may tell at once."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._outcomes: list[Outcome] = []

    def counts(self) -> Counter[str]:
        """How often it heard of each event."""
        return Counter(self._names)

    def outcomes(self) -> Counter[Outcome]:
        """How often it heard of each outcome."""
        return Counter(self._outcomes)

    def hear(self, name: str, event: Any) -> None:
        """It is told of one event."""
        self._names.append(name)
        if name == "ended":
            self._outcomes.append(event.outcome)


class Everything(Counts):
    """Keeps all that it is told, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, Any]] = []

    def hear(self, name: str, event: Any) -> None:
        self.told.append((name, event))
        super().hear(name, event)

    def of(self, name: str) -> list[Any]:
        """The events of one name."""
        return [event for found, event in list(self.told) if found == name]

    def about(self, envelope: Any) -> list[str]:
        """The names of what was told of *envelope*, in order."""
        return [name for name, event in list(self.told) if getattr(event, "envelope", None) is envelope]


def _hears(name: str) -> Any:
    return lambda self, event: self.hear(name, event)


for _name in OBSERVABLE:
    setattr(Counts, f"on_{_name}", _hears(_name))


def check_events(heard: Counts, queue: Any) -> None:
    """I-19: as many events as the ledger counts. The queue is at rest, and *heard* has heard it all."""
    stats, counts = queue.stats(), heard.counts()
    expected = {name: getattr(stats, name) for name in ("accepted", "coalesced", "refused", "late", "retried")}
    expected |= {name: getattr(stats, f"runs_{name}") for name in ("started", *RUN_ENDS)}
    assert {name: counts[name] for name in expected} == expected
    assert heard.outcomes() == Counter({outcome: getattr(stats, outcome.value) for outcome in Outcome})
    assert counts["started"] == sum(counts[name] for name in RUN_ENDS) + stats.running
