"""The delay heap: what becomes due when.

Items are `(due, seq, entry)`. An item is live exactly when its entry is DELAYED and `entry.seq == seq`; everything
else is debris, left in place and rebuilt away when it outweighs the rest. `seq` grows by one for each push, so ties
in due time keep the order in which they were scheduled and entries are never compared.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

from .entries import DELAYED, Entry

SMALL = 64  # debris below this is never worth a rebuild


class Delays:
    """A heap of due times with lazy deletion. `size` counts the live items; `next_due` is the top's, or infinity."""

    __slots__ = ("_next_seq", "heap", "next_due", "size")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Entry]] = []
        self.size = 0
        self.next_due = inf
        self._next_seq = count(1).__next__

    def push(self, entry: Entry, due: float) -> None:
        """Delay *entry* until *due*. If it was delayed already, the old item becomes debris."""
        if entry.phase != DELAYED:
            entry.phase = DELAYED
            self.size += 1
        entry.due = due
        entry.seq = seq = self._next_seq()
        heap = self.heap
        heappush(heap, (due, seq, entry))
        self.next_due = heap[0][0]

    def drop(self, entry: Entry, phase: int) -> None:
        """Take *entry* out of the delays and into *phase*."""
        entry.phase = phase
        self.size -= 1
        self._trim()

    def pop_due(self, now: float, most: int) -> list[Entry]:
        """The entries due at *now*, in order, at most *most* of them; they are no longer counted here."""
        due: list[Entry] = []
        heap = self.heap
        while heap and heap[0][0] <= now and len(due) < most:
            _, seq, entry = heappop(heap)
            if entry.seq == seq and entry.phase == DELAYED:
                self.size -= 1
                entry.seq = 0  # were it pushed again before it leaves DELAYED, this item would still be over
                due.append(entry)
        self._trim()
        return due

    def count_due(self, now: float, most: int) -> int:
        """How many entries are due at *now*, counted up to *most*. Changes nothing."""
        heap, count, pending = self.heap, 0, [0]
        while pending and count < most:
            at = pending.pop()
            if at < len(heap) and heap[at][0] <= now:
                _, seq, entry = heap[at]
                count += entry.seq == seq and entry.phase == DELAYED
                pending += (2 * at + 1, 2 * at + 2)
        return count

    def _trim(self) -> None:
        heap = self.heap
        while heap and not (heap[0][2].seq == heap[0][1] and heap[0][2].phase == DELAYED):
            heappop(heap)
        if len(heap) > 2 * self.size + SMALL:
            heap[:] = [item for item in heap if item[2].seq == item[1] and item[2].phase == DELAYED]
            heapify(heap)
        self.next_due = heap[0][0] if heap else inf

    def check(self) -> None:
        """Raise AssertionError unless the fields agree."""
        live = [item for item in self.heap if item[2].seq == item[1] and item[2].phase == DELAYED]
        assert len(live) == self.size, (len(live), self.size)
        assert len(self.heap) <= 2 * self.size + SMALL
        assert self.next_due == (self.heap[0][0] if self.heap else inf)
        assert all(due == entry.due for due, _, entry in live)
