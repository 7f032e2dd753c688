"""The machine against a naive model: any sequence of public calls and run ends gives the same answers, the same order,
the same outcomes and the same counts, and every invariant holds after every step.

The model is plain lists and one dict, without shortcuts: no debris, no heap, no calm. The machine is driven as drivers
do it: effects are taken and reported as delivered after each call. `REQ_SOAK=1` asks for more.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from rate_envelope_queue.core import book, effects, reading
from rate_envelope_queue.core.entries import key_of
from rate_envelope_queue.core.settle import (
    RUN_FAILED,
    RUN_SUCCEEDED,
    SUCCESS,
    Verdict,
    cancelled,
    dropped,
    next_period,
    stopped,
)
from rate_envelope_queue.envelope import Envelope
from rate_envelope_queue.errors import (
    CapacityExceededError,
    InvalidEnvelopeError,
    QueueNotRunningError,
    QueueStateError,
    QueueTerminatedError,
)
from rate_envelope_queue.results import Outcome, QueueState, StopMode
from tests.unit.machine_world import World, check, envelope_of, handler, retry

INIT, RUNNING, STOPPING = QueueState.INIT, QueueState.RUNNING, QueueState.STOPPING
STOPPED, TERMINATED = QueueState.STOPPED, QueueState.TERMINATED
PERIOD = 3.0


class Row:
    """An entry, as the model sees it."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.phase = "ready"
        self.attempt = 1
        self.futures: list[int] = []
        self.is_pinned = False
        self.is_cancelled = False
        self.again: float | None = None
        self.following: Envelope | None = None


