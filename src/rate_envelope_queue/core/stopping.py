"""The stop: one ticket from its beginning to its report.

Rules for changing it: times only shrink, modes only harden; a second stop joins the ticket. Nothing here waits:
`tick` does what is due at a time, and whoever waits for the ticket, or a watchdog, calls it. Long work (returning a
million entries) is cut into slices, so that the lock is never held for long.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from ..results import Outcome, QueueState, StopMode, StopReport
from . import eviction, waiting
from .effects import ABANDONED, CANCEL, JUNK, LOST, STOPPED, SWEEP
from .entries import BLOCKED, DELAYED, RUNS, Entry, Record, envelope_of, is_running
from .lifecycle import END, QUIET, STOP, TERMINATE

if TYPE_CHECKING:
    from ..envelope import Envelope
    from .machine import Machine

SLICE = 500  # entries returned in one section


class Ticket:
    """One stop. `drains` is what it does now, `mode` what was asked; `report` is set once, at its end."""

    __slots__ = (
        "abandon_at", "abandoned", "begun_at", "cancel_at", "drains", "dropped_before", "gave_up", "has_cancelled",
        "is_ending", "is_inside", "is_timed_out", "mode", "report", "returned", "succeeded_before",
        "sweeps", "waited", "waiters",
    )  # fmt: skip

    def __init__(self, machine: Machine, mode: StopMode, now: float, *, is_inside: bool, waited: bool) -> None:
        self.mode = mode
        self.drains = mode is StopMode.DRAIN
        self.is_ending = False
        self.begun_at = now
        self.cancel_at: float | None = None
        self.abandon_at: float | None = None
        self.has_cancelled = False
        self.gave_up = False
        self.is_timed_out = False
        self.sweeps = False
        self.is_inside = is_inside
        self.waited = waited
        self.abandoned: list[Envelope] = []
        self.returned: list[Envelope] = []
        self.succeeded_before = machine.count(Outcome.SUCCEEDED)
        self.dropped_before = machine.count(Outcome.DROPPED)
        self.waiters: list[waiting.Waiter] = []
        self.report: StopReport | None = None

    def tighten(self, now: float, mode: StopMode, timeout: float | None, grace: float, is_ending: bool) -> None:
        """Take over what a further stop asks for, where it is harder."""
        if mode is StopMode.STOP or is_ending:
            self.mode = StopMode.STOP
            self.drains = False
        if is_ending:
            self.is_ending = True
            self.cancel_at = _earlier(self.cancel_at, now)
        if timeout is not None:
            self.abandon_at = _earlier(self.abandon_at, now + timeout + grace)
            self.cancel_at = _earlier(self.cancel_at, now + timeout)

    def provisional(self, now: float, *, is_inside: bool, waited: bool) -> StopReport:
        """What can be said before the end."""
        return StopReport(
            mode=self.mode, state=QueueState.STOPPING, waited=waited, timed_out=self.is_timed_out,
            elapsed=now - self.begun_at, initiated_from_handler=is_inside,
        )  # fmt: skip


def _earlier(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)


def begin(
    machine: Machine,
    mode: StopMode,
    timeout: float | None,
    grace: float,
    *,
    is_ending: bool,
    is_inside: bool,
    waited: bool,
) -> Ticket | None:
    """Begin a stop, or join the one in progress. None when there is nothing to stop."""
    state = machine.state
    now = machine.clock()
    if state is QueueState.STOPPING:
        ticket = machine.ticket
        assert ticket is not None
        ticket.waited = ticket.waited or waited
    elif state is QueueState.RUNNING or (is_ending and state is not QueueState.TERMINATED):
        if machine.ticket is not None:
            let_go(machine, machine.ticket)
        ticket = machine.ticket = Ticket(machine, mode, now, is_inside=is_inside, waited=waited)
        machine.go(TERMINATE if is_ending else STOP)
    else:
        return None
    ticket.tighten(now, mode, timeout, grace, is_ending)
    machine.is_ending = ticket.is_ending
    machine.refresh()
    waiting.fail_seats(machine)
    machine.rest()  # before the tick: what is over at once has not timed out
    tick(machine, now)
    return ticket


def await_delivery(machine: Machine, waiter: waiting.Waiter, timeout: float | None, grace: float) -> bool:
    """The last stop is over: whether *waiter* is to wait until the effects of its end were carried out, too."""
    ticket = machine.ticket
    if ticket is None or ticket.report is None or not machine.delivering or ticket.gave_up:
        return False
    ticket.tighten(machine.clock(), ticket.mode, timeout, grace, False)
    waiter.answer = ticket.report
    ticket.waiters.append(waiter)
    return True


def let_go(machine: Machine, ticket: Ticket) -> None:
    """Its report is there, and what its end asked for was carried out or is not waited for: its callers may go."""
    for waiter in ticket.waiters:
        waiting.answer(machine, waiter, ticket.report)
    ticket.waiters.clear()


def next_at(ticket: Ticket | None) -> float | None:
    """When the ticket wants the next tick; 0.0 means at once, None never."""
    if ticket is None or ticket.report is not None:
        return None
    if ticket.sweeps:
        return 0.0
    if not ticket.has_cancelled and ticket.cancel_at is not None:
        return ticket.cancel_at
    return None if ticket.gave_up else ticket.abandon_at


def tick(machine: Machine, now: float) -> None:
    """Do what is due at *now*."""
    ticket = machine.ticket
    if ticket is None or ticket.report is not None:
        return
    if ticket.sweeps:
        _sweep(machine, ticket)
        return
    if not ticket.has_cancelled and ticket.cancel_at is not None and now >= ticket.cancel_at:
        ticket.has_cancelled = True
        ticket.is_timed_out = not ticket.is_ending
        ticket.drains = False
        machine.refresh()
        machine.outbox.append((CANCEL, machine.scope))
    if not ticket.gave_up and ticket.abandon_at is not None and now >= ticket.abandon_at:
        ticket.gave_up = True
        if machine.active:
            ticket.is_timed_out = True
            _abandon(machine, ticket)
    machine.rest()


def finish_if_quiet(machine: Machine, ticket: Ticket) -> None:
    """Nothing runs: end the stop unless ready work is still to be drained."""
    if ticket.sweeps or ticket.report is not None:
        return
    if ticket.drains and not machine.is_paused:
        machine.promote()
        if machine.live_ready():
            return
    if ticket.is_ending and machine.entries:
        ticket.sweeps = True
        machine.outbox.append((SWEEP,))
        return
    _complete(machine, ticket)


def _complete(machine: Machine, ticket: Ticket) -> None:
    machine.go(END if ticket.is_ending else QUIET)
    kept = () if ticket.is_ending else tuple(machine.envelopes())
    ticket.report = StopReport(
        mode=ticket.mode,
        state=machine.state,
        waited=ticket.waited,
        timed_out=ticket.is_timed_out,
        elapsed=machine.clock() - ticket.begun_at,
        kept=kept,
        returned=tuple(ticket.returned),
        abandoned=tuple(ticket.abandoned),
        succeeded=machine.count(Outcome.SUCCEEDED) - ticket.succeeded_before,
        dropped=machine.count(Outcome.DROPPED) - ticket.dropped_before,
        initiated_from_handler=ticket.is_inside,
    )
    machine.outbox.append((JUNK, machine.last_report))
    machine.last_report = ticket.report
    machine.refresh()
    machine.outbox.append((STOPPED, ticket))
    waiting.satisfy_joins(machine)
    waiting.fail_joins(machine)
    let_go(machine, ticket)


def _sweep(machine: Machine, ticket: Ticket) -> None:
    """Return a slice of what is left; the last slice ends the stop."""
    entries = machine.entries
    for _ in range(min(SLICE, len(entries))):
        key, entry = entries.popitem()  # from the end: taking from the front of a long dict again and again is slow
        if entry.__class__ is Entry and entry.phase == DELAYED:
            machine.delays.size -= 1
        ticket.returned.append(machine.out_of_book(key, entry, Outcome.RETURNED))
    if entries:
        return
    ticket.sweeps = False
    ticket.returned.reverse()
    machine.outbox.append((JUNK, machine.drop_queues()))
    _complete(machine, ticket)


def _abandon(machine: Machine, ticket: Ticket) -> None:
    """Give up on what still runs. Each run keeps its key reserved until it ends; a pending re-send stays behind it."""
    running = []
    for key, entry in machine.entries.items():  # the running ones are among the first accepted: rarely a long way
        if is_running(entry):
            running.append((key, entry))
            if len(running) == machine.active:
                break
    for key, entry in running:
        try:
            abandon(machine, ticket, key, entry)
        except Exception as error:  # a user's key: none is reserved then
            eviction.evict(machine, key if entry is RUNS else entry, error, Outcome.ABANDONED)


def abandon(machine: Machine, ticket: Ticket, key: Hashable, entry: Record) -> None:
    """Give up on one run."""
    if machine.times is not None:
        machine.times.over(key)
    envelope = envelope_of(key, entry)
    ticket.abandoned.append(envelope)
    machine.outbox.append((ABANDONED, envelope))
    machine.ghosts[key] = envelope
    machine.active -= 1
    machine.runs_abandoned += 1
    if entry is not RUNS and entry.notes is not None and entry.notes.again is not None and not ticket.is_ending:
        _succeed(machine, key, entry)
    else:
        if envelope._policy.timetable is not None:
            machine.outbox.append((LOST, envelope))
        del machine.entries[key]
        machine.out_of_book(key, entry, Outcome.ABANDONED)
    machine.refresh()


def _succeed(machine: Machine, key: Hashable, abandoned: Entry) -> None:
    """What was sent again during the abandoned run stays in the book, behind it. The run keeps its own Entry."""
    successor = Entry(abandoned.envelope)
    successor.notes, abandoned.notes = abandoned.notes, None
    due = machine.take_resend(successor)
    successor.phase = BLOCKED
    machine.entries[key] = successor
    if machine.times is not None:
        machine.times.goes_round(key)
    if due > machine.clock():
        machine.delays.push(successor, due)
    elif machine.times is not None:
        machine.times.readied(key, None)
