"""A world in which the thread driver runs without threads: its workers and its callers are greenlets, and a scheduler
says who goes on at every lock, bell and call of user code.

So the real code of `drivers/threads` decides, and the order in which it does is the choice of a policy: a seed, or an
enumeration. Time is virtual and moves when nobody can go on. Somebody who waits then, for nothing that will come, is a
deadlock; work that is ready beside an idle worker is a lost wake-up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from greenlet import getcurrent, greenlet

from rate_envelope_queue import EnvelopeQueue, QueueState
from rate_envelope_queue.drivers import control, parking, plan, process, scope, section
from rate_envelope_queue.drivers.clock import LONGEST_WAIT
from rate_envelope_queue.drivers.threads import queue as threads_queue
from rate_envelope_queue.drivers.threads import workers
from tests.unit.machine_world import check

from .policies import Policy

MOST_STEPS = 200_000


here: World  # the last that was made: where the patched driver is


class Failure(AssertionError):
    """The world came to a state that must not be."""


class Actor:
    """One thread of the world."""

    def __init__(self, world: World, name: str, program: Callable[[], object]) -> None:
        self.name = name
        self.number = len(world.actors) + 1
        self.program = program
        self.is_ready: Callable[[], bool] | None = None  # None: it can go on
        self.until: float | None = None
        self.waits_for = ""
        self.is_over = False
        self.error: BaseException | None = None
        self.greenlet = greenlet(self._run, parent=world.hub)

    def _run(self) -> None:
        try:
            self.program()
        except Exception as error:
            self.error = error
        self.is_over = True

    def can_go_on(self, now: float) -> bool:
        if self.is_ready is None or (self.until is not None and self.until <= now):
            return True
        return self.is_ready()


class World:
    """Actors, their time, and who goes on. One at a time, in `patched()`."""

    def __init__(self, policy: Policy, *, checks: bool = True) -> None:
        global here
        here = self
        self.checks = checks  # the machine, whenever its lock is released
        self.policy = policy
        self.now = 0.0
        self.wall_shift = 0.0
        self.hub = getcurrent()
        self.actors: list[Actor] = []
        self.me: Actor | None = None
        self._trace: list[tuple[float, str, str]] = []
        self.is_quiet = False
        self.steps = 0
        self.jumps = 0
        self.releases = 0
        self.queues: list[EnvelopeQueue] = []
        self.timers: dict[Any, float] = {}
        self.clock = SimpleNamespace(now=lambda: self.now, wall_utc=self._wall)

    def _wall(self) -> datetime:
        return datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now + self.wall_shift)

    # What actors do

    def spawn(self, name: str, program: Callable[[], object]) -> Actor:
        actor = Actor(self, name, program)
        self.actors.append(actor)
        return actor

    def note(self, text: str) -> None:
        """Write a line into the trace."""
        self._trace.append((self.now, "" if self.me is None else self.me.name, text))

    @property
    def trace(self) -> list[str]:
        """What has happened so far."""
        return [f"{now:.6f} {name}: {text}" for now, name, text in self._trace]

    @contextmanager
    def undisturbed(self, queue: EnvelopeQueue) -> Iterator[None]:
        """Let nobody else go on, once the lock of *queue* is free."""
        lock: Any = queue._lock
        while lock.owner is not None:
            self.block(lambda: lock.owner is None, None, "the lock")
        self.is_quiet = True
        try:
            yield
        finally:
            self.is_quiet = False

    def point(self, what: str) -> None:
        """Here another may go on first."""
        if not self.is_quiet and self.me is not None and self.policy.interrupts(self, what):
            self.note(f"interrupted at {what}")
            self.hub.switch()

    def block(self, is_ready: Callable[[], bool], timeout: float | None, what: str) -> None:
        """Wait until *is_ready*, or for *timeout*."""
        me = self.me
        assert me is not None, f"nobody may wait for {what} outside an actor"
        me.is_ready, me.waits_for = is_ready, what
        me.until = None if timeout is None or timeout >= LONGEST_WAIT else self.now + max(0.0, timeout)
        self.note(f"waits for {what}")
        self.hub.switch()
        me.is_ready = me.until = None

    def sleep(self, seconds: float) -> None:
        """Spend virtual time, or only let others go on."""
        self.block(lambda: False, seconds, f"{seconds:g} s")

    # The scheduler

    def run(self) -> None:
        """Until every actor has ended."""
        while alive := [actor for actor in self.actors if not actor.is_over]:
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Failure(f"no end after {MOST_STEPS} steps")
            ready = [actor for actor in alive if actor.can_go_on(self.now)]
            if not ready:
                if not self._call_timer():
                    self._jump(alive)
                continue
            actor = self.policy.choose(self, ready)
            self.me = actor
            actor.greenlet.switch()
            self.me = None
            if actor.error is not None:
                raise Failure(f"{actor.name} failed: {actor.error!r}") from actor.error

    def leave(self) -> None:
        """It failed: its queues are not waited for at the end of the process."""
        for queue in self.queues:
            process._queues.discard(queue)

    def _call_timer(self) -> bool:
        """Have the watchdog make a call that is due."""
        for method, at in self.timers.items():
            if at <= self.now:
                del self.timers[method]
                self.spawn("watchdog", method)
                return True
        return False

    def _jump(self, alive: list[Actor]) -> None:
        """Nobody can go on: to the next instant at which somebody can."""
        times = [actor.until for actor in alive if actor.until is not None] + [*self.timers.values()]
        at = min(times, default=None)
        for queue in self.queues:
            self._look_at(queue, at)
        if at is None:
            waiting = "; ".join(f"{actor.name} waits for {actor.waits_for}" for actor in alive)
            raise Failure(f"deadlock: {waiting}")
        self.now = max(self.now, at)
        self.jumps += 1

    def _look_at(self, queue: EnvelopeQueue, at: float | None) -> None:
        machine = queue._machine
        pool: Any = queue._pool
        if machine.state is QueueState.RUNNING and queue._parking.idle and pool.size > machine.limit:
            raise Failure(f"{pool.size} workers, and {machine.limit} were asked for")
        may_take = machine.active < machine.limit and queue._parking.idle
        if may_take and machine.takable and (machine.reserved is None or machine.reserved <= self.now):
            raise Failure("lost wake-up: ready work, an idle worker, and nobody who goes on")
        is_running = machine.state is QueueState.RUNNING and not machine.is_paused
        if may_take and is_running and machine.heap and (at is None or machine.delays.next_due < at):
            raise Failure(f"overslept: due at {machine.delays.next_due}, and nobody looks before {at}")

    # What the patched driver asks

    def give_way(self, seconds: float) -> None:
        seen = self.releases
        self.block(lambda: not seconds and self.releases > seen, seconds or None, "a lock to be released")

    def call_later(self, delay: float, method: Any) -> None:
        self.timers[method] = self.now + delay


@contextmanager
def patched() -> Iterator[None]:
    """The thread driver with its parts of the standard library replaced by those of the world that is `here`."""
    fakes = SimpleNamespace(
        RLock=lambda: SimLock(here),
        Thread=lambda **options: SimThread(here, **options),
        current_thread=lambda: here.me,
        main_thread=threading.main_thread,
    )
    instead: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "threading": (fakes, (section, workers, threads_queue)),
        "new_bell": (lambda: SimBell(here), (parking, scope, threads_queue, workers)),
        "allocate_lock": (lambda: SimBell(here, is_held=False), (plan,)),
        "get_ident": (lambda: 0 if here.me is None else here.me.number, (section, control, workers)),
        "real_now": (lambda: here.now, (threads_queue,)),
        "give_way": (lambda seconds: here.give_way(seconds), (workers,)),
        "call_later": (lambda delay, method: here.call_later(delay, method), (threads_queue,)),
        "forget": (lambda method: here.timers.pop(method, None), (threads_queue,)),
    }
    with ExitStack() as stack:
        for name, (fake, modules) in instead.items():
            for module in modules:
                stack.enter_context(patch.object(module, name, fake))
        yield


class SimLock:
    """An RLock. When it is released for good, the machine that it guards is checked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.owner: object = None
        self.depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        world = self.world
        me: object = world.me or "outside"
        if self.owner is not me:
            world.point("acquire")
            if self.owner is not None:
                if not blocking:
                    return False
                world.block(lambda: self.owner is None, None, "the lock")
            self.owner = me
        self.depth += 1
        world.point("acquired")
        return True

    def release(self) -> None:
        world = self.world
        assert self.owner is (world.me or "outside"), "released by a stranger"
        self.depth -= 1
        if self.depth == 0:
            self.owner = None
            world.releases += 1
            if world.checks:
                for queue in world.queues:
                    if queue._lock is self:
                        check(queue._machine)
            world.point("release")

    def _is_owned(self) -> bool:
        return self.owner is (self.world.me or "outside")


