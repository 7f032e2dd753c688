"""What actors do to a queue in a world, and what must be true of it afterwards, whatever the order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from rate_envelope_queue import (
    Decision,
    Envelope,
    EnvelopeQueue,
    EnvelopeQueueError,
    QueueState,
    RetryEnvelope,
    StopEnvelope,
    StopMode,
    drop,
    retry_after,
    retry_now,
    retry_with_backoff,
)

from .world import Failure, World

SLOW = 1e-6  # what float arithmetic may cost, in seconds
KEYS = 3
OVER = (QueueState.STOPPED, QueueState.TERMINATED)


class Odd(BaseException):
    """What no handler should raise."""


class Story:
    """A queue, the actors around it, and what they have seen."""

    def __init__(self, world: World, seed: int, **options: Any) -> None:
        self.world = world
        self.random = Random(seed)
        self.serial = count(1).__next__
        self.running: Counter[Any] = Counter()
        self.active = 0
        self.fates: dict[Envelope[Any], list[str]] = {}
        self.accepted: list[Envelope[Any]] = []
        self.not_before: dict[Envelope[Any], float] = {}
        self.owed: dict[Envelope[Any], int] = {}  # a keyed one: when it was last asked for
        self.met: dict[Envelope[Any], int] = {}  # and when a run, or whatever ended it, answered
        self.again: set[Envelope[Any]] = set()
        self.is_over = False
        self.jumped = 0.0
        self.observer = Observer(self)
        self.queue = EnvelopeQueue(
            "sim", clock=world.clock, dead_letter_limit=None, observers=[self.observer], **options
        )
        world.queues.append(self.queue)
        self.keyed = [self.envelope(key=f"k{number}") for number in range(KEYS)]

    # Envelopes

    def envelope(self, **options: Any) -> Envelope[Any]:
        """An envelope whose handler and failure hook do something else each time."""
        if self.random.random() < 0.3:
            options["deadline"] = self.random.choice((0.5, 2.0))
        if self.random.random() < 0.3:
            options["priority"] = self.random.randrange(3)
        if self.random.random() < 0.2:
            options["success_hook"] = lambda ctx, envelope: self.act(ctx, envelope, hook=True)
        return Envelope(self.run, failure_hook=self.decide, max_attempts=3, **options)

    def run(self, ctx: Any, envelope: Any) -> str:
        """The handler of all."""
        return self.run_with(ctx, envelope, self.act)

    def run_plainly(self, ctx: Any, envelope: Any) -> str:
        """A handler that only says that it ran."""
        return self.run_with(ctx, envelope, lambda ctx, envelope: None)

    def run_with(self, ctx: Any, envelope: Any, act: Callable[[Any, Any], None]) -> str:
        """Look whether this run may be, and *act* in it."""
        serial = self.serial()
        key = envelope if envelope.key is None else envelope.key
        self.running[key] += 1
        self.active += 1
        if self.running[key] > 1:
            raise Failure(f"{key} runs twice at the same time")
        if self.world.now < self.not_before.get(envelope, 0.0) - SLOW:
            raise Failure(f"{key} ran early")
        self.met[envelope] = serial
        self.world.note(f"runs {key}")
        try:
            self.world.point("handler")
            act(ctx, envelope)
        finally:
            self.running[key] -= 1
            self.active -= 1
        self.fate(envelope, "ran")
        return "done"

    def decide(self, ctx: Any, envelope: Any, error: BaseException) -> Decision | None:
        choice = self.random.randrange(6)
        if choice == 0:
            raise ValueError("hostile hook")
        return (None, retry_now(), retry_after(0.5), retry_with_backoff(), drop("enough"))[choice - 1]

    def act(self, ctx: Any, envelope: Any, *, hook: bool = False) -> None:
        """What user code does, some of it hostile."""
        queue = self.queue
        deeds: list[Callable[[], object]] = [
            lambda: None,
            lambda: None,
            lambda: ctx.wait(0.3),
            lambda: self.world.sleep(0.7),
            lambda: self.world.sleep(5 if not self.is_over else 0),
            lambda: self.send(self.random.choice(self.keyed)),
            lambda: self.send_again(envelope),
            lambda: queue.stats(),
            lambda: self.cancel(self.random.choice(self.keyed)),
            lambda: queue.stop(self.random.choice(list(StopMode)), timeout=self.random.choice((None, 0.2))),
            self.raises(ValueError("trouble")),
            self.raises(Odd("odd")),
            self.raises(MemoryError()),
            self.raises(RetryEnvelope(0.1)),
            self.raises(StopEnvelope("enough")),
        ]
        deed = deeds[self.random.randrange(len(deeds))]
        try:
            deed()
        except StopEnvelope:
            self.fate(envelope, "stopped")
            raise
        except EnvelopeQueueError:
            if not hook:
                pass

    def raises(self, error: BaseException) -> Callable[[], object]:
        def fails() -> None:
            raise error

        return fails

    # What is seen

    def fate(self, envelope: Envelope[Any], what: str) -> None:
        self.world.note(f"{what}: {envelope.key or 'one'}")
        self.fates.setdefault(envelope, []).append(what)
        self.met[envelope] = self.serial()

    def gone(self, envelopes: Any, what: str) -> None:
        for envelope in envelopes:
            self.fate(envelope, what)

    # Calls

    def ask(self, call: Callable[[], Any]) -> Any:
        """Make a call that may be refused."""
        try:
            return call()
        except (EnvelopeQueueError, ValueError) as error:
            self.world.note(f"refused: {type(error).__name__}")
            return None

    def send(self, envelope: Envelope[Any], **options: Any) -> Any:
        serial = self.serial()
        new = self.ask(lambda: self.queue.send(envelope, **options))
        if new is not None:
            self.world.note(f"asked for {envelope.key or 'one'}: {new}")
            self.owed[envelope] = serial
        return new

    def send_again(self, envelope: Envelope[Any]) -> None:
        """A handler asks for another run of its own envelope, which may be another entry by then."""
        if self.send(envelope) is not None:
            self.again.add(envelope)

    def send_new(self) -> None:
        """A new envelope, by one of the ways."""
        envelope = self.envelope()
        way = self.random.randrange(4)
        if way == 0:
            delay = self.random.choice((0.1, 1.0))
            self.not_before[envelope] = self.world.now + delay
            taken = self.ask(lambda: self.queue.send(envelope, delay=delay))
        elif way == 1:
            taken = self.ask(lambda: self.queue.send_wait(envelope, timeout=self.random.choice((0.5, 3.0))))
        elif way == 2:
            taken = 1 if self.ask(lambda: self.queue.submit(envelope)) is not None else None
        else:
            taken = self.ask(lambda: self.queue.send(envelope))
        if taken:
            self.accepted.append(envelope)

    def cancel(self, envelope: Envelope[Any]) -> None:
        if self.ask(lambda: self.queue.cancel(envelope)):
            self.fate(envelope, "cancelled")

    def clear(self) -> None:
        """What waits is given back; what runs is only told that this run is its last."""
        with self.world.undisturbed(self.queue):
            runs = [view.envelope for view in self.queue.snapshot() if view.phase == "running"]
            cleared = self.queue.clear()
        self.gone(cleared, "cleared")
        self.gone(runs, "cancelled")

    def stop(self) -> None:
        mode = self.random.choice(list(StopMode))
        timeout = self.random.choice((None, 0.0, 0.5, 1.0))
        if timeout is not None and self.random.random() < 0.3:
            self.stop_unattended(mode, timeout)
            return
        began, jumped = self.world.now, self.jumped
        report = self.ask(lambda: self.queue.stop(mode, timeout=timeout, grace=0.5))
        if report is None:
            return
        took = self.world.now - began - (self.jumped - jumped)
        if timeout is not None and took > timeout + 0.5 + SLOW:
            raise Failure(f"a stop with timeout {timeout} and grace 0.5 took {took}")
        if report.state in (QueueState.RUNNING, QueueState.STOPPING) and report.waited:
            raise Failure(f"a stop that waited says {report.state}")

    def stop_unattended(self, mode: StopMode, timeout: float) -> None:
        """Begin a stop, and look whether it has ended in time though nobody waits for it."""
        queue = self.queue
        self.ask(lambda: queue.stop(mode, wait=False, timeout=timeout, grace=0.5))
        ticket = queue._machine.ticket
        self.world.sleep(timeout + 0.5 + SLOW)
        self.world.sleep(SLOW)  # until whoever else is due then has been there
        if queue.state is QueueState.STOPPING and queue._machine.ticket is ticket:
            raise Failure(f"a stop with timeout {timeout} and grace 0.5 goes on after {timeout + 0.5} seconds")

    # Actors

    def sender(self) -> None:
        for _ in range(self.random.randrange(1, 6)):
            choice = self.random.randrange(6)
            if choice == 0:
                self.send(self.random.choice(self.keyed))
            elif choice == 1:
                self.send(self.random.choice(self.keyed), delay=0.2)
            elif choice == 2:
                batch = [self.envelope() for _ in range(2)]
                if self.ask(lambda batch=batch: self.queue.send(*batch)):
                    self.accepted += batch
            elif choice == 3:
                self.ask(lambda: self.queue.send(Envelope.every(0.4, self.run, key="periodic")))
            else:
                self.send_new()
            self.pause()

    def controller(self) -> None:
        queue = self.queue
        for _ in range(self.random.randrange(1, 6)):
            deed = self.random.randrange(9)
            if deed < 2:
                self.stop()
            elif deed < 5:
                try:
                    self.ask(queue.start)
                except RuntimeError:  # no thread could be started
                    self.world.note("start failed")
            elif deed == 5:
                queue.pause()
                self.pause()
                queue.resume()
            elif deed == 6:
                try:
                    self.ask(lambda: queue.resize(self.random.randrange(1, 4)))
                except RuntimeError:
                    self.world.note("resize failed")
            elif deed == 7:
                self.ask(lambda: queue.join(timeout=self.random.choice((0.0, 1.0))))
            else:
                self.clear()
            self.pause()

    def meddler(self) -> None:
        for _ in range(self.random.randrange(1, 5)):
            deed = self.random.randrange(4)
            if deed == 0:
                self.cancel(self.random.choice(self.keyed + self.accepted[-2:]))
            elif deed == 1:
                by = self.random.choice((0.5, 8 * 3600.0))
                self.world.now += by
                self.jumped += by
            elif deed == 2:
                self.world.wall_shift += self.random.choice((-3600.0, 3600.0, 365 * 86400.0))
            else:
                self.queue.snapshot()
            self.pause()

    def pause(self) -> None:
        if self.random.random() < 0.5:
            self.world.sleep(self.random.choice((0.0, 0.1, 0.6)))

    def closer(self, others: list[Any]) -> None:
        """When all have done what they do: run what is left for a while, and end the queue."""
        world, queue = self.world, self.queue
        world.block(lambda: all(actor.is_over for actor in others), None, "the others")
        self.is_over = True
        world.policy.end()
        try:
            self.ask(queue.start)
        except RuntimeError:
            world.note("the last start failed")
        world.sleep(3)
        queue.terminate(timeout=3, grace=1)
        self.gone([letter.envelope for letter in queue.dead_letters()], "dead")

    # Afterwards

    def check(self) -> None:
        """Nothing was lost, and the books agree."""
        queue = self.queue
        stats = queue.stats()
        if queue.state is not QueueState.TERMINATED or len(queue) or stats.running:
            raise Failure(f"the end is not the end: {stats}")
        for envelope in self.accepted:
            fates = self.fates.get(envelope)
            if not fates:
                raise Failure(f"lost: {envelope!r}")
            ends = [fate for fate in fates if fate in ("dead", "returned", "abandoned", "cleared")]
            if len(ends) > 1 and envelope not in self.again:
                raise Failure(f"{envelope!r} ended twice: {fates}")
        for envelope, serial in self.owed.items():
            if self.met.get(envelope, 0) < serial and "stopped" not in self.fates.get(envelope, ()):
                raise Failure(f"{envelope!r} was asked for and neither ran nor came back")
        letters = len(queue.dead_letters())
        if self.observer.dropped != letters or letters < stats.dropped:  # one more for a run that was asked for again
            raise Failure(f"{stats.dropped} dropped, {letters} letters, {self.observer.dropped} events")


class Observer:
    """Told of what ends, and hostile now and then."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.dropped = 0

    def on_dropped(self, event: Any) -> None:
        self.dropped += 1
        self.story.world.point("observer")

    def on_abandoned(self, event: Any) -> None:
        self.story.fate(event.envelope, "abandoned")

    def on_state_changed(self, event: Any) -> None:
        self.story.world.point("observer")
        if event.new in OVER:
            report = self.story.queue.last_report
            assert report is not None
            self.story.gone(report.returned, "returned")


