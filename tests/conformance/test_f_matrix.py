"""Section F, line 51: every combination of endings, against a table written by hand."""

from __future__ import annotations

import pytest

from rate_envelope_queue import Envelope, StopEnvelope

from .harness import cooperative_only
from .running import marks, marks_and_raises, run_once

BEFORE = ["ok", "error", "stop"]
INVOKE = ["ok", "error", "stop", "late"]
AFTER = ["none", "ok", "error", "stop"]

# (before, invoke): what is called until the after hook's turn, how the run stands, whether after is called.
MIDDLE = {
    ("ok", "ok"): (["before", "invoke"], "succeeded", True),
    ("ok", "late"): (["before", "invoke"], "succeeded", True),
    ("ok", "error"): (["before", "invoke"], "failed", False),
    ("ok", "stop"): (["before", "invoke"], "stopped", True),
    **{("error", invoke): (["before"], "failed", False) for invoke in INVOKE},
    **{("stop", invoke): (["before"], "stopped", True) for invoke in INVOKE},
}


def expected(before, invoke, after, periodic, middle=MIDDLE):
    """The calls in order, how the run ended, and the entry's outcome (None: the periodic goes on)."""
    calls, ended, after_is_called = middle[before, invoke]
    calls = list(calls)
    if after != "none" and after_is_called:
        calls.append("after")
        if after == "stop":
            ended = "stopped"
    if ended == "succeeded":
        calls.append("success")
    if ended == "failed" and not periodic:
        calls.append("failure")
    if ended == "stopped":
        return calls, ended, "stopped"
    if periodic:
        return calls, ended, None
    return calls, ended, "succeeded" if ended == "succeeded" else "dropped"


def part(h, label, ending):
    """A function that marks *label* and ends in the way named."""
    if ending == "none":
        return None
    if ending == "ok":
        return marks(h, label)
    if ending == "late":

        def late(ctx, envelope):
            h.mark(label)
            ctx.wait()
            h.work(ctx, 0.1)

        return late
    return marks_and_raises(h, label, StopEnvelope if ending == "stop" else ValueError)


def test_f51_the_table_is_whole():
    """F51: every combination of before {ok, error, stop} x invoke {ok, error, stop, late} is in the table."""
    assert set(MIDDLE) == {(before, invoke) for before in BEFORE for invoke in INVOKE}


@cooperative_only(see="test_asyncio_matrix")
@pytest.mark.parametrize("periodic", [False, True], ids=["one-off", "periodic"])
@pytest.mark.parametrize("after", AFTER, ids=lambda ending: f"after {ending}")
@pytest.mark.parametrize("invoke", INVOKE, ids=lambda ending: f"invoke {ending}")
@pytest.mark.parametrize("before", BEFORE, ids=lambda ending: f"before {ending}")
def test_f51_every_combination(h, before, invoke, after, periodic):
    """F51: every combination of before {ok, error, stop} x invoke {ok, error, stop, late} x after {none, ok, error,
    stop}: enumerated."""
    envelope = Envelope(
        part(h, "invoke", invoke),
        interval=h.s(1000) if periodic else None,
        deadline=h.s(5),
        before_hook=part(h, "before", before),
        after_hook=part(h, "after", after),
        success_hook=marks(h, "success"),
        failure_hook=marks(h, "failure"),
    )
    queue, seen, report = run_once(h, envelope)
    calls, ended, outcome = expected(before, invoke, after, periodic)
    stats = queue.stats()
    outcomes = {name for name in ("succeeded", "stopped", "dropped", "returned", "abandoned") if getattr(stats, name)}
    assert h.labels() == calls
    assert outcomes == ({outcome} if outcome else set())
    assert report.kept == (() if outcome else (envelope,))
    assert (stats.runs_started, stats.runs_failed) == (1, int(ended == "failed"))
    assert len(seen.failed) == int(ended == "failed")
    assert len(seen.hook_failed) == int("after" in calls and after == "error")
    if outcome != "stopped":
        assert stats.late == int("invoke" in calls and invoke == "late")
