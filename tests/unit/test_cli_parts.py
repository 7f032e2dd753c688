"""The parts of the command line that are best looked at alone: lines out of chunks, files, values from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rate_envelope_queue.cli import lines as lines_module
from rate_envelope_queue.cli.ledger import Dead, Done, End, Ledger
from rate_envelope_queue.cli.lines import Line, LineReader
from rate_envelope_queue.cli.options import with_value
from rate_envelope_queue.cli.outlets import Appended, DeadLetters
from rate_envelope_queue.cli.reloading import changes, times_of


@contextmanager
def reader_of(data: bytes, delimiter: bytes = b"\n") -> Iterator[LineReader]:
    """A reader of a pipe that holds *data*, at most 64 KiB."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    reader = LineReader(reading, delimiter)
    try:
        yield reader
    finally:
        reader.close()
        os.close(reading)


@given(data=st.binary(max_size=200).map(lambda data: data.replace(b"\xff", b"\n")), chunk=st.integers(1, 20),
       taken=st.integers(0, 30))  # fmt: skip
def test_lines_and_their_rest(data: bytes, chunk: int, taken: int) -> None:
    """However the data comes in pieces, and wherever it is stopped: lines and rest together are the data."""
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    with pytest.MonkeyPatch.context() as patch, reader_of(data) as reader:
        patch.setattr(lines_module, "CHUNK", chunk)
        given_lines = []
        while len(given_lines) < taken and (line := reader.next_line()) is not None:
            given_lines.append(line)
        reader.stop()
        assert reader.next_line() is None
        assert [line.number for line in given_lines] == list(range(1, len(given_lines) + 1))
        rest = b"".join(reader.rest(lambda: False))
        assert reader.is_exhausted
    found = [line.raw for line in given_lines] + rest.split(b"\n")[:-1]
    assert found == expected
    assert rest == b"" or rest.endswith(b"\n")


def test_a_line_that_was_cut_off_is_no_line() -> None:
    """When the rest is not read to its end, what has no end yet is not given."""
    reading, writing = os.pipe()
    reader = LineReader(reading, b"\n")
    os.write(writing, b"a\nb")
    assert reader.next_line() == Line(1, b"a")
    reader.stop()
    os.write(writing, b"c\nd")
    looks = iter([False, False, True])
    assert b"".join(reader.rest(lambda: next(looks))) == b"bc\n"
    assert not reader.is_exhausted
    reader.close()
    os.close(reading)
    os.close(writing)


def test_the_rest_of_a_file_has_a_size(tmp_path: Path) -> None:
    """What is not yet read of a file is known; of a pipe it is not."""
    (tmp_path / "in").write_bytes(b"one\ntwo\n")
    fd = os.open(tmp_path / "in", os.O_RDONLY)
    reader = LineReader(fd, b"\n")
    assert (reader.size, reader.is_exhausted) == (8, False)
    assert reader.next_line() == Line(1, b"one")
    assert (reader.size, reader.is_exhausted) == (0, False)
    assert reader.next_line() == Line(2, b"two")
    assert reader.is_exhausted
    reader.close()
    os.close(fd)
    with reader_of(b"x") as pipe:
        assert pipe.size is None


def test_a_line_is_settled_once() -> None:
    """Whoever comes first; and what ends after the ledger has closed counts as left."""
    ledger = Ledger(2)
    first, second = Line(1, b"a"), Line(2, b"b")
    assert ledger.admit(first)
    assert ledger.admit(second)
    dead = Dead("E", None, 1, "")
    ledger.settle(first, Done(b"1\n"))
    ledger.settle(first, dead)
    assert ledger.close() == [second]
    ledger.settle(second, Done(b"2\n"))
    settled = [ledger.settled.get() for _ in range(ledger.settled.qsize())]
    assert settled == [(first, Done(b"1\n")), End()]
    ledger.written(1)
    assert not ledger.admit(Line(3, b"c"))


def test_a_piece_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of a piece leaves no half of it."""
    file = Appended(tmp_path / "out", "--left")
    file.add(b"one\n")
    real = file._file

    class Full:
        def __init__(self) -> None:
            self.writes = 0

        def write(self, data: memoryview) -> int:
            self.writes += 1
            if self.writes > 1:
                raise OSError(28, "No space left on device")
            return real.write(data[:2])

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

    monkeypatch.setattr(file, "_file", Full())
    with pytest.raises(OSError, match="No space"):
        file.add(b"two\n")
    monkeypatch.undo()
    file.add(b"three\n")
    file.close()
    assert (tmp_path / "out").read_bytes() == b"one\nthree\n"


def test_dead_letters_and_reasons_stay_in_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the letters cannot be written, their reasons are taken back."""
    letters = DeadLetters(tmp_path / "dead", b"\n")
    dead = Dead("E", None, 1, "")
    letters.write([(Line(1, b"a"), dead)])

    def full(piece: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(letters._lines, "add", full)
        with pytest.raises(OSError, match="No space"):
            letters.write([(Line(2, b"b"), dead), (Line(3, b"c"), dead)])
    letters.write([(Line(4, b"d"), dead)])
    letters.close()
    assert (tmp_path / "dead").read_bytes() == b"a\nd\n"
    assert [line.split(",")[0] for line in (tmp_path / "dead.reasons").read_text().splitlines()] == [
        '{"line": 1',
        '{"line": 4',
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--dashboard", "app:queue"], ["--dashboard=D", "app:queue"]),
        (["app:queue", "--dashboard"], ["app:queue", "--dashboard=D"]),
        (["--dashboard", "--reload"], ["--dashboard=D", "--reload"]),
        (["--dashboard", "8000", "app:queue"], ["--dashboard=8000", "app:queue"]),
        (["--dashboard", "[::1]:80", "app:queue"], ["--dashboard=[::1]:80", "app:queue"]),
        (["--dashboard=x", "app:queue"], ["--dashboard=x", "app:queue"]),
        (["--", "--dashboard", "8000"], ["--", "--dashboard", "8000"]),
    ],
)
def test_an_option_whose_value_may_be_left_out(arguments: list[str], expected: list[str]) -> None:
    """It takes an address that follows, and nothing else."""
    assert with_value(arguments, "--dashboard", "D") == expected


def test_what_reload_looks_at(tmp_path: Path) -> None:
    """Python files below the folder; not hidden folders, environments, caches or other files."""
    for path in ("a.py", "p/b.py", ".git/c.py", "env/pyvenv.cfg", "env/d.py", "__pycache__/e.py", "f.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("1")
    before = times_of(tmp_path)
    assert sorted(os.path.relpath(path, tmp_path) for path in before) == ["a.py", "p/b.py"]
    (tmp_path / "p/b.py").write_text("12")
    (tmp_path / "a.py").unlink()
    (tmp_path / "g.py").write_text("")
    changed = changes(before, times_of(tmp_path))
    assert [os.path.relpath(path, tmp_path) for path in changed] == ["a.py", "g.py", "p/b.py"]
