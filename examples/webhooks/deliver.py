"""One delivery: a hook posted to its receiver, and what follows when that does not succeed."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from rate_envelope_queue import (
    AsyncContext,
    Context,
    DeadlineExceeded,
    Decision,
    Envelope,
    EnvelopeType,
    drop,
    retry_after,
    retry_with_backoff,
)

LONGEST_WAIT = 3600.0  # a receiver that asks for more time than this does not get it


@dataclass(slots=True, weakref_slot=True, eq=False)
class Hook:
    """What is to be delivered. A receiver may see an `id` twice, and should then look at it once."""

    url: str
    event: str
    body: Any
    key: str | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    superseded: bool = False  # a later hook with this key was accepted


class RefusedError(Exception):
    """The receiver answered, and not with 2xx."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.wait = _seconds(response.headers.get("Retry-After"))
        super().__init__(f"{response.status_code} {response.reason_phrase}")


class Courier:
    """Delivers hooks while it is open; `kind` makes their envelopes.

    All share one client. It has no timeouts, as each run has a deadline; no limit of connections, as the queues bound
    them, and a host that hangs must not use up those of the others; and it takes neither proxies nor passwords from the
    environment.
    """

    _client: httpx.AsyncClient

    def __init__(self, *, deadline: float, max_attempts: int) -> None:
        self.kind = EnvelopeType(
            "webhook",
            invoke=self.deliver,
            payload=Hook,
            deadline=deadline,
            max_attempts=max_attempts,
            failure_hook=decide,
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """With a client, until the end of the block. May be opened again."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as self._client:
            yield

    async def deliver(self, ctx: AsyncContext, envelope: Envelope[Hook]) -> None:
        """The handler. It returns once the receiver has answered 2xx, and raises in every other case."""
        hook = envelope.payload
        headers = {"X-Hook-Id": hook.id, "X-Hook-Event": hook.event, "X-Hook-Attempt": str(ctx.attempt)}
        response = await self._client.post(hook.url, json=hook.body, headers=headers)
        if not response.is_success:
            raise RefusedError(response)


def decide(ctx: Context, envelope: Envelope[Hook], error: BaseException) -> Decision:
    """The failure hook: what may be better later is tried again, in the receiver's own time if it names one."""
    match error:
        case RefusedError(status=status) if status != 429 and status < 500:
            return drop(str(error))
        case RefusedError(wait=float(wait)):
            return retry_after(min(wait, LONGEST_WAIT))
        case RefusedError() | DeadlineExceeded() | httpx.TransportError():
            return retry_with_backoff()
    return drop(f"{type(error).__name__}: {error}")


def _seconds(retry_after: str | None) -> float | None:
    """The header Retry-After: seconds, or a date. None when there is none, or it makes no sense."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
