"""Combined: two kinds of one-off and a periodic in one queue, with stamps, a start rate and dead letters.

Each kind of work is an `EnvelopeType`: its policy is written once and shared. A queue stamp notes all that runs; an
SMS has a stamp of its own. No more than 40 runs start per second. What was dropped waits among the dead letters, and is
sent again when its cause is mended.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from rate_envelope_queue import Context, Envelope, EnvelopeQueue, EnvelopeType, drop
from rate_envelope_queue.envelope import Invoker

START_RATE = 40.0
runs: list[str] = []
closed_mailboxes = {"ben@example.org"}


def noted(next: Invoker) -> Invoker:
    """A stamp: note the type of each call. It is called on several threads, and `append` is atomic."""

    def invoke(ctx: Context, envelope: Envelope[Any]) -> Any:
        runs.append(envelope.type)
        return next(ctx, envelope)

    return invoke


def shortened(next: Invoker) -> Invoker:
    """A stamp: an SMS has at most 20 characters."""

    def invoke(ctx: Context, envelope: Envelope[str]) -> Any:
        envelope.payload = envelope.payload[:20]
        return next(ctx, envelope)

    return invoke


def send_mail(ctx: Context, envelope: Envelope[str]) -> None:
    """Deliver, unless the mailbox is closed."""
    if envelope.payload in closed_mailboxes:
        raise PermissionError(f"{envelope.payload} is closed")


mail = EnvelopeType("mail", invoke=send_mail, deadline=1, failure_hook=lambda ctx, envelope, error: drop(str(error)))
sms = EnvelopeType("sms", invoke=lambda ctx, envelope: print("  sms:", envelope.payload), stamps=[shortened])
pulse = EnvelopeType("pulse", invoke=lambda ctx, envelope: None, interval=0.05, deadline=0.05)


def main() -> None:
    """Send all kinds, mend what failed, and send the dead letters again."""
    logging.basicConfig(level=logging.CRITICAL)  # failed runs are logged, with their traceback: not wanted here
    queue = EnvelopeQueue("combined", workers=4, stamps=[noted], start_rate=START_RATE)
    with queue:
        started_at = queue.clock.now()
        queue.send(pulse.envelope(None))
        queue.send(*(mail.envelope(f"{name}@example.org") for name in ("ann", "ben", "cleo")))
        queue.send(*(sms.envelope(f"message {number} of the day, at length") for number in range(8)))
        queue.join()
        letters = queue.clear_dead_letters()
        print("dead letters:", [letter.reason for letter in letters])
        closed_mailboxes.clear()
        queue.send(*(letter.envelope for letter in letters))
        queue.join()
        count = Counter(runs)
        elapsed = queue.clock.now() - started_at
        stats = queue.stats()
        queue.clear()  # else the pulse would be kept for the next start
    print(f"runs: mail {count['mail']}, sms {count['sms']}, pulse at least 2: {count['pulse'] >= 2}")
    print(f"start rate kept: {elapsed >= (count.total() - 1) / START_RATE}")
    print(f"succeeded: {stats.succeeded}, dropped: {stats.dropped}, dead letters left: {len(queue.dead_letters())}")


if __name__ == "__main__":
    main()
