"""The torture of a queue on an event loop: a world in which every handler, hook and bystander is nasty.

A `World` keeps books of its own: each call of a handler or hook is a `Phase`, written down by the call itself, with
what could have cancelled it by then. At the end `judge` compares that with what the queue told its observer and its
ledger. Where two causes come in the same tick either is right; where there is none, a cancellation has leaked.

`python -m tests.stress.aio_torture --help` plays it without pytest; it ends at the first violation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import logging
import os
import random
import sys
import threading
import time
import warnings
from asyncio import AbstractEventLoop, CancelledError, Task
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from rate_envelope_queue import (
    AsyncEnvelopeQueue,
    DeadlineExceeded,
    Envelope,
    QueueState,
    StopMode,
    retry_now,
    retry_with_backoff,
)

from .aio_kinds import HOOKS, KINDS, Kind, spin

now = time.monotonic
BUDGET = 0.004  # seconds for a hook
DEADLINES = (None, 0.0008, 0.0015, 0.0025)
JITTER = 0.0003
GRACE = 5.0  # more than anything here goes on for
COMES_BACK, LOOKS_OUT, SLOW = (
    each for each in KINDS if each.name in ("comes_back", "looks_out_for_a_stop", "plain_is_slow")
)
PLAIN_KINDS = [each for each in KINDS if each.is_plain]
COROUTINE_KINDS = [each for each in KINDS if not each.is_plain]


def new_loop(name: str) -> AbstractEventLoop:
    """An event loop by its name: asyncio or uvloop."""
    if name == "uvloop":
        import uvloop

        loop: AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.new_event_loop()


class Phase:
    """One call of a handler or hook."""

    def __init__(self, world: World, run: Run, name: str, kind: Kind, ctx: Any) -> None:
        self.world = world
        self.run = run
        self.name = name
        self.kind = kind
        self.ctx = ctx
        self.task: Any = None if kind.is_plain else asyncio.current_task()
        began_at = now()
        until = began_at + 0.0008 if ctx.deadline is None else ctx.deadline
        self.aim = until + world.random.uniform(-JITTER, JITTER)
        self.is_struck = False  # by a stray
        self.error: BaseException | None = None
        self.ended_at: float | None = None
        self.causes: set[str] = set()  # of a CancelledError that it let through

    def wrong(self, what: str) -> None:
        """A rule was broken."""
        self.world.wrong.append(f"{self.name} {self.kind.name} of {self.run}: {what}")

    def kid(self, coroutine: Coroutine[Any, Any, Any]) -> Task[Any]:
        """A task that outlives the phase, maybe."""
        return self.world.kid(coroutine)

    def possible_causes(self) -> set[str]:
        """Who may have cancelled it by now."""
        causes = set()
        if self.ctx.deadline is not None and now() >= self.ctx.deadline:
            causes.add("deadline")
        if self.ctx.cancelled or self.world.is_dying:
            causes.add("stop")
        if self.kind.is_own or self.is_struck:
            causes.add("user")
        return causes

    def caught(self) -> None:
        """It has caught a CancelledError."""
        if not self.possible_causes():
            self.wrong("was cancelled by nobody")

    def end(self, error: BaseException | None) -> None:
        """It returned, or raised."""
        self.causes = self.possible_causes()
        self.error = error
        self.ended_at = now()


class Run:
    """One run of an envelope, and what the queue said about it."""

    def __init__(self, number: int, envelope: Envelope[Any], attempt: int) -> None:
        self.number = number
        self.envelope = envelope
        self.attempt = attempt
        self.phases: list[Phase] = []
        self.failures: list[BaseException] = []
        self.hook_failures: list[tuple[str, BaseException]] = []

    def __repr__(self) -> str:
        shown = ", ".join(f"{phase.name} {phase.kind.name}" for phase in self.phases)
        return f"run {self.number} (attempt {self.attempt}, {self.envelope!r}: {shown})"

    def phase(self, name: str) -> Phase | None:
        """Its phase of that name."""
        return next((phase for phase in self.phases if phase.name == name), None)

    def ends(self, phase: Phase) -> list[tuple[str, Callable[[BaseException], bool]]]:
        """How it may have ended, by what *phase* did: for a failure, which error is right."""
        error = phase.error
        if phase.ended_at is None:
            return [("abandoned", lambda found: False)]
        if error is None:
            if phase.name == "before":  # and there was no invoke: it was too late, or the queue gave up
                kept = [("kept", lambda found: False)] if phase.ctx.cancelled else []
                return [("failed", lambda found: type(found) is DeadlineExceeded), *kept]
            return [("succeeded", lambda found: False), ("abandoned", lambda found: phase.kind.is_plain)]
        if not isinstance(error, CancelledError):
            return [("failed", lambda found: is_the_same(found, error)), ("abandoned", lambda found: False)]
        ways: list[tuple[str, Callable[[BaseException], bool]]] = []
        if "stop" in phase.causes:
            ways.append(("kept", lambda found: False))
        if "deadline" in phase.causes:
            ways.append(("failed", lambda found: type(found) is DeadlineExceeded and found.__cause__ is error))
        if "user" in phase.causes:
            ways.append(("failed", lambda found: found is error))
        return ways

    def decisive(self) -> Phase:
        """The phase that decides how it ends."""
        invoke = self.phase("invoke")
        return self.phases[0] if invoke is None else invoke


def is_the_same(found: BaseException, error: BaseException) -> bool:
    """Whether the queue reported *error*; out of a coroutine StopIteration comes as RuntimeError."""
    return found is error or (type(found) is RuntimeError and found.__cause__ is error)


class World:
    """One queue, its envelopes, and everybody who plays with it."""

    def __init__(self, seed: int, loop_name: str, *, workers: int, patience: float = 20.0) -> None:
        self.seed = seed
        self.loop_name = loop_name
        self.patience = patience
        self.random = random.Random(seed)
        self.wrong: list[str] = []
        self.runs: dict[Envelope[Any], list[Run]] = {}
        self.count = 0  # of runs
        self.sent = self.kept = 0
        self.abandoned: list[Envelope[Any]] = []
        self.current: dict[Any, Phase] = {}
        self.kids: set[Task[Any]] = set()
        self.is_dying = False
        self.is_over = False  # nobody strikes any more
        self.lock = threading.Lock()
        self.workers = workers
        self.queue = AsyncEnvelopeQueue(
            f"torture{seed}",
            workers=workers,
            hook_timeout_floor=BUDGET,
            capture_context=self.random.random() < 0.3,
            observers=(self,),
            backoff=self,
            dead_letter_limit=0,
        )

    # What the queue says

    def _last(self, envelope: Envelope[Any], what: str) -> Run:
        runs = self.runs.get(envelope)
        if not runs:
            self.wrong.append(f"{what} of {envelope!r}, which has never run")
            return Run(0, envelope, 0)
        return runs[-1]

    def on_failed(self, event: Any) -> None:
        self._last(event.envelope, f"failure {event.error!r}").failures.append(event.error)
        self._strike_from_within()

    def on_hook_failed(self, event: Any) -> None:
        self._last(event.envelope, f"failure {event.error!r}").hook_failures.append((event.hook, event.error))
        self._strike_from_within()

    def on_dropped(self, event: Any) -> None:
        self._strike_from_within()

    def when(self, item: Any, *, now: float) -> float:
        """As a backoff limiter: it is asked when the last phase is over."""
        self._strike_from_within()
        return 0.0

    def forget(self, item: Any) -> None:
        """After a success nobody is told of anything: only the worker itself can notice."""
        self._strike_from_within(0.8)

    def num_requeues(self, item: Any) -> int:
        raise AssertionError("the queue does not ask")

    def _strike_from_within(self, share: float = 0.2) -> None:
        """An observer or limiter cancels the task that tells it: between two phases, so that none may notice."""
        if self.random.random() < share:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    def on_abandoned(self, event: Any) -> None:
        self.abandoned.append(event.envelope)  # its thread may not have begun yet
        if not self.is_dying:
            self.wrong.append(f"a run of {event.envelope!r} was abandoned, within a grace of {GRACE} s")

    def complains(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop has something to report: only what the handlers did may be."""
        task = context.get("task")
        is_of_handlers = task is None or not task.get_name().startswith(self.queue.name)
        if not is_of_handlers or not ("never retrieved" in context["message"] or "shutdown" in context["message"]):
            self.wrong.append(f"the loop reported {context}")

    # What handlers and hooks are

    def enter(self, name: str, kind: Kind, ctx: Any, envelope: Envelope[Any]) -> Phase:
        """A handler or hook was called."""
        with self.lock:
            runs = self.runs.setdefault(envelope, [])
            if name == "before" or (name == "invoke" and envelope.before_hook is None):
                self.count += 1
                if runs and any(phase.ended_at is None for phase in runs[-1].phases):
                    self.wrong.append(f"a second run began of {runs[-1]}, which has not ended")
                runs.append(Run(self.count, envelope, ctx.attempt))
        phase = Phase(self, runs[-1], name, kind, ctx)
        runs[-1].phases.append(phase)
        task = phase.task
        if task is not None:
            if task.cancelling():
                phase.wrong(f"began with cancelling() == {task.cancelling()}")
            if task in self.current:
                phase.wrong(f"began inside {self.current[task].kind.name}")
            self.current[task] = phase
        return phase

    def leave(self, phase: Phase, error: BaseException | None) -> None:
        """It has ended."""
        phase.end(error)
        if phase.task is not None:
            self.current.pop(phase.task, None)

    def coroutine(self, name: str, kind: Kind) -> Callable[..., Any]:
        """A coroutine function that does what *kind* does."""

        async def call(ctx: Any, envelope: Envelope[Any], *error: BaseException) -> Any:
            phase = self.enter(name, kind, ctx, envelope)
            raised: BaseException | None = None
            try:
                await kind.call(phase)
            except BaseException as caught:
                raised = caught
                raise
            finally:
                self.leave(phase, raised)
            again = retry_now() if phase.run.number % 4 == 1 else retry_with_backoff()
            return again if name == "failure" and ctx.attempt < 3 and phase.run.number % 2 else None

        return call

    def plain(self, kind: Kind) -> Callable[..., Any]:
        """A plain function that does what *kind* does."""

        def call(ctx: Any, envelope: Envelope[Any]) -> None:
            phase = self.enter("invoke", kind, ctx, envelope)
            raised: BaseException | None = None
            try:
                kind.call(phase)
            except BaseException as caught:
                raised = caught
                raise
            finally:
                self.leave(phase, raised)

        return call

    def envelope(self, kind: Kind) -> Envelope[Any]:
        """An envelope of that kind, with a deadline and hooks as it comes."""
        rng = self.random
        deadline = rng.choice(DEADLINES)
        if kind.needs_deadline and deadline is None:
            deadline = DEADLINES[-1]
        hooks: dict[str, Any] = {}
        for name in ("before", "after", "success", "failure"):
            if rng.random() < 0.15:
                hooks[f"{name}_hook"] = self.coroutine(name, rng.choice(HOOKS))
        invoke = self.plain(kind) if kind.is_plain else self.coroutine("invoke", kind)
        return Envelope(invoke, deadline=deadline, type=kind.name, id=self.random.randrange(10**6), **hooks)

    def probe(self) -> Envelope[Any]:
        """An envelope that must succeed, whatever ran before it."""
        kind = Kind("probe", self._probe)
        return Envelope(self.coroutine("invoke", kind), type="probe", deadline=self.random.choice((None, None, 2.0)))

    async def _probe(self, phase: Phase) -> None:
        for _ in range(self.random.choice((1, 2, 30))):
            await asyncio.sleep(0)
        if self.random.random() < 0.1:
            await asyncio.sleep(0.003)

    # The bystanders

    def kid(self, coroutine: Coroutine[Any, Any, Any]) -> Task[Any]:
        """A task of a handler's, or of a bystander's."""
        task = asyncio.get_running_loop().create_task(coroutine, name="kid")
        self.kids.add(task)
        task.add_done_callback(self.kids.discard)
        return task

    def stray(self, task: Any) -> None:
        """Cancel a worker's task, whatever it does just now."""
        if self.is_over:
            return
        phase = self.current.get(task)
        if phase is not None:
            phase.is_struck = True
        task.cancel()

    def send(self) -> None:
        """A few nasty envelopes, each followed by a probe."""
        for _ in range(self.random.randrange(1, 4)):
            self.send_one(self.random.choice(PLAIN_KINDS if self.random.random() < 0.1 else COROUTINE_KINDS))
        if self.random.random() < 0.2:
            self.send_one(COMES_BACK)

    def send_one(self, kind: Kind) -> None:
        """An envelope of that kind, and a probe behind it."""
        for envelope in (self.envelope(kind), self.probe()):
            self.runs[envelope] = []
            self.sent += self.queue.send(envelope)

    async def disturb(self) -> None:
        """One nasty thing, or a moment of peace."""
        await self.random.choice((self._strike, self._strike_at_a_deadline, self._strike_and_send, self._rest))()

    async def _rest(self) -> None:
        await asyncio.sleep(self.random.choice((0, 0.001, 0.003)))

    async def _strike(self) -> None:
        await asyncio.sleep(self.random.choice((0, 0, 0.001)))
        for task in self._some_workers():
            self.stray(task)

    async def _strike_at_a_deadline(self) -> None:
        await self.a_deadline()
        await self._strike()

    async def _strike_and_send(self) -> None:
        """Strike the workers in the tick in which one of them is woken."""
        await self._idle()
        if self.random.random() < 0.5:
            self.send()
        for task in self._workers():
            self.stray(task)
        self.send()
        for task in self._some_workers():
            self.stray(task)

    def _workers(self) -> list[Any]:
        name = f"{self.queue.name}-"
        mine = [task for task in asyncio.all_tasks() if task.get_name().startswith(name)]
        return sorted((task for task in mine if task.get_name() != f"{name}guard"), key=lambda task: task.get_name())

    def _some_workers(self) -> list[Any]:
        tasks = self._workers()
        return self.random.sample(tasks, self.random.randrange(len(tasks) + 1))

    async def a_deadline(self) -> None:
        """Until about the deadline of something that runs."""
        soon = now() + 0.01
        times = [phase.aim for phase in self.current.values() if phase.ctx.deadline is not None and phase.aim < soon]
        if times:
            await spin(self.random.choice(times))

    async def _idle(self) -> None:
        ends_at = now() + self.patience / 2
        while len(self.queue) and now() < ends_at:
            await asyncio.sleep(0.0005)

    async def restart(self) -> None:
        """Stop with a small timeout, and start again."""
        if self.random.random() < 0.3:
            await self._idle()
            self.send_one(LOOKS_OUT)
            await asyncio.sleep(0.001)
        elif self.random.random() < 0.5:
            await self.a_deadline()
        mode = self.random.choice(list(StopMode))
        report = await self.queue.stop(mode, timeout=self.random.choice((0, 0, 0.0005, 0.002)), grace=GRACE)
        if report.state is not QueueState.STOPPED:
            self.wrong.append(f"a stop ended with {report}")
        if self.random.random() < 0.3:
            for task in self._workers():
                self.stray(task)
        await self.start()

    async def start(self) -> None:
        """Start, and maybe strike workers that have not begun yet."""
        await self.queue.start()
        if self.random.random() < 0.5:
            for task in self._some_workers():
                self.stray(task)

    # The plot

    async def play(self, turns: int) -> None:
        """Everything at once, for *turns* turns."""
        await self.start()
        for _ in range(turns):
            self.send()
            await self.disturb()
            if self.random.random() < 0.3:
                await self.restart()

    async def finish(self) -> None:
        """Let all run; see that no worker was lost; stop."""
        await self.queue.start()
        if not await self.queue.join(self.patience / 2):
            self.wrong.append(f"what is left never runs: {self.queue.snapshot()[:5]}, {self.queue.stats()}")
            await self.queue.stop(StopMode.STOP, timeout=0, grace=0.1)
            return
        self.is_over = True
        for kid in list(self.kids):
            kid.cancel()
        await self._muster()
        await self._threads_end()
        report = await self.queue.stop()
        if report.kept or report.abandoned:
            self.wrong.append(f"a stop of an empty queue ended with {report}")

    async def _muster(self) -> None:
        """As many probes as there are workers run at once."""
        all_here, here = asyncio.Event(), 0

        async def meet(ctx: Any, envelope: Any) -> None:
            nonlocal here
            self.count += 1
            here += 1
            if here == self.workers:
                all_here.set()
            await all_here.wait()

        self.sent += self.queue.send(*(Envelope(meet) for _ in range(self.workers)))
        if not await self.queue.join(self.patience / 4):
            self.wrong.append(f"of {self.workers} workers only {here} are left")
            all_here.set()

    async def _threads_end(self) -> None:
        """Until the abandoned runs of plain functions have ended; a thread may not even have begun with one."""
        ends_at = now() + self.patience / 4
        while (stats := self.queue.stats()).abandoned_ended < stats.runs_abandoned:
            if now() > ends_at:
                self.wrong.append(f"an abandoned run has not ended: {stats}")
                return
            await asyncio.sleep(0.001)

    async def die(self) -> None:
        """Let the loop shut down under the queue, at the worst moment."""
        moment = self.random.randrange(7)
        if moment == 0:
            await self.a_deadline()
        elif moment == 1:
            await self._strike_at_a_deadline()
        elif moment == 2:
            await self.a_deadline()
            self.kid(self.queue.stop(StopMode.STOP, timeout=0, grace=GRACE))
        elif moment == 3:
            await self._strike_and_send()
        elif moment == 4:
            await self.queue.stop(StopMode.STOP, timeout=0, grace=GRACE)
            await self.queue.start()
        elif moment == 5:
            await self._idle()
            bare = Envelope(self.plain(SLOW), type="bare")
            self.runs[bare] = []
            self.sent += self.queue.send(bare)
            await asyncio.sleep(0.002)
        self.is_dying = True

    def judge(self) -> None:
        """Hold what the queue said against what was seen; raise AssertionError when a rule was broken."""
        for envelope, runs in list(self.runs.items()):
            if not runs:
                self.wrong.append(f"{envelope!r} has never run")
            failures = 0
            for run in runs:
                self._judge_run(run, 1 + failures, is_last=run is runs[-1])
                failures += bool(run.failures)
        self._judge_ledger()
        if self.wrong:
            shown = "\n".join(self.wrong[:10])
            raise AssertionError(f"seed {self.seed} on {self.loop_name}, {len(self.wrong)} violations:\n{shown}")

    def _judge_run(self, run: Run, attempt: int, *, is_last: bool) -> None:
        abandoned = self.abandoned.count(run.envelope) if is_last else 0
        told = len(run.failures) + abandoned
        how = "failed" if run.failures else "abandoned" if abandoned else "succeeded" if is_last else "kept"
        ways = run.ends(run.decisive())
        if told > 1 or not any(way == how and (not run.failures or fits(run.failures[0])) for way, fits in ways):
            phase = run.decisive()
            self.wrong.append(
                f"{run} ended {how}, {told} times {run.failures!r}; its {phase.name} ended with {phase.error!r}, "
                f"to be explained by {sorted(phase.causes)}"
            )
        self.kept += how == "kept"
        if run.attempt != attempt:
            self.wrong.append(f"{run} should be attempt {attempt}")
        if run.phases[0].error is not None and run.phases[0].name == "before" and run.phase("invoke") is not None:
            self.wrong.append(f"{run} was invoked, though its before hook raised {run.phases[0].error!r}")
        self._judge_hooks(run)

    def _judge_hooks(self, run: Run) -> None:
        told = list(run.hook_failures)
        for phase in run.phases:
            if phase.name in ("before", "invoke") or phase.error is None:
                continue
            hook, found = told.pop(0) if told else ("", None)
            error = phase.error
            is_right = is_the_same(found, error) if found is not None else False
            if isinstance(error, CancelledError):
                is_right = is_right and "user" in phase.causes
                is_right = is_right or ("deadline" in phase.causes and type(found) is DeadlineExceeded)
                is_right = is_right or ("stop" in phase.causes and type(found).__name__ == "Cancelled")
            if hook != f"{phase.name}_hook" or not is_right:
                self.wrong.append(
                    f"{run}: the {phase.name} hook raised {error!r}, {sorted(phase.causes)}, not {found!r}"
                )
        if told:
            self.wrong.append(f"{run}: nobody raised {told}")

    def _judge_ledger(self) -> None:
        stats = self.queue.stats()
        ended = stats.succeeded + stats.stopped + stats.dropped + stats.returned + stats.abandoned
        if stats.accepted != ended + stats.occupancy or stats.accepted != self.sent:
            self.wrong.append(f"the ledger does not balance: {self.sent} were sent, {stats}")
        runs = stats.runs_succeeded + stats.runs_failed + stats.runs_cancelled + stats.runs_stopped
        if stats.runs_started != runs + stats.runs_abandoned + stats.running:
            self.wrong.append(f"the runs do not balance: {stats}")
        unbegun = stats.runs_cancelled - self.kept  # cancelled by a stop before the first call of a handler or hook
        if stats.runs_started != self.count + unbegun or unbegun < 0:
            self.wrong.append(f"{self.count} runs began and {self.kept} were kept: {stats}")
        failed = sum(len(run.failures) for runs_of in self.runs.values() for run in runs_of)
        if failed != stats.runs_failed:
            self.wrong.append(f"{failed} runs were reported as failed: {stats}")
        if stats.running or stats.occupancy:
            self.wrong.append(f"something is left: {stats}")


