"""The sessions in docs/command-line.md are run, in a shell, and say what the page says but for times and counts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cli_world import environment

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```", re.DOTALL)
SESSION = re.compile(r"```console\n(.*?)```", re.DOTALL)
VARIABLE = [
    (re.compile(r"in [\d.]+ s(, [\d,]+ lines/s)?"), "in TIME"),
    (re.compile(r'"at": "[^"]+"'), '"at": NOW'),
    (re.compile(r"[\d,]+ done, 0 dead, [\d,]{5,} left"), "SOME done, 0 dead, MANY left"),
]


def normal(text: str) -> list[str]:
    """*text* without what differs from run to run."""
    for pattern, name in VARIABLE:
        text = pattern.sub(name, text)
    return text.splitlines()


def commands(session: str) -> Iterator[tuple[str, str]]:
    """Each command of a session, with what it says."""
    for part in session.split("$ ")[1:]:
        command, _, said = part.partition("\n")
        yield command, said


@pytest.mark.parametrize("session", SESSION.findall(PAGE))
def test_a_session(session: str, tmp_path: Path) -> None:
    """With the files of the page in the folder, each command says what stands below it."""
    for name, text in FILE.findall(PAGE):
        (tmp_path / name).write_text(text, encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command, said in commands(session):
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment({"PATH": path}), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
        assert normal(done.stdout) == normal(said)


def test_there_are_sessions() -> None:
    """Else the test above would show nothing."""
    assert {name for name, _ in FILE.findall(PAGE)} == {"shop.py", "work.py", "words.txt"}
    assert sum(len(list(commands(session))) for session in SESSION.findall(PAGE)) == 7
