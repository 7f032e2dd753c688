"""`rate-envelope-queue map`: what becomes of lines, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from .cli_world import COMMAND, PREFIX, cli, cli_on_terminal, run_cli, write_module

WORK = """
import asyncio, datetime, json, os, sys, threading
from rate_envelope_queue import EnvelopeQueue, StopEnvelope

def say(*words):
    os.write(2, (" ".join(map(str, words)) + "\\n").encode())

def same(value):
    return value

def picky(value):
    if int(value) % 5 == 0:
        raise ValueError(f"bad {value}")
    return int(value)

async def apicky(value):
    await asyncio.sleep(0)
    return picky(value)

others = []

def first_last(value):
    if value == "1":
        while len(others) < 19:
            threading.Event().wait(0.01)
        threading.Event().wait(0.2)
    else:
        others.append(value)
    return int(value)
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with the module `work`, to which tests add their functions."""
    write_module(tmp_path, "work", WORK)
    return tmp_path


def add(folder: Path, text: str) -> None:
    """Add to the module `work`."""
    with (folder / "work.py").open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def lines(*values: object) -> bytes:
    """One line for each."""
    return "".join(f"{value}\n" for value in values).encode()


# What comes out


@pytest.mark.parametrize("function", ["picky", "apicky"])
def test_results_and_dead_letters(work: Path, function: str) -> None:
    """Results in the order of the input; lines that failed as they were, and beside them why; the sums agree."""
    (work / "in").write_bytes(lines(*range(1, 101)))
    done = run_cli("map", f"work:{function}", "in", "--dead-letters", "dead", cwd=work)
    assert done.returncode == 1
    assert [json.loads(line) for line in done.stdout.splitlines()] == [n for n in range(1, 101) if n % 5]
    assert (work / "dead").read_bytes() == lines(*range(5, 101, 5))
    reasons = [json.loads(line) for line in (work / "dead.reasons").read_text().splitlines()]
    assert [reason["line"] for reason in reasons] == list(range(5, 101, 5))
    assert reasons[0]["error"] == "ValueError: bad 5"
    assert reasons[0]["attempts"] == 1
    assert done.stderr.startswith("80 done, 20 dead, 0 left")
    assert "dead: dead; why: dead.reasons" in done.stderr


def test_dead_letters_are_input_again(work: Path) -> None:
    """What failed is done later, from the file that it was written to."""
    run_cli("map", "work:picky", "--dead-letters", "dead", cwd=work, input=lines(4, 5, 6, 10))
    done = run_cli("map", "work:same", "dead", cwd=work)
    assert (done.returncode, done.stdout) == (0, '"5"\n"10"\n')


def test_in_the_order_of_completion(work: Path) -> None:
    """With `--completion-order` a result waits for no other; without it, for those before it."""
    by_input = run_cli("map", "work:first_last", cwd=work, input=lines(*range(1, 21)))
    as_they_come = run_cli("map", "work:first_last", "--completion-order", cwd=work, input=lines(*range(1, 21)))
    assert [int(line) for line in by_input.stdout.split()] == list(range(1, 21))
    assert sorted(map(int, as_they_come.stdout.split())) == list(range(1, 21))
    assert as_they_come.stdout.split()[-1] == "1"


def test_failures_without_a_file(work: Path) -> None:
    """The first are shown, each in one line, and how to have them all."""
    add(work, "def fail(value):\n    raise ValueError('a\\nb\\x1b[31m')")
    done = run_cli("map", "work:fail", cwd=work, input=lines(*range(50)))
    assert done.returncode == 1
    assert done.stderr.count(r"ValueError: a\nb\x1b[31m") == 20
    assert r"line 1: ValueError: a\nb\x1b[31m" in done.stderr.splitlines()
    assert "--dead-letters FILE keeps them all" in done.stderr
    assert "Traceback" not in done.stderr
    assert "0 done, 50 dead, 0 left" in done.stderr


def test_records(work: Path) -> None:
    """With their line numbers, results can be told from one another although some lines are dead."""
    done = run_cli("map", "work:picky", "--output", "records", cwd=work, input=lines(4, 5, 6))
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"line": 1, "result": 4},
        {"line": 3, "result": 6},
    ]


@pytest.mark.parametrize("output", ["values", "records"])
def test_results_that_are_not_json(work: Path, output: str) -> None:
    """The line is done, and is not done again: a record says what is wrong, and so do the summary and the exit code."""
    add(work, "odd = [datetime.date(2026, 1, 2), float('nan'), {('a',): 1}]; odd.append(odd)")
    add(work, "def strange(value):\n    return odd[int(value)]")
    done = run_cli("map", "work:strange", "--output", output, "--retries", "3", cwd=work, input=lines(0, 1, 2, 3))
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["line"] for record in records] == [1, 2, 3, 4]
    assert records[0]["error"].startswith("the result is not JSON: TypeError: Object of type date")
    assert done.returncode == 1
    assert "4 done, 0 dead, 0 left" in done.stderr
    assert "4 of those done have a result that is not JSON" in done.stderr


def test_what_is_printed_is_no_result(work: Path) -> None:
    """What the function prints, by itself or by a program that it calls, goes to standard error."""
    add(
        work,
        """
