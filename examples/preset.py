"""Preset: envelopes that are sent before the start run when the queue starts.

A program may fill its queue while it is still being set up. Nothing runs yet and nothing is lost; what is sent twice
merges into what is there; at the start all of it runs in order, a higher priority first.
"""

from __future__ import annotations

from rate_envelope_queue import Context, Envelope, EnvelopeQueue


def greet(ctx: Context, envelope: Envelope[str]) -> None:
    """Do the work: the payload says for whom."""
    print(f"  hello, {envelope.payload} (attempt {ctx.attempt})")


def main() -> None:
    """Send, look, start, wait, stop."""
    queue = EnvelopeQueue("preset", workers=1)
    guests = [Envelope.once(greet, name, deadline=1) for name in ("Ann", "Ben", "Cleo")]
    print("new entries:", queue.send(*guests))
    print("the same again:", queue.send(guests[0]))
    print("a VIP:", queue.send(Envelope.once(greet, "the Queen", deadline=1, priority=10)))
    print(f"before the start: state={queue.state.value} buffered={queue.stats().buffered}")

    queue.start()
    queue.join()  # until no one-off is left
    report = queue.stop()

    stats = queue.stats()
    print(f"after the stop: state={report.state.value} succeeded={stats.succeeded} kept={len(report.kept)}")


if __name__ == "__main__":
    main()
