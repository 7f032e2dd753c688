"""How to test handlers, retries and schedules without sleeping: pytest, and the fixture `simulated_queue`.

The fixture comes with the package and is found by pytest; nothing is to be imported. Its queue is the real one on a
clock that moves only when the test says so, so an hour of retries takes a millisecond and is the same every time.
"""

from __future__ import annotations

import subprocess
import sys

from rate_envelope_queue import Context, Decision, Envelope, EnvelopeQueue, EnvelopeType, retry_after
from rate_envelope_queue.testing import SimulatedEnvelopeQueue, assert_not_sent, assert_sent

# The code under test


def deliver(ctx: Context, envelope: Envelope[str]) -> str:
    """The server is asleep for the first two attempts."""
    if ctx.attempt < 3:
        raise ConnectionError("asleep")
    return f"delivered to {envelope.payload}"


def later(ctx: Context, envelope: Envelope[str], error: BaseException) -> Decision:
    """Try again in ten minutes."""
    return retry_after(600)


email = EnvelopeType("email", invoke=deliver, deadline=30, failure_hook=later)


def sign_up(queue: EnvelopeQueue, address: str) -> None:
    """Welcome a new user, whoever is ill-mannered enough to press twice included."""
    if "@" in address:
        queue.send(email.envelope(address, key=("welcome", address)))


# The tests


def test_what_is_sent() -> None:
    """A queue that was not started holds all that was sent."""
    queue = SimulatedEnvelopeQueue("test")
    sign_up(queue, "ann@example.org")
    sign_up(queue, "ann@example.org")
    sign_up(queue, "nonsense")
    assert_sent(queue, type="email", payload="ann@example.org", count=1)
    assert_not_sent(queue, payload="nonsense")


def test_retries(simulated_queue: SimulatedEnvelopeQueue) -> None:
    """Two failures, ten minutes each, then success."""
    future = simulated_queue.submit(email.envelope("ann@example.org"))
    simulated_queue.advance(1199)
    assert simulated_queue.stats().runs_failed == 2
    assert not future.done()
    simulated_queue.advance(1)
    assert future.result() == "delivered to ann@example.org"
    assert simulated_queue.clock.now() == 1200


def test_a_schedule(simulated_queue: SimulatedEnvelopeQueue) -> None:
    """Every hour, counted from the end of a run that takes five minutes."""
    times: list[float] = []

    def report(ctx: Context, envelope: Envelope[None]) -> None:
        times.append(ctx.queue.clock.now())
        ctx.wait(300)

    simulated_queue.send(Envelope.every(3600, report))
    simulated_queue.advance(3 * 3600)
    assert times == [0, 3900, 7800]


if __name__ == "__main__":
    raise SystemExit(subprocess.call([sys.executable, "-m", "pytest", "-q", __file__]))
