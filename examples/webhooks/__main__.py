"""The demo: a service and a difficult receiver on loopback, thousands of hooks, and a proof that none was lost."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from time import monotonic

import httpx

from rate_envelope_queue import DeadLetter

from .deliveries import Deliveries, Settings
from .receiver import Receiver
from .report import Post, Report, total
from .server import serving
from .service import create_app

HOSTS = 4
CLIENTS = 8  # a multiple of HOSTS: each client has a host, and its hooks with one key are in order
SETTINGS = Settings(rate=40, deadline=2.0, max_attempts=5, longest_backoff=2.0, stop_timeout=5.0)
INTERRUPTED = 130


class Poster:
    """The clients of the service; `posts` is what it has accepted."""

    def __init__(self, client: httpx.AsyncClient, url: str, hosts: Sequence[str], interrupted: asyncio.Event) -> None:
        self._client = client
        self._url = url
        self._hosts = hosts
        self._interrupted = interrupted
        self.posts: list[Post] = []

    async def run(self, numbers: Sequence[int]) -> None:
        """Post the hooks with these *numbers*, one after the other."""
        for number in numbers:
            if self._interrupted.is_set():
                return
            await self._post(number)

    async def _post(self, number: int) -> None:
        turn, client = divmod(number, CLIENTS)
        key = f"account-{client}-{turn // 50}" if turn % 50 >= 45 else None  # now and then five changes in a row
        url = f"{self._hosts[number % HOSTS]}/hooks"
        hook = {"url": url, "event": "changed", "body": {"number": number}, "key": key}
        began = monotonic()
        answer = await self._client.post(f"{self._url}/hooks", json=hook)
        while answer.status_code == 503:  # it is full, and says when to come again
            await asyncio.sleep(float(answer.headers["Retry-After"]))
            answer = await self._client.post(f"{self._url}/hooks", json=hook)
        accepted = answer.raise_for_status().json()
        self.posts.append(Post(accepted["id"], number, key, accepted["coalesced"], began))


async def watch(client: httpx.AsyncClient, url: str, poster: Poster, count: int, interrupted: asyncio.Event) -> None:
    """Tell each second how far it is, until everything was posted and nothing is left to do, or Ctrl-C."""
    began, is_over = monotonic(), False
    while not is_over and not interrupted.is_set():
        hosts = (await client.get(f"{url}/stats")).json().values()
        done, waiting, dead = (sum(host[name] for host in hosts) for name in ("succeeded", "occupancy", "dropped"))
        print(
            f"{monotonic() - began:5.1f} s   posted {len(poster.posts):4}   delivered {done:4}   "
            f"dead-lettered {dead:3}   waiting {waiting:4}",
            flush=True,
        )
        is_over = len(poster.posts) == count and waiting == 0
        if not is_over:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(interrupted.wait(), timeout=1.0)


async def demo(count: int, seed: int) -> int:
    """Run it; the exit code is 0 when every hook is accounted for."""
    interrupted = asyncio.Event()
    _on_interrupt(interrupted)
    receiver, deliveries = Receiver(seed), Deliveries(SETTINGS)
    async with (
        serving(receiver.app, HOSTS) as hosts,
        serving(create_app(deliveries)) as (url,),
        httpx.AsyncClient(trust_env=False, timeout=30) as client,
    ):
        poster = Poster(client, url, hosts, interrupted)
        async with asyncio.TaskGroup() as group:
            for each in range(CLIENTS):
                group.create_task(poster.run(range(each, count, CLIENTS)))
            await watch(client, url, poster, count, interrupted)
        if interrupted.is_set():
            print(f"interrupted: delivering for at most {SETTINGS.stop_timeout:g} s more", flush=True)
    report = Report(
        posts=poster.posts,
        received=receiver.received,
        retried=receiver.retried,
        dead={each.envelope.id: _reason(each) for each in deliveries.dead_letters().values()},
        left={hook.id for hook in deliveries.undelivered},
        difficulties=receiver.difficulties,
        total=total(deliveries.stats().values()),
    )
    print(f"\n{report}", flush=True)
    return 1 if report.faults else INTERRUPTED if interrupted.is_set() else 0


def _reason(letter: DeadLetter) -> str:
    """What the receiver said last, and why that was the end when it does not say so itself."""
    said = letter.error.removeprefix("RefusedError: ")
    return said if not letter.reason or letter.reason in said else f"{said} ({letter.reason})"


def _on_interrupt(interrupted: asyncio.Event) -> None:
    """The first Ctrl-C sets *interrupted*; a second one is Python's own."""
    loop = asyncio.get_running_loop()
    previous = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, previous)
        loop.call_soon_threadsafe(interrupted.set)

    signal.signal(signal.SIGINT, interrupt)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the options, and run the demo."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.webhooks",
        description="Deliver webhooks to a difficult receiver on this machine. Nothing leaves it.",
    )
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="hooks to post (2000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="chooses who meets which difficulty (1)")
    parser.add_argument("--verbose", action="store_true", help="show the log record of each failed run")
    options = parser.parse_args(arguments)
    if not options.verbose:  # the table sums them up
        logging.getLogger("rate_envelope_queue").setLevel(logging.ERROR)
        logging.getLogger("examples.webhooks").setLevel(logging.ERROR)
    return asyncio.run(demo(options.count, options.seed))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