class Model:
    """The queue, said as simply as possible."""

    def __init__(self, capacity: float, limit: int, *, replaces: bool) -> None:
        self.capacity, self.limit, self.replaces = capacity, limit, replaces
        self.now, self.state, self.is_paused = 0.0, INIT, False
        self.book: dict[Hashable, Row] = {}
        self.ready: list[Hashable] = []
        self.delayed: list[tuple[float, int, Hashable]] = []
        self.pushes = 0
        self.ghosts: set[Hashable] = set()
        self.seats: list[Any] = []
        self.counts = dict.fromkeys([*Outcome, "coalesced", "refused", "dead", "ghosts ended"], 0)
        self.runs = dict.fromkeys(["succeeded", "failed", "cancelled", "stopped", "abandoned"], 0)
        self.resolved: dict[int, Outcome] = {}
        self.is_ending = self.drains = False
        self.begun_at = 0.0
        self.cancel_at = self.abandon_at = float("inf")
        self.abandoned: list[Envelope] = []
        self.returned: list[Envelope] = []

    # Sending

    def accept(self, count: int) -> None:
        if self.is_ending or self.state not in (INIT, RUNNING):
            self.counts["refused"] += count
            raise QueueTerminatedError if self.is_ending else QueueNotRunningError

    def new(self, envelopes: Sequence[Envelope]) -> int:
        return len({key_of(envelope) for envelope in envelopes} - self.book.keys())

    def fits(self, envelopes: Sequence[Envelope]) -> bool:
        return not self.new(envelopes) or len(self.book) + self.new(envelopes) <= self.capacity

    def send(self, envelopes: Sequence[Envelope], delay: float = 0.0, future: int | None = None) -> int:
        self.accept(len(envelopes))
        held = self.book.get(key_of(envelopes[0]))
        if future is not None and held and (held.envelope.is_periodic or (held.following or held.envelope).is_periodic):
            raise InvalidEnvelopeError
        if not self.fits(envelopes):
            self.counts["refused"] += len(envelopes)
            raise CapacityExceededError(0, 0, 0)
        return self.admit(envelopes, self.now + delay if delay else 0.0, future)

    def admit(self, envelopes: Sequence[Envelope], asked: float, future: int | None = None) -> int:
        before = len(self.book)
        for envelope in envelopes:
            key, due = key_of(envelope), 0.0 if envelope.is_periodic else asked
            row = self.book.get(key)
            is_new = row is None
            if row is None:
                row = self.book[key] = Row(envelope)
                self.place(key, due)
            else:
                self.counts["coalesced"] += 1
            row.futures += [] if future is None else [future]
            row.is_pinned = row.is_pinned or future is None
            if is_new:
                continue
            if row.phase == "running":
                if row.again is None or self.replaces:
                    row.following = envelope
                row.again = due if row.again is None else min(due, row.again)
                row.is_cancelled = False
                continue
            if self.replaces:
                row.envelope = envelope
            if row.phase == "delayed" and due < next(at for at, _, other in self.delayed if other == key):
                self.unplace(key)
                self.place(key, due)
        return len(self.book) - before

    def place(self, key: Hashable, due: float) -> None:
        row = self.book[key]
        if due > self.now or (due and self.state is STOPPING):
            row.phase = "delayed"
            self.pushes += 1
            self.delayed.append((due, self.pushes, key))
        elif key in self.ghosts:
            row.phase = "blocked"
        else:
            row.phase = "ready"
            self.ready.append(key)

    def unplace(self, key: Hashable) -> None:
        self.ready = [other for other in self.ready if other != key]
        self.delayed = [item for item in self.delayed if item[2] != key]

    def fill_seats(self) -> None:
        while self.seats and self.fits(self.seats[0].envelopes):
            self.admit(self.seats.pop(0).envelopes, 0.0)

    # Running

    def active(self) -> list[Hashable]:
        return [key for key, row in self.book.items() if row.phase == "running"]

    def may_run(self) -> bool:
        return not self.is_paused and (self.state is RUNNING or (self.state is STOPPING and self.drains))

    def take(self) -> Hashable:
        self.promote()
        if not (self.may_run() and self.ready and len(self.active()) < self.limit):
            return None
        key = self.ready.pop(0)
        self.book[key].phase = "running"
        return key

    def promote(self) -> None:
        """What is due becomes ready; in a drain, what was due when it began."""
        for item in sorted(self.delayed):
            if self.may_run() and (item[0] <= self.now if self.state is RUNNING else item[0] < self.begun_at):
                self.unplace(item[2])
                self.place(item[2], 0.0)

    def finish(self, key: Hashable, kind: str, verdict: Verdict) -> None:
        if key in self.ghosts:
            self.ghosts.remove(key)
            self.counts["ghosts ended"] += 1
            if key in self.book and self.book[key].phase == "blocked":
                self.place(key, 0.0)
            return
        row, outcome = self.book[key], verdict.outcome
        self.runs[kind] += 1
        due = self.now + verdict.after if verdict.after else verdict.due or 0.0
        if row.is_cancelled and outcome is None:
            outcome = Outcome.RETURNED
        elif row.again is not None and outcome is not Outcome.STOPPED:
            self.counts["dead"] += outcome is Outcome.DROPPED
            again = row.again
            self.resend(row)
            self.place(key, min(again, due) if outcome is None else again)
            return
        if outcome is None:
            row.attempt = 1 if verdict.resets else row.attempt + (kind != "cancelled")
            self.place(key, due)
            return
        self.counts["dead"] += outcome is Outcome.DROPPED
        self.end(key, outcome)

    def resend(self, row: Row) -> None:
        row.envelope, row.following, row.again, row.attempt = row.following or row.envelope, None, None, 1

    def end(self, key: Hashable, outcome: Outcome) -> Envelope:
        self.unplace(key)
        row = self.book.pop(key)
        self.counts[outcome] += 1
        self.resolved.update(dict.fromkeys(row.futures, outcome))
        self.fill_seats()
        return row.envelope

    # Control

    def cancel(self, key: Hashable) -> bool:
        row = self.book.get(key)
        if row is not None and row.phase == "running":
            row.is_cancelled, row.again, row.following = True, None, None
        elif row is not None:
            self.end(key, Outcome.RETURNED)
        return row is not None

    def clear(self) -> list[Envelope]:
        waiting = [row.envelope for row in self.book.values() if row.phase != "running"]
        for key in list(self.book):
            self.cancel(key)
        return waiting

    def detach(self, key: Hashable, future: int) -> bool:
        row = self.book.get(key)
        if row is None or row.phase == "running" or future not in row.futures:
            return False
        row.futures.remove(future)
        if not row.futures and not row.is_pinned:
            self.end(key, Outcome.RETURNED)
        return True

    def start(self) -> bool:
        if self.is_ending:
            raise QueueTerminatedError
        if self.state is STOPPING:
            raise QueueStateError
        was, self.state = self.state, RUNNING
        return was is not RUNNING

    def stop(self, mode: StopMode, timeout: float | None, grace: float, *, is_ending: bool) -> None:
        if self.state is RUNNING or (is_ending and self.state in (INIT, STOPPED)):
            self.state, self.drains, self.begun_at = STOPPING, True, self.now
            self.cancel_at = self.abandon_at = float("inf")
            self.abandoned, self.returned = [], []
        if self.state is not STOPPING:
            return
        self.drains = self.drains and mode is StopMode.DRAIN
        self.is_ending = self.is_ending or is_ending
        if timeout is not None:
            self.cancel_at = min(self.cancel_at, self.now + timeout)
            self.abandon_at = min(self.abandon_at, self.now + timeout + grace)
        self.seats.clear()
        self.rest()
        self.tick()

    def tick(self) -> None:
        if self.state is STOPPING and self.now >= self.cancel_at:
            self.drains = False
        if self.state is STOPPING and self.now >= self.abandon_at:
            self.abandon_at = float("inf")
            for key in self.active():
                self.abandon(key, self.book[key])
        self.rest()

    def abandon(self, key: Hashable, row: Row) -> None:
        self.ghosts.add(key)
        self.runs["abandoned"] += 1
        self.abandoned.append(row.envelope)
        if row.again is None or self.is_ending:
            self.end(key, Outcome.ABANDONED)
        else:
            due = row.again if row.again > self.now else 0.0
            self.resend(row)
            self.place(key, due)

    def rest(self) -> None:
        if self.state is not STOPPING or self.active():
            return
        self.promote()
        if self.may_run() and self.ready:
            return
        if self.is_ending:
            self.returned = [self.end(key, Outcome.RETURNED) for key in list(self.book)]
        self.state = TERMINATED if self.is_ending else STOPPED


