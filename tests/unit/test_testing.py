"""What the package gives to its users' tests: the virtual clock, the simulated queue, the helpers and the fixtures."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from rate_envelope_queue import (
    CapacityExceededError,
    Envelope,
    EnvelopeQueue,
    QueueState,
    QueueStateError,
    StopMode,
)
from rate_envelope_queue.testing import (
    SimulatedEnvelopeQueue,
    VirtualClock,
    assert_not_sent,
    assert_sent,
    sent,
)

PATIENCE = 20.0


def started(name: str = "q", **options: Any) -> SimulatedEnvelopeQueue:
    """A running simulated queue."""
    queue = SimulatedEnvelopeQueue(name, **options)
    queue.start()
    return queue


def sleeps(seconds: float, log: list[Any] | None = None, label: Any = None) -> Envelope[Any]:
    """An envelope that spends time; marks (label, begin, end)."""

    def invoke(ctx: Any, envelope: Any) -> Any:
        begun = ctx.queue.clock.now()
        ctx.queue.clock.sleep(seconds)
        if log is not None:
            log.append((label, begun, ctx.queue.clock.now()))
        return label

    return Envelope(invoke)


def calls(function: Callable[[], Any]) -> Envelope[Any]:
    return Envelope(lambda ctx, envelope: function())


EARLIER: list[threading.Thread] = []  # carriers that other tests left blocked in the middle of user code


@pytest.fixture(autouse=True)
def note_earlier_carriers() -> None:
    """Only the carriers of the test itself count."""
    EARLIER[:] = [thread for thread in threading.enumerate() if "carrier" in thread.name]


def carriers() -> list[threading.Thread]:
    """The threads on which simulated queues run user code."""
    return [thread for thread in threading.enumerate() if "carrier" in thread.name and thread not in EARLIER]


def no_carriers_left() -> None:
    """Check that the threads have ended; the one that handed back may need a moment for it."""
    for thread in carriers():
        thread.join(PATIENCE)
    assert carriers() == []


# The clock alone


def test_the_clock_moves_only_when_told() -> None:
    """now() begins at 0.0 and wall_utc() at 2024-01-01 UTC; both move by what advance and sleep are given, exactly."""
    clock = VirtualClock()
    assert (clock.now(), clock.wall_utc()) == (0.0, datetime(2024, 1, 1, tzinfo=UTC))
    clock.advance(2.5)
    clock.advance(timedelta(hours=1))
    clock.sleep(timedelta(milliseconds=500))
    clock.sleep(1)
    clock.advance(0)
    clock.run_until_idle()
    assert clock.now() == 3604.0
    assert clock.wall_utc() == datetime(2024, 1, 1, 1, 0, 4, tzinfo=UTC)
    assert repr(clock) == "<VirtualClock at 3604 s>"


def test_the_wall_clock_begins_where_it_is_told() -> None:
    """start_utc is any aware datetime and is shown in UTC; a naive one is refused."""
    local = datetime(2030, 6, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    clock = VirtualClock(local)
    assert clock.wall_utc() == local
    assert clock.wall_utc().tzinfo is UTC
    for bad in (datetime(2030, 6, 1), "2030-06-01", 0):
        with pytest.raises(ValueError, match="start_utc must be a timezone-aware datetime"):
            VirtualClock(bad)  # type: ignore[arg-type]


def test_the_wall_clock_jumps_alone() -> None:
    """jump_wall changes the date, forwards or backwards, and never monotonic time."""
    clock = VirtualClock()
    clock.advance(10)
    clock.jump_wall(3600)
    assert (clock.now(), clock.wall_utc()) == (10, datetime(2024, 1, 1, 1, 0, 10, tzinfo=UTC))
    clock.jump_wall(timedelta(days=-1))
    clock.advance(5)
    assert (clock.now(), clock.wall_utc()) == (15, datetime(2023, 12, 31, 1, 0, 15, tzinfo=UTC))


@pytest.mark.parametrize("method", ["advance", "sleep"])
@pytest.mark.parametrize("bad", [-1, -0.001, float("nan"), float("inf"), True, "1", None, timedelta(seconds=-1)])
def test_a_wrong_span_is_refused(method: str, bad: Any) -> None:
    """A negative span, NaN, infinity, bool or something else is refused by name, and no time has passed."""
    clock = VirtualClock()
    queue = started(clock=clock)
    for owner in [clock, queue] if method == "advance" else [clock]:
        with pytest.raises((TypeError, ValueError), match=r"^seconds must be"):
            getattr(owner, method)(bad)
    assert clock.now() == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), True, "1", None])
def test_a_wrong_jump_is_refused(bad: Any) -> None:
    """jump_wall refuses what is no number of seconds, by name."""
    clock = VirtualClock()
    with pytest.raises((TypeError, ValueError), match=r"^by must be"):
        clock.jump_wall(bad)
    assert clock.wall_utc() == datetime(2024, 1, 1, tzinfo=UTC)


def test_a_simulated_queue_needs_a_virtual_clock() -> None:
    """clock= of a simulated queue is a VirtualClock; without one it has its own."""
    from rate_envelope_queue.drivers.clock import SystemClock

    with pytest.raises(TypeError, match="clock must be a VirtualClock, not SystemClock"):
        SimulatedEnvelopeQueue("q", clock=SystemClock())  # type: ignore[arg-type]
    one, other = SimulatedEnvelopeQueue("one"), SimulatedEnvelopeQueue("other")
    assert one.clock is not other.clock
    one.advance(5)
    assert (one.clock.now(), other.clock.now()) == (5, 0)


def test_a_real_queue_may_have_a_virtual_clock() -> None:
    """A real queue with clock=VirtualClock() runs on real threads; the clock is only read."""
    with EnvelopeQueue("real", workers=1, clock=VirtualClock()) as queue:
        assert queue.submit(Envelope(lambda ctx, envelope: ctx.queue.clock.now())).result(PATIENCE) == 0.0


# Who may advance


def test_a_handler_cannot_advance_its_clock() -> None:
    """advance and run_until_idle inside a handler raise QueueStateError that names ctx.wait; sleep is the way."""
    queue = started()
    for bad in (lambda: queue.clock.advance(1), lambda: queue.advance(1), queue.run_until_idle):
        with pytest.raises(QueueStateError, match=r"ctx\.wait"):
            queue.submit(calls(bad)).result()
    assert queue.clock.now() == 0
    assert queue.submit(calls(lambda: queue.clock.sleep(1) or queue.clock.now())).result() == 1


def test_a_second_thread_cannot_advance_meanwhile() -> None:
    """While one thread advances the clock, another that tries raises QueueStateError, and harms nothing."""
    queue, errors = started(), []

    def other() -> None:
        try:
            queue.advance(1)
        except QueueStateError as error:
            errors.append(str(error))

    def handler() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(PATIENCE)

    queue.send(calls(handler), sleeps(3))
    queue.advance(10)
    assert errors == ["another thread is advancing this virtual clock"]
    assert (queue.clock.now(), queue.stats().succeeded) == (10, 2)


# Several queues on one clock


@pytest.mark.parametrize("advanced", [0, 1, 2])
def test_queues_on_one_clock_take_turns_in_a_fixed_order(advanced: int) -> None:
    """What is due at one instant runs in the order in which the queues were made, whoever is advanced and whenever
    each was started or sent to."""
    clock, log = VirtualClock(), []
    queues = [SimulatedEnvelopeQueue(name, clock=clock, workers=1) for name in "abc"]
    for queue in reversed(queues):
        queue.start()
        for number in range(2):
            queue.send(calls(lambda name=queue.name, number=number: log.append(name + str(number))), delay=5)
    queues[advanced].advance(5)
    assert log == ["a0", "a1", "b0", "b1", "c0", "c1"]


def test_queues_on_one_clock_move_together() -> None:
    """advance of one queue, or of the clock, goes through the due times of all, in order of time."""
    clock, log = VirtualClock(), []
    one, other = started("one", clock=clock), started("other", clock=clock)
    one.send(Envelope.every(2, lambda ctx, envelope: log.append((clock.now(), "one"))))
    other.send(Envelope.every(3, lambda ctx, envelope: log.append((clock.now(), "other"))))
    one.advance(4)
    clock.advance(2)
    assert log == [(0, "one"), (0, "other"), (2, "one"), (3, "other"), (4, "one"), (6, "one"), (6, "other")]


def test_a_handler_may_send_to_another_queue() -> None:
    """A handler's send to a queue on the same clock runs there at the same instant, without a further advance."""
    clock, log = VirtualClock(), []
    one, other = started("one", clock=clock), started("other", clock=clock)
    one.send(calls(lambda: other.send(calls(lambda: log.append(clock.now())))), delay=4)
    one.advance(4)
    assert log == [4]


