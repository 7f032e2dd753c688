"""`SimulatedEnvelopeQueue`: the thread queue on a virtual clock, for tests. It derives from it, so nothing differs."""

from __future__ import annotations

import contextvars
from _thread import get_ident
from collections.abc import Callable
from typing import Any

from ...core.entries import Handle
from ...core.settle import Verdict
from ...core.waiting import Waiter
from ...envelope import Duration
from ...results import QueueState, StopReport
from ..clock import Clock
from ..control import Crew, QueueControl
from ..rules import Runner
from ..scope import ThreadScope
from ..threads.futures import EnvelopeFuture
from ..threads.queue import EnvelopeQueue
from ..threads.workers import execute
from ..watchdog import StuckRun
from .moved import Moved, VirtualWaits


class SimulatedScope(VirtualWaits, ThreadScope):
    """The scope of a simulated queue on threads."""

    __slots__ = ()


class SimulatedEnvelopeQueue(Moved, EnvelopeQueue):
    """An `EnvelopeQueue` that runs nothing by itself and moves only when told, in virtual time.

    Same constructor and methods; `clock` must be a `VirtualClock` (one of its own when None). `advance(seconds)` goes
    through every due time in order; `run_until_idle()` runs what is ready now. Handlers spend time with
    `ctx.wait(seconds)` or `queue.clock.sleep(seconds)`. Blocking calls advance time until they are satisfied, and raise
    `QueueStateError` when that is impossible. `concurrent.futures.wait` and `as_completed` know nothing of virtual
    time: they would wait for ever. The same program always gives the same order; a KeyboardInterrupt of user code is
    raised to the caller once the run has been settled.

    >>> from rate_envelope_queue import Envelope
    >>> queue = SimulatedEnvelopeQueue("test")
    >>> queue.start()
    >>> queue.send(Envelope.every(60, lambda ctx, envelope: print("tick at", ctx.queue.clock.now())))
    1
    >>> queue.advance(120)
    tick at 0.0
    tick at 60.0
    tick at 120.0
    """

    def _take_clock(self, clock: Clock | None) -> Clock:
        taken = super()._take_clock(clock)
        self._world.join(self)
        return taken

    # What the world asks

    def _next_event(self) -> float | None:
        """The instant of the next thing that this queue would do, at the latest now when it could do it at once."""
        machine = self._machine
        now = self._world.now()
        at = machine.next_at()
        if machine.takable and machine.active < machine.limit and (machine.reserved is None or machine.reserved <= now):
            at = now
        for other in (machine.stop_at(), self._stuck_at()):
            if other is not None and (at is None or other < at):
                at = other
        return at

    def _stuck_at(self) -> float | None:
        limit, pool = self._options.stuck_after, self._pool
        if limit is None or pool is None:
            return None
        due = [
            runner.deadline_at + limit
            for runner in pool.runners
            if runner.deadline_at is not None and not runner.is_reported
        ]
        return min(due, default=None)

    def _step(self) -> None:
        """Do one thing that is due now."""
        now = self._world.now()
        stop_at = self._machine.stop_at()
        if stop_at is not None and stop_at <= now:
            self._tick()
            return
        stuck_at = self._stuck_at()
        if stuck_at is not None and stuck_at <= now:
            self._watch_stuck()
            return
        self._run_one()

    def _run_one(self) -> None:
        handle = self._call(self._machine.turn, None, None, None)
        if handle is None:
            return
        pool = self._pool
        assert pool is not None
        runner = Runner(self._house, pool.scope, get_ident())
        pool.runners.append(runner)
        ident = get_ident()
        is_new = ident not in self._insiders
        self._insiders.add(ident)
        try:
            verdict = contextvars.Context().run(execute, self, runner, handle)
        finally:
            pool.runners.remove(runner)
            if is_new:
                self._insiders.discard(ident)
        value, held = runner.value, runner.envelope
        if runner.interrupt is not None:
            self._world.interrupt(runner.interrupt)
        runner.close()
        try:
            self._call(self._finish, handle, verdict, value)
        finally:  # the last references go here, outside the lock; a failure's traceback holds this frame
            del handle, verdict, value, held

    def _finish(self, handle: Handle, verdict: Verdict, value: Any) -> None:
        try:
            self._machine.finish(handle, verdict, value)
        except BaseException as error:  # a user's key, as in the loop of a worker
            self._machine.evict(handle, error)
            self._reporter.callback_failed("the settlement of a run", error)

    # Where it differs from threads

    def _new_scope(self) -> ThreadScope:
        return SimulatedScope(self, self._clock_now)

    def _grow(self, pool: Crew, count: int) -> None:
        """No threads."""

    def _watch_at(self, delay: float, method: Callable[[], None]) -> None:
        """The world looks at stops and stuck runs by itself."""

    def _report_stuck(self, stuck: list[StuckRun]) -> None:
        """At once: a thread of its own would tell of it in the test's real time."""
        QueueControl._report_stuck(self, stuck)

    def _await(self, waiter: Waiter, timeout: float | None) -> bool:
        return self._world.wait_until(lambda: waiter.is_done, timeout)

    def _advance_until_done(self, future: EnvelopeFuture, timeout: float | None) -> float | None:
        self._world.wait_until(future.done, timeout)
        return 0.0

    def run(self, *, timeout: Duration | None = None, grace: Duration = 1.0) -> StopReport:
        """Start, let virtual time pass until somebody stops the queue, and report. Signals are left alone."""
        self.start()
        over = (QueueState.STOPPED, QueueState.TERMINATED)
        self._world.wait_until(lambda: self._machine.state in over, None)
        report = self._machine.last_report
        assert report is not None
        self._note_kept(report)
        return report
