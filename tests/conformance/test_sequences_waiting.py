"""The sequences that bite, 9 to 14: callers that wait, the threads of the pool, and references that die."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from rate_envelope_queue import CapacityExceededError, Envelope, QueueState, QueueStateError

from .harness import Harness, concurrent_only, is_shared, threads_only
from .sequences import FOREVER, begin, held, noop


def test_s09_the_first_in_the_row_gives_up(h: Harness) -> None:
    """S09: two wait for room, the first for more than there is: when it gives up, the second is seated at once."""
    queue, gate = h.queue(capacity=2), h.gate()
    begin(h, queue, gate, held(h, gate))
    first = h.in_background(lambda: queue.send_wait(Envelope(noop), Envelope(noop), timeout=h.s(2)))
    h.pass_time(0.5)
    second = h.in_background(lambda: queue.send_wait(Envelope(noop), timeout=60))
    with pytest.raises(CapacityExceededError):
        first.result()
    second.result()
    assert gate.waiting == 1
    assert len(queue) == 2
    gate.open()
    assert queue.join(timeout=60)
    assert queue.stats().accepted == 2


def test_s09_a_cancel_makes_room(h: Harness) -> None:
    """S09: a cancel of what waits seats the next in the row, and what it needs is counted anew."""
    queue, gate = h.queue(capacity=3), h.gate()
    begin(h, queue, gate, held(h, gate))
    one, two = Envelope(h.handler("one")), Envelope(h.handler("two"))
    three = Envelope(h.handler("three"))
    queue.send(one, two)
    waiting = h.in_background(lambda: queue.send_wait(one, three, timeout=60))  # needs one place only
    h.pass_time(0.2)
    assert not waiting.done
    queue.cancel(two)
    waiting.result()
    gate.open()
    assert queue.join(timeout=60)
    assert h.labels()[1:] == ["one", "three"]


@threads_only
def test_s10_giving_up_and_being_seated_at_once(h: Harness) -> None:
    """S10: room is made just as the caller gives up: either it was seated, and its envelope runs, or it was refused."""
    queue = h.queue(capacity=1)
    queue.start()
    seated = 0
    for number in range(300):
        gate = threading.Event()
        queue.send_wait(Envelope(lambda ctx, envelope, gate=gate: gate.wait(20)), timeout=60)
        ran: list[int] = []
        envelope = Envelope(lambda ctx, envelope, ran=ran: ran.append(1))
        timeout = number * 1e-5
        waiter = h.in_background(lambda envelope=envelope, timeout=timeout: queue.send_wait(envelope, timeout=timeout))
        gate.set()
        try:
            waiter.result()
        except CapacityExceededError:
            assert queue.join(timeout=60)
            assert ran == []
        else:
            seated += 1
            assert queue.join(timeout=60)
            assert ran == [1]
    assert queue.stats().accepted == queue.stats().succeeded == 300 + seated


def test_s11_started_again_between_stopped_and_the_clean_up(h: Harness) -> None:
    """S11: an observer starts the queue in the moment it is told of STOPPED, before the stop has cleaned up.

    The stop returns its report; the queue runs, with all its workers, and loses none of them to the old clean-up.
    """
    restarts: list[QueueState] = []

    class Restarts:
        def on_state_changed(self, event: Any) -> None:
            if event.new is QueueState.STOPPED and not restarts:
                restarts.append(event.new)
                queue.start()

    queue = h.queue(workers=3, observers=(Restarts(),))
    gate = h.gate()
    queue.start()
    queue.send(Envelope(noop))
    report = queue.stop()
    assert (report.state, restarts) == (QueueState.STOPPED, [QueueState.STOPPED])
    assert queue.state is QueueState.RUNNING
    queue.send(*[held(h, gate) for _ in range(3)])
    h.until(lambda: gate.waiting == 3)
    h.pass_time(0.5)
    assert (gate.waiting, queue.stats().running) == (3, 3)
    gate.open()
    assert queue.join(timeout=60)
    assert queue.stop().state is QueueState.STOPPED


@threads_only
def test_s11_restarts_race_with_stops(h: Harness) -> None:
    """S11: one thread stops while another starts as soon as it may, 200 rounds: nothing is lost, no worker left."""
    queue = h.queue(workers=2)
    queue.start()
    ran: list[int] = []
    for number in range(200):
        queue.send(Envelope(lambda ctx, envelope: ran.append(envelope.payload), payload=number))
        stopping = h.in_background(queue.stop)
        while not stopping.done:
            try:
                queue.start()
            except QueueStateError:  # it is stopping: again
                h.pass_time(0)
        assert stopping.result().state is QueueState.STOPPED
        queue.start()
    assert queue.join(timeout=60)
    assert sorted(ran) == list(range(200))

    def left() -> list[threading.Thread]:
        started_since = set(threading.enumerate()) - h.threads_before
        return [thread for thread in started_since if thread.name != "beside the test" and not is_shared(thread)]

    h.until(lambda: len(left()) == 2)


@threads_only
def test_s12_threads_are_started_outside_the_lock(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """S12: while its threads are being started the queue answers everybody: its lock is not held."""
    queue = h.queue(workers=8)
    answers: list[int] = []
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        answers.append(queue.stats().workers)  # raises QueueStateError when the caller holds the lock
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    queue.start()
    monkeypatch.undo()
    assert answers == [8] * 8
    gate = h.gate()
    queue.send(*[held(h, gate) for _ in range(8)])
    h.until(lambda: gate.waiting == 8)


class Nosy:
    """A payload whose end asks the queue for its numbers, which it must not do while the queue's lock is held."""

    def __init__(self, queue: Any, found: list[Any]) -> None:
        self.queue = queue
        self.found = found

    def __del__(self) -> None:
        try:
            self.queue.stats()
            self.queue.cancel("unknown")
        except BaseException as error:
            self.found.append(error)
        else:
            self.found.append("answered")


