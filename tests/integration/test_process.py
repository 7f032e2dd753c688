"""Line 33, the process: fork, interpreter exit, signals and the main thread, each in an interpreter of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rate_envelope_queue import EnvelopeQueue, QueueStateError

SOURCE = Path(__file__).resolve().parents[2] / "src"
PATIENCE = 60.0
HEAD = r"""
import asyncio, os, signal, sys, threading, time
from rate_envelope_queue import *

signal.signal(signal.SIGINT, signal.default_int_handler)  # the background job of a shell ignores it

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # in one piece, also beside a forked child
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def start(program: str) -> subprocess.Popen[str]:
    """The program in an interpreter of its own, in the names of the package."""
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", HEAD + textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONWARNINGS": "default"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(program: str, *, returncode: int = 0) -> tuple[list[str], str, float]:
    """What it said, what it wrote to stderr, and how many seconds it took."""
    began_at = time.monotonic()
    process = start(program)
    try:
        said, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler writes down where it hangs
        said, errors = process.communicate()
        pytest.fail(f"it hangs; said {said!r}, stderr:\n{errors}")
    assert process.returncode == returncode, errors
    return said.split(), errors, time.monotonic() - began_at


def interact(program: str, *signals: int, returncode: int = 0) -> tuple[list[str], str]:
    """Send a signal each time that the program says "ready"; what else it said, and its stderr."""
    process = start(program)
    assert process.stdout is not None
    said: list[str] = []
    watchdog = threading.Timer(PATIENCE, process.send_signal, [signal.SIGABRT])  # faulthandler writes down where
    watchdog.start()
    pending = list(signals)
    try:
        for line in process.stdout:
            if line.strip() == "ready":
                process.send_signal(pending.pop(0))
            else:
                said += line.split()
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        watchdog.cancel()
        watchdog.join()
    assert process.returncode == returncode, errors
    assert pending == []
    return said, errors


# Interpreter exit


def test_exit_with_an_idle_queue() -> None:
    """D33 exit: a running queue with nothing to do does not hold the interpreter, nor does it complain."""
    said, errors, seconds = run("""
        queue = EnvelopeQueue("q")
        queue.start()
        say("end")
    """)
    assert (said, errors) == (["end"], "")
    assert seconds < 5 + 10


def test_exit_with_work() -> None:
    """D33 exit: what is ready and what runs is drained before the interpreter exits."""
    said, errors, _ = run("""
        def work(ctx, envelope):
            time.sleep(0.2)
            say(envelope.payload)

        queue = EnvelopeQueue("q", workers=1)
        queue.start()
        queue.send(*(Envelope(work, payload=number) for number in range(3)))
    """)
    assert (said, errors) == (["0", "1", "2"], "")


def test_exit_with_work_without_end() -> None:
    """D33 exit: drained up to 5 s, then left; never a hang."""
    said, _, seconds = run("""
        queue = EnvelopeQueue("q", workers=2)
        queue.start()
        inside = threading.Event()
        queue.send(Envelope(lambda ctx, envelope: inside.set() or threading.Event().wait()))
        inside.wait(20)
        say("end")
    """)
    assert said == ["end"]
    assert 4.5 <= seconds < 30


def test_exit_with_delayed_and_periodic() -> None:
    """D33 exit: what is not due is not waited for."""
    _, _, seconds = run("""
        queue = EnvelopeQueue("q")
        queue.start()
        queue.send(Envelope(lambda ctx, envelope: None), delay=1000)
        queue.send(Envelope.every(1000, lambda ctx, envelope: None))
    """)
    assert seconds < 4.5


def test_exit_after_an_exception() -> None:
    """D33 exit: an exception of the main thread is shown, and the exit code is its own."""
    said, errors, _ = run(
        """
        queue = EnvelopeQueue("q")
        queue.start()
        queue.send(Envelope(lambda ctx, envelope: say("ran")))
        raise ZeroDivisionError
    """,
        returncode=1,
    )
    assert said == ["ran"]
    assert "ZeroDivisionError" in errors


@pytest.mark.parametrize("state", ["init", "stopped", "terminated", "paused"])
def test_exit_in_other_states(state: str) -> None:
    """D33 exit: a queue that does not run holds nothing up, whatever it keeps."""
    moves = {
        "init": "",
        "stopped": "queue.start(); queue.pause(); queue.stop()",
        "terminated": "queue.terminate()",
        "paused": "queue.pause(); queue.start()",
    }
    said, errors, seconds = run(f"""
        queue = EnvelopeQueue("q")
        queue.send(Envelope(lambda ctx, envelope: None))
        {moves[state]}
        say("end")
    """)
    assert (said, seconds < 4.5) == (["end"], True)
    assert "Traceback" not in errors


