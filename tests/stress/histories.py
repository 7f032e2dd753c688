"""Histories: what clients and workers of a real queue did and saw, written down while it happens.

A round is a queue and some clients, each a thread that makes a handful of calls; few envelopes, so that they meet. Each
call is written down with a tick before and a tick after. A run is two calls of its worker, begin and end: it was taken
before its first line, and is settled after its last. A dead letter is one more: it is there when an observer is told.

`python -m tests.stress.histories --help` plays rounds without pytest; it ends at the first that nothing explains.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations, count, cycle
from math import inf
from threading import get_ident
from typing import Any

from rate_envelope_queue import (
    AsyncEnvelopeQueue,
    Envelope,
    EnvelopeQueue,
    EnvelopeQueueError,
    RetryEnvelope,
    StopEnvelope,
    StopMode,
)
from rate_envelope_queue.results import Outcome, QueueState
from tests.property.naive import key_of

from .linearise import Call, UndecidedError, linearise
from .specification import LATER, Sequential, answer_of, names, report_of

PATIENCE = 30.0  # seconds for a round; whoever waits longer hangs
SHORT = 0.002  # seconds for a call that may wait for what never comes
NAMES = ("a", "b", "c", "k1", "k2")
WAYS = ("success",) * 12 + ("retry",) * 3 + ("stop", "drop")
WEIGHTS = {
    "send": 12, "send_many": 4, "send_later": 2, "submit": 3, "detach": 2, "cancel": 6, "clear": 3, "stats": 6,
    "snapshot": 2, "length": 2, "state": 1, "last_report": 1, "letters": 1, "clear_letters": 1, "pause": 2, "resume": 4,
    "resize": 2, "start": 6, "stop": 4, "begin_stop": 2, "join": 2, "send_wait": 3,
}  # fmt: skip
ONLY_ONE = {"letters", "clear_letters"}  # for one client: two who take dead letters out at once share them
Plan = tuple[str, tuple[Any, ...]]


class ThreadsWorld:
    """Queues on threads."""

    kind = EnvelopeQueue
    may_submit = True
    worker = staticmethod(get_ident)

    def wait(self, answer: Any) -> Any:
        """The answer of a call that may wait."""
        return answer

    def handler(self, begin: Callable[[Any, Any], str]) -> Any:
        """What runs; *begin* says how it is to end, and `end` ends it."""

        def invoke(ctx: Any, envelope: Any) -> None:
            how = begin(ctx, envelope)
            time.sleep(0)
            self.end(envelope, how)

        return invoke

    end: Callable[[Any, str], None]

    def close(self) -> None:
        """No more queues."""


class LoopWorld(ThreadsWorld):
    """Queues on an event loop, which has a thread of its own: clients make plain calls from theirs."""

    kind: Any = AsyncEnvelopeQueue
    may_submit = False  # its futures belong to the loop's thread
    worker = staticmethod(asyncio.current_task)  # type: ignore[assignment]

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="the loop", daemon=True)
        self._thread.start()

    def wait(self, answer: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(answer, self._loop).result(PATIENCE)

    def handler(self, begin: Callable[[Any, Any], str]) -> Any:
        async def invoke(ctx: Any, envelope: Any) -> None:
            how = begin(ctx, envelope)
            if how != "success":
                await asyncio.sleep(0)
            self.end(envelope, how)

        return invoke

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()


class Round:
    """One queue, its clients and its workers, and what they wrote down."""

    def __init__(self, world: ThreadsWorld, seed: int) -> None:
        self.world, self.seed, dice = world, seed, random.Random(seed)
        self.tick = count(1).__next__
        self.numbers = count(1).__next__
        self.ways = cycle([dice.choice(WAYS) for _ in range(50)])
        self.history: dict[Any, list[Call]] = {}
        self.futures: list[tuple[str, int, Any]] = []
        self.attached: list[tuple[str, int, Any]] = []  # that nobody has tried to cancel yet
        world.end = self.end
        invoke = world.handler(self.begin)
        self.envelopes = {
            name: Envelope(
                invoke, id=name, key="k" if name[0] == "k" else None, priority=int(name == "k2"), max_attempts=2
            ) for name in NAMES
        }  # fmt: skip
        self.capacity, self.workers = dice.choice((2, 3, None)), dice.choice((1, 1, 2, 3))
        self.replaces = dice.random() < 0.3
        self.queue: Any = world.kind(
            f"round {seed}", workers=self.workers, capacity=self.capacity, observers=[self],
            duplicates="replace" if self.replaces else "keep",
        )  # fmt: skip
        clients = dice.choice((3, 3, 4, 4, 5, 8))
        length, without = max(3, 24 // clients), set() if world.may_submit else {"submit"}
        self.plans = [self.plan(dice, length, without | (ONLY_ONE if number else set())) for number in range(clients)]
        self.starts_at_once = dice.random() < 0.7
        self.errors: list[BaseException] = []

    def plan(self, dice: random.Random, length: int, without: set[str]) -> list[Plan]:
        """What a client is going to do."""
        wanted = dice.choices(list(WEIGHTS), list(WEIGHTS.values()), k=length)
        return [(name, self.arguments(dice, name)) for name in wanted if name not in without]

    def arguments(self, dice: random.Random, name: str) -> tuple[Any, ...]:
        """Those of one call."""
        if name in ("send_many", "send_wait"):
            return (tuple(dice.choices(NAMES, k=dice.choice((1, 2, 3)))),)
        if name in ("send", "send_later"):
            return ((dice.choice(NAMES),),)
        if name in ("submit", "cancel"):
            return (dice.choice(NAMES),)
        if name in ("stop", "begin_stop"):
            return (dice.choice(list(StopMode)),)
        return (dice.choice((1, 2, 3)),) if name == "resize" else ()

    # Workers

    def calls_of_worker(self) -> list[Call]:
        return self.history.setdefault(("worker", self.world.worker()), [])

    def begin(self, ctx: Any, envelope: Any) -> str:
        """The first line of a handler: how it is to end."""
        answer = (envelope.id, ctx.attempt)
        self.calls_of_worker().append(Call("begin", (key_of(envelope),), answer, 0, self.tick()))
        return next(self.ways)

    def end(self, envelope: Any, how: str) -> None:
        """The last line of a handler: it returns or raises."""
        calls = self.calls_of_worker()
        calls.append(Call("end", (key_of(envelope), how, calls[-1].answer[1]), None, self.tick()))
        if how == "retry":
            raise RetryEnvelope(after=0)
        if how != "success":
            raise StopEnvelope if how == "stop" else ValueError(how)

    def on_dropped(self, event: Any) -> None:
        """A dead letter is there, and so its run was settled; the worker may have taken another in the same section."""
        calls, now = self.calls_of_worker(), self.tick()
        ended = calls[-1] = Call(calls[-1].name, calls[-1].arguments, None, calls[-1].called, now)
        self.history["bury", now] = [Call("bury", (event.letter.envelope.id,), True, ended.called, now)]

    # Clients

    def write(self, calls: list[Call], name: str, arguments: tuple[Any, ...], call: Callable[[], Any]) -> None:
        """Make *call*, and write it down in the words of the specification."""
        called = self.tick()
        try:
            answer = call()
        except EnvelopeQueueError as error:
            answer = answer_of(error)
        calls.append(Call(name, arguments, answer, called, self.tick()))

    def write_wait(self, calls: list[Call], name: str, arguments: tuple[Any, ...], call: Callable[[], Any]) -> None:
        """The same for a call that waits: it begins, and it returns."""
        number = self.numbers()
        self.write(calls, "returns", (number,), call)
        made = calls[-1]
        calls.insert(-1, Call(name, (number, *arguments), None, made.called, made.returned))

    def client(self, plan: Sequence[Plan], calls: list[Call], barrier: threading.Barrier) -> None:
        """One thread."""
        try:
            barrier.wait(PATIENCE)
            for name, arguments in plan:
                getattr(self, name)(calls, *arguments)
        except BaseException as error:
            self.errors.append(error)

    def send(self, calls: list[Call], wanted: Sequence[str]) -> None:
        batch = [self.envelopes[name] for name in wanted]
        self.write(calls, "send", (wanted,), lambda: self.queue.send(*batch))

    send_many = send

    def send_later(self, calls: list[Call], wanted: Sequence[str]) -> None:
        batch = [self.envelopes[name] for name in wanted]
        self.write(calls, "send", (wanted, LATER), lambda: self.queue.send(*batch, delay=LATER))

    def send_wait(self, calls: list[Call], wanted: Sequence[str]) -> None:
        batch = [self.envelopes[name] for name in wanted]

        def call() -> Any:
            answer = self.answer(lambda: self.world.wait(self.queue.send_wait(*batch, timeout=SHORT)))
            return answer[0] if isinstance(answer, tuple) else answer

        self.write_wait(calls, "send_wait", (wanted,), call)

    @staticmethod
    def answer(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except EnvelopeQueueError as error:
            return answer_of(error)

    def submit(self, calls: list[Call], name: str) -> None:
        number, envelope = self.numbers(), self.envelopes[name]

        def call() -> str:
            made = (name, number, self.queue.submit(envelope))
            self.futures.append(made)
            self.attached.append(made)
            return "future"

        self.write(calls, "submit", (name, number), call)

    def detach(self, calls: list[Call]) -> None:
        try:
            name, number, future = self.attached.pop()
        except IndexError:  # none, or another client was quicker
            return
        self.write(calls, "detach", (name, number), future.cancel)

    def cancel(self, calls: list[Call], name: str) -> None:
        self.write(calls, "cancel", (name,), lambda: self.queue.cancel(self.envelopes[name]))

    def clear(self, calls: list[Call]) -> None:
        self.write(calls, "clear", (), lambda: names(self.queue.clear()))

    def pause(self, calls: list[Call]) -> None:
        self.write(calls, "pause", (), self.queue.pause)

    def resume(self, calls: list[Call]) -> None:
        self.write(calls, "resume", (), self.queue.resume)

    def resize(self, calls: list[Call], workers: int) -> None:
        self.write(calls, "resize", (workers,), lambda: self.queue.resize(workers))

    def start(self, calls: list[Call]) -> None:
        self.write(calls, "start", (), lambda: self.world.wait(self.queue.start()))

    def stop(self, calls: list[Call], mode: StopMode) -> None:
        self.write_wait(calls, "stop", (mode,), lambda: report_of(self.world.wait(self.queue.stop(mode))))

    def begin_stop(self, calls: list[Call], mode: StopMode) -> None:
        stop = self.queue.stop
        self.write_wait(calls, "begin_stop", (mode,), lambda: report_of(self.world.wait(stop(mode, wait=False))))
        if calls[-1].answer[1] is QueueState.STOPPING:  # provisional: of the end nothing was seen
            del calls[-1]

    def terminate(self, calls: list[Call]) -> None:
        self.write_wait(calls, "terminate", (), lambda: report_of(self.world.wait(self.queue.terminate())))

    def join(self, calls: list[Call]) -> None:
        self.write_wait(calls, "join", (), lambda: self.world.wait(self.queue.join(SHORT)))
        if calls[-1].answer is False:  # its time was over: that may always be
            del calls[-2:]

    def stats(self, calls: list[Call]) -> None:
        self.write(calls, "stats", (), self.queue.stats)

    def snapshot(self, calls: list[Call]) -> None:
        def call() -> tuple[Any, ...]:
            return tuple((view.envelope.id, view.phase, view.attempt) for view in self.queue.snapshot())

        self.write(calls, "snapshot", (), call)

    def length(self, calls: list[Call]) -> None:
        self.write(calls, "length", (), lambda: len(self.queue))

    def state(self, calls: list[Call]) -> None:
        self.write(calls, "state", (), lambda: self.queue.state)

    def last_report(self, calls: list[Call]) -> None:
        self.write(calls, "last_report", (), lambda: self.queue.last_report and report_of(self.queue.last_report))

    def letters(self, calls: list[Call]) -> None:
        self.write(calls, "letters", (), lambda: names([letter.envelope for letter in self.queue.dead_letters()]))

    def clear_letters(self, calls: list[Call]) -> None:
        cleared = self.queue.clear_dead_letters
        self.write(calls, "clear_letters", (), lambda: names([letter.envelope for letter in cleared()]))

    # The whole

    def play(self) -> list[list[Call]]:
        """The history of a round: its clients, its workers, and who ends it and looks at what is left."""
        before: list[Call] = []
        if self.starts_at_once:
            self.start(before)
        barrier = threading.Barrier(len(self.plans))
        clients: list[threading.Thread] = []
        for number, plan in enumerate(self.plans):
            calls = self.history.setdefault(("client", number), [])
            clients.append(threading.Thread(target=self.client, args=(plan, calls, barrier), daemon=True))
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"seed={self.seed}: a client hangs"
        if self.errors:
            raise AssertionError(f"seed={self.seed}: {self.errors[0]!r}") from self.errors[0]
        return [self.finish(before), *map(with_ends, self.history.values())]

    def finish(self, calls: list[Call]) -> list[Call]:
        """The end: what was kept is returned, and every future has its outcome."""
        self.stop(calls, StopMode.STOP)
        self.terminate(calls)
        self.stats(calls)
        self.letters(calls)
        self.send(calls, ("a",))
        for _, number, future in self.futures:
            if not future.cancelled():
                assert future.done(), f"seed={self.seed}: a future has no outcome"
                self.write(calls, "outcome", (number,), lambda future=future: outcome_of(future))
        return calls


def outcome_of(future: Any) -> Outcome:
    """How the entry of a submit ended, as far as its future shows."""
    error = future.exception(0)
    if error is None:
        return Outcome.SUCCEEDED
    ends = {StopEnvelope: Outcome.STOPPED, ValueError: Outcome.DROPPED, RetryEnvelope: Outcome.DROPPED}
    return ends.get(type(error), Outcome.RETURNED)


def with_ends(calls: Sequence[Call]) -> list[Call]:
    """Nobody sees when a run is settled; but it was by the next thing that its worker did."""
    following = [*(call.returned for call in calls[1:]), inf]
    return [
        Call(call.name, call.arguments, call.answer, call.called, min(call.returned, at))
        if call.name == "end"
        else call
        for call, at in zip(calls, following, strict=False)
    ]


def explain(played: Round, history: Sequence[Sequence[Call]]) -> list[Call]:
    """An order for the round, or an AssertionError that says which round it was."""
    capacity = inf if played.capacity is None else played.capacity
    start = Sequential(list(played.envelopes.values()), capacity, played.workers, replaces=played.replaces)
    try:
        return linearise(history, start)
    except AssertionError as error:
        options = f"capacity={played.capacity} workers={played.workers} replaces={played.replaces}"
        raise AssertionError(f"seed={played.seed} {options}: {error}") from None


@contextmanager
def restless() -> Iterator[None]:
    """Threads are switched as often as can be, and nothing is logged."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        sys.setswitchinterval(before)


