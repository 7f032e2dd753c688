"""What became of the lines, told at the end of `map`."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..text import escaped
from .logs import Voice
from .options import BROKEN_PIPE, FAILED, LEFT, OK


@dataclass
class Tally:
    """Counts of lines. Each line of the input that was read is done, dead or left."""

    done: int = 0
    faults: int = 0  # of those done, how many have a result that is not JSON
    dead: int = 0
    late: int = 0  # of those done, how many after their deadline
    left: int = 0
    running: int = 0  # of those left, how many were given up on: they may have been done in part
    unwritten: int = 0  # of those left, how many are done, but their result could not be written
    unread_from: int | None = None  # the number of the first line that was not read, when there may be one
    seconds: float = 0.0
    dead_letters: str | None = None  # the file
    reasons: str | None = None
    left_file: str | None = None
    fault: str | None = None  # why it could not go on
    is_pipe_broken: bool = False


def code_of(tally: Tally) -> int:
    """The exit code."""
    if tally.is_pipe_broken:
        return BROKEN_PIPE
    if tally.left or tally.unread_from is not None or tally.fault is not None:
        return LEFT
    return FAILED if tally.dead or tally.faults else OK


def tell(voice: Voice, tally: Tally) -> None:
    """A few lines for people, or one record with the same as fields; nothing when nobody reads the output."""
    if tally.is_pipe_broken:
        return
    lines = list(_lines(tally))
    if voice.is_json:
        voice.say(lines[0], **asdict(tally))
    else:
        voice.say("\n".join(lines))


def _lines(tally: Tally) -> list[str]:
    ended = tally.done + tally.dead
    rate = f", {ended / tally.seconds:,.0f} lines/s" if tally.seconds > 0.1 else ""
    lines = [f"{tally.done:,} done, {tally.dead:,} dead, {tally.left:,} left, in {tally.seconds:,.1f} s{rate}"]
    if tally.fault is not None:
        lines.append(f"  stopped by {escaped(tally.fault, 500)}")
    if tally.faults:
        lines.append(f"  {tally.faults:,} of those done have a result that is not JSON; their records say why")
    if tally.late:
        lines.append(f"  {tally.late:,} of those done took longer than their deadline")
    if tally.dead and tally.dead_letters is not None:
        why = "" if tally.reasons is None else f"; why: {escaped(tally.reasons, 300)}"
        lines.append(f"  dead: {escaped(tally.dead_letters, 300)}{why}")
    return lines + _left_lines(tally)


def _left_lines(tally: Tally) -> list[str]:
    lines = []
    if tally.left:
        place = "not written anywhere: --left FILE does" if tally.left_file is None else escaped(tally.left_file, 300)
        lines.append(f"  left: {place}")
    if tally.running:
        lines.append(f"  {tally.running:,} of those left were running: they may have been done in part")
    if tally.unwritten:
        lines.append(f"  {tally.unwritten:,} of those left are done, but their results could not be written")
    if tally.unread_from is not None:
        lines.append(f"  from line {tally.unread_from:,} on the input was not read")
    return lines
