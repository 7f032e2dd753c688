"""What the documentation shows is true: every doctest of the package, and every Python block of the README."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import rate_envelope_queue
from rate_envelope_queue import testing, workqueue

README = Path(__file__).parents[2] / "README.md"
MODULES = [
    rate_envelope_queue.__name__,
    *(found.name for found in pkgutil.walk_packages(rate_envelope_queue.__path__, f"{rate_envelope_queue.__name__}.")),
]
PUBLIC = [rate_envelope_queue, workqueue, testing]
OPENING = re.compile(r"^( *)```python\b.*$")
EXEMPTION = re.compile(r"^ *<!-- not run: (\S.*?) *-->$")


class Block(NamedTuple):
    """A block of Python in a Markdown text; `line` is that of its first line, `reason` why it is not run."""

    line: int
    code: str
    reason: str | None


def blocks(text: str) -> Iterator[Block]:
    """The ```python blocks of *text*. One is exempt when the line before it is `<!-- not run: reason -->`."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opening = OPENING.match(lines[at])
        at += 1
        if opening is None:
            continue
        begin, indent = at, opening[1]
        while lines[at].strip() != "```":
            at += 1
        exemption = EXEMPTION.match(lines[begin - 2]) if begin > 1 else None
        code = "\n".join(line.removeprefix(indent) for line in lines[begin:at])
        yield Block(begin + 1, code, exemption and exemption[1])
        at += 1


def execute(block: Block, name: str) -> None:
    """Run *block* in a namespace of its own; its lines keep the numbers that they have in the file."""
    if block.code.lstrip().startswith(">>>"):
        example = doctest.DocTestParser().get_doctest(block.code, {}, name, name, block.line - 1)
        runner = doctest.DocTestRunner()
        assert runner.run(example).failed == 0
    else:
        code = compile("\n" * (block.line - 1) + block.code, name, "exec", dont_inherit=True)
        exec(code, {"__name__": "readme"})


README_BLOCKS = list(blocks(README.read_text(encoding="utf-8"))) if README.exists() else []


@pytest.mark.parametrize("name", MODULES)
def test_the_doctests_of_a_module(name: str) -> None:
    """Each example in a docstring gives what it says."""
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module)
    assert failed == 0


def test_the_package_has_doctests() -> None:
    """Every public class has an example, and the walk finds it: else the test above would show nothing."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    with_examples = {test.name for module in modules for test in finder.find(module) if test.examples}
    offered = {getattr(module, name) for module in PUBLIC for name in module.__all__}
    classes = {f"{cls.__module__}.{cls.__qualname__}" for cls in offered if isinstance(cls, type)}
    assert len(classes) > 30
    assert classes - with_examples == set()


@pytest.mark.parametrize("block", README_BLOCKS, ids=[f"line {block.line}" for block in README_BLOCKS])
def test_a_block_of_the_readme(block: Block, capfd: pytest.CaptureFixture[str]) -> None:
    """It runs as it stands, without an exception, and prints no traceback of one in another thread either."""
    if block.reason is not None:
        compile(block.code, README.name, "exec")
        return
    execute(block, README.name)
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err


SAMPLE = """\
Text
```python
x = 1
assert x == 1
```
<!-- not run: it needs a server -->
```python
connect()
```
* in a list
  ```python
  >>> 1 + 1
  3
  ```
```sh
not python
```
"""


def test_the_blocks_are_found() -> None:
    """Fences with a language, indented ones, exemptions with their reasons, and nothing else."""
    assert list(blocks(SAMPLE)) == [
        Block(3, "x = 1\nassert x == 1", None),
        Block(8, "connect()", "it needs a server"),
        Block(12, ">>> 1 + 1\n3", None),
    ]


def test_a_wrong_block_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """An exception is not swallowed and carries its line; a doctest with another answer fails."""
    plain, exempt, wrong = blocks(SAMPLE)
    execute(plain, "sample")
    with pytest.raises(NameError) as raised:
        execute(exempt, "sample")
    assert raised.traceback[-1].lineno == exempt.line - 1
    with pytest.raises(AssertionError):
        execute(wrong, "sample")
    assert "Expected:\n    3" in capfd.readouterr().out
