"""The worker threads: a pool for each start, and the loop that every worker runs.

The loop is the hot path. One section of the lock settles the last run and takes the next; a plain envelope is then
called right here. Everything else goes through the pipeline.
"""

from __future__ import annotations

import contextvars
import threading
from _thread import get_ident
from itertools import count
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ...core.entries import Entry, Handle
from ...core.settle import SUCCESS, Verdict
from ...envelope import Envelope
from ..clock import LONGEST_WAIT, give_way
from ..parking import new_bell
from ..plan import Plan, refuse_coroutine
from ..rules import Runner
from ..scope import ThreadScope
from .pipeline import conclude, run

if TYPE_CHECKING:
    from .queue import EnvelopeQueue


class Pool:
    """The workers of one start. `size` counts those that have not left; it and `is_closed` are read under the lock."""

    def __init__(self, queue: EnvelopeQueue, scope: ThreadScope) -> None:
        self.queue = queue
        self.scope = scope
        self.is_closed = False
        self.is_waited_for = False  # a stop has waited for the threads to be gone
        self.size = 0
        self.threads: dict[int, threading.Thread] = {}
        self.runners: list[Runner] = []
        self._numbers = count()
        self._gate = new_bell()  # closed until the queue runs with this pool, or never will

    def grow(self, count: int) -> None:
        """Start *count* more threads; called without the lock. When one cannot be started, none is left behind."""
        for _ in range(count):
            number = next(self._numbers)
            name = f"{self.queue.name}-{number}"
            thread = threading.Thread(target=self._serve, args=(number,), name=name, daemon=True)
            self.size += 1
            self.threads[number] = thread
            try:
                thread.start()
            except BaseException:
                self.size -= 1
                del self.threads[number]
                raise

    def open(self) -> None:
        """Let the threads begin: to work, or to leave when the pool is closed."""
        self._gate.release()

    def _serve(self, number: int) -> None:
        with self._gate:
            pass
        try:
            contextvars.Context().run(work, self)  # workers never see the context variables of who started the queue
        finally:
            self.threads.pop(number, None)

    def wait_until_left(self, timeout: float) -> None:
        """Join the threads, which have nothing more to do, for at most *timeout* seconds in all."""
        clock = self.scope.clock
        ends_at = clock() + timeout
        for thread in list(self.threads.values()):
            if thread is not threading.current_thread() and thread.is_alive():  # not yet when it has just been made
                thread.join(max(0.0, min(timeout, ends_at - clock())))


def execute(queue: EnvelopeQueue, runner: Runner, handle: Handle) -> Verdict:
    """Run what was taken, with all its notes. The value is in `runner.value`; the caller closes the runner."""
    try:
        context = runner.begin(handle, queue._plans)
        if context is not None:
            return context.copy().run(run, runner, runner.plan, runner.envelope)  # type: ignore[no-any-return]
        return run(runner, runner.plan, runner.envelope)
    except BaseException as error:
        return runner.fault(error)


def conclude_bare(runner: Runner, plan: Plan, envelope: Envelope[Any], error: BaseException) -> Verdict:
    """A plain envelope, called by the worker itself, failed: what follows."""
    runner.was_backed_off = False
    runner.open(plan, envelope, 1)
    try:
        return conclude(runner, plan, envelope, error)
    except BaseException as raised:
        return runner.fault(raised)
    finally:
        runner.close()


def work(pool: Pool) -> None:
    """Be a worker until the pool is closed or has one too many."""
    queue = pool.queue
    machine, parking, plans = queue._machine, queue._parking, queue._plans
    acquire, release, turn, idle = queue._acquire, queue._release, machine.turn, parking.idle
    first_context = pool.scope.first_context
    runner = Runner(queue._house, pool.scope, get_ident())
    pool.runners.append(runner)
    queue._insiders.add(runner.thread)
    bell = new_bell()
    done: Handle = None
    verdict: Any = None
    value: Any = None
    held: Any = None  # the envelope, which an ended Entry lets go of
    was_woken: bool | None = None  # None: it did not sleep
    has_delivered = False
    sleeps = leaves = False
    until: float | None = None
    outbox: Any = None
    wake: Any = None
    fault: BaseException | None = None
    while True:
        while not acquire(False):  # blocking here would start a convoy: the lock handed over while the GIL is awaited
            if queue._is_forked():  # a handler forked, and this is the child: nobody will release the lock
                return
            give_way(0)
        machine.is_busy = True
        try:
            if was_woken is not None:
                bell = parking.unpark(bell, was_woken=was_woken)
                was_woken = None
            if has_delivered:
                has_delivered = False
                machine.delivered()
            if not pool.is_closed:
                handle = turn(done, verdict, value)
            else:  # what it did counts, but another start's workers take the next
                handle = None
                if done is not None:
                    machine.finish(done, verdict, value)
            if machine.outbox:
                outbox = machine.take_outbox(is_counted=handle is None)
            elif handle is None:
                leaves = pool.is_closed or pool.size > machine.limit
                if leaves:
                    pool.size -= 1
                else:
                    sleeps = True
                    until = parking.park(bell)
            if idle:
                wake = parking.next_wake()
        except BaseException as error:  # a user's key, or clock
            handle, fault = None, error
            machine.evict(done, error)
        finally:
            machine.is_busy = False
            release()
        if fault is not None:
            queue._reporter.callback_failed("the settlement of a run", fault)
            done = verdict = value = held = fault = None
            give_way(0.01)  # it may go on raising
            continue
        if wake is not None:
            wake.release()
            wake = None
        done = verdict = value = held = None  # the last references go here, outside the lock
        if outbox is not None:
            queue._delivery.deliver(outbox)
            outbox = None
            has_delivered = handle is None
        if handle is not None:
            if handle.__class__ is not Entry:
                plan = handle._policy.plan
                if plan is None or plan.book is not plans:
                    plan = plans.plan(handle._policy)
                if plan.is_bare:
                    try:
                        value = plan.invoke(first_context, handle)
                        if value is not None and type(value) is CoroutineType:
                            refuse_coroutine(value, handle._policy)
                        verdict = SUCCESS
                    except BaseException as raised:
                        verdict = conclude_bare(runner, plan, handle, raised)
                    done, handle = handle, None
                    continue
            verdict = execute(queue, runner, handle)
            value, held = runner.value, runner.envelope  # noqa: F841
            runner.close()
            done, handle = handle, None
        elif sleeps:
            sleeps = False
            was_woken = _sleep(bell, until, queue._clock_now)
        elif leaves:
            break
    queue._insiders.discard(runner.thread)
    pool.runners.remove(runner)


def _sleep(bell: Any, until: float | None, now: Any) -> bool:
    """Sleep until woken (True) or until the time has come (False)."""
    if until is None:
        return bool(bell.acquire())
    try:
        left = until - now()
    except BaseException:  # a clock of the user's: the next section looks at it, and tells
        left = 0.01
    return bool(bell.acquire(True, max(0.0, min(LONGEST_WAIT, left))))
