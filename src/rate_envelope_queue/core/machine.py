"""The machine: who runs next, what follows a run, and how the queue is controlled. No thread, no clock of its own.

Rules for changing it: the driver holds its lock for every call. Nothing here blocks, calls user code, or drops a last
reference to something of the user's; that is what `outbox` is for. The hot path is the first half of `turn`; whatever
a plain envelope does not need is behind `calm`.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import inf, nextafter
from typing import TYPE_CHECKING, Any

from ..errors import QueueStateError, QueueTerminatedError
from ..results import EntryView, Measured, Outcome, QueueState, QueueStats, StopMode
from . import eviction, reading, stopping, telling, waiting
from .admission import AT_ONCE, Admission
from .book import NO_ENVELOPE
from .effects import DEAD, FORGET, JUNK, TOLD, Effect
from .entries import ABSENT, BLOCKED, READY, RUNNING, RUNS, Entry, Handle, Record, envelope_of, is_running, key_of
from .lifecycle import START
from .settle import RUN_CANCELLED, RUN_FAILED, RUN_STOPPED, RUN_SUCCEEDED, SUCCESS, Verdict

if TYPE_CHECKING:
    from ..envelope import Envelope

BURST = 100  # due entries made ready in one section


class Machine(Admission):
    """One queue's book and rules. Every method is called with the driver's lock held."""

    __slots__ = ()

    def turn(self, done: Handle | None, verdict: Any, value: Any) -> Handle | None:
        """Settle the run of *done* by its Verdict, if any, and take the next to run, if any may."""
        if verdict is SUCCESS and self.calm:
            entries = self.entries
            if entries.get(done) is RUNS:
                del entries[done]
                self.plain_succeeded += 1
                takable = self.takable
                heap = self.heap
                if takable and (not heap or heap[0][0] > self.clock()):
                    handle = takable.popleft()
                    if handle.__class__ is not Entry and entries[handle] is None:
                        entries[handle] = RUNS
                        return handle
                    if self._start(handle):
                        return handle if handle.__class__ is Entry else entries[handle]
                self.active -= 1
            else:
                self._settle(done, verdict, value)
        elif self.times is not None:
            return self.times.turn(self, done, verdict, value)
        elif done is not None:
            self._settle(done, verdict, value)
        handle = self._take()
        if handle is None:
            self.rest()
        return handle

    def finish(self, done: Handle, verdict: Verdict, value: Any) -> None:
        """Settle the run of *done* and take nothing."""
        self._settle(done, verdict, value)
        self.rest()

    def _take(self) -> Handle | None:
        if self.heap:
            self.promote()
        takable = self.takable
        while takable and self.active < self.limit:
            if self.rate is not None and not self._may_start():
                return None
            now = 0.0 if self.reserved is None and self.times is None else self.clock()
            handle = takable.popleft()
            if self._start(handle):
                if self.reserved is not None and self.rate is not None:
                    self.rate.use(now)
                    self.reserved = None
                self.active += 1
                if handle.__class__ is not Entry and self.entries[handle] is not RUNS:
                    handle = self.entries[handle]
                if self.told or self.times is not None:
                    telling.began(self, handle, now)
                return handle
        return None

    def promote(self) -> None:
        """Make ready what is due, a slice at a time; nothing during a pause, when it could not run.

        A drain runs what was due before it began, whether or not a worker had looked.
        """
        if self.is_paused:
            return
        if self.state is QueueState.RUNNING:
            now = self.clock()
        elif self.state is QueueState.STOPPING and self.ticket is not None and self.ticket.drains:
            now = nextafter(self.ticket.begun_at, -inf)
        else:
            return
        if self.delays.next_due <= now:
            for entry in self.delays.pop_due(now, BURST):
                self._make_ready(entry, entry.due)

    def _may_start(self) -> bool:
        """Whether the start rate lets the head run; a token is reserved only for a live one."""
        ready = self.ready
        while ready and not self._is_live(ready[0]):
            self._start(ready.popleft())
        return bool(ready) and self._is_token_due()

    def _is_token_due(self) -> bool:
        assert self.rate is not None
        now = self.clock()
        if self.reserved is None:
            self.reserved = self.rate.reserve(now)
        return now >= self.reserved

    def _start(self, handle: Handle) -> bool:
        """Begin the run of what was popped. False: it was debris."""
        if handle.__class__ is Entry:
            if handle.phase != READY:
                self.stale -= 1
                return False
            handle.phase = RUNNING
            return True
        if self.skip and handle in self.skip:
            self._passed_over(handle)
            return False
        entry: Record = self.entries[handle]
        if entry is None:
            self.entries[handle] = RUNS
        else:
            entry.notes.by_envelope = False
            entry.phase = RUNNING
        return True

    # What follows a run

    def _settle(self, handle: Handle, verdict: Verdict, value: Any) -> None:
        """Write down how a run ended and decide what becomes of its entry."""
        envelope: Envelope = handle.envelope if handle.__class__ is Entry else handle
        key = key_of(envelope)
        if self.ghosts and key in self.ghosts:
            self._end_ghost(handle, key, verdict)
            return
        entry = self.entries[key]  # first: a user's key may raise, and nothing has changed yet
        self.active -= 1
        if self.active == self.limit:
            self.refresh()
        self._count_run(verdict)
        if self.told or self.times is not None:
            telling.over(self, key, entry, verdict)
        if entry is RUNS:
            if verdict.outcome is not None:
                self._end(key, entry, verdict, verdict.outcome, value)
                return
            entry = self._note(key, entry)
        assert isinstance(entry, Entry)
        if verdict.backed_off:
            entry.noted().backed_off = True
        notes = entry.notes
        outcome = verdict.outcome
        if notes is not None and outcome is not None:
            notes.backed_off = False  # the pipeline has told the limiter already
        if notes is not None and outcome is not Outcome.STOPPED:
            if notes.cancelled:
                outcome = outcome or Outcome.RETURNED
            elif notes.again is not None:
                self._go_round(entry, verdict)
                return
        if outcome is None:
            self._go_on(entry, verdict)
        else:
            self._end(key, entry, verdict, outcome, value)

    def evict(self, handle: Handle | None, error: BaseException) -> None:
        """A user's key or clock raised in the middle of a section: what had run is dropped, and the rest goes on."""
        eviction.evict(self, handle, error, Outcome.DROPPED)

    def _count_run(self, verdict: Verdict) -> None:
        run = verdict.run
        if run == RUN_SUCCEEDED:
            self.runs_succeeded += 1
        elif run == RUN_FAILED:
            self.runs_failed += 1
        elif run == RUN_STOPPED:
            self.runs_stopped += 1
        else:
            self.runs_cancelled += 1
        self.late += verdict.is_late

    def _end_ghost(self, handle: Handle, key: Hashable, verdict: Verdict) -> None:
        """An abandoned run has ended after all: its key is free, and what waited behind it may run."""
        self.outbox.append((JUNK, self.ghosts.pop(key)))
        if handle.__class__ is Entry:
            handle.envelope = NO_ENVELOPE  # a delay of it may still be among the debris
        if verdict.backed_off and key not in self.entries:
            self.outbox.append((FORGET, key))
        self.abandoned_ended += 1
        entry = self.entries.get(key)
        if isinstance(entry, Entry) and entry.phase == BLOCKED:
            self._make_ready(entry)
        self.refresh()

    def _go_round(self, entry: Entry, verdict: Verdict) -> None:
        """It was sent again while it ran: once more, with attempts from 1; no outcome is written down yet."""
        if verdict.outcome is Outcome.DROPPED:
            self._bury(entry.envelope, entry.attempt, verdict)
        goes_on = verdict.outcome is None
        same = entry.notes is not None and entry.notes.next_envelope in (None, entry.envelope)
        asked = self.take_resend(entry)
        if self.times is not None:
            self.times.goes_round(key_of(entry.envelope))
        entry.attempt = 1
        due = min(asked, self._due(verdict)) if goes_on else asked
        if same and verdict.planned is not None:  # a run that the stop cancelled leaves the grid as it was
            entry.noted().planned = verdict.planned
        self._schedule(entry, due)

    def _go_on(self, entry: Entry, verdict: Verdict) -> None:
        """The entry keeps its place in the book for another run."""
        if verdict.run == RUN_FAILED and verdict.planned is None:
            self.retried += 1
            if "retried" in self.told:
                self.outbox.append((TOLD, "retried", entry.envelope, entry.attempt, verdict.after))
        if verdict.resets:
            entry.attempt = 1
        elif verdict.run != RUN_CANCELLED:
            entry.attempt += 1
        if verdict.planned is not None:
            entry.noted().planned = verdict.planned
        due = self._due(verdict)
        if verdict.due is not None and self.times is not None:
            self.times.planned(key_of(entry.envelope), due)
        self._schedule(entry, due)

    def _due(self, verdict: Verdict) -> float:
        if verdict.due is not None:
            return max(verdict.due, self.clock())  # a user's schedule may answer any instant
        return self.clock() + verdict.after if verdict.after > 0 else AT_ONCE

    def _schedule(self, entry: Entry, due: float) -> None:
        """Ready now, or delayed until *due*. A due time that has come counts as now, but not during a drain."""
        if due <= AT_ONCE or (self.state is QueueState.RUNNING and due <= self.clock()):
            self._make_ready(entry)
        else:
            self.delays.push(entry, due)

    def _end(self, key: Hashable, entry: Any, verdict: Verdict, outcome: Outcome, value: Any) -> None:
        """A run was the entry's last."""
        if outcome is Outcome.DROPPED:
            if entry is RUNS:
                self._bury(envelope_of(key, entry), 1, verdict)
            else:
                self._bury(entry.envelope, entry.attempt, verdict)
        del self.entries[key]
        self.out_of_book(key, entry, outcome, verdict.error, value)

    def _bury(self, envelope: Envelope, attempts: int, verdict: Verdict) -> None:
        if not envelope._policy.is_quiet:
            self.outbox.append((DEAD, envelope, attempts, verdict.error, verdict.reason))

    # Control

    def may_start(self) -> bool:
        """Whether `start` would change anything; raises when it must not be called."""
        if self.is_ending or self.state is QueueState.TERMINATED:
            raise QueueTerminatedError("the queue was terminated: make a new one")
        if self.state is QueueState.RUNNING:
            return False
        if self.state is QueueState.STOPPING:
            raise QueueStateError("the queue is stopping: wait for stop() to return, then start it")
        return True

    def start(self) -> bool:
        """Begin to run. False when it runs already."""
        if not self.may_start():
            return False
        self.go(START)
        if self.ticket is not None:
            stopping.let_go(self, self.ticket)
            self.outbox.append((JUNK, self.ticket))
            self.ticket = None
        self.refresh()
        return True

    def stop(
        self, mode: StopMode, timeout: float | None, grace: float, *, is_ending: bool, is_inside: bool, waited: bool
    ) -> stopping.Ticket | None:
        """Begin a stop, join or harden the one in progress; None when there is nothing to stop."""
        return stopping.begin(self, mode, timeout, grace, is_ending=is_ending, is_inside=is_inside, waited=waited)

    def tick(self, now: float) -> None:
        """Do what the stop in progress wants done at *now*. Anyone may call it."""
        stopping.tick(self, now)

    def abandon(self, handle: Handle) -> None:
        """Give up on the run of *handle* alone, during a stop: whoever waited for it waits no longer."""
        key = key_of(handle.envelope if handle.__class__ is Entry else handle)
        if key not in self.ghosts and self.ticket is not None:
            stopping.abandon(self, self.ticket, key, self.entries[key])
        self.rest()

    def next_at(self) -> float | None:
        """When an idle worker should look again: the next due time or reserved start. None: only when woken."""
        at: float | None = None
        if self.heap and self.state is QueueState.RUNNING and not self.is_paused:
            at = self.delays.next_due
        if (
            self.reserved is not None
            and self.takable
            and self.active < self.limit
            and (at is None or self.reserved < at)
        ):
            at = self.reserved
        return at

    def stop_at(self) -> float | None:
        """When the stop in progress wants its next tick: 0.0 at once, None never."""
        return stopping.next_at(self.ticket)

    def rest(self) -> None:
        """Called when a run may have been the last: answers joins and ends a stop once nothing runs."""
        if self.active:
            return
        ticket = self.ticket
        if self.delivering and not (ticket is not None and ticket.gave_up):
            return
        if self.joiners:
            waiting.satisfy_joins(self)
        if ticket is not None:
            if self.state is QueueState.STOPPING:
                stopping.finish_if_quiet(self, ticket)
            elif ticket.waiters:
                stopping.let_go(self, ticket)

    def cancel(self, key: Hashable) -> bool:
        """Take the entry under *key* out, or let its present run be its last. False when there is none."""
        entry = self.entries.get(key, ABSENT)
        if entry is ABSENT:
            return False
        if is_running(entry):
            notes = self._note(key, entry).noted()
            notes.cancelled = True
            notes.again = None
            if self.times is not None:
                self.times.unsent(key)
            if notes.next_envelope is not None:
                self.outbox.append((JUNK, notes.next_envelope, notes.next_context))
                notes.next_envelope = notes.next_context = notes.next_planned = None
            return True
        self._withdraw(key, entry)
        self._trim()
        self.rest()
        return True

    def clear(self) -> list[Envelope]:
        """Return what does not run, in order of acceptance; what runs is cancelled as by `cancel`."""
        returned: list[Envelope] = []
        for key, entry in list(self.entries.items()):
            if is_running(entry):
                self.cancel(key)
            else:
                returned.append(self._withdraw(key, entry))
        self._trim()
        self.rest()
        return returned

    def detach(self, key: Hashable, future: Any) -> bool:
        """A future is cancelled: the entry loses it, and is withdrawn when nobody else asked for it.

        False while the entry runs, or when the future was resolved already.
        """
        return waiting.detach(self, key, future)

    def is_running(self, key: Hashable) -> bool:
        """Whether the entry under *key* runs now."""
        return is_running(self.entries.get(key))

    def pause(self) -> None:
        """Start nothing until `resume`."""
        self.is_paused = True
        self.refresh()
        self.rest()

    def resume(self) -> None:
        """Start again what may start."""
        self.is_paused = False
        self.refresh()
        self.rest()

    def resize(self, workers: int) -> None:
        """Let at most *workers* run; runs beyond that are not interrupted."""
        self.limit = workers
        self.refresh()

    # Waiting and delivery

    def give_up(self, seat: waiting.Seat) -> bool:
        """Leave the row; False when the seat was taken first."""
        return waiting.give_up(self, seat)

    def join(self, waiter: waiting.Waiter) -> bool:
        """True when there is nothing to wait for; else *waiter* is answered when there is not."""
        return waiting.join(self, waiter)

    def leave_join(self, waiter: waiting.Waiter) -> None:
        """The caller waits no longer."""
        if waiter in self.joiners:
            self.joiners.remove(waiter)

    def take_outbox(self, *, is_counted: bool = True) -> list[Effect]:
        """What is to be done outside; report with `delivered` when it was.

        Not counted by who delivers it before a run that it has just taken: whoever waits does so for that run, and
        once it is abandoned for nothing of the worker's.
        """
        outbox, self.outbox = self.outbox, []
        self.delivering += is_counted
        return outbox

    def delivered(self) -> None:
        """One outbox taken has been delivered."""
        self.delivering -= 1
        self.rest()

    # Watching and reading

    def watch(self, told: frozenset[str], *, is_measured: bool) -> None:
        """From now on tell of the events *told*, and measure times."""
        telling.watch(self, told, is_measured=is_measured)

    def measured(self) -> Measured | None:
        """What was measured up to now."""
        return telling.measured(self)

    def stats(self) -> QueueStats:
        """One consistent count."""
        return reading.stats(self)

    def snapshot(self, most: int) -> list[EntryView]:
        """The first *most* entries of the book."""
        return reading.snapshot(self, most)