import subprocess
def chatty(value):
    print("printed", value)
    subprocess.run(["echo", "echoed " + value], check=True)
    return value""",
    )
    done = run_cli("map", "work:chatty", cwd=work, input=lines(1))
    assert done.stdout == '"1"\n'
    assert "printed 1" in done.stderr
    assert "echoed 1" in done.stderr


# What goes in


def test_no_line(work: Path) -> None:
    """Nothing to do is done at once."""
    done = run_cli("map", "work:same", cwd=work)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("0 done, 0 dead, 0 left")


def test_text(work: Path) -> None:
    """Line ends of both kinds, empty lines, no end at the end, and bytes that are no text come back as they were."""
    add(work, "def back(value):\n    return list(value.encode('utf-8', 'surrogateescape'))")
    raw = [b"plain", b"", b" spaced ", "h\u00e9".encode(), b"\xff\xfe", b"last"]
    done = run_cli("map", "work:back", cwd=work, input=b"\r\n".join(raw))
    assert [bytes(json.loads(line)) for line in done.stdout.splitlines()] == raw
    assert run_cli("map", "work:same", cwd=work, input="h\u00e9\n".encode()).stdout == '"h\u00e9"\n'
    assert json.loads(run_cli("map", "work:same", cwd=work, input=b"\xff\n").stdout) == "\udcff"


def test_json_lines(work: Path) -> None:
    """Values are decoded; a line that is not JSON is dead at once, whatever the retries, and kept as it was."""
    text = b'{"n": 1}\n[1, 2\n"x"\n\n\xff\nnull'
    done = run_cli(
        "map", "work:same", "--input", "jsonl", "--retries", "9", "--dead-letters", "dead", cwd=work, input=text
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"n": 1}, "x", None]
    assert (work / "dead").read_bytes() == b"[1, 2\n\n\xff\n"
    reasons = [json.loads(line) for line in (work / "dead.reasons").read_text().splitlines()]
    assert {reason["reason"] for reason in reasons} == {"not valid input"}
    assert {reason["attempts"] for reason in reasons} == {1}
    assert "not JSON" in reasons[0]["error"]


def test_nul(work: Path) -> None:
    """Names of files may hold line breaks; what failed ends with a NUL byte again."""
    done = run_cli("map", "work:same", "--input", "nul", cwd=work, input=b"a\nb\0c\r\0")
    assert done.stdout == '"a\\nb"\n"c\\r"\n'
    run_cli("map", "work:picky", "--input", "nul", "--dead-letters", "dead", cwd=work, input=b"5\x001\x0010\0")
    assert (work / "dead").read_bytes() == b"5\x0010\0"


def test_a_line_without_end(work: Path) -> None:
    """A file without line ends does not fill the memory: it is told, and what was read is left."""
    (work / "in").write_bytes(b"1\n" + b"x" * (1 << 24) + b"yz")
    done = run_cli("map", "work:same", "in", "--left", "left", cwd=work)
    assert done.returncode == 3
    assert "line 2 is longer than 16,777,216 bytes" in done.stderr
    assert done.stdout == '"1"\n'
    assert (work / "left").stat().st_size == (1 << 24) + 3


# How it is worked on


def test_retries(work: Path) -> None:
    """A line is tried again so often, and what was done at last is no failure."""
    add(
        work,
        """