def test_exit_with_an_abandoned_run() -> None:
    """D33 exit: an abandoned run does not hold the interpreter."""
    said, _, seconds = run("""
        queue = EnvelopeQueue("q")
        inside = threading.Event()
        queue.send(Envelope(lambda ctx, envelope: inside.set() or threading.Event().wait()))
        queue.start()
        inside.wait(20)
        say(len(queue.stop(timeout=0, grace=0).abandoned))
    """)
    assert said == ["1"]
    assert seconds < 15


# Fork


@needs_fork
def test_fork_of_a_queue_never_started() -> None:
    """D33 fork: a queue never started and empty works in the child, with fresh locks, and in the parent."""
    said, errors, _ = run("""
        queue = EnvelopeQueue("q")
        child = os.fork()
        queue.send(Envelope(lambda ctx, envelope: say("child" if child == 0 else "parent")))
        queue.start()
        report = queue.stop()
        assert report.succeeded == 1
        if child == 0:
            os._exit(7)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert sorted(said) == ["7", "child", "parent"], errors


@needs_fork
def test_fork_while_a_thread_asks_it() -> None:
    """D33 fork: with fresh locks: also when another thread was inside of it at that moment."""
    said, errors, _ = run("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads is what is tested
        queue, over = EnvelopeQueue("q"), threading.Event()

        def ask():
            while not over.is_set():
                queue.stats()

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            child = os.fork()
            if child == 0:
                queue.send(Envelope(lambda ctx, envelope: None))
                queue.start()
                queue.stop()
                os._exit(0 if queue.stats().succeeded == 1 else 1)
            assert os.waitpid(child, 0)[1] == 0
        over.set()
        say("end")
    """)
    assert said == ["end"], errors


@needs_fork
def test_fork_while_another_queue_asks_its_limiter() -> None:
    """D33 fork: with fresh locks: a limiter that it shares with a queue of the parent was busy at that moment."""
    said, _, _ = run("""
        import warnings
        from rate_envelope_queue.workqueue import ExponentialBackoff, MaxOf, MaxWait, TokenBucket, WorkQueue
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads is what is tested
        asking, over = threading.Event(), threading.Event()

        class Slow:
            def __hash__(self):
                asking.set()
                over.wait(30)
                return 1

        shared = ExponentialBackoff(0.001, 1)
        threading.Thread(target=lambda: shared.when(Slow(), now=0.0)).start()
        asking.wait(30)
        fresh = EnvelopeQueue("q", backoff=MaxWait(MaxOf(shared, TokenBucket(1000)), 1), start_rate=TokenBucket(1000))
        items = WorkQueue(limiter=shared)
        child = os.fork()
        if not child:
            signal.alarm(20)
            handler = lambda ctx, envelope: 1 / 0 if ctx.attempt == 1 else None
            with fresh:
                fresh.send(Envelope(handler, failure_hook=lambda ctx, envelope, error: retry_with_backoff()))
                fresh.join(20)
            items.add_rate_limited("item")
            say("child", fresh.stats().succeeded, items.get(timeout=20))
            os._exit(0)
        say("ended", os.waitpid(child, 0)[1])
        over.set()
        """)
    assert said == ["child", "1", "item", "ended", "0"]


