"""Rare sequences, most of them on threads, that once went wrong: what is left over, what raises, what comes between."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import rate_envelope_queue
from rate_envelope_queue import CapacityExceededError, Envelope, EnvelopeQueue, RetryEnvelope
from rate_envelope_queue.core import reading
from rate_envelope_queue.testing import VirtualClock
from rate_envelope_queue.workqueue import WorkQueue

from .harness import PATIENCE, Harness, threads_only


def raises(error: BaseException) -> Any:
    """A handler that raises *error*."""

    def handler(ctx: Any, envelope: Any) -> None:
        raise error

    return handler


@threads_only
def test_an_abandoned_run_does_not_hold_the_stops_of_later_starts(h: Harness) -> None:
    """CONTRACT 7: an abandoned run is listed and forgotten, also when its worker had effects to deliver before it."""
    queue = h.queue(workers=1)
    gate, held = h.gate(), h.gate()
    queue.start()
    queue.submit(Envelope(lambda ctx, e: gate.wait(ctx)))
    queue.send(Envelope(lambda ctx, e: held.wait(ctx)))
    gate.open()
    h.until(lambda: held.waiting)
    assert len(queue.stop(timeout=0, grace=0).abandoned) == 1
    queue.start()
    assert queue.join(timeout=PATIENCE)
    assert h.in_background(queue.stop).result().abandoned == ()
    assert held.waiting


def with_letters(count: int) -> EnvelopeQueue:
    """A queue that has stopped with *count* dead letters."""
    with EnvelopeQueue("q", workers=1) as queue:
        queue.send(*[Envelope(raises(LookupError("gone"))) for _ in range(count)])
    return queue


def test_dead_letters_are_cleared_by_two_at_once() -> None:
    """CONTRACT 2: each dead letter goes to one of those who take them out, and nobody gets an error."""
    queue = with_letters(3)
    taken: list[Any] = []

    class Contested(deque[Any]):
        def popleft(self) -> Any:
            if not taken:  # another thread comes in between
                taken.append(super().popleft())
                taken.extend(queue.clear_dead_letters())
            return super().popleft()

    queue._letters = Contested(queue._letters)
    assert queue.clear_dead_letters() == ()
    assert len(taken) == 3


def test_dead_letters_are_read_while_garbage_is_collected() -> None:
    """CONTRACT 9: a look at the dead letters survives what finalisers do in the middle of it."""
    queue = with_letters(50)
    letters = queue.dead_letters()

    def collected(phase: str, info: Any) -> None:
        queue.clear_dead_letters()

    thresholds = gc.get_threshold()
    for wait in range(1, 20):  # one of them has the garbage collected in the middle of the look
        queue._letters.extend(letters)
        gc.collect()
        gc.callbacks.append(collected)
        gc.set_threshold(wait)
        try:
            assert queue.dead_letters() in (letters, ())
        finally:
            gc.set_threshold(*thresholds)
            gc.callbacks.remove(collected)
            queue.clear_dead_letters()


def at_depth(depth: int, call: Any) -> Any:
    """What *call* returns *depth* frames further down."""
    return at_depth(depth - 1, call) if depth else call()


@threads_only
def test_a_call_at_the_end_of_the_stack_is_made_or_refused(h: Harness) -> None:
    """CONTRACT 7: a call that meets the recursion limit leaves nothing behind that a later join or stop waits for."""
    queue = h.queue()
    queue.start()
    for depth in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit()):
        envelope = Envelope(h.handler())
        queue.send(envelope, delay=1000)
        try:
            at_depth(depth, lambda envelope=envelope: queue.cancel(envelope))
        except RecursionError:
            assert queue.cancel(envelope)
        assert queue.join(timeout=0)
    assert queue.stop().kept == ()


class ClockOf:
    """The clock of the machine, which fails when a thread whose name has *part* in it looks at it, *times* times."""

    def __init__(self, part: str, times: int = 0) -> None:
        self.part = part
        self.times = times

    def now(self) -> float:
        if self.times and self.part in threading.current_thread().name:
            self.times -= 1
            raise OSError("no clock")
        return time.monotonic()

    def wall_utc(self) -> Any:
        return datetime.now(UTC)


@threads_only
def test_a_clock_that_raises_ends_no_timer(h: Harness) -> None:
    """CONTRACT 9: the clock of one queue raises where stop timeouts are watched: they hold, there and elsewhere."""
    clock = ClockOf("watchdog", times=1)
    gate = h.gate()
    for queue in h.queue(workers=1, clock=clock), h.queue(workers=1):
        queue.start()
        queue.send(Envelope(lambda ctx, e: gate.wait(ctx)))
        h.until(lambda queue=queue: queue.stats().running)
        queue.stop(timeout=0.01, grace=0.01, wait=False)
        h.until(lambda queue=queue: queue.state.value == "stopped")
        assert len(queue.last_report.abandoned) == 1
    assert clock.times == 0


@threads_only
def test_stuck_runs_are_told_of_though_the_clock_raised(h: Harness) -> None:
    """CONTRACT 9: a clock that raises once where stuck runs are looked for delays the report, and no more."""
    told = TellsStuck()
    clock = ClockOf("watchdog", times=1)
    queue = h.queue(workers=1, clock=clock, stuck_after=0.02, observers=[told])
    gate = h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, e: gate.wait(ctx), deadline=0.01))
    h.until(lambda: told.events)
    assert clock.times == 0


@threads_only
def test_stuck_runs_are_told_of_without_a_thread(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault matrix 21: when no thread can be started for the report of a stuck run, it is told of all the same."""
    told = TellsStuck()
    queue = h.queue(workers=1, stuck_after=0.02, observers=[told])
    gate = h.gate()
    queue.start()
    start = threading.Thread.start

    def starts(thread: threading.Thread) -> None:
        if thread.name.endswith("stuck"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts)
    queue.send(Envelope(lambda ctx, e: gate.wait(ctx), deadline=0.01))
    h.until(lambda: told.events)


