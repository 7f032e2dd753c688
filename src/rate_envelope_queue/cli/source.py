"""The state of queues in another process, asked for over HTTP. Whatever comes is taken for hostile until it is read."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from ..text import bounded_repr, error_text, escaped
from .options import PREFIX, UsageFault

PATIENCE = 5.0  # seconds for an answer
LARGEST_ANSWER = 8 << 20
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
MOST_QUEUES, MOST_ROWS = 50, 200


class SourceError(Exception):
    """The state could not be had; the text says why, and is safe to show."""


@dataclass(frozen=True)
class Row:
    """One thing in a list: what it is, and a few words about it."""

    type: str
    id: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class QueueState:
    """What is shown of one queue. All text is escaped and bounded."""

    name: str
    state: str
    error: str
    capacity: float | None
    stats: dict[str, float]
    rates: dict[str, float]
    running: tuple[Row, ...]
    due: tuple[Row, ...]
    dead: tuple[Row, ...]
    dead_count: float


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token to whoever it names."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """No."""


class Source:
    """The dashboard at *url*, as it is printed by `run`: with `#token=...`, or without it and with *token*."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = _parts_of(url)
        self.address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        token = parse_qs(parts.fragment).get("token", [token])[0]
        if token is not None and not (token.isascii() and token.isprintable()):
            raise UsageFault("the token has characters that no token has")
        self._headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if parts.hostname in LOOPBACK_NAMES:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def state(self) -> list[QueueState]:
        """Ask for it. Raises `SourceError`."""
        try:
            request = urllib.request.Request(f"{self.address}/api/state", headers=self._headers)
            with self._opener.open(request, timeout=PATIENCE) as answer:
                body = answer.read(LARGEST_ANSWER + 1)
        except urllib.error.HTTPError as error:
            error.close()
            raise SourceError(_refusal(error.code)) from None
        except urllib.error.URLError as error:
            reason = error.reason
            why = error_text(reason, 200) if isinstance(reason, BaseException) else escaped(str(reason), 200)
            raise SourceError(f"it cannot be reached ({why})") from None
        except (OSError, HTTPException, ValueError) as error:
            raise SourceError(f"it cannot be reached ({error_text(error, 200)})") from None
        if len(body) > LARGEST_ANSWER:
            raise SourceError("its answer is too large")
        try:
            return queues_of(json.loads(body))
        except (ValueError, RecursionError):
            raise SourceError("its answer is not the state of a dashboard") from None


def _parts_of(url: str) -> SplitResult:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # brackets, or a port that is none
        pass
    raise UsageFault(f"{escaped(url.partition('#')[0], 200)!r} is not the address of a dashboard: http://HOST:PORT")


def _refusal(code: int) -> str:
    if code in (401, 403):
        return f"it wants its token (HTTP {code}): give it as --token or in {PREFIX}TOKEN"
    if 300 <= code < 400:
        return f"it points to another address (HTTP {code}): give that one"
    return f"it answers with HTTP {code}"


def queues_of(state: object) -> list[QueueState]:
    """What a dashboard has answered, read with care. Raises ValueError when it is something else."""
    if not isinstance(state, dict) or not isinstance(state.get("queues"), list):
        raise ValueError
    return [_queue(each) for each in state["queues"][:MOST_QUEUES] if isinstance(each, dict)]


def _queue(fields: dict[str, Any]) -> QueueState:
    letters = _dict(fields.get("dead_letters"))
    return QueueState(
        name=_text(fields.get("name"), 60),
        state=_text(fields.get("state"), 20),
        error=_text(fields.get("error"), 200),
        capacity=_number(fields.get("capacity")),
        stats=_numbers(fields.get("stats")),
        rates=_numbers(fields.get("rates")),
        running=tuple(
            _row(row, f"attempt {_number(row.get('attempt')) or 1:g}", seconds_text(_number(row.get("age"))))
            for row in _rows(fields.get("running"))
        ),
        due=tuple(_row(row, f"in {seconds_text(_number(row.get('due_in')))}") for row in _rows(fields.get("due"))),
        dead=tuple(
            _row(row, _text(row.get("error"), 200), _text(row.get("reason"), 100))
            for row in _rows(letters.get("recent"))
        ),
        dead_count=_number(letters.get("count")) or 0,
    )


def _row(fields: dict[str, Any], *words: str) -> Row:
    return Row(_text(fields.get("type"), 40), _text(fields.get("id"), 40), tuple(word for word in words if word))


def _rows(value: object) -> list[dict[str, Any]]:
    return [row for row in value[:MOST_ROWS] if isinstance(row, dict)] if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _numbers(value: object) -> dict[str, float]:
    found = {str(name): _number(number) for name, number in _dict(value).items()}
    return {name: number for name, number in found.items() if number is not None}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if -1e15 < value < 1e15 and math.isfinite(value) else None


def _text(value: object, limit: int) -> str:
    if value is None:
        return ""
    return escaped(value, limit) if isinstance(value, str) else bounded_repr(value, limit)


def seconds_text(seconds: float | None) -> str:
    """As people say it."""
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
