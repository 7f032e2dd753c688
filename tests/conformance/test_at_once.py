"""What one call sees in the middle of another, on threads: all of it, or nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rate_envelope_queue
from rate_envelope_queue import Envelope, EnvelopeQueue, QueueState

SOURCE = str(Path(rate_envelope_queue.__file__).parent)


def seen_in_the_middle(call: Callable[[], Any], look: Callable[[], Any]) -> list[Any]:
    """Make *call*, and before each line of it in the package *look* from another thread; what was seen."""
    seen: list[Any] = []
    threads: list[threading.Thread] = []

    def trace(frame: Any, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(SOURCE):
            return None
        if event == "line":
            threads.append(threading.Thread(target=lambda: seen.append(look())))
            threads[-1].start()
            threads[-1].join(0.005)  # it may have to wait until the call is over
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    for thread in threads:
        thread.join(20)
    assert len(seen) == len(threads) > 0
    return seen


def test_nobody_sees_half_a_batch() -> None:
    """CONTRACT 2, 6: len(queue) is the number of entries before a call or after it."""
    queue, batch = EnvelopeQueue("q"), [Envelope(lambda ctx, envelope: None) for _ in range(4)]
    assert set(seen_in_the_middle(lambda: queue.send(*batch, delay=1000), lambda: len(queue))) == {0, 4}
    assert set(seen_in_the_middle(queue.clear, lambda: len(queue))) == {4, 0}


def test_who_sees_the_end_of_a_stop_finds_its_report() -> None:
    """CONTRACT 7: the state is STOPPED no sooner than last_report is the report."""
    queue = EnvelopeQueue("q", workers=1)
    queue.start()
    seen = seen_in_the_middle(queue.stop, lambda: (queue.state, queue.last_report))
    assert seen[-1] == (QueueState.STOPPED, queue.last_report)
    assert [report for state, report in seen if state is QueueState.STOPPED and report is None] == []


class LateThread(threading.Thread):
    """A thread that has an ident, and has not told whoever started it that it runs."""

    may_tell = threading.Event()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        tell = self._started.set  # type: ignore[attr-defined]
        self._started.set = lambda: (self.may_tell.wait(20), tell())  # type: ignore[attr-defined]


def test_a_stop_does_not_wait_for_a_thread_that_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTRACT 7: a stop raises nothing, though another call may be starting a worker just then."""
    queue: Any = EnvelopeQueue("q", workers=1)
    queue.start()
    resizing = threading.Thread(target=queue.resize, args=(2,))
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Thread", LateThread)
        resizing.start()
        while not any(type(thread) is LateThread and thread.ident for thread in list(queue._pool.threads.values())):
            threading.Event().wait(0.001)
    assert queue.stop().state is QueueState.STOPPED
    LateThread.may_tell.set()
    resizing.join(20)
    queue.terminate()
