"""Mutants: copies of the package with a line or two changed, which the tests must tell from the true one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import rate_envelope_queue

PACKAGE = Path(rate_envelope_queue.__file__).parent
ROOT = Path(__file__).parents[1]

Changes = tuple[tuple[str, str, str], ...]  # file, what is there once, what comes instead


def copy_of_package(path: Path, changes: Changes) -> None:
    """A copy of the package in *path*, with *changes*. What is compiled already need not be compiled again."""
    copy = path / PACKAGE.name
    shutil.copytree(PACKAGE, copy)
    for name, old, new in changes:
        source = (copy / name).read_text()
        assert source.count(old) == 1, f"the mutant is out of date: {name} has {source.count(old)} times {old!r}"
        for compiled in (copy / name).parent.glob(f"__pycache__/{Path(name).stem}.*"):
            compiled.unlink()
        (copy / name).write_text(source.replace(old, new))


def environment_of(path: Path) -> dict[str, str]:
    """That of a process which imports the copy in *path*."""
    return {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}


def check_of(path: Path) -> str:
    """Python that fails unless the copy in *path* is what is imported."""
    return f"import rate_envelope_queue as it; assert it.__file__.startswith({str(path)!r})"
