"""An in-process work queue for Python services: deadlines, retries, schedules, capacity, and nothing lost."""

import typing

from . import events
from .context import AsyncContext, Context
from .decision import Decision, drop, retry_after, retry_now, retry_with_backoff
from .drivers.threads.queue import EnvelopeQueue
from .envelope import Envelope, EnvelopeType
from .errors import (
    Cancelled,
    CapacityExceededError,
    DeadlineExceeded,
    EnvelopeQueueError,
    InvalidEnvelopeError,
    InvalidIntervalError,
    QueueNotRunningError,
    QueueStateError,
    QueueTerminatedError,
    RetryEnvelope,
    StopEnvelope,
)
from .results import DeadLetter, Histogram, Measured, Outcome, QueueState, QueueStats, StopMode, StopReport
from .stamps import logging_stamp

if typing.TYPE_CHECKING:
    from .drivers.aio.queue import AsyncEnvelopeQueue

__all__ = [
    "AsyncContext",
    "AsyncEnvelopeQueue",
    "Cancelled",
    "CapacityExceededError",
    "Context",
    "DeadLetter",
    "DeadlineExceeded",
    "Decision",
    "Envelope",
    "EnvelopeQueue",
    "EnvelopeQueueError",
    "EnvelopeType",
    "Histogram",
    "InvalidEnvelopeError",
    "InvalidIntervalError",
    "Measured",
    "Outcome",
    "QueueNotRunningError",
    "QueueState",
    "QueueStateError",
    "QueueStats",
    "QueueTerminatedError",
    "RetryEnvelope",
    "StopEnvelope",
    "StopMode",
    "StopReport",
    "drop",
    "events",
    "logging_stamp",
    "retry_after",
    "retry_now",
    "retry_with_backoff",
]


def __getattr__(name: str) -> typing.Any:
    """Import asyncio only for those who use it: it costs more than all the rest."""
    if name == "AsyncEnvelopeQueue":
        from .drivers.aio.queue import AsyncEnvelopeQueue

        globals()[name] = AsyncEnvelopeQueue
        return AsyncEnvelopeQueue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
