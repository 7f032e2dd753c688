"""All deliveries of the service: a queue for each host, and what has become of the hooks.

Why a queue for each host: its `start_rate` is then that host's, holds while the service stops, too, and a host that
hangs holds up nobody else. A limiter in the handler would have to wait in a worker, or spend an attempt and log a
failure (`RetryEnvelope`) for each hook that is merely early.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from rate_envelope_queue import AsyncEnvelopeQueue, CapacityExceededError, DeadLetter, QueueNotRunningError, QueueStats
from rate_envelope_queue.workqueue import ExponentialBackoff

from .deliver import Courier, Hook

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be chosen; times are seconds."""

    rate: float = 50.0  # deliveries started per second, for each host
    workers: int = 16  # deliveries under way at once, for each host
    capacity: int = 10_000  # hooks that wait or are under way, for each host
    max_hosts: int = 1000
    deadline: float = 5.0  # of one attempt
    max_attempts: int = 8
    first_backoff: float = 0.2
    longest_backoff: float = 60.0
    stop_timeout: float = 10.0
    dead_letters: int = 10_000  # the oldest give way


class SupersededError(Exception):
    """A later hook with the same key was accepted: delivering this one now would undo it."""


class Deliveries:
    """Takes hooks in and delivers them, from the start of `lifespan` to its end."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.queues: dict[str, AsyncEnvelopeQueue] = {}
        self.undelivered: list[Hook] = []  # what the last stop has left
        self._courier = Courier(deadline=self.settings.deadline, max_attempts=self.settings.max_attempts)
        self._is_open = False
        self._letters: dict[int, DeadLetter] = {}
        self._numbers = itertools.count()
        self._newest: WeakValueDictionary[tuple[str, str], Hook] = WeakValueDictionary()

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """For `FastAPI(lifespan=...)`. Started again, it goes on with what the last stop has left."""
        async with self._courier.open():
            for queue in self.queues.values():
                await queue.start()
            self._is_open = True
            try:
                yield
            finally:
                await self.stop()

    async def stop(self) -> None:
        """Take nothing more in, deliver what is ready for at most `stop_timeout` seconds, and say what is left."""
        self._is_open = False
        stops = [queue.stop(timeout=self.settings.stop_timeout) for queue in self.queues.values()]
        reports = await asyncio.gather(*stops)
        self.undelivered = [each.payload for report in reports for each in report.kept + report.abandoned]
        for hook in self.undelivered:
            log.warning("stopped before hook %s was delivered to %s", hook.id, hook.url)

    async def accept(self, hook: Hook) -> bool:
        """Take *hook* in; False when it took the place of one with its key, or follows one that is under way.

        Raises `CapacityExceededError` or `QueueNotRunningError`, and has then not taken it.
        """
        queue = await self._queue(_host(hook.url))
        key = None if hook.key is None else (hook.url, hook.key)
        is_new = queue.send(self._courier.kind.envelope(hook, id=hook.id, key=key)) == 1
        if key is not None:
            previous = self._newest.get(key)  # not there: delivered, and forgotten
            if previous is not None:
                previous.superseded = True
            self._newest[key] = hook
        return is_new

    async def _queue(self, host: str) -> AsyncEnvelopeQueue:
        if not self._is_open:
            raise QueueNotRunningError("the service is stopping")
        if host in self.queues:
            return self.queues[host]
        settings = self.settings
        if len(self.queues) >= settings.max_hosts:
            raise CapacityExceededError(settings.max_hosts, len(self.queues), 1)
        queue = self.queues[host] = AsyncEnvelopeQueue(
            host,
            workers=settings.workers,
            capacity=settings.capacity,
            start_rate=settings.rate,
            backoff=ExponentialBackoff(settings.first_backoff, settings.longest_backoff),
            duplicates="replace",  # of hooks with one key the latest counts
            dead_letter_limit=settings.dead_letters,
        )
        await queue.start()
        return queue

    def stats(self) -> Mapping[str, QueueStats]:
        """The statistics of each host's queue."""
        return {host: queue.stats() for host, queue in self.queues.items()}

    def dead_letters(self) -> Mapping[int, DeadLetter]:
        """What was given up, by a number that stays the same."""
        for letter in (letter for queue in self.queues.values() for letter in queue.clear_dead_letters()):
            self._letters[next(self._numbers)] = letter
        while len(self._letters) > self.settings.dead_letters:
            del self._letters[next(iter(self._letters))]
        return self._letters

    def retry(self, number: int) -> Hook:
        """Give the dead letter *number* another chance. Raises `KeyError`, `SupersededError`, or as `accept`."""
        letter = self.dead_letters()[number]
        hook: Hook = letter.envelope.payload
        if hook.superseded:
            raise SupersededError(f"a later hook with the key {hook.key!r} was accepted")
        self.queues[_host(hook.url)].send(letter.envelope)
        del self._letters[number]
        return hook


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]
