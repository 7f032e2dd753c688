"""What is told of sends and runs, and measured of them: carried out only while somebody listens or measures.

Rules for changing it: each counter of the book that an event stands for is counted and told in the same section, so
that both agree whenever the lock is released. What a shortcut passes over is not told: `slow_down` takes them away.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from ..results import Measured, Outcome
from . import reading
from .effects import JUNK, TOLD
from .entries import Entry, Handle, Record, envelope_of, key_of
from .settle import RUN_CANCELLED, RUN_FAILED, RUN_STOPPED, RUN_SUCCEEDED, Verdict
from .times import UNKNOWN, Times

if TYPE_CHECKING:
    from ..envelope import Envelope
    from .admission import Admission
    from .book import Book

OF_SENDS = frozenset({"accepted", "coalesced"})  # of every one
OF_RUNS = frozenset({"started", "succeeded", "ended"})
WAYS = {RUN_SUCCEEDED: "succeeded", RUN_FAILED: "failed", RUN_STOPPED: "stopped", RUN_CANCELLED: "cancelled"}
MOST_DUE = 10_000  # entries that are due and not yet ready: nobody counts more of them under the lock


def watch(book: Book, told: frozenset[str], *, is_measured: bool) -> None:
    """From now on tell of *told*, and measure, if that is wanted or events need it."""
    book.told = told
    if is_measured or told & OF_RUNS:
        if book.times is None:
            book.times = Times(book.clock, book.delays.size + book.blocked())
    elif book.times is not None:
        book.outbox.append((JUNK, book.times))
        book.times = None
    book.refresh()


def slow_down(book: Book) -> None:
    """Take away the shortcuts that would pass over what is told or measured; `Times` has its own."""
    times = book.times
    if times is not None:
        times.swift = None if book.told & OF_SENDS else book.swift
        times.is_calm = book.calm and not book.told & OF_RUNS
        book.calm = False
    if times is not None or book.told & OF_SENDS:
        book.swift = None


def sent(book: Admission, envelope: Envelope, *, is_new: bool) -> None:
    """*envelope* was taken in, or has merged into what is there."""
    if is_new and book.times is not None:
        book.times.admitted(key_of(envelope), book.entries)
    event = "accepted" if is_new else "coalesced"
    if event in book.told:
        book.outbox.append((TOLD, event, envelope))


def began(book: Book, handle: Handle, now: float) -> None:
    """The run of what was taken begins."""
    envelope, attempt = (handle.envelope, handle.attempt) if handle.__class__ is Entry else (handle, 1)
    times = (book.times and book.times.begun(key_of(envelope), now)) or UNKNOWN
    if "started" in book.told:
        book.outbox.append((TOLD, "started", envelope, attempt, *times))


def over(book: Book, key: Hashable, record: Record, verdict: Verdict) -> None:
    """A run that nobody had given up on is over."""
    times = (book.times and book.times.over(key)) or UNKNOWN
    envelope, attempt = envelope_of(key, record), record.attempt if record.__class__ is Entry else 1
    event = WAYS[verdict.run]
    if event in book.told:
        facts: tuple[Any, ...] = times
        if event == "failed":
            facts = (verdict.error, *times)
        elif event == "succeeded":
            facts = (*times, verdict.is_late)
        book.outbox.append((TOLD, event, envelope, attempt, *facts))
    if verdict.is_late and "late" in book.told:
        book.outbox.append((TOLD, "late", envelope, attempt))


def ended(book: Book, key: Hashable, envelope: Envelope, outcome: Outcome) -> None:
    """An entry is no longer in the book."""
    age = None if book.times is None else book.times.forget(key)
    if "ended" in book.told:
        book.outbox.append((TOLD, "ended", envelope, outcome, age))


def measured(book: Book) -> Measured | None:
    """What was measured up to now. What is due counts as ready, though no worker has looked."""
    times = book.times
    if times is None:
        return None
    now = book.clock()
    stats = reading.stats(book)
    running = [max(0.0, now - began_at) for _, began_at in times.began_at.values()]
    waited, latency, ran = times.histograms()
    return Measured(
        depth=stats.buffered + stats.ready + times.again() + book.delays.count_due(now, MOST_DUE),
        adds=stats.accepted + times.extra_adds,
        retries=stats.retried,
        waited=waited,
        latency=latency,
        ran=ran,
        unfinished=sum(running),
        longest=max(running, default=0.0),
    )