class Endings:
    """The ways in which envelopes end, each with payloads that look back; `made` counts these."""

    def __init__(self, h: Harness, queue: Any) -> None:
        self.h = h
        self.queue = queue
        self.found: list[Any] = []
        self.made = 0

    def send(self, invoke: Any = noop, *, delay: float = 0, **options: Any) -> Envelope:
        self.made += 1
        envelope = Envelope(invoke, payload=Nosy(self.queue, self.found), **options)
        self.queue.send(envelope, delay=delay)
        return envelope

    def fails(self, ctx: Any, envelope: Any) -> None:
        raise ValueError("to be dropped")

    def run(self) -> None:
        for _ in range(5):
            self.send()

    def run_with_a_key(self) -> None:
        for number in range(5):
            self.send(key=number, delay=self.h.s(0.1 * number))

    def cleared_from_the_dead_letters(self) -> None:
        for _ in range(3):
            self.send(self.fails)
        assert self.queue.join(timeout=60)
        self.queue.clear_dead_letters()

    def evicted_from_the_dead_letters(self) -> None:
        for _ in range(5):
            self.send(self.fails)
        self.queue.send(Envelope(self.fails))

    def replaced(self) -> None:
        self.queue.pause()
        for delay in (0, 0, FOREVER, 0):
            self.send(key="k", delay=delay)
        self.queue.send(Envelope(noop, key="k"))
        self.queue.resume()

    def replaced_as_a_resend(self) -> None:
        gate = self.h.gate()
        begin(self.h, self.queue, gate, held(self.h, gate, key="k"))
        for _ in range(3):
            self.send(key="k")
        self.queue.send(Envelope(noop, key="k"))
        gate.open()

    def cancelled(self) -> None:
        self.queue.pause()
        for _ in range(100):
            self.queue.cancel(self.send())
        self.queue.resume()

    def cancelled_while_delayed(self) -> None:
        envelopes = [self.send(delay=self.h.s(FOREVER)) for _ in range(200)]
        while envelopes:
            self.queue.cancel(envelopes.pop())

    def cleared(self) -> None:
        self.queue.pause()
        for number in range(2000):
            self.send(key=number if number % 2 else None, delay=number % 3)
        self.queue.clear()
        self.queue.resume()

    def abandoned(self) -> None:
        gate = self.h.gate()
        self.send(lambda ctx, envelope: gate.wait(ctx))
        self.h.until(lambda: gate.waiting == 1)
        self.queue.stop(timeout=0, grace=0)
        gate.open()
        self.h.until(lambda: self.queue.stats().abandoned_ended == 1)
        self.queue.start()
        self.queue.stop()  # its report takes the place of the one that names the envelope
        self.queue.start()


@pytest.mark.parametrize(
    "ending",
    [ending for name, ending in vars(Endings).items() if name not in ("send", "fails") and not name.startswith("__")],
    ids=lambda ending: ending.__name__,
)
def test_s13_the_last_reference_dies_outside_the_lock(h: Harness, ending: Callable[[Endings], None]) -> None:
    """S13: a payload's `__del__` may use the queue, however the envelope ends: nothing is let go of under the lock."""
    queue = h.queue(duplicates="replace", dead_letter_limit=1)
    endings = Endings(h, queue)
    queue.start()
    ending(endings)
    queue.send(Envelope(noop))  # a worker lets go of what it ran last
    assert queue.join(timeout=60)
    h.until(lambda: len(endings.found) == endings.made)
    assert set(endings.found) == {"answered"}


def test_s14_the_leader_is_taken_for_work(h: Harness) -> None:
    """S14: the idle worker that watches the clock is given work: another one watches from then on."""
    queue, gate = h.queue(workers=3), h.gate()
    queue.start()
    h.pass_time(0.2)
    queue.send(Envelope(h.handler("delayed")), delay=h.s(2))
    sent_at = h.now()
    h.pass_time(0.2)
    queue.send(held(h, gate), held(h, gate))  # two of the three are occupied, the leader perhaps among them
    h.until(lambda: gate.waiting == 2)
    h.until(lambda: "delayed" in h.labels())
    assert h.times("delayed")[0] - sent_at == h.about(2)
    gate.open()


@concurrent_only
def test_s14_wakes_and_due_times_meet(h: Harness) -> None:
    """S14: due times come just as sends wake the watching worker, 300 rounds: none is left lying."""
    queue = h.queue(workers=4)
    queue.start()
    for number in range(300):
        queue.send(Envelope(noop), delay=0.001)
        queue.send(Envelope(noop), delay=0.002)
        h.pass_time((number % 7) * 0.006)
        queue.send(Envelope(noop))
        if number % 3:
            queue.send(Envelope(noop), delay=0.0005)
        assert queue.join(timeout=20), queue.stats()
    assert queue.stats().succeeded == queue.stats().accepted
