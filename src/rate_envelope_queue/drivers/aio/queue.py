"""`AsyncEnvelopeQueue`: the work queue on an event loop. The machine decides, this drives it.

The machine is behind the same lock as on threads, because `send`, `cancel` and `stats` may come from any of them; it
is never held across an await. Everything else happens on the loop.
"""

from __future__ import annotations

import asyncio
import warnings
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from ...core.entries import key_of
from ...core.settle import cancelled
from ...core.waiting import Waiter
from ...durations import timeout as checked_timeout
from ...envelope import LOOP, Duration, Envelope
from ...errors import InvalidEnvelopeError, QueueStateError
from ...results import QueueState, StopMode, StopReport
from .. import process
from ..clock import LONGEST_WAIT, real_now
from ..control import Crew, QueueControl
from ..options import checked_timeouts
from ..parking import Parking
from ..plan import PlanBook
from ..scope import ThreadScope
from .baton import Baton
from .bells import Bell, call_on
from .futures import EnvelopeFuture
from .offload import Offload
from .plans import LoopPlanBook
from .scope import LoopScope
from .workers import INSIDE, LoopCrew

if TYPE_CHECKING:
    from typing import Self


class AsyncEnvelopeQueue(QueueControl):
    """An in-process work queue on an asyncio event loop.

    The same words, keywords and guarantees as `EnvelopeQueue`; `start`, `stop`, `terminate`, `send_wait`, `join` and
    `run` are awaited. `send`, `cancel`, `stats`, `pause`, `resume` and `resize` are plain calls, from any thread.

    Handlers and hooks may be coroutine functions, which get an `AsyncContext`, or plain ones, which get a `Context`. A
    coroutine is cancelled at its deadline, and when a stop gives up on it. A plain handler runs in a thread of the
    queue's own and is never interrupted; plain hooks and stamps are called on the loop, and must not block. *workers*
    coroutines run at a time, each in the task of its worker, not in one of its own: `asyncio.current_task()` is the
    same for all envelopes of one worker.

    >>> async def main():
    ...     async def hello(ctx, envelope):
    ...         print("hello", envelope.payload)
    ...     async with AsyncEnvelopeQueue("greetings") as queue:
    ...         queue.send(Envelope(hello, payload="world"))
    ...         await queue.join()
    >>> asyncio.run(main())
    hello world
    """

    _baton: Baton
    _loop: AbstractEventLoop | None = None

    # What this flavour is

    _slice_now: Callable[[], float] = staticmethod(real_now)  # a slice of the loop is of real time, whatever the clock

    def _plain_for(self) -> str:
        return LOOP

    def _new_parking(self, machine: Any) -> Parking:
        self._baton = Baton(machine, self._slice_now)
        self._timers: dict[str, TimerHandle] = {}
        return self._baton

    def _new_plans(self, stamps: Any, fraction: float, floor: float) -> PlanBook:
        return LoopPlanBook(stamps, fraction=fraction, floor=floor, offload=self._offload)

    def _new_offload(self, crew: LoopCrew) -> Offload:
        return Offload(crew, crew.loop)

    async def _offload(self, function: Callable[..., Any], *arguments: Any) -> Any:
        crew = self._pool
        assert isinstance(crew, LoopCrew)
        return await crew.offload.call(function, *arguments)

    def _check_colour(self, envelope: Envelope[Any]) -> None:
        """Both colours are welcome."""

    def _new_scope(self) -> ThreadScope:
        return LoopScope(self, self._clock_now)

    def _new_pool(self, scope: ThreadScope) -> Crew:
        assert self._loop is not None
        old = self._pool
        if isinstance(old, LoopCrew) and old.loop.is_closed():
            self._drop_runs(old)  # those that a stop had abandoned
        crew = LoopCrew(self, cast(LoopScope, scope), self._loop)
        self._baton.bind(self._loop, self._lock)
        return crew

    def _new_bell(self) -> Any:
        return Bell(asyncio.get_running_loop())

    def _is_inside(self) -> bool:
        return INSIDE.get() is self or super()._is_inside()

    def _watch_at(self, delay: float, method: Callable[[], None]) -> None:
        loop = self._loop
        assert loop is not None
        self._watch_no_more(method)
        self._timers[method.__name__] = loop.call_later(min(LONGEST_WAIT, delay), method)

    def _watch_no_more(self, method: Callable[[], None]) -> None:
        timer = self._timers.pop(method.__name__, None)
        if timer is not None and self._loop is not None:
            call_on(self._loop, timer.cancel)

    def _grow(self, pool: Crew, count: int) -> None:
        assert self._loop is not None
        call_on(self._loop, pool.grow, count)

    def _cancel_scope(self) -> None:
        super()._cancel_scope()
        crew = self._pool
        if isinstance(crew, LoopCrew) and crew.scope is self._scope:
            for runner in crew.runners:
                if runner.handle is not None and not runner.is_given_up:
                    runner.is_given_up = True
                    runner.task.cancel()

    # The loop

    def _own_loop(self) -> AbstractEventLoop:
        """The running loop. QueueStateError when the queue runs on another; one that has closed is let go of."""
        self._refuse_if_forked()
        loop = asyncio.get_running_loop()
        mine = self._loop
        if mine is not None and mine is not loop and self._machine.state in (QueueState.RUNNING, QueueState.STOPPING):
            if not mine.is_closed():
                raise QueueStateError("the queue runs on another event loop: stop it there before you use it here")
            self._lose_loop()
        if self._machine.state not in (QueueState.RUNNING, QueueState.STOPPING):
            self._loop = loop
        return loop

    def _lose_loop(self) -> None:
        """The loop was closed under the queue, tasks and all: what ran is kept, and the queue has stopped."""
        crew = self._pool
        assert isinstance(crew, LoopCrew)
        self._timers.clear()
        try:
            self._loop_ends(crew)
        finally:  # the warning may be an error
            self._drop_runs(crew)

    def _loop_ends(self, crew: LoopCrew) -> None:
        """The loop shuts down: begin a stop, which ends once the workers have given back what they have."""
        crew.is_dying = True
        crew.scope.cancel()
        if self._pool is not crew or self._machine.state not in (QueueState.RUNNING, QueueState.STOPPING):
            return
        left_behind = sum(runner.job is not None and not runner.job.is_done for runner in crew.runners)
        kept = self._call(self._stop_for_loop) - left_behind
        if kept:
            warnings.warn(
                f"the event loop of {self!r} was closed before the queue was stopped; entries kept, to run once it is "
                f"started on another loop: {kept}",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def _stop_for_loop(self) -> int:
        machine = self._machine
        ticket = machine.ticket
        if ticket is not None and self._loop is not None and self._loop.is_closed():
            ticket.cancel_at = ticket.abandon_at = None  # its coroutines have ended with it: none is to be abandoned
        machine.stop(StopMode.STOP, None, 0.0, is_ending=False, is_inside=False, waited=False)
        return len(machine.entries)

    def _drop_runs(self, crew: LoopCrew) -> None:
        """The loop of *crew* has closed: none of its runs goes on; they end here, before they run again."""
        for runner in list(crew.runners):
            self._drop_run(runner)
            with suppress(RuntimeError):  # it goes on awaiting
                runner.task.get_coro().close()
        crew.offload.close()

    def _drop_run(self, runner: Any) -> None:
        """A run will not be gone on with: it is kept, or abandoned when its plain function still runs."""
        handle, runner.handle = runner.handle, None
        if handle is None:
            return
        job, runner.job = runner.job, None
        if job is not None and job.leave(lambda: self._call(self._machine.finish, handle, cancelled(), None)):
            self._call(self._machine.abandon, handle)
        else:
            self._call(self._machine.finish, handle, cancelled(), None)

    async def _await(self, waiter: Waiter, timeout: float | None) -> None:
        """Until *waiter* is told of its answer, or *timeout* seconds have passed on the queue's clock."""
        now = self._clock_now
        ends_at = None if timeout is None else now() + timeout
        while not waiter.is_told:
            left = None if ends_at is None else ends_at - now()
            if left is not None and left <= 0:
                return
            await waiter.bell.wait(left)

    # Sending

    async def send_wait(self, *envelopes: Envelope[Any], timeout: Duration | None = None) -> int:
        """As `send`, but wait until there is room; those who wait are served in order.

        Raises `CapacityExceededError` when *timeout* seconds passed, or at once when the batch is larger than the
        capacity; `QueueNotRunningError` or `QueueTerminatedError` when the queue stops meanwhile; `QueueStateError`
        inside a handler of this queue when it would have to wait. When the caller is cancelled, either all of
        *envelopes* were taken in or none.
        """
        limit = checked_timeout(timeout)
        self._own_loop()
        seat = self._take_seat(envelopes)
        try:
            if not seat.is_done:
                await self._await(seat, limit)
        except BaseException:
            self._call(self._machine.give_up, seat)
            raise
        return self._leave_seat(seat)

    def submit(self, envelope: Envelope[Any]) -> asyncio.Future[Any]:
        """Send a one-off and get the future of its final outcome, for the running loop.

        It resolves to what invoke returned, or raises what ended it: the last error, `StopEnvelope`, or `Cancelled`
        when it was returned or abandoned. Cancelling the future, or a task that awaits it, takes the entry out while it
        waits, unless somebody else asked for it; a run that goes on is not interrupted. Raises as `send`, and
        `InvalidEnvelopeError` for a periodic or onto a key that a periodic holds; `QueueStateError` without a loop.
        """
        self._check((envelope,))
        if envelope.is_periodic:
            raise InvalidEnvelopeError("a periodic has no final outcome to wait for: use send()")
        future = self._new_future(key_of(envelope))
        context = self._sender_context()
        self._call(self._machine.send, (envelope,), None, None, future, context)
        return future

    def _new_future(self, key: Hashable) -> EnvelopeFuture:
        try:
            return EnvelopeFuture(self, key, asyncio.get_running_loop())
        except RuntimeError:
            raise QueueStateError("submit() makes a future of the running event loop: elsewhere, use send()") from None

    def _detach(self, key: Hashable, future: EnvelopeFuture) -> bool:
        return self._call(self._machine.detach, key, future)

    # Starting and stopping

    async def start(self) -> None:
        """Start the workers on the running loop; what was sent before, or kept by the last stop, runs.

        While running it does nothing. Raises `QueueStateError` while stopping, or when the queue runs on another loop;
        `QueueTerminatedError`.
        """
        self._own_loop()
        self._start()

    async def stop(
        self,
        mode: StopMode | None = None,
        *,
        wait: bool | None = None,
        timeout: Duration | None = None,
        grace: Duration = 1.0,
    ) -> StopReport:
        """Stop, and say what became of everything. *mode* None is the queue's own; *wait* only says whether to wait.

        DRAIN runs what is ready, STOP lets only what runs finish; what has not run is kept and goes on at the next
        `start`. When *timeout* seconds have passed, what runs is cancelled; what still runs *grace* seconds later is
        abandoned and listed. A second stop joins the first; a harder mode or a shorter timeout hardens it. From inside
        a handler, or with `wait=False`, the stop is begun and the report is provisional. When the caller is cancelled
        the stop goes on, and another `stop` gets the same report.

        In INIT nothing happens, in STOPPED and TERMINATED the last report comes again. Raises TypeError or ValueError
        for a wrong argument, `QueueStateError` when the queue runs on another loop.
        """
        self._own_loop()
        return await self._finish_stop(*self._begin_stop(mode, wait, timeout, grace))

    async def terminate(
        self, *, wait: bool | None = None, timeout: Duration | None = None, grace: Duration = 1.0
    ) -> StopReport:
        """End for good: what runs is cancelled at once, and all that remains is returned.

        *timeout* None waits for handlers without limit; else what still runs after *timeout* + *grace* seconds is
        abandoned. `send` and `start` raise `QueueTerminatedError` from now on. From any state; a second call gets the
        same report. Raises as `stop`.
        """
        self._own_loop()
        return await self._finish_stop(*self._begin_stop(StopMode.STOP, wait, timeout, grace, is_ending=True))

    async def _finish_stop(self, report: StopReport | None, waiter: Waiter) -> StopReport:
        if report is not None:
            return report
        self._watch_stop()
        await self._await(waiter, None)
        crew = self._pool
        if isinstance(crew, LoopCrew) and crew.is_closed and not waiter.answer.abandoned:
            is_here = crew.loop is asyncio.get_running_loop()
            if is_here and not crew.over.done():
                await asyncio.wait((crew.over,), timeout=1.0)  # nothing runs any more: the tasks are about to end
        return cast(StopReport, waiter.answer)

    async def join(self, timeout: Duration | None = None) -> bool:
        """Wait until no one-off is in the queue and nothing runs; False when *timeout* seconds passed first.

        Delayed and retrying one-offs count. Their futures, dead letters and events have been delivered when it returns.
        Raises `QueueStateError` when that cannot come true: in INIT or STOPPED, from its own handler, or when the queue
        stops with one-offs kept.
        """
        limit = checked_timeout(timeout)
        self._own_loop()
        waiter = self._begin_join()
        if waiter is None:
            return True
        try:
            await self._await(waiter, limit)
        except BaseException:
            self._call(self._machine.leave_join, waiter)
            raise
        return self._end_join(waiter)

    # Conveniences

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._note_kept(await self.stop(None if kind is None else StopMode.STOP))

    @asynccontextmanager
    async def lifespan(
        self, app: object = None, *, timeout: Duration | None = None, grace: Duration = 1.0
    ) -> AsyncIterator[None]:
        """For Starlette and FastAPI: `FastAPI(lifespan=queue.lifespan)` starts and stops the queue with the app.

        Stops as `with` does. *timeout* and *grace* are those of `stop`: `partial(queue.lifespan, timeout=20)` is for a
        service that must be gone in time.
        """
        limit, extra = checked_timeouts(timeout, grace)
        await self.start()
        mode = StopMode.STOP  # as `with` after an exception
        try:
            yield
            mode = self._options.stop_mode
        finally:
            self._note_kept(await self.stop(mode, timeout=limit, grace=extra))

    async def run(self, *, timeout: Duration | None = None, grace: Duration = 1.0) -> StopReport:
        """Start, wait for SIGINT, SIGTERM or somebody's `stop`, stop with the queue's own mode, and report.

        *timeout* and *grace* are those of `stop`: the most seconds that the stop may take. A second signal cancels what
        still runs, and gives up on it *grace* seconds later. Needs the main thread; the previous signal handlers are
        restored. When the caller is cancelled, the queue is stopped with STOP. Raises `QueueStateError` in another
        thread, inside a handler, or while another `run` goes on.
        """
        limit, extra = checked_timeouts(timeout, grace)
        inbox = Inbox(self._own_loop())
        if self._is_inside():
            raise QueueStateError("run inside a handler of its own queue would wait for itself")
        if self._run_inbox is not None:
            raise QueueStateError("run() is running already: stop() ends it, and gives its report")
        with self._signals_to(inbox):
            self._run_inbox = inbox
            try:
                await self.start()
                signals = 0
                while self.state not in (QueueState.STOPPED, QueueState.TERMINATED):
                    if await inbox.get() is not None:
                        signals += 1
                        await self.stop(wait=False, timeout=0.0 if signals > 1 else limit, grace=extra)
            except BaseException:
                self._note_kept(await self.stop(StopMode.STOP, timeout=limit, grace=extra))
                raise
            finally:
                self._run_inbox = None
        report = await self.stop()
        self._note_kept(report)
        return report

    def _signals_to(self, inbox: Inbox) -> AbstractContextManager[None]:
        return process.signals_to(inbox)

    def _exit(self, timeout: float) -> None:
        """The interpreter exits: the loop is no more."""


class Inbox:
    """A queue of notes for a coroutine, which signal handlers and threads may put into."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._notes: asyncio.Queue[object] = asyncio.Queue()

    def put(self, note: object) -> None:
        """Add a note; the loop wakes."""
        try:
            self._loop.call_soon_threadsafe(self._notes.put_nowait, note)
        except RuntimeError:  # it has closed
            pass

    async def get(self) -> object:
        """The next note."""
        return await self._notes.get()
