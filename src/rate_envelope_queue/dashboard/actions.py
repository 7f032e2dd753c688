"""What the page may do to a queue, when it was made with `allow_actions=True`. Each is written to the log.

An action takes exactly the arguments that it names. It calls one public method of the queue, in a thread or on the
queue's own loop, since observers and callbacks of the user's may be called by it.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Mapping
from inspect import isawaitable
from typing import Any

from .. import EnvelopeQueue, EnvelopeQueueError, StopMode
from ..text import error_text, escaped
from .board import Desk

log = logging.getLogger("rate_envelope_queue.dashboard")

PATIENCE = 10.0  # seconds for one action
MOST_A_SECOND = 20  # actions


class RefusedError(Exception):
    """The action was not done; the message says why, `status` is for HTTP."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def _pause(desk: Desk) -> str:
    desk.queue.pause()
    return "paused"


def _resume(desk: Desk) -> str:
    desk.queue.resume()
    return "resumed"


def _resize(desk: Desk, *, workers: Any) -> str:
    desk.queue.resize(workers)
    return f"{workers} workers"


def _start(desk: Desk) -> Any:
    return desk.queue.start() or "started"


def _stop(desk: Desk, *, mode: Any = None, timeout: Any = None) -> Any:
    wanted = None if mode is None else StopMode(mode)
    return desk.queue.stop(wanted, wait=False, timeout=timeout)


def _cancel(desk: Desk, *, entry: Any) -> str:
    envelope = desk.views.entries.find(entry) if type(entry) is int else None
    if envelope is None or not desk.queue.cancel(envelope):
        raise RefusedError(404, "that entry is no longer in the queue")
    return "cancelled"


def _retry(desk: Desk, *, letter: Any) -> str:
    found = desk.views.letters.find(letter) if type(letter) is int else None
    if found is None or not desk.queue.retry_dead_letter(found):
        raise RefusedError(404, "that dead letter is no longer there")
    return "sent again"


def _clear_dead_letters(desk: Desk) -> str:
    return f"{len(desk.queue.clear_dead_letters())} dead letters cleared"


# Each with the arguments that it must have and those that it may have.
ACTIONS: dict[str, tuple[Callable[..., Any], frozenset[str], frozenset[str]]] = {
    "pause": (_pause, frozenset(), frozenset()),
    "resume": (_resume, frozenset(), frozenset()),
    "resize": (_resize, frozenset({"workers"}), frozenset()),
    "start": (_start, frozenset(), frozenset()),
    "stop": (_stop, frozenset(), frozenset({"mode", "timeout"})),
    "cancel": (_cancel, frozenset({"entry"}), frozenset()),
    "retry": (_retry, frozenset({"letter"}), frozenset()),
    "clear_dead_letters": (_clear_dead_letters, frozenset(), frozenset()),
}


class Actions:
    """Carries actions out. *loop* is that of asyncio queues, None when it is the one that the page is served on."""

    def __init__(self, loop: AbstractEventLoop | None, *, is_elsewhere: bool) -> None:
        self._loop = loop
        self._is_elsewhere = is_elsewhere
        self._lately: deque[float] = deque(maxlen=MOST_A_SECOND)

    async def carry_out(self, desk: Desk, name: str, arguments: Mapping[str, Any], client: str) -> str:
        """Do it, and say what was done. `RefusedError` when it could not be."""
        result = "failed"
        try:
            result = await self._try(desk, name, arguments)
        except RefusedError as error:
            result = f"refused: {error}"
            raise
        finally:
            log.warning(
                "dashboard: %s of queue %s, asked for by %s with %s: %s",
                escaped(name, 50), escaped(desk.queue.name), escaped(client, 100), _shown(arguments), result,
                extra={
                    "dashboard_action": escaped(name, 50), "dashboard_queue": escaped(desk.queue.name),
                    "dashboard_client": escaped(client, 100), "dashboard_result": result,
                },
            )  # fmt: skip
        return result

    async def _try(self, desk: Desk, name: str, arguments: Mapping[str, Any]) -> str:
        if name not in ACTIONS:
            raise RefusedError(404, f"there is no action {escaped(name, 50)}")
        action, needed, optional = ACTIONS[name]
        if not needed <= arguments.keys() <= needed | optional:
            raise RefusedError(422, f"{name} takes {sorted(needed | optional) or 'no arguments'}")
        self._count()
        try:
            done = await asyncio.wait_for(self._call(desk, action, arguments), PATIENCE)
        except TimeoutError as error:
            if isinstance(error, EnvelopeQueueError):
                raise RefusedError(409, str(error)) from None
            raise RefusedError(504, f"not done within {PATIENCE:g} seconds; it may still be") from None
        except EnvelopeQueueError as error:
            raise RefusedError(409, error_text(error, 300)) from None
        except (TypeError, ValueError) as error:
            raise RefusedError(422, error_text(error, 300)) from None
        state = getattr(done, "state", None)
        return f"the queue is {state.value}" if state is not None else str(done or "done")

    def _count(self) -> None:
        now, lately = asyncio.get_running_loop().time(), self._lately
        if len(lately) == MOST_A_SECOND and now - lately[0] < 1.0:
            raise RefusedError(429, "too many actions: wait a second")
        lately.append(now)

    async def _call(self, desk: Desk, action: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        if isinstance(desk.queue, EnvelopeQueue):
            return await asyncio.to_thread(action, desk, **arguments)
        if not self._is_elsewhere or self._loop is asyncio.get_running_loop():
            return await _awaited(action, desk, arguments)
        if self._loop is not None and not self._loop.is_closed():
            future = asyncio.run_coroutine_threadsafe(_awaited(action, desk, arguments), self._loop)
            return await asyncio.wrap_future(future)
        if action in (_start, _stop):
            raise RefusedError(409, "its event loop is not known: give it to serve() as loop=")
        return await asyncio.to_thread(action, desk, **arguments)


async def _awaited(action: Callable[..., Any], desk: Desk, arguments: Mapping[str, Any]) -> Any:
    done: Any = action(desk, **arguments)
    return await done if isawaitable(done) else done


def _shown(arguments: Mapping[str, Any]) -> str:
    return escaped(", ".join(f"{name}={value!r}" for name, value in list(arguments.items())[:5]) or "no arguments", 200)
