"""The webhooks example: its table, and the demo as its users run it."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import examples.webhooks.__main__ as demo
import pytest
from examples.webhooks.receiver import Receiver
from examples.webhooks.report import Post, Report
from fastapi import Request, Response

ROOT = Path(__file__).parents[2]


class TestReport:
    POSTS = (Post("a", 0, None, False, 1.0), Post("b", 1, "key", False, 1.0), Post("c", 2, "key", True, 1.0))
    SOUND = Report(
        posts=POSTS,
        received={"a": [2.0], "c": [3.0]},
        retried={"a"},
        dead={},
        left=(),
        difficulties={},
        total=Counter(accepted=2, coalesced=1, succeeded=2, runs_succeeded=2),
    )

    def test_a_sound_one(self) -> None:
        """The superseded hook is not missed."""
        assert self.SOUND.faults == []
        assert "and the sums agree: OK" in str(self.SOUND)

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"received": {"a": [2.0]}}, "hooks were lost"),
            ({"received": {"b": [2.0], "c": [2.0]}}, "hooks were lost"),
            ({"left": {"x"}}, "hooks came from nowhere"),
            ({"total": Counter(accepted=2, succeeded=2)}, "posted is not accepted + coalesced"),
            ({"total": Counter(accepted=3, succeeded=3)}, "coalesced is not what the service has answered"),
            ({"total": Counter(accepted=2, coalesced=1, succeeded=1)}, "accepted is not succeeded + dropped + left"),
            ({"total": Counter(runs_succeeded=3)}, "fewer were received than delivered"),
        ],
    )
    def test_each_fault_is_told(self, changes: dict[str, Any], fault: str) -> None:
        """A check that cannot fail proves nothing."""
        report = replace(self.SOUND, **changes)
        assert fault in report.faults
        assert fault in str(report)
        assert "OK" not in str(report)

    def test_the_demo_fails_when_a_hook_is_lost(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The exit code is 1."""

        class Forgetful(Receiver):
            async def receive(self, request: Request) -> Response:
                answer = await super().receive(request)
                self.received.clear()
                return answer

        monkeypatch.setattr(demo, "Receiver", Forgetful)
        before = signal.getsignal(signal.SIGINT)
        try:
            assert asyncio.run(demo.demo(8, 1)) == 1
        finally:
            signal.signal(signal.SIGINT, before)
        assert "hooks were lost" in capsys.readouterr().out


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "examples.webhooks", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def number(out: str, row: str) -> int:
    match = re.search(rf"^{row} +(\d+)", out, re.MULTILINE)
    assert match, f"no row {row!r} in:\n{out}"
    return int(match[1])


class TestDemo:
    def test_2000_hooks(self) -> None:
        """The demo as it is run: every hook is accounted for."""
        with start() as process:
            out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, ""), out + err
        delivered, superseded, dead = (number(out, row) for row in ("delivered", "superseded", "dead-lettered"))
        assert number(out, "posted") == delivered + superseded + dead == 2000
        assert re.search(r"^ +\d+   410 Gone$", out, re.MULTILINE)
        assert re.search(r"^ +\d+   500 Internal Server Error \(max_attempts=5 reached\)$", out, re.MULTILINE)
        assert re.search(r"^delivered .* [1-9]\d\d of them after a retry$", out, re.MULTILINE)
        assert re.search(r"p50 \d+\.\d\d s   p99 \d+\.\d\d s", out)
        assert "every hook is accounted for, and the sums agree: OK" in out

    @pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
    def test_ctrl_c_stops_gracefully(self) -> None:
        """What is left is told, nothing is lost, and the exit code says that it was interrupted."""
        with start("--count", "100000") as process:
            assert process.stdout is not None
            for line in process.stdout:
                if re.search(r"delivered +[1-9]", line):
                    break
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (demo.INTERRUPTED, ""), out + err
        assert "interrupted: delivering for at most 5 s more" in out
        assert 0 < number(out, "posted") < 100_000
        assert "every hook is accounted for, and the sums agree: OK" in out
