"""Scheduled: periodic envelopes, with an interval, a deadline and hooks.

A heartbeat beats until the program ends; a failed beat is one failed beat, and the next one comes all the same. A
countdown ends itself: it raises `StopEnvelope`, and is never scheduled again.
"""

from __future__ import annotations

import logging
import threading
from itertools import pairwise

from rate_envelope_queue import Context, Envelope, EnvelopeQueue, StopEnvelope

ENOUGH = 5  # beats
enough = threading.Event()


def beat(ctx: Context, envelope: Envelope[list[float]]) -> None:
    """Write down when it beats. The second beat fails."""
    beats = envelope.payload
    beats.append(ctx.queue.clock.now())
    print(f"  beat {len(beats)}, {ctx.remaining():.1f} s left")
    if len(beats) == 2:
        raise ConnectionError("nobody heard it")
    if len(beats) == ENOUGH:
        enough.set()


def count_down(ctx: Context, envelope: Envelope[int]) -> None:
    """Count down to 0, and no further."""
    if envelope.payload == 0:
        raise StopEnvelope("lift-off")
    print(f"  {envelope.payload} ...")
    envelope.payload -= 1


def main() -> None:
    """Send two periodics and wait until the heart has beaten long enough."""
    logging.basicConfig(level=logging.CRITICAL)  # a failed run is logged, with its traceback: not wanted here
    beats: list[float] = []
    before: list[int] = []
    after: list[int] = []
    success: list[int] = []
    heart = Envelope.every(
        0.2,
        beat,
        payload=beats,
        type="heartbeat",
        deadline=0.2,
        before_hook=lambda ctx, envelope: before.append(ctx.attempt),
        after_hook=lambda ctx, envelope: after.append(ctx.attempt),
        success_hook=lambda ctx, envelope: success.append(ctx.attempt),
    )
    countdown = Envelope.every(0.05, count_down, payload=3, type="countdown")
    with EnvelopeQueue("scheduled", workers=1) as queue:
        queue.send(heart, countdown)
        enough.wait(timeout=10)
        print("still scheduled:", [view.envelope.type for view in queue.snapshot()])
        queue.clear()  # else the heartbeat would be kept for the next start
    gaps = [later - earlier for earlier, later in pairwise(beats)]
    print(f"beats: {len(beats)}, shortest gap {min(gaps):.2f} s")
    print(f"hooks: before {len(before)}, after {len(after)}, success {len(success)}")
    print(f"attempts seen by the before hook: {before[:4]}")
    stats = queue.stats()
    print(f"failed runs: {stats.runs_failed}, stopped: {stats.stopped}, left in the queue: {len(queue)}")


if __name__ == "__main__":
    main()
