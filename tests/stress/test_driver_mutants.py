"""The histories find what they are for: with a fault in a copy of the drivers comes a round that nothing explains.

A mutant is a copy of the package in which a call is no longer one step. Rounds are played on it in a process of its
own, up to the first that fails.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mutating import ROOT, Changes, check_of, copy_of_package, environment_of

FRONT, CONTROL, LOOP_WORKERS = "drivers/front.py", "drivers/control.py", "drivers/aio/workers.py"
BUDGET = 15.0  # seconds; the hardest need some 2, and most a tenth of one


@dataclass(frozen=True)
class Mutant:
    """*changes* are (file, what is there once, what comes instead)."""

    name: str
    changes: Changes
    kind: str = "threads"


CANCEL = "return self._call(self._machine.cancel, key)"
LOOKS = "found = self._call(self._machine.entries.__contains__, key)\n        "
TAKES = "self._call(self._machine.cancel, key)\n        return found"
BEGINS = (
    "from threading import Thread\n        Thread(target=self._call, args=(self._machine.cancel, key)).start()\n"
    "        return found"
)
STATS = "return self._call(self._machine.stats)"
TWICE = (
    "from dataclasses import replace\n        first, second = (self._call(self._machine.stats) for _ in range(2))\n"
    "        return replace(second, accepted=first.accepted, occupancy=first.occupancy)"
)
CLEAR = "return self._call(self._machine.clear)"
LISTS = (
    "listed = [view.envelope for view in self.snapshot() if view.phase != 'running']\n"
    "        self._call(self._machine.clear)\n        return listed"
)

MUTANTS = (
    Mutant(
        "a send without the lock",
        (
            (FRONT, "self._acquire()\n            if not machine.is_busy:", "if not machine.is_busy:"),
            (FRONT, "self._release()\n        except (AttributeError", "pass\n        except (AttributeError"),
        ),
    ),
    Mutant("stats read in two sections", ((FRONT, STATS, TWICE),)),
    Mutant("a cancel that looks before it takes", ((FRONT, CANCEL, LOOKS + TAKES),)),
    Mutant("a cancel that answers before it has happened", ((FRONT, CANCEL, LOOKS + BEGINS),)),
    Mutant("a clear that lists before it takes", ((FRONT, CLEAR, LISTS),), kind="asyncio"),
    Mutant(
        "a worker that is in a hurry",
        (
            (LOOP_WORKERS, "        acquire()\n        machine.is_busy", "        machine.is_busy"),
            (LOOP_WORKERS, "            release()\n        if fault", "        if fault"),
        ),
        kind="asyncio",
    ),
    Mutant(
        "a stop that does not wait", ((CONTROL, "return None if waits else report, waiter", "return report, waiter"),)
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_the_histories_find(tmp_path: Path, mutant: Mutant) -> None:
    """I-20: A driver with this fault does not get through."""
    copy_of_package(tmp_path, mutant.changes)
    program = f"{check_of(tmp_path)}; import sys; from tests.stress.histories import main; sys.exit(main())"
    run = subprocess.run(
        [sys.executable, "-c", program, "--kind", mutant.kind, "--seconds", str(BUDGET)],
        cwd=ROOT, env=environment_of(tmp_path), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout[:11]) == (1, "found after"), f"it survives\n{run.stdout}{run.stderr}"
