"""Dynamic: one-off envelopes sent at run time, and a failure hook that decides what follows a failure.

Four pages are fetched from a pretended web. The failure hook tries a lost connection again later (`retry_after`),
sends another one to a mirror by updating the payload and tries that at once (`retry_now`), and gives up on a page that
does not exist (`drop`), which makes it a dead letter.
"""

from __future__ import annotations

import logging
from concurrent.futures import wait
from dataclasses import dataclass, replace

from rate_envelope_queue import Context, Decision, Envelope, EnvelopeQueue, drop, retry_after, retry_now


@dataclass(frozen=True, slots=True)
class Page:
    """What is to be fetched, and from where."""

    path: str
    host: str = "main"


def fetch(ctx: Context, envelope: Envelope[Page]) -> str:
    """The pretended web: one page is there, one flickers, one is only on the mirror, one nowhere."""
    page = envelope.payload
    if page.path == "/flickers" and ctx.attempt == 1:
        raise ConnectionError("connection lost")
    if page.path == "/moved" and page.host == "main":
        raise PermissionError("ask the mirror")
    if page.path == "/missing":
        raise LookupError("404")
    return f"{page.path} from {page.host}, attempt {ctx.attempt}"


def decide(ctx: Context, envelope: Envelope[Page], error: BaseException) -> Decision:
    """What follows a failed run."""
    if isinstance(error, ConnectionError):
        decision = retry_after(0.2)
    elif isinstance(error, PermissionError):
        envelope.payload = replace(envelope.payload, host="mirror")
        decision = retry_now()
    else:
        decision = drop("there is no such page")
    print(f"  {envelope.payload.path} failed ({error}): {decision!r}")
    return decision


def main() -> None:
    """Send while the queue runs, and wait for the outcomes."""
    logging.basicConfig(level=logging.CRITICAL)  # failed runs are logged, with their traceback: not wanted here
    with EnvelopeQueue("dynamic", workers=1) as queue:
        pages = [Page("/there"), Page("/flickers"), Page("/moved"), Page("/missing")]
        futures = [queue.submit(Envelope.once(fetch, page, deadline=1, failure_hook=decide)) for page in pages]
        wait(futures, timeout=10)
    for page, future in zip(pages, futures, strict=True):
        error = future.exception(timeout=0)
        print(f"{page.path}: {error!r}" if error else f"got {future.result()}")
    for letter in queue.dead_letters():
        print(f"dead letter: {letter.envelope.payload.path}, {letter.error}, {letter.reason}")
    stats = queue.stats()
    print(f"runs: {stats.runs_started}, succeeded: {stats.succeeded}, dropped: {stats.dropped}")


if __name__ == "__main__":
    main()
