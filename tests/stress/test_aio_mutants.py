"""The torture finds what it is for: each rule of cancellation, taken out of a copy of the package, is missed by it.

A mutant is a copy of the package with a line or two changed. The torture plays it in a process of its own, and must
find a violation (1) or a loop that hangs (3) within a small budget.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mutating import ROOT, Changes, check_of, copy_of_package, environment_of

CANCELS, DEADLINES = "drivers/aio/cancels.py", "drivers/aio/deadlines.py"
WORKERS, PARKING, QUEUE = "drivers/aio/workers.py", "drivers/parking.py", "drivers/aio/queue.py"
UNTIL_312 = "from 3.13 on a count of 0 takes a pending cancellation with it"


@dataclass(frozen=True)
class Mutant:
    """*changes* are (file, what is there once, what comes instead); *dying* is for which part the loop shuts down."""

    name: str
    changes: Changes
    dying: float = 0.0
    until: str = ""  # why newer Pythons do without the rule


MUTANTS = (
    Mutant("no_absorb", ((CANCELS, "if task._must_cancel:", "if False:"),), until=UNTIL_312),
    Mutant("no_uncancel", ((CANCELS, "while task.cancelling():", "while False:"),)),
    Mutant("all_cancels_are_ours", ((CANCELS, "elif self.is_given_up or self.crew.is_dying:", "elif True:"),)),
    Mutant(
        "fired_is_not_reset",
        (
            (
                CANCELS,
                "            self.is_disturbed = self.is_fired = self.is_given_up = False",
                "            self.is_disturbed = self.is_given_up = False",
            ),
        ),
    ),
    Mutant(
        "a_millisecond_early",
        (
            (DEADLINES, "now = self._clock()  #", "now = self._clock() + 0.001  #"),
            (DEADLINES, "nearest - self._clock()", "nearest - self._clock() - 0.001"),
        ),
    ),
    Mutant("the_limit_is_kept", ((CANCELS, "self.limit_at = inf\n        super().close()", "super().close()"),)),
    Mutant("no_deadline", ((DEADLINES, "runner.task.cancel()", "pass"),)),
    Mutant("no_guard", ((WORKERS, "if self._guard is None:", "if False:"),), dying=1.0),
    Mutant("the_guard_tells_too_late", ((CANCELS, "self.crew.is_dying = True", "pass"),), dying=1.0),
    Mutant(
        "a_wake_is_not_handed_on",
        ((PARKING, "self.is_waking = False  # the time came", "pass  # the time came"),),
    ),
    Mutant(
        "users_cancellation_is_a_deadline",
        ((CANCELS, "else:\n            return error", 'else:\n            ours = DeadlineExceeded("")'),),
    ),
    Mutant(
        "users_own_error_is_a_deadline",
        (
            (CANCELS, "if not self.is_disturbed or not is_a(", "if not is_a("),
            (CANCELS, "if self.is_fired and", "if (self.is_fired or not self.is_disturbed) and"),
        ),
    ),
    Mutant(
        "users_timeout_is_ours",
        ((CANCELS, "is_a(error, CancelledError)", "is_a(error, (CancelledError, TimeoutError))"),),
    ),
    Mutant("a_stop_cancels_nothing", ((QUEUE, "runner.is_given_up = True", "continue"),)),
    Mutant("a_stop_is_not_noted", ((QUEUE, "runner.is_given_up = True", "pass"),)),
    Mutant("no_look_after_the_verdict", ((WORKERS, "if runner.is_disturbed:  # by an observer,", "if False:  #"),)),
    Mutant("no_look_after_delivery", ((WORKERS, "if runner.is_disturbed:  # by an observer\n", "if False:\n"),)),
    Mutant("a_worker_is_lost_at_the_start", ((WORKERS, "self.serve(task.runner, task.get_name())", "pass"),)),
    Mutant("a_worker_that_rests_is_cancelled", ((WORKERS, "except CancelledError:  # not", "except OSError:  #"),)),
    Mutant(
        "a_thread_is_left_and_not_noted",
        (
            (
                WORKERS,
                "if runner.job is not None:\n                            ",
                "if False:\n                            ",
            ),
        ),
        dying=1.0,
    ),
)


def torture(path: Path, dying: float, patience: str) -> subprocess.CompletedProcess[str]:
    """Play with the copy in *path*."""
    play = "import sys; from tests.stress.aio_torture import main; sys.exit(main())"
    options = ["--runs", "1500", "--patience", patience, "--dying", str(dying)]
    return subprocess.run(
        [sys.executable, "-c", f"{check_of(path)}; {play}", *options],
        cwd=ROOT, env=environment_of(path), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_torture_finds(tmp_path: Path, mutant: Mutant) -> None:
    """3, 7 and 9: Without one of the rules, the torture finds a violation or a hang."""
    if mutant.until and sys.version_info >= (3, 13):
        pytest.skip(mutant.until)
    copy_of_package(tmp_path, mutant.changes)
    played = torture(tmp_path, mutant.dying, "2.5")
    assert played.returncode in (1, 3), played.stdout + played.stderr
    assert "violations" in played.stdout or "hung" in played.stdout, played.stdout + played.stderr


def test_the_torture_finds_nothing_in_a_true_copy(tmp_path: Path) -> None:
    """3, 7 and 9: It is the mutation that is found, not the copy."""
    copy_of_package(tmp_path, ())
    played = torture(tmp_path, 0.25, "20")
    assert played.returncode == 0, played.stdout + played.stderr
