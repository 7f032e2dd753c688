"""`top`: the queues of a running process, as their dashboard tells of them."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .options import FAILED, OK, PREFIX, Command, Seconds, option
from .source import MOST_ROWS, QueueState, Row, Source, SourceError

HELP = f"""\
Watch the queues of a process whose dashboard is at URL, as `run --dashboard` prints it.

On a terminal it goes on until q or Ctrl-C; otherwise it prints once. The token is in the URL after `#token=`, or in
{PREFIX}TOKEN.

\b
Exit codes:
  0  it was shown
  1  the dashboard cannot be reached, or wants its token
  2  wrong usage
"""

PLAIN_WIDTH = 120
STATES = {"running": "green", "stopping": "yellow", "stopped": "red", "terminated": "red"}


@click.command("top", cls=Command, help=HELP, short_help="Watch the queues of a running process.")
@click.argument("url")
@option("--token", envvar=f"{PREFIX}TOKEN", metavar="TOKEN",
        help="The token of the dashboard. Best given in the environment.")  # fmt: skip
@option("--interval", type=Seconds(is_above=True), metavar="SECONDS", default=1, help="How often to look.")
def command(url: str, token: str | None, interval: float) -> int:
    """Show it."""
    source = Source(url, token)
    try:
        queues = source.state()
    except SourceError as error:
        click.echo(f"Error: {source.address}: {error}", err=True)
        return FAILED
    if not sys.stdout.isatty():
        Console(width=PLAIN_WIDTH, highlight=False, no_color=True).print(shown(queues, rows=10))
        return OK
    watch(source, queues, interval)
    return OK


def watch(source: Source, queues: list[QueueState], interval: float) -> None:
    """Show it again and again, until somebody has had enough."""
    trouble = ""
    console = Console(highlight=False)
    with _ended_by_sigterm(), _keys() as key, Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                live.update(screen(source.address, queues, trouble, console.height), refresh=True)
                if key(interval) in (b"q", b"Q", b"\x03"):
                    return
                try:
                    queues, trouble = source.state(), ""
                except SourceError as error:
                    trouble = f"{error}; this is what was known before"
        except KeyboardInterrupt:
            return


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM is as Ctrl-C: the terminal is to be left as it was found."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:  # between the screens
        pass
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _keys() -> Iterator[Callable[[float], bytes]]:
    """A function that waits so many seconds, or until a key is pressed, and gives it."""
    if sys.stdin is None or not sys.stdin.isatty() or sys.platform == "win32":
        yield _no_key
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def key(seconds: float) -> bytes:
        if not select.select([fd], [], [], seconds)[0]:
            return b""
        return os.read(fd, 1) or b"q"  # the terminal has gone

    tty.setcbreak(fd)
    try:
        yield key
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _no_key(seconds: float) -> bytes:
    threading.Event().wait(seconds)
    return b""


# What is seen


def screen(address: str, queues: Sequence[QueueState], trouble: str, height: int) -> RenderableType:
    """One screen, *height* lines high."""
    head = Text.assemble((address, "bold"), "   q ends it")
    if trouble:
        head.append(f"\n{trouble}", style="red")
    return Group(head, Text(), shown(queues, rows=_fitting(queues, height - 2 - bool(trouble))))


def _fitting(queues: Sequence[QueueState], height: int) -> int:
    """The most rows of each list with which all of it has room."""
    lists = [found for queue in queues for found in (queue.running, queue.due, queue.dead)]
    rows = MOST_ROWS
    while rows > 1 and 3 * len(queues) + sum(min(rows, len(found)) for found in lists) > height:
        rows -= 1
    return rows


def shown(queues: Sequence[QueueState], rows: int) -> RenderableType:
    """All queues, each with at most *rows* rows of what runs, of what is due, and of dead letters."""
    if not queues:
        return Text("it has no queues")
    parts: list[RenderableType] = []
    for queue in queues:
        if parts:
            parts.append(Text())
        parts += [_head(queue), _counts(queue), _lists(queue, rows)]
    return Group(*parts)


def _head(queue: QueueState) -> Text:
    stats = queue.stats
    limit = "" if queue.capacity is None else f" of {queue.capacity:,.0f}"
    return Text.assemble(
        (queue.name, "bold"),
        "  ",
        (queue.state, STATES.get(queue.state, "")),
        f"  {stats.get('running', 0):,.0f} of {stats.get('workers', 0):,.0f} workers busy",
        f"  {stats.get('occupancy', 0):,.0f}{limit} entries",
        "".join(f"  {rate:,.1f} {name}/s" for name, rate in queue.rates.items() if name in ("started", "failed")),
        (f"  {queue.error}", "red"),
    )


def _counts(queue: QueueState) -> Text:
    waiting = ("buffered", "ready", "delayed")
    ended = ("accepted", "succeeded", "stopped", "dropped", "returned", "abandoned", "refused", "late")
    always = ("ready", "delayed", "accepted", "succeeded", "dropped")
    counts = [(name, queue.stats.get(name, 0)) for name in (*waiting, *ended)]
    return Text("  " + "  ".join(f"{name} {count:,.0f}" for name, count in counts if count or name in always))


def _lists(queue: QueueState, rows: int) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2), pad_edge=True)
    for _ in range(4):
        table.add_column(no_wrap=True, overflow="ellipsis")
    lists = [("running", queue.running, len(queue.running)), ("due", queue.due, len(queue.due))]
    lists.append(("dead letters", queue.dead, int(queue.dead_count)))
    for title, found, count in lists:
        _add_rows(table, title, found[:rows], count)
    return table


def _add_rows(table: Table, title: str, rows: Sequence[Row], count: int) -> None:
    for number, row in enumerate(rows):
        what = Text(f"{title} {count:,}", style="bold") if number == 0 else Text()
        table.add_row(what, Text(row.type or "?"), Text(row.id), Text("  ".join(row.words)))
