"""What the queue writes down about an envelope, and the order in which what is ready runs.

The table itself (`Book.entries`) maps a key to one of three things, so that a plain envelope costs no object: None, it
waits and there is nothing to note; RUNS, it runs and there is nothing to note; or its Entry, made when there is.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from ..envelope import Envelope

ENDED, READY, DELAYED, RUNNING, BLOCKED = range(5)  # BLOCKED: ready, but an abandoned run still holds its key
PHASE_NAMES = ("ended", "ready", "delayed", "running", "blocked")

RUNS = True  # the table's value for a running plain envelope
ABSENT: Any = object()


class Notes:
    """What only some entries need. `again` is the due time of a re-send while running (-inf: at once), or None."""

    __slots__ = (
        "again",
        "backed_off",
        "by_envelope",
        "cancelled",
        "context",
        "futures",
        "is_pinned",
        "next_context",
        "next_envelope",
        "next_planned",
        "planned",
    )

    def __init__(self) -> None:
        self.again: float | None = None
        self.next_envelope: Envelope | None = None  # what the re-send brought, when it is another object
        self.next_context: Any = None
        self.next_planned: float | None = None
        self.planned: float | None = None  # of a periodic: the time its schedule gave last
        self.context: Any = None  # contextvars of the sender
        self.futures: list[Any] | None = None
        self.is_pinned = False  # a plain send asked for it: it stays when its last future is cancelled
        self.cancelled = False  # cancelled while running: it will not go on
        self.backed_off = False  # the backoff limiter remembers it
        self.by_envelope = False  # noted while it waited: its place in the ready queue is held by the envelope


class Entry:
    """The queue's record of one accepted envelope. `attempt` is the number of its next or present run."""

    __slots__ = ("attempt", "due", "envelope", "notes", "phase", "seq")

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.attempt = 1
        self.phase = READY
        self.seq = 0
        self.due = 0.0
        self.notes: Notes | None = None

    def noted(self) -> Notes:
        """Its notes, made when there are none."""
        notes = self.notes
        if notes is None:
            notes = self.notes = Notes()
            notes.is_pinned = True  # nothing was noted so far: a plain send brought it
        return notes


Handle = Any  # an Envelope when nothing is noted, else its Entry
Record = Any  # what the table holds: None, RUNS or an Entry


def key_of(envelope: Envelope) -> Hashable:
    """What counts as the same work: the key, else the envelope itself."""
    key = envelope._key
    return envelope if key is None else key


def envelope_of(key: Hashable, record: Record) -> Envelope:
    """The envelope of a row of the table; where nothing is noted the key is the envelope."""
    return cast("Envelope", record.envelope if record.__class__ is Entry else key)


def is_running(record: Record) -> bool:
    """Whether a row of the table says that its envelope runs."""
    return record is RUNS or (record.__class__ is Entry and record.phase == RUNNING)


class Lanes:
    """A ready queue with priorities: one deque for each, the largest first. Made when a second priority appears."""

    __slots__ = ("_by_priority", "_order", "_size")

    def __init__(self, plain: deque[Handle]) -> None:
        self._by_priority: dict[int, deque[Handle]] = {0: plain}
        self._order = [0]  # negated priorities, ascending
        self._size = len(plain)

    def append(self, handle: Handle) -> None:
        """Put *handle* behind those of its priority."""
        envelope = handle.envelope if handle.__class__ is Entry else handle
        priority = envelope._policy.priority
        lane = self._by_priority.get(priority)
        if lane is None:
            lane = self._by_priority[priority] = deque()
            insort(self._order, -priority)
        lane.append(handle)
        self._size += 1

    def extend(self, handles: Iterable[Handle]) -> None:
        """Append each."""
        for handle in handles:
            self.append(handle)

    def _first(self) -> deque[Handle]:
        lane = self._by_priority[0]
        for negated in self._order:
            lane = self._by_priority[-negated]
            if lane:
                break
        return lane  # empty when all are: taking from it says so

    def popleft(self) -> Handle:
        """Take the first of the highest priority."""
        lane = self._first()
        self._size -= 1
        handle = lane.popleft()
        if not lane and lane is not self._by_priority[0]:
            self._forget_empty()
        return handle

    def filtered(self, is_kept: Callable[[Handle], bool]) -> Lanes:
        """Other lanes with what is to be kept, each in the lane in which it stood."""
        lanes = Lanes(deque(filter(is_kept, self._by_priority[0])))
        for negated in self._order:
            if negated:
                lanes._by_priority[-negated] = lane = deque(filter(is_kept, self._by_priority[-negated]))
                lanes._size += len(lane)
        lanes._order = list(self._order)
        lanes._forget_empty()
        return lanes

    def _forget_empty(self) -> None:
        """Drop empty lanes, so that priorities made of numbers without end do not pile up."""
        self._order = [negated for negated in self._order if negated == 0 or self._by_priority[-negated]]
        self._by_priority = {-negated: self._by_priority[-negated] for negated in self._order}

    def __getitem__(self, index: int) -> Handle:
        return self._first()[index]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Handle]:
        for negated in self._order:
            yield from self._by_priority[-negated]
