"""Who is measured: our queue, and what a service would write without it.

Each function returns a contestant: called, it prepares everything, measures, cleans up, and returns seconds for one
item (or one operation). One producer, the main thread, hands `count` items over while the workers drain them; time
stops when the last item has run. Threads are started and items are made before the clock starts, except where the
making is what is measured. All call the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Barrier, Lock, Thread
from time import perf_counter, sleep
from typing import Any

from rate_envelope_queue import Envelope, EnvelopeQueue

from .measure import Contestant, level_gc

PATIENCE = 120.0  # seconds after which a measurement that does not end is a fault


def noop(ctx: Any, item: Any) -> None:
    """The task that costs nothing, so that only the way to it is measured."""


def before(ctx: Any, item: Any) -> None:
    pass


def after(ctx: Any, item: Any) -> None:
    pass


def success(ctx: Any, item: Any) -> None:
    pass


def failure(ctx: Any, item: Any, error: BaseException) -> None:
    raise AssertionError("nothing fails here")


def use_payload(ctx: Any, item: Any) -> int:
    return item.payload + 1  # type: ignore[no-any-return]


def stamp(next: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def invoke(ctx: Any, item: Any) -> Any:
        return next(ctx, item)

    return invoke


HOOKS: dict[str, Any] = {
    "before_hook": before,
    "after_hook": after,
    "success_hook": success,
    "failure_hook": failure,
}
TWO_STAMPS = (stamp, stamp)
ONE_STAMP = (stamp,)


def plain_envelope(payload: int) -> Envelope[int]:
    return Envelope(noop, payload=payload)


def full_envelope(payload: int) -> Envelope[int]:
    """Everything on: four hooks around the handler, two stamps, a deadline."""
    return Envelope(use_payload, payload=payload, deadline=60, stamps=TWO_STAMPS, **HOOKS)


def periodic_envelope(payload: int) -> Envelope[int]:
    """Every 11 ms, with five hooks and stamps."""
    return Envelope.every(0.011, use_payload, payload, stamps=ONE_STAMP, **HOOKS)


class End:
    """The last item: it lets the producer know that all have run."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()

    def run(self, ctx: Any = None, item: Any = None) -> None:
        self._lock.release()

    def wait(self) -> None:
        if not self._lock.acquire(timeout=PATIENCE):
            raise RuntimeError(f"the last item did not run within {PATIENCE:g} s")


@contextmanager
def running_queue(workers: int, *, expected: int | None = None) -> Iterator[EnvelopeQueue]:
    """A started queue; at the end exactly *expected* envelopes must have succeeded."""
    queue = EnvelopeQueue("bench", workers=workers)
    queue.start()
    try:
        yield queue
        if expected is not None:
            queue.join(timeout=PATIENCE)
            stats = queue.stats()
            assert stats.succeeded == stats.accepted == expected, stats
    finally:
        queue.terminate(timeout=5)


def sends(workers: int, make: Callable[[int], Envelope[Any]], count: int) -> Contestant:
    """Our queue: one `send` for each prebuilt envelope."""

    def measure() -> float:
        with running_queue(workers, expected=count) as queue:
            end = End()
            items = [*map(make, range(count - 1)), Envelope(end.run)]
            send = queue.send
            with level_gc():
                started_at = perf_counter()
                for item in items:
                    send(item)
                end.wait()
                elapsed = perf_counter() - started_at
        return elapsed / count

    return measure


def builds(workers: int, count: int) -> Contestant:
    """Our queue: each no-op envelope is built and sent."""

    def measure() -> float:
        with running_queue(workers, expected=count) as queue:
            end = End()
            send = queue.send
            with level_gc():
                started_at = perf_counter()
                for payload in range(count - 1):
                    send(Envelope(noop, payload=payload))
                send(Envelope(end.run))
                end.wait()
                elapsed = perf_counter() - started_at
        return elapsed / count

    return measure


def sends_in_batches(workers: int, count: int, size: int) -> Contestant:
    """Our queue: `send` of *size* prebuilt no-op envelopes at a time."""

    def measure() -> float:
        with running_queue(workers, expected=count) as queue:
            end = End()
            items = [*map(plain_envelope, range(count - 1)), Envelope(end.run)]
            batches = [items[at : at + size] for at in range(0, count, size)]
            send = queue.send
            with level_gc():
                started_at = perf_counter()
                for batch in batches:
                    send(*batch)
                end.wait()
                elapsed = perf_counter() - started_at
        return elapsed / count

    return measure


