"""The machine against a naive model: any sequence of public calls and run ends gives the same answers, the same order,
the same outcomes and the same counts, and every invariant holds after every step.

The model is plain lists and one dict, without shortcuts: no debris, no heap, no calm. The machine is driven as drivers
do it: effects are taken and reported as delivered after each call. `REQ_SOAK=1` asks for more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
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
        if self.state is RUNNING and not self.is_paused:
            for item in sorted(item for item in self.delayed if item[0] <= self.now):
                self.unplace(item[2])
                self.place(item[2], 0.0)
        if not (self.may_run() and self.ready and len(self.active()) < self.limit):
            return None
        key = self.ready.pop(0)
        self.book[key].phase = "running"
        return key

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
            self.state, self.drains = STOPPING, True
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
        if self.state is not STOPPING or self.active() or (self.may_run() and self.ready):
            return
        if self.is_ending:
            self.returned = [self.end(key, Outcome.RETURNED) for key in list(self.book)]
        self.state = TERMINATED if self.is_ending else STOPPED


PLAIN = [Envelope(handler, id=number) for number in range(4)]
KEYED = [Envelope(handler, id=name, key=name[0]) for name in ("k1", "k2", "p1")]
PERIODIC = [Envelope(handler, id="p2", key="p", interval=PERIOD), Envelope(handler, id="q", interval=PERIOD)]
ALL = PLAIN + KEYED + PERIODIC
envelopes = st.sampled_from(ALL)
delays = st.sampled_from([0.0, 0.0, 1.0, 2.0, 5.0])
pick = st.integers(0, 20)


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
        self.is_eager = eager  # workers take what they are given, mostly
        self.world = World(workers=limit, started=False, capacity=capacity, is_replacing=replaces)
        self.model = Model(float("inf") if capacity is None else capacity, limit, replaces=replaces)
        self.handles: list[Any] = []
        self.futures: list[tuple[Hashable, int]] = []
        self.seats: list[tuple[Any, Any]] = []
        if starts:
            self.both(self.world.machine.start, self.model.start)

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

    def turn(self, every: int, which: int) -> bool:
        """For rules that are always possible and say little: rarer than those that need a situation."""
        return self.steps % every == which

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

    # Rules

    @rule(batch=st.lists(envelopes, min_size=1, max_size=4), delay=delays)
    def send(self, batch: list[Envelope], delay: float) -> None:
        if self._send(batch, delay) is CapacityExceededError:
            event("refused for capacity")
        if self.is_eager:
            self.take_all()

    @rule(envelope=envelopes, delay=delays)
    def send_one(self, envelope: Envelope, delay: float) -> None:
        self._send([envelope], delay)
        if self.is_eager:
            self.take_all()

    @precondition(lambda self: self.model.active() and self.model.state is RUNNING)
    @rule(index=pick, delay=delays, other=st.booleans())
    def resend_running(self, index: int, delay: float, other: bool) -> None:
        key = self._running(index)
        same = [envelope for envelope in ALL if key_of(envelope) == key]
        event("sent again while running")
        self._send([same[other % len(same)]], delay)

    @precondition(lambda self: self.model.delayed and self.model.state is RUNNING)
    @rule(index=pick, delay=delays)
    def resend_delayed(self, index: int, delay: float) -> None:
        key = self.model.delayed[index % len(self.model.delayed)][2]
        self._send([self.model.book[key].envelope], delay)

    @precondition(lambda self: self.turn(2, 0))
    @rule(envelope=st.sampled_from(PLAIN + KEYED))
    def submit(self, envelope: Envelope) -> None:
        future = len(self.futures)
        if not isinstance(self._send([envelope], 0.0, future), type):
            self.futures.append((key_of(envelope), future))

    @precondition(lambda self: self.futures)
    @rule(index=pick)
    def detach(self, index: int) -> None:
        key, future = self.futures[-1 - index % len(self.futures)]
        if self.both(lambda: self.world.machine.detach(key, future), lambda: self.model.detach(key, future)):
            event("a future was cancelled")

    @precondition(lambda self: self.model.ready or self.model.delayed)
    @rule()
    def take(self) -> None:
        self._took(self.world.machine.turn(None, None, None), self.model.take())
        self.settle()

    @precondition(lambda self: self._could_take())
    @rule()
    def take_more(self) -> None:
        self.take()

    @precondition(lambda self: self._could_take())
    @rule()
    def take_all(self) -> None:
        while self._could_take():
            self.take()

    def _could_take(self) -> bool:
        model = self.model
        return bool(model.may_run() and model.ready and len(model.active()) < model.limit)

    @precondition(lambda self: self.handles)
    @rule(index=pick, how=pick, after=st.sampled_from([0.0, 1.0, 4.0]), takes=st.booleans())
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

    @precondition(lambda self: self.handles)
    @rule(index=pick)
    def finish_well(self, index: int) -> None:
        self.finish(index, 0, 0.0, True)

    @precondition(lambda self: self.handles and self.model.state is STOPPING)
    @rule(index=pick, how=pick, after=st.sampled_from([0.0, 4.0]))
    def finish_while_stopping(self, index: int, how: int, after: float) -> None:
        self.finish(index, how, after, True)

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

    @precondition(lambda self: self.turn(2, 1))
    @rule(seconds=st.sampled_from([1.0, 2.0, 7.0]))
    def advance(self, seconds: float) -> None:
        self.model.now += seconds
        self.model.tick()
        self.world.at(self.model.now)

    @precondition(lambda self: self.model.delayed)
    @rule()
    def come_due(self) -> None:
        """Time goes on to the first due time; whoever is free may take it."""
        self.advance(max(0.0, min(self.model.delayed)[0] - self.model.now))
        self.take()

    @precondition(lambda self: self.turn(8, 5))
    @rule(envelope=envelopes)
    def cancel(self, envelope: Envelope) -> None:
        key = key_of(envelope)
        self.both(lambda: self.world.machine.cancel(key), lambda: self.model.cancel(key))

    @precondition(lambda self: self.model.active())
    @rule(index=pick)
    def cancel_running(self, index: int) -> None:
        key = self._running(index)
        event("cancelled while running")
        assert self.both(lambda: self.world.machine.cancel(key), lambda: self.model.cancel(key)) is True

    @precondition(lambda self: self._waits())
    @rule(index=pick)
    def cancel_waiting(self, index: int) -> None:
        key = self._waits()[index % len(self._waits())]
        assert self.both(lambda: self.world.machine.cancel(key), lambda: self.model.cancel(key)) is True

    @precondition(lambda self: self._waits() and self.model.state in (INIT, RUNNING))
    @rule(index=pick, times=st.integers(1, 2))
    def cancel_and_send_again(self, index: int, times: int) -> None:
        """Its old places in the ready queue and among the delays must stay void."""
        row = self.model.book[self._waits()[index % len(self._waits())]]
        for _ in range(times):
            self.cancel(row.envelope)
            self._send([row.envelope])

    @precondition(lambda self: self.steps > 10 and self.turn(8, 4))
    @rule()
    def clear(self) -> None:
        self.both(self.world.machine.clear, self.model.clear)

    @precondition(lambda self: self.model.state is not RUNNING or self.turn(8, 0))
    @rule()
    def start(self) -> None:
        self.both(self.world.machine.start, self.model.start)
        if self.is_eager:
            self.take_all()

    @precondition(lambda self: self.model.is_paused or self.model.state in (INIT, STOPPED))
    @rule()
    def go_on(self) -> None:
        self.resume()
        self.start()

    @precondition(lambda self: self.model.active() or self.turn(4, 2))
    @rule(
        mode=st.sampled_from(StopMode),
        timeout=st.sampled_from([None, None, 0.0, 1.0, 3.0]),
        grace=st.sampled_from([0.0, 2.0]),
    )
    def stop(self, mode: StopMode, timeout: float | None, grace: float) -> None:
        self._stop(mode, timeout, grace, is_ending=False)

    @precondition(lambda self: self.model.active() and self.model.state is RUNNING)
    @rule(resent=st.booleans(), delay=delays, index=pick)
    def abandon(self, resent: bool, delay: float, index: int) -> None:
        if resent:
            self.resend_running(index, delay, False)
            event("abandoned with a re-send pending")
        self._stop(StopMode.STOP, 0.0, 0.0, is_ending=False)
        self.start()

    @precondition(lambda self: self.model.active() and self.model.state is RUNNING)
    @rule(index=pick, delay=delays, seconds=st.sampled_from([0.0, 2.0]), mode=st.sampled_from(StopMode))
    def stop_after_a_resend(self, index: int, delay: float, seconds: float, mode: StopMode) -> None:
        """Sent again while running, maybe due already, and then the queue stops."""
        self.resend_running(index, delay, False)
        self.advance(seconds)
        self._stop(mode, None, 0.0, is_ending=False)
        event("stopped with a re-send pending")

    @precondition(lambda self: self.steps > 25)
    @rule(timeout=st.sampled_from([None, 0.0, 1.0]), resent=st.booleans(), index=pick)
    def terminate(self, timeout: float | None, resent: bool, index: int) -> None:
        if resent and self.model.active() and self.model.state is RUNNING:
            self.resend_running(index, 0.0, False)
        self._stop(StopMode.STOP, timeout, 0.0, is_ending=True)

    def _stop(self, mode: StopMode, timeout: float | None, grace: float, *, is_ending: bool) -> None:
        self.both(
            lambda: self.world.stop(mode, timeout, grace, is_ending=is_ending) and None,
            lambda: self.model.stop(mode, timeout, grace, is_ending=is_ending),
        )

    @precondition(lambda self: self.turn(8, 1))
    @rule()
    def pause(self) -> None:
        self.model.is_paused = True
        self.both(self.world.machine.pause, lambda: None)

    @precondition(lambda self: self.model.is_paused or self.turn(8, 2))
    @rule()
    def resume(self) -> None:
        self.model.is_paused = False
        self.both(self.world.machine.resume, lambda: None)

    @precondition(lambda self: self.turn(8, 3))
    @rule(limit=st.integers(1, 4))
    def resize(self, limit: int) -> None:
        self.model.limit = limit
        self.both(lambda: self.world.machine.resize(limit), lambda: None)

    @precondition(lambda self: self.turn(4, 1))
    @rule(batch=st.lists(envelopes, min_size=1, max_size=3))
    def wait_for_room(self, batch: list[Envelope]) -> None:
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
            if model.new(batch) > model.capacity:
                model.counts["refused"] += len(batch)
                raise CapacityExceededError(0, 0, 0)
            model.seats.append(type("Place", (), {"envelopes": batch})())
            return False

        if self.both(sit, naive) is False:
            event("waits for room")
            self.seats.append((found[0], model.seats[-1]))

    @precondition(lambda self: self.model.capacity in (2, 3) and self.model.state in (INIT, RUNNING))
    @rule(many=st.integers(1, 3))
    def crowd(self, many: int) -> None:
        """The queue is nearly filled, then a batch waits for room, and behind it one that might fit."""
        absent = [envelope for envelope in PLAIN + KEYED[:1] if key_of(envelope) not in self.model.book]
        while absent and len(self.model.book) < self.model.capacity - (many > 1):
            self._send([absent.pop()])
        if absent:
            self.wait_for_room(absent[:many])
            self.wait_for_room(absent[-1:])

    @precondition(lambda self: self.model.seats)
    @rule(index=pick)
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


IS_LONG = os.environ.get("REQ_SOAK") == "1"


@pytest.mark.parametrize("small", [None, 0], ids=["as it is", "debris stays"])
def test_the_machine_does_what_the_model_does(small: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-1 to I-10, I-15 and CONTRACT 3 to 8: random programs of every public call, on the machine and on the model;
    once more with debris left in short queues too, as it is in long ones."""
    if small is not None:
        monkeypatch.setattr(book, "SMALL", small)
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
