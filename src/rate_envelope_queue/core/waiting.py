"""Those who wait: callers of join, futures, the seats of send_wait. None is looked at while the book is calm.

A waiter is answered once, in the very section in which what it waits for comes true; the driver is told by SIGNAL.
The head seat never fits: whatever frees room or shortens the row seats at once.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from ..errors import QueueNotRunningError, QueueStateError, QueueTerminatedError
from ..results import QueueState
from .effects import SIGNAL
from .entries import RUNNING, Entry

if TYPE_CHECKING:
    from ..envelope import Envelope
    from .admission import Admission
    from .book import Book
    from .machine import Machine


class Waiter:
    """One caller that waits. `answer` or `error` is set when `is_done`; `bell` belongs to the driver.

    It `is_told` later, when what comes before its SIGNAL has been carried out: effects of what it waited for.
    """

    __slots__ = ("answer", "bell", "error", "is_done", "is_told")

    def __init__(self) -> None:
        self.is_done = self.is_told = False
        self.answer: Any = None
        self.error: Exception | None = None
        self.bell: Any = None


class Seat(Waiter):
    """A place in the row for room: what is to be sent, as `Machine.send` takes it."""

    __slots__ = ("context", "envelopes", "starts")

    def __init__(self, envelopes: tuple[Envelope, ...], starts: Any, context: Any) -> None:
        super().__init__()
        self.envelopes = envelopes
        self.starts = starts
        self.context = context


def answer(book: Book, waiter: Waiter, value: Any = True, error: Exception | None = None) -> None:
    """Tell *waiter* what came of it."""
    waiter.is_done = True
    waiter.answer = value
    waiter.error = error
    book.outbox.append((SIGNAL, waiter))


def fill_seats(book: Admission) -> None:
    """Seat those who fit now, in order; the first who does not fit keeps the others waiting."""
    seats = book.seats
    while seats:
        seat = seats[0]
        new, error = None, None
        try:
            if not book.fits(book.count_new(seat.envelopes)):
                break
            new = book.admit_all(seat.envelopes, None, seat.starts, None, seat.context)
        except Exception as raised:  # a key of the sender's: told to the sender, and to nobody else
            error = raised
        seats.popleft()
        answer(book, seat, new, error)
    if not seats:
        book.refresh()


def give_up(book: Admission, seat: Seat) -> bool:
    """Leave the row. False when the seat was taken already: then that counts."""
    if seat.is_done or seat not in book.seats:
        return False
    book.seats.remove(seat)
    fill_seats(book)
    return True


def fail_seats(book: Book) -> None:
    """The queue takes nothing in any more: everybody in the row is told."""
    while book.seats:
        error: QueueStateError = QueueNotRunningError("the queue was stopped while the caller waited for room")
        if book.is_ending:
            error = QueueTerminatedError("the queue was terminated while the caller waited for room")
        answer(book, book.seats.popleft(), None, error)


def join(machine: Machine, waiter: Waiter) -> bool:
    """True when there is nothing to wait for; else *waiter* is answered when there is not."""
    machine.joiners.append(waiter)
    machine.rest()
    left = machine.one_offs()
    waits = machine.active > 0 or left > 0  # else only for effects that are being delivered
    if not waiter.is_done and waits and machine.state not in (QueueState.RUNNING, QueueState.STOPPING):
        machine.joiners.remove(waiter)
        state = machine.state.value
        raise QueueStateError(f"the queue is {state} with {left} one-offs: start it, or join never returns")
    return waiter.is_done


def detach(machine: Machine, key: Hashable, future: Any) -> bool:
    """A future is cancelled: the entry loses it, and is withdrawn when nobody else asked for it.

    False while the entry runs, or when the future was resolved already.
    """
    entry = machine.entries.get(key)
    if not isinstance(entry, Entry) or entry.phase == RUNNING:
        return False
    notes = entry.notes
    if notes is None or notes.futures is None or future not in notes.futures:
        return False
    notes.futures.remove(future)
    if not notes.futures and not notes.is_pinned:
        machine.cancel(key)
    return True


def satisfy_joins(book: Book) -> None:
    """Nothing runs: callers of join may go when no one-off is left."""
    if book.one_offs() == 0:
        for waiter in book.joiners:
            answer(book, waiter)
        book.joiners.clear()


def fail_joins(book: Book) -> None:
    """The queue stopped with work kept: a join cannot come true before the next start."""
    kept = book.one_offs()
    for waiter in book.joiners:
        answer(
            book,
            waiter,
            None,
            QueueStateError(f"the queue stopped with {kept} one-offs kept; start it and join again"),
        )
    book.joiners.clear()