@pytest.mark.parametrize("how", ["result", "join", "stop", "send_wait", "executor"])
def test_a_handler_may_block_on_another_queue(how: str) -> None:
    """A handler blocks on another queue that shares its clock until that is done, in virtual time: the other goes on
    meanwhile, and so do the other handlers of its own."""
    clock, log = VirtualClock(), []
    one, other = started("one", clock=clock), started("other", clock=clock, capacity=1, workers=1)
    first = other.submit(sleeps(7))

    def block() -> float:
        if how == "result":
            first.result()
        elif how == "join":
            assert other.join()
        elif how == "stop":
            assert other.stop().succeeded == 1
        elif how == "send_wait":
            assert other.send_wait(sleeps(0)) == 1
        else:
            first.result()
            with other.as_executor() as executor:
                executor.submit(abs, 1)
        return clock.now()

    blocked = one.submit(calls(block))
    one.send(sleeps(3, log, "meanwhile"))
    assert blocked.result() == 7
    assert log == [("meanwhile", 0, 3)]


def test_a_handler_that_blocks_with_a_timeout() -> None:
    """A handler's timeout on another queue is virtual: it passes, and the handler goes on at that instant."""
    clock = VirtualClock()
    one, other = started("one", clock=clock), started("other", clock=clock)
    slow = other.submit(sleeps(100))

    def block() -> tuple[Any, ...]:
        joined = other.join(timeout=2)
        at = clock.now()
        try:
            slow.result(timeout=3)
        except TimeoutError:
            return joined, at, clock.now()
        raise AssertionError

    assert one.submit(calls(block)).result() == (False, 2, 5)
    clock.advance(100)


