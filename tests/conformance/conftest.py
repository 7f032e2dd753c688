"""The fixture `h`: every test of the suite that takes it runs on every driver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import HARNESSES, Harness


@pytest.fixture(params=list(HARNESSES))
def h(request: pytest.FixtureRequest) -> Iterator[Harness]:
    harness = HARNESSES[request.param]()
    yield harness
    harness.close()
