"""The book: which entries there are, in which phase, and what waits for which index.

Invariants (`reading.check` asserts them): `entries` is the book, in order of acceptance, and occupancy is its length.
`ready` holds one live occurrence for each entry that waits, else debris, which `stale` and `skip` count. An entry in
the delays is DELAYED; one in `ghosts`' shadow is BLOCKED; `active` of them run. `takable`, `swift` and `calm` are
recomputed by `refresh`, which whatever changes one of their causes calls, and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from math import inf
from typing import TYPE_CHECKING, Any, cast

from ..envelope import THREADS
from ..limiters import TokenBucket
from ..results import Outcome, QueueState, StopReport
from . import telling
from .delays import SMALL, Delays
from .effects import ENDED, FORGET, JUNK, STATE, Effect
from .entries import BLOCKED, DELAYED, READY, RUNNING, RUNS, Entry, Handle, Lanes, Notes, Record, envelope_of, key_of
from .entries import ENDED as OVER
from .lifecycle import TABLE

if TYPE_CHECKING:
    from ..envelope import Envelope
    from .stopping import Ticket
    from .times import Times
    from .waiting import Seat, Waiter


NO_ENVELOPE: Any = None  # of an ended Entry, so that debris keeps nothing of the user's


class Book:
    """The state of one queue and the moves that keep it consistent. `Admission` and `Machine` add the rules."""

    __slots__ = (
        "abandoned", "abandoned_ended", "active", "calm", "clock", "coalesced", "delays", "delivering",
        "dropped", "entries", "ghosts", "heap", "is_busy", "is_capturing", "is_ending", "is_paused",
        "is_replacing", "joiners", "last_report", "late", "limit", "outbox", "periodics", "plain_for",
        "plain_succeeded", "rate", "ready", "refused", "reserved", "retried", "returned", "room",
        "runs_abandoned", "runs_cancelled", "runs_failed", "runs_stopped", "runs_succeeded",
        "scope", "seats", "skip", "skipped", "stale", "state", "stopped", "succeeded", "swift", "takable", "ticket",
        "times", "told",
    )  # fmt: skip

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        capacity: int | None = None,
        workers: float = inf,
        is_replacing: bool = False,
        plain_for: str = THREADS,
        rate: TokenBucket | None = None,
        is_capturing: bool = False,
    ) -> None:
        self.clock = clock
        self.room: float = inf if capacity is None else capacity
        self.limit = workers
        self.is_replacing = is_replacing
        self.rate = rate
        self.told: frozenset[str] = frozenset()  # the events that somebody listens to
        self.times: Times | None = None  # while somebody measures
        self.plain_for = plain_for  # the mark of envelopes that need no question here
        self.is_capturing = is_capturing  # every send brings its sender's context
        self.state = QueueState.INIT
        self.is_ending = False  # terminate was called
        self.is_paused = False
        self.scope: Any = None  # the driver's: what the contexts of all runs since the last start share
        self.is_busy = False  # the driver is inside: who enters again is its own owner
        self.entries: dict[Hashable, Record] = {}  # the book, in order of acceptance
        self._set_queues()
        self.ghosts: dict[Hashable, Envelope] = {}  # keys that an abandoned run still holds
        self.periodics = 0  # entries that are periodic
        self.active = 0  # runs now; at most limit, but for a limit lowered meanwhile
        self.reserved: float | None = None  # when the head may start, by the start rate
        self.takable: Any = ()  # the ready queue, or this empty tuple
        self.swift: str | None = None
        self.calm = False
        self._set_control()
        self._set_counters()
        self.refresh()

    def _set_queues(self) -> None:
        self.ready: deque[Handle] | Lanes = deque()  # one live occurrence for each that waits; else debris
        self.stale = 0  # debris in ready: ended Entries
        self.skip: dict[Envelope, int] = {}  # debris in ready: occurrences of plain envelopes to pass over
        self.skipped = 0  # their sum
        self.delays = Delays()
        self.heap = self.delays.heap  # the same list

    def _set_control(self) -> None:
        self.joiners: list[Waiter] = []
        self.seats: deque[Seat] = deque()
        self.ticket: Ticket | None = None
        self.last_report: StopReport | None = None
        self.outbox: list[Effect] = []
        self.delivering = 0  # outboxes taken and not yet reported as delivered

    def _set_counters(self) -> None:
        self.plain_succeeded = 0  # plain envelopes that ran once and succeeded
        self.succeeded = self.stopped = self.dropped = self.returned = self.abandoned = 0
        self.coalesced = self.refused = self.late = self.abandoned_ended = self.retried = 0
        self.runs_succeeded = self.runs_failed = self.runs_cancelled = self.runs_stopped = self.runs_abandoned = 0

    def refresh(self) -> None:
        """Recompute the three shortcuts; called by whatever changes one of their causes, and by nothing else.

        `takable`: the ready queue while runs may start, else empty. `swift`: the mark of envelopes whose
        sending needs no question, else None. `calm`: a plain success needs none.
        """
        state = self.state
        drains = state is QueueState.STOPPING and self.ticket is not None and self.ticket.drains
        may_run = (state is QueueState.RUNNING or drains) and not self.is_paused
        self.takable = self.ready if may_run else ()
        accepts = (state is QueueState.INIT or state is QueueState.RUNNING) and not self.is_ending
        self.swift = self.plain_for if accepts and not self.ghosts and not self.is_capturing else None
        self.calm = not (self.ghosts or self.seats or self.skip or self.rate is not None or self.active > self.limit)
        if self.told or self.times is not None:
            telling.slow_down(self)

    def ruffle(self) -> None:
        """Something has come that a plain success must ask about."""
        self.calm = False
        if self.times is not None:
            self.times.is_calm = False

    def go(self, event: str) -> None:
        """Take the transition that the table of states has for *event*."""
        old = self.state
        self.state = TABLE[old, event]
        self.outbox.append((STATE, old, self.state))

    # Into the ready queue and out of it

    def _make_ready(self, entry: Entry, at: float | None = None) -> None:
        """Let *entry* run next, behind what waits; behind an abandoned run of its key it is blocked.

        It is ready since *at*, or since now.
        """
        if self.ghosts and key_of(entry.envelope) in self.ghosts:
            entry.phase = BLOCKED
        else:
            if entry.envelope._policy.priority and self.ready.__class__ is deque:
                self._open_lanes()
            entry.phase = READY
            self.ready.append(entry)
        if self.times is not None:
            self.times.readied(key_of(entry.envelope), at)

    def _open_lanes(self) -> None:
        """The first priority has come: drop the debris and sort by priority from now on."""
        self._prune()
        self.ready = Lanes(cast("deque[Handle]", self.ready))
        self.refresh()

    def _note(self, key: Hashable, entry: Any) -> Entry:
        """The Entry under *key*, made when nothing was noted so far."""
        if entry.__class__ is Entry:
            return entry
        noted = Entry(envelope_of(key, entry))  # without a key the envelope is its own
        notes = noted.noted()
        if entry is RUNS:
            noted.phase = RUNNING
        else:
            notes.by_envelope = True
        self.entries[key] = noted
        return noted

    def _withdraw(self, key: Hashable, entry: Any) -> Envelope:
        """What waits, is delayed or blocked ends RETURNED."""
        if entry is None or (entry.phase == READY and entry.notes is not None and entry.notes.by_envelope):
            envelope = envelope_of(key, entry)
            self.skip[envelope] = self.skip.get(envelope, 0) + 1
            self.skipped += 1
            self.ruffle()
        elif entry.phase == READY:
            self.stale += 1
        elif entry.phase == DELAYED:
            self.delays.drop(entry, OVER)
        del self.entries[key]
        return self.out_of_book(key, entry, Outcome.RETURNED)

    def _is_live(self, handle: Handle) -> bool:
        if handle.__class__ is Entry:
            return handle.phase == READY
        return handle not in self.skip

    def _passed_over(self, envelope: Envelope) -> None:
        self.skipped -= 1
        left = self.skip[envelope] - 1
        if left:
            self.skip[envelope] = left
            return
        del self.skip[envelope]
        self.outbox.append((JUNK, envelope))  # it may have been the last reference
        if not self.skip:
            self.refresh()

    def _trim(self) -> None:
        """Build the ready queue anew when it is small, or when half of it is debris."""
        debris = self.stale + self.skipped
        if debris and (debris * 2 > len(self.ready) or len(self.ready) <= SMALL):
            self._prune()

    def _prune(self) -> None:
        """Build the ready queue anew without its debris."""
        if not self.stale and not self.skip:
            return
        old, skip = self.ready, self.skip

        def is_kept(handle: Handle) -> bool:
            if handle.__class__ is Entry:
                return bool(handle.phase == READY)
            if not skip.get(handle, 0):
                return True
            skip[handle] -= 1
            return False

        self.skip = {}
        self.stale = self.skipped = 0
        self.rebuild_ready(is_kept)
        self.outbox.append((JUNK, old, skip))

    def rebuild_ready(self, is_kept: Callable[[Handle], bool]) -> None:
        """Build the ready queue anew with what is to be kept, in its order."""
        old = self.ready
        self.ready = deque(filter(is_kept, old)) if isinstance(old, deque) else old.filtered(is_kept)
        self.refresh()

    def drop_queues(self) -> tuple[Any, ...]:
        """Nothing will run any more: what the ready queue and the heap held, to be let go of outside the lock."""
        old = (self.ready, self.skip, self.delays)
        self._set_queues()
        self.refresh()
        return old

    # Out of the book

    def out_of_book(
        self, key: Hashable, entry: Any, outcome: Outcome, error: BaseException | None = None, value: Any = None
    ) -> Envelope:
        """The entry is no longer in the table: count its outcome and say what is to be done outside. Its envelope."""
        self._count_outcome(outcome)
        envelope = envelope_of(key, entry)
        if self.told or self.times is not None:
            telling.ended(self, key, envelope, outcome)
        if entry.__class__ is Entry:
            if envelope._policy.timetable is not None:
                self.periodics -= 1
            if entry.phase != RUNNING:
                entry.phase = OVER
                self.outbox.append((JUNK, envelope, entry.notes))
            if entry.notes is not None:
                self._close_notes(key, entry.notes, outcome, error, value)
                entry.notes = None
            if outcome is not Outcome.ABANDONED:
                entry.envelope = NO_ENVELOPE  # debris that still points here must not keep the user's objects
        self.room_freed()
        return envelope

    def room_freed(self) -> None:
        """An entry has left the book. `Admission` seats those who wait for room."""

    def rest(self) -> None:
        """A run may have been the last, or what others waited for may have come true. `Machine` looks."""

    def _close_notes(
        self, key: Hashable, notes: Notes, outcome: Outcome, error: BaseException | None, value: Any
    ) -> None:
        if notes.backed_off:
            self.outbox.append((FORGET, key))
        if notes.futures:
            self.outbox.append((ENDED, notes.futures, outcome, error, value))
        if notes.context is not None or notes.next_envelope is not None:
            self.outbox.append((JUNK, notes))

    def _count_outcome(self, outcome: Outcome) -> None:
        if outcome is Outcome.SUCCEEDED:
            self.succeeded += 1
        elif outcome is Outcome.STOPPED:
            self.stopped += 1
        elif outcome is Outcome.DROPPED:
            self.dropped += 1
        elif outcome is Outcome.RETURNED:
            self.returned += 1
        else:
            self.abandoned += 1

    # Reading

    def count(self, outcome: Outcome) -> int:
        """How many entries ended so."""
        number: int = getattr(self, outcome.value)
        return number + self.plain_succeeded if outcome is Outcome.SUCCEEDED else number

    def one_offs(self) -> int:
        """Entries that are not periodic."""
        return len(self.entries) - self.periodics

    def blocked(self) -> int:
        """Entries that wait behind an abandoned run of their key."""
        count = 0
        for key in self.ghosts:
            entry = self.entries.get(key)
            count += isinstance(entry, Entry) and entry.phase == BLOCKED
        return count

    def live_ready(self) -> int:
        """Entries that would run at once if a worker were free."""
        return len(self.entries) - self.delays.size - self.active - self.blocked()

    def envelopes(self) -> Iterator[Envelope]:
        """Every envelope in the book, in order of acceptance."""
        for key, entry in self.entries.items():
            yield envelope_of(key, entry)
