"""The dashboard on a port of its own, served by a thread."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .. import Envelope
from .app import Dashboard
from .board import INTERVAL
from .guard import LOCAL_HOSTS

if TYPE_CHECKING:
    from .board import Queue

MOST_CONNECTIONS = 64
REQUEST_PATIENCE = 10.0  # seconds until a request must have come
STOP_PATIENCE = 3  # seconds for requests that are being answered
NAME = "rate-envelope-queue dashboard"


class OneRequest(H11Protocol):
    """A connection, which carries one request: it must come soon, or the connection is dropped (slow loris)."""

    _patience: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The time for the request begins."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(REQUEST_PATIENCE, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None:
            self.transport.abort()


class Server:
    """A dashboard that is being served.

    `url` is what to open in a browser: it ends in `#token=...`, which browsers do not send to servers. `address` is the
    same without that: `GET {address}/api/state` with `Authorization: Bearer {token}` is the state as JSON.
    """

    def __init__(self, app: Dashboard, host: str, port: int) -> None:
        self.app = app
        self.token = app.token
        self.host = host
        self.port = port
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def url(self) -> str:
        """The address to open, with the token."""
        return f"{self.address}/" + (f"#token={self.token}" if self.token else "")

    def __repr__(self) -> str:
        return f"<Server {self.address}>"  # without the token: a repr gets into logs


@contextmanager
def serve(
    *queues: Queue,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | Literal[False] | None = None,
    allow_actions: bool = False,
    show_payloads: bool = False,
    redact: Callable[[Envelope[Any]], object] | None = None,
    allowed_hosts: Iterable[str] = (),
    loop: AbstractEventLoop | None = None,
) -> Iterator[Server]:
    """Serve a dashboard of *queues* from a thread: `with serve(queue) as server: print(server.url)`.

    *port* 0 takes a free one. Without a *token* a new one is made for this start, and is in `server.url`. A *host* that
    others can reach needs a token of yours, else ValueError: use TLS in front of it, or an SSH tunnel. *allowed_hosts*
    are further names by which it may be called. *loop* is that of `AsyncEnvelopeQueue`s, which the page needs to start
    and stop them: by default the one on which this is called. The other options are those of `dashboard`.

    At the end of the block the port is closed, and the thread has ended. OSError when the port cannot be had.
    """
    addresses = _addresses(host, port)
    is_local = all(ip_address(address[0].partition("%")[0]).is_loopback for _, address in addresses)
    if not is_local and not token:
        raise ValueError(f"host {host!r} can be reached by others: give a token, or use 127.0.0.1 and a tunnel")
    app = Dashboard(
        queues, token=token, allow_actions=allow_actions, show_payloads=show_payloads, redact=redact,
        allowed_hosts=[*LOCAL_HOSTS, *([host] if host and "%" not in host else []), *allowed_hosts],
        allows_addresses=not is_local, loop=loop or _running_loop(), is_elsewhere=True, closes_connections=True,
    )  # fmt: skip
    listener = _listen(addresses)
    try:
        thread = _Thread(app, listener)
        thread.start()
        try:
            thread.is_up.wait()
            if thread.error is not None:
                raise thread.error
            yield Server(app, host or "127.0.0.1", listener.getsockname()[1])
        finally:
            thread.stop()
    finally:
        listener.close()


def _running_loop() -> AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(family, address) for family, _, _, _, address in found]


def _listen(addresses: list[tuple[int, Any]]) -> socket.socket:
    family, address = addresses[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


class _Thread(threading.Thread):
    """Serves one application until it is told to stop."""

    def __init__(self, app: Dashboard, listener: socket.socket) -> None:
        super().__init__(name=NAME, daemon=True)
        self.is_up = threading.Event()
        self.error: BaseException | None = None
        self._app = app
        self._listener = listener
        config = uvicorn.Config(
            app, http=OneRequest, ws="none", loop="asyncio", lifespan="off", log_config=None, access_log=False,
            limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=STOP_PATIENCE, server_header=False,
            proxy_headers=False,
        )  # fmt: skip
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve, on a loop of its own."""
        quiet = logging.getLogger("uvicorn.error")
        quiet.addFilter(_is_no_news)
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.error = error
        finally:
            quiet.removeFilter(_is_no_news)
            self.is_up.set()

    async def _serve(self) -> None:
        serving = asyncio.ensure_future(self._server.serve([self._listener]))
        looking = asyncio.ensure_future(self._look())
        try:
            while not self._server.started and not serving.done():
                await asyncio.sleep(0.005)
            self.is_up.set()
            await serving
        finally:
            looking.cancel()

    async def _look(self) -> None:
        """Have a history also of when nobody looked."""
        while True:
            self._app.look()
            await asyncio.sleep(INTERVAL)

    def stop(self) -> None:
        """Close the port, end what is being answered, and wait for the thread."""
        self._server.should_exit = True
        self._app.close()
        self.join(STOP_PATIENCE + 7)


def _is_no_news(record: logging.LogRecord) -> bool:
    """Whether to let a record of uvicorn pass: not that this server has started or stopped, which the caller knows."""
    return record.levelno > logging.INFO or record.threadName != NAME
