"""Sections 7 and 9 on loops themselves: closed, stopped, changed, more than one, and interrupted by Ctrl-C."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings

import pytest

from rate_envelope_queue import AsyncEnvelopeQueue, Envelope, QueueState, QueueStateError, StopMode
from rate_envelope_queue.core import effects

from .harness import check_ledger
from .running import Seen, raises
from .test_isolation import AROUND_THE_RUN, IN_THE_RUN, interrupting

PATIENCE = 20.0


def queue_on(loop, **options):
    """A queue on *loop*, started."""
    queue = AsyncEnvelopeQueue("q", **{"workers": 2, **options})
    loop.run_until_complete(queue.start())
    return queue


async def ignored(ctx, envelope):
    """A handler that does nothing."""


async def sleeps(ctx, envelope):
    """A handler that takes a moment."""
    await asyncio.sleep(0.01)


async def for_ever(ctx, envelope):
    """A handler that does not come back."""
    await asyncio.Event().wait()


def end(loop, queue):
    """Terminate, and let what is left on the loop come to its end."""
    loop.run_until_complete(queue.terminate())
    while left := asyncio.all_tasks(loop):
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    check_ledger(queue)


# Loops that close, stop and change


def test_14_a_loop_that_is_closed_under_the_queue(new_loop):
    """14: the loop is closed with the tasks of the queue on it: a warning counts what is kept, and what ran and what
    waited run on the next loop."""
    loop = new_loop()
    queue = queue_on(loop, workers=1)
    ran = []
    running, waiting = Envelope(for_ever), Envelope(lambda ctx, envelope: ran.append(1))
    queue.send(running, waiting)
    queue.send(Envelope(lambda ctx, envelope: ran.append(2)), delay=0.05)
    loop.run_until_complete(asyncio.sleep(0))
    loop.set_exception_handler(lambda loop, trouble: None)  # it is told of tasks that are destroyed
    loop.close()
    other = new_loop()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = other.run_until_complete(queue.stop())
    assert [warning.category for warning in caught if "of <AsyncEnvelopeQueue" in str(warning.message)] == [
        ResourceWarning
    ]
    assert set(report.kept) >= {running, waiting}
    assert (queue.state, len(queue), queue.stats().running) == (QueueState.STOPPED, 3, 0)
    check_ledger(queue)
    queue.cancel(running)
    other.run_until_complete(queue.start())
    assert other.run_until_complete(queue.join(timeout=PATIENCE))
    assert sorted(ran) == [1, 2]
    end(other, queue)


def test_14_the_plain_calls_of_a_queue_whose_loop_was_closed(new_loop):
    """14: send, cancel, clear and stats answer though the loop is closed; nothing is lost."""
    loop = new_loop()
    queue = queue_on(loop)
    end_of_run = Envelope(ignored)
    loop.set_exception_handler(lambda loop, trouble: None)
    loop.close()
    assert queue.send(end_of_run, Envelope(ignored, key="k")) == 2
    assert queue.send(Envelope(ignored), delay=1000) == 1
    queue.pause()
    queue.resume()
    queue.resize(1)
    assert queue.cancel("k") is True
    assert queue.stats().occupancy == 2
    assert len(queue.clear()) == 2
    other = new_loop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        other.run_until_complete(queue.stop())
    end(other, queue)


@pytest.mark.parametrize("call", ["start", "stop", "terminate", "join", "send_wait"])
def test_14_awaited_from_another_loop(new_loop, call):
    """14: awaiting a running queue from another loop raises and changes nothing; a stopped one may change loops."""
    loop, other = new_loop(), new_loop()
    queue = queue_on(loop)
    arguments = [Envelope(ignored)] if call == "send_wait" else []
    with pytest.raises(QueueStateError, match="another event loop"):
        other.run_until_complete(getattr(queue, call)(*arguments))
    assert (queue.state, len(queue)) == (QueueState.RUNNING, 0)
    loop.run_until_complete(queue.stop())
    began = time.monotonic()
    assert other.run_until_complete(queue.stop()) == queue.last_report
    assert time.monotonic() - began < 0.9
    other.run_until_complete(queue.start())
    assert other.run_until_complete(submitted(queue)) == "value"
    end(other, queue)


async def submitted(queue):
    """What a run gives to whoever awaits its future."""

    async def value(ctx, envelope):
        return "value"

    return await queue.submit(Envelope(value))


def test_14_a_loop_that_is_stopped_in_the_middle_of_a_drain(new_loop):
    """14: the loop is stopped mid-drain and run again: the drain goes on, and its report names everything."""
    loop = new_loop()
    queue = queue_on(loop, workers=1)
    queue.send(*[Envelope(sleeps) for _ in range(10)])
    drain = loop.create_task(queue.stop(StopMode.DRAIN))
    for _ in range(3):
        loop.call_later(0.02, loop.stop)
        loop.run_forever()
        assert queue.state is QueueState.STOPPING
        check_ledger(queue)
        assert not drain.done()
    report = loop.run_until_complete(drain)
    assert (report.succeeded, report.kept) == (10, ())
    end(loop, queue)


def test_14_a_loop_that_is_stopped_and_closed_in_the_middle_of_a_drain(new_loop):
    """14: the loop is stopped mid-drain, and closed: what has not run is in the report of the next stop."""
    loop = new_loop()
    queue = queue_on(loop, workers=1)
    queue.send(*[Envelope(sleeps) for _ in range(10)])
    drain = loop.create_task(queue.stop(StopMode.DRAIN))
    loop.call_later(0.045, loop.stop)
    loop.run_forever()
    succeeded = queue.stats().succeeded
    assert 0 < succeeded < 10
    loop.set_exception_handler(lambda loop, trouble: None)
    drain.cancel()
    loop.close()
    other = new_loop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        report = other.run_until_complete(queue.stop())
    assert (report.state, len(report.kept)) == (QueueState.STOPPED, 10 - succeeded)
    other.run_until_complete(queue.start())
    assert other.run_until_complete(queue.join(timeout=PATIENCE))
    assert queue.stats().succeeded == 10
    end(other, queue)


def test_14_two_loops_at_once():
    """14: two queues on two loops in two threads send to each other, and submit: each future on its sender's loop."""
    queues = [AsyncEnvelopeQueue(name, workers=2) for name in ("one", "other")]
    ready = threading.Barrier(2, timeout=PATIENCE)
    reports, rounds = [None, None], 200

    async def live(mine, other, number):
        async with asyncio.timeout(PATIENCE):
            await mine.start()
            await asyncio.to_thread(ready.wait)

            async def value(ctx, envelope):
                await asyncio.sleep(0)
                return envelope.payload, asyncio.get_running_loop()

            futures = [other.submit(Envelope(value, payload=number)) for number in range(rounds)]
            assert {future.get_loop() for future in futures} == {asyncio.get_running_loop()}
            values = await asyncio.gather(*futures)
            assert [payload for payload, _ in values] == list(range(rounds))
            assert asyncio.get_running_loop() not in {loop for _, loop in values}
            await asyncio.to_thread(ready.wait)
            reports[number] = await mine.stop()

    def run(number):
        asyncio.run(live(queues[number], queues[1 - number], number))

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert [report.state for report in reports] == [QueueState.STOPPED] * 2
    assert [queue.stats().succeeded for queue in queues] == [rounds] * 2
    for queue in queues:
        check_ledger(queue)


