"""`rate-envelope-queue map` at length, and stopped in the middle: lines done + left + dead are the input, always."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .cli_world import Cli, cli, write_module

SOAK = bool(os.environ.get("REQ_SOAK"))
COUNT = 200_000 if SOAK else 20_000

WORK = """
import asyncio, os, threading

def say(*words):
    os.write(2, (" ".join(map(str, words)) + "\\n").encode())

def rss():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

COUNT = int(os.environ.get("COUNT", 0))

def picky(value):
    number = int(value)
    if number in (COUNT // 10, COUNT // 2, COUNT):
        say("at", number, "rss", rss())
    if number % 20 == 7:
        raise ValueError("bad")
    return number

def slow(value):
    say("at", value)
    threading.Event().wait(0.005)
    if int(value) % 20 == 7:
        raise ValueError("bad")
    return int(value)

async def aslow(value):
    say("at", value)
    await asyncio.sleep(0.005)
    if int(value) % 20 == 7:
        raise ValueError("bad")
    return int(value)

def stuck(value):
    say("at", value)
    if int(value) % 3 == 0:
        threading.Event().wait()
    return int(value)

async def deaf(value):
    say("at", value)
    while int(value) % 3 == 0:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
    return int(value)

async def patient(value):
    say("at", value)
    if int(value) % 3 == 0:
        await asyncio.Event().wait()
    return int(value)
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with the module `work` and the input `in`."""
    write_module(tmp_path, "work", WORK)
    (tmp_path / "in").write_text("".join(f"{n}\n" for n in range(1, COUNT + 1)))
    return tmp_path


def accounted(work: Path) -> tuple[list[int], list[int], list[int]]:
    """The lines done, dead and left. Together they are the input: each line is in one place, once."""
    done = [json.loads(line) for line in (work / "out").read_text().splitlines()]
    dead, left = ([*map(int, path.read_text().split())] if path.exists() else [] for path in
                  (work / "dead", work / "left"))  # fmt: skip
    assert sorted(done + dead + left) == list(range(1, COUNT + 1))
    return done, dead, left


@pytest.mark.parametrize("order", [(), ("--completion-order",)])
def test_many_lines(work: Path, order: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """One in twenty fails: the sums agree, and the memory at the end is what it was at a tenth."""
    with (work / "out").open("wb") as out, cli(
        "map", "work:picky", "in", "--dead-letters", "dead", *order,
        cwd=work, stdout=out, env={"COUNT": str(COUNT)},
    ) as run:  # fmt: skip
        assert run.wait() == 1
    done, dead, left = accounted(work)
    assert left == []
    assert len(dead) == COUNT // 20
    if not order:
        assert done == sorted(done)
        assert dead == sorted(dead)
    assert f"{len(done):,} done, {len(dead):,} dead, 0 left" in run.err.text
    memory = {int(line.split()[1]): int(line.split()[3]) for line in run.err.lines if line.startswith("at ")}
    if SOAK:
        with capsys.disabled():
            print(f"\n{COUNT:,} lines {order}: RSS in KiB {memory}; {run.err.lines[-2]}")
    assert memory[COUNT] - memory[COUNT // 10] < 4096


def stopped(work: Path, run: Cli, *, when: str, timeout: float, signals: int = 1) -> int:
    """Tell *run* to stop once it has said *when*: its exit code; it must not take longer than it may."""
    run.err.wait_for(when)
    told_at = time.monotonic()
    run.signal(signal.SIGTERM)
    if signals > 1:
        run.err.wait_for("SIGTERM: stopping")
        run.signal(signal.SIGTERM)
    code = run.wait()
    assert time.monotonic() - told_at < timeout + 1 + 5  # grace; and what a busy machine may add
    return code


@pytest.mark.parametrize("function", ["slow", "aslow"])
@pytest.mark.parametrize("order", [(), ("--completion-order",)])
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_stopped_in_the_middle(work: Path, function: str, order: tuple[str, ...], way: str) -> None:
    """What was read is drained, the rest is left, in the order of the input; then what is left is done."""
    arguments = ["map", f"work:{function}", *(["in"] if way == "file" else []), "--dead-letters", "dead"]
    feeder = subprocess.Popen(["cat", "in"], cwd=work, stdout=subprocess.PIPE) if way == "pipe" else None
    with (work / "out").open("wb") as out, cli(
        *arguments, "--left", "left", "--shutdown-timeout", "30", *order,
        cwd=work, stdout=out, stdin=None if feeder is None else feeder.stdout,
    ) as run:  # fmt: skip
        if feeder is not None:
            assert feeder.stdout is not None
            feeder.stdout.close()
        assert stopped(work, run, when="at 300\n", timeout=30) == 3
    if feeder is not None:
        feeder.wait()
    done, dead, left = accounted(work)
    assert len(done) > 250
    assert len(left) > COUNT // 2
    assert left == list(range(COUNT - len(left) + 1, COUNT + 1))
    assert f"{len(done):,} done, {len(dead):,} dead, {len(left):,} left" in run.err.text
    assert "stopped by SIGTERM" in run.err.text


@pytest.mark.parametrize("function", ["stuck", "deaf", "patient"])
def test_stopped_with_calls_that_will_not_end(work: Path, function: str) -> None:
    """They are given up on within the timeout: those lines are left, and it is said that they may be done in part."""
    with (work / "out").open("wb") as out, cli(
        "map", f"work:{function}", "in", "--dead-letters", "dead", "--left", "left", "--shutdown-timeout", "0.5",
        "--workers", "4", "--capacity", "20", "--completion-order", cwd=work, stdout=out,
    ) as run:  # fmt: skip
        assert stopped(work, run, when="at 12\n", timeout=0.5) == 3
    done, dead, left = accounted(work)
    assert {3, 6, 9, 12} <= set(left)
    assert {1, 2} <= set(done)
    assert dead == []
    assert "4 of those left were running: they may have been done in part" in run.err.text


def test_a_second_signal_does_not_wait(work: Path) -> None:
    """What still runs is given up on at once."""
    with (
        (work / "out").open("wb") as out,
        cli("map", "work:stuck", "in", "--left", "left", "--shutdown-timeout", "none", cwd=work, stdout=out) as run,
    ):
        assert stopped(work, run, when="at 3\n", timeout=0, signals=2) == 3
    accounted(work)
    assert "SIGTERM: what still runs is cancelled" in run.err.text


def test_where_left_lines_go(work: Path) -> None:
    """Beside the dead letters when nothing is said; and without either, it is told from where on to go on."""
    with (work / "out").open("wb") as out, cli("map", "work:slow", "in", cwd=work, stdout=out) as run:
        assert stopped(work, run, when="at 100\n", timeout=20) == 3
    summary = re.search(r"^([\d,]+) done, ([\d,]+) dead, ([\d,]+) left", run.err.text, re.MULTILINE)
    assert summary is not None
    read = sum(int(count.replace(",", "")) for count in summary.groups())
    assert f"from line {read + 1:,} on the input was not read" in run.err.lines[-1]
    assert len((work / "out").read_text().splitlines()) == int(summary[1].replace(",", ""))
    command = ("map", "work:slow", "in", "--dead-letters", "dead")
    with (work / "out").open("wb") as out, cli(*command, cwd=work, stdout=out) as run:
        assert stopped(work, run, when="at 100\n", timeout=20) == 3
    (work / "dead.left").rename(work / "left")
    accounted(work)


def test_a_pipe_that_never_ends(work: Path) -> None:
    """Its rest is read for as long as stopping may take, and no longer; a line that was cut off is not written."""
    reading, writing = os.pipe()
    with (
        (work / "out").open("wb") as out,
        cli(
            "map", "work:slow", "--left", "left", "--shutdown-timeout", "1", cwd=work, stdout=out, stdin=reading
        ) as run,
    ):
        os.close(reading)
        os.write(writing, b"1\n2\n3\n4\nhal")
        assert stopped(work, run, when="at 3\n", timeout=1) == 3
    os.close(writing)
    done = [json.loads(line) for line in (work / "out").read_text().splitlines()]
    left = [*map(int, (work / "left").read_text().split())] if (work / "left").exists() else []
    assert done + left == [1, 2, 3, 4]
    assert "from line 5 on the input was not read" in run.err.text
