"""The command line in a process of its own: told by signals, watched by its lines of output."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

SOURCE = Path(__file__).resolve().parents[2] / "src"
PATIENCE = 60.0
COMMAND = [sys.executable, "-X", "faulthandler", "-m", "rate_envelope_queue.cli"]
PREFIX = "RATE_ENVELOPE_QUEUE_"


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: the package of this tree, and none of its variables but *extra*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**kept, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1", "TERM": "xterm", "COLUMNS": "120", **extra}


class Said:
    """What comes out of a pipe or terminal, as it comes."""

    def __init__(self, stream: IO[bytes] | int) -> None:
        self._stream = stream
        self._news = threading.Condition()
        self._bytes = bytearray()
        self._is_over = False
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        fd = self._stream if isinstance(self._stream, int) else self._stream.fileno()
        while True:
            try:
                chunk = os.read(fd, 65536)
            except OSError:  # a terminal whose last user has gone
                chunk = b""
            with self._news:
                self._bytes += chunk
                self._is_over = not chunk
                self._news.notify_all()
            if not chunk:
                return

    @property
    def bytes(self) -> bytes:
        """All until now."""
        with self._news:
            return bytes(self._bytes)

    @property
    def text(self) -> str:
        """All until now."""
        return self.bytes.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """All lines until now."""
        return self.text.splitlines()

    def wait_for(self, what: str, times: int = 1) -> None:
        """Until *what* was said so many times; AssertionError when it never is."""
        with self._news:
            self._news.wait_for(lambda: self._bytes.count(what.encode()) >= times or self._is_over, PATIENCE)
            assert self._bytes.count(what.encode()) >= times, f"{what!r} was not said, but:\n{self._bytes.decode()}"

    def end(self) -> None:
        """Until there is no more to come."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


class Cli:
    """One run of the command line. *out* and *err* are what it says."""

    out: Said
    err: Said

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.began_at = time.monotonic()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Until it has ended: its exit code. AssertionError, with where it hangs, when it does not."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler writes down where it hangs
            self.process.wait()
            self.err.end()
            raise AssertionError(f"it hangs:\n{self.err.text}") from None
        self.out.end()
        self.err.end()
        return code


@contextmanager
def cli(
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    command: Sequence[str] = COMMAND,
) -> Iterator[Cli]:
    """The command line with *arguments*, started in *cwd*; killed when it has not ended by itself."""
    process = subprocess.Popen(
        [*command, *arguments], cwd=cwd, env=environment(env or {}), stdin=stdin, stdout=stdout,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    with process:
        run = Cli(process)
        run.err = Said(process.stderr)
        if process.stdout is not None:
            run.out = Said(process.stdout)
        else:
            run.out = run.err
        try:
            yield run
        finally:
            if process.poll() is None:
                process.kill()
            run.err.end()
            run.out.end()


def _take_terminal() -> None:
    """Standard input becomes the terminal that Ctrl-C is typed at."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def cli_on_terminal(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, stdout: int | None = None
) -> Iterator[tuple[Cli, int]]:
    """The same on a terminal of its own, and the other end of that; *stdout* may go elsewhere."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=cwd, env=environment(env or {}), stdin=slave, stderr=slave,
        stdout=slave if stdout is None else stdout, preexec_fn=_take_terminal,
    )  # fmt: skip
    os.close(slave)
    try:
        with process:
            run = Cli(process)
            run.err = run.out = Said(master)
            try:
                yield run, master
            finally:
                if process.poll() is None:
                    process.kill()
                run.err.end()
    finally:
        os.close(master)


def run_cli(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, input: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with *input* as its standard input."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=environment(env or {}), input=input, capture_output=True, timeout=PATIENCE
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def write_module(folder: Path, name: str, text: str) -> None:
    """A module of the user's."""
    (folder / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
