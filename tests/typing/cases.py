"""What a type checker makes of the public API: never run, but checked by mypy and by pyright, both strict.

A line that must be an error says so with `type: ignore`; one that is not an error any more is reported as unused.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, assert_type

from rate_envelope_queue import (
    AsyncContext,
    AsyncEnvelopeQueue,
    Context,
    Decision,
    Envelope,
    EnvelopeQueue,
    EnvelopeType,
    drop,
    retry_now,
)


def count(ctx: Context, envelope: Envelope[int]) -> str:
    """A handler of numbers."""
    assert_type(ctx.queue, EnvelopeQueue | AsyncEnvelopeQueue)
    assert_type(ctx.queue.send(envelope), int)
    assert_type(ctx.queue.clock.now(), float)
    ctx.queue.clock.noww()  # type: ignore
    return str(envelope.payload + 1)


async def count_later(ctx: AsyncContext, envelope: Envelope[int]) -> None:
    """The same for a loop."""
    assert_type(ctx.queue, AsyncEnvelopeQueue)
    await ctx.wait(1)


def failed(ctx: Context, envelope: Envelope[int], error: BaseException) -> Decision | None:
    """A failure hook of theirs."""
    return drop("no") if envelope.payload else None


async def failed_later(ctx: AsyncContext, envelope: Envelope[int], error: BaseException) -> Decision:
    """The same for a loop."""
    return retry_now()


def wrong(ctx: Context, number: int) -> None:
    """No handler."""


# Envelopes

assert_type(Envelope(count, payload=5), Envelope[int])
assert_type(Envelope(count), Envelope[int])
assert_type(Envelope(count_later, payload=5, failure_hook=failed_later), Envelope[int])
assert_type(Envelope.once(count, 5, deadline=3, key="k", failure_hook=failed), Envelope[int])
assert_type(Envelope.once(count_later, 5), Envelope[int])
assert_type(Envelope.once(count), Envelope[int])
assert_type(Envelope.every(timedelta(hours=1), count, 5), Envelope[int])
anything: Envelope = Envelope(lambda ctx, envelope: None)
Envelope(count, payload="wrong")  # type: ignore
Envelope.once(count, "wrong")  # type: ignore
Envelope.every(60, count, "wrong")  # type: ignore
Envelope.once(count, 5, dead_line=3)  # type: ignore
Envelope.once(count, 5, interval=3)  # type: ignore
Envelope.every(60, count, 5, max_attempt=3)  # type: ignore
Envelope.once(count, 5, priority="high")  # type: ignore
Envelope(wrong)  # type: ignore

# Kinds

kind = EnvelopeType("count", invoke=count, payload=int, deadline=3)
assert_type(kind, EnvelopeType[int])
assert_type(kind.envelope(), Envelope[int])
assert_type(kind.envelope(5, key="k", max_attempts=3), Envelope[int])
kind.envelope("wrong")  # type: ignore
kind.envelope(5, dead_line=3)  # type: ignore
EnvelopeType("count", invoke=count, dead_line=3)  # type: ignore

# Handlers

queue = EnvelopeQueue("q", duplicates="replace")
loop_queue = AsyncEnvelopeQueue("q")
EnvelopeQueue("q", duplicates="merge")  # type: ignore
assert_type(queue.handler(count), EnvelopeType[int])
assert_type(queue.handler("count", deadline=3)(count), EnvelopeType[int])
assert_type(loop_queue.handler("count")(count_later), EnvelopeType[int])
queue.handler("count", dead_line=3)  # type: ignore
queue.handler("count")(wrong)  # type: ignore


@queue.handler
def bare(ctx: Context, envelope: Envelope[str]) -> None:
    """A handler of texts."""


@queue.handler("dressed", deadline=timedelta(seconds=3))
def dressed(ctx: Context, envelope: Envelope[str]) -> None:
    """The same with a policy."""


@loop_queue.handler
async def on_a_loop(ctx: AsyncContext, envelope: Envelope[str]) -> None:
    """The same for a loop."""


assert_type(bare, EnvelopeType[str])
assert_type(dressed, EnvelopeType[str])
assert_type(on_a_loop, EnvelopeType[str])
bare.envelope(5)  # type: ignore
dressed.envelope(5)  # type: ignore
on_a_loop.envelope(5)  # type: ignore


# Stamps


def stamp(next: Callable[[Context, Envelope[Any]], Any]) -> Callable[[Context, Envelope[Any]], Any]:
    """A stamp as users write it."""
    return next


EnvelopeQueue("q", stamps=[stamp])
Envelope(count, stamps=[stamp])
