"""What the tests of the webhooks example stand on: a running service, and a receiver that answers as it is told."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx
from examples.webhooks.deliveries import Deliveries, Settings
from examples.webhooks.report import total
from examples.webhooks.server import serving
from examples.webhooks.service import create_app
from fastapi import FastAPI, Request, Response

QUICK = Settings(rate=1000, first_backoff=0.01, longest_backoff=0.1, stop_timeout=10)


class Scripted:
    """A receiver that answers each body as a test says, and tells when something has arrived."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.post("/")(self.receive)
        self.bodies: list[Any] = []
        self.at: list[float] = []
        self.answers: dict[str, list[Callable[[], Awaitable[Response]]]] = defaultdict(list)  # by body, in turn
        self._changed = asyncio.Condition()

    async def receive(self, request: Request) -> Response:
        body = await request.json()
        async with self._changed:
            self.bodies.append(body)
            self.at.append(monotonic())
            self._changed.notify_all()
        answers = self.answers[str(body)]
        return await answers.pop(0)() if answers else Response(status_code=204)

    def answer(self, body: str, *statuses: int, **headers: str) -> None:
        """Answer *body* with these *statuses* in turn, then with 204."""

        def answering(status: int) -> Callable[[], Awaitable[Response]]:
            async def answer() -> Response:
                return Response(status_code=status, headers={name.replace("_", "-"): headers[name] for name in headers})

            return answer

        self.answers[body] += map(answering, statuses)

    def hold(self, body: str) -> asyncio.Event:
        """Answer *body* once with 204, but not before the event is set."""
        released = asyncio.Event()

        async def answer() -> Response:
            await released.wait()
            return Response(status_code=204)

        self.answers[body].append(answer)
        return released

    async def has(self, count: int) -> None:
        """Wait until so many requests have arrived."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.bodies) >= count)


@dataclass
class World:
    """A running service, a scripted receiver, and a client."""

    deliveries: Deliveries
    receiver: Scripted
    host: str
    client: httpx.AsyncClient
    answers: list[httpx.Response] = field(default_factory=list)

    async def post(self, body: str, key: str | None = None, host: str | None = None) -> httpx.Response:
        hook = {"url": host or self.host, "event": "changed", "body": body, "key": key}
        answer = await self.client.post("/hooks", json=hook)
        self.answers.append(answer)
        return answer

    async def join(self) -> None:
        """Wait until everything accepted has ended."""
        for queue in self.deliveries.queues.values():
            assert await queue.join(timeout=20)

    async def dead_letters(self) -> list[dict[str, Any]]:
        return (await self.client.get("/dead-letters")).json()

    def check_sums(self) -> Counter[str]:
        """What was answered 202 agrees with the queues, and what the queues took with what became of it."""
        sums = total(self.deliveries.stats().values())
        assert sums["accepted"] + sums["coalesced"] == sum(answer.status_code == 202 for answer in self.answers)
        assert sums["accepted"] == sums["succeeded"] + sums["dropped"] + sums["occupancy"]
        return sums


@asynccontextmanager
async def world(settings: Settings = QUICK) -> AsyncIterator[World]:
    receiver, deliveries = Scripted(), Deliveries(settings)
    async with (
        serving(receiver.app) as (host,),
        serving(create_app(deliveries)) as (url,),
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client,
    ):
        yield World(deliveries, receiver, host, client)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(40):
            await test()

    asyncio.run(bounded())
