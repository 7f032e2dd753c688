"""The dashboard as an ASGI application: the page, its files, and its JSON."""

from __future__ import annotations

import asyncio
import json
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from .. import Envelope
from ..events import Observer
from .actions import ACTIONS, Actions, RefusedError
from .assets import assets
from .board import Board
from .guard import HEADERS, LOCAL_HOSTS, Guard
from .stream import Streams

if TYPE_CHECKING:
    from .board import Queue

MOST_BODY = 16 * 1024
BODY_PATIENCE = 10.0  # seconds
Endpoint = Callable[[Request], Awaitable[Response]]


class Stream(Response):
    """A response that is a stream of events."""

    def __init__(self, streams: Streams, since: int) -> None:
        self._streams = streams
        self._since = since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, to its end."""
        await self._streams.serve(self._since, scope, receive, send)


class Dashboard(Starlette):
    """What `dashboard()` answers: an ASGI application, to be served alone or mounted into another.

    `token` is what a visitor must have; None when none is asked for.
    """

    def __init__(
        self,
        queues: Iterable[Queue],
        *,
        token: str | Literal[False] | None,
        allow_actions: bool,
        show_payloads: bool,
        redact: Callable[[Envelope[Any]], object] | None,
        allowed_hosts: Iterable[str],
        allows_addresses: bool = False,
        loop: AbstractEventLoop | None = None,
        is_elsewhere: bool = False,
        closes_connections: bool = False,
    ) -> None:
        self._guard = Guard(token, allowed_hosts, allows_addresses=allows_addresses)
        self._board = Board(checked_queues(queues), show_payloads=show_payloads, redact=redact)
        self._streams = Streams(self._board)
        self._actions = Actions(loop, is_elsewhere=is_elsewhere) if allow_actions else None
        self._headers = [*HEADERS, *([(b"connection", b"close")] if closes_connections else [])]
        super().__init__(
            routes=[
                Route("/", self._page, methods=["GET"]),
                Route("/static/{path:path}", self._file, methods=["GET"]),
                Route("/api/session", self._log_in, methods=["POST"]),
                Route("/api/session", self._known(self._session), methods=["GET"]),
                Route("/api/state", self._known(self._state), methods=["GET"]),
                Route("/api/events", self._known(self._events), methods=["GET"]),
                Route("/api/queues/{queue:int}/{action}", self._known(self._act), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _refusal},
        )

    @property
    def token(self) -> str | None:
        """What a visitor must have: in the fragment of the address, `#token=...`, or as `Authorization: Bearer`."""
        return self._guard.token

    def look(self, *, fresh: bool = False) -> None:
        """Take a sample, on the running loop, if the last is old or *fresh* is asked for.

        So the charts have a past also of when nobody looks.
        """
        self._board.state(fresh=fresh)

    @property
    def observers(self) -> tuple[Observer, ...]:
        """What it listens with, one for each queue."""
        return tuple(desk.watch for desk in self._board.desks)

    def close(self) -> None:
        """Look at the queues no longer, and end the streams that are open. From any thread; twice does nothing."""
        self._streams.close()
        self._board.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, if whoever makes it may."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await super().__call__(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        fault = self._guard.stranger(scope)
        if fault is None:
            await super().__call__(scope, receive, guarded)
        else:
            await _error(403, fault)(scope, receive, guarded)

    def _known(self, endpoint: Endpoint) -> Endpoint:
        """*endpoint*, for those who bring the token or its cookie."""

        async def known(request: Request) -> Response:
            if not self._guard.knows(request):
                return _error(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})
            return await endpoint(request)

        return known

    # The page, which holds nothing of the queues

    async def _page(self, request: Request) -> Response:
        return _asset("index.html", request)

    async def _file(self, request: Request) -> Response:
        return _asset(request.path_params["path"], request)

    # The JSON

    async def _log_in(self, request: Request) -> Response:
        wanted = await _json_of(request)
        if set(wanted) != {"token"}:
            return _error(422, "a session takes a token")
        if not self._guard.is_token(wanted["token"]):
            return _error(401, "the token is wrong")
        response = _answer(self._session_facts())
        response.set_cookie(**self._guard.cookie(request))  # type: ignore[arg-type]
        return response

    async def _session(self, request: Request) -> Response:
        return _answer(self._session_facts())

    def _session_facts(self) -> dict[str, object]:
        return {**self._guard.session(), "actions": sorted(ACTIONS) if self._actions is not None else []}

    async def _state(self, request: Request) -> Response:
        return _answer(self._board.state()[1])

    async def _events(self, request: Request) -> Response:
        if not self._streams.has_room():
            return _error(503, "too many clients are looking already", {"Retry-After": "5"})
        last = request.headers.get("last-event-id", "")
        return Stream(self._streams, int(last) if last.isdecimal() and len(last) < 16 else 0)

    async def _act(self, request: Request) -> Response:
        if self._actions is None:
            return _error(403, "this dashboard only shows: make it with allow_actions=True")
        if not self._guard.means_it(request):
            return _error(403, "the header X-CSRF-Token is missing or wrong")
        arguments = await _json_of(request)
        number = request.path_params["queue"]
        if number >= len(self._board.desks):
            return _error(404, "there is no such queue")
        client = "?" if request.client is None else request.client.host
        try:
            done = await self._actions.carry_out(
                self._board.desks[number], request.path_params["action"], arguments, client
            )
        except RefusedError as error:
            return _error(error.status, str(error))
        return _answer({"done": done, "state": self._board.state(fresh=True)[1]})


def checked_queues(queues: Iterable[Queue]) -> tuple[Queue, ...]:
    """At least one, and queues all of them."""
    found = tuple(queues)
    if not found:
        raise ValueError("name at least one queue")
    for queue in found:
        if not (hasattr(queue, "stats") and hasattr(queue, "next_due")):
            raise TypeError(f"a dashboard shows queues, not a {type(queue).__name__}")
    return found


def _asset(path: str, request: Request) -> Response:
    asset = assets().get(path)
    if asset is None:
        return _error(404, "there is nothing here")
    headers = {"ETag": asset.tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


async def _json_of(request: Request) -> dict[str, Any]:
    """The body, which must be a JSON object, small and soon there. HTTPException otherwise."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body must be application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            async for part in request.stream():
                body += part
                if len(body) > MOST_BODY:
                    raise HTTPException(413, f"the body must be at most {MOST_BODY} bytes")
        wanted = json.loads(bytes(body) or b"{}")
    except TimeoutError:
        raise HTTPException(408, "the body did not come") from None
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is no JSON") from None
    if not isinstance(wanted, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return wanted


def _answer(data: object, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(data, status, headers={"Cache-Control": "no-store", **(headers or {})})


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return _answer({"error": message}, status, headers)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, dict(error.headers or {}))


def dashboard(
    *queues: Queue,
    token: str | Literal[False] | None = None,
    allow_actions: bool = False,
    show_payloads: bool = False,
    redact: Callable[[Envelope[Any]], object] | None = None,
    allowed_hosts: Iterable[str] = LOCAL_HOSTS,
) -> Dashboard:
    """A page that shows *queues*, as an ASGI application: `app.mount("/queues", dashboard(queue))`.

    Who visits must bring *token* (None makes a new one, which is `dashboard(...).token`; at least 16 characters). The
    page asks for it, or takes it from the fragment of its address, `/queues/#token=...`. False asks for none: only
    where something in front of it asks who comes.

    *allowed_hosts* are the names by which it may be called; any other Host is refused. *allow_actions* lets visitors
    pause, resize, stop and start queues, cancel entries, and retry dead letters; each action is logged. Payloads are
    not shown unless *show_payloads*; *redact* is given an envelope and answers what to show in their place.

    Looking costs a queue an observer, and its lock for some microseconds a second, however many entries it holds. Needs
    the extra `dashboard` and asyncio. Raises ValueError and TypeError that name the option.
    """
    return Dashboard(
        queues, token=token, allow_actions=allow_actions, show_payloads=show_payloads, redact=redact,
        allowed_hosts=allowed_hosts,
    )  # fmt: skip