class TellsStuck:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_stuck(self, event: Any) -> None:
        self.events.append(event)


@threads_only
@pytest.mark.parametrize("options", [{}, {"deadline": 60}, {"interval": 60}], ids=["plain", "deadline", "periodic"])
@pytest.mark.parametrize("look", range(8))
def test_a_clock_that_raises_at_any_look_ends_no_worker(h: Harness, look: int, options: dict[str, Any]) -> None:
    """CONTRACT 9: whichever look at the clock raises, before, in or after a settlement, the book stays consistent."""
    clock = ClockOf("q-")
    queue = h.queue(workers=1, clock=clock)
    real = clock.now
    looks = iter(range(look, -1000, -1))

    def now() -> float:
        clock.times = int("q-" in threading.current_thread().name and next(looks) == 0)
        return real()

    def handler(ctx: Any, envelope: Any) -> None:
        if ctx.attempt == 1:
            raise RetryEnvelope(after=0.001)

    queue.start()
    queue.send(Envelope(lambda ctx, e: None), delay=1000)  # so that a worker looks at the clock
    h.until(lambda: queue._parking.leader is not None)
    clock.now = now  # type: ignore[method-assign]
    queue._machine.clock = queue._house.clock = queue._clock_now = queue._scope.clock = now
    queue.send(Envelope(handler, **options))
    for _ in range(3):
        queue.send(Envelope(h.handler("next")))
    h.until(lambda: len(h.labels()) == 3)
    h.until(lambda: queue.stats().running == 0)
    queue.stop()
    stats = queue.stats()
    assert stats.ready == 0
    assert stats.occupancy == stats.delayed
    reading.check(queue._machine)


class Treacherous:
    """A key that can be hashed until it is bad."""

    is_bad = False

    def __hash__(self) -> int:
        if self.is_bad:
            raise ValueError("no hash any more")
        return 1


