"""K, L on asyncio: what `AsyncWorkQueue` does otherwise than `WorkQueue` is how a consumer waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from rate_envelope_queue.workqueue import AsyncWorkQueue, ShutDown

PATIENCE = 10.0


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run *test* on a loop of its own, for a bounded time."""

    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), PATIENCE))

    run.__doc__ = test.__doc__
    run.__name__ = test.__name__
    return run


@on_a_loop
async def test_producers_and_consumers() -> None:
    """K72: 50 producers x 50 adds, 10 consumers, a drain: each item is delivered, and nothing is left."""
    queue = AsyncWorkQueue[int]()
    got: list[int] = []

    async def produce(number: int) -> None:
        for item in range(50):
            queue.add(number * 50 + item)
            await asyncio.sleep(0)

    async def consume() -> None:
        async for item in queue:
            got.append(item)
            await asyncio.sleep(0)
            queue.done(item)

    consumers = [asyncio.create_task(consume()) for _ in range(10)]
    await asyncio.gather(*map(produce, range(50)))
    assert await queue.shut_down_with_drain(PATIENCE)
    await asyncio.gather(*consumers)
    assert sorted(got) == list(range(2500))
    assert len(queue) == 0


@on_a_loop
async def test_added_while_processing_comes_back() -> None:
    """K75, K76: added twice while a consumer has it, it comes back once, when that one is done."""
    queue = AsyncWorkQueue[str]()
    queue.add("item")
    assert await queue.get() == "item"
    queue.add("item")
    queue.add("item")
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not second.done()
    queue.done("item")
    assert await second == "item"
    queue.done("item")
    with pytest.raises(TimeoutError):
        await queue.get(timeout=0)


@on_a_loop
async def test_a_drain_waits_for_those_that_are_out() -> None:
    """K77, K79: a drain is over once all is done; a shutdown ends the wait before."""
    queue = AsyncWorkQueue[str]()
    queue.add("item")
    await queue.get()
    drain = asyncio.create_task(queue.shut_down_with_drain())
    await asyncio.sleep(0)
    assert not drain.done()
    queue.done("item")
    assert await drain
    with pytest.raises(ShutDown):
        await queue.get()


@on_a_loop
async def test_a_cancelled_consumer_loses_no_item() -> None:
    """A consumer that is cancelled in the tick in which it is woken passes the wake on."""
    for _ in range(50):
        queue = AsyncWorkQueue[str]()
        first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("item")
        second.cancel()  # the last in the row is woken first
        assert await first == "item"
        with pytest.raises(asyncio.CancelledError):
            await second


@on_a_loop
async def test_added_from_a_thread() -> None:
    """`add` may come from any thread, and wakes the consumer on the loop."""
    queue = AsyncWorkQueue[int]()
    consumer = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    thread = threading.Thread(target=queue.add, args=(1,))
    thread.start()
    assert await consumer == 1
    thread.join()


@on_a_loop
async def test_a_delayed_item_is_not_early() -> None:
    """L82, L84: the earlier of two delays wins, and the item is there then, not before."""
    queue = AsyncWorkQueue[str]()
    before = asyncio.get_running_loop().time()
    queue.add_after("item", 30)
    queue.add_after("item", 0.03)
    assert await queue.get() == "item"
    assert asyncio.get_running_loop().time() - before >= 0.03