tries = {}
def flaky(value):
    tries[value] = tries.get(value, 0) + 1
    if value == "never" or tries[value] < 3:
        raise ConnectionError(value)
    return tries[value]""",
    )
    done = run_cli(
        "map", "work:flaky", "--retries", "2", "--backoff", "0.01", "--dead-letters", "dead",
        cwd=work, input=lines("a", "never", "b"),
    )  # fmt: skip
    assert done.stdout.split() == ["3", "3"]
    [reason] = [json.loads(line) for line in (work / "dead.reasons").read_text().splitlines()]
    assert (reason["line"], reason["attempts"], reason["error"]) == (2, 3, "ConnectionError: never")


def test_deadline(work: Path) -> None:
    """A coroutine is cancelled and its line is dead; a plain function is late, and its line is done."""
    add(
        work,
        """
async def forever(value):
    if value == "slow":
        await asyncio.Event().wait()
    return value
def late(value):
    threading.Event().wait(0.2)
    return value""",
    )
    done = run_cli("map", "work:forever", "--deadline", "0.1", cwd=work, input=lines("a", "slow", "b"))
    assert done.stdout.split() == ['"a"', '"b"']
    assert "line 2: DeadlineExceeded" in done.stderr
    done = run_cli("map", "work:late", "--deadline", "0.1", cwd=work, input=lines("a"))
    assert (done.returncode, done.stdout) == (0, '"a"\n')
    assert "1 of those done took longer than their deadline" in done.stderr


def test_rate_and_workers(work: Path) -> None:
    """No more begin per second than is said, and no more run at a time."""
    add(
        work,
        """
import time
began, running, most = [], 0, 0
lock = threading.Lock()
def timed(value):
    global running, most
    with lock:
        began.append(time.monotonic()); running += 1; most = max(most, running)
    threading.Event().wait(0.02)
    with lock:
        running -= 1
    return [began[-1] - began[0], most]""",
    )
    done = run_cli("map", "work:timed", "--rate", "50", cwd=work, input=lines(*range(11)))
    assert json.loads(done.stdout.splitlines()[-1])[0] >= 0.2 - 0.001
    done = run_cli("map", "work:timed", "-w", "2", cwd=work, input=lines(*range(11)))
    assert json.loads(done.stdout.splitlines()[-1])[1] == 2
    done = run_cli("map", "work:timed", cwd=work, input=lines(*range(11)), env={f"{PREFIX}WORKERS": "3"})
    assert json.loads(done.stdout.splitlines()[-1])[1] == 3


def test_back_pressure(work: Path) -> None:
    """In input order, one slow line holds up those behind it: no more are begun than the capacity."""
    add(
        work,
        """
calls = []
def counted(value):
    calls.append(value)
    if value == "1":
        while len(calls) < 10:
            threading.Event().wait(0.01)
        threading.Event().wait(0.3)
        return len(calls)
    return value""",
    )
    done = run_cli("map", "work:counted", "--capacity", "10", cwd=work, input=lines(*range(1, 101)))
    assert done.stdout.splitlines()[0] == "10"
    assert len(done.stdout.splitlines()) == 100


def test_a_line_that_gives_up(work: Path) -> None:
    """`StopEnvelope` is no success: the line is dead, and is not tried again."""
    add(work, "def stop(value):\n    raise StopEnvelope('enough')")
    done = run_cli("map", "work:stop", "--retries", "5", "--dead-letters", "dead", cwd=work, input=lines(1, 2))
    assert "0 done, 2 dead, 0 left" in done.stderr
    [reason, _] = [json.loads(line) for line in (work / "dead.reasons").read_text().splitlines()]
    assert (reason["error"], reason["attempts"]) == ("StopEnvelope", 1)


def test_log_level(work: Path) -> None:
    """The queue's own records can be had: they show where a function has failed."""
    done = run_cli("map", "work:picky", "--log-level", "warning", cwd=work, input=lines(5))
    assert "in picky" in done.stderr