def test_a_forgotten_queue_leaves_its_clock() -> None:
    """A clock does not keep its queues: a forgotten one is freed, and the others go on."""
    clock = VirtualClock()
    kept, forgotten = started("kept", clock=clock), started("forgotten", clock=clock)
    forgotten.send(Envelope.every(1, lambda ctx, envelope: None))
    clock.advance(3)
    no_carriers_left()
    watched = weakref.ref(forgotten)
    del forgotten
    gc.collect()
    assert watched() is None
    assert kept.submit(sleeps(1)).result() is None


# Time passes in handlers


@pytest.mark.parametrize(("workers", "ends"), [(1, [5, 10, 15]), (2, [5, 5, 10]), (3, [5, 5, 5])])
@pytest.mark.parametrize("way", ["clock.sleep", "ctx.wait"])
def test_handlers_that_wait_overlap_as_far_as_there_are_workers(workers: int, ends: list[int], way: str) -> None:
    """Three handlers of five seconds on one, two and three workers: they overlap in virtual time, and start in
    order."""
    queue, log = started(workers=workers), []

    def invoke(ctx: Any, envelope: Any) -> None:
        if way == "clock.sleep":
            queue.clock.sleep(5)
        else:
            assert ctx.wait(5) is False
        log.append((envelope.payload, queue.clock.now()))

    queue.send(*(Envelope(invoke, payload=number) for number in range(3)))
    queue.advance(4.999)
    assert (log, queue.stats().running) == ([], min(3, workers))
    queue.advance(20)
    assert log == list(enumerate(ends))


