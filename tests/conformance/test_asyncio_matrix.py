"""Section F, line 51, on a loop: a handler that is late is cancelled at its deadline, and has failed."""

from __future__ import annotations

import pytest

from rate_envelope_queue import DeadlineExceeded, Envelope

from .harness import loops_only
from .running import marks, run_once
from .test_f_matrix import AFTER, BEFORE, INVOKE, MIDDLE, expected, part

CUT_OFF = {("ok", "late"): (["before", "invoke"], "failed", False)}


@loops_only
@pytest.mark.parametrize("periodic", [False, True], ids=["one-off", "periodic"])
@pytest.mark.parametrize("after", AFTER, ids=lambda ending: f"after {ending}")
@pytest.mark.parametrize("invoke", INVOKE, ids=lambda ending: f"invoke {ending}")
@pytest.mark.parametrize("before", BEFORE, ids=lambda ending: f"before {ending}")
def test_f51_every_combination(h, before, invoke, after, periodic):
    """F51: every combination of before {ok, error, stop} x invoke {ok, error, stop, cut off} x after {none, ok, error,
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
    calls, ended, outcome = expected(before, invoke, after, periodic, middle=MIDDLE | CUT_OFF)
    stats = queue.stats()
    outcomes = {name for name in ("succeeded", "stopped", "dropped", "returned", "abandoned") if getattr(stats, name)}
    assert h.labels() == calls
    assert outcomes == ({outcome} if outcome else set())
    assert report.kept == (() if outcome else (envelope,))
    assert (stats.runs_started, stats.runs_failed, stats.late) == (1, int(ended == "failed"), 0)
    assert len(seen.failed) == int(ended == "failed")
    assert len(seen.hook_failed) == int("after" in calls and after == "error")
    if before == "ok" and invoke == "late":
        assert type(seen.failed[0].error) is DeadlineExceeded
