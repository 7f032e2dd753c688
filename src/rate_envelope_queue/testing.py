"""For your tests: queues in virtual time, and assertions about what was sent.

def test_retries(simulated_queue):                # a fixture of the pytest plugin that comes with the package
    simulated_queue.send(Envelope(flaky, failure_hook=lambda ctx, envelope, error: retry_after(60)))
    simulated_queue.advance(60)
    assert simulated_queue.stats().succeeded == 1
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from .drivers.control import QueueControl
from .drivers.simulated.queue import SimulatedEnvelopeQueue
from .drivers.simulated.world import VirtualClock
from .envelope import Envelope
from .results import EntryView

if TYPE_CHECKING:
    from .drivers.simulated.aio import AsyncSimulatedEnvelopeQueue

__all__ = [
    "AsyncSimulatedEnvelopeQueue",
    "SimulatedEnvelopeQueue",
    "VirtualClock",
    "assert_not_sent",
    "assert_sent",
    "sent",
]

ANY: Any = object()


def __getattr__(name: str) -> Any:
    """Import asyncio only for those who use it."""
    if name == "AsyncSimulatedEnvelopeQueue":
        from .drivers.simulated.aio import AsyncSimulatedEnvelopeQueue

        globals()[name] = AsyncSimulatedEnvelopeQueue
        return AsyncSimulatedEnvelopeQueue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def sent(queue: QueueControl, *, type: str | None = None, payload: Any = ANY, key: Hashable = ANY) -> list[EntryView]:
    """The entries in *queue* that match, in order of acceptance; leave out what does not matter.

    In it now: what has ended is not there. A queue that was not started holds all that was sent, and a simulated one
    runs nothing by itself, so a test can look before anything runs.

    >>> queue = SimulatedEnvelopeQueue("test")
    >>> queue.send(Envelope(print, payload=1), Envelope(print, payload=2))
    2
    >>> [view.envelope.payload for view in sent(queue)]
    [1, 2]
    """
    return [view for view in queue.snapshot(len(queue)) if _matches(view.envelope, type, payload, key)]


def _matches(envelope: Envelope[Any], type: str | None, payload: Any, key: Hashable) -> bool:
    if type is not None and envelope.type != type:
        return False
    if payload is not ANY and envelope.payload != payload:
        return False
    return key is ANY or envelope.key == key


def assert_sent(
    queue: QueueControl, *, type: str | None = None, payload: Any = ANY, key: Hashable = ANY, count: int | None = None
) -> list[EntryView]:
    """The matching entries; AssertionError when there is none, or not exactly *count*, saying what is there instead.

    >>> queue = SimulatedEnvelopeQueue("test")
    >>> queue.send(Envelope(print, type="email", payload="ann@example.org"))
    1
    >>> assert_sent(queue, type="email", count=1)[0].phase
    'ready'
    """
    found = sent(queue, type=type, payload=payload, key=key)
    if count is None and found:
        return found
    if count is not None and len(found) == count:
        return found
    there = [repr(view.envelope) for view in queue.snapshot(20)]
    wanted = "at least 1 entry" if count is None else f"{count} entries"
    raise AssertionError(f"expected {wanted} to match, found {len(found)}; the queue holds {there}")


def assert_not_sent(queue: QueueControl, *, type: str | None = None, payload: Any = ANY, key: Hashable = ANY) -> None:
    """AssertionError when an entry that is in the queue now matches. What has ended is not there."""
    assert_sent(queue, type=type, payload=payload, key=key, count=0)