def test_a_handler_waits_across_several_advances() -> None:
    """A handler in the middle of a wait stays there between advances, and goes on exactly at its time; what else is
    due runs before it."""
    queue, log = started(workers=2), []
    queue.send(sleeps(10, log, "slow"))
    for _ in range(3):
        queue.advance(3)
        assert (log, queue.stats().running) == ([], 1)
    queue.send(calls(lambda: log.append(queue.clock.now())))
    queue.run_until_idle()
    queue.advance(1)
    assert log == [9, ("slow", 0, 10)]
    assert queue.stats().running == 0


def test_waits_that_end_at_one_instant_end_in_the_order_in_which_they_began() -> None:
    """Handlers that wake at the same instant go on in the order in which they began to wait."""
    queue, log = started(workers=3), []
    queue.send(sleeps(6, log, "a"))
    queue.advance(2)
    queue.send(sleeps(4, log, "b"), sleeps(4, log, "c"))
    queue.advance(4)
    assert [label for label, _, _ in log] == ["a", "b", "c"]


def test_ctx_wait_ends_with_the_context() -> None:
    """ctx.wait ends at the deadline, or when the queue cancels the run; clock.sleep does not care."""
    queue, log = started(workers=3), []

    def waits(ctx: Any, envelope: Any) -> None:
        log.append((ctx.wait(100), queue.clock.now()))

    queue.send(Envelope(waits, deadline=5), Envelope(waits), sleeps(20, log, "slept"))
    report = queue.stop(timeout=10, grace=50)
    assert log == [(True, 5), (True, 10), ("slept", 0, 20)]
    assert (report.timed_out, report.abandoned, queue.clock.now()) == (True, (), 20)


def test_run_until_idle_lets_no_time_pass() -> None:
    """run_until_idle runs what is ready, and what that sends, and nothing that needs time."""
    queue, log = started(workers=1), []
    queue.send(calls(lambda: queue.send(calls(lambda: log.append("sent by a handler")))))
    queue.send(calls(lambda: log.append("later")), delay=0.001)
    queue.run_until_idle()
    assert (log, queue.clock.now(), queue.stats().delayed) == (["sent by a handler"], 0, 1)


def test_nothing_runs_by_itself() -> None:
    """send and start run nothing: only advance, run_until_idle and calls that block do."""
    queue, log = SimulatedEnvelopeQueue("q"), []
    queue.send(calls(lambda: log.append(1)))
    queue.start()
    queue.send(calls(lambda: log.append(2)))
    assert (log, queue.stats().ready) == ([], 2)
    queue.advance(0)
    assert log == [1, 2]


# Calls that block


def test_blocking_calls_advance_only_as_far_as_they_must() -> None:
    """join, stop, terminate, send_wait and result let virtual time pass until they are satisfied, to the instant."""
    queue = started(capacity=1, workers=1)
    clock = queue.clock
    assert queue.submit(sleeps(5)).result() is None
    assert clock.now() == 5
    queue.send(sleeps(5), delay=3)
    assert queue.send_wait(sleeps(1)) == 1
    assert clock.now() == 13
    assert queue.join()
    assert clock.now() == 14
    queue.send(sleeps(2))
    assert queue.stop().succeeded == 1
    assert clock.now() == 16
    queue.start()
    queue.send(sleeps(4))
    queue.run_until_idle()
    assert queue.terminate().state is QueueState.TERMINATED
    assert clock.now() == 20


def test_timeouts_of_blocking_calls_are_virtual() -> None:
    """join, send_wait and result with a timeout give up at that virtual instant, and cost no real time."""
    queue = started(capacity=1)
    future = queue.submit(sleeps(100_000))
    assert queue.join(timeout=1000) is False
    assert queue.clock.now() == 1000
    with pytest.raises(CapacityExceededError):
        queue.send_wait(sleeps(1), timeout=1000)
    assert queue.clock.now() == 2000
    with pytest.raises(TimeoutError):
        future.result(timeout=1000)
    with pytest.raises(TimeoutError):
        future.exception(timeout=1000)
    assert queue.clock.now() == 4000
    queue.advance(100_000)