def play(world: World, seed: int) -> Story:
    """One story, from its seed: how large the queue is, and who is there."""
    random = Random(seed)
    options: dict[str, Any] = {"workers": random.randrange(1, 4), "capacity": random.choice((None, 2, 5))}
    options["duplicates"] = random.choice(("keep", "replace"))
    if random.random() < 0.2:
        options["start_rate"] = 4.0
    if random.random() < 0.2:
        options["stuck_after"] = 1.0
    story = Story(world, seed, **options)
    casts = [story.sender, story.sender, story.controller, story.meddler, story.sender, story.controller]
    programs = casts[: random.randrange(2, len(casts) + 1)]
    actors = [world.spawn(program.__name__, program) for program in programs]
    world.spawn("closer", lambda: story.closer(actors))
    world.run()
    story.check()
    return story


def play_short(world: World, mode: StopMode) -> Story:
    """Two senders, one worker, one stop and one start: the shortest story in which work gets lost, if it ever does."""
    story = Story(world, 0, workers=1)
    queue = story.queue
    shared = Envelope(story.run_plainly, key="shared")
    alone = Envelope(story.run_plainly)

    def first() -> None:
        story.send(shared)

    def second() -> None:
        story.send(shared)
        if story.ask(lambda: queue.send(alone)):
            story.accepted.append(alone)

    programs: list[Callable[[], object]] = [
        lambda: queue.start(),
        first,
        second,
        lambda: story.ask(lambda: queue.stop(mode)),
    ]
    names = ("starter", "first", "second", "stopper")
    actors = [world.spawn(name, program) for name, program in zip(names, programs, strict=True)]
    world.spawn("closer", lambda: story.closer(actors))
    world.run()
    story.check()
    return story
