"""The public API as type checkers see it: `cases.py` has no error under mypy nor under pyright, both strict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = str(Path(__file__).with_name("cases.py"))


@pytest.mark.parametrize(
    "checker",
    [["mypy", "--strict", CASES], ["pyright", "--pythonpath", sys.executable, CASES]],
    ids=["mypy", "pyright"],
)
def test_the_cases(checker: list[str]) -> None:
    """Payload types are kept, and typos and wrong payloads are errors: no error is missing, and none is unexpected."""
    done = subprocess.run([sys.executable, "-m", *checker], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