@needs_fork
@pytest.mark.parametrize("before", ["queue.start()", "queue.send(envelope)", "queue.start(); queue.stop()"])
def test_fork_of_any_other(before: str) -> None:
    """D33 fork: any other raises QueueStateError on every call and attribute but repr and name; no hang."""
    said, errors, _ = run(f"""
        envelope = Envelope(lambda ctx, envelope: None)
        queue = EnvelopeQueue("mails")
        {before}
        child = os.fork()
        if child == 0:
            calls = dict(
                send=lambda: queue.send(envelope),
                send_wait=lambda: queue.send_wait(envelope), submit=lambda: queue.submit(envelope),
                cancel=lambda: queue.cancel(envelope), clear=queue.clear, start=queue.start, stop=queue.stop,
                terminate=queue.terminate, stats=queue.stats, snapshot=queue.snapshot, join=queue.join,
                pause=queue.pause, resume=queue.resume, resize=lambda: queue.resize(2), len=lambda: len(queue),
                state=lambda: queue.state, last_report=lambda: queue.last_report, dead=lambda: queue.dead_letters(),
                next_due=queue.next_due, is_paused=lambda: queue.is_paused, capacity=lambda: queue.capacity,
                clear_dead=queue.clear_dead_letters, enter=queue.__enter__, run=queue.run,
                handler=lambda: queue.handler("mail")(lambda ctx, envelope: None), executor=queue.as_executor,
                lifespan=lambda: asyncio.run(queue.lifespan().__aenter__()),
            )
            code = 0
            for name, call in calls.items():
                try:
                    call()
                except QueueStateError:
                    continue
                except BaseException as error:
                    say("wrong:", name, type(error).__name__)
                say("not refused:", name)
                code = 1
            if queue.name != "mails" or "mails" not in repr(queue):
                code = 2
            os._exit(code)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert said == ["0"], errors


@needs_fork
def test_fork_leaves_the_parent_alone() -> None:
    """D33 fork: the parent goes on as if nothing had been."""
    said, errors, _ = run("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        queue = EnvelopeQueue("q", workers=2)
        queue.start()
        for number in range(10):
            queue.send(Envelope(lambda ctx, envelope: None))
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
        say(queue.stop().kept, queue.stats().succeeded)
    """)
    assert said == ["()", "10"], errors