def play(kind: str, seed: int, seconds: float) -> Counter[str]:
    """Rounds on "threads" or "asyncio", from *seed* on, for so many *seconds*; what happened, counted."""
    world = ThreadsWorld() if kind == "threads" else LoopWorld()
    ends_at, met = time.monotonic() + seconds, Counter[str]()
    try:
        while time.monotonic() < ends_at:
            one = Round(world, seed + met["rounds"] + met["undecided"])
            with restless():
                history = one.play()
            try:
                explain(one, history)
                met.update(how_they_met(history), rounds=1)
            except UndecidedError:
                met["undecided"] += 1
    finally:
        world.close()
    return met


def how_they_met(history: Sequence[Sequence[Call]]) -> Counter[str]:
    """How many calls there were, and how many pairs of them at the same time; without these nothing is proved."""
    calls = sorted((call for process in history for call in process), key=lambda call: call.called)
    pairs = [(one.name, other.name) for one, other in combinations(calls, 2) if 0 < other.called < one.returned < inf]
    return Counter({"calls": len(calls), "pairs": len(pairs)})


def main() -> int:
    """Play without pytest; 1 at the first round that nothing explains."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kind", default="threads", choices=("threads", "asyncio"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    faulthandler.dump_traceback_later(2 * PATIENCE + given.seconds, exit=True)
    began = time.monotonic()
    try:
        met = play(given.kind, given.seed, given.seconds)
    except AssertionError as error:
        print(f"found after {time.monotonic() - began:.1f} s: {error}", flush=True)
        os._exit(1)  # threads may hang
    print(dict(met))
    return 0


if __name__ == "__main__":
    sys.exit(main())
