"""`logging_stamp` where the run is awaited."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from rate_envelope_queue import AsyncContext, AsyncEnvelopeQueue, Context, Envelope, logging_stamp


class SetClock:
    """A clock that stands until somebody sets it."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        """What it was set to."""
        return self.at

    def wall_utc(self) -> datetime:
        """Some day."""
        return datetime(2024, 1, 1, tzinfo=UTC)


def logged(caplog: pytest.LogCaptureFixture, *handlers: Any) -> list[str]:
    """What the stamp writes about one run each, five seconds long."""
    clock = SetClock()
    caplog.set_level(logging.INFO, logger="mail")

    async def main() -> None:
        async with AsyncEnvelopeQueue("q", clock=clock, stamps=[logging_stamp("mail")]) as queue:
            for handler in handlers:
                queue.send(Envelope(handler, payload=clock, type="mail"))
                await queue.join()

    asyncio.run(main())
    return [record.getMessage() for record in caplog.records if record.name == "mail"]


async def five_seconds(ctx: AsyncContext, envelope: Envelope[SetClock]) -> None:
    """Let the loop go round, and five seconds pass."""
    await asyncio.sleep(0)
    envelope.payload.at += 5


async def fails(ctx: AsyncContext, envelope: Envelope[SetClock]) -> None:
    """The same, and fail."""
    await five_seconds(ctx, envelope)
    raise ValueError("no server")


def plain(ctx: Context, envelope: Envelope[SetClock]) -> None:
    """Five seconds in a thread."""
    envelope.payload.at += 5


def test_an_awaited_run_is_logged_when_it_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    """On an event loop `logging_stamp` writes how long the awaited run took and how it ended, plain or coroutine."""
    assert logged(caplog, five_seconds, fails, plain) == [
        "mail id=None attempt=1 took 5.000000 s: done",
        "mail id=None attempt=1 took 5.000000 s: ValueError: no server",
        "mail id=None attempt=1 took 5.000000 s: done",
    ]


def test_a_logger_that_raises_does_not_fail_an_awaited_run(caplog: pytest.LogCaptureFixture) -> None:
    """On an event loop too a filter that raises changes nothing of the run."""
    logger = logging.getLogger("mail on a loop that cannot be logged")

    def refuse(record: logging.LogRecord) -> bool:
        raise SystemExit

    logger.addFilter(refuse)

    async def answer(ctx: AsyncContext, envelope: Envelope[Any]) -> int:
        return 42

    async def main() -> int:
        async with AsyncEnvelopeQueue("q", stamps=[logging_stamp(logger, level=logging.CRITICAL)]) as queue:
            return int(await queue.submit(Envelope(answer)))

    assert asyncio.run(main()) == 42
