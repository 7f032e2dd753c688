"""The other extras, imported when they are asked for: metrics over HTTP, and the dashboard."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from .. import AsyncEnvelopeQueue
from ..text import error_text
from .hosts import AnyQueue, Loop
from .logs import Voice
from .options import PREFIX, UsageFault


def needed(module: str, asked_by: str, extra: str) -> Any:
    """*module*, or `UsageFault` with the extra that brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageFault(
            f"{asked_by} needs an extra: pip install 'rate-envelope-queue[{extra}]' ({error_text(error, 200)})"
        ) from None


def url_of(host: str, port: int, path: str = "") -> str:
    """The address as one types it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"


@contextmanager
def metrics(queues: Sequence[AnyQueue], host: str, port: int | None, voice: Voice) -> Iterator[None]:
    """While inside, serve the metrics of *queues*; without a port, nothing."""
    if port is None:
        yield
        return
    register = needed("rate_envelope_queue.prometheus", "--metrics-port", "prometheus").register
    start_http_server = needed("prometheus_client", "--metrics-port", "prometheus").start_http_server
    for queue in queues:
        register(queue)
    try:
        server, thread = start_http_server(port, addr=host)
    except OSError as error:
        raise UsageFault(f"--metrics-port: {url_of(host, port)} cannot be served: {error_text(error, 200)}") from None
    voice.say(f"metrics: {url_of(host, server.server_port, '/metrics')}")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(1.0)


@contextmanager
def dashboard(
    queues: Sequence[AnyQueue], loop: Loop, address: tuple[str, int] | None, token: str | None, voice: Voice,
    *, may_act: bool,
) -> Iterator[None]:  # fmt: skip
    """While inside, serve the dashboard of *queues*; without an address, nothing.

    It is begun on *loop* when one of them is for asyncio: there it may start and stop that one.
    """
    if address is None:
        yield
        return
    serve = needed("rate_envelope_queue.dashboard", "--dashboard", "dashboard").serve
    host, port = address
    serving = serve(*queues, host=host, port=port, token=token, allow_actions=may_act)
    try:
        is_async = any(isinstance(queue, AsyncEnvelopeQueue) for queue in queues)
        served = loop.begin(_entered(serving)).result() if is_async else serving.__enter__()
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageFault(f"--dashboard: {url_of(host, port)} cannot be served: {error_text(error, 300)}") from None
    try:
        voice.say(f"dashboard: {_shown(str(served.url), voice)}")
        yield
    finally:
        serving.__exit__(None, None, None)


async def _entered(serving: Any) -> Any:
    return serving.__enter__()


def _shown(url: str, voice: Voice) -> str:
    """The address with its token on a terminal alone: what goes elsewhere is kept by somebody."""
    if sys.stderr.isatty() and not voice.is_json:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/ (the token is that of {PREFIX}TOKEN; it is shown on a terminal alone)"
