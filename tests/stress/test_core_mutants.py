"""The programs find what they are for: each fault, put into a copy of the core, is found by them soon.

A mutant is a copy of the package with a line or two changed; the programs of the dice are played on it in a process of
its own, up to the first that fails. They need some 10 programs in the mean, and the hardest mutant 100.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutating import ROOT, check_of, copy_of_package, environment_of

from .core_mutants import MUTANTS, Mutant

BUDGET = 1000  # programs: ten times what the hardest need in the mean


def played(path: Path, programs: int) -> subprocess.CompletedProcess[str]:
    """The programs, on the copy in *path*."""
    play = f"import sys; from tests.property.programs import main; sys.exit(main(0, {programs}))"
    return subprocess.run(
        [sys.executable, "-c", f"{check_of(path)}; {play}"],
        cwd=ROOT, env=environment_of(path), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_the_programs_find(tmp_path: Path, mutant: Mutant) -> None:
    """I-1 to I-10, I-15, I-16, I-19: a core with this fault does not get through."""
    copy_of_package(tmp_path, mutant.changes)
    run = played(tmp_path, BUDGET)
    assert (run.returncode, run.stdout[:12]) == (1, "failed after"), f"it survives\n{run.stdout}{run.stderr}"


def test_the_programs_find_nothing_in_a_true_copy(tmp_path: Path) -> None:
    """It is the mutation that is found, not the copy."""
    copy_of_package(tmp_path, ())
    run = played(tmp_path, 50)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_mutant_that_is_out_of_date_says_so(tmp_path: Path) -> None:
    """A mutant whose line is no longer there, or is there twice, would show nothing."""
    with pytest.raises(AssertionError, match=r"out of date: core/machine\.py has 0 times"):
        copy_of_package(tmp_path, (("core/machine.py", "no such line", ""),))
