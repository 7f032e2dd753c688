"""The examples, run as their readers run them: each prints the facts it promises, and ends by itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "__init__")

# What each one must print, as regular expressions that each match a whole line or a part of one.
FACTS = {
    "preset": [
        r"^new entries: 3$",
        r"^the same again: 0$",
        r"^a VIP: 1$",
        r"^before the start: state=init buffered=4$",
        r"hello, the Queen \(attempt 1\)\n  hello, Ann .*\n  hello, Ben .*\n  hello, Cleo ",
        r"^after the stop: state=stopped succeeded=4 kept=0$",
    ],
    "scheduled": [
        r"beat 1, 0\.[12] s left",
        r"(?s)3 \.\.\..*2 \.\.\..*1 \.\.\.",
        r"^still scheduled: \['heartbeat'\]$",
        r"^beats: 5, shortest gap 0\.[2-9]\d s$",
        r"^hooks: before 5, after 4, success 4$",
        r"^attempts seen by the before hook: \[1, 1, 2, 1\]$",
        r"^failed runs: 1, stopped: 1, left in the queue: 0$",
    ],
    "dynamic": [
        r"/flickers failed \(connection lost\): retry_after\(0\.2\)$",
        r"/moved failed \(ask the mirror\): retry_now\(\)$",
        r"/missing failed \(404\): drop\('there is no such page'\)$",
        r"^got /there from main, attempt 1$",
        r"^got /flickers from main, attempt 2$",
        r"^got /moved from mirror, attempt 2$",
        r"^dead letter: /missing, LookupError: 404, there is no such page$",
        r"^runs: 6, succeeded: 3, dropped: 1$",
    ],
    "combined": [
        *(rf"sms: message {number} of the day\b" for number in range(8)),
        r"^dead letters: \['ben@example\.org is closed'\]$",
        r"^runs: mail 4, sms 8, pulse at least 2: True$",
        r"^start rate kept: True$",
        r"^succeeded: 11, dropped: 1, dead letters left: 0$",
    ],
    "start_stop": [
        r"^first stop: state=stopped mode=stop kept=\[(?:4, )?5, 6, 7, 8\] returned=\[\]$",
        r"^nothing lost: True$",
        r"^refused: QueueNotRunningError$",
        r"^packed in order: True$",
        r"^the end: state=terminated mode=stop kept=\[\] returned=\[10\]$",
        r"^refused: QueueTerminatedError$",
    ],
    "simulated_test": [r"^3 passed in "],
    "controller": [
        r"^events: 300, waiting: 3$",
        r"db: the API server is busy, requeued for the 1\. time",
        r"db: the API server is busy, requeued for the 2\. time",
        r"^converged: True$",
        r"^drained: True$",
        r"^actual: \{'cache': 2, 'db': 1, 'web': 3\}$",
        r"^calls: \{'cache': 2, 'db': 3, 'web': 3\} requeues of db: 2$",
    ],
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A program from the root of the project; it has long enough for a busy machine, and no longer."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_every_example_is_tested() -> None:
    """Each program in examples/ has its facts here, and the other way round."""
    assert sorted(FACTS) == PROGRAMS


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_prints_its_facts(name: str) -> None:
    """Run as a file, it ends by itself with code 0, prints each of its facts, and nothing on stderr."""
    done = run(f"examples/{name}.py")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    missing = [fact for fact in FACTS[name] if not re.search(fact, done.stdout, re.MULTILINE)]
    assert not missing, done.stdout


@pytest.mark.parametrize("name", ["preset", "simulated_test"])
def test_an_example_runs_as_a_module(name: str) -> None:
    """`python -m examples.NAME` does the same as running the file."""
    done = run("-m", f"examples.{name}")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert all(re.search(fact, done.stdout, re.MULTILINE) for fact in FACTS[name]), done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_says_what_it_shows(name: str) -> None:
    """It is small (under 80 lines), opens with a docstring, and runs only as the main program."""
    text = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert text.count("\n") < 80
    assert '\nif __name__ == "__main__":\n' in text