PLAIN = [Envelope(handler, id=number) for number in range(4)]
KEYED = [Envelope(handler, id=name, key=name[0]) for name in ("k1", "k2", "p1")]
PERIODIC = [Envelope(handler, id="p2", key="p", interval=PERIOD), Envelope(handler, id="q", interval=PERIOD)]
ALL = PLAIN + KEYED + PERIODIC
BATCHES = [[envelope] for envelope in ALL * 2]
BATCHES += [[one, other] for one in ALL for other in ALL]
BATCHES += [[one, *PLAIN[:2], other] for one in KEYED + PERIODIC for other in ALL]
DELAYS = (0.0, 0.0, 0.0, 1.0, 2.0, 5.0)


class Comparison(RuleBasedStateMachine):
    """Does the same to both, and compares."""

    @initialize(
        capacity=st.sampled_from([1, 2, 3, 5, None]),
        limit=st.integers(1, 3),
        replaces=st.booleans(),
        starts=st.sampled_from([True, True, True, False]),
        eager=st.booleans(),
    )
    def begin(self, capacity: int | None, limit: int, replaces: bool, starts: bool, eager: bool) -> None:
        self.steps = 0
        self.log: list[Any] = []  # what was done, for who reads a failure
        self.is_eager = eager  # workers take what they are given, mostly
        self.world = World(workers=limit, started=False, capacity=capacity, is_replacing=replaces)
        self.model = Model(float("inf") if capacity is None else capacity, limit, replaces=replaces)
        self.handles: list[Any] = []
        self.futures: list[tuple[Hashable, int]] = []
        self.seats: list[tuple[Any, Any]] = []
        if starts:
            self.both(self.world.machine.start, self.model.start)
        self.begun = {"capacity": capacity, "limit": limit, "replaces": replaces, "starts": starts, "eager": eager}

    def both(self, real: Callable[[], Any], naive: Callable[[], Any]) -> Any:
        """The answer of both, which must be the same; or the error, of the same class, which changed nothing."""
        answers: list[Any] = []
        for call in (real, naive):
            try:
                answers.append(call())
            except (CapacityExceededError, QueueStateError, InvalidEnvelopeError) as error:
                answers.append(type(error))
        self.settle()
        assert answers[0] == answers[1], answers
        return answers[1]

    def settle(self) -> None:
        """The call is over: effects are delivered, and a stop that has come to rest ends."""
        self.steps += 1
        self.world.done()
        self.model.rest()

    # What drivers do

    def _send(self, batch: Sequence[Envelope], delay: float = 0.0, future: int | None = None) -> Any:
        machine, now = self.world.machine, self.world.now

        def send() -> int:
            if not delay and future is None:
                new = machine.send_one(batch[0]) if len(batch) == 1 else machine.send_many(tuple(batch))
                if new is not None:
                    return new
            starts = {envelope: (now, None) for envelope in batch if envelope.is_periodic}
            return machine.send(batch, now + delay if delay else None, starts or None, future)

        return self.both(send, lambda: self.model.send(batch, delay, future))

    def _took(self, handle: Any, key: Hashable) -> None:
        assert (None if handle is None else key_of(envelope_of(handle))) == key
        if handle is None:
            return
        row = self.model.book[key]
        assert envelope_of(handle) is row.envelope
        assert getattr(handle, "attempt", 1) == row.attempt
        assert key not in [other for _, other in self.handles], "the same key runs twice"
        self.handles.append((handle, key))

    def _running(self, index: int) -> Hashable:
        keys = self.model.active()
        return keys[index % len(keys)]

    def _waits(self) -> list[Hashable]:
        return [key for key, row in self.model.book.items() if row.phase != "running"]

    # Steps. One rule chooses among those that are possible now, so that the rare situations are reached.

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self.choose(lambda choices: data.draw(st.sampled_from(choices)))

    def choose(self, choice: Callable[[Sequence[Any]], Any]) -> None:
        possible = [action for action in ACTIONS if action.is_possible(self)]
        action = choice([action for action in possible for _ in range(action.weight)])
        arguments = {name: choice(choices) for name, choices in action.arguments.items()}
        self.log.append((action, arguments))
        action.do(self, **arguments)

    def send(self, batch: list[Envelope], delay: float) -> None:
        if self._send(batch, delay) is CapacityExceededError:
            event("refused for capacity")
        if self.is_eager:
            self._take_all()

    def send_again(self, index: int, delay: float) -> None:
        """What runs, or else what is delayed; with a key, maybe another envelope."""
        if self.model.active():
            self._resend_running(index, delay)
        else:
            event("sent again while delayed")
            key = self.model.delayed[index % len(self.model.delayed)][2]
            self._send([self.model.book[key].envelope], delay)

    def _resend_running(self, index: int, delay: float) -> None:
        key = self._running(index)
        same = [envelope for envelope in ALL if key_of(envelope) == key]
        event("sent again while running")
        self._send([same[index % len(same)]], delay)

    def submit(self, envelope: Envelope, sends: bool, cancels: bool) -> None:
        """Submit, maybe send as well, maybe cancel the future: a plain send keeps the entry in."""
        if sends:
            self._send([envelope])
        future = len(self.futures)
        if not isinstance(self._send([envelope], 0.0, future), type):
            self.futures.append((key_of(envelope), future))
            if cancels:
                self.detach(0)

    def detach(self, index: int) -> None:
        key, future = self.futures[-1 - index % len(self.futures)]
        if self.both(lambda: self.world.machine.detach(key, future), lambda: self.model.detach(key, future)):
            event("a future was cancelled")

    def take(self, many: bool) -> None:
        self._take()
        if many:
            self._take_all()

    def _take(self) -> None:
        self._took(self.world.machine.turn(None, None, None), self.model.take())
        self.settle()

    def _take_all(self) -> None:
        model = self.model
        while model.may_run() and model.ready and len(model.active()) < model.limit:
            self._take()

    def finish(self, index: int, how: int, after: float, takes: bool) -> None:
        handle, key = self.handles.pop(index % len(self.handles))
        kind, verdict = self._verdict(envelope_of(handle), how, after)
        if key in self.model.ghosts:
            event("an abandoned run ended")
        machine = self.world.machine
        if takes:
            next_handle = machine.turn(handle, verdict, "value")
            self.model.finish(key, kind, verdict)
            self._took(next_handle, self.model.take())
        else:
            machine.finish(handle, verdict, "value")
            self.model.finish(key, kind, verdict)
        self.settle()

    def _verdict(self, envelope: Envelope, how: int, after: float) -> tuple[str, Verdict]:
        if envelope.is_periodic:
            due = self.world.now + PERIOD
            ways: list[tuple[str, Verdict]] = [
                ("succeeded", next_period(RUN_SUCCEEDED, due, due, error=None, is_late=False)),
                ("failed", next_period(RUN_FAILED, due, due, error=ValueError(), is_late=False)),
            ]
        else:
            ways = [("succeeded", SUCCESS), ("failed", retry(after)), ("failed", dropped(ValueError()))]
        ways += [("stopped", stopped(ValueError())), ("cancelled", cancelled())]
        return ways[how % len(ways)]

    def advance(self, seconds: float | None) -> None:
        """Time goes on, by *seconds* or to the first due time; whoever is free may take what is due."""
        if seconds is None:
            seconds = max(0.0, min(self.model.delayed)[0] - self.model.now) if self.model.delayed else 0.0
        self._advance(seconds)
        self._take()

    def _advance(self, seconds: float) -> None:
        self.model.now += seconds
        self.model.tick()
        self.world.at(self.model.now)

    def cancel(self, index: int, times: int) -> None:
        """What is in the queue; what waited maybe sent and cancelled again: its old places must stay void."""
        key = list(self.model.book)[index % len(self.model.book)]
        row = self.model.book[key]
        event(f"cancelled while {row.phase}")
        assert self._cancel(key) is True
        for _ in range(times):
            self._send([row.envelope])
            if times == 2:
                self._cancel(key)

    def _cancel(self, key: Hashable) -> Any:
        return self.both(lambda: self.world.machine.cancel(key), lambda: self.model.cancel(key))

    def control(self, what: str, index: int) -> None:
        if what == "pause":
            self.model.is_paused = True
            self.both(self.world.machine.pause, lambda: None)
        elif what == "resize":
            self.model.limit = 1 + index % 4
            self.both(lambda: self.world.machine.resize(1 + index % 4), lambda: None)
        elif what == "cancel":
            self._cancel(key_of(ALL[index % len(ALL)]))
        else:
            self.both(self.world.machine.clear, self.model.clear)

    def go_on(self, resumes: bool, starts: bool) -> None:
        if resumes:
            self.model.is_paused = False
            self.both(self.world.machine.resume, lambda: None)
        if starts:
            self._start()

    def _start(self) -> None:
        self.both(self.world.machine.start, self.model.start)
        if self.is_eager:
            self._take_all()

    def stop(self, mode: StopMode, timeout: float | None, grace: float, resent: bool, delay: float, index: int) -> None:
        """A stop; maybe what runs was sent again just before, and is due meanwhile."""
        if resent and self.model.active() and self.model.state is RUNNING:
            self._resend_running(index, delay)
            self._advance(delay)
            event("stopped with a re-send pending")
        self._stop(mode, timeout, grace, is_ending=False)

    def abandon(self, resent: bool, delay: float, index: int) -> None:
        """A stop that gives up at once, and a start; maybe what runs was sent again just before, or just after."""
        key = self._running(index)
        envelope = self.model.book[key].envelope
        if resent:
            self._resend_running(index, delay)
            event("abandoned with a re-send pending")
        self._stop(StopMode.STOP, 0.0, 0.0, is_ending=False)
        self._start()
        if not resent:
            self._send([envelope], delay)

    def terminate(self, timeout: float | None, resent: bool, index: int) -> None:
        if resent and self.model.active() and self.model.state is RUNNING:
            self._resend_running(index, 0.0)
        self._stop(StopMode.STOP, timeout, 0.0, is_ending=True)

    def _stop(self, mode: StopMode, timeout: float | None, grace: float, *, is_ending: bool) -> None:
        self.both(
            lambda: self.world.stop(mode, timeout, grace, is_ending=is_ending) and None,
            lambda: self.model.stop(mode, timeout, grace, is_ending=is_ending),
        )

    def wait_for_room(self, batch: list[Envelope], crowds: bool, many: int) -> None:
        """A seat; or the queue is nearly filled first, a batch waits, and behind it one that might fit."""
        if not crowds:
            self._sit(batch)
            return
        absent = [envelope for envelope in PLAIN + KEYED[:1] if key_of(envelope) not in self.model.book]
        while absent and len(self.model.book) < self.model.capacity - (many > 1):
            if isinstance(self._send([absent.pop()]), type):
                return
        if len(absent) > 1:
            self._sit(absent[:many])
            self._sit(absent[-1:])

    def _sit(self, batch: list[Envelope]) -> None:
        starts = {envelope: (self.world.now, None) for envelope in batch if envelope.is_periodic}
        machine, model = self.world.machine, self.model
        found: list[Any] = []

        def sit() -> bool:
            found.append(machine.wait_for_room(tuple(batch), starts or None, None, may_wait=True))
            return bool(found[0].is_done)

        def naive() -> bool:
            model.accept(len(batch))
            if not model.new(batch) or (not model.seats and model.fits(batch)):
                model.admit(batch, 0.0)
                return True
            if len({key_of(envelope) for envelope in batch}) > model.capacity:
                model.counts["refused"] += len(batch)
                raise CapacityExceededError(0, 0, 0)
            model.seats.append(type("Place", (), {"envelopes": batch})())
            return False

        if self.both(sit, naive) is False:
            event("waits for room")
            self.seats.append((found[0], model.seats[-1]))

    def give_up(self, index: int) -> None:
        place = self.model.seats[index % len(self.model.seats)]
        (seat,) = [real for real, other in self.seats if other is place]
        self.model.seats.remove(place)
        self.both(lambda: self.world.machine.give_up(seat), lambda: self.model.fill_seats() or True)
        self.seats = [(real, other) for real, other in self.seats if real is not seat]

    # After every step

    @invariant()
    def all_is_the_same(self) -> None:
        if hasattr(self, "world"):
            self.the_book_is_sound()
            self.the_counts_are_the_same()
            self.the_entries_are_the_same()
            self.the_order_is_the_same()
            self.the_answers_are_the_same()
            self.the_report_is_the_same()

    def the_book_is_sound(self) -> None:
        """The machine's own invariants: unique keys, indexes that agree, the ledger, occupancy within capacity."""
        reading.check(self.world.machine)
        check(self.world.machine)

    def the_counts_are_the_same(self) -> None:
        """stats() of the machine, field by field."""
        model, stats, counts, runs = self.model, self.world.machine.stats(), self.model.counts, self.model.runs
        waits = len(self._waits()) - len(model.delayed)
        assert {outcome: getattr(stats, outcome.value) for outcome in Outcome} == {key: counts[key] for key in Outcome}
        assert stats.accepted == sum(counts[outcome] for outcome in Outcome) + len(model.book)
        assert (stats.state, stats.occupancy, stats.workers) == (model.state, len(model.book), model.limit)
        assert (stats.buffered, stats.ready) == ((waits, 0) if model.state is INIT else (0, waits))
        assert (stats.delayed, stats.running) == (len(model.delayed), len(model.active()))
        assert {kind: getattr(stats, f"runs_{kind}") for kind in runs} == runs
        assert (stats.coalesced, stats.refused) == (counts["coalesced"], counts["refused"])
        assert stats.abandoned_ended == counts["ghosts ended"]
        assert stats.occupancy <= model.capacity

    def the_entries_are_the_same(self) -> None:
        """snapshot(): the same entries in order of acceptance, each in its phase, attempt and due time."""
        due = {key: at for at, _, key in self.model.delayed}
        expected = [
            (key, row.envelope, row.phase, row.attempt, due[key] - self.model.now if key in due else None)
            for key, row in self.model.book.items()
        ]
        views = self.world.machine.snapshot(100)
        assert [(view.key, view.envelope, view.phase, view.attempt, view.due_in) for view in views] == expected

    def the_order_is_the_same(self) -> None:
        """FIFO: what waits would run in the model's order."""
        assert [key_of(envelope) for envelope in self.world.ready()] == self.model.ready

    def the_answers_are_the_same(self) -> None:
        """Futures are answered once, with the same outcome; seats are taken together; dead letters are as many."""
        answered = [(future, effect[2]) for effect in self.world.found(effects.ENDED) for future in effect[1]]
        assert len(answered) == len(self.model.resolved)
        assert dict(answered) == self.model.resolved
        assert len(self.world.found(effects.DEAD)) == self.model.counts["dead"]
        assert all(seat.is_done == (place not in self.model.seats) for seat, place in self.seats)

    def the_report_is_the_same(self) -> None:
        """A stop that has ended says what was kept, returned and abandoned."""
        if self.model.state not in (STOPPED, TERMINATED):
            return
        report = self.world.report()
        assert report.returned == tuple(self.model.returned)
        assert report.abandoned == tuple(self.model.abandoned)
        assert report.state is self.model.state

    def teardown(self) -> None:
        """Every run ends, and the queue is terminated: then every entry has ended with one outcome."""
        if not hasattr(self, "world"):
            return
        self._stop(StopMode.STOP, None, 0.0, is_ending=True)
        while self.handles:
            self.finish(0, 0, 0.0, False)
        stats = self.world.machine.stats()
        assert (stats.state, stats.occupancy, self.world.machine.ghosts) == (TERMINATED, 0, {})
        assert stats.accepted == sum(getattr(stats, outcome.value) for outcome in Outcome)
        self.the_counts_are_the_same()
        self.the_answers_are_the_same()


