"""Lines 15 and 31 to 33: what only real threads can show."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from rate_envelope_queue import (
    CapacityExceededError,
    Envelope,
    EnvelopeQueue,
    QueueNotRunningError,
    QueueState,
    QueueStateError,
    RetryEnvelope,
    StopEnvelope,
    StopMode,
)

from ..conformance.harness import PATIENCE, Harness, ThreadsHarness, check_ledger
from ..conformance.ledger import Everything, check_events

RUN_KINDS = ("started", "succeeded", "failed", "stopped", "retried", "dropped")
SOAK = 10 if os.environ.get("REQ_SOAK") else 1


@pytest.fixture
def h() -> Iterator[Harness]:
    harness = ThreadsHarness()
    yield harness
    harness.close()


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads are switched fifty times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def noop(ctx: Any, envelope: Any) -> None: ...


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Make the calls at the same time, each in a thread; what they returned or raised, in order."""
    results: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(number: int, call: Callable[[], Any]) -> None:
        barrier.wait(20)
        try:
            results[number] = call()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


@pytest.mark.usefixtures("restless")
def test_d15_sends_after_the_stop(h: Harness) -> None:
    """D15: two threads released together, one stops then sends, one sends after the stop -> both refused."""
    for _ in range(200 * SOAK):
        queue = EnvelopeQueue("q", workers=2)
        queue.start()
        stopped = threading.Event()

        def stop_then_send(queue: EnvelopeQueue = queue, stopped: threading.Event = stopped) -> None:
            queue.stop()
            stopped.set()
            queue.send(Envelope(noop))

        def send_after_the_stop(queue: EnvelopeQueue = queue, stopped: threading.Event = stopped) -> None:
            assert stopped.wait(20)
            queue.send(Envelope(noop))

        assert [type(result) for result in together(stop_then_send, send_after_the_stop)] == [QueueNotRunningError] * 2
        queue.terminate()


@pytest.mark.usefixtures("restless")
def test_d15_a_send_beside_the_stop_is_accepted_or_refused(h: Harness) -> None:
    """D15: a send beside the stop is either refused, or accepted and run by the drain."""
    for _ in range(200 * SOAK):
        queue = EnvelopeQueue("q", workers=2)
        queue.start()
        envelope = Envelope(noop)
        sent, report = together(lambda q=queue, e=envelope: q.send(e), queue.stop)
        if sent == 1:
            assert (report.kept, queue.stats().succeeded) == ((), 1)
        else:
            assert isinstance(sent, QueueNotRunningError)
            assert queue.stats().accepted == 0
        queue.terminate()


@pytest.mark.parametrize("mode", list(StopMode))
def test_d31_start_and_stop_at_once(h: Harness, mode: StopMode) -> None:
    """D31: start then stop at once, 10,000 rounds, wait=False, then terminate -> accepted = succeeded + returned."""
    for _ in range(5_000 * SOAK):
        queue = EnvelopeQueue("q", workers=1)
        queue.send(Envelope(noop), Envelope(noop))
        queue.start()
        queue.stop(mode, wait=False)
        report = queue.terminate()
        stats = queue.stats()
        assert stats.accepted == stats.succeeded + stats.returned == 2
        assert stats.returned == len(report.returned)
        assert stats.occupancy == stats.running == 0


def test_d31_one_queue_over_and_over(h: Harness) -> None:
    """D31: the same on one queue that is started again: nothing is lost between its lives."""
    queue = h.queue(workers=2)
    rounds = 1_000 * SOAK
    for _ in range(rounds):
        queue.start()
        queue.send(Envelope(noop))
        queue.stop(StopMode.STOP, wait=False)
        queue.stop()
    kept = len(queue)
    report = queue.terminate()
    stats = queue.stats()
    assert len(report.returned) == stats.returned == kept
    assert stats.accepted == stats.succeeded + stats.returned == rounds


