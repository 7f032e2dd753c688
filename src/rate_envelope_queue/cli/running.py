"""`run`: start queues, wait for a signal, stop them, and say what became of everything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from signal import Signals
from typing import Any

import click

from .. import AsyncEnvelopeQueue, EnvelopeQueue
from ..text import bounded_repr, escaped
from . import extras
from .hosts import GRACE, SLACK, AnyQueue, Host, Loop, announced, has_stopped, host_of, start_all
from .loading import load
from .logs import LogFormat, Voice, configure
from .options import FAILED, LOOPBACK, OK, PREFIX, Command, HostPort, Seconds, UsageFault, Whole, option, with_value
from .reloading import is_child, reload_forever
from .signals import Inbox, Note, leave_soon, listening
from .summary import Ending, ending_of, tell

HELP = """\
Run the queues TARGET until SIGINT or SIGTERM, then stop them and say what became of everything.

A TARGET is `module:queue`, or `module:make()` for a function that makes one. It is imported from the current directory.

The first signal stops each queue in its own mode: it drains, unless it was made with stop_mode=STOP. After
--shutdown-timeout seconds, or with a second signal, what still runs is cancelled, and given up on one second later.

\b
Exit codes:
  0  everything that ran has ended
  1  work was abandoned
  2  wrong usage, or a queue that cannot be imported or started
"""


@dataclass(frozen=True)
class Settings:
    """The options of `run`."""

    targets: tuple[str, ...]
    workers: int | None
    shutdown_timeout: float | None
    log_level: str
    log_format: LogFormat
    metrics_host: str
    metrics_port: int | None
    dashboard: tuple[str, int] | None
    dashboard_actions: bool
    token: str | None
    reload: bool


class RunCommand(Command):
    """A command whose `--dashboard` may stand alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give `--dashboard` a value when it has none."""
        return super().parse_args(ctx, with_value(args, "--dashboard", f"{LOOPBACK}:0"))


@click.command("run", cls=RunCommand, help=HELP, short_help="Run the queues of a service.")
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@option("--workers", "-w", type=Whole(1), metavar="N", help="Workers of each queue, instead of its own.")
@option("--shutdown-timeout", type=Seconds(may_be_none=True), default=20, metavar="SECONDS",
        help="The most seconds that stopping may take before work is cancelled; none for no limit.")  # fmt: skip
@option("--log-level", type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False), default="info",
        help="The least level that is logged, on stderr.")  # fmt: skip
@option("--log-format", type=click.Choice(["text", "json"]), default="text", help="json: one object a line.")
@option("--metrics-port", type=Whole(0, 65535), metavar="PORT", help="Serve metrics for Prometheus.")
@option("--metrics-host", default=LOOPBACK, metavar="HOST", help="The address on which they are served.")
@option("--dashboard", type=HostPort(), metavar="[HOST:PORT]",
        help=f"Serve the dashboard; on {LOOPBACK} and a free port when nothing is said.")  # fmt: skip
@option("--dashboard-actions", is_flag=True, help="Let the dashboard change things.")
@option("--token", envvar=f"{PREFIX}TOKEN", metavar="TOKEN",
        help="The token of the dashboard, else a new one. Best given in the environment.")  # fmt: skip
@option("--reload", is_flag=True, help="Drain and start again when a .py file below this directory changes.")
def command(**options: Any) -> int:
    """Run queues."""
    settings = Settings(**options)
    is_reloaded = is_child()
    if is_reloaded or not settings.reload:
        signals = (Signals.SIGTERM,) if is_reloaded else (Signals.SIGINT, Signals.SIGTERM)
        return run(settings, configure(settings.log_level, settings.log_format), signals)
    limit = settings.shutdown_timeout
    patience = None if limit is None else limit + GRACE + 2 * SLACK
    return reload_forever(sys.argv[1:], patience, Voice(settings.log_format))


def run(settings: Settings, voice: Voice, signals: Sequence[Signals]) -> int:
    """Serve until told to stop by *signals*; the exit code."""
    queues = [_queue_of(load(target, "a queue"), target) for target in dict.fromkeys(settings.targets)]
    loop = Loop()
    hosts = [host_of(queue, loop) for queue in dict.fromkeys(queues)]
    if settings.workers is not None:
        for host in hosts:
            host.queue.resize(settings.workers)
    with listening(signals) as inbox:
        endings = _serve(hosts, loop, settings, voice, inbox)
        for ending in endings:
            tell(voice, ending)
        code = FAILED if any(ending.abandoned or not ending.has_stopped for ending in endings) else OK
        if code != OK:
            leave_soon(code)
        loop.close()
    return code


def _queue_of(found: Any, target: str) -> AnyQueue:
    if isinstance(found, (EnvelopeQueue, AsyncEnvelopeQueue)) and not hasattr(found, "advance"):
        return found
    advice = ""
    if hasattr(found, "advance"):
        advice = ": a simulated queue runs nothing by itself"
    elif callable(found):
        advice = f": if it makes one, say {escaped(target, 200)}()"
    raise UsageFault(f"{escaped(target, 200)} is no EnvelopeQueue but {bounded_repr(found)}{advice}")


def _serve(hosts: Sequence[Host], loop: Loop, settings: Settings, voice: Voice, inbox: Inbox) -> list[Ending]:
    queues = [host.queue for host in hosts]
    with ExitStack() as stack:
        stack.enter_context(extras.metrics(queues, settings.metrics_host, settings.metrics_port, voice))
        stack.enter_context(
            extras.dashboard(
                queues, loop, settings.dashboard, settings.token, voice, may_act=settings.dashboard_actions
            )
        )
        for queue in queues:
            workers = queue.stats().workers
            voice.say(
                f"{escaped(queue.name, 100)}: starting with {workers} {'worker' if workers == 1 else 'workers'}",
                envelope_queue=escaped(queue.name, 100), workers=workers,
            )  # fmt: skip
        start_all(list(hosts))
        supervise(hosts, inbox, settings.shutdown_timeout, voice)
        return [ending_of(host, has_stopped=has_stopped(host)) for host in hosts]


def supervise(hosts: Sequence[Host], inbox: Inbox, timeout: float | None, voice: Voice) -> None:
    """Until all have stopped: a first signal stops them, a second cancels; or until they have taken too long."""
    signals = 0
    while not all(map(has_stopped, hosts)):
        note = inbox.get()
        if note is Note.LATE:
            return
        if isinstance(note, Signals):
            signals += 1
            limit = timeout if signals == 1 else 0.0
            voice.say(announced(note, limit, signals))
            if limit is not None:
                inbox.put_later(Note.LATE, limit + GRACE + SLACK)
            for host in hosts:
                host.begin_stop(limit)
