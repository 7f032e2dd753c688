"""The service: takes hooks in over HTTP, answers at once, and tells what becomes of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, HttpUrl

from rate_envelope_queue import CapacityExceededError, DeadLetter, QueueNotRunningError

from .deliver import Hook
from .deliveries import Deliveries, SupersededError


class NewHook(BaseModel):
    """What is posted. Of hooks with one `key` for one `url`, the receiver may get the latest only."""

    url: HttpUrl
    event: str
    body: Any
    key: str | None = None


def create_app(deliveries: Deliveries) -> FastAPI:
    """The service over *deliveries*, which start and stop with it."""
    app = FastAPI(title="webhooks", lifespan=deliveries.lifespan)
    app.add_exception_handler(CapacityExceededError, _unavailable)
    app.add_exception_handler(QueueNotRunningError, _unavailable)

    @app.post("/hooks", status_code=202)
    async def accept(new: NewHook) -> dict[str, Any]:
        hook = Hook(str(new.url), new.event, new.body, new.key)
        is_new = await deliveries.accept(hook)
        return {"id": hook.id, "coalesced": not is_new}

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        return {host: asdict(each) for host, each in deliveries.stats().items()}

    @app.get("/dead-letters")
    async def dead_letters() -> list[dict[str, Any]]:
        return [_shown(index, letter) for index, letter in deliveries.dead_letters().items()]

    @app.post("/dead-letters/{index}/retry", status_code=202)
    async def retry(index: int) -> dict[str, Any]:
        try:
            return {"id": deliveries.retry(index).id}
        except KeyError:
            raise HTTPException(404, f"there is no dead letter {index}") from None
        except SupersededError as error:
            raise HTTPException(409, str(error)) from None

    return app


def _shown(index: int, letter: DeadLetter) -> dict[str, Any]:
    return {
        "index": index,
        "hook": asdict(letter.envelope.payload),
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "at": letter.at_utc,
    }


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    """Full, or stopping: nothing was taken, and the client keeps the hook."""
    return JSONResponse({"detail": str(error)}, status_code=503, headers={"Retry-After": "1"})
