"""Admission: who gets in, and what a send of something that is already there means.

A new rule about duplicates, keys or capacity belongs here. `send_one` and `send_many` are the hot path: they serve
plain new envelopes and answer None for everything else, which `send` then decides.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from ..errors import (
    CapacityExceededError,
    EnvelopeQueueError,
    InvalidEnvelopeError,
    QueueNotRunningError,
    QueueStateError,
    QueueTerminatedError,
)
from ..results import QueueState
from . import telling, waiting
from .book import Book
from .effects import JUNK, TOLD
from .entries import ABSENT, DELAYED, READY, RUNNING, Entry, Record, key_of

if TYPE_CHECKING:
    from ..envelope import Envelope

AT_ONCE = -inf  # before every instant, also those that a user's schedule may answer
Starts = Mapping["Envelope", tuple[float, float | None]]  # of periodics: (planned, due) of the first run


class Admission(Book):
    """A book that takes envelopes in."""

    __slots__ = ()

    def send_one(self, envelope: Envelope) -> int | None:
        """Take in one plain envelope: 1, or 0 when it waits already. None: use `send`."""
        if envelope._plain_for is self.swift:  # of anything else it is missing, or a descriptor
            entries = self.entries
            if envelope in entries:
                if entries[envelope] is None:
                    self.coalesced += 1
                    return 0
            elif len(entries) < self.room:
                entries[envelope] = None  # before the append: between the two nothing can interrupt
                self.ready.append(envelope)
                return 1
        elif self.times is not None:
            return self.times.send_one(self, envelope)
        return None

    def send_many(self, envelopes: tuple[Envelope, ...]) -> int | None:
        """Take in a batch of plain new envelopes. None: use `send`."""
        times = self.times
        swift = self.swift if times is None else times.swift
        if swift and all([envelope._plain_for is swift for envelope in envelopes]):  # noqa: C419  a generator is slower
            fresh: dict[Hashable, Record] = dict.fromkeys(envelopes)
            entries = self.entries
            if entries.keys().isdisjoint(fresh) and len(entries) + len(fresh) <= self.room:
                now = 0.0 if times is None else self.clock()
                try:
                    self.ready.extend(fresh)
                finally:  # an interrupt between the two must not part them
                    entries |= fresh
                if times is not None:
                    times.ready_at.update(dict.fromkeys(fresh, now))
                self.coalesced += len(envelopes) - len(fresh)
                return len(fresh)
        return None

    def send(
        self,
        envelopes: Sequence[Envelope],
        due: float | None = None,
        starts: Starts | None = None,
        future: Any = None,
        context: Any = None,
    ) -> int:
        """Take in all of *envelopes* or none; how many became new entries. *due* None means at once."""
        self.must_accept(envelopes)
        if future is not None:
            self._must_be_one_off(envelopes[0])
        needed = self.count_new(envelopes)
        if not self.fits(needed):
            raise self._refusal(envelopes, CapacityExceededError(int(self.room), len(self.entries), needed))
        return self.admit_all(envelopes, due, starts, future, context)

    def must_accept(self, envelopes: Sequence[Envelope]) -> None:
        """Raise unless the queue takes envelopes in."""
        if self.is_ending or self.state is QueueState.TERMINATED:
            raise self._refusal(envelopes, QueueTerminatedError("the queue was terminated: make a new one"))
        if self.state is not QueueState.INIT and self.state is not QueueState.RUNNING:
            error = QueueNotRunningError(f"the queue is {self.state.value}: start it before sending")
            raise self._refusal(envelopes, error)

    def _refusal(self, envelopes: Sequence[Envelope], error: EnvelopeQueueError) -> EnvelopeQueueError:
        """*error*, with which *envelopes* are not taken in."""
        self.refused += len(envelopes)
        if "refused" in self.told:
            self.outbox += [(TOLD, "refused", envelope, error) for envelope in envelopes]
        return error

    def _must_be_one_off(self, envelope: Envelope) -> None:
        entry = self.entries.get(key_of(envelope), ABSENT)
        holds_periodic = entry.__class__ is Entry and (
            entry.envelope._policy.timetable is not None
            or (entry.notes is not None and entry.notes.next_planned is not None)
        )
        if holds_periodic:
            raise InvalidEnvelopeError("key is held by a periodic, which has no final outcome to wait for: use send()")

    def count_new(self, envelopes: Sequence[Envelope]) -> int:
        """How many of *envelopes* would become new entries."""
        return len({key for envelope in envelopes if (key := key_of(envelope)) not in self.entries})

    def fits(self, needed: int) -> bool:
        """Whether *needed* new entries fit; none always do."""
        return not needed or len(self.entries) + needed <= self.room

    def admit_all(
        self, envelopes: Sequence[Envelope], due: float | None, starts: Starts | None, future: Any, context: Any
    ) -> int:
        """Take in what was found to fit."""
        new = 0
        is_seen = bool(self.told) or self.times is not None
        if self.times is not None:
            self.times.now = self.clock()
        for envelope in envelopes:
            planned, first_due = starts[envelope] if starts is not None and envelope in starts else (None, due)
            entry = self.entries.get(key_of(envelope), ABSENT)
            if entry is ABSENT:
                self._admit(envelope, first_due, planned, future, context)
                new += 1
            else:
                self.coalesced += 1
                self._coalesce(envelope, entry, first_due, planned, future, context)
            if is_seen:
                telling.sent(self, envelope, is_new=entry is ABSENT)
        if self.joiners:
            self.rest()  # a periodic may have taken the place of the last one-off
        return new

    def _admit(self, envelope: Envelope, due: float | None, planned: float | None, future: Any, context: Any) -> None:
        key = key_of(envelope)
        if envelope._plain_for and due is None and future is None and context is None and key not in self.ghosts:
            self.entries[key] = None
            self.ready.append(envelope)
            return
        entry = Entry(envelope)
        if planned is not None or future is not None or context is not None:
            notes = entry.noted()
            notes.planned = planned
            notes.context = context
            notes.is_pinned = future is None
            if future is not None:
                notes.futures = [future]
        if envelope._policy.timetable is not None:
            self.periodics += 1
        self.entries[key] = entry
        if due is not None and due > self.clock():
            self.delays.push(entry, due)
        else:
            self._make_ready(entry)

    # Duplicates

    def _coalesce(
        self, envelope: Envelope, entry: Any, due: float | None, planned: float | None, future: Any, context: Any
    ) -> None:
        """Merge a send into the entry that is there."""
        if entry is None and future is None:
            return
        entry = self._note(key_of(envelope), entry)
        if future is not None:
            notes = entry.noted()
            if notes.futures is None:
                notes.futures = []
            notes.futures.append(future)
        elif entry.notes is not None:
            entry.notes.is_pinned = True
        if entry.phase == RUNNING:
            self._resend(entry, envelope, due, planned, context)
            return
        if self.is_replacing and envelope is not entry.envelope:
            self._replace(entry, envelope, planned, context)
        if entry.phase == DELAYED and (due is None or due < entry.due):
            if due is None or due <= self.clock():
                self.delays.drop(entry, READY)
                self._make_ready(entry)
            else:
                self.delays.push(entry, due)

    def _resend(self, entry: Entry, envelope: Envelope, due: float | None, planned: float | None, context: Any) -> None:
        """A send of what runs now: it will run once more, at the earliest time asked for."""
        notes = entry.noted()
        is_first = notes.again is None
        due = AT_ONCE if due is None else due
        notes.again = due if notes.again is None else min(notes.again, due)
        notes.cancelled = False  # the last of send and cancel wins
        if self.times is not None:
            self.times.resent(key_of(envelope), is_ready=due is AT_ONCE)
        if is_first or self.is_replacing:
            if notes.next_envelope is not None:
                self.outbox.append((JUNK, notes.next_envelope, notes.next_context))
            notes.next_envelope = envelope
            notes.next_planned = planned
            notes.next_context = context

    def _replace(self, entry: Entry, envelope: Envelope, planned: float | None, context: Any) -> None:
        """The newer envelope takes over the entry: place and due time stay, policy and payload are its own."""
        self._count_periodic(entry.envelope, envelope)
        self.outbox.append((JUNK, entry.envelope, entry.notes.context if entry.notes else None))
        entry.envelope = envelope
        if planned is not None or context is not None or entry.notes is not None:
            notes = entry.noted()
            notes.planned = planned
            notes.context = context

    def _count_periodic(self, old: Envelope, new: Envelope) -> None:
        self.periodics += (new._policy.timetable is not None) - (old._policy.timetable is not None)

    def take_resend(self, entry: Entry) -> float:
        """Make *entry* what its pending re-send asked for; when that is due."""
        notes = entry.noted()
        due = notes.again
        assert due is not None
        notes.again = None
        if notes.next_envelope is not None:
            if notes.next_envelope is not entry.envelope:
                self._count_periodic(entry.envelope, notes.next_envelope)
                self.outbox.append((JUNK, entry.envelope, notes.context))
                entry.envelope = notes.next_envelope
                notes.planned = notes.next_planned
            notes.context = notes.next_context
            notes.next_envelope = notes.next_context = notes.next_planned = None
        return due

    # Room

    def wait_for_room(
        self, envelopes: tuple[Envelope, ...], starts: Starts | None, context: Any, *, may_wait: bool
    ) -> waiting.Seat:
        """A seat in the row; taken already when there is room now, or nothing new in *envelopes*."""
        self.must_accept(envelopes)
        needed = self.count_new(envelopes)
        seat = waiting.Seat(envelopes, starts, context)
        if not needed or (not self.seats and self.fits(needed)):
            seat.is_done = True
            seat.answer = self.admit_all(envelopes, None, starts, None, context)
            return seat
        if len({key_of(envelope) for envelope in envelopes}) > self.room:  # some may be in the queue, but not for long
            raise self._refusal(envelopes, CapacityExceededError(int(self.room), len(self.entries), needed))
        if not may_wait:
            raise QueueStateError(
                "send_wait would have to wait inside a worker of its own queue, which could wait for itself: use send()"
            )
        self.seats.append(seat)
        self.ruffle()
        return seat

    def room_freed(self) -> None:
        """Seat those who fit now."""
        if self.seats:
            waiting.fill_seats(self)
