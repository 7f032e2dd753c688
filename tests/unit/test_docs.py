"""The Python blocks of the documentation are run, each in a namespace of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .test_doctests import Block, blocks, execute

DOCS = Path(__file__).parents[2] / "docs"
FOUND = [(path.name, block) for path in sorted(DOCS.glob("*.md")) for block in blocks(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("name", "block"), FOUND, ids=[f"{name}:{block.line}" for name, block in FOUND])
def test_a_block_of_the_docs(name: str, block: Block) -> None:
    """What a page shows runs, and its own assertions hold."""
    if block.reason is None:
        execute(block, name)


def test_there_are_blocks() -> None:
    """The guide is found, with blocks for both flavours, none exempt: else the test above would show nothing."""
    guide = [block for name, block in FOUND if name == "guide.md"]
    assert [block.line for block in guide if block.reason is not None] == []
    for flavour in ("SimulatedEnvelopeQueue(", " EnvelopeQueue(", "asyncio.run("):
        assert any(flavour in block.code for block in guide)


def test_the_tests_that_the_guarantees_name_are_there() -> None:
    """Each guarantee names tests, and each of them is a file with tests."""
    page = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| I-\d+ ", line)]
    assert [row.split()[1] for row in rows] == [f"I-{number}" for number in range(1, len(rows) + 1)]
    assert all("programs" in row or "`tests/" in row for row in rows)
    for path in re.findall(r"`(tests/[^`]+)`", page):
        assert (DOCS.parent / path).is_file(), path
