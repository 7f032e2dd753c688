"""Runs an app with uvicorn inside this process, on free ports of the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

HOST = "127.0.0.1"


class _Server(uvicorn.Server):
    """Says when it has started, and leaves the signals to whoever runs it."""

    def __init__(self, app: Any) -> None:
        super().__init__(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on", ws="none"))
        self.is_up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


@contextlib.asynccontextmanager
async def serving(app: Any, ports: int = 1) -> AsyncIterator[list[str]]:
    """Serve *app* on so many *ports*, whose URLs are given; at the end stop it as uvicorn does, lifespan and all."""
    sockets = [socket.create_server((HOST, 0), backlog=2048) for _ in range(ports)]
    server = _Server(app)
    task = asyncio.create_task(server.serve(sockets))
    try:
        await server.is_up.wait()
        yield [f"http://{HOST}:{each.getsockname()[1]}" for each in sockets]
    finally:
        server.should_exit = True
        await task