def test_o100_a_thousand_queues_leave_no_task_and_no_timer(new_loop):
    """O100: 1,000 queues that are made, used and forgotten on one loop leave no task."""
    loop = new_loop()

    async def live():
        for _ in range(1000):
            async with AsyncEnvelopeQueue("short", workers=2) as queue:
                queue.send(Envelope(ignored, deadline=30))
            assert queue.stats().succeeded == 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert loop.run_until_complete(live()) == set()


# Ctrl-C


class Marks:
    """As much of a harness as `interrupting` needs."""

    def __init__(self):
        self.labels = []

    def mark(self, label):
        self.labels.append(label)


def interrupted(loop, task):
    """Run until *task* is done; it was interrupted once."""
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    return loop.run_until_complete(task)


@pytest.mark.parametrize("place", [*IN_THE_RUN, *AROUND_THE_RUN])
def test_9_keyboard_interrupt_is_raised_to_whoever_runs_the_loop(new_loop, place):
    """9: on asyncio, KeyboardInterrupt settles the run as failed and is then raised to the loop, so that Ctrl-C works;
    run again, the loop goes on where it was, with as many workers as before."""
    loop, seen = new_loop(), Seen()
    options, functions = interrupting(Marks(), place)
    if "invoke" in functions:  # a plain function would run in a thread
        functions["invoke"] = as_coroutine(functions["invoke"])
    if "stamps" in options:  # of the envelope, so that the queue can go on
        functions["stamps"] = options.pop("stamps")
    queue = queue_on(loop, **{**options, "observers": (*options.get("observers", ()), seen)})
    queue.send(Envelope(**{"invoke": ignored, **functions}))
    task = loop.create_task(ended_once(queue))
    interrupted(loop, task)
    stats = queue.stats()
    assert stats.runs_failed == (place not in ("after_hook", "success_hook", "schedule"))
    assert len(seen.failed) == stats.runs_failed
    queue.clear()
    queue.send(*[Envelope(sleeps) for _ in range(4)])
    assert loop.run_until_complete(queue.join(timeout=PATIENCE))
    assert queue.stats().workers == 2
    end(loop, queue)


def as_coroutine(function):
    async def call(*args):
        return function(*args)

    return call


async def ended_once(queue):
    """Until a little after the first run has ended: uvloop stays stopped when it is interrupted just as it is done."""
    while not queue.stats().runs_started or queue.stats().running:
        await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)


def test_9_keyboard_interrupt_while_others_wait(new_loop):
    """9: after KeyboardInterrupt was raised to the loop, its next run goes on: the other runs, the join, the stop."""
    loop = new_loop()
    queue = queue_on(loop, workers=3)
    queue.send(Envelope(sleeps), Envelope(as_coroutine(raises(KeyboardInterrupt))), Envelope(sleeps))
    joined = loop.create_task(queue.join())
    assert interrupted(loop, joined) is True
    assert (queue.stats().succeeded, queue.stats().dropped) == (2, 1)
    report = loop.run_until_complete(queue.stop())
    assert report.state is QueueState.STOPPED
    end(loop, queue)


def test_9_keyboard_interrupt_while_effects_are_delivered(new_loop):
    """9: Ctrl-C while a worker delivers what followed a run is raised to the loop; the envelope that the worker had
    taken runs, and the queue has as many workers as before."""
    loop = new_loop()
    queue = queue_on(loop, workers=1)
    bury, interrupts = queue._delivery._actions[effects.DEAD], [KeyboardInterrupt]

    def interrupted_once(*letter):
        bury(*letter)
        if interrupts:
            raise interrupts.pop()

    queue._delivery._actions[effects.DEAD] = interrupted_once
    try:
        queue.send(Envelope(as_coroutine(raises(ValueError))), Envelope(ignored), Envelope(ignored))
        joined = loop.create_task(queue.join(timeout=1))
        assert interrupted(loop, joined) is True
        assert (queue.stats().succeeded, queue.stats().dropped, queue.stats().running) == (2, 1, 0)
    finally:
        loop.run_until_complete(queue.terminate(timeout=0, grace=0))
        end(loop, queue)