class Watchdog:
    """Ends a loop that hangs, and says where it was."""

    def __init__(self, patience: float, on_hang: Callable[[AbstractEventLoop], None]) -> None:
        self.loop: AbstractEventLoop | None = None
        self.is_hung = False
        self._on_hang = on_hang
        self._timer = threading.Timer(patience, self._bark)
        self._timer.daemon = True

    def _bark(self) -> None:
        self.is_hung = True
        faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        loop = self.loop
        if loop is not None and not loop.is_closed():
            self._on_hang(loop)

    def __enter__(self) -> Watchdog:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        self._timer.join()


def stop_loop(loop: AbstractEventLoop) -> None:
    """Have a loop that hangs return to whoever runs it."""
    loop.call_soon_threadsafe(lambda: [task.print_stack(file=sys.__stderr__) for task in asyncio.all_tasks(loop)])
    loop.call_soon_threadsafe(loop.stop)


def live(world: World, plot: Callable[[], Coroutine[Any, Any, None]], on_hang: Callable[[Any], None]) -> None:
    """The life of one loop, from its birth to its shutdown."""
    with Watchdog(world.patience, on_hang) as watchdog:
        try:
            with asyncio.Runner(loop_factory=lambda: new_loop(world.loop_name)) as runner:
                watchdog.loop = runner.get_loop()
                watchdog.loop.set_exception_handler(world.complains)
                runner.run(plot())
        except RuntimeError:
            if not watchdog.is_hung:
                raise
    if watchdog.is_hung:
        raise AssertionError(f"seed {world.seed} on {world.loop_name}: the loop hung, {world.queue.stats()}")