@threads_only
def test_a_key_that_raises_does_not_hold_a_stop(h: Harness) -> None:
    """CONTRACT 7: a stop that gives up on a run returns in time, though the key of the run cannot be reserved."""
    queue = h.queue(workers=1)
    key, gate = Treacherous(), h.gate()
    queue.start()
    envelope = Envelope(lambda ctx, e: gate.wait(ctx), key=key)
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    key.is_bad = True
    report = queue.stop(timeout=0, grace=0)
    assert (report.abandoned, report.state.value) == ((envelope,), "stopped")
    assert (queue.stats().abandoned, queue.stats().runs_abandoned) == (1, 1)
    queue.start()
    gate.open()
    assert queue.submit(Envelope(lambda ctx, e: "next")).result(PATIENCE) == "next"


def test_a_key_that_raises_in_the_row_for_room_is_its_senders(h: Harness) -> None:
    """CONTRACT 6: who waits for room with a key that can no longer be looked up is told, and holds up nobody else."""
    queue = h.queue(workers=1, capacity=1)
    key, gate = Treacherous(), h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, e: gate.wait(ctx)))
    h.until(lambda: gate.waiting)
    first = h.in_background(lambda: queue.send_wait(Envelope(h.handler("bad"), key=key)))
    h.until(lambda: queue._machine.seats)
    second = h.in_background(lambda: queue.send_wait(Envelope(h.handler("good"))))
    h.until(lambda: len(queue._machine.seats) == 2)
    key.is_bad = True
    gate.open()
    with pytest.raises(ValueError, match="no hash"):
        first.result()
    assert second.result() == 1
    h.until(h.labels)
    assert h.labels() == ["good"]
    assert queue.dead_letters() == ()


def test_two_keys_that_raise_end_no_worker(h: Harness) -> None:
    """CONTRACT 9: when a settlement finds one key that raises, others that do so now go the same way."""
    queue = h.queue(workers=1)
    one, *others = (Treacherous() for _ in range(3))

    def handler(ctx: Any, envelope: Any) -> None:
        for key in one, *others:
            key.is_bad = True

    queue.send(Envelope(handler, key=one))
    queue.send(Envelope(h.handler("ready"), key=others[0]))
    queue.send(Envelope(h.handler("delayed"), key=others[1]), delay=h.s(5))
    queue.start()
    h.until(lambda: queue.stats().dropped == 3)
    queue.send(Envelope(h.handler("next")))
    h.until(h.labels)
    h.pass_time(6)
    assert h.labels() == ["next"]
    h.until(lambda: queue.stats().occupancy == 0)
    assert queue.stats().runs_failed == 1
    assert queue.stop().kept == ()


def comes_between(queue: Any, effect: str, call: Any) -> None:
    """Have another thread *call* just before *queue* carries out *effect* for the first time."""
    carry_out = queue._delivery._actions[effect]

    def late(*args: Any) -> None:
        queue._delivery._actions[effect] = carry_out
        other = threading.Thread(target=call)
        other.start()
        other.join()
        carry_out(*args)

    queue._delivery._actions[effect] = late


@threads_only
def test_a_stop_cancels_what_it_stops_and_not_the_next_start(h: Harness) -> None:
    """CONTRACT 7: the queue is started again before a stop that gave up has cancelled its contexts."""
    queue = h.queue(workers=1)
    gate = h.gate()
    contexts: list[Any] = []
    queue.start()
    queue.send(Envelope(lambda ctx, e: (contexts.append(ctx), gate.wait(ctx))))
    h.until(lambda: gate.waiting)
    comes_between(queue, "cancel", queue.start)
    queue.stop(timeout=0, grace=0)
    assert queue.submit(Envelope(lambda ctx, e: ctx.check())).result(PATIENCE) is None
    assert contexts[0].cancelled


