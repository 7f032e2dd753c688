"""Server-sent events: the state about once a second, for a bounded number of clients.

Each client is served by its own request and reads what the board has then: one that reads slowly misses samples, and
holds up nobody. A stream ends by itself now and then, and the browser comes back with the number of the last sample it
has: so a server that stops waits for no stream for long.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import Receive, Scope, Send

from .board import INTERVAL, Board

MOST_CLIENTS = 16
SECONDS = 10.0  # that a stream lasts
PATIENCE = 10.0  # seconds to get one event sent
RETRY = 500  # milliseconds until the browser comes back


class Streams:
    """The streams of one dashboard."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._open: dict[object, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}
        self.is_closed = False

    def has_room(self) -> bool:
        """Whether one more client can be served."""
        return len(self._open) < MOST_CLIENTS and not self.is_closed

    def close(self) -> None:
        """End all streams, soon. From any thread."""
        self.is_closed = True
        for loop, over in list(self._open.values()):
            try:
                loop.call_soon_threadsafe(over.set)
            except RuntimeError:  # the loop has closed
                pass

    async def serve(self, since: int, scope: Scope, receive: Receive, send: Send) -> None:
        """One stream, to its end, as an ASGI application."""
        key, over = object(), asyncio.Event()
        self._open[key] = (asyncio.get_running_loop(), over)
        leaves = asyncio.ensure_future(_disconnected(receive))
        ends = asyncio.ensure_future(over.wait())
        try:
            await _send(send, {"type": "http.response.start", "status": 200, "headers": HEADERS})
            await self._tell(since, send, {leaves, ends})
            if not leaves.done():
                await _send(send, {"type": "http.response.body", "body": b"", "more_body": False})
        except (TimeoutError, OSError):  # it reads nothing, or is gone
            pass
        finally:
            leaves.cancel()
            ends.cancel()
            del self._open[key]

    async def _tell(self, since: int, send: Send, end: set[asyncio.Future[Any]]) -> None:
        loop = asyncio.get_running_loop()
        over_at = loop.time() + SECONDS
        sequence, state = self._board.state()
        past = {"sequence": sequence, "now": state["now"], "points": self._board.history(since)}
        await _send(send, _event("history", None, past, retry=RETRY))
        while True:
            await _send(send, _event("state", sequence, state))
            left = over_at - loop.time()
            if left <= 0:
                return
            done, _ = await asyncio.wait(end, timeout=min(INTERVAL, left), return_when=asyncio.FIRST_COMPLETED)
            if done:
                return
            sequence, state = self._board.state()


HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


def _event(name: str, id_: int | None, data: object, *, retry: int | None = None) -> dict[str, Any]:
    lines = [f"event: {name}"]
    if id_ is not None:
        lines.append(f"id: {id_}")
    if retry is not None:
        lines.append(f"retry: {retry}")
    lines.append(f"data: {json.dumps(data, separators=(',', ':'))}")  # on one line: JSON escapes line breaks
    return {"type": "http.response.body", "body": ("\n".join(lines) + "\n\n").encode(), "more_body": True}


async def _send(send: Send, message: dict[str, Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        await send(message)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