def simple_queue(workers: int, count: int, *, build: bool = False) -> Contestant:
    """`queue.SimpleQueue` and threads: tuples of function and argument, prebuilt or built while putting."""

    def work(get: Callable[[], tuple[Any, Any]]) -> None:
        while True:
            function, item = get()
            if function is None:
                return
            function(None, item)

    def measure() -> float:
        queue: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        threads = [Thread(target=work, args=(queue.get,)) for _ in range(workers)]
        for thread in threads:
            thread.start()
        end = End()
        put = queue.put
        items = [] if build else [*((noop, payload) for payload in range(count - 1)), (end.run, None)]
        with level_gc():
            started_at = perf_counter()
            if build:
                for payload in range(count - 1):
                    put((noop, payload))
                put((end.run, None))
            else:
                for item in items:
                    put(item)
            end.wait()
            elapsed = perf_counter() - started_at
        for _ in threads:
            put((None, None))
        for thread in threads:
            thread.join()
        return elapsed / count

    return measure


@contextmanager
def running_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose threads all exist already."""
    with ThreadPoolExecutor(workers) as pool:
        everyone_here = Barrier(workers + 1)
        for _ in range(workers):
            pool.submit(everyone_here.wait)
        everyone_here.wait()
        yield pool


def executor(workers: int, function: Callable[[Any, Any], Any], make: Callable[[int], Any], count: int) -> Contestant:
    """`ThreadPoolExecutor.submit` of *function* with prebuilt items."""

    def measure() -> float:
        with running_pool(workers) as pool:
            end = End()
            items = [*map(make, range(count - 1))]
            submit = pool.submit
            with level_gc():
                started_at = perf_counter()
                for item in items:
                    submit(function, None, item)
                submit(end.run)
                end.wait()
                elapsed = perf_counter() - started_at
        return elapsed / count

    return measure


_folded = stamp(stamp(use_payload))


def full_by_hand(ctx: Any, item: Any) -> None:
    """The functions that an envelope with everything on calls, in the same order."""
    before(ctx, item)
    _folded(ctx, item)
    after(ctx, item)
    success(ctx, item)


def bare_loop(count: int) -> Contestant:
    """No queue and no thread: a loop that calls the functions of everything on."""

    def measure() -> float:
        items = [*map(full_envelope, range(count))]
        folded = _folded
        with level_gc():
            started_at = perf_counter()
            for item in items:
                before(None, item)
                folded(None, item)
                after(None, item)
                success(None, item)
            elapsed = perf_counter() - started_at
        return elapsed / count

    return measure


def periodic_sends(count: int, *, paused: bool) -> Contestant:
    """Build an 11 ms periodic envelope and send it; paused, the workers do not compete for the processor."""

    def measure() -> float:
        with running_queue(workers=4) as queue:
            if paused:
                queue.pause()
            send = queue.send
            with level_gc():
                started_at = perf_counter()
                for payload in range(count):
                    send(periodic_envelope(payload))
                elapsed = perf_counter() - started_at
            assert queue.stats().accepted == count
        return elapsed / count

    return measure


def same_envelope(workers: int, count: int) -> Contestant:
    """Send one envelope over and over: most sends merge into one that is there."""

    def measure() -> float:
        with running_queue(workers) as queue:
            envelope = Envelope(noop)
            send = queue.send
            with level_gc():
                started_at = perf_counter()
                for _ in range(count):
                    send(envelope)
                elapsed = perf_counter() - started_at
            queue.join(timeout=PATIENCE)
            stats = queue.stats()
            assert stats.accepted + stats.coalesced == count, stats
        return elapsed / count

    return measure


def only_sends(count: int, size: int) -> Contestant:
    """What `send` itself costs an item, one by one or in batches: the queue is paused, nothing runs."""

    def measure() -> float:
        with running_queue(workers=1) as queue:
            queue.pause()
            items = [*map(plain_envelope, range(count))]
            batches = [items[at : at + size] for at in range(0, count, size)]
            send = queue.send
            with level_gc():
                started_at = perf_counter()
                if size == 1:
                    for item in items:
                        send(item)
                else:
                    for batch in batches:
                        send(*batch)
                elapsed = perf_counter() - started_at
            assert len(queue) == count
        return elapsed / count

    return measure


def hand_offs(count: int, *, workers: int = 4, idle: float = 0.001) -> dict[str, list[float]]:
    """Seconds from `send` (or `submit`) to the first line of the handler, everyone idle before; both in turn."""
    found: dict[str, list[float]] = {"ours": [], "executor": []}
    arrived_at = 0.0
    end = End()

    def arrive(ctx: Any, item: Any) -> None:
        nonlocal arrived_at
        arrived_at = perf_counter()
        end.run()

    envelopes = [Envelope(arrive) for _ in range(count)]
    with running_queue(workers, expected=count) as queue, running_pool(workers) as pool:
        send, submit = queue.send, pool.submit
        with level_gc():
            for envelope in envelopes:
                sleep(idle)
                started_at = perf_counter()
                send(envelope)
                end.wait()
                found["ours"].append(arrived_at - started_at)
                sleep(idle)
                started_at = perf_counter()
                submit(arrive, None, None)
                end.wait()
                found["executor"].append(arrived_at - started_at)
    return found