@pytest.mark.usefixtures("restless")
def test_d32_senders_during_starts_and_stops(h: Harness) -> None:
    """D32: 64 threads sending during 300 start/stop rounds -> the ledger balances, occupancy within 0 and capacity."""
    capacity = 100
    queue = h.queue(workers=4, capacity=capacity)
    over = threading.Event()
    accepted, wrong = [0] * 64, []

    def sender(number: int) -> None:
        mine = [Envelope(noop) for _ in range(5)]
        pause = threading.Event()
        while not over.is_set():
            try:
                accepted[number] += queue.send(*mine[: 1 + accepted[number] % 5])
            except (QueueNotRunningError, CapacityExceededError):
                pass
            stats = queue.stats()
            if not 0 <= stats.occupancy <= capacity:
                wrong.append(stats)
            pause.wait(0.005)

    senders = [threading.Thread(target=sender, args=(number,)) for number in range(64)]
    for thread in senders:
        thread.start()
    try:
        for round_ in range(300 * SOAK):
            queue.start()
            if round_ % 3 == 0:
                queue.stop(list(StopMode)[round_ % 2], wait=False)
            assert not queue.stop(list(StopMode)[round_ % 2], timeout=PATIENCE).timed_out
            check_ledger(queue)
    finally:
        over.set()
        for thread in senders:
            thread.join(20)
    report = queue.terminate()
    stats = queue.stats()
    assert wrong == []
    assert sum(accepted) > 0
    assert stats.accepted == sum(accepted)
    assert stats.accepted == stats.succeeded + stats.returned
    assert stats.returned == len(report.returned)


@pytest.mark.usefixtures("restless")
def test_d32_everybody_at_everything(h: Harness) -> None:
    """D32: every call beside stops and starts -> the ledger balances, and each future ends."""
    queue = h.queue(workers=4, capacity=50)
    over = threading.Event()
    futures: list[list[Any]] = [[] for _ in range(16)]

    def player(number: int) -> None:
        mine = [Envelope(noop, key=(number % 4, place)) for place in range(5)]
        pause = threading.Event()
        calls: list[Callable[[int], Any]] = [
            lambda turn: queue.send(*mine),
            lambda turn: futures[number].append(queue.submit(mine[turn % 5])),
            lambda turn: queue.cancel(mine[turn % 5]),
            lambda turn: queue.send(mine[turn % 5], delay=0.001),
            lambda turn: queue.clear() if number == 0 else queue.stats(),
            lambda turn: queue.send_wait(mine[turn % 5], timeout=0.001),
            lambda turn: futures[number][-1].cancel() if futures[number] else None,
        ]
        turn = number
        while not over.is_set():
            turn += 1
            try:
                calls[turn % len(calls)](turn)
            except (QueueStateError, CapacityExceededError):
                pass
            pause.wait(0.005)

    players = [threading.Thread(target=player, args=(number,)) for number in range(16)]
    for thread in players:
        thread.start()
    try:
        for round_ in range(100 * SOAK):
            queue.start()
            threading.Event().wait(0.002)
            assert not queue.stop(list(StopMode)[round_ % 2], timeout=PATIENCE).timed_out
            check_ledger(queue)
    finally:
        over.set()
        for thread in players:
            thread.join(20)
    queue.terminate()
    assert all(future.done() for each in futures for future in each)
    assert sum(map(len, futures)) > 0


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("is_measured", [False, True], ids=["events", "events and times"])
def test_i19_events_are_the_ledger_whenever_it_is_quiet(h: Harness, is_measured: bool) -> None:
    """I-19: everybody at everything, over and over: whenever all are at rest, as many events as the ledger counts."""
    everything = Everything()
    queue = h.queue(workers=4, capacity=20, observers=(everything,), dead_letter_limit=10)
    if is_measured:
        queue.start_measuring()

    runs = count()

    def invoke(ctx: Any, envelope: Any) -> None:
        ways = (StopEnvelope, ValueError, RetryEnvelope, None, None, None)
        error = ways[next(runs) % len(ways)]
        if error is not None:
            raise error

    mine = [Envelope(invoke, key=number % 12, max_attempts=3) for number in range(20)] + [
        Envelope(invoke) for _ in range(20)
    ]

    def player(number: int) -> None:
        calls: list[Callable[[int], Any]] = [
            lambda turn: queue.send(*mine[turn % 20 : turn % 20 + 3]),
            lambda turn: queue.send(mine[turn % 40], delay=0.0005),
            lambda turn: queue.send(mine[20 + turn % 20]),
            lambda turn: queue.submit(mine[turn % 40]).cancel(),
            lambda turn: queue.cancel(mine[turn % 40]),
            lambda turn: queue.clear() if turn % 10 == 0 else queue.stats(),
            lambda turn: queue.send_wait(*mine[turn % 40 : turn % 40 + 2], timeout=0.0001),
            lambda turn: queue.resize(1 + turn % 4),
        ]
        for turn in range(number, number + 60):
            try:
                if turn == 60:
                    queue.stop(StopMode.STOP, wait=False)
                calls[turn * 7 % len(calls)](turn)
            except (QueueStateError, CapacityExceededError):
                pass

    for round_ in range(20 * SOAK):
        queue.start()
        together(*[lambda n=number: player(n) for number in range(8)])
        timeout = 0 if round_ % 5 == 0 else PATIENCE
        queue.stop(list(StopMode)[round_ % 2], timeout=timeout, grace=PATIENCE)
        check_ledger(queue)
        check_events(everything, queue)
        if is_measured:
            stats, measured = queue.stats(), queue.measured()
            assert measured is not None
            assert (measured.ran.count, measured.waited.count) == (stats.runs_started, stats.runs_started)
    queue.terminate()
    check_events(everything, queue)
    met = everything.counts()
    assert all(met[name] > 50 for name in ("accepted", "coalesced", "refused", *RUN_KINDS)), met


