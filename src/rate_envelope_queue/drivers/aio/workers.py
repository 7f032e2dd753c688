"""The worker tasks: a crew for each start, and the loop that every worker runs.

As in `threads.workers`, the loop is the hot path: one section settles the last run and takes the next, and a plain
envelope is awaited right here, without a task of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import AbstractEventLoop, CancelledError, Future
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from ...core.entries import Entry, Handle
from ...core.settle import SUCCESS, Verdict, cancelled
from ...envelope import Envelope
from ..plan import Plan
from .bells import a_turn
from .cancels import GuardTask, LoopRunner, WorkerTask
from .deadlines import Deadlines
from .pipeline import conclude, run
from .scope import LoopScope

if TYPE_CHECKING:
    from .queue import AsyncEnvelopeQueue

INSIDE: contextvars.ContextVar[object] = contextvars.ContextVar("rate_envelope_queue.inside", default=None)


class LoopCrew:
    """The workers of one start. `is_dying`: the loop shuts down, and every task was cancelled."""

    def __init__(self, queue: AsyncEnvelopeQueue, scope: LoopScope, loop: AbstractEventLoop) -> None:
        self.queue = queue
        self.scope = scope
        self.loop = loop
        self.baton = queue._baton
        self.is_closed = False
        self.is_dying = False
        self._has_ended = False
        self.size = 0
        self.runners: list[Any] = []  # of LoopRunner
        self.tasks: set[WorkerTask] = set()
        self.deadlines = Deadlines(loop, scope.clock, self.runners)
        self.offload = queue._new_offload(self)
        self.over: Future[None] = loop.create_future()  # every worker has left
        self._context = contextvars.Context()  # workers never see the context variables of whoever started the queue
        self._context.run(INSIDE.set, queue)
        self._guard: GuardTask | None = None

    def grow(self, count: int) -> None:
        """Have *count* more workers."""
        if self._guard is None:
            self._guard = GuardTask(self._watch_loop(), loop=self.loop, name=f"{self.queue.name}-guard")
            self._guard.crew = self
            self._guard.add_done_callback(self._guard_left)
        for _ in range(count):
            self.size += 1
            runner = LoopRunner(self.queue._house, self)
            name = f"{self.queue.name}-{len(self.runners)}"
            self.runners.append(runner)
            self.serve(runner, name)

    def open(self) -> None:
        """The tasks begin once whoever starts the queue lets the loop go round."""

    def serve(self, runner: LoopRunner, name: str) -> None:
        """Have *runner* served by a task of its own."""
        coroutine = work(self, runner)
        runner.task = WorkerTask(coroutine, loop=self.loop, name=name, context=self._context.copy())
        runner.task.runner = runner
        runner.is_disturbed = False
        self.tasks.add(runner.task)
        runner.task.add_done_callback(self._left)

    def _left(self, task: WorkerTask) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()
        elif not (self.is_dying or self.is_closed):  # cancelled before its first step, so that it never served
            self.serve(task.runner, task.get_name())
        if not self.tasks and not self.over.done():
            self.over.set_result(None)
            self.offload.close()
            self.deadlines.close()

    def interrupt(self, error: BaseException) -> None:
        """Raise a KeyboardInterrupt of user code to whoever runs the loop, once it has control; the workers go on."""
        self.loop.call_soon(_raise, error)

    def leave_job(self, runner: LoopRunner) -> None:
        """The loop shuts down while a plain function runs: its run is given up, and nothing is to be settled."""
        try:
            self.end()
        finally:  # its warning may be an error
            self.queue._drop_run(runner)

    def end(self) -> None:
        """The loop shuts down: the queue stops, once."""
        if not self._has_ended:
            self._has_ended = True
            self.queue._loop_ends(self)

    async def _watch_loop(self) -> None:
        """Nobody cancels this but a loop that shuts down."""
        await asyncio.wait((self.over,))  # which is not cancelled with it

    def _guard_left(self, guard: GuardTask) -> None:
        """The loop shuts down, if the guard was cancelled, maybe before its first step: what runs is kept."""
        if guard.cancelled():
            self.end()


async def work(crew: LoopCrew, runner: LoopRunner) -> None:
    """Be a worker until the crew is closed or has one too many."""
    queue = crew.queue
    machine, baton, plans = queue._machine, queue._baton, queue._plans
    acquire, release, turn, finish = queue._acquire, queue._release, machine.turn, machine.finish
    first_context = crew.scope.first_context
    bell = baton.new_bell()
    done: Handle = None
    verdict: Any = None
    value: Any = None
    held: Any = None  # the envelope, which an ended Entry lets go of
    was_woken = False
    has_delivered = yields = sleeps = leaves = False
    until: float | None = None
    outbox: Any = None
    fault: BaseException | None = None
    while True:
        acquire()
        machine.is_busy = True
        try:
            if yields or sleeps or has_delivered:
                if sleeps:
                    bell = baton.unpark(bell, was_woken=was_woken)
                if yields:
                    baton.is_waking = False
                if has_delivered:
                    machine.delivered()
                has_delivered = yields = sleeps = False
            is_over = crew.is_closed or crew.is_dying
            if is_over and runner.handle is None:  # also where its loop was closed, and what it ran was settled
                done, is_spent = None, False
            else:
                baton.left -= 1  # a look at the clock now and then
                is_spent = baton.left < 0 and baton.is_spent()
            if is_over or (is_spent and machine.takable):
                handle = None
                if done is not None:
                    finish(done, verdict, value)
            else:
                handle = turn(done, verdict, value)
            if machine.outbox:
                outbox = machine.take_outbox(is_counted=handle is None)
            elif handle is None:
                leaves = is_over or crew.size > machine.limit
                if leaves:
                    crew.size -= 1
                elif is_spent and machine.takable and not baton.is_waking:
                    yields = baton.is_waking = True
                else:
                    sleeps = True
                    until = baton.park(bell)
        except BaseException as error:  # a user's key, or clock
            handle, fault = None, error
            machine.evict(done, error)
        finally:
            machine.is_busy = False
            release()
        if fault is not None:
            queue._reporter.callback_failed("the settlement of a run", fault)
            done = verdict = value = held = runner.handle = fault = None
            await asyncio.sleep(0.01)  # it may go on raising
            continue
        done = verdict = value = held = None  # the last references go here, outside the lock
        if outbox is not None:
            runner.handle = None  # what an observer stops is not this run
            try:
                queue._delivery.deliver(outbox)
            except BaseException as error:  # Ctrl-C
                crew.interrupt(error)
            outbox = None
            has_delivered = handle is None
            if runner.is_disturbed:  # by an observer
                runner.handle = handle
                await runner.absorb()
            if handle is not None and crew.scope.cancelled:  # the stop came too early to cancel this run
                runner.handle = handle
                done, verdict = handle, cancelled()
                continue
        if handle is not None:
            runner.handle = handle
            if handle.__class__ is not Entry:
                plan = handle._policy.plan
                if plan is None or plan.book is not plans:
                    plan = plans.plan(handle._policy)
                if plan.is_bare:
                    try:
                        value = await plan.invoke(first_context, handle)
                        verdict = SUCCESS
                    except BaseException as raised:
                        verdict = await conclude_bare(runner, plan, handle, raised)
                        if runner.job is not None:
                            crew.leave_job(runner)
                            handle = None
                    if runner.is_disturbed:
                        await runner.absorb()
                    done, handle = handle, None
                    continue
            verdict = await execute(queue, runner, handle)
            value, held = runner.value, runner.envelope  # noqa: F841
            runner.close()
            if runner.is_disturbed:  # by an observer, a limiter or a schedule, after the last phase
                await runner.absorb()
            done, handle = handle, None
            if runner.job is not None:
                crew.leave_job(runner)
                done = None
        elif sleeps or yields:
            runner.handle = None
            was_woken = await rest(runner, bell, until, yields=yields)
        elif leaves:
            break
    crew.runners.remove(runner)


async def rest(runner: LoopRunner, bell: Any, until: float | None, *, yields: bool) -> bool:
    """Sleep until woken (True) or the time has come (False); or only let the loop go round once."""
    was_woken = False
    try:
        if yields:
            await a_turn()
        else:
            was_woken = await bell.wait(None if until is None else until - runner.scope.clock())
    except CancelledError:  # not meant for a worker that rests, unless the loop shuts down: it will look
        pass
    if runner.is_disturbed:
        await runner.absorb()
    return was_woken


async def execute(queue: AsyncEnvelopeQueue, runner: LoopRunner, handle: Handle) -> Verdict:
    """Run what was taken, with all its notes. The value is in `runner.value`; the caller closes the runner."""
    try:
        context = runner.begin(handle, queue._plans)
        if context is not None:
            context = context.copy()
            context.run(INSIDE.set, queue)
            return await InContext(context, run(runner, runner.plan, runner.envelope))
        return await run(runner, runner.plan, runner.envelope)
    except GeneratorExit:  # the loop has closed, and the task is being thrown away
        raise
    except BaseException as error:
        return runner.fault(error)


async def conclude_bare(runner: LoopRunner, plan: Plan, envelope: Envelope[Any], error: BaseException) -> Verdict:
    """A plain envelope, called by the worker itself, failed: what follows."""
    runner.was_backed_off = False
    runner.open(plan, envelope, 1)
    try:
        return await conclude(runner, plan, envelope, error)
    except GeneratorExit:
        raise
    except BaseException as raised:
        return runner.fault(raised)
    finally:
        runner.close()


def _raise(error: BaseException) -> None:
    raise error


class InContext:
    """Awaits a coroutine with every step of it in *context*."""

    __slots__ = ("_context", "_coroutine")

    def __init__(self, context: contextvars.Context, coroutine: Coroutine[Any, Any, Verdict]) -> None:
        self._context = context
        self._coroutine = coroutine

    @property
    def cr_await(self) -> object:
        """What it awaits, for whoever looks where a task is."""
        return self._coroutine

    def __await__(self) -> Generator[Any, Any, Verdict]:
        run_in, coroutine = self._context.run, self._coroutine
        step: Any = coroutine.send
        argument: Any = None
        while True:
            try:
                waits_for = run_in(step, argument)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            finally:
                argument = None  # the traceback of what was thrown in holds this frame: without this, a cycle
            try:
                argument = yield waits_for
                step = coroutine.send
            except GeneratorExit:
                run_in(coroutine.close)
                raise
            except BaseException as error:
                argument, step = error, coroutine.throw
