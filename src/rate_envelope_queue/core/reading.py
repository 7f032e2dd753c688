"""Reading the book: counts, views, and the check of its invariants. Nothing here changes anything."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING

from ..results import EntryView, QueueState, QueueStats
from .entries import BLOCKED, DELAYED, PHASE_NAMES, READY, RUNNING, Entry, envelope_of, key_of

if TYPE_CHECKING:
    from .book import Book

DEBRIS_PASSED = 1000  # about a millisecond under the lock


def stats(book: Book) -> QueueStats:
    """One consistent count."""
    waits = len(book.entries) - book.delays.size - book.active
    is_init = book.state is QueueState.INIT
    ended = book.plain_succeeded + book.succeeded + book.stopped + book.dropped + book.returned + book.abandoned
    runs_succeeded = book.plain_succeeded + book.runs_succeeded
    runs_ended = runs_succeeded + book.runs_failed + book.runs_cancelled + book.runs_stopped + book.runs_abandoned
    return QueueStats(
        accepted=ended + len(book.entries),
        succeeded=book.plain_succeeded + book.succeeded,
        stopped=book.stopped,
        dropped=book.dropped,
        returned=book.returned,
        abandoned=book.abandoned,
        coalesced=book.coalesced,
        refused=book.refused,
        buffered=waits if is_init else 0,
        ready=0 if is_init else waits,
        delayed=book.delays.size,
        running=book.active,
        occupancy=len(book.entries),
        runs_started=runs_ended + book.active,
        runs_succeeded=runs_succeeded,
        runs_failed=book.runs_failed,
        runs_cancelled=book.runs_cancelled,
        runs_stopped=book.runs_stopped,
        runs_abandoned=book.runs_abandoned,
        abandoned_ended=book.abandoned_ended,
        late=book.late,
        workers=0 if book.limit == inf else int(book.limit),
        state=book.state,
        retried=book.retried,
    )


def snapshot(book: Book, most: int) -> list[EntryView]:
    """The first *most* entries of the book."""
    now = book.clock()
    views: list[EntryView] = []
    for key, entry in book.entries.items():
        if len(views) >= most:
            break
        if isinstance(entry, Entry):
            due_in = entry.due - now if entry.phase == DELAYED else None
            views.append(EntryView(entry.envelope, key, PHASE_NAMES[entry.phase], entry.attempt, due_in))
        else:
            phase = READY if entry is None else RUNNING
            views.append(EntryView(envelope_of(key, entry), key, PHASE_NAMES[phase], 1, None))
    return views


def next_due(book: Book, most: int) -> list[EntryView]:
    """The first *most* of what is delayed, the next due first.

    A heap is in order along its branches: walked from the top, the earliest of what was reached first, it gives them in
    order, and costs what is answered and not what there is. Debris on the way is passed over, up to a bound.
    """
    heap, now = book.delays.heap, book.clock()
    views: list[EntryView] = []
    reached = [(*heap[0][:2], 0)] if heap else []
    for _ in range(DEBRIS_PASSED + 2 * most):
        if not reached or len(views) >= most:
            break
        due, seq, at = heappop(reached)
        for child in (2 * at + 1, 2 * at + 2):
            if child < len(heap):
                heappush(reached, (*heap[child][:2], child))
        entry = heap[at][2]
        if entry.seq == seq and entry.phase == DELAYED:
            key = key_of(entry.envelope)
            views.append(EntryView(entry.envelope, key, PHASE_NAMES[DELAYED], entry.attempt, due - now))
    return views


def check(book: Book) -> None:
    """Raise AssertionError unless every invariant of the book holds. Costs a walk over everything; for tests."""
    phases = [0] * len(PHASE_NAMES)
    periodics = 0
    for key, entry in book.entries.items():
        if isinstance(entry, Entry):
            assert entry.envelope is not None
            phases[entry.phase] += 1
            periodics += entry.envelope._policy.timetable is not None
            assert entry.phase != BLOCKED or key in book.ghosts
        else:
            phases[READY if entry is None else RUNNING] += 1
    sweeps = book.ticket is not None and book.ticket.sweeps
    assert phases[RUNNING] == book.active, (phases, book.active)
    assert phases[DELAYED] == book.delays.size
    assert periodics == book.periodics
    assert len(book.entries) <= book.room
    if not sweeps:
        book.delays.check()
        _check_ready(book, phases[READY])
    stopped = book.state in (QueueState.STOPPED, QueueState.TERMINATED)
    assert not stopped or (book.active == 0 and (book.ticket is None or book.ticket.report is not None))
    swift, is_calm = (book.swift, book.calm) if book.times is None else (book.times.swift, book.times.is_calm)
    assert not (is_calm and (book.ghosts or book.seats or book.skip or book.active > book.limit))
    assert not (swift and book.ghosts)
    assert book.times is None or not (book.swift or book.calm)


def _check_ready(book: Book, waiting: int) -> None:
    live = stale = 0
    skipped: dict[object, int] = {}
    seen: set[int] = set()
    for handle in book.ready:
        if isinstance(handle, Entry):
            is_live = handle.phase == READY
            stale += not is_live
            live += is_live
            assert not is_live or id(handle) not in seen
            seen.add(id(handle))
        elif skipped.get(handle, 0) < book.skip.get(handle, 0):
            skipped[handle] = skipped.get(handle, 0) + 1
        else:
            entry = book.entries[handle]
            assert entry is None or (isinstance(entry, Entry) and entry.notes is not None and entry.notes.by_envelope)
            live += 1
    assert live == waiting, (live, waiting)
    assert stale == book.stale
    assert skipped == book.skip
    assert sum(skipped.values()) == book.skipped
