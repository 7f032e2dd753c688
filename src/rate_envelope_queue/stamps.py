"""Middleware that comes with the package."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from .context import AsyncContext
from .text import bounded_repr, error_text, escaped

if TYPE_CHECKING:
    from .context import RunContext
    from .envelope import Envelope, Invoker, Stamp


def logging_stamp(logger: logging.Logger | str = "rate_envelope_queue", *, level: int = logging.INFO) -> Stamp:
    """A stamp that logs each call: type, id, attempt, how long it took in seconds, and how it ended.

    In both flavours of the queue; on `AsyncEnvelopeQueue` of the run that was awaited. A logger that raises changes
    nothing of the run.

    >>> stamp = logging_stamp("mail", level=logging.DEBUG)
    """
    log = logging.getLogger(logger) if isinstance(logger, str) else logger
    if not isinstance(log, (logging.Logger, logging.LoggerAdapter)):
        raise TypeError(f"logger must be a Logger or a name, not {bounded_repr(logger)}")
    if isinstance(level, bool) or not isinstance(level, int):
        raise TypeError(f"level must be an int such as logging.INFO, not {bounded_repr(level)}")

    call_log = _CallLog(log, level)

    def stamp(next: Invoker) -> Invoker:
        def invoke(ctx: RunContext, envelope: Envelope) -> Any:
            started_at = ctx.queue.clock.now()
            try:
                value = next(ctx, envelope)  # type: ignore[arg-type]  # of whichever flavour, it is handed on
            except BaseException as error:
                call_log.write(ctx, envelope, started_at, error_text(error, 200))
                raise
            if isinstance(ctx, AsyncContext) and isawaitable(value):
                return call_log.finish(ctx, envelope, started_at, value)
            call_log.write(ctx, envelope, started_at, "done")
            return value

        return invoke

    return stamp


class _CallLog:
    """Where the calls of one stamp are logged. A logger that raises changes nothing of the run."""

    __slots__ = ("_level", "_log")

    def __init__(self, log: logging.Logger | logging.LoggerAdapter[Any], level: int) -> None:
        self._log = log
        self._level = level

    def write(self, ctx: RunContext, envelope: Envelope, started_at: float, result: str) -> None:
        """One line about one call."""
        try:
            self._log.log(
                self._level, "%s id=%s attempt=%d took %.6f s: %s", escaped(envelope.type or "envelope", 100),
                bounded_repr(envelope.id), ctx.attempt, ctx.queue.clock.now() - started_at, result,
            )  # fmt: skip
        except BaseException as error:  # a filter or handler of the service's: the run ended as it did
            if isinstance(error, KeyboardInterrupt):
                raise

    async def finish(self, ctx: RunContext, envelope: Envelope, started_at: float, awaited: Awaitable[Any]) -> Any:
        """What *awaited* gives, logged when it has."""
        result = "done"
        try:
            return await awaited
        except BaseException as error:
            result = error_text(error, 200)
            raise
        finally:
            self.write(ctx, envelope, started_at, result)
