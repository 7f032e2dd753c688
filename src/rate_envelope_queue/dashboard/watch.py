"""An observer of one queue: what runs now, how long runs take, and which types are slow or fail.

It is called by the workers, so it only writes down; the sums are made by whoever looks. What it keeps is bounded:
numbers for at most `MOST_TYPES` types ("other" are the rest), for the last minutes, and no envelope but those that run.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from math import isfinite
from typing import Any, Protocol

from .. import Envelope
from ..events import Abandoned, Cancelled, Failed, Observer, Started, Stopped, Succeeded
from .views import TYPE_LENGTH, Run, shown, type_of

MOST_TYPES = 100
OTHER = "(other types)"
SLICE = 60.0  # seconds
SLICES = 5  # what the types did in the last five minutes
MOST_NOTES = 4096  # then a worker makes the sums
# The upper bounds of the classes into which durations are sorted: a factor of 1.2 each, from 10 us to 3 hours.
BOUNDS = tuple(1e-5 * 1.2**step for step in range(115))

Note = tuple[str, float | None, bool]  # the type of what ran, how long, whether it failed


class Watched(Protocol):
    """What of a queue is needed here."""

    @property
    def clock(self) -> Any:
        """Its clock."""
        ...

    def add_observer(self, observer: object) -> None:
        """Tell *observer* of all that happens from now on."""
        ...


class Durations:
    """How often durations of which size were seen: exact in number and maximum, else within a fifth."""

    __slots__ = ("count", "counts", "longest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = self.longest = 0.0
        self.counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """One more; but for what a clock of the user's has made no number of."""
        if not isfinite(seconds):
            return
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        place = bisect_left(BOUNDS, seconds)
        self.counts[place] = self.counts.get(place, 0) + 1

    def merge(self, other: Durations) -> None:
        """Those of *other*, too."""
        self.count += other.count
        self.total += other.total
        self.longest = max(self.longest, other.longest)
        for place, count in other.counts.items():
            self.counts[place] = self.counts.get(place, 0) + count

    def quantile(self, share: float) -> float | None:
        """The duration that *share* of them did not pass."""
        wanted = share * self.count
        passed = 0
        for place in sorted(self.counts):
            passed += self.counts[place]
            if passed >= wanted:
                return min(self.longest, BOUNDS[place] if place < len(BOUNDS) else self.longest)
        return None


class Cell:
    """What one type did in some time."""

    __slots__ = ("durations", "failed", "succeeded")

    def __init__(self) -> None:
        self.succeeded = self.failed = 0
        self.durations = Durations()

    def merge(self, other: Cell) -> None:
        """What *other* did, too."""
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.durations.merge(other.durations)

    def view(self, type_: str) -> dict[str, object]:
        """As the JSON has it."""
        durations = self.durations
        return {
            "type": type_,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "mean": durations.total / durations.count if durations.count else None,
            "p95": durations.quantile(0.95),
            "max": durations.longest if durations.count else None,
        }


class Watch(Observer):
    """Listens to one queue from the moment it is made."""

    def __init__(self, queue: Watched) -> None:
        self._now = queue.clock.now
        self._running: dict[int, tuple[Envelope[Any], int, float]] = {}  # and the attempt, and when it began
        self._notes: deque[Note] = deque()
        self._waits: deque[float] = deque(maxlen=MOST_NOTES)
        self._lock = threading.Lock()  # of the sums
        self._recent = Durations()
        self._slices: deque[tuple[float, dict[str, Cell]]] = deque(maxlen=SLICES)
        queue.add_observer(self)

    # What the workers tell

    def on_started(self, event: Started) -> None:
        """A run begins."""
        envelope = event.envelope
        self._running[id(envelope)] = (envelope, event.attempt, self._now())
        if event.waited is not None:
            self._waits.append(event.waited)

    def on_succeeded(self, event: Succeeded) -> None:
        """A run ended well."""
        self._over(event, has_failed=False)

    def on_failed(self, event: Failed) -> None:
        """A run ended with an error."""
        self._over(event, has_failed=True)

    def on_stopped(self, event: Stopped) -> None:
        """A run ended by `StopEnvelope`."""
        self._over(event, has_failed=False)

    def on_cancelled(self, event: Cancelled) -> None:
        """A stop cancelled a run."""
        self._running.pop(id(event.envelope), None)

    def on_abandoned(self, event: Abandoned) -> None:
        """A stop gave up on a run."""
        self._running.pop(id(event.envelope), None)

    def _over(self, event: Succeeded | Failed | Stopped, *, has_failed: bool) -> None:
        envelope, notes = event.envelope, self._notes
        self._running.pop(id(envelope), None)
        notes.append((type_of(envelope), event.duration, has_failed))
        if len(notes) > MOST_NOTES and self._lock.acquire(False):  # nobody looks
            try:
                self._sum_up()
            finally:
                self._lock.release()

    # What the page asks

    def running(self, most: int) -> list[Run]:
        """The runs that go on, those that began first, at most *most*."""
        runs = sorted((*self._running.values(),), key=lambda run: run[2])
        return [Run(*run) for run in runs[:most]]

    def sees(self, envelope: Envelope[Any]) -> bool:
        """Whether it knows of a run of *envelope* that goes on."""
        return id(envelope) in self._running

    def take_recent(self) -> tuple[Durations, Durations]:
        """How long the runs took that ended since the last call, and how long those waited that began."""
        waits = Durations()
        while self._waits:
            waits.add(self._waits.popleft())
        with self._lock:
            self._sum_up()
            recent, self._recent = self._recent, Durations()
        return recent, waits

    def types(self) -> list[dict[str, object]]:
        """What each type did in the last minutes."""
        sums: dict[str, Cell] = {}
        with self._lock:
            self._sum_up()
            for begun_at, cells in self._slices:
                if self._now() - begun_at < SLICE * SLICES:
                    for type_, cell in cells.items():
                        _cell_of(sums, type_).merge(cell)
        return [cell.view(type_) for type_, cell in sums.items()]

    def _sum_up(self) -> None:
        """Sort what was written down into the sums; called with the lock held."""
        now = self._now()
        if not self._slices or now - self._slices[-1][0] >= SLICE:
            self._slices.append((now, {}))
        cells = self._slices[-1][1]
        for _ in range(len(self._notes)):
            type_, duration, has_failed = self._notes.popleft()
            cell = _cell_of(cells, shown(type_, TYPE_LENGTH))
            cell.failed += has_failed
            cell.succeeded += not has_failed
            if duration is not None:
                cell.durations.add(duration)
                self._recent.add(duration)


def _cell_of(cells: dict[str, Cell], type_: str) -> Cell:
    cell = cells.get(type_)
    if cell is None:
        if len(cells) >= MOST_TYPES:
            type_ = OTHER
        cell = cells.setdefault(type_, Cell())
    return cell