@threads_only
@pytest.mark.parametrize("watched", ["a stop", "stuck runs"])
def test_the_end_of_a_stop_takes_no_timer_of_the_next_start(h: Harness, watched: str) -> None:
    """CONTRACT 7: the queue is started again before the end of a stop was carried out: its timers are set."""
    told = TellsStuck()
    queue = h.queue(workers=1, stuck_after=0.05, observers=[told])
    first, second = h.gate(), h.gate()
    close = queue._close
    closed = threading.Event()

    def start_again() -> None:
        queue.start()
        queue.send(Envelope(lambda ctx, e: second.wait(ctx), deadline=10 if watched == "a stop" else 0.1))
        h.until(lambda: second.waiting)
        if watched == "a stop":
            queue.stop(timeout=0.1, grace=0.1, wait=False)

    def close_late(pool: Any) -> None:
        close(pool)
        other = threading.Thread(target=start_again)
        other.start()
        other.join()
        closed.set()

    queue.start()
    queue.send(Envelope(lambda ctx, e: first.wait(ctx)))
    h.until(lambda: first.waiting)
    queue.stop(wait=False)
    queue._close = close_late
    first.open()
    assert closed.wait(PATIENCE)
    queue._close = close
    h.until(lambda: queue.state.value == "stopped" if watched == "a stop" else told.events)


@threads_only
def test_a_caller_waits_in_real_time_whatever_the_clock_says(h: Harness) -> None:
    """CONTRACT 2: a real queue waits in real time: the timeout of a call ends, though the clock stands still."""
    queue = h.queue(workers=1, capacity=1, clock=VirtualClock())
    gate = h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, e: gate.wait(ctx)))
    assert h.in_background(lambda: queue.join(timeout=0.01)).result() is False
    with pytest.raises(CapacityExceededError):
        h.in_background(lambda: queue.send_wait(Envelope(h.handler()), timeout=0.01)).result()


@threads_only
def test_a_consumer_waits_in_real_time_whatever_the_clock_says(h: Harness) -> None:
    """CONTRACT 10: the timeouts of a work queue end, though its clock stands still and items are delayed on it."""
    queue = WorkQueue[str](clock=VirtualClock())
    queue.add_after("later", 60)
    with pytest.raises(TimeoutError):
        h.in_background(lambda: queue.get(timeout=0.01)).result()
    queue.add("now")
    assert h.in_background(lambda: queue.shut_down_with_drain(timeout=0.01)).result() is False


