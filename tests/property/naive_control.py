"""The naive model, the other half: cancelling, starting, stopping, giving up, and waiting for the end."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from rate_envelope_queue.envelope import Envelope
from rate_envelope_queue.errors import QueueStateError, QueueTerminatedError
from rate_envelope_queue.results import Outcome, StopMode

from .naive import INIT, RUNNING, STOPPED, STOPPING, TERMINATED, Queue, Row, Stop


class Model(Queue):
    """The whole of it."""

    def cancel(self, key: Hashable) -> bool:
        row = self.book.get(key)
        if row is not None and row.phase == "running":
            row.is_cancelled, row.again, row.following = True, None, None
            row.is_added, row.resent_at = False, None
        elif row is not None:
            self.end(key, Outcome.RETURNED)
        return row is not None

    def clear(self) -> list[Envelope]:
        returned = []
        for key, row in list(self.book.items()):
            if row.phase == "running":
                self.cancel(key)
            else:
                returned.append(self.end(key, Outcome.RETURNED))
        return returned

    def detach(self, key: Hashable, future: Any) -> bool:
        row = self.book.get(key)
        if row is None or row.phase == "running" or future not in row.futures:
            return False
        row.futures.remove(future)
        if not row.futures and not row.is_pinned:
            self.end(key, Outcome.RETURNED)
        return True

    def start(self) -> bool:
        if self.is_ending:
            raise QueueTerminatedError
        if self.state is STOPPING:
            raise QueueStateError
        was, self.state = self.state, RUNNING
        if was is not RUNNING:
            self.stopping = Stop(self)
        return was is not RUNNING

    def stop(self, mode: StopMode, timeout: float | None, grace: float, *, is_ending: bool) -> None:
        if self.state is RUNNING or (is_ending and self.state in (INIT, STOPPED)):
            self.stopping, self.state = Stop(self), STOPPING
        if self.state is not STOPPING:
            return
        stop, self.is_ending = self.stopping, self.is_ending or is_ending
        if is_ending or mode is StopMode.STOP:
            stop.mode = StopMode.STOP
        if is_ending:
            stop.cancel_at = min(stop.cancel_at, self.now)
        if timeout is not None:
            stop.cancel_at = min(stop.cancel_at, self.now + timeout)
            stop.abandon_at = min(stop.abandon_at, self.now + timeout + grace)
        self.seats.clear()
        self.rest()
        self.tick()

    def tick(self) -> None:
        stop = self.stopping
        if self.state is STOPPING and self.now >= stop.cancel_at and not stop.has_cancelled:
            stop.has_cancelled, stop.is_timed_out = True, not self.is_ending
            self.counts["cancels"] += 1
        if self.state is STOPPING and self.now >= stop.abandon_at and not stop.gave_up:
            stop.gave_up, stop.is_timed_out = True, stop.is_timed_out or bool(self.active())
            for key in self.active():
                self.abandon(key)
        self.rest()

    def abandon(self, key: Hashable) -> None:
        """Give up on a run: the key is held until it ends; a re-send stays behind it."""
        row = self.ghosts[key] = self.book[key]
        self.counts["runs_abandoned"] += 1
        self.stopping.abandoned.append(row.envelope)
        self.ran.append(self.now - row.began_at)
        if row.again is None or self.is_ending:
            self.counts["lost"] += row.envelope.is_periodic
            self.end(key, Outcome.ABANDONED)
            return
        following = self.book[key] = Row(row.following or row.envelope)
        following.sent_at, following.is_added, following.ready_at = row.resent_at or 0.0, row.is_added, row.ready_at
        following.futures, following.is_pinned, following.is_backed_off = row.futures, row.is_pinned, row.is_backed_off
        self.place(key, row.again if row.again > self.now else 0.0)

    def rest(self) -> None:
        """When nothing runs and all is told: joins come true, and a stop ends."""
        if self.is_busy():
            return
        self.look_at_joins()
        if self.state is not STOPPING:
            return
        self.promote()
        if self.may_run() and self.ready:
            return
        stop = self.stopping
        if self.is_ending:
            stop.returned = [self.end(key, Outcome.RETURNED) for key in list(self.book)]
        self.state = TERMINATED if self.is_ending else STOPPED
        self.counts["stops"] += 1
        self.answer_joins(not self.one_offs())
        self.report = {
            "mode": stop.mode, "state": self.state, "timed_out": stop.is_timed_out, "elapsed": self.now - stop.begun_at,
            "kept": tuple(row.envelope for row in self.book.values()),
            "returned": tuple(stop.returned), "abandoned": tuple(stop.abandoned),
            "succeeded": self.counts[Outcome.SUCCEEDED] - stop.before[Outcome.SUCCEEDED],
            "dropped": self.counts[Outcome.DROPPED] - stop.before[Outcome.DROPPED],
        }  # fmt: skip

    def join(self, waiter: Any) -> bool:
        self.joiners.append(waiter)
        self.rest()
        if waiter in self.joiners and (self.active() or self.one_offs()) and self.state not in (RUNNING, STOPPING):
            self.joiners.remove(waiter)
            raise QueueStateError
        return waiter not in self.joiners
