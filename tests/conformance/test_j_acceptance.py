"""Section J: the scenario that the original runs by hand, asserted."""

from __future__ import annotations

import pytest

from rate_envelope_queue import (
    Envelope,
    QueueState,
    QueueTerminatedError,
    StopEnvelope,
    logging_stamp,
    retry_after,
)

from .harness import check_ledger
from .running import ample, gaps, marks, marks_and_raises, raises, started


def test_j71_the_mixed_scenario(h):
    """J71: the original's mixed scenario (emails with payload update, metrics every 3 s, food every 2 s, retries after
    5 s, stop, terminate, 15 sends afterwards refused) as one asserted test."""

    def send_email(ctx, envelope):
        h.work(ctx, 0.5)
        h.mark(("email", envelope.payload["address"]))
        if ctx.attempt == 1:
            raise ConnectionError("the server is busy")

    def correct_the_address(ctx, envelope, error):
        h.mark("email failed")
        envelope.payload = {"address": "john@example.org"}
        return retry_after(h.s(5))

    email = Envelope.once(
        send_email,
        payload={"address": "@example.org"},
        id=1,
        type="email",
        deadline=ample(h, 3),
        before_hook=marks(h, "email before"),
        after_hook=raises(ValueError),
        success_hook=marks(h, "email success"),
        failure_hook=correct_the_address,
        stamps=[logging_stamp()],
    )
    goodbye = Envelope.every(h.s(5), marks(h, "goodbye"), id=1, type="email", after_hook=raises(StopEnvelope))
    metrics = Envelope.every(h.s(3), marks(h, "metrics"), id=2, type="metrics", success_hook=marks(h, "measured"))
    broken = Envelope.once(
        marks_and_raises(h, "broken", ValueError), id=2, type="metrics", after_hook=marks(h, "never")
    )
    food = Envelope.every(h.s(2), marks(h, "food"), id=3, type="food", before_hook=marks(h, "cook"))

    queue = started(h, workers=5)
    assert queue.send(email, metrics, food, email, goodbye, broken) == 5
    report = queue.stop()
    assert set(report.kept) == {email, metrics, food}
    assert (report.dropped, queue.stats().stopped) == (1, 1)
    assert h.labels().count("email failed") == 1

    h.pass_time(1)
    before_restart = len(h.log)
    queue.start()
    h.until(lambda: len(h.times("food")) >= 5 and len(h.times("metrics")) >= 4 and h.times("email success"))
    report = queue.stop()
    assert set(report.kept) == {metrics, food}

    assert h.times(("email", "@example.org"))[0] == h.about(0.5)
    assert h.times("email success")[0] - h.times("email failed")[0] == h.about(5.5)
    assert [label for label in h.labels() if label[0] == "email"] == [
        ("email", "@example.org"),
        ("email", "john@example.org"),
    ]
    for label, interval in (("metrics", 3), ("food", 2)):
        between = gaps(h.times(label))
        assert between == [h.about(interval)] * len(between)
    assert len(h.times("measured")) == len(h.times("metrics"))
    assert len(h.times("cook")) == len(h.times("food"))
    assert h.labels().count("goodbye") == h.labels().count("broken") == 1
    assert "never" not in h.labels()
    assert len(h.log) > before_restart

    assert set(queue.terminate().returned) == {metrics, food}
    ran = len(h.log)
    for envelope in [email, metrics, food] * 5:
        with pytest.raises(QueueTerminatedError):
            queue.send(envelope)
    h.pass_time(10)
    stats = queue.stats()
    assert len(h.log) == ran
    assert (queue.state, len(queue)) == (QueueState.TERMINATED, 0)
    assert (stats.accepted, stats.succeeded, stats.stopped, stats.dropped, stats.returned) == (5, 1, 1, 1, 2)
    check_ledger(queue)