@pytest.mark.parametrize("call", ["join", "result", "exception", "send_wait", "run", "shutdown"])
def test_what_is_impossible_raises(call: str) -> None:
    """A blocking call that nothing could ever satisfy raises QueueStateError instead of hanging, and at once."""
    queue = started(capacity=1)
    queue.pause()
    executor = queue.as_executor()
    future = executor.submit(abs, -1)
    ways: dict[str, Callable[[], Any]] = {
        "join": queue.join,
        "result": future.result,
        "exception": future.exception,
        "send_wait": lambda: queue.send_wait(sleeps(1)),
        "run": queue.run,
        "shutdown": executor.shutdown,
    }
    with pytest.raises(QueueStateError, match="would never return"):
        ways[call]()
    assert queue.clock.now() == 0
    queue.resume()
    assert queue.join()
    assert (future.result(), queue.stats().accepted) == (1, 1)


def test_impossible_before_the_start_and_after_the_stop() -> None:
    """A future in INIT, or kept by a stop, cannot resolve: result raises; after start it comes."""
    queue = SimulatedEnvelopeQueue("q")
    future = queue.submit(sleeps(1, [], "done"))
    with pytest.raises(QueueStateError):
        future.result()
    queue.start()
    queue.stop(StopMode.STOP)
    with pytest.raises(QueueStateError):
        future.result()
    queue.start()
    assert future.result() == "done"


def test_handlers_that_wait_for_each_other_are_impossible() -> None:
    """Two handlers that wait for each other's queues: the caller's wait raises, and they can still be ended."""
    clock = VirtualClock()
    one, other = started("one", clock=clock, workers=1), started("other", clock=clock, workers=1)
    waiting: list[Any] = []
    waiting.append(one.submit(calls(lambda: waiting[1].result())))
    waiting.append(other.submit(calls(lambda: waiting[0].result())))
    with pytest.raises(QueueStateError, match="would never return"):
        waiting[0].result()
    assert (one.stats().running, other.stats().running) == (1, 1)
    one.stop(timeout=1, grace=1)
    other.stop(timeout=1, grace=1)
    assert clock.now() == 2  # the first abandonment resolved a future, so that the other handler ended
    clock.run_until_idle()
    no_carriers_left()


# KeyboardInterrupt


def interrupt() -> None:
    raise KeyboardInterrupt("of the user")


@pytest.mark.parametrize("place", ["invoke", "before_hook", "after_hook", "success_hook", "failure_hook", "periodic"])
def test_a_keyboard_interrupt_is_raised_once_the_run_is_settled(place: str) -> None:
    """KeyboardInterrupt of user code settles its run and is then raised to whoever advances; nothing is lost, and the
    next advance goes on where this one stopped."""
    queue, log = started(workers=1), []

    def invoke(ctx: Any, envelope: Any) -> None:
        if place in ("invoke", "periodic"):
            interrupt()
        if place == "failure_hook":
            raise ValueError

    options: dict[str, Any] = {"interval": 100} if place == "periodic" else {}
    if place.endswith("hook"):
        options[place] = lambda *args: interrupt()
    queue.send(Envelope(invoke, **options), delay=3)
    queue.send(calls(lambda: log.append(queue.clock.now())), delay=3)
    with pytest.raises(KeyboardInterrupt, match="of the user"):
        queue.advance(10)
    stats = queue.stats()
    succeeded = place in ("after_hook", "success_hook")
    assert (stats.running, stats.runs_succeeded, stats.runs_failed) == (0, succeeded, not succeeded)
    assert (stats.dropped, stats.delayed) == ((0, 1) if place == "periodic" else (not succeeded, 0))
    assert (log, queue.clock.now()) == ([], 3)
    queue.advance(10)
    assert (log, queue.clock.now()) == ([3], 13)


