"""`--reload`: the command in a child process, which is drained and started again when a .py file changes.

Files are looked at by their times and sizes, twice a second: for a tree of sources that costs little, and it needs
nothing to be installed. The child hears of signals from its parent alone, as SIGTERM: a Ctrl-C in a terminal goes to
both, and would count twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ..text import escaped
from .logs import Voice
from .options import OK
from .signals import Inbox, listening

CHILD = "_RATE_ENVELOPE_QUEUE_RELOADED"  # set for the child: it does not watch, and ignores SIGINT
LEFT_OUT = {"__pycache__", "node_modules", "site-packages"}

Times = dict[str, tuple[int, int]]


def is_child() -> bool:
    """Whether `--reload` has started this process. It hears SIGTERM alone; those that it starts hear both."""
    if os.environ.pop(CHILD, None) is None:
        return False
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return True


def times_of(root: Path) -> Times:
    """Time and size of every .py file under *root*, without hidden folders, environments and the like."""
    times: Times = {}
    for entry in _sources(root):
        try:
            status = entry.stat()
        except OSError:  # it has just gone
            continue
        times[entry.path] = (status.st_mtime_ns, status.st_size)
    return times


def _sources(root: Path) -> Iterator[os.DirEntry[str]]:
    folders = [os.fspath(root)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                found = list(entries)
        except OSError:  # it has gone, or is not ours to read
            continue
        if any(entry.name == "pyvenv.cfg" for entry in found):
            continue
        for entry in found:
            if entry.name.endswith(".py") and entry.is_file():
                yield entry
            elif entry.is_dir(follow_symlinks=False) and entry.name[0] != "." and entry.name not in LEFT_OUT:
                folders.append(entry.path)


def changes(old: Times, new: Times) -> list[str]:
    """The files that differ."""
    return sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))


class Reloader:
    """A command in a child process, and the files that it is made of.

    *patience* are the seconds that a child may take to end, None for no limit; then it is killed.
    """

    def __init__(self, arguments: list[str], patience: float | None, voice: Voice, inbox: Inbox) -> None:
        self._arguments, self._patience, self._voice, self._inbox = arguments, patience, voice, inbox
        self._root = Path.cwd()
        self._times = times_of(self._root)  # before the child reads them
        self._is_over = False

    def run(self) -> int:
        """Until a signal: the exit code of the last child."""
        while True:
            child = self._start()
            self._wait_for_change(child)
            code = self._end(child)
            if self._is_over:
                return OK if code == -signal.SIGTERM else abs(code)  # it had not yet begun to listen

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", __package__ or "", *self._arguments]
        return subprocess.Popen(command, env={**os.environ, CHILD: "1"})

    def _wait_for_change(self, child: subprocess.Popen[bytes]) -> None:
        """Until a file has changed, or a signal came."""
        is_told = False
        while not self._is_over:
            if child.poll() is not None and not is_told:
                is_told = True
                self._voice.say(f"the process has ended with code {child.returncode}: waiting for a change")
            if isinstance(self._inbox.get(), signal.Signals):
                self._is_over = True
                return
            times = times_of(self._root)
            changed = changes(self._times, times)
            self._times = times
            if changed:
                more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
                self._voice.say(f"{escaped(os.path.relpath(changed[0]), 200)}{more} changed: restarting")
                return

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        """Drain *child*, and hand on what signals come meanwhile; its exit code."""
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            if self._patience is not None:
                self._inbox.put_later(child, self._patience)
        while child.poll() is None:
            note = self._inbox.get()
            if isinstance(note, signal.Signals):
                self._is_over = True
                child.send_signal(signal.SIGTERM)
            elif note is child:
                child.kill()
        return child.wait()


def reload_forever(arguments: list[str], patience: float | None, voice: Voice) -> int:
    """Run the command with *arguments* in a child, and again after each change, until a signal."""
    with listening() as inbox:
        return Reloader(arguments, patience, voice, inbox).run()