class SimBell:
    """A lock of `_thread`, held when it is made."""

    def __init__(self, world: World, *, is_held: bool = True) -> None:
        self.world = world
        self.is_held = is_held

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self.is_held and blocking:
            self.world.block(lambda: not self.is_held, None if timeout < 0 else timeout, "a bell")
        if self.is_held:
            return False
        self.is_held = True
        return True

    def release(self) -> None:
        if not self.is_held:
            raise RuntimeError("release unlocked lock")
        self.is_held = False
        self.world.point("ring")

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class SimThread:
    """A thread, whose start may fail."""

    def __init__(self, world: World, *, target: Any, args: Any = (), name: str, daemon: bool = True) -> None:
        self.world = world
        self.name = name
        self._program = lambda: target(*args)
        self._actor: Actor | None = None

    def is_alive(self) -> bool:
        return self._actor is not None and not self._actor.is_over

    def start(self) -> None:
        if self.world.policy.fails("thread"):
            self.world.note(f"{self.name} cannot be started")
            raise RuntimeError("can't start new thread")
        self._actor = self.world.spawn(self.name, self._program)
        self.world.point("thread started")

    def join(self, timeout: float | None = None) -> None:
        actor = self._actor
        assert actor is not None
        if not actor.is_over:
            self.world.block(lambda: actor.is_over, timeout, f"the end of {self.name}")