@needs_fork
def test_a_forked_child_exits() -> None:
    """D33 fork: a child that exits as usual does not hang on a queue of its parent, nor complain."""
    said, errors, seconds = run("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        queue = EnvelopeQueue("q")
        queue.start()
        child = os.fork()
        if child:
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            queue.stop()
        else:
            sys.exit(5)
    """)
    assert said == ["5"]
    assert "Traceback" not in errors
    assert seconds < 15


# run, signals and the main thread


RUN = """
        def work(ctx, envelope):
            say("ready")
            while not ctx.stopping:
                time.sleep(0.01)
            say("done")

        queue = EnvelopeQueue("q", workers=1)
        queue.send(Envelope(work), Envelope(lambda ctx, envelope: say("drained")))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_ends_by_a_signal(number: int) -> None:
    """D33 signals: run starts, waits for SIGINT or SIGTERM, stops with the queue's own mode and returns the report."""
    said, errors = interact(
        RUN
        + """
        report = queue.run()
        say(report.state.name, report.succeeded, queue.state.name)
    """,
        number,
    )
    assert said == ["done", "drained", "STOPPED", "2", "STOPPED"], errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_cancels(number: int) -> None:
    """D33 signals: a first SIGINT or SIGTERM stops, a second cancels."""
    said, errors = interact(
        """
        def work(ctx, envelope):
            say("ready")
            while not ctx.stopping:
                time.sleep(0.01)
            say("ready")
            ctx.wait(None)
            say("cancelled", ctx.cancelled)
            ctx.check()

        queue = EnvelopeQueue("q", workers=1)
        queue.send(Envelope(work))
        report = queue.run()
        say(report.state.name, report.succeeded)
    """,
        number,
        number,
    )
    assert said[:2] == ["cancelled", "True"], errors
    assert said[3] == "0"


def test_a_signal_at_the_very_start() -> None:
    """D33 signals: a signal that comes the moment run begins to wait is not missed."""
    said, errors, _ = run("""
        for number in range(300):
            queue = EnvelopeQueue("q", workers=1)
            queue.send(Envelope(lambda ctx, envelope: os.kill(os.getpid(), signal.SIGTERM)))
            assert queue.run().state.name == "STOPPED"
        say("end")
    """)
    assert said == ["end"], errors


def test_run_restores_the_handlers() -> None:
    """D33 signals: previous handlers are restored."""
    said, errors = interact(
        """
        def mine(number, frame):
            say("mine")

        signal.signal(signal.SIGTERM, mine)
        before = signal.getsignal(signal.SIGINT)
        """
        + RUN.lstrip()
        + """
        queue.run()
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is before
        os.kill(os.getpid(), signal.SIGTERM)
    """,
        signal.SIGTERM,
    )
    assert said == ["done", "drained", "mine"], errors


def test_run_ends_by_the_stop_of_another() -> None:
    """D33 run: start, wait for another's stop, stop."""
    said, errors, _ = run("""
        queue = EnvelopeQueue("q")
        queue.send(Envelope(lambda ctx, envelope: say(ctx.queue.stop().state.name)))
        report = queue.run()
        say(report.state.name, report.succeeded, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """)
    assert said == ["STOPPING", "STOPPED", "1", "True"], errors


def test_run_says_what_it_leaves() -> None:
    """D33 run: when run leaves entries kept, one WARNING gives the count; last_report holds the report."""
    said, errors, _ = run("""
        import logging
        logging.basicConfig(format="%(levelname)s|%(message)s")
        queue = EnvelopeQueue("q")
        queue.send(*(Envelope(lambda ctx, envelope: None) for _ in range(3)), delay=1000)
        queue.send(Envelope(lambda ctx, envelope: queue.stop()))
        report = queue.run()
        say(len(report.kept), queue.last_report == report)
    """)
    assert said == ["3", "True"]
    warnings = [line for line in errors.splitlines() if line.startswith("WARNING|")]
    assert len(warnings) == 1
    assert "3" in warnings[0]


def test_run_needs_the_main_thread() -> None:
    """D33 main thread: signals need the main thread, else QueueStateError; the queue is not started."""
    queue = EnvelopeQueue("q")
    raised: list[Any] = []

    def call() -> None:
        try:
            queue.run()
        except QueueStateError as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(20)
    assert len(raised) == 1
    assert queue.state.name == "INIT"
    queue.terminate()


def test_keyboard_interrupt_of_a_handler_in_a_thread() -> None:
    """D33 main thread: a KeyboardInterrupt raised by a handler in a thread is a failed run, and no more."""
    said, errors, _ = run("""
        import logging
        logging.disable()
        def interrupted(ctx, envelope):
            raise KeyboardInterrupt

        queue = EnvelopeQueue("q", workers=1)
        queue.send(Envelope(interrupted), Envelope(lambda ctx, envelope: say("next")))
        queue.start()
        queue.stop()
        say(queue.stats().dropped, queue.stats().succeeded)
    """)
    assert said == ["next", "1", "1"], errors


def test_a_signal_handler_that_enters_again() -> None:
    """D33 main thread: a signal handler that calls the queue works, or gets QueueStateError; no deadlock."""
    said, errors, _ = run("""
        queue = EnvelopeQueue("q", workers=1)
        queue.start()
        answers = {"sent": 0, "refused": 0}

        def handler(number, frame):
            try:
                queue.send(Envelope(lambda ctx, envelope: None))
                answers["sent"] += 1
            except QueueStateError:
                answers["refused"] += 1

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        mine, ends_at = 0, time.monotonic() + 2
        while time.monotonic() < ends_at:
            mine += queue.send(Envelope(lambda ctx, envelope: None))
        signal.setitimer(signal.ITIMER_REAL, 0)
        queue.stop()
        stats = queue.stats()
        assert stats.accepted == mine + answers["sent"] == stats.succeeded
        say("end", answers["sent"] > 0)
    """)
    assert said == ["end", "True"], errors


def test_keyboard_interrupt_during_stop() -> None:
    """D33 main thread: Ctrl-C during a blocking stop is raised, the stop goes on, and may be awaited again."""
    said, errors = interact(
        """
        inside, go_on = threading.Event(), threading.Event()
        queue = EnvelopeQueue("q", workers=1)
        queue.send(Envelope(lambda ctx, envelope: inside.set() or go_on.wait(30)))
        queue.start()
        inside.wait(20)
        threading.Timer(0.3, lambda: say("ready")).start()
        try:
            queue.stop()
        except KeyboardInterrupt:
            say("interrupted", queue.state.name)
        go_on.set()
        say(queue.stop().state.name)
    """,
        signal.SIGINT,
    )
    assert said == ["interrupted", "STOPPING", "STOPPED"], errors


@pytest.mark.parametrize("call", ["queue.join()", "queue.send_wait(envelope)", "future.result()"])
def test_keyboard_interrupt_during_other_waits(call: str) -> None:
    """D33 main thread: Ctrl-C ends a blocking call, and the queue works on."""
    said, errors = interact(
        f"""
        go_on = threading.Event()
        queue = EnvelopeQueue("q", workers=1, capacity=1)
        envelope = Envelope(lambda ctx, envelope: say("never"))
        queue.start()
        future = queue.submit(Envelope(lambda ctx, envelope: go_on.wait(30)))
        threading.Timer(0.3, lambda: say("ready")).start()
        try:
            {call}
        except KeyboardInterrupt:
            say("interrupted")
        go_on.set()
        report = queue.stop()
        say(report.state.name, report.succeeded, queue.stats().accepted)
    """,
        signal.SIGINT,
    )
    assert said == ["interrupted", "STOPPED", "1", "1"], errors
