"""An in-process work queue for Python services: deadlines, retries, schedules, capacity, and nothing lost."""

from . import events
from .context import Context
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
from .results import DeadLetter, Outcome, QueueState, QueueStats, StopMode, StopReport
from .stamps import logging_stamp

__all__ = [
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
    "InvalidEnvelopeError",
    "InvalidIntervalError",
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
