"""The pytest plugin: fixtures for queues in virtual time. It is found by its entry point; nothing is to be imported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import AsyncSimulatedEnvelopeQueue, SimulatedEnvelopeQueue, VirtualClock


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock that moves only when told."""
    from .testing import VirtualClock

    return VirtualClock()


@pytest.fixture
def simulated_queue(virtual_clock: VirtualClock) -> Iterator[SimulatedEnvelopeQueue]:
    """A started queue on `virtual_clock`; what is left in it when the test ends is returned."""
    from .testing import SimulatedEnvelopeQueue

    queue = SimulatedEnvelopeQueue("simulated", clock=virtual_clock)
    queue.start()
    yield queue
    queue.terminate(timeout=3600)  # virtual: time for handlers that still wait to end


@pytest.fixture
def async_simulated_queue(virtual_clock: VirtualClock) -> Iterator[AsyncSimulatedEnvelopeQueue]:
    """As `simulated_queue`, for coroutine handlers. The test may be a coroutine or not."""
    from .testing import AsyncSimulatedEnvelopeQueue

    queue = AsyncSimulatedEnvelopeQueue("simulated", clock=virtual_clock)
    complete = virtual_clock.loop.complete
    complete(queue.start())
    yield queue
    complete(queue.terminate(timeout=3600))
