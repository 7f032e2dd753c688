"""What the tests of the dashboard stand on: requests without a network, and queues in a state worth looking at."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from rate_envelope_queue import Envelope, EnvelopeQueue
from rate_envelope_queue.dashboard import Dashboard

PATIENCE = 20.0  # seconds
TOKEN = "a-token-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HOSTILE = '</td><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e"'


def ask(app: Any, method: str, path: str, *, base: str = "http://127.0.0.1:8000", **options: Any) -> httpx.Response:
    """One request to an ASGI application, without a network."""

    async def request() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client:
            return await client.request(method, path, **options)

    return asyncio.run(request())


def state_of(app: Dashboard, number: int = 0) -> dict[str, Any]:
    """What the API says of one queue."""
    answer = ask(app, "GET", "/api/state", headers={"Authorization": f"Bearer {app.token}"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["queues"][number]
    return found


def look(app: Dashboard) -> None:
    """Have it take a sample now."""

    async def take() -> None:
        app.look(fresh=True)

    asyncio.run(take())


def act(app: Any, action: str, body: Any = None, *, queue: int = 0, **options: Any) -> httpx.Response:
    """One action, with the token."""
    options = {"headers": BEARER, "json": {} if body is None else body, **options}
    return ask(app, "POST", f"/api/queues/{queue}/{action}", **options)


def until(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What *condition* answers, once it is true."""
    ends_at = time.monotonic() + patience
    tick = threading.Event()
    while not (answer := condition()):
        assert time.monotonic() < ends_at, f"not so within {patience} s"
        tick.wait(0.01)
    return answer


@contextmanager
def stopped_at_end(*queues: EnvelopeQueue) -> Iterator[None]:
    """Whatever a test does, nothing of *queues* is left."""
    try:
        yield
    finally:
        for queue in queues:
            queue.terminate(timeout=0, grace=5)


class Held:
    """A handler that runs until it is let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.gate = threading.Event()

    def __call__(self, ctx: Any, envelope: Envelope) -> None:
        self.runs += 1
        assert self.gate.wait(PATIENCE)


def fails(ctx: Any, envelope: Envelope) -> None:
    """A handler that fails with its payload."""
    raise RuntimeError(envelope.payload)


def noop(ctx: Any, envelope: Envelope) -> None:
    """A handler that does nothing."""