@pytest.mark.parametrize("call", ["run_until_idle", "join", "result", "stop", "terminate", "sleep"])
def test_a_keyboard_interrupt_is_raised_from_every_call_that_lets_time_pass(call: str) -> None:
    """Whoever lets time pass gets the KeyboardInterrupt; the future has it as well, and the call can be made again."""
    queue = started(workers=1)

    def invoke(ctx: Any, envelope: Any) -> None:
        ctx.wait(0 if call == "run_until_idle" else 1)
        interrupt()

    future = queue.submit(Envelope(invoke))
    if call == "terminate":
        queue.run_until_idle()
    made: dict[str, Callable[[], Any]] = {
        "run_until_idle": queue.run_until_idle,
        "join": queue.join,
        "result": future.result,
        "stop": queue.stop,
        "terminate": queue.terminate,
        "sleep": lambda: queue.clock.sleep(1),
    }
    with pytest.raises(KeyboardInterrupt, match="of the user"):
        made[call]()
    assert isinstance(future.exception(), KeyboardInterrupt)
    assert queue.stats().dropped == 1
    if call != "result":
        made[call]()


# Threads


def test_no_thread_is_left_after_an_advance() -> None:
    """When nothing waits in the middle of a handler, no thread is left once time has passed, also after an error."""
    queue = started(workers=8)
    queue.send(*(sleeps(number % 5) for number in range(50)), calls(interrupt))
    with pytest.raises(KeyboardInterrupt):
        queue.advance(100)
    queue.advance(100)
    no_carriers_left()
    assert queue.stats().running == 0


def test_no_thread_outlives_the_call_that_used_it() -> None:
    """The threads of an advance have ended when it returns: nothing of the queue goes on beside the test."""
    queue = started(workers=3)
    for _ in range(50):
        queue.send(sleeps(1), sleeps(2), sleeps(2))
        queue.advance(5)
        assert carriers() == []


def test_threads_wait_only_in_handlers() -> None:
    """One thread for each handler that waits, and no other; they go when the handlers end."""
    queue = started(workers=4)
    queue.send(*(sleeps(10) for _ in range(3)))
    queue.advance(1)
    for thread in carriers()[:-3]:
        thread.join(PATIENCE)
    assert len(carriers()) <= 4
    queue.advance(10)
    no_carriers_left()


def test_user_code_runs_one_at_a_time() -> None:
    """However many workers, handlers are never inside Python code at the same time: no lock is needed in tests."""
    queue = started(workers=8)
    inside, most = 0, 0

    def invoke(ctx: Any, envelope: Any) -> None:
        nonlocal inside, most
        for _ in range(20):
            inside += 1
            most = max(most, inside)
            inside -= 1
            ctx.wait(1)

    queue.send(*(Envelope(invoke) for _ in range(8)))
    queue.advance(100)
    assert (most, queue.stats().succeeded) == (1, 8)


# Determinism

PROGRAM = """
import random
from rate_envelope_queue import Envelope, StopMode, retry_after, retry_now, retry_with_backoff
from rate_envelope_queue.schedules import every, fixed_rate
from rate_envelope_queue.testing import SimulatedEnvelopeQueue, VirtualClock

clock, dice = VirtualClock(), random.Random(7)
one = SimulatedEnvelopeQueue("one", clock=clock, workers=3, capacity=40)
two = SimulatedEnvelopeQueue("two", clock=clock, workers=2, start_rate=5)

def mark(*words):
    print(f"{clock.now():.9f}", *words)

def invoke(ctx, envelope):
    mark(ctx.queue.name, "run", envelope.payload, ctx.attempt)
    if dice.random() < 0.6:
        ctx.wait(dice.random() * 3)
    if dice.random() < 0.3:
        two.send(Envelope(invoke, payload=f"from {envelope.payload}", failure_hook=failure), delay=dice.random())
    if dice.random() < 0.3:
        raise ValueError(envelope.payload)
    mark(ctx.queue.name, "end", envelope.payload)

def failure(ctx, envelope, error):
    return dice.choice([None, retry_now(), retry_after(2), retry_with_backoff()])

for name in {"alpha", "beta", "gamma"}:          # a set of strings: its order depends on the hash seed
    one.send(Envelope(print, key=name, type=name), delay=1000)
for queue in (one, two):
    queue.start()
    for number in range(10):
        queue.send(Envelope(invoke, payload=f"{queue.name}{number}", failure_hook=failure, key=f"key{number}"))
    queue.send(Envelope(invoke, payload=f"jitter {queue.name}", schedule=every(4, jitter=3)))
    queue.send(Envelope(invoke, payload=f"grid {queue.name}", schedule=fixed_rate(3, jitter=1)))
for step in range(20):
    clock.advance(dice.random() * 2)
    if dice.random() < 0.3:
        mark("cancelled", one.cancel(f"key{dice.randrange(10)}"))
mark("stopped", sorted(map(str, (e.payload for e in one.stop(StopMode.STOP, timeout=1).kept if e.payload))))
one.start()
clock.advance(20)
mark(one.stats(), two.stats(), len(one.dead_letters()))
"""


