"""For every test: what it leaves behind is its fault, and is told at once, by name."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE = 2.0  # seconds that threads have to end, and file descriptors to be closed
FDS = Path("/proc/self/fd")
WATCHDOG = "rate-envelope-queue watchdog"
WORKER = re.compile(r"^(?!Thread-|Dummy-).+-\d+$")  # "<queue>-<number>"; threading itself names "Thread-1", "Dummy-1"


HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None


@pytest.fixture(scope="session")
def uvloop_is_warm() -> None:
    """The first loop of uvloop opens a pipe that stays."""
    if HAS_UVLOOP:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.sleep(0))


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """No thread of the package and no file descriptor is left over when a test and its fixtures have ended.

    Threads have two seconds to end. The carriers of simulated queues do not count: one that a test leaves blocked in a
    handler is as good as memory. `@pytest.mark.leaks("reason")` excuses a test that cannot help it.
    """
    threads = set(threading.enumerate())
    fds = open_fds()
    yield
    excuse = request.node.get_closest_marker("leaks")
    if excuse is not None:
        assert excuse.args, 'give the reason: @pytest.mark.leaks("...")'
        return
    left = left_threads(threads)
    if left:
        left = end_of(left)
    files = new_files(fds) if open_fds() - fds else {}
    if files:
        files = end_of_files(fds)
    if left or files:
        pytest.fail("\n".join(["left behind:", *map(described, left), *files.values()]), pytrace=False)


def left_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads of the package that were not there before."""
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and (thread.name == WATCHDOG or WORKER.match(thread.name))
    ]


def end_of(threads: list[threading.Thread]) -> list[threading.Thread]:
    """Wait for them; those that are still there when patience is over."""
    ends_at = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, ends_at - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def open_fds() -> set[str]:
    """The open file descriptors, where the system tells (Linux), without the one that is used for looking."""
    try:
        probe = os.dup(0)  # the lowest that is free: the listing takes the same
        os.close(probe)
        return set(os.listdir(FDS)) - {str(probe)}
    except OSError:
        return set()


def new_files(before: set[str]) -> dict[str, str]:
    """What was opened since and is still open, by file descriptor."""
    found: dict[str, str] = {}
    for fd in sorted(open_fds() - before):
        try:
            found[fd] = f"fd {fd}: {os.readlink(FDS / fd)}"
        except OSError:
            pass  # closed meanwhile
    return found


def end_of_files(before: set[str]) -> dict[str, str]:
    """Wait until they are closed, by whoever holds them or by the garbage collector; else those that are open."""
    gc.collect()
    ends_at = time.monotonic() + PATIENCE
    tick = threading.Event()
    while (files := new_files(before)) and time.monotonic() < ends_at:
        tick.wait(0.01)
    return files


def described(thread: threading.Thread) -> str:
    """Its name, and the line at which it is."""
    frame = sys._current_frames().get(thread.ident or 0)
    where = "" if frame is None else f", in {frame.f_code.co_qualname} at {frame.f_code.co_filename}:{frame.f_lineno}"
    return f"thread {thread.name!r}{where}"
