"""Control of a queue: starting, stopping, joining, resizing, up to the point where a caller would wait.

What is the same in every flavour is here and in `front`; how a caller waits, and what a worker is, is the flavour's.
Rules for changing it: the machine is only touched inside `_call`; nothing here blocks.
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, cast

from ..core import stopping
from ..core.waiting import Seat, Waiter
from ..envelope import Duration, Envelope, Stamp
from ..errors import CapacityExceededError, QueueStateError
from ..limiters import RateLimiter, TokenBucket
from ..results import QueueState, StopMode, StopReport
from .clock import Clock
from .front import QueueFront
from .options import checked_flag, checked_mode, checked_options, checked_timeouts, checked_workers
from .rules import Runner
from .scope import ThreadScope
from .watchdog import StuckRun, stuck_runs


class Crew(Protocol):
    """The workers of one start. `size` counts those that have not left; it and `is_closed` are read under the lock."""

    is_closed: bool
    size: int
    runners: list[Runner]

    @property
    def scope(self) -> ThreadScope:
        """What the contexts of its runs share."""
        ...

    def grow(self, count: int) -> None:
        """Have *count* more workers; called without the lock. When one cannot be started, none is left behind."""
        ...

    def open(self) -> None:
        """The workers may begin: to work, or to leave when the crew is closed."""
        ...


class QueueControl(QueueFront):
    """A queue that can be told to start and stop, but does not know how to wait."""

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
        duplicates: Literal["keep", "replace"] = "keep",
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
        clock = self._take_clock(clock)
        options = checked_options(
            name, workers=workers, capacity=capacity, stop_mode=stop_mode, wait_on_stop=wait_on_stop, stamps=stamps,
            backoff=backoff, start_rate=start_rate, duplicates=duplicates, strict_deadline=strict_deadline,
            hook_timeout_fraction=hook_timeout_fraction, hook_timeout_floor=hook_timeout_floor, stuck_after=stuck_after,
            capture_context=capture_context, dead_letter_limit=dead_letter_limit, clock=clock, observers=observers,
        )  # fmt: skip
        self._check_stamps(options.stamps)
        super().__init__(options)
        self._scope = self._machine.scope = self._new_scope()
        self._pool: Crew | None = None
        self._run_inbox: Any = None  # of run(): where it is told that somebody has stopped the queue

    # What a flavour says

    def _take_clock(self, clock: Clock | None) -> Clock | None:
        return clock

    def _check_stamps(self, stamps: tuple[Stamp, ...]) -> None:
        """Raise for what this flavour cannot use."""

    def _new_scope(self) -> ThreadScope:
        raise NotImplementedError

    def _new_pool(self, scope: ThreadScope) -> Crew:
        raise NotImplementedError

    def _new_bell(self) -> Any:
        """What wakes a caller that waits, by its `release`."""
        raise NotImplementedError

    def _watch_at(self, delay: float, method: Callable[[], None]) -> None:
        """Call a bound *method* once, *delay* seconds from now."""
        raise NotImplementedError

    def _watch_no_more(self, method: Callable[[], None]) -> None:
        """Forget a `_watch_at`."""
        raise NotImplementedError

    def _new_waiter(self) -> Waiter:
        waiter = Waiter()
        waiter.bell = self._new_bell()
        return waiter

    # Start

    def _start(self) -> None:
        machine = self._machine
        if machine.state is QueueState.RUNNING:
            self._refuse_if_forked()
            return
        pool = self._new_pool(self._new_scope())
        bells: list[Any] = []
        try:
            self._call(machine.may_start)
            self._grow(pool, int(machine.limit))
            self._watch_for_stuck()  # before it begins: when that cannot be watched, it does not start
            missing = self._call(self._begin, pool, bells)
            self._watch_for_stuck()  # again: the end of the last stop may have come in between
        finally:  # a Ctrl-C, which an observer got, may come after it has begun
            if self._pool is not pool:
                self._close(pool)
            pool.open()
            self._ring(bells)
        if missing > 0:
            self._grow(pool, missing)

    def _begin(self, pool: Crew, bells: list[Any]) -> int:
        """Run with *pool* from now on, unless the queue runs already; *bells* are to be rung. Workers that it lacks."""
        if not self._machine.start():
            return 0
        if self._pool is not None:
            self._pool.is_closed = True
            bells += self._parking.leave_all()  # of the old pool, whose stop may not have been delivered yet
        self._pool = pool
        self._scope = self._machine.scope = pool.scope
        return int(self._machine.limit) - pool.size

    def _close(self, pool: Crew | None) -> None:
        """Let the workers of *pool* go."""
        if pool is None:
            return

        bells: list[Any] = []

        def close() -> None:
            pool.is_closed = True
            bells.extend(self._parking.leave_all())

        try:
            self._section(close)
        finally:
            self._ring(bells)

    # Stop

    def _begin_stop(
        self, mode: StopMode | None, wait: bool | None, timeout: Any, grace: Any, *, is_ending: bool = False
    ) -> tuple[StopReport | None, Waiter]:
        """Begin a stop or join the one in progress: its report when the caller is not to wait, else None.

        Whoever waits does so for the Waiter, whose answer is the report, and then looks after the stop no more.
        """
        wanted = self._options.stop_mode if mode is None else checked_mode(mode, "mode")
        limit, extra = checked_timeouts(timeout, grace)
        is_inside = self._is_inside()
        waits = (self._options.wait_on_stop if wait is None else checked_flag(wait, "wait")) and not is_inside
        waiter = self._new_waiter()
        machine = self._machine

        def begin() -> StopReport:
            ticket = machine.stop(wanted, limit, extra, is_ending=is_ending, is_inside=is_inside, waited=waits)
            if ticket is None:
                if waits and stopping.await_delivery(machine, waiter, limit, extra):
                    return StopReport(wanted, QueueState.STOPPING)
                return machine.last_report or StopReport(mode=wanted, state=machine.state, waited=waits)
            self._scope.stopping = True
            if ticket.report is None and waits:
                ticket.waiters.append(waiter)
            return ticket.report or ticket.provisional(self._clock_now(), is_inside=is_inside, waited=waits)

        try:
            report = self._call(begin)
        except BaseException:  # a Ctrl-C, which an observer got: the stop goes on
            self._watch_stop()
            raise
        if report.state is not QueueState.STOPPING:
            waiter.is_done = waiter.is_told = True
            waiter.answer = report
        if not waits:
            self._watch_stop()
        return None if waits else report, waiter

    def _tick(self) -> None:
        try:
            self._call(self._machine.tick, self._clock_now())
        finally:  # a clock or key of the user's may raise; the stop still has its times
            self._watch_stop()

    def _watch_stop(self) -> None:
        """Have the stop in progress ticked when it is due, for callers that do not wait for it."""
        at = self._machine.stop_at()
        if at is not None:
            self._watch_at(max(0.0, at - self._clock_now()), self._tick)

    def _watch_for_stuck(self) -> None:
        if self._options.stuck_after is not None:
            self._watch_at(self._options.stuck_after, self._watch_stuck)

    def _watch_stuck(self) -> None:
        """Report runs that are long past their deadline; look again when one could be."""
        pool, limit = self._pool, self._options.stuck_after
        if pool is None or limit is None or pool.is_closed:
            return
        stuck: list[StuckRun] = []
        next_look = limit
        try:
            stuck, next_look = stuck_runs(pool.runners, limit, self._clock_now())
        finally:  # a clock of the user's may raise
            self._watch_at(next_look, self._watch_stuck)
        if stuck:
            self._report_stuck(stuck)

    def _report_stuck(self, stuck: list[StuckRun]) -> None:
        """Tell of *stuck*; whoever is told is inside."""
        self._insiders.add(get_ident())
        try:
            for run in stuck:
                self._reporter.stuck(*run)
        finally:
            self._insiders.discard(get_ident())

    def _cancel_runs(self, scope: ThreadScope) -> None:
        self._cancel_scope()

    def _cancel_scope(self) -> None:
        self._scope.cancel()

    def _stopped(self, ticket: Any) -> None:
        pool = self._pool
        if pool is not None and self._machine.ticket is ticket:
            self._close(pool)
            self._watch_no_more(self._tick)
            if self._options.stuck_after is not None:
                self._watch_no_more(self._watch_stuck)
        inbox = self._run_inbox
        if inbox is not None:
            inbox.put(None)

    def _forked(self) -> None:
        super()._forked()
        if self._is_forked() and self._pool is not None:
            self._pool.is_closed = True  # a handler that forked goes on as a worker: it must take nothing more

    # Workers

    def resize(self, workers: int) -> None:
        """Have *workers* workers from now on. Fewer never interrupts a run: a worker leaves when it is done."""
        wanted = checked_workers(workers)
        machine = self._machine
        previous = wanted

        def resize() -> tuple[Crew | None, int, list[Any]]:
            nonlocal previous
            previous = int(machine.limit)
            machine.resize(wanted)
            pool = self._pool
            if pool is None or pool.is_closed or machine.state is not QueueState.RUNNING:
                return None, 0, []
            return pool, wanted - pool.size, self._parking.leave_all() if wanted < pool.size else []

        pool, missing, bells = self._call(resize)
        self._ring(bells)  # those too many leave, the others park again
        if pool is not None and missing > 0:
            try:
                self._grow(pool, missing)
            except BaseException:  # a worker could not be started: as it was
                self._call(machine.resize, previous)
                raise

    def _grow(self, pool: Crew, count: int) -> None:
        pool.grow(count)

    # Waiting for something

    def _begin_join(self) -> Waiter | None:
        """The Waiter of a join; None when there is nothing to wait for."""
        waiter = self._new_waiter()
        machine = self._machine
        is_inside = self._is_inside()

        def join() -> bool:
            if is_inside and (machine.active or machine.one_offs()):
                raise QueueStateError("join inside a handler of its own queue would wait for itself")
            return is_inside or machine.join(waiter)  # inside, only the caller's own effects could be waited for

        return None if self._call(join) else waiter

    def _end_join(self, waiter: Waiter) -> bool:
        """The caller waits no longer: whether it came true."""
        if not waiter.is_done:
            self._call(self._machine.leave_join, waiter)
        if waiter.error is not None:
            raise waiter.error
        return waiter.is_done

    def _take_seat(self, envelopes: tuple[Envelope[Any], ...]) -> Seat:
        """A place in the row for room, maybe seated already."""
        self._check(envelopes)
        starts = self._starts(envelopes, 0.0)
        context = self._sender_context()
        bell = self._new_bell()

        def sit() -> Seat:
            seat = self._machine.wait_for_room(envelopes, starts, context, may_wait=not self._is_inside())
            seat.bell = bell
            return seat

        return self._call(sit)

    def _leave_seat(self, seat: Seat) -> int:
        """The caller waits no longer: how many became new entries."""
        if not seat.is_done and self._call(self._machine.give_up, seat):
            machine = self._machine
            raise CapacityExceededError(int(machine.room), len(machine.entries), machine.count_new(seat.envelopes))
        if seat.error is not None:
            raise seat.error
        return cast(int, seat.answer)
