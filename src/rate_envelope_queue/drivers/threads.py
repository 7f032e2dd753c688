"""`EnvelopeQueue`: the work queue on threads. The machine decides, this drives it.

Rules for changing it: the machine is only touched inside `_call`, inside `send`'s own section or inside a worker's;
user code only outside.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from ..core.entries import key_of
from ..core.stopping import Ticket
from ..core.waiting import Waiter
from ..durations import timeout as checked_timeout
from ..envelope import Duration, Envelope, Stamp
from ..errors import CapacityExceededError, InvalidEnvelopeError, QueueStateError
from ..limiters import RateLimiter, TokenBucket
from ..results import QueueState, StopMode, StopReport
from . import process
from .clock import LONGEST_WAIT, Clock
from .front import QueueFront
from .futures import EnvelopeFuture
from .options import checked_flag, checked_mode, checked_options, checked_timeouts, checked_workers, refuse_coroutines
from .parking import new_bell
from .scope import ThreadScope
from .watchdog import call_later, forget, report_stuck
from .workers import Pool

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future
    from typing import Self


class EnvelopeQueue(QueueFront):
    """An in-process work queue on threads.

    Every envelope that `send` takes in ends with exactly one `Outcome`; nothing is lost by a stop. *workers* threads
    run envelopes between `start` and `stop`. `send` never blocks and may be called from any thread, also from handlers.

    *capacity* is the most entries at a time, waiting, delayed, running or between periods; None for no limit.
    *stop_mode* and *wait_on_stop* are what `stop()` does when it is not told. *stamps* wrap every handler. *backoff* is
    asked by `retry_with_backoff` (None: 5 ms doubling to 1000 s). *start_rate* is runs per second. *duplicates* says
    which envelope wins when two share a key: "keep" the first, "replace" the last. *strict_deadline* makes a late
    success a failure. Hooks may take `max(hook_timeout_fraction * deadline, hook_timeout_floor)` seconds.
    *stuck_after* seconds past its deadline a run is reported with its stack. *capture_context* runs each envelope in a
    copy of its sender's contextvars. Wrong options raise TypeError or ValueError that name the option.

    >>> with EnvelopeQueue("greetings", workers=1) as queue:
    ...     queue.send(Envelope(lambda ctx, envelope: print("hello", envelope.payload), payload="world"))
    ...     queue.join()
    1
    hello world
    True
    """

    def __init__(
        self,
        name: str,
        *,
        workers: int = 4,
        capacity: int | None = 1_000_000,
        stop_mode: StopMode = StopMode.DRAIN,
        wait_on_stop: bool = True,
        stamps: Iterable[Stamp] = (),
        backoff: RateLimiter | None = None,
        start_rate: float | TokenBucket | None = None,
        duplicates: str = "keep",
        strict_deadline: bool = False,
        hook_timeout_fraction: float = 0.5,
        hook_timeout_floor: Duration = 0.8,
        stuck_after: Duration | None = None,
        capture_context: bool = False,
        dead_letter_limit: int | None = 1000,
        clock: Clock | None = None,
        observers: Iterable[object] = (),
    ) -> None:
        self._name = "?"  # for repr, when an option is refused
        options = checked_options(
            name, workers=workers, capacity=capacity, stop_mode=stop_mode, wait_on_stop=wait_on_stop, stamps=stamps,
            backoff=backoff, start_rate=start_rate, duplicates=duplicates, strict_deadline=strict_deadline,
            hook_timeout_fraction=hook_timeout_fraction, hook_timeout_floor=hook_timeout_floor, stuck_after=stuck_after,
            capture_context=capture_context, dead_letter_limit=dead_letter_limit, clock=clock, observers=observers,
        )  # fmt: skip
        refuse_coroutines(options.stamps, "a stamp")
        super().__init__(options)
        self._scope = self._new_scope()
        self._pool: Pool | None = None
        self._run_inbox: SimpleQueue[Any] | None = None

    # Waiting

    def _new_scope(self) -> ThreadScope:
        return ThreadScope(self, self._clock_now)

    def _await(self, waiter: Waiter, timeout: float | None) -> bool:
        """Block until *waiter* is answered; False when *timeout* passed first. Ticks a stop in progress meanwhile."""
        now = self._clock_now
        ends_at = None if timeout is None else now() + timeout
        while not waiter.is_done:
            at = self._machine.stop_at()
            if at is not None and now() >= at:
                self._call(self._machine.tick, now())
                continue
            left = LONGEST_WAIT if at is None else min(LONGEST_WAIT, at - now())
            if ends_at is not None:
                left = min(left, ends_at - now())
                if left <= 0:
                    return False
            waiter.bell.acquire(True, left)
        return True

    def _new_waiter(self) -> Waiter:
        waiter = Waiter()
        waiter.bell = new_bell()
        return waiter

    # Sending

    def send_wait(self, *envelopes: Envelope[Any], timeout: Duration | None = None) -> int:
        """As `send`, but block until there is room; those who wait are served in order.

        Raises `CapacityExceededError` when *timeout* seconds passed, or at once when the batch is larger than the
        capacity; `QueueNotRunningError` or `QueueTerminatedError` when the queue stops meanwhile; `QueueStateError`
        inside a handler of this queue when it would have to wait.
        """
        limit = checked_timeout(timeout)
        self._check(envelopes)
        starts = self._starts(envelopes, 0.0)
        context = self._sender_context()
        bell = new_bell()

        def sit() -> Any:
            seat = self._machine.wait_for_room(envelopes, starts, context, may_wait=not self._is_inside())
            seat.bell = bell
            return seat

        seat = self._call(sit)
        try:
            if not self._await(seat, limit) and self._call(self._machine.give_up, seat):
                machine = self._machine
                raise CapacityExceededError(int(machine.room), len(machine.entries), machine.count_new(envelopes))
        except BaseException:
            self._call(self._machine.give_up, seat)
            raise
        if seat.error is not None:
            raise seat.error
        new: int = seat.answer
        return new

    def submit(self, envelope: Envelope[Any]) -> Future[Any]:
        """Send a one-off and get the future of its final outcome.

        It resolves to what invoke returned, or raises what ended it: the last error, `StopEnvelope`, or `Cancelled`
        when it was returned or abandoned. `future.cancel()` works whenever the entry waits. Raises as `send`, and
        `InvalidEnvelopeError` for a periodic or onto a key that a periodic holds.
        """
        self._check((envelope,))
        if envelope.is_periodic:
            raise InvalidEnvelopeError("a periodic has no final outcome to wait for: use send()")
        future = EnvelopeFuture(self, key_of(envelope))
        context = self._sender_context()
        self._call(self._machine.send, (envelope,), None, None, future, context)
        return future

    def _detach(self, key: Hashable, future: EnvelopeFuture) -> bool:
        return self._call(self._machine.detach, key, future)

    def _is_running(self, key: Hashable) -> bool:
        return self._call(self._machine.is_running, key)

    def _advance_until_done(self, future: EnvelopeFuture, timeout: float | None) -> float | None:
        """Real time passes by itself."""
        return timeout

    # Starting and stopping

    def start(self) -> None:
        """Start the workers; what was sent before, or kept by the last stop, runs. While running it does nothing.

        Raises `QueueStateError` while stopping, `QueueTerminatedError`, or what kept a thread from being started, and
        then the queue is as it was.
        """
        machine = self._machine
        if machine.state is QueueState.RUNNING:
            self._refuse_if_forked()
            return
        pool = Pool(self, self._new_scope())
        try:
            self._call(machine.may_start)
            self._fill(pool)
            bells = self._call(self._begin, pool)
        except BaseException:
            self._close(pool)
            raise
        if bells is None:
            self._close(pool)
        else:
            for bell in bells:
                bell.release()

    def _fill(self, pool: Pool) -> None:
        pool.grow(int(self._machine.limit))

    def _begin(self, pool: Pool) -> list[Any] | None:
        """Run with *pool* from now on; the bells to ring, or None when the queue runs already."""
        if not self._machine.start():
            return None
        bells = []
        if self._pool is not None:
            self._pool.is_closed = True
            bells = self._parking.leave_all()  # of the old pool, whose stop may not have been delivered yet
        self._pool = pool
        self._scope = pool.scope
        if self._options.stuck_after is not None:
            self._watch_at(self._options.stuck_after, self._watch_stuck)
        return bells

    def _close(self, pool: Pool | None) -> None:
        """Let the workers of *pool* go."""
        if pool is None:
            return

        def close() -> list[Any]:
            pool.is_closed = True
            return self._parking.leave_all()

        for bell in self._call(close):
            bell.release()

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
        """
        wanted = self._options.stop_mode if mode is None else checked_mode(mode, "mode")
        return self._stop(wanted, wait, timeout, grace, is_ending=False)

    def terminate(
        self, *, wait: bool | None = None, timeout: Duration | None = None, grace: Duration = 1.0
    ) -> StopReport:
        """End for good: contexts are cancelled at once, and all that remains is returned.

        *timeout* None waits for handlers without limit; else what still runs after *timeout* + *grace* seconds is
        abandoned. `send` and `start` raise `QueueTerminatedError` from now on.
        """
        return self._stop(StopMode.STOP, wait, timeout, grace, is_ending=True)

    def _stop(self, mode: StopMode, wait: bool | None, timeout: Any, grace: Any, *, is_ending: bool) -> StopReport:
        limit, extra = checked_timeouts(timeout, grace)
        is_inside = self._is_inside()
        waits = (self._options.wait_on_stop if wait is None else checked_flag(wait, "wait")) and not is_inside
        waiter = self._new_waiter()
        machine = self._machine

        def begin() -> Ticket | None:
            ticket = machine.stop(mode, limit, extra, is_ending=is_ending, is_inside=is_inside, waited=waits)
            if ticket is not None:
                self._scope.stopping = True
                if ticket.report is None and waits:
                    ticket.waiters.append(waiter)
            return ticket

        ticket = self._call(begin)
        if ticket is None:
            report = machine.last_report or StopReport(mode=mode, state=machine.state, waited=waits)
            return self._leave_quietly(report) if waits else report
        if not waits:
            self._watch_stop()
            return ticket.report or ticket.provisional(self._clock_now(), is_inside=is_inside, waited=False)
        try:
            if ticket.report is None:
                self._await(waiter, None)
        finally:
            self._watch_stop()
        return self._leave_quietly(cast(StopReport, ticket.report))

    def _leave_quietly(self, report: StopReport) -> StopReport:
        """Nothing runs any more: wait for the threads to be gone, but for those that were abandoned."""
        pool = self._pool
        if pool is not None and pool.is_closed and not report.abandoned:
            pool.wait_until_left(1.0)
        return report

    def _tick(self) -> None:
        self._call(self._machine.tick, self._clock_now())
        self._watch_stop()

    def _watch_stop(self) -> None:
        """Have the stop in progress ticked when it is due, for callers that do not wait for it."""
        at = self._machine.stop_at()
        if at is not None:
            self._watch_at(max(0.0, at - self._clock_now()), self._tick)

    def _watch_at(self, delay: float, method: Callable[[], None]) -> None:
        call_later(delay, method)

    def _watch_stuck(self) -> None:
        """Report runs that are long past their deadline; look again when one could be."""
        pool, limit = self._pool, self._options.stuck_after
        if pool is not None and limit is not None and not pool.is_closed:
            self._watch_at(report_stuck(pool.runners, limit, self._clock_now(), self._reporter), self._watch_stuck)

    def _cancel_scope(self) -> None:
        self._scope.cancel()

    def _stopped(self, ticket: Any) -> None:
        pool = self._pool
        if pool is not None and self._machine.ticket is ticket:
            self._close(pool)
            forget(self._tick)
            if self._options.stuck_after is not None:
                forget(self._watch_stuck)
        inbox = self._run_inbox
        if inbox is not None:
            inbox.put(None)

    def resize(self, workers: int) -> None:
        """Have *workers* threads from now on. Fewer never interrupts a run: a thread leaves when it is done."""
        wanted = checked_workers(workers)
        machine = self._machine
        previous = wanted

        def resize() -> tuple[Pool | None, int, list[Any]]:
            nonlocal previous
            previous = int(machine.limit)
            machine.resize(wanted)
            pool = self._pool
            if pool is None or pool.is_closed or machine.state is not QueueState.RUNNING:
                return None, 0, []
            return pool, wanted - pool.size, self._parking.leave_all() if wanted < pool.size else []

        pool, missing, bells = self._call(resize)
        for bell in bells:  # those too many leave, the others park again
            bell.release()
        if pool is not None and missing > 0:
            try:
                self._grow(pool, missing)
            except BaseException:  # a thread could not be started: as it was
                self._call(machine.resize, previous)
                raise

    def _grow(self, pool: Pool, count: int) -> None:
        pool.grow(count)

    def join(self, timeout: Duration | None = None) -> bool:
        """Block until no one-off is in the queue and nothing runs; False when *timeout* seconds passed first.

        Delayed and retrying one-offs count. Their futures, dead letters and events have been delivered when it returns.
        Raises `QueueStateError` when that cannot come true: in INIT or STOPPED, from its own handler, or when the queue
        stops with one-offs kept.
        """
        limit = checked_timeout(timeout)
        waiter = self._new_waiter()
        machine = self._machine
        is_inside = self._is_inside()

        def join() -> bool:
            if is_inside and (machine.active or machine.one_offs()):
                raise QueueStateError("join inside a handler of its own queue would wait for itself")
            return machine.join(waiter)

        if self._call(join):
            return True
        try:
            if not self._await(waiter, limit):
                self._call(machine.leave_join, waiter)
                if not waiter.is_done:
                    return False
        except BaseException:
            self._call(machine.leave_join, waiter)
            raise
        if waiter.error is not None:
            raise waiter.error
        return True

    # Conveniences

    def as_executor(self) -> Executor:
        """A `concurrent.futures.Executor` over this queue. Its shutdown affects only its own futures."""
        from ..executor import QueueExecutor

        self._refuse_if_forked()
        return QueueExecutor(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._note_kept(self.stop(None if kind is None else StopMode.STOP))

    @property
    def lifespan(self) -> Callable[..., Any]:
        """For Starlette and FastAPI: `FastAPI(lifespan=queue.lifespan)` starts and stops the queue with the app."""
        self._refuse_if_forked()

        @asynccontextmanager
        async def lifespan(app: object = None) -> AsyncIterator[None]:
            import asyncio

            await asyncio.to_thread(self.start)
            try:
                yield
            finally:
                self._note_kept(await asyncio.to_thread(self.stop))

        return lifespan

    def run(self) -> StopReport:
        """Start, block until SIGINT, SIGTERM or somebody's `stop`, stop with the queue's own mode, and report.

        A second signal cancels the contexts of what still runs. Needs the main thread (else `QueueStateError`); the
        previous signal handlers are restored.
        """
        inbox: SimpleQueue[Any] = SimpleQueue()
        with process.signals_to(inbox):
            self._run_inbox = inbox
            try:
                self.start()
                process.serve(self, inbox)
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