def test_d33_a_key_waits_for_its_abandoned_run(h: Harness) -> None:
    """D33: restart after a timed-out stop, an abandoned run still going -> its key waits until it has ended."""
    queue = h.queue(workers=4)
    inside, most = [], [0]
    lock = threading.Lock()
    gates = [h.gate() for _ in range(20)]

    def invoke(ctx: Any, envelope: Any) -> None:
        with lock:
            inside.append(envelope.payload)
            most[0] = max(most[0], len(inside))
        gates[envelope.payload].wait(ctx)
        with lock:
            inside.remove(envelope.payload)

    for number, gate in enumerate(gates):
        queue.start()
        queue.send(Envelope(invoke, key="k", payload=number))
        if number == 0:
            h.until(lambda: inside == [0])
        else:
            gates[number - 1].open()
            h.until(lambda number=number: inside == [number])
        assert gate.waiting <= 1
        report = queue.stop(timeout=0, grace=0.001)
        assert [envelope.payload for envelope in report.abandoned] == [number]
    gates[-1].open()
    h.until(lambda: queue.stats().abandoned_ended == 20)
    assert most == [1]
    assert queue.stats().abandoned == 20


def test_d33_many_abandoned_runs_leave_their_workers_alone(h: Harness) -> None:
    """D33: an abandoned run counts neither in occupancy nor against workers, however many there are."""
    queue, gate = h.queue(workers=2), h.gate()
    for _ in range(10):
        queue.start()
        queue.send(*(Envelope(lambda ctx, envelope: gate.wait(ctx)) for _ in range(2)))
        h.until(lambda: queue.stats().running == 2)
        assert len(queue.stop(timeout=0, grace=0).abandoned) == 2
        assert len(queue) == 0
    assert gate.waiting == 20
    queue.start()
    assert queue.submit(Envelope(lambda ctx, envelope: "alive")).result(20) == "alive"
    gate.open()
    h.until(lambda: queue.stats().abandoned_ended == 20)
    assert queue.state is QueueState.RUNNING


def test_d30_many_stops_at_once(h: Harness) -> None:
    """D30: however many threads stop it at once, all get the same report, and the queue has stopped once."""
    queue = h.queue(workers=2)
    for _ in range(50):
        queue.start()
        queue.send(*(Envelope(noop) for _ in range(5)))
        reports = together(*[queue.stop] * 8)
        assert all(report == reports[0] for report in reports)
        assert (reports[0].state, reports[0].kept) == (QueueState.STOPPED, ())


def test_stop_of_an_idle_queue_is_quick(h: Harness) -> None:
    """D (CONTRACT 7): a stop of an idle queue with many workers ends at once."""
    queue = h.queue(workers=64)
    for _ in range(5):
        queue.start()
        began_at = h.now()
        queue.stop()
        assert h.now() - began_at == h.about(0)


def test_a_stop_that_joins_late_waits_for_the_threads(h: Harness) -> None:
    """7: State stopped means that nothing of this queue runs: also for a stop that finds the queue stopped already."""
    queue = h.queue(workers=16)
    for _ in range(20):
        queue.start()
        queue.stop(wait=False)
        while queue.state is not QueueState.STOPPED:
            threading.Event().wait(0.001)
        queue.stop()
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("q-")] == []