def test_json_log_format(work: Path) -> None:
    """All that is said is one object a line, the summary with its counts as fields."""
    done = run_cli("map", "work:picky", "--log-format", "json", "--log-level", "info", cwd=work, input=lines(4, 5))
    records = [json.loads(line) for line in done.stderr.splitlines()]
    summary = records[-1]
    assert {name: summary[name] for name in ("done", "dead", "left")} == {"done": 1, "dead": 1, "left": 0}


# Files


def test_files_are_not_overwritten(work: Path) -> None:
    """What is in a file already is worth something: it is refused before anything runs, the input itself too."""
    (work / "in").write_bytes(lines(5))
    (work / "old").write_bytes(b"precious\n")
    for arguments in (["--dead-letters", "old"], ["--left", "old"], ["--dead-letters", "in"]):
        done = run_cli("map", "work:picky", "in", *arguments, cwd=work)
        assert done.returncode == 2
        assert "is not empty: move it away" in done.stderr
        assert done.stdout == ""
    assert (work / "old").read_bytes() == b"precious\n"
    assert (work / "in").read_bytes() == lines(5)


def test_files_without_lines_are_taken_away(work: Path) -> None:
    """No dead letter, no file; and what is not a file of ours stays."""
    done = run_cli("map", "work:same", "--dead-letters", "dead", "--left", "left", cwd=work, input=lines(1))
    assert done.returncode == 0
    assert sorted(path.name for path in work.iterdir() if path.is_file()) == ["work.py"]
    done = run_cli("map", "work:picky", "--dead-letters", "/dev/null", "--left", "left", cwd=work, input=lines(5))
    assert done.returncode == 1
    assert Path("/dev/null").exists()
    assert not Path("/dev/null.reasons").exists()


@pytest.mark.parametrize("which", ["stdout", "dead letters"])
def test_a_full_disk(work: Path, which: str) -> None:
    """Nothing is lost: what could not be written is left, the reason is told, and the exit code is 3."""
    (work / "in").write_bytes(lines(*range(1, 5001)))
    outputs = ("--dead-letters", "/dev/full") if which == "dead letters" else ()
    with (
        (work / "out").open("wb") as out,
        Path("/dev/full").open("wb") as full,
        cli("map", "work:picky", "in", "--left", "left", *outputs, cwd=work, stdout=out if outputs else full) as run,
    ):
        assert run.wait() == 3
    assert "stopped by OSError: [Errno 28] No space left on device" in run.err.text
    left = (work / "left").read_bytes().split()
    done = (work / "out").read_bytes().split()
    assert len(left) + len(done) == 5000
    assert sorted(map(int, left + done)) == list(range(1, 5001))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("work:nothing",), "there is no 'nothing' in it"),
        (("work:WORDS",), "cannot be called"),
        (("work:two",), "cannot be called with one line"),
        (("work:handler",), "is the handler of a queue"),
        (("work:same", "absent"), "absent"),
        (("work:same", "."), "directory"),
        (("work:same", "--dead-letters", "no/such/folder"), "--dead-letters: FileNotFoundError"),
        (("work:same", "--rate", "0"), "--rate"),
        (("work:same", "--rate", "inf"), "--rate"),
        (("work:same", "--deadline", "0"), "--deadline"),
        (("work:same", "--capacity", "0"), "--capacity"),
        (("work:same", "--input", "csv"), "--input"),
    ],
)
def test_wrong_usage(work: Path, arguments: tuple[str, ...], message: str) -> None:
    """It is told what is wrong, and the exit code is 2."""
    add(work, 'WORDS = "a"\ndef two(a, b): pass\n@EnvelopeQueue("q").handler\ndef handler(ctx, envelope): pass')
    done = run_cli("map", *arguments, cwd=work, input=lines(1))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_builtins(work: Path) -> None:
    """Any callable of one argument will do, also one without a signature."""
    assert run_cli("map", "builtins:int", cwd=work, input=lines(1, 2)).stdout == "1\n2\n"
    assert run_cli("map", "json:loads", cwd=work, input=lines("[1]")).stdout == "[1]\n"


