"""Contract section 2 on a loop: coroutines are awaited, whichever way they come in."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from rate_envelope_queue import AsyncContext, AsyncEnvelopeQueue, Envelope, InvalidEnvelopeError, logging_stamp

from .bridge import wait_for
from .harness import loops_only
from .running import Seen, finish, marks, raises, run, started

pytestmark = loops_only
PLACES = ["invoke", "before_hook", "after_hook", "success_hook", "failure_hook"]


def shapes(h):
    """A coroutine function that marks that it ran, in every shape in which it may come."""

    async def function(ctx, *args):
        assert isinstance(ctx, AsyncContext)
        await ctx.wait(h.s(0.1))
        h.mark("awaited")

    class Callable:
        async def __call__(self, ctx, *args):
            await function(ctx)

        async def method(self, ctx, *args):
            await function(ctx)

    return {
        "function": function,
        "partial": partial(partial(function)),
        "object": Callable(),
        "method": Callable().method,
        "partial of an object": partial(Callable()),
    }


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shape", ["function", "partial", "object", "method", "partial of an object"])
def test_2_coroutine_functions_are_awaited(h, place, shape):
    """2: coroutine functions get an AsyncContext, and are awaited, inside `partial` and as objects too."""
    invoke = raises(ValueError) if place == "failure_hook" else marks(h, "invoke")
    queue, seen = run(h, Envelope(**{"invoke": invoke, place: shapes(h)[shape]}))
    assert h.labels().count("awaited") == 1
    assert seen.hook_failed == []
    assert queue.stats().runs_started == 1


@pytest.mark.parametrize("owner", ["queue", "envelope"])
@pytest.mark.parametrize("is_plain", [False, True], ids=["coroutine function", "plain function"])
def test_2_stamps_go_round_a_coroutine(h, owner, is_plain):
    """2: a stamp's invoker may be a coroutine function, or a plain one that hands on what it gets."""

    def stamp(next):
        async def awaits(ctx, envelope):
            h.mark("in")
            result = await next(ctx, envelope)
            h.mark("out")
            return result

        def hands_on(ctx, envelope):
            h.mark("in")
            return next(ctx, envelope)

        return hands_on if is_plain else awaits

    async def invoke(ctx, envelope):
        await ctx.wait(h.s(0.1))
        h.mark("invoke")
        return "result"

    stamps = {"stamps": [stamp, logging_stamp("mail")]}
    queue = started(h, **(stamps if owner == "queue" else {}))
    future = queue.submit(Envelope(invoke, **(stamps if owner == "envelope" else {})))
    assert future.result(20) == "result"
    assert h.labels() == (["in", "invoke"] if is_plain else ["in", "invoke", "out"])


def test_2_a_stamp_that_makes_no_invoker_is_a_failed_run(h):
    """2: a stamp that is a coroutine function makes no invoker: a failed run that says so, without a warning."""

    async def stamp(next):
        return next

    queue, seen = run(h, Envelope(marks(h, "invoke"), stamps=[stamp]))
    (event,) = seen.failed
    assert isinstance(event.error, InvalidEnvelopeError)
    assert (h.labels(), queue.stats().dropped) == ([], 1)


@pytest.mark.parametrize("place", [place for place in PLACES if place != "invoke"])
def test_2_the_coroutine_that_a_plain_hook_returns_is_awaited(h, place):
    """2: what a lambda hides shows when it is called: a coroutine is awaited."""
    seen = Seen()

    async def awaits():
        await asyncio.sleep(h.s(0.1))
        h.mark("awaited")

    async def plot():
        async with AsyncEnvelopeQueue("q", clock=h.queue().clock, observers=(seen,)) as queue:

            async def invoke(ctx, envelope):
                if place == "failure_hook":
                    raise ValueError

            queue.send(Envelope(invoke, **{place: lambda *args: awaits()}))
            await queue.join()

    wait_for(plot())
    assert h.labels() == ["awaited"]
    assert seen.hook_failed == []


def test_2_other_results_are_results(h):
    """2: a generator or any other object that a coroutine returns is its result."""
    queue = started(h)

    async def invoke(ctx, envelope):
        return envelope.payload

    results = [1, "text", (each for each in "ab"), StopIteration("a value"), invoke]
    futures = [queue.submit(Envelope(invoke, payload=result)) for result in results]
    finish(queue)
    assert all(future.result(timeout=0) is result for future, result in zip(futures, results, strict=True))
