"""Times of entries and runs, while somebody measures: when each was sent, ready and begun, and what lay between.

Rules for changing it: `Book.times` is None when nobody measures, and nothing of this is carried out then. Keys and
clocks are the user's and may raise: what is `harmless` leaves one entry unmeasured, and the queue goes on. `send_one`
and `turn` are the hot paths of the machine once more, each with one reading of the clock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ..results import BOUNDS, Histogram
from .entries import DELAYED, RUNS, Entry, Handle, Record, key_of
from .settle import SUCCESS

if TYPE_CHECKING:
    from ..envelope import Envelope
    from .admission import Admission
    from .machine import Machine

P = ParamSpec("P")
R = TypeVar("R")

MOST_PENDING = 1000  # values not yet in their buckets: sorted together, they cost a third of one by one
UNKNOWN = (None, None)


class Tally:
    """A histogram that is being filled: whoever has a value appends it to `pending`."""

    __slots__ = ("counts", "pending", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        self.pending: list[float] = []

    def fold(self) -> None:
        """Put what is pending into its buckets."""
        values = sorted(self.pending)
        self.pending.clear()
        if not values:
            return
        self.total += sum(values)
        begin, index = 0, bisect_left(BOUNDS, values[0])
        while begin < len(values):
            end = bisect_right(values, BOUNDS[index], begin) if index < len(BOUNDS) else len(values)
            self.counts[index] += end - begin
            begin, index = end, index + 1

    def plus(self, other: Tally) -> Histogram:
        """What both have in their buckets."""
        return Histogram(BOUNDS, tuple(map(sum, zip(self.counts, other.counts, strict=True))), self.total + other.total)


def harmless(method: Callable[Concatenate[Times, P], R]) -> Callable[Concatenate[Times, P], R | None]:
    """*method*, answering None where a key or clock of the user's raises: the rules of the queue go on without it."""

    def guarded(self: Times, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(self, *args, **kwargs)
        except Exception:
            return None

    return guarded


class Times:
    """What is measured of one queue. `now` is the instant of the section that goes on; `swift` and `is_calm` are those
    of the book, which has none while somebody measures."""

    __slots__ = (
        "_again", "_both", "_clock", "_latencies", "_resent_at", "_runs", "_sent_at", "_waits",
        "began_at", "extra_adds", "is_calm", "now", "ready_at", "swift",
    )  # fmt: skip

    def __init__(self, clock: Callable[[], float], delayed: int) -> None:
        self._clock = clock
        self.now = 0.0
        self.swift: str | None = None
        self.is_calm = False
        self.ready_at: dict[Hashable, float] = {}  # of those that wait
        self.began_at: dict[Hashable, tuple[float | None, float]] = {}  # of those that run: sent, begun
        # of those that were not ready then, or run again; None: unknown
        self._sent_at: dict[Hashable, float | None] = {}
        self._resent_at: dict[Hashable, float] = {}  # of those sent again while they run
        self._again: dict[Hashable, float] = {}  # those of them that are to run at once, and since when
        self.extra_adds = -delayed  # how often an entry became ready, but for those that were when they were accepted
        self._both = Tally()  # waits that are latencies, too
        self._waits = Tally()  # other waits
        self._latencies = Tally()  # other latencies
        self._runs = Tally()

    # The hot paths

    def send_one(self, machine: Admission, envelope: Envelope) -> int | None:
        """As that of the machine."""
        if envelope._plain_for is self.swift:
            entries = machine.entries
            if envelope in entries:
                if entries[envelope] is None:
                    machine.coalesced += 1
                    return 0
            elif len(entries) < machine.room:
                now = self._clock()
                entries[envelope] = None
                machine.ready.append(envelope)
                self.ready_at[envelope] = now
                return 1
        return None

    def turn(self, machine: Machine, done: Handle | None, verdict: Any, value: Any) -> Handle | None:
        """As that of the machine."""
        entries = machine.entries
        if verdict is SUCCESS and self.is_calm and entries.get(done) is RUNS:
            now = self._clock()
            del entries[done]
            machine.plain_succeeded += 1
            began_at = self.began_at.pop(done, UNKNOWN)[1]
            if began_at is not None:
                pending = self._runs.pending
                pending.append(now - began_at)
                if len(pending) >= MOST_PENDING:
                    self.fold()
            takable, heap = machine.takable, machine.heap
            if takable and (not heap or heap[0][0] > now):
                handle = takable.popleft()
                if handle.__class__ is not Entry and entries[handle] is None:
                    entries[handle] = RUNS
                    ready_at = self.ready_at.pop(handle, None)
                    self.began_at[handle] = ready_at, now
                    if ready_at is not None:
                        self._both.pending.append(now - ready_at)
                    return handle
                if machine._start(handle):
                    self.begun(key_of(handle.envelope if handle.__class__ is Entry else handle), now)
                    return handle if handle.__class__ is Entry else entries[handle]
            machine.active -= 1
        elif done is not None:
            machine._settle(done, verdict, value)
        handle = machine._take()
        if handle is None:
            machine.rest()
        return handle

    def fold(self) -> None:
        """Put into buckets what is pending."""
        for tally in (self._both, self._waits, self._latencies, self._runs):
            tally.fold()

    # What happens to an entry

    @harmless
    def admitted(self, key: Hashable, entries: dict[Hashable, Record]) -> None:
        """It is new in *entries*."""
        record = entries[key]
        if record is None:
            self.ready_at[key] = self.now
        else:  # it is accepted now, and added when it is ready
            self.extra_adds -= 1
            if record.phase == DELAYED:
                self._sent_at[key] = self.now

    @harmless
    def readied(self, key: Hashable, at: float | None) -> None:
        """It is ready since *at*, or since now."""
        if key not in self.ready_at:
            self.extra_adds += 1
            self.ready_at[key] = self._clock() if at is None else at

    @harmless
    def resent(self, key: Hashable, *, is_ready: bool) -> None:
        """It was sent again while it runs; *is_ready*: to run as soon as it is over."""
        self._resent_at.setdefault(key, self.now)
        if is_ready and key not in self._again:
            self._again[key] = self.now
            self.extra_adds += 1

    @harmless
    def unsent(self, key: Hashable) -> None:
        """It was cancelled while it runs: nobody has sent it again."""
        self._resent_at.pop(key, None)
        self._again.pop(key, None)

    @harmless
    def begun(self, key: Hashable, now: float) -> tuple[float | None, float | None]:
        """Its run begins: how long it was ready, and how long it is since it was sent."""
        ready_at = self.ready_at.pop(key, None)
        is_first = key not in self._sent_at
        sent_at = ready_at if is_first else self._sent_at[key]
        self.began_at[key] = sent_at, now
        waited = None if ready_at is None else now - ready_at
        latency = None if sent_at is None else now - sent_at
        if waited is not None:
            (self._both if is_first else self._waits).pending.append(waited)
        if latency is not None and not is_first:
            self._latencies.pending.append(latency)
        return waited, latency

    @harmless
    def over(self, key: Hashable) -> tuple[float | None, float | None]:
        """Its run is over, or given up: how long it took, and how long it was from the send to the start."""
        sent_at, began_at = self.began_at.pop(key, UNKNOWN)
        self.now = now = self._clock()
        self._sent_at[key] = sent_at
        if began_at is None:
            return None, None
        duration = now - began_at
        pending = self._runs.pending
        pending.append(duration)
        if len(pending) >= MOST_PENDING:
            self.fold()
        return duration, None if sent_at is None else began_at - sent_at

    @harmless
    def goes_round(self, key: Hashable) -> None:
        """Its run is over, and it runs again since it was sent again."""
        self._sent_at[key] = self._resent_at.pop(key, self.now)
        if key in self._again:
            self.ready_at[key] = self._again.pop(key)

    @harmless
    def planned(self, key: Hashable, due: float) -> None:
        """A run of a periodic is over, and the next is at *due*."""
        self._sent_at[key] = due

    @harmless
    def forget(self, key: Hashable) -> float | None:
        """It has left the queue: how long it is since it was sent."""
        self.began_at.pop(key, None)
        self.unsent(key)
        ready_at = self.ready_at.pop(key, None)
        sent_at = self._sent_at.pop(key, ready_at)
        return None if sent_at is None else self._clock() - sent_at

    def lose(self) -> None:
        """A user's key raises: it can no longer be found, so nothing is known any more of what is in the queue."""
        for marks in (self.ready_at, self.began_at, self._sent_at, self._resent_at, self._again):
            marks.clear()

    # Reading

    def again(self) -> int:
        """How many run that are to run again at once."""
        return len(self._again)

    def histograms(self) -> tuple[Histogram, Histogram, Histogram]:
        """Of waits, latencies and runs."""
        self.fold()
        return self._both.plus(self._waits), self._both.plus(self._latencies), self._runs.plus(Tally())
