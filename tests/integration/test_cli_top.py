"""`rate-envelope-queue top`: what it shows of a dashboard, which may say anything."""

from __future__ import annotations

import json
import os
import signal
import termios
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from .cli_world import PREFIX, cli_on_terminal, run_cli

STATE: dict[str, Any] = {
    "queues": [
        {
            "name": "mail",
            "state": "running",
            "capacity": 1000,
            "stats": {
                "accepted": 1234, "succeeded": 1200, "dropped": 5, "ready": 3, "delayed": 20, "running": 2,
                "occupancy": 25, "workers": 4, "late": 2, "state": "running",
            },
            "rates": {"started": 12.34, "failed": 0.5},
            "running": [{"type": "send", "id": "7", "age": 3.21, "attempt": 2}],
            "due": [{"type": "tick", "id": None, "due_in": 7384.2}],
            "dead_letters": {
                "count": 5,
                "recent": [{"type": "send", "id": "1", "error": "LookupError: ann", "reason": "no such mailbox"}],
            },
        },
        {"name": "reports", "state": "stopped", "capacity": None, "stats": {}, "running": [], "due": [],
         "dead_letters": {"count": 0, "recent": []}, "rates": {}},
    ]
}  # fmt: skip


class Dashboard:
    """A server on the loopback address that answers what a test says, and notes what it was asked."""

    def __init__(self) -> None:
        self.body = json.dumps(STATE).encode()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.token = "t0ken"
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization")
                outer.asked.append((self.path, given))
                status = outer.status if given == f"Bearer {outer.token}" else 401
                self.send_response(status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if status == 200:
                    with suppress(ConnectionError):  # whoever has read enough
                        self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                """Quietly."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, name="dashboard", daemon=True).start()


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    """One for the test."""
    made = Dashboard()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_once(dashboard: Dashboard, tmp_path: Path) -> None:
    """Where nobody looks, it prints one picture in plain text."""
    done = run_cli("top", f"{dashboard.url}/#token=t0ken", cwd=tmp_path)
    assert done.returncode == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines == [
        "mail running 2 of 4 workers busy 25 of 1,000 entries 12.3 started/s 0.5 failed/s",
        "ready 3 delayed 20 accepted 1,234 succeeded 1,200 dropped 5 late 2",
        "running 1 send 7 attempt 2 3.2 s",
        "due 1 tick in 2:03:04",
        "dead letters 5 send 1 LookupError: ann no such mailbox",
        "",
        "reports stopped 0 of 0 workers busy 0 entries",
        "ready 0 delayed 0 accepted 0 succeeded 0 dropped 0",
    ]
    assert dashboard.asked == [("/api/state", "Bearer t0ken")]


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("{url}/base/#token=t0ken",), {}),
        (("{url}/base", "--token", "t0ken"), {}),
        (("{url}/base/", "--token", "t0ken"), {"TOKEN": "wrong"}),
        (("{url}/base",), {"TOKEN": "t0ken"}),
        (("{host}/base",), {"TOKEN": "t0ken"}),
    ],
)
def test_where_the_token_comes_from(
    dashboard: Dashboard, tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    """From the address, an option or the environment; and the dashboard may be below a path."""
    host = dashboard.url.removeprefix("http://")
    given = [argument.format(url=dashboard.url, host=host) for argument in arguments]
    done = run_cli("top", *given, cwd=tmp_path, env={PREFIX + name: value for name, value in env.items()})
    assert done.returncode == 0
    assert dashboard.asked == [("/base/api/state", "Bearer t0ken")]


def test_hostile_text(dashboard: Dashboard, tmp_path: Path) -> None:
    """Whatever comes is shown as text: no control character, no markup, nothing without bound."""
    nasty = "[red]\x1b]0;x\x07\x1b[31m\u202e\n\r[/red]"
    row = {"type": nasty, "id": nasty * 100, "age": 1e300, "attempt": nasty, "due_in": "soon", "error": nasty,
           "reason": nasty, "attempts": None}  # fmt: skip
    queue = {"name": nasty, "state": nasty, "capacity": nasty, "error": nasty, "stats": {"ready": nasty, nasty: 1},
             "running": [row] * 300, "due": [row, 7, None], "rates": {nasty: 1.0, "started": float("inf")},
             "dead_letters": {"count": "many", "recent": [row]}}  # fmt: skip
    dashboard.body = json.dumps({"queues": [queue, 5, {"name": 7}, {"dead_letters": [], "running": {}}]}).encode()
    done = run_cli("top", f"{dashboard.url}/#token=t0ken", cwd=tmp_path)
    assert done.returncode == 0
    assert all(line.isprintable() for line in done.stdout.split("\n"))
    assert r"[red]\x1b]0;x\x07" in done.stdout
    assert len(done.stdout) < 20_000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "its answer is not the state of a dashboard"),
        (b"[]", "its answer is not the state of a dashboard"),
        (b'{"queues": 5}', "its answer is not the state of a dashboard"),
        (b"[" * 100_000, "its answer is not the state of a dashboard"),
        (b" " * (8 << 20) + b"{}", "its answer is too large"),
    ],
)
def test_another_answer(dashboard: Dashboard, tmp_path: Path, body: bytes, message: str) -> None:
    """It is told in a line, and the exit code is 1."""
    dashboard.body = body
    done = run_cli("top", f"{dashboard.url}/#token=t0ken", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_token(dashboard: Dashboard, tmp_path: Path) -> None:
    """It is said where it may be given; it is not shown."""
    done = run_cli("top", dashboard.url, cwd=tmp_path)
    assert done.returncode == 1
    assert f"it wants its token (HTTP 401): give it as --token or in {PREFIX}TOKEN" in done.stderr
    done = run_cli("top", f"{dashboard.url}/#token=wrong", cwd=tmp_path)
    assert done.returncode == 1
    assert "wrong" not in done.stderr


def test_a_redirect_does_not_get_the_token(dashboard: Dashboard, tmp_path: Path) -> None:
    """Whoever answers for the dashboard cannot have it sent to somebody else."""
    thief = Dashboard()
    dashboard.status, dashboard.headers = 302, {"Location": f"{thief.url}/api/state"}
    done = run_cli("top", f"{dashboard.url}/#token=t0ken", cwd=tmp_path)
    thief.server.shutdown()
    thief.server.server_close()
    assert done.returncode == 1
    assert "it points to another address (HTTP 302)" in done.stderr
    assert thief.asked == []


def test_a_proxy_does_not_get_the_token(dashboard: Dashboard, tmp_path: Path) -> None:
    """What is on this machine is asked directly, whatever the environment says of proxies."""
    proxy = Dashboard()
    done = run_cli("top", f"{dashboard.url}/#token=t0ken", cwd=tmp_path, env={"http_proxy": proxy.url, "no_proxy": ""})
    proxy.server.shutdown()
    proxy.server.server_close()
    assert done.returncode == 0
    assert proxy.asked == []


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("http://127.0.0.1:1", 1, "it cannot be reached (ConnectionRefusedError"),
        ("ftp://127.0.0.1", 2, "is not the address of a dashboard: http://HOST:PORT"),
        ("http://", 2, "is not the address of a dashboard"),
        ("http://127.0.0.1:99999", 2, "is not the address of a dashboard"),
        ("http://[::1", 2, "is not the address of a dashboard"),
        ("http://127.0.0.1:1/#token=a%0Ab", 2, "the token has characters that no token has"),
    ],
)
def test_wrong_addresses(tmp_path: Path, url: str, code: int, message: str) -> None:
    """Told in a line."""
    done = run_cli("top", url, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


ON, OFF = "\x1b[?1049h", "\x1b[?1049l"  # the screen of its own


@pytest.mark.parametrize("end", ["q", "\x03", signal.SIGTERM, signal.SIGINT])
def test_on_a_terminal(dashboard: Dashboard, tmp_path: Path, end: str | signal.Signals) -> None:
    """It looks again and again, until q, Ctrl-C or a signal; then the terminal is as it was."""
    url = f"{dashboard.url}/#token=t0ken"
    with cli_on_terminal("top", url, "--interval", "0.05", cwd=tmp_path) as (run, terminal):
        before = termios.tcgetattr(terminal)
        run.out.wait_for("accepted 1,234")
        dashboard.body = dashboard.body.replace(b"1234", b"1235")
        run.out.wait_for("accepted 1,235")
        if isinstance(end, signal.Signals):
            run.signal(end)
        else:
            os.write(terminal, end.encode())
        assert run.wait() == 0
        assert termios.tcgetattr(terminal) == before
    assert run.out.text.count(ON) == run.out.text.count(OFF) == 1
    assert run.out.text.index(OFF) > run.out.text.rindex("accepted 1,235")
    assert "Traceback" not in run.out.text
    assert "t0ken" not in run.out.text


def test_a_dashboard_that_goes_and_comes_back(dashboard: Dashboard, tmp_path: Path) -> None:
    """What was known stays, with the trouble beside it, until it answers again."""
    with cli_on_terminal("top", f"{dashboard.url}/#token=t0ken", "--interval", "0.05", cwd=tmp_path) as (run, terminal):
        run.out.wait_for("accepted 1,234")
        dashboard.status = 500
        run.out.wait_for("it answers with HTTP 500; this is what was known before")
        dashboard.body = dashboard.body.replace(b"1234", b"1235")
        dashboard.status = 200
        run.out.wait_for("accepted 1,235")
        os.write(terminal, b"q")
        assert run.wait() == 0
