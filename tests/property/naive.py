"""The queue, said as simply as possible: one dict, three lists, no shortcut. What it says is what the machine must do.

It takes nothing from the core: names of states and outcomes, errors, and its own rules. Nothing is counted that can be
counted again, nothing is left in place that is void, and every search looks at everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from math import inf
from typing import Any

from rate_envelope_queue.envelope import Envelope
from rate_envelope_queue.errors import (
    CapacityExceededError,
    InvalidEnvelopeError,
    QueueNotRunningError,
    QueueStateError,
    QueueTerminatedError,
)
from rate_envelope_queue.results import Outcome, QueueState, StopMode

INIT, RUNNING, STOPPING = QueueState.INIT, QueueState.RUNNING, QueueState.STOPPING
STOPPED, TERMINATED = QueueState.STOPPED, QueueState.TERMINATED
PERIOD = 3.0
ENDS = {"success": Outcome.SUCCEEDED, "late": Outcome.SUCCEEDED, "stop": Outcome.STOPPED, "drop": Outcome.DROPPED}
RUNS = {"success": "succeeded", "late": "succeeded", "stop": "stopped", "cancelled": "cancelled"}  # all else: failed


def key_of(envelope: Envelope) -> Hashable:
    """What counts as the same work."""
    return envelope if envelope.key is None else envelope.key


class Row:
    """An entry. `again` is when a re-send of what runs is due (0: at once), `following` what it brought."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.phase = "ready"
        self.attempt = 1
        self.futures: list[Any] = []
        self.is_pinned = self.is_cancelled = self.is_backed_off = False
        self.is_added = False  # ready, or to run again at once: what that began was counted
        self.sent_at = self.ready_at = self.began_at = 0.0
        self.resent_at: float | None = None
        self.again: float | None = None
        self.following: Envelope | None = None


class Stop:
    """The stop in progress, or the last one."""

    def __init__(self, model: Queue) -> None:
        self.begun_at, self.before = model.now, model.counts.copy()
        self.mode = StopMode.DRAIN
        self.cancel_at = self.abandon_at = inf
        self.has_cancelled = self.gave_up = self.is_timed_out = False
        self.abandoned: list[Envelope] = []
        self.returned: list[Envelope] = []


