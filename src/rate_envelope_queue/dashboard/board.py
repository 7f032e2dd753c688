"""What the page shows: one sample of every queue, at most one each `INTERVAL`, and the samples of the last minutes.

Whoever wants to see asks; nothing here runs by itself, so that a queue nobody looks at costs nothing but its observer.
A sample takes each queue's lock for as long as it takes to read some dozens of entries, however many there are.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import inf
from typing import TYPE_CHECKING, Any

from .. import Envelope, EnvelopeQueue, QueueStateError, QueueStats
from ..text import error_text, escaped
from .reader import Reader
from .views import Run, Views
from .watch import Durations, Watch

if TYPE_CHECKING:
    from .. import AsyncEnvelopeQueue

    Queue = EnvelopeQueue | AsyncEnvelopeQueue

INTERVAL = 1.0  # seconds
SHORTEST = 0.5  # seconds; a rate over less is noise
HISTORY = 600  # samples
RUNNING_SHOWN, DUE_SHOWN, LETTERS_SHOWN = 50, 20, 50
UNSEEN_LOOKED_AT = 200  # entries that are looked at for runs that began before the observer was there
RATES = {
    "accepted": "accepted", "started": "runs_started", "succeeded": "runs_succeeded", "failed": "runs_failed",
    "dropped": "dropped", "refused": "refused",
}  # fmt: skip
NOW = (
    "buffered",
    "ready",
    "delayed",
    "running",
    "occupancy",
    "workers",
)  # the fields that are not counts since it was made
Point = list[float | None]


class Desk:
    """One queue: its observer, its last counts, and its history."""

    def __init__(self, number: int, queue: Queue, reader: Reader, *, show_payloads: bool) -> None:
        self.number = number
        self.queue = queue
        self.views = Views(reader, show_payloads=show_payloads)
        self.watch = Watch(queue)
        self.points: deque[tuple[int, Point]] = deque(maxlen=HISTORY)
        self._last: dict[str, int] | None = None
        self._last_at = -inf
        self._progress: dict[str, object] = {}

    def sample(self, sequence: int, now: float) -> dict[str, object]:
        """How it is now; and a point more of its history."""
        queue = self.queue
        head: dict[str, object] = {"queue": self.number, "name": escaped(queue.name, 200)}
        self.views.now = now
        try:
            return {**head, **self._state(sequence, now)}
        except Exception as error:  # the child of a fork; a clock of the user's
            return {**head, "state": "unknown", "error": error_text(error, 300)}

    def close(self) -> None:
        """Listen no longer."""
        try:
            self.queue.remove_observer(self.watch)
        except QueueStateError:  # in the child of a fork, where nothing happens any more
            pass

    def _state(self, sequence: int, now: float) -> dict[str, object]:
        queue = self.queue
        stats = queue.stats()
        if now - self._last_at >= SHORTEST:
            self._measure(sequence, stats, now)
        letters = queue.dead_letters()
        return {
            "state": stats.state.value,
            "is_paused": queue.is_paused,
            "stats": {**asdict(stats), "state": stats.state.value},
            "capacity": queue.capacity,
            "running": self._running(stats),
            "due": [self.views.due(each.envelope, each.attempt, each.due_in) for each in queue.next_due(DUE_SHOWN)],
            "dead_letters": {
                "count": len(letters),
                "recent": [self.views.letter(letter) for letter in letters[: -LETTERS_SHOWN - 1 : -1]],
            },
            **self._progress,
            "point": self.points[-1][1],
            "types": self.watch.types(),
        }

    def _measure(self, sequence: int, stats: QueueStats, now: float) -> None:
        """What has happened since the last time: counts, rates per second, durations; and a point of the history."""
        counts = {name: value for name, value in asdict(stats).items() if isinstance(value, int) and name not in NOW}
        last, self._last = self._last or counts, counts
        seconds, self._last_at = now - self._last_at, now
        deltas = {name: value - last[name] for name, value in counts.items()}
        rates = {name: round(deltas[field] / seconds, 3) for name, field in RATES.items()}
        latency = _latency(*self.watch.take_recent())
        self._progress = {"rates": rates, "deltas": deltas, "latency": latency}
        self.points.append((sequence, _point(now, rates, stats, latency)))

    def _running(self, stats: QueueStats) -> list[dict[str, object]]:
        now = self.queue.clock.now()
        runs = self.watch.running(RUNNING_SHOWN)
        if len(runs) < min(stats.running, RUNNING_SHOWN):
            runs = [*self._unseen(), *runs][:RUNNING_SHOWN]
        return [self.views.run(run, now) for run in runs]

    def _unseen(self) -> list[Run]:
        """Runs that began before the observer was there, as far as a short look finds them."""
        return [
            Run(view.envelope, view.attempt, None)
            for view in self.queue.snapshot(UNSEEN_LOOKED_AT)
            if view.phase == "running" and not self.watch.sees(view.envelope)
        ]


def _latency(recent: Durations, waits: Durations) -> dict[str, float | None]:
    return {
        "p50": recent.quantile(0.5),
        "p95": recent.quantile(0.95),
        "max": recent.longest if recent.count else None,
        "wait_p95": waits.quantile(0.95),
    }


def _point(now: float, rates: dict[str, float], stats: QueueStats, latency: dict[str, float | None]) -> Point:
    return [
        round(now, 3), rates["started"], rates["succeeded"], rates["failed"], stats.ready + stats.buffered,
        stats.delayed, stats.running, latency["p50"], latency["p95"], latency["wait_p95"],
    ]  # fmt: skip


def real_now() -> float:
    """Seconds, as the running loop counts them: real ones, whatever clock a queue has."""
    return asyncio.get_running_loop().time()


class Board:
    """All queues of one dashboard. Its methods never block for long; `state` is called on a loop, whichever it is."""

    def __init__(
        self,
        queues: Sequence[Queue],
        *,
        show_payloads: bool,
        redact: Callable[[Envelope[Any]], object] | None,
    ) -> None:
        reader = Reader(redact)
        self.desks = [Desk(number, queue, reader, show_payloads=show_payloads) for number, queue in enumerate(queues)]
        self._lock = threading.Lock()
        self._state: dict[str, object] = {}
        self._sequence = 0
        self._at = 0.0

    def state(self, *, fresh: bool = False) -> tuple[int, dict[str, object]]:
        """The number of the last sample, and the sample, taken now if it is old or *fresh* is asked for."""
        with self._lock:
            now = real_now()
            if fresh or not self._state or now - self._at >= INTERVAL * 0.9:
                self._at = now
                self._sequence += 1
                desks = [desk.sample(self._sequence, now) for desk in self.desks]
                self._state = {"sequence": self._sequence, "now": round(now, 3), "queues": desks}
            return self._sequence, self._state

    def history(self, since: int) -> list[list[Point]]:
        """The points of every queue that came after sample *since*; see `_point` for what they hold."""
        with self._lock:
            return [[point for sequence, point in desk.points if sequence > since] for desk in self.desks]

    def close(self) -> None:
        """Listen to the queues no longer."""
        for desk in self.desks:
            desk.close()
