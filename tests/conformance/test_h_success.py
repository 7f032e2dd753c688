"""Section H: when the success hook is called."""

from __future__ import annotations

import pytest

from rate_envelope_queue import Envelope

from .running import marks, raises, run_once

pytestmark = pytest.mark.parametrize("interval", [None, 1000], ids=["one-off", "periodic"])


def calls(h, interval, **functions):
    """Run it once; what was called, and the queue."""
    functions = {"invoke": marks(h, "invoke"), "success_hook": marks(h, "success"), **functions}
    queue, _, _ = run_once(h, Envelope(interval=interval, **functions))
    return h.labels(), queue


def test_h62_after_a_success_it_is_called(h, interval):
    """H62: handler ok -> called."""
    called, queue = calls(h, interval)
    assert called == ["invoke", "success"]
    assert queue.stats().runs_succeeded == 1


def test_h63_after_a_before_hook_that_failed_it_is_not(h, interval):
    """H63: before error -> no."""
    called, queue = calls(h, interval, before_hook=raises(ValueError))
    assert called == []
    assert queue.stats().runs_failed == 1


def test_h64_after_an_invoke_that_failed_it_is_not(h, interval):
    """H64: invoke error -> no."""
    called, queue = calls(h, interval, invoke=raises(ValueError))
    assert called == []
    assert queue.stats().runs_failed == 1


def test_h65_after_an_after_hook_that_failed_it_is(h, interval):
    """H65: after error -> yes."""
    called, queue = calls(h, interval, after_hook=raises(ValueError))
    assert called == ["invoke", "success"]
    assert queue.stats().runs_succeeded == 1
