"""The contestants on an event loop: our queue, and `asyncio.Queue` with worker tasks as its documentation has it.

As in `contestants`: one producer, here a task, hands everything over and waits until the last item has run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any

from rate_envelope_queue import AsyncEnvelopeQueue, Envelope

from .measure import Contestant, level_gc

WORKERS = 64


async def noop(ctx: Any, item: Any) -> None:
    """The task that costs nothing."""


async def before(ctx: Any, item: Any) -> None:
    pass


async def after(ctx: Any, item: Any) -> None:
    pass


async def success(ctx: Any, item: Any) -> None:
    pass


async def failure(ctx: Any, item: Any, error: BaseException) -> None:
    raise AssertionError("nothing fails here")


async def use_payload(ctx: Any, item: Any) -> int:
    return item.payload + 1  # type: ignore[no-any-return]


def stamp(next: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def invoke(ctx: Any, item: Any) -> Any:
        return await next(ctx, item)

    return invoke


STAMPS = (stamp, stamp)
_folded = stamp(stamp(use_payload))


async def full_by_hand(ctx: Any, item: Any) -> None:
    """The functions that an envelope with everything on calls, in the same order."""
    await before(ctx, item)
    await _folded(ctx, item)
    await after(ctx, item)
    await success(ctx, item)


def plain_envelope(payload: int) -> Envelope[int]:
    return Envelope(noop, payload=payload)


def full_envelope(payload: int) -> Envelope[int]:
    """Everything on: four hooks around the handler, two stamps, a deadline."""
    return Envelope(
        use_payload, payload=payload, deadline=60, stamps=STAMPS, before_hook=before, after_hook=after,
        success_hook=success, failure_hook=failure,
    )  # fmt: skip


def on_a_loop(measure: Callable[[], Coroutine[Any, Any, float]]) -> Contestant:
    """*measure* as a contestant, each time on a fresh loop."""
    return lambda: asyncio.run(measure())


def sends(make: Callable[[int], Envelope[Any]], count: int) -> Contestant:
    """Our queue: one `send` for each prebuilt envelope."""

    async def measure() -> float:
        async with AsyncEnvelopeQueue("bench", workers=WORKERS) as queue:
            items = [*map(make, range(count))]
            send = queue.send
            with level_gc():
                started_at = perf_counter()
                for item in items:
                    send(item)
                await queue.join()
                elapsed = perf_counter() - started_at
            stats = queue.stats()
            assert stats.succeeded == stats.accepted == count, stats
        return elapsed / count

    return on_a_loop(measure)


def asyncio_queue(function: Callable[[Any, Any], Awaitable[Any]], make: Callable[[int], Any], count: int) -> Contestant:
    """`asyncio.Queue` and tasks that call *function* with what they get."""

    async def work(queue: asyncio.Queue[Any]) -> None:
        while True:
            item = await queue.get()
            await function(None, item)
            queue.task_done()

    async def measure() -> float:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        tasks = [asyncio.create_task(work(queue)) for _ in range(WORKERS)]
        await asyncio.sleep(0)
        items = [*map(make, range(count))]
        with level_gc():
            started_at = perf_counter()
            for item in items:
                queue.put_nowait(item)
            await queue.join()
            elapsed = perf_counter() - started_at
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return elapsed / count

    return on_a_loop(measure)


def bare_awaits(count: int) -> Contestant:
    """No queue: a loop that awaits the no-op."""

    async def measure() -> float:
        items = [*map(plain_envelope, range(count))]
        with level_gc():
            started_at = perf_counter()
            for item in items:
                await noop(None, item)
            elapsed = perf_counter() - started_at
        return elapsed / count

    return on_a_loop(measure)


async def turns_of(loop_is_busy: asyncio.Event) -> list[float]:
    """Seconds from one turn of the loop to the next, until the event is cleared."""
    gaps, last_at = [], perf_counter()
    while loop_is_busy.is_set():
        await asyncio.sleep(0)
        now = perf_counter()
        gaps.append(now - last_at)
        last_at = now
    return gaps


def stalls(count: int) -> list[float]:
    """The turns of the loop while our queue drains *count* no-ops, which were sent before."""

    async def measure() -> list[float]:
        busy = asyncio.Event()
        busy.set()
        async with AsyncEnvelopeQueue("bench", workers=WORKERS) as queue:
            turns = asyncio.create_task(turns_of(busy))
            await asyncio.sleep(0)
            queue.pause()
            queue.send(*map(plain_envelope, range(count)))
            queue.resume()
            await queue.join()
            busy.clear()
            return (await turns)[1:]  # the first is the send

    return asyncio.run(measure())
