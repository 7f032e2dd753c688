"""`queue.as_executor()` is a real `concurrent.futures.Executor`: what code written for the standard library relies on.

What CONTRACT rules about executors is shown here beside it; the rulings that hold on every driver alike are also in
tests/conformance/test_i_rulings_executor.py.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import logging
import operator
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, Executor, Future, as_completed, wait
from typing import Any

import pytest

from rate_envelope_queue import (
    Cancelled,
    CapacityExceededError,
    DeadlineExceeded,
    Envelope,
    EnvelopeQueue,
    Outcome,
    QueueNotRunningError,
    QueueState,
    QueueStateError,
    QueueTerminatedError,
    RetryEnvelope,
    StopEnvelope,
    StopMode,
)
from rate_envelope_queue.testing import SimulatedEnvelopeQueue

PATIENCE = 20.0  # real seconds after which something has hung
LOG = "rate_envelope_queue"

Make = Callable[..., Any]


class Gate:
    """Holds functions until it is opened; tells how many are inside."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)

    def pass_through(self, value: Any = None) -> Any:
        self.entered.release()
        assert self.opened.wait(PATIENCE), "nobody opened the gate"
        return value

    def await_entry(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE), "the function was never called"

    def open(self) -> None:
        self.opened.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes running thread queues; they are terminated, and their threads are gone, when the test is over."""
    before = set(threading.enumerate())
    queues: list[Any] = []

    def make(kind: type[Any] = EnvelopeQueue, *, started: bool = True, **options: Any) -> Any:
        queue = kind("work", **{"workers": 2, **options})
        queues.append(queue)
        if started:
            queue.start()
        return queue

    yield make
    for queue in queues:
        queue.terminate(timeout=PATIENCE, grace=0)
        stats = queue.stats()
        ended = stats.succeeded + stats.stopped + stats.dropped + stats.returned + stats.abandoned
        assert (stats.accepted, stats.abandoned) == (ended, 0)
    for thread in set(threading.enumerate()) - before:
        if "watchdog" not in thread.name:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread} outlived its test"


@pytest.fixture
def queue(make: Make) -> Any:
    return make()


@pytest.fixture
def executor(queue: Any) -> Executor:
    return queue.as_executor()


@pytest.fixture(params=["threads", "simulated"])
def either(request: pytest.FixtureRequest, make: Make) -> Any:
    """A running queue of either kind, for what needs no real thread to wait beside another."""
    return make(EnvelopeQueue if request.param == "threads" else SimulatedEnvelopeQueue)


def until(condition: Callable[[], Any]) -> None:
    """Wait for what another thread is about to do."""
    tick = threading.Event()
    for _ in range(int(PATIENCE / 0.001)):
        if condition():
            return
        tick.wait(0.001)
    raise AssertionError("it never came true")


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def fail(error: BaseException) -> Any:
    raise error


# submit


def test_is_an_executor_of_real_futures(either: Any) -> None:
    """as_executor gives an Executor of the standard library, and submit one of its Futures."""
    executor = either.as_executor()
    assert isinstance(executor, Executor)
    future = executor.submit(pow, 2, 8)
    assert isinstance(future, Future)
    assert future.result(PATIENCE) == 256
    assert (future.done(), future.running(), future.cancelled(), future.exception()) == (True, False, False, None)


def test_submit_passes_arguments_through(either: Any) -> None:
    """submit: any positional and keyword arguments reach the function, also ones named as its own parameters."""
    executor = either.as_executor()
    assert executor.submit(echo).result(PATIENCE) == ((), {})
    assert executor.submit(echo, 1, self=2, fn=3, ctx=4, envelope=5).result(PATIENCE) == (
        (1,),
        {"self": 2, "fn": 3, "ctx": 4, "envelope": 5},
    )


def test_submit_needs_a_function() -> None:
    """submit: without a function, with it as a keyword, or with what cannot be called: TypeError, and nothing is
    taken in."""
    queue = EnvelopeQueue("work")
    executor: Any = queue.as_executor()
    for call in (executor.submit, lambda: executor.submit(fn=echo), lambda: executor.submit(17)):
        with pytest.raises(TypeError):
            call()
    assert queue.stats().accepted == 0


def test_a_function_gets_no_context_and_keeps_its_name(executor: Executor) -> None:
    """submit: the function is called as it is, on a thread of the queue's, with the arguments given and no others."""
    assert executor.submit(lambda: threading.current_thread().name).result(PATIENCE).startswith("work-")


def test_many_more_functions_than_workers(make: Make, gate: Gate) -> None:
    """submit: a function that waits occupies a worker; all the others wait, and each is called once."""
    executor = make(workers=3).as_executor()
    futures = [executor.submit(gate.pass_through, number) for number in range(100)]
    gate.await_entry(3)
    assert not gate.entered.acquire(blocking=False)
    gate.open()
    assert [future.result(PATIENCE) for future in futures] == list(range(100))
    gate.await_entry(97)
    assert not gate.entered.acquire(blocking=False)


