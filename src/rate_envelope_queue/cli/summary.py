"""What became of a queue, told when the process ends."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .. import StopReport
from ..text import bounded_repr, escaped
from .hosts import AnyQueue, Host
from .logs import Voice

MOST_NAMES = 20


@dataclass(frozen=True)
class Ending:
    """The end of one queue: counts since it was made, and what it was left with."""

    name: str
    has_stopped: bool
    runs: int
    failed_runs: int
    succeeded: int
    stopped: int
    dropped: int
    returned: int
    kept: int
    kept_periodics: int
    abandoned: tuple[str, ...]

    @property
    def kept_one_offs(self) -> int:
        """Work that was to be done once, and was not."""
        return self.kept - self.kept_periodics


def ending_of(host: Host, *, has_stopped: bool) -> Ending:
    """Read it off the queue. One that would not stop has given up on all that still runs."""
    queue = host.queue
    report = host.report()
    stats = queue.stats()
    kept = report.kept if report is not None and has_stopped else ()
    return Ending(
        name=escaped(queue.name, 100),
        has_stopped=has_stopped,
        runs=stats.runs_started,
        failed_runs=stats.runs_failed,
        succeeded=stats.succeeded,
        stopped=stats.stopped,
        dropped=stats.dropped,
        returned=stats.returned,
        kept=len(kept) if has_stopped else stats.occupancy - stats.running,
        kept_periodics=sum(envelope.is_periodic for envelope in kept),
        abandoned=_abandoned(queue, report, has_stopped=has_stopped),
    )


def _abandoned(queue: AnyQueue, report: StopReport | None, *, has_stopped: bool) -> tuple[str, ...]:
    if has_stopped:
        return tuple(bounded_repr(envelope, 200) for envelope in (report.abandoned if report is not None else ()))
    views = queue.snapshot(limit=len(queue))
    return tuple(bounded_repr(view.envelope, 200) for view in views if view.phase == "running")


def tell(voice: Voice, ending: Ending) -> None:
    """A few lines for people, or one record with the same as fields."""
    lines = [_first_line(ending)]
    lines += [f"  abandoned: {name}" for name in ending.abandoned[:MOST_NAMES]]
    if len(ending.abandoned) > MOST_NAMES:
        lines.append(f"  and {len(ending.abandoned) - MOST_NAMES:,} more")
    if not ending.has_stopped:
        lines.append("  it did not stop in time: a handler blocks its event loop")
    if ending.kept_one_offs:
        lines.append(f"  kept ({ending.kept_one_offs:,}): lost with this process, unless the queue is durable")
    if not voice.is_json:
        voice.say("\n".join(lines))
        return
    fields = {**asdict(ending), "abandoned": len(ending.abandoned), "abandoned_names": "; ".join(ending.abandoned)}
    fields["envelope_queue"] = fields.pop("name")
    voice.say(lines[0], **fields)


def _first_line(ending: Ending) -> str:
    counts = [f"{ending.succeeded:,} succeeded", f"{ending.dropped:,} dropped"]
    counts += [f"{count:,} {what}" for what, count in _rare(ending) if count]
    counts += [f"{ending.kept_one_offs:,} kept", f"{len(ending.abandoned):,} abandoned"]
    failed = f", {ending.failed_runs:,} failed" if ending.failed_runs else ""
    runs = "run" if ending.runs == 1 else "runs"
    return f"{ending.name}: {ending.runs:,} {runs}{failed}; {', '.join(counts)}"


def _rare(ending: Ending) -> list[tuple[str, int]]:
    return [("stopped", ending.stopped), ("returned", ending.returned), ("periodic", ending.kept_periodics)]
