"""A driver for the machine without threads: the test says who runs and what time it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

from rate_envelope_queue.core import effects
from rate_envelope_queue.core.entries import BLOCKED, DELAYED, READY, RUNNING, RUNS, Entry, key_of
from rate_envelope_queue.core.machine import Machine
from rate_envelope_queue.core.settle import RUN_FAILED, SUCCESS, Verdict
from rate_envelope_queue.core.stopping import Ticket
from rate_envelope_queue.envelope import Envelope
from rate_envelope_queue.results import QueueState, StopMode, StopReport


def handler(ctx: Any, envelope: Any) -> None:
    raise AssertionError("the machine calls no user code")


def retry(after: float = 0.0, *, backed_off: bool = False) -> Verdict:
    """A run failed and goes on after a while."""
    verdict = Verdict(RUN_FAILED, error=ValueError("again"))
    verdict.after = after
    verdict.backed_off = backed_off
    return verdict


def plain(name: Any = None) -> Envelope:
    """A plain envelope."""
    return Envelope(handler, id=name)


def many(count: int, **options: Any) -> list[Envelope]:
    return [Envelope(handler, id=number, **options) for number in range(count)]


class World:
    """A machine, its time, and the effects that it asked for; every step checks the invariants."""

    def __init__(self, *, workers: int = 1, started: bool = True, **options: Any) -> None:
        self.now = 0.0
        self.machine = Machine(lambda: self.now, workers=workers, **options)
        self.effects: list[effects.Effect] = []
        if started:
            self.start()

    def done(self, answer: Any = None) -> Any:
        """Leave the section as a driver does: deliver what is to be delivered, and check."""
        while self.machine.outbox:
            taken = self.machine.take_outbox()
            self.effects += taken
            if any(effect[0] == effects.SWEEP for effect in taken):
                self._sweep()
            self.machine.delivered()
        check(self.machine)
        return answer

    def _sweep(self) -> None:
        ticket = self.machine.ticket
        while ticket is not None and ticket.sweeps:
            self.machine.tick(self.now)
            if not ticket.sweeps:
                check(self.machine)

    def start(self) -> bool:
        return bool(self.done(self.machine.start()))

    def send(self, *envelopes: Envelope, delay: float | None = None, future: Any = None) -> int:
        if len(envelopes) == 1 and delay is None and future is None:
            answer = self.machine.send_one(envelopes[0])
            if answer is not None:
                return int(self.done(answer))
        due = None if delay is None else self.now + delay
        try:
            return int(self.machine.send(envelopes, due, None, future))
        finally:
            self.done()

    def take(self) -> Any:
        """A free worker asks for work."""
        return self.done(self.machine.turn(None, None, None))

    def take_all(self) -> list[Any]:
        """Take and end until there is nothing to take; the envelopes, in order."""
        found = []
        while (handle := self.take()) is not None:
            found.append(envelope_of(handle))
            self.end(handle)
        return found

    def end(self, handle: Any, verdict: Verdict = SUCCESS, value: Any = None) -> None:
        """A run ends, and its worker takes nothing."""
        self.done(self.machine.finish(handle, verdict, value))

    def turn(self, handle: Any, verdict: Verdict = SUCCESS, value: Any = None) -> Any:
        """A run ends, and its worker takes the next."""
        return self.done(self.machine.turn(handle, verdict, value))

    def cancel(self, key: Hashable) -> bool:
        return bool(self.done(self.machine.cancel(key)))

    def stop(
        self,
        mode: StopMode = StopMode.DRAIN,
        timeout: float | None = None,
        grace: float = 1.0,
        *,
        is_ending: bool = False,
    ) -> Ticket | None:
        ticket = self.machine.stop(mode, timeout, grace, is_ending=is_ending, is_inside=False, waited=True)
        return self.done(ticket)  # type: ignore[no-any-return]

    def terminate(self, timeout: float | None = None, grace: float = 1.0) -> Ticket | None:
        return self.stop(StopMode.STOP, timeout, grace, is_ending=True)

    def at(self, now: float) -> None:
        """It is *now*; the watchdog looks."""
        self.now = now
        stop_at = self.machine.stop_at()
        if stop_at is not None and stop_at <= now:
            self.machine.tick(now)
        self.done()

    def report(self) -> StopReport:
        """The report of the stop that has ended."""
        ticket = self.machine.ticket
        assert ticket is not None
        assert ticket.report is not None, "the stop has not ended"
        return ticket.report

    def found(self, name: str) -> list[effects.Effect]:
        """The effects of one kind so far."""
        return [effect for effect in self.effects if effect[0] == name]

    def ready(self) -> list[Envelope]:
        """What waits, in the order in which it would run."""
        return [envelope_of(handle) for handle in live(self.machine)]


def envelope_of(handle: Any) -> Envelope:
    envelope = handle.envelope if isinstance(handle, Entry) else handle
    assert isinstance(envelope, Envelope)
    return envelope


def live(machine: Machine) -> list[Any]:
    """The ready queue without its debris."""
    skip = Counter(machine.skip)
    found = []
    for handle in machine.ready:
        if isinstance(handle, Entry):
            if handle.phase == READY:
                found.append(handle)
        elif skip[handle]:
            skip[handle] -= 1
        else:
            found.append(handle)
    assert not +skip, "debris is counted that is not there"
    return found


def phases(machine: Machine) -> Counter[int]:
    """How many entries are in each phase."""
    return Counter(
        entry.phase if isinstance(entry, Entry) else RUNNING if entry is RUNS else READY
        for entry in machine.entries.values()
    )


def check(machine: Machine) -> None:
    """Raise AssertionError unless the machine's fields agree with each other and the ledger holds."""
    entries, counts, stats = machine.entries, phases(machine), machine.stats()
    ended = stats.succeeded + stats.stopped + stats.dropped + stats.returned + stats.abandoned
    ran = stats.runs_succeeded + stats.runs_failed + stats.runs_cancelled + stats.runs_stopped + stats.runs_abandoned
    assert stats.accepted == ended + stats.occupancy
    assert stats.runs_started == ran + stats.running
    assert stats.occupancy == len(entries) == stats.buffered + stats.ready + stats.delayed + stats.running
    assert len(entries) <= machine.room
    assert counts[RUNNING] == machine.active == stats.running
    assert counts[DELAYED] == machine.delays.size
    machine.delays.check()
    if machine.ticket is None or not machine.ticket.sweeps:
        waiting = [key_of(envelope_of(handle)) for handle in live(machine)]
        assert len(waiting) == len(set(waiting)) == counts[READY]
        assert sum(isinstance(handle, Entry) and handle.phase != READY for handle in machine.ready) == machine.stale
    for key, entry in entries.items():
        if isinstance(entry, Entry):
            assert key_of(entry.envelope) == key
            assert (entry.phase == BLOCKED) <= (key in machine.ghosts)
        if entry is RUNS or (isinstance(entry, Entry) and entry.phase == RUNNING):
            assert key not in machine.ghosts, "it runs while an abandoned run of it is going on"
    periodics = sum(isinstance(entry, Entry) and entry.envelope.is_periodic for entry in entries.values())
    assert periodics == machine.periodics
    assert not machine.seats or not machine.fits(machine.count_new(machine.seats[0].envelopes))
    if machine.calm:
        causes = (machine.ghosts, machine.seats, machine.skip, machine.rate)
        assert not any(causes)
    if stats.state in (QueueState.STOPPED, QueueState.TERMINATED):
        assert not machine.active
        assert machine.ticket is not None
        assert machine.ticket.report is not None
