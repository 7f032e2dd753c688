"""A receiver of webhooks that makes the difficulties that receivers make, the same ones for the same seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from time import monotonic
from typing import Any

from fastapi import FastAPI, Request, Response

# The share of hooks that meet each difficulty; the others are received at once.
_SHARES = {"503": 0.20, "no answer": 0.01, "429": 0.02, "410": 0.01, "500": 0.003}
_ALWAYS = {"410", "500"}  # the others on the first attempt only


class Receiver:
    """Takes hooks whose body has a `number`, on any path, by which it decides how each is treated."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.received: defaultdict[str, list[float]] = defaultdict(list)  # by hook id: the instants
        self.bodies: dict[str, Any] = {}  # by hook id
        self.retried: set[str] = set()  # the hooks that came at a later attempt
        self.difficulties: Counter[str] = Counter()
        self._met: set[str] = set()
        self.app = FastAPI()
        self.app.post("/{path:path}")(self.receive)

    async def receive(self, request: Request) -> Response:
        """Answer one delivery."""
        hook_id, body = request.headers["X-Hook-Id"], await request.json()
        difficulty = self.manner(body["number"])
        if difficulty is not None and (difficulty in _ALWAYS or hook_id not in self._met):
            self._met.add(hook_id)
            self.difficulties[difficulty] += 1
            return await _make(difficulty, request)
        self.received[hook_id].append(monotonic())
        self.bodies[hook_id] = body
        if int(request.headers["X-Hook-Attempt"]) > 1:
            self.retried.add(hook_id)
        return Response(status_code=204)

    def manner(self, number: int) -> str | None:
        """The difficulty that a hook with this *number* meets, or None."""
        drawn = random.Random(f"{self.seed}/{number}").random()
        for difficulty, share in _SHARES.items():
            drawn -= share
            if drawn < 0:
                return difficulty
        return None


async def _make(difficulty: str, request: Request) -> Response:
    if difficulty == "no answer":
        while not await request.is_disconnected():
            await asyncio.sleep(0.05)
        return Response()
    return Response(status_code=int(difficulty), headers={"Retry-After": "1"} if difficulty == "429" else None)
