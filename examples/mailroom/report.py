"""Counts what happens, tells it once a second, and sums it up in a table at the end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rate_envelope_queue import Context, Envelope

if TYPE_CHECKING:
    from .server import Received


class Tally:
    """What the workers report, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent_at: dict[str, float] = {}
        self.latencies: dict[str, float] = {}  # seconds from send to delivery, by delivery id
        self.retries = 0
        self.delivered_by_retry = 0
        self.began_at = time.monotonic()
        self.ended_at = self.began_at

    def sent(self, delivery_id: str) -> None:
        """A delivery is about to be given to the queue."""
        with self._lock:
            self._sent_at[delivery_id] = time.monotonic()

    def unsent(self, delivery_id: str) -> None:
        """The queue did not take it after all."""
        with self._lock:
            del self._sent_at[delivery_id]

    def started(self, attempt: int) -> None:
        """A run begins."""
        if attempt > 1:
            with self._lock:
                self.retries += 1

    def delivered(self, delivery_id: str, attempt: int) -> None:
        """The server has said that it accepted this one."""
        with self._lock:
            self.ended_at = time.monotonic()
            self.latencies[delivery_id] = self.ended_at - self._sent_at[delivery_id]
            self.delivered_by_retry += attempt > 1

    @property
    def sent_count(self) -> int:
        """How many deliveries the queue has taken."""
        return len(self._sent_at)


class Progress:
    """The handler of the periodic envelope: one line each time it runs."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._last = (time.monotonic(), 0)

    def tell(self, ctx: Context, envelope: Envelope[Any]) -> None:
        """Print how far we are."""
        now, count = time.monotonic(), len(self._tally.latencies)
        then, before = self._last
        self._last = (now, count)
        stats = ctx.queue.stats()
        rate = (count - before) / (now - then) if now - then > 0.1 else 0.0
        waiting = stats.ready + stats.delayed
        print(
            f"{now - self._tally.began_at:5.1f} s   delivered {count:4}   retries {self._tally.retries:4}   "
            f"dead-lettered {stats.dropped:3}   waiting {waiting:3}   {rate:5.1f} a second",
            flush=True,
        )


@dataclass(frozen=True, slots=True)
class MailboxCheck:
    """Whether the server holds each accepted message exactly once, and as it was sent; `faults` says what not."""

    accepted: int
    held_once: int
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all is as it should be."""
        return not self.faults and self.accepted == self.held_once

    def __str__(self) -> str:
        verdict = "OK" if self.passed else "FAILED"
        lines = [f"mailbox check: {self.accepted} accepted, {self.held_once} held exactly once: {verdict}"]
        return "\n".join(lines + [f"  {fault}" for fault in self.faults])


def check_mailbox(
    accepted: Mapping[str, tuple[str, bytes]], mailbox: Iterable[Received], unsure: Collection[str] = ()
) -> MailboxCheck:
    """Compare what was *accepted* (id to recipient and content) with what the *mailbox* holds.

    *unsure* are the ids of runs that were abandoned: the server may have accepted them, and nobody waited for its word.
    """
    held: Counter[str] = Counter()
    changed: set[str] = set()
    for received in mailbox:
        held[received.id] += 1
        if accepted.get(received.id, (received.recipient, received.content)) != (received.recipient, received.content):
            changed.add(received.id)
    faults = (
        _fault("accepted and not held", [each for each in accepted if not held[each]]),
        _fault("held more than once", [each for each, count in held.items() if count > 1]),
        _fault(
            "held and not known as accepted", [each for each in held if each not in accepted and each not in unsure]
        ),
        _fault("changed on the way", changed),
    )
    held_once = sum(held[each] == 1 and each not in changed for each in accepted)
    return MailboxCheck(len(accepted), held_once, tuple(fault for fault in faults if fault))


def _fault(what: str, ids: Collection[str]) -> str:
    shown = ", ".join(sorted(ids)[:5]) + (", ..." if len(ids) > 5 else "")
    return f"{what}: {len(ids)} ({shown})" if ids else ""


def percentile(values: Collection[float], percent: float) -> float:
    """The smallest of *values* that at least *percent* of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


@dataclass(frozen=True, slots=True)
class Summary:
    """What the table shows."""

    files: int
    skipped: tuple[tuple[str, str], ...]
    planned: int
    unsent: int
    left: int
    dead: Mapping[str, int]
    replies: Mapping[str, int]
    tally: Tally

    @property
    def accounted(self) -> bool:
        """Whether every planned delivery is in exactly one row."""
        return self.planned == len(self.tally.latencies) + sum(self.dead.values()) + self.left + self.unsent

    def __str__(self) -> str:
        return "\n".join(f"{name:<28}{value}".rstrip() for name, value in self._rows())

    def _rows(self) -> Iterable[tuple[str, str]]:
        tally, count = self.tally, len(self.tally.latencies)
        yield "files read", f"{self.files:6}"
        yield "  skipped, or in part", f"{len({name for name, _ in self.skipped}):6}"
        yield "deliveries planned", f"{self.planned:6}"
        yield "delivered", f"{count:6}   {tally.delivered_by_retry} of them after a retry"
        yield "retries", f"{tally.retries:6}   the server: {self._difficulties()}"
        yield "dead-lettered", f"{sum(self.dead.values()):6}"
        for reason, times in sorted(self.dead.items(), key=lambda item: (-item[1], item[0])):
            yield "", f"{times:6}   {reason}"
        if self.left or self.unsent:
            yield "left in the queue", f"{self.left:6}"
            yield "not sent any more", f"{self.unsent:6}"
        if count:
            latencies = tally.latencies.values()
            p50, p99 = percentile(latencies, 50), percentile(latencies, 99)
            took = tally.ended_at - tally.began_at
            yield "from send to delivery", f"p50 {p50:.2f} s   p99 {p99:.2f} s"
            yield "throughput", f"{count / max(took, 0.001):.1f} deliveries a second, for {took:.1f} s"
        if not self.accounted:
            yield "NOT ACCOUNTED FOR", "the rows above do not add up to what was planned"

    def _difficulties(self) -> str:
        names = {"450": "greylisted", "451": "was busy", "hung up": "hung up", "no answer": "did not answer"}
        met = [f"{name} {self.replies[key]}x" for key, name in names.items() if self.replies.get(key)]
        return ", ".join(met) or "made no difficulties"
