"""The progress bar of `map`, on stderr when that is a terminal."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Protocol

WINDOW = 5.0  # seconds over which the rate is measured
STEP = 0.2


class Progress(Protocol):
    """What the writer tells, and what can be shown above it."""

    def moved(self, size: int, done: int, dead: int) -> None:
        """*size* bytes of input have gone; so many lines are done and dead."""
        ...

    def note(self, text: str) -> None:
        """Say what is going on."""
        ...

    def stop(self) -> None:
        """It has come to its end."""
        ...


class Silent:
    """No progress bar."""

    def moved(self, size: int, done: int, dead: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class Bar:
    """A bar with the part of the input that has gone, the lines, their rate, and the time that is left.

    Without a *size* of the input, it only moves. *now* gives monotonic seconds.
    """

    def __init__(self, size: int | None, now: Callable[[], float]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._now = now
        self._console = Console(file=sys.stderr)
        columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=None)]
        if size is not None:
            columns.append(TextColumn("{task.percentage:>3.0f}%", markup=False))
        columns += [TextColumn("{task.fields[lines]}", markup=False), TimeElapsedColumn()]
        if size is not None:
            columns += [TimeRemainingColumn(), TextColumn("left", markup=False)]
        self._bar = RichProgress(*columns, console=self._console, transient=True, expand=True)
        self._task = self._bar.add_task("map", total=size, lines="no line yet")
        self._samples: deque[tuple[float, int]] = deque([(now(), 0)])
        self._gone = 0
        self._bar.start()

    def moved(self, size: int, done: int, dead: int) -> None:
        """Move on; a few times a second is enough."""
        self._gone += size
        now = self._now()
        if now - self._samples[-1][0] < STEP:
            return
        self._samples.append((now, done + dead))
        while len(self._samples) > 2 and now - self._samples[1][0] > WINDOW:
            self._samples.popleft()
        then, before = self._samples[0]
        rate = (done + dead - before) / (now - then)
        text = f"{done + dead:,} lines  {rate:,.0f}/s" + (f"  {dead:,} dead" if dead else "")
        self._bar.update(self._task, completed=self._gone, lines=text)

    def note(self, text: str) -> None:
        """Say it in place of the name."""
        self._bar.update(self._task, description=text)

    def show(self, text: str) -> None:
        """Write *text* above the bar."""
        self._console.out(text, highlight=False)

    def stop(self) -> None:
        """Take it away."""
        self._bar.stop()
