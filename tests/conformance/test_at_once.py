"""What one call sees in the middle of another, on threads: all of it, or nothing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rate_envelope_queue import EnvelopeQueue, QueueState


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