# Who reads it


def test_a_broken_pipe(work: Path) -> None:
    """As `head` leaves it: it ends, quietly, with the exit code of a tool that SIGPIPE ended."""
    add(work, "def endless(value):\n    return value * 1000")
    (work / "in").write_bytes(lines(*range(10_000)))
    reading, writing = os.pipe()
    os.close(reading)
    with cli("map", "work:endless", "in", "--left", "left", cwd=work, stdout=writing) as run:
        os.close(writing)
        assert run.wait() == 141
    assert run.err.text == ""
    assert (work / "left").read_bytes() == (work / "in").read_bytes()


@pytest.mark.parametrize(("size", "last"), [(1000, 90), (100_000, 50)])  # a pipe holds 64 KiB
def test_nobody_reads(work: Path, size: int, last: int) -> None:
    """A reader that stands still does not keep a signal from ending it; what it has not taken is left."""
    (work / "in").write_bytes(lines(*range(1, 20_001)))
    reading, writing = os.pipe()
    add(work, "def told(value):\n    say('at', value)\n    return 'x' * int(os.environ['SIZE']) + value")
    options = ("--left", "left", "--capacity", "50")
    with cli("map", "work:told", "in", *options, cwd=work, stdout=writing, env={"SIZE": str(size)}) as run:
        os.close(writing)
        run.err.wait_for(f"at {last}\n")
        run.signal(signal.SIGTERM)
        assert run.wait() == 3
    with os.fdopen(reading, "rb") as pipe:
        taken = [int(json.loads(line).strip("x")) for line in pipe.read().splitlines() if line.endswith(b'"')]
    left = [int(line) for line in (work / "left").read_bytes().split()]
    assert taken + left == list(range(1, 20_001))
    assert "are done, but their results could not be written" in run.err.text


def test_the_progress_bar(work: Path) -> None:
    """On a terminal: the part that is done, lines, rate and failures; taken away at the end, and no result."""
    add(
        work,
        """
def slow(value):
    threading.Event().wait(0.01)
    return picky(value)""",
    )
    (work / "in").write_bytes(lines(*range(1, 201)))
    out = os.open(work / "out", os.O_WRONLY | os.O_CREAT)
    with cli_on_terminal("map", "work:slow", "in", cwd=work, stdout=out) as (run, _):
        os.close(out)
        assert run.wait() == 1
    for word in ("%", " lines", "/s", " dead", " left", "160 done, 40 dead, 0 left"):
        assert word in run.err.text
    assert [json.loads(line) for line in (work / "out").read_text().splitlines()] == [n for n in range(201) if n % 5]


def test_results_on_the_terminal(work: Path) -> None:
    """They are shown above the bar, and nothing in them is obeyed by the terminal."""
    with cli_on_terminal("map", "work:same", "in", cwd=work) as (run, _):
        assert run.wait() == 2
    (work / "in").write_text("[red]\x1b[5m\u202eé\n", encoding="utf-8")
    with cli_on_terminal("map", "work:same", "in", cwd=work) as (run, _):
        assert run.wait() == 0
    assert r'"[red]\u001b[5m\u202e\u00e9"' in run.err.text


def test_without_a_terminal_there_is_no_bar(work: Path) -> None:
    """No control characters get into a log."""
    assert "\x1b" not in run_cli("map", "work:same", cwd=work, input=lines(1)).stderr


def test_standard_output_is_closed(work: Path) -> None:
    """It is told, rather than that results go into whatever is opened next."""
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "map", "work:same"],
        cwd=work, input=b"1\n", capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"standard output is closed" in done.stderr
