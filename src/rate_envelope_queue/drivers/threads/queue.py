"""`EnvelopeQueue`: the work queue on threads. The machine decides, this drives it.

Rules for changing it: the machine is only touched inside `_call`, inside `send`'s own section or inside a worker's;
user code only outside.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from ...core.entries import key_of
from ...core.waiting import Waiter
from ...durations import timeout as checked_timeout
from ...envelope import Duration, Envelope, Stamp
from ...errors import InvalidEnvelopeError, QueueStateError
from ...results import QueueState, StopMode, StopReport
from .. import process
from ..clock import LONGEST_WAIT, real_now
from ..control import Crew, QueueControl
from ..options import checked_timeouts, refuse_coroutines
from ..parking import new_bell
from ..scope import ThreadScope
from ..watchdog import StuckRun, call_later, forget
from .futures import EnvelopeFuture
from .workers import Pool

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future
    from typing import Self


class EnvelopeQueue(QueueControl):
    """An in-process work queue on threads.

    Every envelope that `send` takes in ends with exactly one `Outcome`; nothing is lost by a stop. *workers* threads
    run envelopes between `start` and `stop`. Every method may be called from any thread, also from handlers and hooks;
    those that block say so. Not from a signal handler: one that interrupts the queue gets `QueueStateError`.

    *capacity* is the most entries at a time, waiting, delayed, running or between periods; None for no limit.
    *stop_mode* and *wait_on_stop* are what `stop()` does when it is not told. *stamps* wrap every handler. *backoff* is
    asked by `retry_with_backoff` (None: 5 ms doubling to 1000 s). *start_rate* is runs per second, or a `TokenBucket`.
    *duplicates* says which envelope wins when two share a key: "keep" the first, "replace" the last. *strict_deadline*
    makes a late success a failure. Hooks may take `max(hook_timeout_fraction * deadline, hook_timeout_floor)` seconds.
    *stuck_after* seconds past its deadline a run is reported with its stack. *capture_context* runs each envelope in a
    copy of its sender's contextvars. *dead_letter_limit* is how many dead letters are kept, the oldest fall out; 0
    keeps none, None all. *clock* has `now()`, monotonic seconds, and `wall_utc()`: delays, deadlines, `ctx.wait` and
    the times of a stop are on it, the timeouts of `join` and `send_wait` pass in real time whatever it says.
    *observers* have some methods of `events.Observer`. Wrong options raise TypeError or ValueError that name the
    option.

    >>> with EnvelopeQueue("greetings", workers=1) as queue:
    ...     queue.send(Envelope(lambda ctx, envelope: print("hello", envelope.payload), payload="world"))
    ...     queue.join()
    1
    hello world
    True
    """

    # Waiting

    def _stopped(self, ticket: Any) -> None:
        super()._stopped(ticket)
        if self._machine.ticket is not ticket:  # another start came meanwhile, and with it its own timers
            self._watch_stop()
            self._watch_for_stuck()

    def _cancel_runs(self, scope: ThreadScope) -> None:
        scope.cancel()  # of those who are stopped: somebody may have started the queue again meanwhile

    def _check_stamps(self, stamps: tuple[Stamp, ...]) -> None:
        refuse_coroutines(stamps, "a stamp")

    def _new_scope(self) -> ThreadScope:
        return ThreadScope(self, self._clock_now)

    def _new_pool(self, scope: ThreadScope) -> Crew:
        return Pool(self, scope)

    def _new_bell(self) -> Any:
        return new_bell()

    def _watch_at(self, delay: float, method: Callable[[], None]) -> None:
        forget(method)
        call_later(delay, method)

    def _watch_no_more(self, method: Callable[[], None]) -> None:
        forget(method)

    def _await(self, waiter: Waiter, timeout: float | None) -> bool:
        """Block until *waiter* is answered; False when *timeout* real seconds passed first. Ticks a stop meanwhile."""
        now = self._clock_now
        ends_at = None if timeout is None else real_now() + timeout
        while not waiter.is_told:
            machine = self._machine
            at = machine.stop_at()
            if at is None and (waiter.is_done or waiter.answer is not None) and machine.ticket is not None:
                at = machine.ticket.abandon_at  # what is still being delivered then, nobody waits for
                if at is not None and now() >= at:
                    break
            elif at is not None and now() >= at:
                self._call(machine.tick, now())
                continue
            left = LONGEST_WAIT if at is None else max(0.0, min(LONGEST_WAIT, at - now()))
            if ends_at is not None:
                left = min(left, ends_at - real_now())
                if left <= 0:
                    return False
            waiter.bell.acquire(True, left)
        return True

    # Sending

    def send_wait(self, *envelopes: Envelope[Any], timeout: Duration | None = None) -> int:
        """As `send`, but block until there is room; those who wait are served in order.

        Raises `CapacityExceededError` when *timeout* seconds passed, or at once when the batch is larger than the
        capacity; `QueueNotRunningError` or `QueueTerminatedError` when the queue stops meanwhile; `QueueStateError`
        inside a handler of this queue when it would have to wait.
        """
        limit = checked_timeout(timeout)
        seat = self._take_seat(envelopes)
        try:
            if not seat.is_done:
                self._await(seat, limit)
        except BaseException:
            self._call(self._machine.give_up, seat)
            raise
        return self._leave_seat(seat)

    def submit(self, envelope: Envelope[Any]) -> Future[Any]:
        """Send a one-off and get the future of its final outcome.

        It resolves to what invoke returned, or raises what ended it: the last error, `StopEnvelope`, or `Cancelled`
        when it was returned or abandoned. `future.cancel()` works whenever the entry waits. Raises as `send`, and
        `InvalidEnvelopeError` for a periodic or onto a key that a periodic holds.
        """
        self._check((envelope,))
        if envelope.is_periodic:
            raise InvalidEnvelopeError("a periodic has no final outcome to wait for: use send()")
        return self._submit(envelope, EnvelopeFuture(self, key_of(envelope)))

    def _submit(self, envelope: Envelope[Any], future: EnvelopeFuture) -> EnvelopeFuture:
        context = self._sender_context()
        self._call(self._machine.send, (envelope,), None, None, future, context)
        return future

    def _detach(self, key: Hashable, future: EnvelopeFuture) -> bool:
        return self._call(self._machine.detach, key, future)

    def _is_running(self, key: Hashable) -> bool:
        return self._call(self._machine.is_running, key)

    def _advance_until_done(self, future: EnvelopeFuture, timeout: float | None) -> float | None:
        """Real time passes by itself."""
        self._refuse_if_forked()
        return timeout

    # Starting and stopping

    def start(self) -> None:
        """Start the workers; what was sent before, or kept by the last stop, runs. While running it does nothing.

        Raises `QueueStateError` while stopping, `QueueTerminatedError`, or what kept a thread from being started, and
        then the queue is as it was.
        """
        self._start()

    def stop(
        self,
        mode: StopMode | None = None,
        *,
        wait: bool | None = None,
        timeout: Duration | None = None,
        grace: Duration = 1.0,
    ) -> StopReport:
        """Stop, and say what became of everything. *mode* None is the queue's own; *wait* only says whether to block.

        DRAIN runs what is ready, STOP lets only what runs finish; what has not run is kept and goes on at the next
        `start`. When *timeout* seconds have passed, contexts are cancelled; what still runs *grace* seconds later is
        abandoned and listed. A second stop joins the first; a harder mode or a shorter timeout hardens it. From inside
        a handler, or with `wait=False`, the stop is begun and the report is provisional.

        In INIT nothing happens, in STOPPED and TERMINATED the last report comes again. Raises TypeError or ValueError
        for a wrong argument, `QueueStateError` in the child of a fork and from a signal handler that interrupted the
        queue; nothing because of what handlers do. A KeyboardInterrupt ends the wait, not the stop.
        """
        return self._finish_stop(*self._begin_stop(mode, wait, timeout, grace))

    def terminate(
        self, *, wait: bool | None = None, timeout: Duration | None = None, grace: Duration = 1.0
    ) -> StopReport:
        """End for good: contexts are cancelled at once, and all that remains is returned.

        *timeout* None waits for handlers without limit; else what still runs after *timeout* + *grace* seconds is
        abandoned. `send` and `start` raise `QueueTerminatedError` from now on. From any state; a second call gets the
        same report. Raises as `stop`.
        """
        return self._finish_stop(*self._begin_stop(StopMode.STOP, wait, timeout, grace, is_ending=True))

    def _finish_stop(self, report: StopReport | None, waiter: Waiter) -> StopReport:
        if report is not None:
            return report
        try:
            self._await(waiter, None)
        finally:
            self._watch_stop()
        return self._leave_quietly(cast(StopReport, waiter.answer))

    def _leave_quietly(self, report: StopReport) -> StopReport:
        """Nothing runs any more: wait a moment for the threads to be gone, unless some are known to be held up."""
        pool, ticket = self._pool, self._machine.ticket
        if not isinstance(pool, Pool) or not pool.is_closed or ticket is None or ticket.gave_up or pool.is_waited_for:
            return report
        patience = 1.0
        if ticket.abandon_at is not None:
            patience = min(patience, ticket.abandon_at - self._clock_now())
        pool.wait_until_left(patience)
        pool.is_waited_for = True
        return report

    def _report_stuck(self, stuck: list[StuckRun]) -> None:
        """In a thread of its own: the watchdog serves all queues, and an observer may take its time."""
        report = super()._report_stuck
        try:
            threading.Thread(target=report, args=(stuck,), name=f"{self._name} stuck", daemon=True).start()
        except RuntimeError:  # no more threads: better late for others than never told
            report(stuck)

    def join(self, timeout: Duration | None = None) -> bool:
        """Block until no one-off is in the queue and nothing runs; False when *timeout* seconds passed first.

        Delayed and retrying one-offs count. Their futures, dead letters and events have been delivered when it returns.
        Raises `QueueStateError` when that cannot come true: in INIT or STOPPED, from its own handler, or when the queue
        stops with one-offs kept.
        """
        limit = checked_timeout(timeout)
        waiter = self._begin_join()
        if waiter is None:
            return True
        try:
            self._await(waiter, limit)
        except BaseException:
            self._call(self._machine.leave_join, waiter)
            raise
        return self._end_join(waiter)

    # Conveniences

    def as_executor(self) -> Executor:
        """A `concurrent.futures.Executor` over this queue. Its shutdown affects only its own futures."""
        from ...executor import QueueExecutor

        self._refuse_if_forked()
        return QueueExecutor(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._note_kept(self.stop(None if kind is None else StopMode.STOP))

    @asynccontextmanager
    async def lifespan(
        self, app: object = None, *, timeout: Duration | None = None, grace: Duration = 1.0
    ) -> AsyncIterator[None]:
        """For Starlette and FastAPI: `FastAPI(lifespan=queue.lifespan)` starts and stops the queue with the app.

        Stops as `with` does. *timeout* and *grace* are those of `stop`: `partial(queue.lifespan, timeout=20)` is for a
        service that must be gone in time.
        """
        import asyncio

        limit, extra = checked_timeouts(timeout, grace)
        await asyncio.to_thread(self.start)
        mode = StopMode.STOP  # as `with` after an exception
        try:
            yield
            mode = self._options.stop_mode
        finally:
            self._note_kept(await asyncio.to_thread(self.stop, mode, timeout=limit, grace=extra))

    def run(self, *, timeout: Duration | None = None, grace: Duration = 1.0) -> StopReport:
        """Start, block until SIGINT, SIGTERM or somebody's `stop`, stop with the queue's own mode, and report.

        *timeout* and *grace* are those of `stop`: the most seconds that the stop may take. A second signal cancels the
        contexts of what still runs, and gives up on it *grace* seconds later. Needs the main thread (else
        `QueueStateError`); the previous signal handlers are restored.
        """
        limit, extra = checked_timeouts(timeout, grace)
        inbox: SimpleQueue[Any] = SimpleQueue()
        with process.signals_to(inbox):
            self._run_inbox = inbox
            try:
                self.start()
                process.serve(self, inbox, limit, extra)
            finally:
                self._run_inbox = None
        report = self.stop()
        self._note_kept(report)
        return report

    def _exit(self, timeout: float) -> None:
        """The interpreter exits: drain for a while, then leave."""
        if self._machine.state in (QueueState.RUNNING, QueueState.STOPPING) and not self._is_inside():
            try:
                self.stop(StopMode.DRAIN, wait=True, timeout=timeout, grace=0.1)
            except QueueStateError:
                pass