class Records(logging.Handler):
    """What the package logged as an ERROR: something failed that is not the user's."""

    def __init__(self, wrong: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._wrong = wrong

    def emit(self, record: logging.LogRecord) -> None:
        self._wrong.append(f"logged: {record.getMessage()}")


@contextlib.contextmanager
def only_errors(wrong: list[str]) -> Any:
    """Log nothing below ERROR, and take what is above as a violation."""
    log, records = logging.getLogger("rate_envelope_queue"), Records(wrong)
    before = log.level, log.propagate
    log.setLevel(logging.ERROR)
    log.propagate = False
    log.addHandler(records)
    try:
        yield
    finally:
        log.removeHandler(records)
        log.setLevel(before[0])  # which also forgets what was cached
        log.propagate = before[1]


def play_storm(seed: int, loop_name: str, *, turns: int = 6, patience: float = 20.0, on_hang: Any = stop_loop) -> World:
    """One queue that is stopped and started again amid its envelopes, on one loop."""
    world = World(seed, loop_name, workers=(1, 1, 4)[seed % 3], patience=patience)

    async def plot() -> None:
        await world.play(turns)
        await world.finish()

    with only_errors(world.wrong):
        live(world, plot, on_hang)
        world.judge()
    return world


def play_death(seed: int, loop_name: str, *, turns: int = 3, patience: float = 20.0, on_hang: Any = stop_loop) -> World:
    """One queue whose loop shuts down amid its envelopes, and that goes on on another."""
    world = World(seed, loop_name, workers=(1, 4)[seed % 2], patience=patience)

    async def plot() -> None:
        await world.play(turns)
        await world.die()

    with only_errors(world.wrong), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        live(world, plot, on_hang)
        stats = world.queue.stats()
        if stats.state is not QueueState.STOPPED or stats.running:
            raise AssertionError(f"seed {seed} on {loop_name}, violations: the loop has shut down, and {stats}")
        if any(warning.category is not ResourceWarning for warning in caught):
            world.wrong.append(f"warned: {[str(warning.message) for warning in caught]}")
        world.is_dying = False
        world.current.clear()
        live(world, world.finish, on_hang)
        world.judge()
    return world


def play_each_kind(seed: int, loop_name: str, *, patience: float = 20.0, on_hang: Any = stop_loop) -> World:
    """Each kind, one after another on one worker, with nobody to disturb it but itself."""
    world = World(seed, loop_name, workers=1, patience=patience)
    for kind in KINDS:
        world.send_one(kind)
    with only_errors(world.wrong):
        live(world, world.finish, on_hang)
        world.judge()
    return world


def play(seed: int, loop_name: str, runs: int, *, dying: float = 0.25, **options: Any) -> Counter[str]:
    """Storms and deaths until *runs* runs have begun; what happened, counted."""
    counts: Counter[str] = Counter()
    while counts["runs"] < runs:
        seed += 1
        scene = play_death if seed * 37 % 100 < dying * 100 else play_storm
        world = scene(seed, loop_name, **options)
        counts["runs"] += world.count
        counts[scene.__name__] += 1
        counts.update(how_it_went(world))
    return counts


def how_it_went(world: World) -> Counter[str]:
    """How many runs ended how; a torture in which nothing happens proves nothing."""
    stats = world.queue.stats()
    failures = [error for runs in world.runs.values() for run in runs for error in run.failures]
    return Counter(
        succeeded=stats.runs_succeeded,
        kept=stats.runs_cancelled,
        late=stats.late,
        abandoned=stats.abandoned,
        deadlines=sum(type(error) is DeadlineExceeded for error in failures),
        users_cancelled=sum(isinstance(error, CancelledError) for error in failures),
        users_timeouts=sum(isinstance(error, TimeoutError) for error in failures)
        - sum(type(error) is DeadlineExceeded for error in failures),
        struck=sum(phase.is_struck for runs in world.runs.values() for run in runs for phase in run.phases),
    )


def exit_at_once(loop: AbstractEventLoop) -> None:
    """A loop hangs, and nobody waits for more."""
    print("the loop hung", flush=True)
    os._exit(3)


def main() -> int:
    """Play without pytest; 1 at the first violation, 3 when a loop hung."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--loop", default="asyncio", choices=("asyncio", "uvloop"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=1500)
    parser.add_argument("--dying", type=float, default=0.25, help="the part of the scenes in which the loop dies")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds after which a loop hangs")
    given = parser.parse_args()
    try:
        counts = play(
            given.seed, given.loop, given.runs, dying=given.dying, patience=given.patience, on_hang=exit_at_once
        )
    except AssertionError as error:
        print(error)
        return 1
    print(dict(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
