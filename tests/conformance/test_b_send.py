"""Section B: what a send takes, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue import CapacityExceededError, Envelope, InvalidEnvelopeError

from .harness import Harness


def noop(ctx: Any, envelope: Any) -> None: ...


NO_ENVELOPES = [None, 1, "envelope", object(), noop, Envelope]


@pytest.mark.parametrize("bad", NO_ENVELOPES)
def test_b6_send_what_is_no_envelope(h: Harness, bad: Any) -> None:
    """B6: send(None) or a non-envelope -> InvalidEnvelopeError, in INIT and while running."""
    queue = h.queue()
    for _ in range(2):
        with pytest.raises(InvalidEnvelopeError):
            queue.send(bad)
        with pytest.raises(InvalidEnvelopeError):
            queue.send_wait(bad)
        with pytest.raises(InvalidEnvelopeError):
            queue.submit(bad)
        queue.start()
    assert len(queue) == 0


def test_b6_send_a_list(h: Harness) -> None:
    """B6 (CONTRACT 2): send([a, b]) says "use send(*envelopes)"."""
    queue = h.queue()
    batch: Any = [Envelope(noop), Envelope(noop)]
    with pytest.raises(InvalidEnvelopeError, match=r"send\(\*envelopes\)"):
        queue.send(batch)


@pytest.mark.parametrize("bad", NO_ENVELOPES)
def test_b7_one_bad_element(h: Harness, bad: Any) -> None:
    """B7: a batch with one bad element -> nothing admitted."""
    queue = h.queue()
    for batch in ([bad, Envelope(noop)], [Envelope(noop), bad], [Envelope(noop), bad, Envelope(noop)]):
        with pytest.raises(InvalidEnvelopeError):
            queue.send(*batch)
    assert len(queue) == 0
    assert queue.stats().accepted == 0


def test_b8_a_batch_that_does_not_fit(h: Harness) -> None:
    """B8: a batch that does not fit -> CapacityExceededError, nothing admitted, occupancy unchanged."""
    queue = h.queue(capacity=3)
    queue.send(Envelope(noop), Envelope(noop))
    with pytest.raises(CapacityExceededError) as caught:
        queue.send(Envelope(noop), Envelope(noop))
    assert (caught.value.capacity, caught.value.occupancy, caught.value.needed) == (3, 2, 2)
    assert len(queue) == 2
    assert queue.stats().accepted == 2


def test_b8_only_distinct_new_entries_count(h: Harness) -> None:
    """B8 (CONTRACT 6): a send is refused iff the distinct new entries do not fit."""
    queue = h.queue(capacity=2)
    old, new = Envelope(noop), Envelope(noop)
    assert queue.send(old) == 1
    assert queue.send(old, new, new, old) == 1
    assert len(queue) == 2
    with pytest.raises(CapacityExceededError) as caught:
        queue.send(old, Envelope(noop))
    assert caught.value.needed == 1


def test_b8_a_refused_batch_changes_nothing(h: Harness) -> None:
    """B8 (CONTRACT 6): a refused batch changes nothing, not even the due time of what is there."""
    queue = h.queue(capacity=1)
    queue.start()
    old = Envelope(h.handler("old"))
    sent_at = h.now()
    queue.send(old, delay=h.s(5))
    with pytest.raises(CapacityExceededError):
        queue.send(old, Envelope(noop))
    h.until(lambda: h.times("old"))
    assert h.times("old")[0] - sent_at == h.about(5)


def test_b8_stats_count_what_was_coalesced_and_refused(h: Harness) -> None:
    """B8: stats count what was accepted, coalesced and refused."""
    queue = h.queue(capacity=1)
    envelope = Envelope(noop)
    queue.send(envelope)
    queue.send(envelope)
    with pytest.raises(CapacityExceededError):
        queue.send(Envelope(noop))
    stats = queue.stats()
    assert (stats.accepted, stats.coalesced, stats.refused) == (1, 1, 1)


def test_b8_send_of_nothing(h: Harness) -> None:
    """B8: a send of no envelope at all makes no new entry."""
    assert h.queue().send() == 0


def test_b8_without_capacity(h: Harness) -> None:
    """B8 (CONTRACT 1): capacity=None means no limit."""
    queue = h.queue(capacity=None)
    assert queue.send(*(Envelope(noop) for _ in range(1000))) == 1000
    assert len(queue) == queue.stats().occupancy == 1000
