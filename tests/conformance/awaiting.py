"""What the tests share whose handlers are coroutine functions, awaited as users write them."""

from __future__ import annotations

import asyncio

import pytest

from rate_envelope_queue import Envelope

from .bridge import PlainAsyncQueue
from .harness import check_ledger

PLACES = ["before_hook", "invoke", "after_hook", "success_hook", "failure_hook"]
at_each_place = pytest.mark.parametrize("place", PLACES)


async def ignored(*args):
    """A handler that does nothing."""


def new_queue(h, **options) -> PlainAsyncQueue:
    """A queue whose calls are awaited, not started; terminated when the test is over."""
    return h.queue(**options).real


def envelope_with(place, function, **options):
    """A one-off with *function* in one place; its handler fails where that is the failure hook."""

    async def fails(ctx, envelope):
        raise ValueError

    return Envelope(**{"invoke": fails if place == "failure_hook" else ignored, place: function}, **options)


async def goes_on(h, queue):
    """Check that every worker still takes envelopes, that nothing is lost, and that the queue stops."""
    width = queue.stats().workers
    barrier = asyncio.Barrier(width)

    async def meets(ctx, envelope):
        await barrier.wait()
        h.mark("goes on")

    queue.send(*[Envelope(meets) for _ in range(width)])
    assert await queue.join(timeout=30)
    assert h.labels().count("goes on") == width
    await queue.stop(timeout=30)
    assert queue.stats().running == 0
    check_ledger(queue)