def test_from_many_threads(make: Make) -> None:
    """submit: may be called from any number of threads at once; each result comes to its own future."""
    executor = make(workers=3).as_executor()
    found: list[list[int]] = [[] for _ in range(8)]
    line = threading.Barrier(8)

    def submit(row: int) -> None:
        line.wait(PATIENCE)
        futures = [executor.submit(operator.add, row * 1000, number) for number in range(100)]
        found[row] = [future.result(PATIENCE) for future in futures]

    threads = [threading.Thread(target=submit, args=(row,)) for row in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == [[row * 1000 + number for number in range(100)] for row in range(8)]


def test_runs_in_order_with_what_the_queue_was_sent(make: Make) -> None:
    """submit: a function is an ordinary entry: with one worker it takes its turn among envelopes."""
    queue = make(SimulatedEnvelopeQueue, workers=1)
    executor, ran = queue.as_executor(), []
    executor.submit(ran.append, 1)
    queue.send(Envelope(lambda ctx, envelope: ran.append(2)))
    executor.submit(ran.append, 3)
    queue.run_until_idle()
    assert ran == [1, 2, 3]


def test_obeys_the_start_rate_and_the_stamps_of_the_queue(make: Make) -> None:
    """submit: the queue's start rate and stamps apply to functions as to envelopes."""
    started: list[float] = []

    def stamp(following: Any) -> Any:
        def invoke(ctx: Any, envelope: Any) -> Any:
            started.append(ctx.queue.clock.now())
            return following(ctx, envelope)

        return invoke

    queue = make(SimulatedEnvelopeQueue, start_rate=2, stamps=(stamp,))
    assert list(queue.as_executor().map(abs, [-1, -2, -3])) == [1, 2, 3]
    assert started == [0, 0.5, 1]


def test_before_the_start_functions_wait(make: Make) -> None:
    """submit: to a queue that has not started, functions wait; they run when it starts."""
    queue = make(started=False)
    future = queue.as_executor().submit(abs, -3)
    assert (future.done(), future.running(), queue.stats().buffered) == (False, False, 1)
    queue.start()
    assert future.result(PATIENCE) == 3


# map


def test_map_in_the_order_of_its_input(make: Make, gate: Gate) -> None:
    """map: results come in the order of the input, whatever the order in which the calls end."""
    executor, ended = make(workers=3).as_executor(), threading.Semaphore(0)

    def work(number: int) -> int:
        if number == 0:
            assert ended.acquire(timeout=PATIENCE)
            assert ended.acquire(timeout=PATIENCE)
        else:
            ended.release()
        return number

    assert list(executor.map(work, range(3))) == [0, 1, 2]


def test_map_with_several_inputs_and_chunks(either: Any) -> None:
    """map: several inputs, as long as the shortest; chunksize is accepted and changes nothing; empty gives nothing."""
    executor = either.as_executor()
    assert list(executor.map(pow, [2, 3, 4], [5, 2, 1, 7])) == [32, 9, 4]
    assert list(executor.map(pow, range(40), [2] * 40, chunksize=7)) == [number**2 for number in range(40)]
    assert list(executor.map(pow, [], [])) == []


def test_map_raises_where_the_error_was(either: Any) -> None:
    """map: the results before a failure come; then its error is raised, and the iterator is over."""
    results = either.as_executor().map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert [next(results), next(results)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_submits_at_once(make: Make) -> None:
    """map: all calls are submitted by map itself, before the first result is asked for."""
    queue = make(started=False)
    results = queue.as_executor().map(abs, [-1, -2, -3])
    assert len(queue) == 3
    queue.start()
    assert list(results) == [1, 2, 3]


def test_map_times_out(make: Make, gate: Gate) -> None:
    """map: what is ready within the timeout comes; then TimeoutError, and what has not begun is cancelled."""
    queue = make(workers=1)
    calls: list[int] = []

    def work(number: int) -> int:
        calls.append(number)
        return gate.pass_through(number) if number == 2 else number

    results = queue.as_executor().map(work, [1, 2, 3], timeout=0.2)
    assert next(results) == 1
    gate.await_entry()
    with pytest.raises(TimeoutError):
        next(results)
    assert len(queue) == 1
    gate.open()
    assert queue.join(PATIENCE)
    assert calls == [1, 2]


def test_map_that_is_given_up_cancels_what_waits(make: Make, gate: Gate) -> None:
    """map: whoever closes its iterator cancels what has not begun."""
    queue, calls = make(workers=1), []

    def work(number: int) -> int:
        calls.append(number)
        return gate.pass_through(number) if number else number

    results: Any = queue.as_executor().map(work, range(10))
    assert next(results) == 0
    gate.await_entry()
    results.close()
    assert len(queue) == 1
    gate.open()
    assert queue.join(PATIENCE)
    assert calls == [0, 1]


# Futures: cancelling, running, callbacks


def test_cancel_while_it_waits(make: Make, gate: Gate) -> None:
    """cancel: what waits is cancelled, never called, and leaves the queue at once; cancelling it again is True."""
    queue = make(workers=1)
    executor, calls = queue.as_executor(), []
    running = executor.submit(gate.pass_through)
    gate.await_entry()
    waiting = executor.submit(calls.append, 1)
    assert (running.running(), waiting.running()) == (True, False)
    assert waiting.cancel()
    assert waiting.cancel()
    assert (waiting.cancelled(), waiting.done(), waiting.running(), len(queue)) == (True, True, False, 1)
    with pytest.raises(concurrent.futures.CancelledError):
        waiting.result()
    with pytest.raises(concurrent.futures.CancelledError):
        waiting.exception()
    gate.open()
    assert queue.join(PATIENCE)
    assert calls == []


def test_cancel_while_it_runs_and_after(executor: Executor, gate: Gate) -> None:
    """cancel: what runs or is over cannot be cancelled, and its result comes."""
    future = executor.submit(gate.pass_through, 5)
    gate.await_entry()
    assert (future.cancel(), future.cancelled(), future.running(), future.done()) == (False, False, True, False)
    gate.open()
    assert future.result(PATIENCE) == 5
    assert (future.cancel(), future.cancelled(), future.running(), future.done()) == (False, False, False, True)


def test_result_and_exception_time_out(executor: Executor, gate: Gate) -> None:
    """result, exception: TimeoutError when the time passes, and the function is left alone."""
    future = executor.submit(gate.pass_through, 5)
    gate.await_entry()
    for ask in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            ask(0.01)
        with pytest.raises(concurrent.futures.TimeoutError):
            ask(0)
    gate.open()
    assert (future.result(PATIENCE), future.exception(0)) == (5, None)


def test_callbacks_in_order_and_once(make: Make) -> None:
    """add_done_callback: called once each, with the future, in order; after the end at once, by whoever adds it."""
    queue = make(started=False)
    future, called = queue.as_executor().submit(abs, -1), []
    for name in "abc":
        future.add_done_callback(lambda done, name=name: called.append((name, done is future, done.result(0))))
    assert called == []
    queue.start()
    until(lambda: len(called) == 3)
    assert called == [("a", True, 1), ("b", True, 1), ("c", True, 1)]
    threads: list[Any] = []
    future.add_done_callback(lambda done: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


def test_callbacks_of_a_failed_and_of_a_cancelled_one(make: Make) -> None:
    """add_done_callback: called after a failure, and by cancel itself."""
    queue = make(started=False)
    executor, called = queue.as_executor(), []
    failed, cancelled = executor.submit(fail, ValueError("no")), executor.submit(abs, 1)
    failed.add_done_callback(lambda done: called.append(type(done.exception())))
    cancelled.add_done_callback(lambda done: called.append(done.cancelled()))
    assert cancelled.cancel()
    assert called == [True]
    queue.start()
    until(lambda: len(called) == 2)
    assert called == [True, ValueError]


def test_a_callback_that_raises(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """add_done_callback: one that raises is logged as by the standard library; the others are called, the queue goes
    on."""
    queue = make(started=False)
    executor, called = queue.as_executor(), []
    future = executor.submit(abs, -1)
    future.add_done_callback(lambda done: called.append(1))
    future.add_done_callback(lambda done: fail(ValueError("a callback of the user's")))
    future.add_done_callback(lambda done: called.append(3))
    queue.start()
    until(lambda: len(called) == 2)
    assert executor.submit(abs, -2).result(PATIENCE) == 2
    assert called == [1, 3]
    (record,) = caplog.records
    assert record.name == "concurrent.futures"
    assert "a callback of the user's" in caplog.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_callback_that_raises_a_base_exception(
    make: Make, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """add_done_callback: not even a BaseException of a callback harms a worker: it is reported."""
    queue = make(started=False, workers=1)
    executor = queue.as_executor()
    future = executor.submit(abs, -1)
    future.add_done_callback(lambda done: fail(error("a callback of the user's")))
    queue.start()
    assert executor.submit(abs, -2).result(PATIENCE) == 2
    assert future.result(0) == 1
    assert [record.name for record in caplog.records] == [LOG]
    assert "a callback of the user's" in caplog.text


def test_a_callback_that_interrupts_cancel(make: Make) -> None:
    """cancel: a callback that raises a BaseException raises from cancel, but the future is over for those who wait."""
    queue = make(started=False)
    future = queue.as_executor().submit(abs, -1)
    future.add_done_callback(lambda done: fail(SystemExit(3)))
    with pytest.raises(SystemExit):
        future.cancel()
    assert future.cancelled()
    assert wait([future], timeout=0.05).done == {future}
    assert list(as_completed([future], timeout=0.05)) == [future]


def test_a_callback_may_submit(either: Any) -> None:
    """add_done_callback: a callback may submit more to the same executor."""
    executor, more = either.as_executor(), []
    done = threading.Event()

    def follow(future: Any) -> None:
        more.append(executor.submit(operator.add, future.result(), 1))
        done.set()

    first = executor.submit(abs, -1)
    first.add_done_callback(follow)
    assert first.result(PATIENCE) == 1
    assert done.wait(PATIENCE)
    assert more[0].result(PATIENCE) == 2


# wait and as_completed


def test_wait_for_the_first(executor: Executor, gate: Gate) -> None:
    """wait(FIRST_COMPLETED): returns with what is done as soon as one is, also when one was before."""
    slow, quick = executor.submit(gate.pass_through), executor.submit(abs, -1)
    assert wait([slow, quick], PATIENCE, FIRST_COMPLETED) == ({quick}, {slow})
    assert wait([slow, quick], PATIENCE, FIRST_COMPLETED) == ({quick}, {slow})


def test_wait_for_the_first_exception(make: Make, gate: Gate) -> None:
    """wait(FIRST_EXCEPTION): returns at the first failure; a success does not end the wait."""
    executor = make(workers=3).as_executor()
    slow, quick, bad = executor.submit(gate.pass_through), executor.submit(abs, -1), executor.submit(fail, OSError())
    quick.result(PATIENCE)
    assert wait([slow, quick, bad], PATIENCE, FIRST_EXCEPTION) == ({quick, bad}, {slow})
    assert wait([slow, bad], PATIENCE, FIRST_EXCEPTION) == ({bad}, {slow})
    gate.open()
    assert wait([slow, quick], PATIENCE, FIRST_EXCEPTION) == ({slow, quick}, set())


def test_wait_for_all(make: Make, gate: Gate) -> None:
    """wait(ALL_COMPLETED): returns when all are done: succeeded, failed or cancelled, which counts at once."""
    executor = make(workers=1).as_executor()
    slow, bad, cancelled = executor.submit(gate.pass_through), executor.submit(fail, OSError()), executor.submit(abs, 1)
    gate.await_entry()
    assert cancelled.cancel()
    assert wait([cancelled], 0) == ({cancelled}, set())
    assert wait([slow, bad, cancelled], 0.02, ALL_COMPLETED) == ({cancelled}, {slow, bad})
    gate.open()
    assert wait([slow, bad, cancelled], PATIENCE, ALL_COMPLETED) == ({slow, bad, cancelled}, set())


def test_wait_sees_what_is_cancelled_meanwhile(make: Make, gate: Gate) -> None:
    """wait: a future that another thread cancels while the caller waits ends its wait."""
    executor = make(workers=1).as_executor()
    executor.submit(gate.pass_through)
    gate.await_entry()
    waiting = executor.submit(abs, 1)
    found: list[Any] = []
    waiter = threading.Thread(target=lambda: found.append(wait([waiting], PATIENCE)))
    waiter.start()
    until(lambda: waiting._waiters)  # type: ignore[attr-defined]
    assert waiting.cancel()
    waiter.join(PATIENCE)
    assert found == [({waiting}, set())]


def test_as_completed_in_the_order_of_their_ends(make: Make, gate: Gate) -> None:
    """as_completed: gives each as it ends: first those that are over, then the others."""
    executor = make(workers=2).as_executor()
    slow, quick, cancelled = executor.submit(gate.pass_through, 1), executor.submit(abs, -2), executor.submit(abs, -3)
    cancelled.cancel()
    quick.result(PATIENCE)
    completed = as_completed([slow, quick, cancelled], PATIENCE)
    assert {next(completed), next(completed)} == {quick, cancelled}
    gate.open()
    assert list(completed) == [slow]


def test_as_completed_times_out(executor: Executor, gate: Gate) -> None:
    """as_completed: those that are over come even with timeout 0; then TimeoutError says how many did not finish."""
    slow, quick = executor.submit(gate.pass_through), executor.submit(abs, -1)
    quick.result(PATIENCE)
    for timeout in (0, 0.01):
        completed = as_completed([slow, quick], timeout)
        assert next(completed) is quick
        with pytest.raises(TimeoutError, match=r"1 \(of 2\)"):
            next(completed)


def test_as_completed_gives_duplicates_once(executor: Executor) -> None:
    """as_completed: a future given several times comes once."""
    future = executor.submit(abs, -1)
    assert list(as_completed(itertools.repeat(future, 3), PATIENCE)) == [future]


# Failures belong to their futures


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SystemExit(2),
        KeyboardInterrupt("user"),
        GeneratorExit(),
        asyncio.CancelledError(),
        concurrent.futures.CancelledError(),
        StopIteration(1),
        MemoryError(),
        ExceptionGroup("both", [ValueError(1), TypeError(2)]),
        StopEnvelope("enough"),
        RetryEnvelope(after=0),
        RetryEnvelope(),
        Cancelled("by the user"),
        DeadlineExceeded("by the user"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_reaches_its_future_and_nobody_else(
    make: Make, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """An executor's failures belong to its futures: the very exception, of any class, called once, no dead letter, no
    log record; the worker lives."""
    caplog.set_level(logging.INFO, LOG)
    queue = make(workers=1)
    executor, calls = queue.as_executor(), []

    def work() -> None:
        calls.append(threading.current_thread())
        raise error

    future = executor.submit(work)
    assert future.exception(PATIENCE) is error
    with pytest.raises(type(error)):
        future.result(0)
    assert executor.submit(threading.current_thread).result(PATIENCE) is calls[0]
    assert (len(calls), queue.dead_letters(), caplog.records) == (1, (), [])
    stats = queue.stats()
    ended = {Outcome.STOPPED: stats.stopped, Outcome.DROPPED: stats.dropped}
    assert ended[Outcome.STOPPED if isinstance(error, StopEnvelope) else Outcome.DROPPED] == 1


def test_a_failure_of_an_envelope_is_told_beside_it(queue: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Only the executor's own failures are quiet: an envelope's on the same queue is a dead letter and a warning."""
    executor = queue.as_executor()
    queue.send(Envelope(lambda ctx, envelope: fail(ValueError("loud")), type="loud"))
    assert isinstance(executor.submit(fail, ValueError("quiet")).exception(PATIENCE), ValueError)
    assert queue.join(PATIENCE)
    assert [letter.envelope.type for letter in queue.dead_letters()] == ["loud"]
    assert "quiet" not in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_failure_shows_where_it_was_raised(executor: Executor) -> None:
    """The exception carries the traceback of the function, and where result() was called."""

    def the_function_of_the_user() -> None:
        fail(RuntimeError("here"))

    future = executor.submit(the_function_of_the_user)
    with pytest.raises(RuntimeError) as caught:
        future.result(PATIENCE)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[0] == "test_a_failure_shows_where_it_was_raised"
    assert names[-2:] == ["the_function_of_the_user", "fail"]


def test_a_coroutine_function_gives_its_coroutine(executor: Executor) -> None:
    """A coroutine function is a function like any other here, as in the standard library: its result is a coroutine."""

    async def work() -> int:
        return 7

    coroutine: Any = executor.submit(work).result(PATIENCE)
    assert asyncio.run(coroutine) == 7


# Shutdown


def test_shutdown_waits_for_all_that_was_submitted(make: Make, gate: Gate) -> None:
    """shutdown(): waits for what runs and what waits; nothing is lost."""
    executor = make(workers=1).as_executor()
    futures = [executor.submit(gate.pass_through, number) for number in range(5)]
    gate.await_entry()
    opener = threading.Timer(0.01, gate.open)
    opener.start()
    executor.shutdown()
    assert [future.result(0) for future in futures] == list(range(5))
    opener.join()


def test_shutdown_without_waiting_loses_nothing(make: Make, gate: Gate) -> None:
    """shutdown(wait=False): returns at once, takes no more, and what was submitted is done all the same."""
    executor = make(workers=1).as_executor()
    futures = [executor.submit(gate.pass_through, number) for number in range(3)]
    executor.shutdown(wait=False)
    assert not any(future.done() for future in futures)
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)
    gate.open()
    assert [future.result(PATIENCE) for future in futures] == [0, 1, 2]


@pytest.mark.parametrize("waits", [True, False])
def test_shutdown_that_cancels(make: Make, gate: Gate, waits: bool) -> None:
    """shutdown(cancel_futures=True): what waits is cancelled and never called, what runs goes on to its end."""
    executor = make(workers=2).as_executor()
    running = [executor.submit(gate.pass_through, number) for number in range(2)]
    gate.await_entry(2)
    waiting = [executor.submit(gate.pass_through, number) for number in range(10)]
    opener = threading.Timer(0.01, gate.open)
    opener.start()
    executor.shutdown(wait=waits, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    assert [future.result(0 if waits else PATIENCE) for future in running] == [0, 1]
    opener.join()
    assert not gate.entered.acquire(blocking=False)


def test_after_a_shutdown(either: Any) -> None:
    """After shutdown, submit and map raise RuntimeError and take nothing in; a second shutdown is fine, in any form."""
    executor = either.as_executor()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(abs, 1)
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.map(abs, [1])
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)
    assert either.stats().accepted == 0


def test_shutdown_affects_only_its_own_futures(make: Make, gate: Gate) -> None:
    """shutdown(cancel_futures=True) touches no envelope and no other executor of the queue, nor the queue itself."""
    queue, ran = make(workers=1), []
    mine, other = queue.as_executor(), queue.as_executor()
    assert mine is not other
    holder = other.submit(gate.pass_through)
    gate.await_entry()
    queue.send(Envelope(lambda ctx, envelope: ran.append("envelope")))
    kept, submitted = other.submit(abs, -4), queue.submit(Envelope(lambda ctx, envelope: "submitted"))
    dropped = mine.submit(abs, -5)
    mine.shutdown(cancel_futures=True)  # does not wait for the others: the gate is closed
    assert (dropped.cancelled(), holder.done(), queue.state) == (True, False, QueueState.RUNNING)
    gate.open()
    assert (kept.result(PATIENCE), submitted.result(PATIENCE)) == (4, "submitted")
    assert queue.join(PATIENCE)
    assert ran == ["envelope"]
    assert other.submit(abs, -6).result(PATIENCE) == 6


def test_with_waits_also_after_an_error(queue: Any) -> None:
    """with: leaving it shuts down and waits, also when the block raises; the queue goes on."""
    executor, futures = queue.as_executor(), []

    def block() -> None:
        with executor:
            futures.append(executor.submit(abs, -1))
            raise LookupError

    with pytest.raises(LookupError):
        block()
    assert futures[0].result(0) == 1
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)
    assert queue.state is QueueState.RUNNING


def test_shutdown_from_a_function_of_its_own(executor: Executor) -> None:
    """shutdown(wait=False) may be called from one of its own functions, which then ends as ever."""

    def work() -> str:
        executor.shutdown(wait=False)
        return "done"

    assert executor.submit(work).result(PATIENCE) == "done"
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)


# The queue beneath


def test_a_full_queue(make: Make, gate: Gate) -> None:
    """A full queue refuses with CapacityExceededError; what ends makes room, and so does a cancelled future."""
    queue = make(workers=1, capacity=2)
    executor = queue.as_executor()
    running = executor.submit(gate.pass_through, 1)
    gate.await_entry()
    waiting = executor.submit(abs, -2)
    with pytest.raises(CapacityExceededError) as caught:
        executor.submit(abs, -3)
    assert (caught.value.capacity, caught.value.occupancy, caught.value.needed) == (2, 2, 1)
    assert waiting.cancel()
    again = executor.submit(abs, -4)
    gate.open()
    assert (running.result(PATIENCE), again.result(PATIENCE)) == (1, 4)
    assert executor.submit(abs, -5).result(PATIENCE) == 5


def test_a_stopped_and_a_terminated_queue(either: Any) -> None:
    """A stopped queue refuses with QueueNotRunningError, a terminated one with QueueTerminatedError; started again, it
    takes functions in again, from the same executor."""
    executor = either.as_executor()
    either.stop()
    with pytest.raises(QueueNotRunningError):
        executor.submit(abs, 1)
    either.start()
    assert executor.submit(abs, -1).result(PATIENCE) == 1
    either.terminate()
    with pytest.raises(QueueTerminatedError):
        executor.submit(abs, 1)
    executor.shutdown()


def test_terminate_ends_futures_with_cancelled(make: Make, gate: Gate) -> None:
    """terminate: what waits ends with the queue's Cancelled, not as cancelled by the user; what runs ends as ever."""
    queue = make(workers=1)
    executor, told = queue.as_executor(), []
    running, waiting = executor.submit(gate.pass_through, 1), executor.submit(abs, -2)
    gate.await_entry()
    waiting.add_done_callback(told.append)
    queue.terminate(wait=False)
    gate.open()
    assert isinstance(waiting.exception(PATIENCE), Cancelled)
    assert (waiting.cancelled(), waiting.cancel(), running.result(PATIENCE), told) == (False, False, 1, [waiting])
    executor.shutdown()


def test_an_abandoned_function_ends_its_future(make: Make, gate: Gate) -> None:
    """stop(timeout=0, grace=0): the future of a function that goes on past it ends with Cancelled; its end changes
    nothing."""
    queue = EnvelopeQueue("abandoned", workers=1)
    queue.start()
    future = queue.as_executor().submit(gate.pass_through, 1)
    gate.await_entry()
    queue.stop(timeout=0, grace=0)
    assert isinstance(future.exception(PATIENCE), Cancelled)
    gate.open()
    until(lambda: queue.stats().abandoned_ended == 1)
    assert isinstance(future.exception(0), Cancelled)
    queue.terminate()


def test_what_a_stop_keeps_runs_after_the_next_start(make: Make, gate: Gate) -> None:
    """stop(STOP): functions that wait are kept with their futures, and run after the next start."""
    queue = make(workers=1)
    executor = queue.as_executor()
    running, waiting = executor.submit(gate.pass_through, 1), executor.submit(abs, -2)
    gate.await_entry()
    queue.stop(StopMode.STOP, wait=False)
    gate.open()
    assert len(queue.stop().kept) == 1
    assert (running.result(0), waiting.done()) == (1, False)
    queue.start()
    assert waiting.result(PATIENCE) == 2


def test_a_function_that_a_stop_cancelled_runs_again_with_its_arguments(make: Make, gate: Gate) -> None:
    """stop(timeout=0): a function that ends by Cancelled then is kept, and after the next start it is called again
    with the same arguments."""
    queue = make(workers=1)
    calls: list[Any] = []

    def work(*args: Any, **kwargs: Any) -> str:
        calls.append((args, kwargs))
        if len(calls) == 1:
            gate.pass_through()
            raise Cancelled("the function noticed the stop")
        return "done"

    contexts: list[Any] = []
    queue.send(Envelope(lambda ctx, envelope: contexts.append(ctx)))
    future = queue.as_executor().submit(work, 1, two=2)
    gate.await_entry()
    stopping = threading.Thread(target=lambda: queue.stop(timeout=0, grace=PATIENCE))
    stopping.start()
    until(lambda: contexts[0].cancelled)
    gate.open()
    stopping.join(PATIENCE)
    assert len(queue.last_report.kept) == 1
    assert not future.done()
    queue.start()
    assert future.result(PATIENCE) == "done"
    assert calls == [((1,), {"two": 2})] * 2


# Nested, asyncio, re-entry


def test_nested_submit(make: Make) -> None:
    """A function may submit to its own executor, and wait for the result where another worker is free."""
    executor = make(workers=2).as_executor()

    def outer() -> int:
        return executor.submit(abs, -20).result(PATIENCE) + 1

    assert executor.submit(outer).result(PATIENCE) == 21


def test_a_chain_of_submits_on_one_worker(make: Make) -> None:
    """A function may submit its successor even to the only worker, as long as it does not wait for it."""
    executor, done, seen = make(workers=1).as_executor(), threading.Event(), []

    def step(left: int) -> None:
        seen.append(left)
        if left:
            executor.submit(step, left - 1)
        else:
            done.set()

    executor.submit(step, 50)
    assert done.wait(PATIENCE)
    assert seen == list(range(50, -1, -1))


def test_in_asyncio(queue: Any, gate: Gate) -> None:
    """loop.run_in_executor and asyncio.wrap_future: results, errors, and many at once; the loop is never blocked."""
    executor = queue.as_executor()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, pow, 2, 8) == 256
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(executor, divmod, 1, 0)
        assert await asyncio.wrap_future(executor.submit(abs, -1)) == 1
        held = loop.run_in_executor(executor, gate.pass_through, "held")
        await asyncio.sleep(0)
        gate.open()
        numbers = (loop.run_in_executor(executor, abs, -number) for number in range(50))
        assert await asyncio.wait_for(asyncio.gather(*numbers), PATIENCE) == list(range(50))
        assert await held == "held"

    asyncio.run(main())
    assert queue.dead_letters() == ()


def test_cancelled_in_asyncio(make: Make, gate: Gate) -> None:
    """Cancelling the asyncio future cancels the entry that waits; one that runs goes on, and its result is not
    missed."""
    queue = make(workers=1)
    executor = queue.as_executor()

    async def main() -> None:
        running = asyncio.wrap_future(executor.submit(gate.pass_through))
        await asyncio.to_thread(gate.await_entry)
        waiting = asyncio.wrap_future(executor.submit(abs, -1))
        assert len(queue) == 2
        waiting.cancel()
        await asyncio.sleep(0)  # the loop tells the queue's future on its next turn
        assert len(queue) == 1
        with pytest.raises(asyncio.CancelledError):
            await waiting
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    gate.open()
    assert queue.join(PATIENCE)
    assert (queue.stats().succeeded, queue.stats().returned) == (1, 1)


class EnteredAgain(EnvelopeQueue):
    """Once, while its executor submits, a signal handler comes that submits as well."""

    signal: Callable[[], Any] | None = None

    def _submit(self, envelope: Any, future: Any) -> Any:
        signal, self.signal = self.signal, None
        if signal is not None:
            signal()
        return super()._submit(envelope, future)


@pytest.mark.parametrize("call", ["submit", "shutdown"])
def test_entered_again_by_the_same_thread(make: Make, call: str) -> None:
    """A signal handler or `__del__` that uses the executor while its thread is inside it does not deadlock."""
    queue = make(EnteredAgain)
    executor, came = queue.as_executor(), []

    def signal() -> None:
        try:
            came.append(executor.submit(abs, -1) if call == "submit" else executor.shutdown(wait=False))
        except (QueueStateError, RuntimeError) as error:
            came.append(error)

    queue.signal = signal
    thread = threading.Thread(target=lambda: came.append(executor.submit(abs, -2)), daemon=True)
    thread.start()
    thread.join(2)
    assert not thread.is_alive(), "deadlock"
    assert len(came) == 2
    assert came[1].result(PATIENCE) == 2


# Nothing is held


class Payload:
    """What can be watched."""


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Only reference counts free objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def freed(*references: weakref.ref[Any]) -> None:
    """Check that nothing holds the objects, at the latest when the worker has gone on."""
    until(lambda: all(reference() is None for reference in references))


@pytest.mark.usefixtures("no_gc")
def test_arguments_are_freed_after_the_result(either: Any) -> None:
    """Arguments and function are let go when the function has returned, though the future and its result are kept."""
    executor = either.as_executor()
    argument, keyword = Payload(), Payload()
    watched = [weakref.ref(argument), weakref.ref(keyword)]

    def work(*args: Any, **kwargs: Any) -> int:
        return len(args) + len(kwargs)

    watched.append(weakref.ref(work))
    future = executor.submit(work, argument, keyword=keyword)
    del argument, keyword, work
    assert future.result(PATIENCE) == 2
    freed(*watched)
    assert future.result(0) == 2


@pytest.mark.usefixtures("no_gc")
def test_arguments_are_freed_after_a_failure(either: Any) -> None:
    """Arguments are let go after a failure, though the future and its exception are kept: only the frames of the
    user's own functions, in the traceback, may hold them."""
    argument = Payload()
    watched = weakref.ref(argument)
    future = either.as_executor().submit(operator.index, argument)  # a function without a frame
    del argument
    assert isinstance(future.exception(PATIENCE), TypeError)
    freed(watched)
    assert isinstance(future.exception(0), TypeError)


@pytest.mark.usefixtures("no_gc")
def test_an_exception_is_no_cycle(either: Any) -> None:
    """A failure's exception, and all that its frames hold, goes with the future: no reference cycle keeps it."""

    def work(argument: Any) -> None:
        raise Watched(argument)

    class Watched(Exception):
        pass

    argument = Payload()
    future = either.as_executor().submit(work, argument)
    watched = [weakref.ref(argument), weakref.ref(future.exception(PATIENCE))]
    del argument, future
    freed(*watched)


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("started", [True, False])
def test_arguments_are_freed_after_a_cancel(make: Make, gate: Gate, started: bool) -> None:
    """Arguments are let go when the future is cancelled, though it is kept, and though the queue has not got round to
    the place where it waited."""
    queue = make(workers=1, started=started)
    executor = queue.as_executor()
    if started:
        executor.submit(gate.pass_through)
        gate.await_entry()
    argument = Payload()
    watched = weakref.ref(argument)
    future = executor.submit(abs, argument)
    del argument
    assert watched() is not None
    assert future.cancel()
    gate.open()
    executor.submit(abs, 1)
    queue.start()
    assert queue.join(PATIENCE)
    freed(watched)
    assert future.cancelled()


@pytest.mark.usefixtures("no_gc")
def test_results_are_freed_as_they_are_taken(either: Any) -> None:
    """map keeps no result that was taken: each goes with the caller's last reference."""
    for result in either.as_executor().map(lambda number: Payload(), range(10)):
        watched = weakref.ref(result)
        del result
        freed(watched)


@pytest.mark.usefixtures("no_gc")
def test_a_result_goes_with_its_future(either: Any) -> None:
    """A result is held by its future alone, while the executor and the queue live on."""
    executor = either.as_executor()
    future = executor.submit(Payload)
    watched = weakref.ref(future.result(PATIENCE)), weakref.ref(future)
    del future
    freed(*watched)
    assert executor.submit(abs, -1).result(PATIENCE) == 1


@pytest.mark.usefixtures("no_gc")
def test_an_executor_that_is_forgotten(either: Any) -> None:
    """An executor that nobody holds goes, and what it was given is done all the same."""
    executor = either.as_executor()
    watched, future = weakref.ref(executor), executor.submit(abs, -1)
    del executor
    freed(watched)
    assert future.result(PATIENCE) == 1


# In virtual time


def test_simulated_shutdown_advances_time(make: Make) -> None:
    """Simulated: leaving `with` lets virtual time pass until all is done; two workers overlap in it."""
    queue = make(SimulatedEnvelopeQueue, workers=2)
    with queue.as_executor() as executor:
        futures = [executor.submit(queue.clock.sleep, seconds) for seconds in (30, 20, 20)]
        assert queue.clock.now() == 0
    assert all(future.done() for future in futures)
    assert queue.clock.now() == 40


def test_simulated_result_and_map_advance_time(make: Make) -> None:
    """Simulated: result and map advance virtual time as far as they must."""
    queue = make(SimulatedEnvelopeQueue, workers=1)
    executor = queue.as_executor()
    assert executor.submit(queue.clock.sleep, 5).result() is None
    assert queue.clock.now() == 5
    assert list(executor.map(queue.clock.sleep, [1, 2])) == [None, None]
    assert queue.clock.now() == 8


def test_simulated_result_times_out_in_virtual_time(make: Make) -> None:
    """Simulated: a timeout is virtual and exact, and costs no real time."""
    queue = make(SimulatedEnvelopeQueue)
    future = queue.as_executor().submit(queue.clock.sleep, 1000)
    for ask in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            ask(timeout=400)
    assert queue.clock.now() == 800
    assert (future.result(), queue.clock.now()) == (None, 1000)


def test_simulated_map_times_out_in_virtual_time(make: Make) -> None:
    """Simulated: the timeout of map is virtual and exact: the same program ends at the same instant."""
    queue = make(SimulatedEnvelopeQueue)
    results = queue.as_executor().map(queue.clock.sleep, [100, 1000], timeout=500)
    assert next(results) is None
    with pytest.raises(TimeoutError):
        next(results)
    assert queue.clock.now() == 500
    queue.advance(1000)


def test_simulated_what_is_impossible_raises(make: Make) -> None:
    """Simulated: waiting for what can never come raises instead of hanging."""
    queue = make(SimulatedEnvelopeQueue)
    queue.pause()
    executor = queue.as_executor()
    future = executor.submit(abs, -1)
    with pytest.raises(QueueStateError, match="never return"):
        future.result()
    with pytest.raises(QueueStateError, match="never return"):
        executor.shutdown()
    queue.resume()
    executor.shutdown()
    assert future.result(0) == 1


def test_simulated_keyboard_interrupt(make: Make) -> None:
    """Simulated: a function's KeyboardInterrupt is raised to whoever advances, and is its future's as well."""
    queue = make(SimulatedEnvelopeQueue)
    future = queue.as_executor().submit(fail, KeyboardInterrupt("user"))
    with pytest.raises(KeyboardInterrupt, match="user"):
        queue.run_until_idle()
    assert isinstance(future.exception(0), KeyboardInterrupt)
    assert queue.as_executor().submit(abs, -1).result() == 1


def test_simulated_nested_submit(make: Make) -> None:
    """Simulated: a function may wait for another of its own executor; the second worker runs it."""
    queue = make(SimulatedEnvelopeQueue, workers=2)
    executor = queue.as_executor()

    def outer() -> float:
        executor.submit(queue.clock.sleep, 7).result()
        return queue.clock.now()

    assert executor.submit(outer).result() == 7