class Action:
    """One kind of step: what it does, how often it is chosen, when it is possible, and what its arguments may be."""

    def __init__(self, do: Any, weight: int, when: Any = lambda test: True, **arguments: Sequence[Any]) -> None:
        self.do = do
        self.weight = weight
        self.is_possible = when
        self.arguments = arguments

    def __repr__(self) -> str:
        return str(self.do.__name__)


PICK = range(12)
YES_NO = (False, True)
ACTIONS = [
    Action(Comparison.send, 5, batch=BATCHES, delay=DELAYS),
    Action(
        Comparison.send_again,
        4,
        lambda test: test.model.state is RUNNING and (test.model.active() or test.model.delayed),
        index=PICK,
        delay=DELAYS,
    ),
    Action(Comparison.submit, 3, envelope=PLAIN + KEYED, sends=YES_NO, cancels=YES_NO),
    Action(Comparison.detach, 2, lambda test: test.futures, index=PICK),
    Action(Comparison.take, 5, many=YES_NO),
    Action(Comparison.finish, 8, lambda test: test.handles, index=PICK, how=PICK, after=(0.0, 1.0, 4.0), takes=YES_NO),
    Action(Comparison.advance, 4, seconds=(None, None, 1.0, 2.0, 7.0)),
    Action(Comparison.cancel, 3, lambda test: test.model.book, index=PICK, times=(0, 1, 2)),
    Action(Comparison.control, 1, what=("pause", "pause", "resize", "resize", "cancel", "clear"), index=PICK),
    Action(
        Comparison.go_on,
        6,
        lambda test: test.model.is_paused or test.model.state is not RUNNING,
        resumes=YES_NO,
        starts=YES_NO,
    ),
    Action(
        Comparison.stop,
        1,
        mode=tuple(StopMode),
        timeout=(None, None, 0.0, 1.0, 3.0),
        grace=(0.0, 2.0),
        resent=YES_NO,
        delay=DELAYS,
        index=PICK,
    ),
    Action(
        Comparison.abandon,
        1,
        lambda test: test.model.active() and test.model.state is RUNNING,
        resent=YES_NO,
        delay=DELAYS,
        index=PICK,
    ),
    Action(Comparison.terminate, 1, lambda test: test.steps > 25, timeout=(None, 0.0, 1.0), resent=YES_NO, index=PICK),
    Action(
        Comparison.wait_for_room, 3, lambda test: test.model.capacity <= 3, batch=BATCHES, crowds=YES_NO, many=(1, 2, 3)
    ),
    Action(Comparison.give_up, 2, lambda test: test.model.seats, index=(0, 0, 1, 2)),
]

