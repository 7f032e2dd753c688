"""Eviction: what becomes of an entry whose key can no longer be looked up, or in whose settlement the clock raised.

Keys and clocks are the user's, and may raise in the middle of a section. Rows are found by identity and the table is
made anew; whatever cannot be put into it any more goes the same way.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from ..results import Outcome
from . import telling
from .effects import DEAD
from .entries import DELAYED, READY, Entry, Handle, Record, envelope_of, is_running
from .entries import ENDED as OVER
from .settle import dropped

if TYPE_CHECKING:
    from .machine import Machine


def evict(machine: Machine, handle: Handle | None, error: BaseException, outcome: Outcome) -> None:
    """The run of *handle*, unless it was settled already, was its entry's last: it ends with *outcome*."""
    rows, machine.entries = machine.entries, {}
    lost: list[tuple[Hashable, Record]] = []
    for key, entry in rows.items():
        if is_running(entry) and (entry is handle or key is handle):
            lost.append((key, entry))
            continue
        try:
            machine.entries[key] = entry
        except Exception:  # another key that raises
            lost.append((key, entry))
    if machine.times is not None:
        machine.times.lose()
    _count_runs(machine, rows, [row for row in lost if is_running(row[1])], handle, error, outcome)
    for key, entry in lost:
        _take_out(machine, key, entry)
        if outcome is Outcome.DROPPED:
            attempt = entry.attempt if entry.__class__ is Entry else 1
            machine.outbox.append((DEAD, envelope_of(key, entry), attempt, error, "its key or the clock raised"))
        machine.out_of_book(key, entry, outcome, error)
    machine.active = sum(map(is_running, machine.entries.values()))
    machine.refresh()


def _count_runs(
    machine: Machine,
    rows: dict[Hashable, Record],
    lost: list[tuple[Hashable, Record]],
    handle: Handle | None,
    error: BaseException,
    outcome: Outcome,
) -> None:
    """The runs that are lost have failed or were abandoned. That of *handle* may have been counted already."""
    if machine.active < sum(map(is_running, rows.values())):
        lost = [(key, entry) for key, entry in lost if not (entry is handle or key is handle)]
    if outcome is Outcome.ABANDONED:
        machine.runs_abandoned += len(lost)
        return
    machine.runs_failed += len(lost)
    for key, entry in lost:
        telling.over(machine, key, entry, dropped(error))


def _take_out(machine: Machine, key: Hashable, entry: Record) -> None:
    """Off the row in which it waits, without a look at its key."""
    if entry is None or (entry.__class__ is Entry and entry.phase == READY):
        machine.rebuild_ready(lambda handle: handle is not entry and handle is not key)
    elif entry.__class__ is Entry and entry.phase == DELAYED:
        machine.delays.drop(entry, OVER)