class Interrupted:
    """An observer in the middle of which Ctrl-C comes, once, as the queue gets to *state*."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.told: list[str] = []

    def on_state_changed(self, event: Any) -> None:
        self.told.append(event.new.value)
        if event.new.value == self.state:
            self.state = ""
            raise KeyboardInterrupt


@threads_only
def test_ctrl_c_in_an_observer_of_start_leaves_a_queue_that_runs(h: Harness) -> None:
    """CONTRACT 9: Ctrl-C works where the main thread calls user code back, and the queue that has begun has workers."""
    observer, other = Interrupted("running"), Interrupted("")
    queue = h.queue(workers=1, observers=[observer, other])
    with pytest.raises(KeyboardInterrupt):
        queue.start()
    assert queue.submit(Envelope(lambda ctx, e: "ran")).result(PATIENCE) == "ran"
    queue.stop()
    assert observer.told == other.told == ["running", "stopping", "stopped"]


@threads_only
def test_ctrl_c_in_an_observer_of_stop_ends_the_wait_and_not_the_stop(h: Harness) -> None:
    """CONTRACT 7: the timeout of a stop holds, though Ctrl-C came in the middle of its beginning."""
    queue = h.queue(workers=1, observers=[Interrupted("stopping")])
    gate = h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, e: gate.wait(ctx)))
    h.until(lambda: gate.waiting)
    with pytest.raises(KeyboardInterrupt):
        queue.stop(timeout=0.01, grace=0.01)
    h.until(lambda: queue.state.value == "stopped")
    assert len(queue.last_report.abandoned) == 1


@threads_only
def test_ctrl_c_in_a_callback_of_a_future_is_raised_to_the_caller(h: Harness) -> None:
    """CONTRACT 9: Ctrl-C in a callback that the main thread calls is raised there, once all is delivered."""
    queue = h.queue()
    first, second = (queue.submit(Envelope(h.handler())) for _ in range(2))
    first.add_done_callback(lambda future: raises(KeyboardInterrupt())(None, None))
    with pytest.raises(KeyboardInterrupt):
        queue.clear()
    assert first.done()
    assert second.done()


@threads_only
@pytest.mark.parametrize("call", ["join", "stop"])
def test_who_comes_late_to_wait_returns_after_the_effects(h: Harness, call: str) -> None:
    """CONTRACT 7: join and stop return after the callbacks of what they waited for, though it was over before."""
    queue = h.queue(workers=1)
    gate, callback = h.gate(), h.gate()
    wait = queue._await

    def late(waiter: Any, timeout: float | None) -> bool:
        h.until(lambda: waiter.is_done)
        return bool(wait(waiter, timeout))

    queue.start()
    queue.submit(Envelope(lambda ctx, e: gate.wait(ctx))).add_done_callback(callback.wait)
    h.until(lambda: gate.waiting)
    queue._await = late
    waiting = h.in_background(getattr(queue, call))
    h.until(lambda: queue._machine.joiners or queue.state.value == "stopping")
    gate.open()
    h.until(lambda: callback.waiting)
    h.pass_time(1)
    assert not waiting.done
    callback.open()
    waiting.result()
    queue._await = wait


@threads_only
def test_a_second_stop_returns_after_the_effects_of_the_first(h: Harness) -> None:
    """CONTRACT 7: a stop that was begun without waiting is over for the next stop when its effects were delivered."""
    queue = h.queue(workers=1)
    gate, callback = h.gate(), h.gate()
    queue.start()
    queue.submit(Envelope(lambda ctx, e: gate.wait(ctx))).add_done_callback(callback.wait)
    h.until(lambda: gate.waiting)
    queue.stop(wait=False)
    gate.open()
    h.until(lambda: callback.waiting)
    assert queue.state.value == "stopped"
    second = h.in_background(queue.stop)
    h.pass_time(1)
    assert not second.done
    assert queue.stop(wait=False).state.value == "stopped"
    callback.open()
    assert second.result() is queue.last_report
    assert queue.stop() is queue.last_report


class Stepping:
    """A clock on which a hundredth of a second passes with each look."""

    def __init__(self) -> None:
        self.looks = count()

    def now(self) -> float:
        return next(self.looks) / 100

    def wall_utc(self) -> Any:
        return datetime.now(UTC)


@threads_only
@pytest.mark.parametrize("timeout", [0.015, 0.025, 0.035, 0.045])
def test_time_that_passes_between_two_looks_at_the_clock(h: Harness, timeout: float) -> None:
    """CONTRACT 7: a stop whose time comes just as it is about to wait does not wait, and raises nothing."""
    queue = h.queue(workers=1, clock=Stepping())
    gate = h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, e: gate.wait(ctx)))
    h.until(lambda: gate.waiting)
    assert len(queue.stop(timeout=timeout, grace=0.02).abandoned) == 1


SOURCE = str(Path(rate_envelope_queue.__file__).parent)


def interrupted_at(nth: int, call: Any) -> bool:
    """Make *call*, with Ctrl-C at the *nth* place in the package at which Python looks for signals. Was there one?"""
    places = 0

    def look(frame: Any, event: str, arg: Any) -> None:
        nonlocal places
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(SOURCE):
            places += 1
            if places == nth:
                raise KeyboardInterrupt

    sys.setprofile(look)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    return places >= nth


@threads_only
@pytest.mark.parametrize("call", ["stats", "cancel", "detach"])
def test_ctrl_c_anywhere_keeps_no_lock(h: Harness, call: str) -> None:
    """CONTRACT 9: wherever Ctrl-C comes in a call, the queue goes on, and the next join and stop return."""
    for nth in range(1, 1000):
        queue = EnvelopeQueue("q", workers=1)
        queue.pause()
        queue.start()
        future = queue.submit(Envelope(h.handler(), key="it"))
        calls = {"stats": queue.stats, "cancel": lambda queue=queue: queue.cancel("it"), "detach": future.cancel}
        goes_on = interrupted_at(nth, calls[call])
        assert h.in_background(queue.stats).result().state.value == "running"
        h.in_background(queue.clear).result()
        assert h.in_background(lambda queue=queue: queue.join(PATIENCE)).result()
        assert h.in_background(queue.stop).result().kept == ()
        if not goes_on:
            return
