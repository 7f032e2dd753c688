"""The machine and the naive model side by side: each call is made to both, and both must answer the same.

The machine is driven as drivers do it: effects are taken and reported as delivered after each call. What is met on the
way is counted: every call, by the situation that the model was in when it was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from rate_envelope_queue.core import settle
from rate_envelope_queue.core.settle import RUN_FAILED, RUN_SUCCEEDED, Verdict
from rate_envelope_queue.core.stopping import Ticket
from rate_envelope_queue.core.waiting import Waiter
from rate_envelope_queue.decision import retry_after, retry_now, retry_with_backoff
from rate_envelope_queue.envelope import Envelope
from rate_envelope_queue.errors import CapacityExceededError, InvalidEnvelopeError, QueueStateError
from rate_envelope_queue.events import OBSERVABLE
from rate_envelope_queue.limiters import TokenBucket
from rate_envelope_queue.results import StopMode
from tests.unit.machine_world import World, envelope_of, handler

from .naive import PERIOD, RUNNING, STOPPING, key_of
from .naive_control import Model
from .pairs import situation

PERIODIC_WAYS = ("success", "late", "retry", "drop", "stop", "cancelled")
WAYS = ("success", "success", "retry", "backoff", "late", "drop", "stop", "cancelled")


WATCHED = {"nobody": (), "meter": (), "observer": OBSERVABLE, "observer of retries": ("retried",)}


def make_envelopes() -> list[Envelope]:
    """Four plain ones; three of one key, the last periodic; two of another, periodic and not; and one of rank."""
    plain = [Envelope(handler, id=number, max_attempts=3) for number in range(4)]
    return [
        *plain,
        Envelope(handler, id="k1", key="k", max_attempts=2),
        Envelope(handler, id="k2", key="k", priority=1, max_attempts=4),
        Envelope(handler, id="k3", key="k", interval=PERIOD),
        Envelope(handler, id="p1", key="p", interval=PERIOD),
        Envelope(handler, id="p2", key="p", priority=-1),
        Envelope(handler, id="q", interval=PERIOD),
    ]


class Future:
    """What a submit waits for; the machine only hands it on."""


class Twins:
    """Does the same to both, and compares what they answer."""

    def __init__(
        self,
        reached: Counter[str],
        *,
        capacity: int | None,
        limit: int,
        replaces: bool,
        gap: float,
        starts: bool,
        watch: str,
    ) -> None:
        self.reached = reached
        self.log: list[Any] = []  # what was done, for who reads a failure
        self.world = World(
            workers=limit, started=False, capacity=capacity, is_replacing=replaces,
            rate=TokenBucket(1 / gap) if gap else None,
        )  # fmt: skip
        self.machine = self.world.machine
        self.watch = watch
        self.machine.watch(frozenset(WATCHED[watch]), is_measured=watch == "meter")
        self.model = Model(float("inf") if capacity is None else capacity, limit, replaces=replaces, gap=gap)
        self.envelopes = make_envelopes()
        self.handles: list[tuple[Any, Hashable]] = []  # what runs, abandoned runs too
        self.futures: list[tuple[Hashable, Future]] = []
        self.seats: list[tuple[Any, Sequence[Envelope]]] = []
        self.waiters: list[Waiter] = []  # of join
        self.callers: list[tuple[Ticket, Waiter]] = []  # of stop
        self.admitted = 0  # the sum of what sends answered
        if starts:
            self.start()

    # Both

    def both(self, real: Callable[[], Any], naive: Callable[[], Any]) -> Any:
        """The answer of both, which must be the same; or the error, of the same class."""
        answers: list[Any] = []
        for call in (real, naive):
            try:
                answers.append(call())
            except (CapacityExceededError, QueueStateError, InvalidEnvelopeError) as error:
                answers.append(type(error))
        self.settle()
        assert answers[0] == answers[1], f"the machine answers {answers[0]}, the model {answers[1]}"
        return answers[1]

    def settle(self) -> None:
        """The call is over: effects are delivered, and what has come to rest ends."""
        self.world.done()
        self.model.rest()

    def met(self, call: str, key: Hashable = None) -> None:
        """Count *call* in each of the situations that it meets."""
        self.reached.update(f"{call} x {word}" for word in situation(self.model, key))

    # Sending

    def send(self, batch: Sequence[Envelope], delay: float = 0.0, future: Future | None = None) -> Any:
        """Send, or submit when there is a *future*, by the path that a driver would take."""
        self._meet_sending(batch, delay, future)
        machine, now = self.machine, self.world.now

        def send() -> int:
            if not delay and future is None:
                new = machine.send_one(batch[0]) if len(batch) == 1 else machine.send_many(tuple(batch))
                if new is not None:
                    return new
            return machine.send(batch, now + delay if delay else None, self._starts(batch), future)

        seated = self._seated()
        answer = self.both(send, lambda: self.model.send(batch, delay, future))
        self.admitted += 0 if isinstance(answer, type) else answer
        self._count_seated(seated)
        return answer

    def _meet_sending(self, batch: Sequence[Envelope], delay: float, future: Future | None) -> None:
        for envelope in batch:
            key, row = key_of(envelope), self.model.book.get(key_of(envelope))
            call = "submit" if future else "send later" if delay else "send"
            self.met(call, key)
            if row is not None and row.envelope is not envelope:
                self.met("replace" if self.model.replaces else "key", key)
                if row.envelope.is_periodic is not envelope.is_periodic:
                    self.met("change of kind", key)
        if len(batch) > 1:
            self.met("batch", key_of(batch[-1]))

    def _starts(self, batch: Sequence[Envelope]) -> Any:
        return {envelope: (self.world.now, None) for envelope in batch if envelope.is_periodic} or None

    def submit(self, envelope: Envelope) -> None:
        future = Future()
        if not isinstance(self.send([envelope], 0.0, future), type):
            self.futures.append((key_of(envelope), future))

    def detach(self, index: int) -> None:
        key, future = self.futures[-1 - index % len(self.futures)]
        self.met("detach", key)
        self.changing(lambda: self.machine.detach(key, future), lambda: self.model.detach(key, future))

    def send_wait(self, batch: Sequence[Envelope], *, may_wait: bool = True) -> Any:
        self.met("send_wait", key_of(batch[0]))
        found: list[Any] = []

        def sit() -> bool:
            found.append(self.machine.wait_for_room(tuple(batch), self._starts(batch), None, may_wait=may_wait))
            return bool(found[0].is_done)

        seated = self._seated()
        answer = self.both(sit, lambda: self.model.send_wait(batch, may_wait=may_wait))
        if answer is False:
            self.seats.append((found[0], batch))
        elif answer is True:
            self.admitted += found[0].answer
        self._count_seated(seated)
        return answer

    def give_up(self, index: int) -> None:
        """Who waits for room leaves; the next may fit."""
        index %= len(self.model.seats)
        place = self.model.seats[index]
        (seat,) = [real for real, other in self.seats if other is place and not real.is_done]
        self.met("give_up" if index else "give_up first")
        del self.model.seats[index]
        self.changing(lambda: self.machine.give_up(seat), lambda: self.model.fill_seats() or True)
        self.seats = [(real, other) for real, other in self.seats if real is not seat]

    def _seated(self) -> list[Any]:
        return [seat for seat, _ in self.seats if not seat.is_done]

    def _count_seated(self, before: list[Any]) -> None:
        """Seats taken since count as sends."""
        self.admitted += sum(seat.answer for seat in before if seat.is_done and seat.error is None)

    def changing(self, real: Callable[[], Any], naive: Callable[[], Any]) -> Any:
        """A call that may free room, and so seat who waits for it."""
        seated = self._seated()
        answer = self.both(real, naive)
        self._count_seated(seated)
        return answer

    # Running

    def take(self) -> None:
        """A free worker asks for work."""
        self.met("take")
        self._took(self.machine.turn(None, None, None), self.model.take())
        self.settle()

    def take_all(self) -> None:
        """Free workers take what they can; those whom the start rate holds back too."""
        while self.model.may_run() and self.model.ready and len(self.model.active()) < self.model.limit:
            before = len(self.handles)
            self.take()
            if len(self.handles) == before:
                return

    def _took(self, handle: Any, key: Hashable) -> None:
        got = None if handle is None else key_of(envelope_of(handle))
        assert got == key, f"the machine runs {got}, the model {key}"
        if handle is None:
            return
        row = self.model.book[key]
        assert envelope_of(handle) is row.envelope
        assert getattr(handle, "attempt", 1) == row.attempt
        assert key not in [other for _, other in self.handles], f"{key} runs twice at the same time"
        self.handles.append((handle, key))

    def finish(self, index: int, how: str, after: float, *, takes: bool) -> None:
        """A run ends, and its worker takes the next, or leaves."""
        handle, key = self.handles.pop(index % len(self.handles))
        envelope, attempt = envelope_of(handle), getattr(handle, "attempt", 1)
        if envelope.is_periodic and how not in PERIODIC_WAYS:
            how = "retry"
        after = after if how in ("retry", "backoff") and not envelope.is_periodic else 0.0
        for call in ("finish", "retry later" if how == "retry" and after else how):
            self.met(call, key)
        if envelope.is_periodic:
            self.met("period", key)
        verdict = verdict_of(envelope, how, after, attempt, self.world.now)
        seated = self._seated()
        if takes:
            following = self.machine.turn(handle, verdict, "value")
            self.model.finish(key, how, after, attempt)
            self._took(following, self.model.take())
        else:
            self.machine.finish(handle, verdict, "value")
            self.model.finish(key, how, after, attempt)
        self.settle()
        self._count_seated(seated)

    def advance(self, seconds: float) -> None:
        """Time goes on, and the watchdog looks."""
        self.model.now += seconds
        self.met("tick")
        self.model.tick()
        self.world.at(self.model.now)

    # Control

    def cancel(self, key: Hashable) -> Any:
        self.met("cancel", key)
        return self.changing(lambda: self.machine.cancel(key), lambda: self.model.cancel(key))

    def clear(self) -> None:
        self.met("clear")
        self.changing(self.machine.clear, self.model.clear)

    def pause(self) -> None:
        self.met("pause")
        self.model.is_paused = True
        self.both(self.machine.pause, lambda: None)

    def resume(self) -> None:
        self.met("resume")
        self.model.is_paused = False
        self.both(self.machine.resume, lambda: None)

    def resize(self, limit: int) -> None:
        self.met("resize" if limit >= self.model.limit else "resize down")
        self.model.limit = limit
        self.both(lambda: self.machine.resize(limit), lambda: None)

    def start(self) -> Any:
        self.met("start")
        return self.both(self.machine.start, self.model.start)

    def stop(self, mode: StopMode, timeout: float | None, grace: float, *, is_ending: bool = False) -> None:
        self.met("terminate" if is_ending else "drain" if mode is StopMode.DRAIN else "stop queue")
        self.both(
            lambda: self._stop(mode, timeout, grace, is_ending),
            lambda: self.model.stop(mode, timeout, grace, is_ending=is_ending),
        )

    def _stop(self, mode: StopMode, timeout: float | None, grace: float, is_ending: bool) -> None:
        """Begun or joined, and waited for, as by a caller."""
        ticket = self.world.stop(mode, timeout, grace, is_ending=is_ending)
        assert ticket is self.machine.ticket or self.machine.state not in (RUNNING, STOPPING)
        if ticket is not None and ticket.report is None:
            self.callers.append((ticket, Waiter()))
            ticket.waiters.append(self.callers[-1][1])

    def give_up_run(self, key: Hashable) -> None:
        """During a stop, one run is given up on."""
        self.met("abandon", key)
        (handle,) = [handle for handle, other in self.handles if other == key]
        self.both(lambda: self.machine.abandon(handle), lambda: self.model.abandon(key))

    def join(self) -> None:
        self.met("join")
        waiter = Waiter()
        if self.both(lambda: self.machine.join(waiter), lambda: self.model.join(waiter)) is False:
            self.waiters.append(waiter)

    def leave_join(self) -> None:
        self.met("leave_join")
        waiter = self.model.joiners.pop()
        self.waiters.remove(waiter)
        self.both(lambda: self.machine.leave_join(waiter), lambda: None)

    def hold(self) -> None:
        """The delivery of effects is under way, and goes on: joins and stops must wait for it."""
        self.model.undelivered += 1
        self.world.effects += self.machine.take_outbox()

    def deliver(self) -> None:
        """What was under way is delivered."""
        self.met("deliver")
        self.model.undelivered -= 1
        self.both(self.machine.delivered, lambda: None)


def verdict_of(envelope: Envelope, how: str, after: float, attempt: int, now: float) -> Verdict:
    """What a pipeline would say of a run that ended *how*."""
    error = ValueError(how)
    if how in ("stop", "cancelled"):
        return settle.stopped(error) if how == "stop" else settle.cancelled()
    if envelope.is_periodic:
        run = RUN_FAILED if how == "retry" else RUN_SUCCEEDED
        if how == "drop":
            return settle.unscheduled(RUN_FAILED, error)
        return settle.next_period(run, now + PERIOD, now + PERIOD, error=error, is_late=how == "late")
    if how in ("success", "late"):
        return settle.SUCCESS if how == "success" else settle.late_success()
    if how == "drop":
        return settle.failed(envelope._policy, attempt, error, None)
    asked = retry_with_backoff() if how == "backoff" else retry_after(after) if after else retry_now()
    verdict = settle.failed(envelope._policy, attempt, error, asked)
    if verdict.backed_off:
        verdict.after = after  # as its limiter would
    return verdict