def test_the_same_program_gives_the_same_trace_byte_for_byte(tmp_path: Path) -> None:
    """I-18: retries, jitter, waits, two queues on one clock, stops: the same trace whatever the hash seed is."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    traces = []
    processes = [
        subprocess.Popen(
            [sys.executable, str(program)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for seed in ("0", "1", "4321")
    ]
    for process in processes:
        trace, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
        traces.append(trace)
    assert len(traces[0].splitlines()) > 100
    assert traces[0] == traces[1] == traces[2]


def test_the_same_program_twice_in_one_process() -> None:
    """Two queues made alike behave alike, jitter and backoff included, whatever ran before in the process."""

    def trace() -> list[Any]:
        from rate_envelope_queue import retry_with_backoff
        from rate_envelope_queue.schedules import every

        queue, log = started(workers=2), []

        def fails(ctx: Any, envelope: Any) -> None:
            log.append((queue.clock.now(), ctx.attempt))
            if ctx.attempt < 5:
                raise ValueError

        queue.send(Envelope(lambda ctx, envelope: log.append(queue.clock.now()), schedule=every(1, jitter=10)))
        queue.send(Envelope(fails, failure_hook=lambda ctx, envelope, error: retry_with_backoff()))
        queue.advance(100)
        return log

    first = trace()
    assert len(first) > 15
    assert trace() == first


# Helpers


def email(payload: Any = None, **options: Any) -> Envelope[Any]:
    return Envelope(lambda ctx, envelope: None, type="email", payload=payload, **options)


def test_sent_finds_by_type_payload_and_key() -> None:
    """sent lists what matches, in order of acceptance, by any combination; without conditions, everything."""
    queue = SimulatedEnvelopeQueue("q")
    ann, bob = email("ann", key=1), email("bob")
    none = Envelope(lambda ctx, envelope: None, type="report")
    queue.send(ann, bob, none)
    found = {
        "all": sent(queue),
        "type": sent(queue, type="email"),
        "payload": sent(queue, payload="bob"),
        "no payload": sent(queue, payload=None),
        "key": sent(queue, key=1),
        "no key": sent(queue, type="email", key=None),
        "none": sent(queue, type="email", payload="eve"),
    }
    assert {name: [view.envelope for view in views] for name, views in found.items()} == {
        "all": [ann, bob, none],
        "type": [ann, bob],
        "payload": [bob],
        "no payload": [none],
        "key": [ann],
        "no key": [bob],
        "none": [],
    }


def test_sent_looks_at_any_queue_in_any_state() -> None:
    """sent works on real queues too, and sees more entries than a snapshot shows by default, and what is delayed."""
    queue = EnvelopeQueue("real", workers=1)
    queue.send(*(email(number) for number in range(1500)))
    queue.send(email("later"), delay=50)
    assert len(sent(queue, type="email")) == 1501
    assert [view.phase for view in sent(queue, payload="later")] == ["delayed"]
    queue.clear()
    assert sent(queue) == []


def test_assert_sent_passes_and_returns_what_it_found() -> None:
    """assert_sent returns the entries; count= wants exactly so many, 0 included."""
    queue = SimulatedEnvelopeQueue("q")
    first, second = email(1), email(2)
    queue.send(first, second)
    assert [view.envelope for view in assert_sent(queue, type="email")] == [first, second]
    assert [view.envelope for view in assert_sent(queue, type="email", count=2)] == [first, second]
    assert assert_sent(queue, payload=2, count=1)[0].attempt == 1
    assert assert_sent(queue, type="fax", count=0) == []


def test_assert_sent_says_what_is_there_instead() -> None:
    """assert_sent fails with what was wanted, what was found and what the queue holds, bounded."""
    queue = SimulatedEnvelopeQueue("q")
    with pytest.raises(AssertionError, match=r"expected at least 1 entry to match, found 0; the queue holds \[\]"):
        assert_sent(queue)
    queue.send(*(email(number) for number in range(50)))
    for count, wanted in ((3, "expected 3 entries to match, found 50"), (0, "expected 0 entries to match, found 50")):
        with pytest.raises(AssertionError, match=wanted) as caught:
            assert_sent(queue, type="email", count=count)
        assert "<Envelope 'email'>" in str(caught.value)
        assert len(str(caught.value)) < 2000


def test_assert_not_sent() -> None:
    """assert_not_sent passes when nothing matches, and fails when something does."""
    queue = SimulatedEnvelopeQueue("q")
    queue.send(email("ann"))
    assert_not_sent(queue, type="fax")
    assert_not_sent(queue, type="email", payload="bob")
    with pytest.raises(AssertionError, match="expected 0 entries to match, found 1"):
        assert_not_sent(queue, type="email")


# The pytest plugin

USERS_TESTS = """
import threading
from rate_envelope_queue import Envelope, QueueState, retry_after
from rate_envelope_queue.testing import SimulatedEnvelopeQueue, VirtualClock