class Queue:
    """One queue, as far as sending and running go. Each method is what the machine's of this name must amount to."""

    def __init__(self, capacity: float, limit: int, *, replaces: bool, gap: float) -> None:
        self.capacity, self.limit, self.replaces = capacity, limit, replaces
        self.now, self.state, self.is_paused, self.is_ending = 0.0, INIT, False, False
        self.book: dict[Hashable, Row] = {}
        self.ready: list[tuple[int, Hashable]] = []  # negated priority, key
        self.delayed: list[tuple[float, int, Hashable]] = []
        self.ghosts: dict[Hashable, Row] = {}
        self.seats: list[Sequence[Envelope]] = []
        self.joiners: list[Any] = []
        self.answers: dict[Any, bool] = {}  # of joins
        self.resolved: dict[Any, Outcome] = {}  # of futures
        self.counts: Counter[Any] = Counter()
        self.waits: list[float] = []  # what was measured
        self.latencies: list[float] = []
        self.ran: list[float] = []
        self.pushes = self.undelivered = 0
        self.gap, self.token, self.reserved = gap, 0.0, -1.0  # the start rate: when the next token comes, who has one
        self.stopping = Stop(self)
        self.report: dict[str, Any] = {}

    # Sending

    def accept(self, count: int) -> None:
        if self.is_ending or self.state not in (INIT, RUNNING):
            self.counts["refused"] += count
            raise QueueTerminatedError if self.is_ending else QueueNotRunningError

    def new(self, envelopes: Sequence[Envelope]) -> int:
        return len({key_of(envelope) for envelope in envelopes} - self.book.keys())

    def fits(self, envelopes: Sequence[Envelope]) -> bool:
        return not self.new(envelopes) or len(self.book) + self.new(envelopes) <= self.capacity

    def refuse(self, envelopes: Sequence[Envelope]) -> None:
        self.counts["refused"] += len(envelopes)
        raise CapacityExceededError(0, 0, 0)

    def send(self, envelopes: Sequence[Envelope], delay: float = 0.0, future: Any = None) -> int:
        self.accept(len(envelopes))
        held = self.book.get(key_of(envelopes[0]))
        if future is not None and held and (held.envelope.is_periodic or (held.following or held.envelope).is_periodic):
            raise InvalidEnvelopeError
        if not self.fits(envelopes):
            self.refuse(envelopes)
        return self.admit(envelopes, self.now + delay if delay else 0.0, future)

    def send_wait(self, envelopes: Sequence[Envelope], *, may_wait: bool) -> bool:
        """Whether it is in; else it waits."""
        self.accept(len(envelopes))
        if not self.new(envelopes) or (not self.seats and self.fits(envelopes)):
            self.admit(envelopes, 0.0)
            return True
        if len({key_of(envelope) for envelope in envelopes}) > self.capacity:
            self.refuse(envelopes)
        if not may_wait:
            raise QueueStateError
        self.seats.append(envelopes)
        return False

    def admit(self, envelopes: Sequence[Envelope], asked: float, future: Any = None) -> int:
        before = len(self.book)
        for envelope in envelopes:
            key, due = key_of(envelope), 0.0 if envelope.is_periodic else asked
            row = self.book.get(key)
            self.counts["coalesced"] += row is not None
            if row is not None:
                self.merge(key, row, envelope, due)
            else:
                row = self.book[key] = Row(envelope)
                row.sent_at = self.now
                self.place(key, due)
            row.futures += [] if future is None else [future]
            row.is_pinned = row.is_pinned or future is None
        self.look_at_joins()
        return len(self.book) - before

    def merge(self, key: Hashable, row: Row, envelope: Envelope, due: float) -> None:
        if row.phase == "running":
            if row.again is None or self.replaces:
                row.following = envelope
            row.again = due if row.again is None else min(due, row.again)
            row.resent_at = self.now if row.resent_at is None else row.resent_at
            row.is_cancelled = False
            if not due:
                self.add(row, self.now)
            return
        if self.replaces:
            row.envelope = envelope
        if row.phase == "delayed" and due < self.due(key):
            self.unplace(key)
            self.place(key, due)

    def add(self, row: Row, at: float) -> None:
        if not row.is_added:
            self.counts["adds"] += 1
            row.is_added, row.ready_at = True, at

    def place(self, key: Hashable, due: float, since: float | None = None) -> None:
        """Let it wait: for a time, behind an abandoned run, or in the row, behind those of its priority."""
        row = self.book[key]
        if due > self.now or (due and self.state is STOPPING):
            row.phase = "delayed"
            self.pushes += 1
            self.delayed.append((due, self.pushes, key))
            return
        self.add(row, self.now if since is None else since)
        if key in self.ghosts:
            row.phase = "blocked"
        else:
            row.phase = "ready"
            self.ready.append((-row.envelope.priority, key))
            self.ready.sort(key=lambda item: item[0])

    def unplace(self, key: Hashable) -> None:
        self.ready = [item for item in self.ready if item[1] != key]
        self.delayed = [item for item in self.delayed if item[2] != key]

    def due(self, key: Hashable) -> float:
        return next(at for at, _, other in self.delayed if other == key)

    def fill_seats(self) -> None:
        while self.seats and self.fits(self.seats[0]):
            self.admit(self.seats.pop(0), 0.0)

    # Running

    def active(self) -> list[Hashable]:
        return [key for key, row in self.book.items() if row.phase == "running"]

    def one_offs(self) -> int:
        return sum(not row.envelope.is_periodic for row in self.book.values())

    def drains(self) -> bool:
        return self.stopping.mode is StopMode.DRAIN and not self.stopping.has_cancelled

    def may_run(self) -> bool:
        return not self.is_paused and (self.state is RUNNING or (self.state is STOPPING and self.drains()))

    def take(self) -> Hashable:
        self.promote()
        if not (self.may_run() and self.ready and len(self.active()) < self.limit) or not self.has_token():
            return None
        _, key = self.ready.pop(0)
        row = self.book[key]
        row.phase, row.is_added, row.began_at = "running", False, self.now
        self.waits.append(self.now - row.ready_at)
        self.latencies.append(self.now - row.sent_at)
        return key

    def has_token(self) -> bool:
        """The start rate, a bucket of one token: reserved by who would start, and taken when it does."""
        if self.gap and self.reserved < 0:
            self.reserved = max(self.now, self.token)
            self.token = self.reserved + self.gap
        if self.now < self.reserved:
            return False
        if self.gap and self.now >= self.token:
            self.token = self.now + self.gap
        self.reserved = -1.0
        return True

    def promote(self) -> None:
        """What is due becomes ready; in a drain, what was due before it began."""
        for item in sorted(self.delayed):
            is_due = item[0] <= self.now if self.state is RUNNING else item[0] < self.stopping.begun_at
            if self.may_run() and is_due:
                self.unplace(item[2])
                self.place(item[2], 0.0, item[0])

    def finish(self, key: Hashable, how: str, after: float, attempt: int) -> None:
        """A run has ended: *how*, and when its user wants it *after* that."""
        if key in self.ghosts:
            self.finish_ghost(key, how, attempt)
            return
        row = self.book[key]
        envelope, outcome = row.envelope, ENDS.get(how)
        self.counts["runs_" + RUNS.get(how, "failed")] += 1
        self.counts["late"] += how == "late"
        self.ran.append(self.now - row.began_at)
        due = self.now + after if after else 0.0
        if envelope.is_periodic and how in ("success", "late", "retry"):
            outcome, due = None, self.now + PERIOD
            row.sent_at = due
        elif how in ("retry", "backoff") and attempt >= (envelope.max_attempts or inf):
            outcome = Outcome.DROPPED
        row.is_backed_off = outcome is None and (row.is_backed_off or how == "backoff")
        again = row.again
        if row.is_cancelled or again is None or outcome is Outcome.STOPPED:
            outcome = outcome or (Outcome.RETURNED if row.is_cancelled else None)
            self.follow(key, row, how, outcome, due)
        else:
            self.counts["dead"] += outcome is Outcome.DROPPED
            self.resend(row)
            self.place(key, min(again, due) if outcome is None else again)

    def follow(self, key: Hashable, row: Row, how: str, outcome: Outcome | None, due: float) -> None:
        """Nothing else was asked for: it ends, or goes on."""
        if outcome is not None:
            self.counts["dead"] += outcome is Outcome.DROPPED
            self.end(key, outcome)
            return
        self.counts["retried"] += how in ("retry", "backoff") and not row.envelope.is_periodic
        row.attempt = 1 if how in ("success", "late") else row.attempt + (how != "cancelled")
        self.place(key, due)

    def finish_ghost(self, key: Hashable, how: str, attempt: int) -> None:
        ghost = self.ghosts.pop(key)
        self.counts["abandoned_ended"] += 1
        is_retried = how == "backoff" and attempt < (ghost.envelope.max_attempts or inf)
        self.counts["forgotten"] += is_retried and key not in self.book
        if key in self.book and self.book[key].phase == "blocked":
            self.place(key, 0.0)

    def resend(self, row: Row) -> None:
        row.sent_at, row.resent_at = row.resent_at or 0.0, None
        row.envelope, row.following, row.again, row.attempt = row.following or row.envelope, None, None, 1

    def end(self, key: Hashable, outcome: Outcome) -> Envelope:
        self.unplace(key)
        row = self.book.pop(key)
        self.counts[outcome] += 1
        self.counts["forgotten"] += row.is_backed_off
        self.resolved.update(dict.fromkeys(row.futures, outcome))
        self.fill_seats()
        return row.envelope

    # Joins

    def is_busy(self) -> bool:
        return bool(self.active()) or (self.undelivered > 0 and not self.stopping.gave_up)

    def look_at_joins(self) -> None:
        """Also in the middle of a call, when a periodic has taken the place of the last one-off."""
        if not self.is_busy() and not self.one_offs():
            self.answer_joins(True)

    def answer_joins(self, is_true: bool) -> None:
        self.answers.update(dict.fromkeys(self.joiners, is_true))
        self.joiners.clear()