PAIRS = (
    "refused for capacity", "sent again while running", "sent again while delayed", "a future was cancelled",
    "an abandoned run ended", "cancelled while ready", "cancelled while delayed", "cancelled while running",
    "cancelled while blocked", "stopped with a re-send pending", "abandoned with a re-send pending", "waits for room",
)  # fmt: skip
IS_LONG = os.environ.get("REQ_SOAK") == "1"


@pytest.fixture(params=[None, 0], ids=["as it is", "debris stays"])
def debris(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once more with debris left in short queues too, as it is in long ones."""
    if request.param is not None:
        monkeypatch.setattr(book, "SMALL", request.param)


@pytest.mark.usefixtures("debris")
def test_the_machine_does_what_the_model_does() -> None:
    """I-1 to I-10, I-15 and CONTRACT 3 to 8: programs of every public call, on the machine and on the model; a failing
    one is made as short as it can be."""
    run_state_machine_as_test(
        Comparison,
        settings=settings(
            max_examples=10_000 if IS_LONG else 100,
            stateful_step_count=100 if IS_LONG else 40,
            derandomize=not IS_LONG,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.usefixtures("debris")
def test_random_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, by a fair dice, which reaches the rare pairs of calls that hypothesis does not: with a fixed seed each
    program, so that a failure can be run again; every pair listed here was reached."""
    reached: Counter[str] = Counter()
    monkeypatch.setattr(sys.modules[__name__], "event", lambda pair: reached.update([pair]))
    for seed in range(20_000 if IS_LONG else 250):
        dice, test = random.Random(seed), Comparison()
        test.begin(dice.choice([1, 2, 3, 5, None]), dice.randint(1, 3), *(dice.random() < 0.5 for _ in range(3)))
        try:
            for _ in range(60):
                test.choose(dice.choice)
                test.all_is_the_same()
            test.teardown()
        except Exception as error:
            steps = "\n".join(map(repr, test.log))
            raise AssertionError(f"seed={seed} step={len(test.log)}, begun with {test.begun}\n{steps}") from error
    assert set(PAIRS) <= reached.keys()


def test_a_resend_that_makes_a_one_off_periodic_is_drained() -> None:
    """7: DRAIN runs pending re-sends: also the one that brings a periodic under the key of a one-off. Found by the
    model: the stop used to end in the middle of that very settlement."""
    world, periodic = World(), PERIODIC[0]
    world.send(KEYED[2])
    handle = world.take()
    world.machine.send([periodic], None, {periodic: (0.0, None)})
    world.stop()
    again = world.turn(handle)
    assert again is not None
    assert envelope_of(again) is periodic
    world.end(again, next_period(RUN_SUCCEEDED, PERIOD, PERIOD, error=None, is_late=False))
    assert world.report().kept == (periodic,)


def test_a_plain_send_keeps_an_entry_whatever_was_noted_since() -> None:
    """2: the last future's cancel withdraws an entry only when no plain send asked for it: also when the first thing
    to be noted of it was a backoff, or a re-send while it ran. Found by the random programs."""
    for backed_off in (True, False):
        world, envelope = World(), KEYED[0]
        world.send(envelope)
        handle = world.take()
        if not backed_off:
            world.send(envelope)
        world.end(handle, retry(1.0, backed_off=backed_off))
        world.send(envelope, future=7)
        assert world.done(world.machine.detach(key_of(envelope), 7)) is True
        assert list(world.machine.envelopes()) == [envelope]