kept = []

def test_retries(simulated_queue):
    failures = iter([ValueError(), None])
    def flaky(ctx, envelope):
        error = next(failures)
        if error:
            raise error
    simulated_queue.send(Envelope(flaky, failure_hook=lambda ctx, envelope, error: retry_after(60)))
    simulated_queue.advance(59)
    assert simulated_queue.stats().succeeded == 0
    simulated_queue.advance(1)
    assert simulated_queue.stats().succeeded == 1
    kept.append(simulated_queue)

def test_each_test_has_its_own(simulated_queue, virtual_clock):
    assert simulated_queue is not kept[0]
    assert kept[0].state is QueueState.TERMINATED
    assert isinstance(simulated_queue, SimulatedEnvelopeQueue) and isinstance(virtual_clock, VirtualClock)
    assert simulated_queue.state is QueueState.RUNNING
    assert simulated_queue.clock is virtual_clock
    virtual_clock.advance(5)
    assert simulated_queue.clock.now() == 5

def test_what_is_left_is_returned(simulated_queue):
    simulated_queue.send(Envelope(print), delay=1000)
    kept.append(simulated_queue)

def test_it_was_returned():
    assert kept[-1].stats().returned == 1

def test_a_handler_is_left_in_the_middle(simulated_queue):
    simulated_queue.send(Envelope(lambda ctx, envelope: ctx.wait(1000)))
    simulated_queue.advance(1)
    assert simulated_queue.stats().running == 1
    kept.append(simulated_queue)

def test_it_was_let_go():
    assert kept[-1].state is QueueState.TERMINATED
    assert kept[-1].stats().running == 0
    for thread in threading.enumerate():
        if "carrier" in thread.name:
            thread.join(1)
            assert not thread.is_alive()
"""


def test_the_fixtures_come_with_the_package(tmp_path: Path) -> None:
    """The plugin is found by its entry point: simulated_queue is started, on virtual_clock, its own for each test; it
    is terminated at the end, and handlers left in the middle of a wait are let go, with their threads."""
    (tmp_path / "test_users.py").write_text(USERS_TESTS)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "-rA", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "6 passed" in ran.stdout


def test_the_fixture_itself(simulated_queue: SimulatedEnvelopeQueue, virtual_clock: VirtualClock) -> None:
    """The fixtures work in this suite as in anybody's."""
    assert simulated_queue.submit(sleeps(3, [], "done")).result() == "done"
    assert virtual_clock.now() == 3
