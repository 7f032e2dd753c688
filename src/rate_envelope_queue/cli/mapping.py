"""`map`: one envelope for each line of the input, one line of output for each that is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..text import error_text, escaped
from .calling import DELIMITERS, InputFormat, OutputFormat, check_function
from .lines import LineReader
from .loading import load
from .logs import LogFormat, Voice, configure
from .maprun import MapRun
from .options import Command, Rate, Seconds, UsageFault, Whole, option
from .outlets import DeadLetters, Left, Results, Screen, ShownDead
from .progress import Bar, Progress, Silent
from .signals import leave_soon, listening
from .tally import code_of, tell
from .writing import ResultOutlet

HELP = """\
Call FUNCTION, named `module:function`, with each line of FILE or of standard input.

What it returns becomes a line of JSON on standard output. A coroutine function runs on asyncio. What it prints goes to
standard error.

A line whose function raises is retried as --retries says, and then dead: it goes to --dead-letters, as it was, and the
reason into a file beside it. Without that option the first failures are shown.

SIGINT or SIGTERM end the reading and drain what was read, for at most --shutdown-timeout seconds; a second one cancels
what still runs. Lines that are not done, and the rest of the input, go to --left. So every line of the input is in
one of three places: done, dead or left.

\b
Exit codes:
  0    every line is done
  1    some lines are dead, or their results are not JSON
  2    wrong usage, or a function or file that cannot be used
  3    some lines are left: it was stopped, or could not read or write on
  141  nobody reads the output any more
"""


@dataclass(frozen=True)
class Settings:
    """The options of `map`."""

    target: str
    file: str
    input: InputFormat
    output: OutputFormat
    completion_order: bool
    workers: int | None
    capacity: int
    rate: float | None
    deadline: float | None
    retries: int
    backoff: float
    dead_letters: str | None
    left: str | None
    shutdown_timeout: float | None
    log_level: str
    log_format: LogFormat

    @property
    def left_path(self) -> Path | None:
        """Where lines go that are not done."""
        if self.left is None:
            return None if self.dead_letters is None else Path(f"{self.dead_letters}.left")
        return Path(self.left)


@click.command("map", cls=Command, help=HELP, short_help="Call a function with each line of a file.")
@click.argument("target", metavar="FUNCTION")
@click.argument("file", metavar="[FILE]", default="-", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@option("--input", type=click.Choice(["text", "jsonl", "nul"]), default="text",
        help="What a line is: text, JSON, or text that ends with a NUL byte.")  # fmt: skip
@option("--output", type=click.Choice(["values", "records"]), default="values",
        help='values: what was returned. records: {"line": N, "result": ...}.')  # fmt: skip
@option("--completion-order", is_flag=True, help="Write results as they come, not in the order of the input.")
@option("--workers", "-w", type=Whole(1), metavar="N",
        help="Calls at the same time.  [default: 4, and 100 for coroutines]")  # fmt: skip
@option("--capacity", type=Whole(1), metavar="N", default=1000,
        help="The most lines that are read and not yet written.")  # fmt: skip
@option("--rate", type=Rate(), metavar="N", help="The most calls that begin per second.")
@option("--deadline", type=Seconds(is_above=True), metavar="SECONDS",
        help="The most that a call may take. A coroutine is cancelled, a plain function counts as late.")  # fmt: skip
@option("--retries", type=Whole(0), metavar="N", default=0, help="How often a line is tried again.")
@option("--backoff", type=Seconds(is_above=True), metavar="SECONDS", default=0.1,
        help="The wait before the first retry; it doubles, to a minute at most.")  # fmt: skip
@option("--dead-letters", metavar="FILE", help="Where lines go that have failed. Reasons go to FILE.reasons.")
@option("--left", metavar="FILE",
        help="Where lines go that are not done when it is stopped.  [default: DEAD_LETTERS.left]")  # fmt: skip
@option("--shutdown-timeout", type=Seconds(may_be_none=True), default=20, metavar="SECONDS",
        help="The most seconds that draining may take before work is cancelled; none for no limit.")  # fmt: skip
@option("--log-level", type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False), default="error",
        help="The least level that is logged, on stderr; warning shows the traceback of each failure.")  # fmt: skip
@option("--log-format", type=click.Choice(["text", "json"]), default="text", help="json: one object a line.")
def command(**options: Any) -> int:
    """Map a function over lines."""
    settings = Settings(**options)
    voice = configure(settings.log_level, settings.log_format)
    with ExitStack() as stack:
        results_fd = stack.enter_context(_stdout_kept())
        function = load(settings.target, "a function")
        check_function(function, settings.target)
        inbox = stack.enter_context(listening())
        delimiter = DELIMITERS[settings.input]
        reader = stack.enter_context(_opened(settings, delimiter))
        dead, left = _outlets(settings, delimiter, voice, stack)
        run = MapRun(settings, function, reader, inbox, voice, is_ascii=os.isatty(results_fd))
        progress, results = _shown(results_fd, reader, run, voice)
        tally = run.run(results, dead, left, progress)
        tell(voice, tally)
        code = code_of(tally)
        if tally.running:
            leave_soon(code)
        else:
            run.close()
    return code


@contextmanager
def _stdout_kept() -> Iterator[int]:
    """A file descriptor for results alone: what the function prints, itself or a program it calls, goes to stderr."""
    try:
        fd = os.dup(1)
    except OSError:
        raise UsageFault("standard output is closed") from None
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        yield fd
    finally:
        sys.stdout.flush()
        os.close(fd)


@contextmanager
def _opened(settings: Settings, delimiter: bytes) -> Iterator[LineReader]:
    try:
        fd = os.dup(0) if settings.file == "-" else os.open(settings.file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageFault(f"{escaped(settings.file, 300)} cannot be read: {error_text(error, 300)}") from None
    reader = LineReader(fd, delimiter)
    try:
        yield reader
    finally:
        reader.close()
        os.close(fd)


def _outlets(
    settings: Settings, delimiter: bytes, voice: Voice, stack: ExitStack
) -> tuple[DeadLetters | ShownDead, Left | None]:
    dead = DeadLetters(Path(settings.dead_letters), delimiter) if settings.dead_letters else ShownDead(voice)
    stack.callback(dead.close)
    path = settings.left_path
    left = None if path is None else Left(path, delimiter)
    if left is not None:
        stack.callback(left.close)
    return dead, left


def _shown(fd: int, reader: LineReader, run: MapRun, voice: Voice) -> tuple[Progress, ResultOutlet]:
    """A progress bar when somebody looks; on a terminal that shows the results too, they go above it."""
    if voice.is_json or not sys.stderr.isatty():
        return Silent(), Results(fd)
    bar = Bar(reader.size, run.now)
    return bar, Screen(bar.show) if os.isatty(fd) else Results(fd)
