"""Middleware that comes with the package."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .text import bounded_repr, error_text, escaped

if TYPE_CHECKING:
    from .context import Context
    from .envelope import Envelope, Invoker, Stamp


def logging_stamp(logger: logging.Logger | str = "rate_envelope_queue", *, level: int = logging.INFO) -> Stamp:
    """A stamp that logs each call: type, id, attempt, how long it took in seconds, and how it ended.

    >>> stamp = logging_stamp("mail", level=logging.DEBUG)
    """
    log = logging.getLogger(logger) if isinstance(logger, str) else logger
    if not isinstance(log, (logging.Logger, logging.LoggerAdapter)):
        raise TypeError(f"logger must be a Logger or a name, not {bounded_repr(logger)}")
    if isinstance(level, bool) or not isinstance(level, int):
        raise TypeError(f"level must be an int such as logging.INFO, not {bounded_repr(level)}")

    def stamp(next: Invoker) -> Invoker:
        def invoke(ctx: Context, envelope: Envelope) -> Any:
            clock = ctx.queue.clock
            started_at = clock.now()
            result = "done"
            try:
                return next(ctx, envelope)
            except BaseException as error:
                result = error_text(error, 200)
                raise
            finally:
                log.log(
                    level, "%s id=%s attempt=%d took %.6f s: %s", escaped(envelope.type or "envelope", 100),
                    bounded_repr(envelope.id), ctx.attempt, clock.now() - started_at, result,
                )  # fmt: skip

        return invoke

    return stamp
