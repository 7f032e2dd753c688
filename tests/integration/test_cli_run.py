"""`rate-envelope-queue run`: queues of a service in a process of its own, told to stop by signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from .cli_world import COMMAND, PREFIX, cli, cli_on_terminal, run_cli, write_module

APP = """
import asyncio, logging, os, signal, sys, threading
from rate_envelope_queue import AsyncEnvelopeQueue, Envelope, EnvelopeQueue

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

queue = EnvelopeQueue("mail", workers=2)

@queue.handler
def polite(ctx, envelope):
    say("began", envelope.payload)
    while not ctx.stopping:
        ctx.wait(0.01)
    say("ended", envelope.payload)

@queue.handler
def stubborn(ctx, envelope):
    say("began", envelope.payload)
    while not ctx.cancelled:
        ctx.wait(0.01)
    say("cancelled", envelope.payload)
    ctx.check()

@queue.handler
def stuck(ctx, envelope):
    say("began", envelope.payload)
    threading.Event().wait()
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with the module `app`, to which tests add what they want to run."""
    write_module(tmp_path, "app", APP)
    return tmp_path


def add(folder: Path, text: str) -> None:
    """Add to the module `app`."""
    with (folder / "app.py").open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


# Signals, and what follows


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(app: Path, number: signal.Signals) -> None:
    """What runs and what is ready is done; the summary says so, and the exit code is 0."""
    add(app, "queue.resize(1); queue.send(*(polite.envelope(n) for n in range(3)))")
    with cli("run", "app:queue", cwd=app) as run:
        run.err.wait_for("mail: starting with 1 worker\n")
        run.out.wait_for("began 0")
        run.signal(number)
        assert run.wait() == 0
    assert run.out.lines == [f"{word} {n}" for n in range(3) for word in ("began", "ended")]
    assert f"{number.name}: stopping, for at most 20 s" in run.err.text
    assert "mail: 3 runs; 3 succeeded, 0 dropped, 0 kept, 0 abandoned" in run.err.lines


def test_a_second_signal_cancels(app: Path) -> None:
    """A drain that lasts is cut short; what was cancelled is kept, and the summary says that it is lost."""
    add(app, 'queue.send(stubborn.envelope("one")); queue.send(polite.envelope("later"), delay=3600)')
    with cli("run", "app:queue", cwd=app) as run:
        run.out.wait_for("began one")
        run.signal(signal.SIGTERM)
        run.err.wait_for("SIGTERM: stopping")
        run.signal(signal.SIGTERM)
        run.out.wait_for("cancelled one")
        assert run.wait() == 0
    assert "1 run; 0 succeeded, 0 dropped, 2 kept, 0 abandoned" in run.err.text
    assert "kept (2): lost with this process, unless the queue is durable" in run.err.text


def test_kept_periodics_are_no_loss(app: Path) -> None:
    """They are sent again at the next start: counted, but nothing is said to be lost."""
    add(app, 'queue.send(Envelope.every(3600, lambda ctx, envelope: say("tick")))')
    with cli("run", "app:queue", cwd=app) as run:
        run.out.wait_for("tick")
        run.signal(signal.SIGTERM)
        assert run.wait() == 0
    assert "mail: 1 run; 0 succeeded, 0 dropped, 1 periodic, 0 kept, 0 abandoned" in run.err.text
    assert "lost" not in run.err.text


def test_work_that_is_abandoned(app: Path) -> None:
    """It is named, the exit code is 1, and the process ends in spite of it, within its time."""
    add(app, 'queue.send(stuck.envelope("x", id="msg\\n7"))')
    with cli("run", "app:queue", "--shutdown-timeout", "0.2", cwd=app) as run:
        run.out.wait_for("began x")
        told_at = time.monotonic()
        run.signal(signal.SIGTERM)
        assert run.wait() == 1
    assert time.monotonic() - told_at < 0.2 + 1 + 5
    assert "1 abandoned" in run.err.text
    assert r"  abandoned: <Envelope 'stuck' id='msg\n7'>" in run.err.lines


def test_a_thread_of_the_users_does_not_hold_a_process_that_has_given_up(app: Path) -> None:
    """A thread that Python waits for at exit is not waited for when work was abandoned."""
    add(app, 'queue.send(stuck.envelope("x")); threading.Thread(target=threading.Event().wait).start()')
    with cli("run", "app:queue", "--shutdown-timeout", "0", cwd=app) as run:
        run.out.wait_for("began x")
        run.signal(signal.SIGTERM)
        assert run.wait() == 1


def test_the_queue_stops_itself(app: Path) -> None:
    """When all queues have been stopped from inside, the process ends."""
    add(app, "queue.send(Envelope(lambda ctx, envelope: ctx.queue.stop() and None))")
    done = run_cli("run", "app:queue", cwd=app)
    assert done.returncode == 0
    assert "1 succeeded" in done.stderr


def test_the_mode_of_the_queue(app: Path) -> None:
    """A queue made with STOP runs nothing more after a signal."""
    add(
        app,
        """
from rate_envelope_queue import StopMode
queue = EnvelopeQueue("brisk", workers=1, stop_mode=StopMode.STOP)
queue.send(*(Envelope(polite.invoke, payload=n) for n in range(3)))""",
    )
    with cli("run", "app:queue", cwd=app) as run:
        run.out.wait_for("began 0")
        run.signal(signal.SIGTERM)
        assert run.wait() == 0
    assert "1 succeeded, 0 dropped, 2 kept" in run.err.text


def test_interrupted_while_it_is_imported(app: Path) -> None:
    """Nothing runs yet: it ends at once, as every program does, without a traceback."""
    add(app, 'signal.signal(signal.SIGINT, signal.default_int_handler); say("importing"); threading.Event().wait()')
    with cli("run", "app:queue", cwd=app) as run:
        run.out.wait_for("importing")
        run.signal(signal.SIGINT)
        assert run.wait() == 130
    assert run.err.text.strip() == ""


# asyncio


LOOPS = """
aqueue = AsyncEnvelopeQueue("fetch")

@aqueue.handler
async def fetch(ctx, envelope):
    say("began", envelope.payload)
    while not ctx.stopping:
        await asyncio.sleep(0.01)
    say("ended", envelope.payload)

@aqueue.handler
async def deaf(ctx, envelope):
    say("began", envelope.payload)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

@aqueue.handler
async def blocking(ctx, envelope):
    say("began", envelope.payload)
    threading.Event().wait()
"""


def test_asyncio(app: Path) -> None:
    """A queue on a loop is drained as well, beside one on threads."""
    add(app, LOOPS + 'aqueue.send(fetch.envelope("a")); queue.send(polite.envelope("t"))')
    with cli("run", "app:aqueue", "app:queue", cwd=app) as run:
        run.out.wait_for("began a")
        run.out.wait_for("began t")
        run.signal(signal.SIGTERM)
        assert run.wait() == 0
    assert "fetch: 1 run; 1 succeeded, 0 dropped, 0 kept, 0 abandoned" in run.err.lines
    assert "mail: 1 run; 1 succeeded, 0 dropped, 0 kept, 0 abandoned" in run.err.lines


@pytest.mark.parametrize(("kind", "reason"), [("deaf", ""), ("blocking", "a handler blocks its event loop")])
def test_a_coroutine_that_will_not_end(app: Path, kind: str, reason: str) -> None:
    """It is abandoned by name, and the process ends, even when it blocks the loop; the other queue drains."""
    add(app, LOOPS + f'aqueue.send({kind}.envelope("a", id=7)); queue.send(polite.envelope("t"))')
    with cli("run", "app:queue", "app:aqueue", "--shutdown-timeout", "0.2", cwd=app) as run:
        run.out.wait_for("began a")
        run.out.wait_for("began t")
        told_at = time.monotonic()
        run.signal(signal.SIGTERM)
        assert run.wait() == 1
    assert time.monotonic() - told_at < 0.2 + 1 + 2 + 5
    assert f"  abandoned: <Envelope '{kind}' id=7>" in run.err.lines
    assert "mail: 1 run; 1 succeeded, 0 dropped, 0 kept, 0 abandoned" in run.err.lines
    assert reason in run.err.text


# What is run, and with which settings


def test_a_factory_and_a_path(app: Path) -> None:
    """`module:make()` is called; `module:name.attribute` is followed; the same queue twice is one."""
    add(
        app,
        """
def make():
    made = EnvelopeQueue("made")
    made.send(Envelope(lambda ctx, envelope: made.stop() and None))
    return made
class holder:
    inner = make()""",
    )
    done = run_cli("run", "app:make()", "app:holder.inner", "app:holder.inner", cwd=app)
    assert done.returncode == 0
    assert done.stderr.count("made: starting") == 2


@pytest.mark.parametrize(
    ("arguments", "env", "workers"),
    [((), {}, 2), ((), {"WORKERS": "5"}, 5), (("-w", "3"), {"WORKERS": "5"}, 3), (("--workers=3",), {}, 3)],
)
def test_option_beats_environment_beats_default(
    app: Path, arguments: tuple[str, ...], env: dict[str, str], workers: int
) -> None:
    """Without either, the queue's own number of workers stays."""
    add(app, "queue.send(Envelope(lambda ctx, envelope: queue.stop() and None))")
    done = run_cli("run", *arguments, "app:queue", cwd=app, env={PREFIX + name: each for name, each in env.items()})
    assert f"mail: starting with {workers} workers" in done.stderr


def test_help_names_the_environment(tmp_path: Path) -> None:
    """Each option has its variable, under one prefix."""
    text = run_cli("run", "--help", cwd=tmp_path).stdout
    for name in ("WORKERS", "SHUTDOWN_TIMEOUT", "LOG_LEVEL", "LOG_FORMAT", "METRICS_PORT", "DASHBOARD", "RELOAD"):
        assert PREFIX + name in text
    for command in ("run", "map", "top"):
        assert command in run_cli("--help", cwd=tmp_path).stdout
    assert "0.1.0" in run_cli("--version", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope:queue",), "there is no module 'nope'"),
        (("app",), "module:name or module:function()"),
        (("app:nope",), "there is no 'nope' in it; there are "),
        (("app:queue()",), "cannot be called"),
        (("app:say",), "is no EnvelopeQueue but <function say"),
        (("app:say",), "if it makes one, say app:say()"),
        (("app:boom()",), "app:boom() failed: LookupError: no config"),
        (("app:simulated",), "a simulated queue runs nothing by itself"),
        (("app:ended",), "cannot be started: QueueTerminatedError"),
        (("broken:queue",), "broken cannot be imported: ZeroDivisionError"),
        (("absent:queue",), "absent cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        (("exits:queue",), "exits cannot be imported: SystemExit: 5"),
        (("app:queue", "-w", "0"), "--workers"),
        (("app:queue", "--shutdown-timeout", "nan"), "--shutdown-timeout"),
        (("app:queue", "--shutdown-timeout=-1"), "--shutdown-timeout"),
        (("app:queue", "--log-level", "loud"), "--log-level"),
        (("app:queue", "--dashboard=here"), "'here' is not HOST:PORT"),
        (("app:queue", "--dashboard=1.2.3.4:99999"), "is not HOST:PORT"),
        ((), "TARGET"),
    ],
)
def test_wrong_usage(app: Path, arguments: tuple[str, ...], message: str) -> None:
    """It is told what is wrong, in words that help, and the exit code is 2."""
    add(
        app,
        """
from rate_envelope_queue.testing import SimulatedEnvelopeQueue
simulated = SimulatedEnvelopeQueue("s")
ended = EnvelopeQueue("ended")
ended.terminate()
def boom():
    raise LookupError("no config")""",
    )
    write_module(app, "broken", "1 / 0")
    write_module(app, "absent", "import nowhere")
    write_module(app, "exits", "raise SystemExit(5)")
    done = run_cli("run", *arguments, cwd=app)
    assert done.returncode == 2
    assert message in done.stderr


def test_an_error_in_the_module_is_shown(app: Path) -> None:
    """With the lines of the user's own, and none of ours."""
    write_module(app, "broken", "def f():\n    1 / 0\nf()\n")
    text = run_cli("run", "broken:queue", cwd=app).stderr
    assert f'File "{app}/broken.py", line 2, in f' in text
    assert "rate_envelope_queue" not in text
    assert "importlib" not in text


def test_without_the_extra(tmp_path: Path) -> None:
    """The script is there in any case, and says what to install."""
    code = "import sys; sys.modules['click'] = None; from rate_envelope_queue.cli import main; main()"
    with cli(cwd=tmp_path, command=[sys.executable, "-c", code]) as run:
        assert run.wait() == 2
    assert "pip install 'rate-envelope-queue[cli]'" in run.err.text


def test_the_script_is_installed(tmp_path: Path) -> None:
    """`rate-envelope-queue` is the command itself."""
    script = Path(sys.executable).with_name("rate-envelope-queue")
    with cli("--help", cwd=tmp_path, command=[str(script)]) as run:
        assert run.wait() == 0
    assert run.out.text.startswith("Usage: rate-envelope-queue")


def test_nobody_reads_the_help(tmp_path: Path) -> None:
    """A closed pipe is no traceback."""
    with subprocess.Popen(
        [*COMMAND, "run", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == b""


# Logs


NOISY = """
@queue.handler
def noisy(ctx, envelope):
    log = logging.getLogger("app")
    log.info("hello %s", "x\\n2026-01-01 00:00:00,000 ERROR   root: forged\\x1b[31m", extra={
        "n": 7, "who": "ann\\x1b[31m\\u202e", "big": "x" * 100_000, "odd": object(), "nan": float("nan")})
    log.info("wrong %d", "number")
    log.debug("not shown")
    queue.stop()
    raise ValueError("bad\\nline")
queue.send(noisy.envelope(1))
"""


def test_json_logs(app: Path) -> None:
    """Every line is one object, with the record's own fields, bounded; the summary is one of them."""
    add(app, NOISY)
    done = run_cli("run", "app:queue", "--log-format", "json", cwd=app)
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(record) for record in records)
    hello, wrong = (record for record in records if record["logger"] == "app")
    assert hello["n"] == 7
    assert hello["who"] == r"ann\x1b[31m\u202e"
    assert len(hello["big"]) == 1000
    assert hello["odd"].startswith("<object ")
    assert hello["nan"] == "nan"
    assert "its arguments do not fit" in wrong["message"]
    [failed] = [record for record in records if record.get("envelope_type") == "noisy"]
    assert failed["level"] == "WARNING"
    assert failed["envelope_error"] == r"ValueError: bad\nline"
    assert records[-1]["runs"] == 1
    assert records[-1]["dropped"] == 1
    assert records[-1]["abandoned"] == 0
    assert records[-1]["envelope_queue"] == "mail"


def test_text_logs(app: Path) -> None:
    """A line break in a message cannot forge a record: what follows is indented; control characters are escaped."""
    add(app, NOISY)
    text = run_cli("run", "app:queue", cwd=app).stderr
    assert "INFO    app: hello x\n    2026-01-01 00:00:00,000 ERROR   root: forged\\x1b[31m\n" in text
    assert "\x1b" not in text
    assert "not shown" not in text
    assert "not shown" in run_cli("run", "app:queue", "--log-level", "DEBUG", cwd=app).stderr
    assert "hello" not in run_cli("run", "app:queue", "--log-level", "warning", cwd=app).stderr


# Other extras


def test_extras_that_are_not_installed(app: Path) -> None:
    """It is said which one to install, before anything runs."""
    add(
        app,
        """
queue.send(polite.envelope(1))
sys.modules["rate_envelope_queue.prometheus"] = sys.modules["rate_envelope_queue.dashboard"] = None""",
    )
    for option, extra in [("--metrics-port=0", "prometheus"), ("--dashboard", "dashboard")]:
        done = run_cli("run", "app:queue", option, cwd=app)
        assert done.returncode == 2
        assert f"{option.partition('=')[0]} needs an extra: pip install 'rate-envelope-queue[{extra}]'" in done.stderr
        assert done.stdout == ""


FAKES = """
import types
from contextlib import contextmanager

def fake(name, **members):
    sys.modules[name] = types.SimpleNamespace(**members)

class Server:
    server_port = 9123
    def shutdown(self): say("metrics ended")
    def server_close(self): pass

def start_http_server(port, addr):
    say("metrics on", addr, port)
    return Server(), threading.current_thread()

@contextmanager
def serve(*queues, host, port, token, allow_actions):
    say("dashboard of", *[each.name for each in queues], "on", host, port, token, allow_actions)
    if port == 1:
        raise OSError("taken")
    yield types.SimpleNamespace(url=f"http://{host}:4567/#token={token or 'made'}")
    say("dashboard ended in", queue.state.value)

threading.current_thread().join = lambda timeout=None: None
fake("rate_envelope_queue.prometheus", register=lambda queue, registry=None: say("registered", queue.name))
fake("prometheus_client", start_http_server=start_http_server)
fake("rate_envelope_queue.dashboard", serve=serve)
queue.send(Envelope(lambda ctx, envelope: queue.stop() and None))
"""


def test_metrics(app: Path) -> None:
    """Served on the loopback address from before the queue starts until after it has stopped."""
    add(app, FAKES)
    done = run_cli("run", "app:queue", "--metrics-port", "0", cwd=app)
    assert done.stdout.splitlines() == ["registered mail", "metrics on 127.0.0.1 0", "metrics ended"]
    assert "metrics: http://127.0.0.1:9123/metrics" in done.stderr.splitlines()


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (("--dashboard", "app:queue"), "127.0.0.1 0"),
        (("app:queue", "--dashboard"), "127.0.0.1 0"),
        (("--dashboard", "localhost:8000", "app:queue"), "localhost 8000"),
        (("--dashboard", "8000", "app:queue"), "127.0.0.1 8000"),
        (("--dashboard=[::1]:8000", "app:queue"), "::1 8000"),
    ],
)
def test_dashboard(app: Path, arguments: tuple[str, ...], where: str) -> None:
    """It is there until the queue has stopped. Where others may read, its address is told without the token."""
    add(app, FAKES)
    done = run_cli("run", *arguments, "--dashboard-actions", cwd=app, env={f"{PREFIX}TOKEN": "s3cret"})
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"dashboard of mail on {where} s3cret True", "dashboard ended in stopped"]
    assert "dashboard: http://" in done.stderr
    assert "s3cret" not in done.stderr


def test_the_dashboard_of_a_terminal(app: Path) -> None:
    """Whoever started it by hand gets an address that can be opened as it is."""
    add(app, FAKES)
    with cli_on_terminal("run", "app:queue", "--dashboard", cwd=app) as (run, _):
        assert run.wait() == 0
    assert "dashboard: http://127.0.0.1:4567/#token=made" in run.err.text


def test_a_dashboard_that_cannot_be_served(app: Path) -> None:
    """Nothing runs then, and the exit code is 2."""
    add(app, FAKES)
    done = run_cli("run", "app:queue", "--dashboard", "127.0.0.1:1", cwd=app)
    assert done.returncode == 2
    assert "--dashboard: http://127.0.0.1:1 cannot be served: OSError: taken" in done.stderr


# Reload


def test_reload(app: Path) -> None:
    """A change drains the old process and starts a new one; a mistake is waited out; one signal ends it all."""
    write_module(app, "version", "NAME = 'one'")
    add(app, "import version; queue.send(polite.envelope(version.NAME))")
    with cli("run", "app:queue", "--reload", cwd=app) as run:
        run.out.wait_for("began one")
        write_module(app, "version", "NAME = 'second'")
        run.out.wait_for("began second")
        write_module(app, "version", "NAME = third'")
        run.err.wait_for("the process has ended with code 2: waiting for a change")
        write_module(app, "version", "NAME = 'the fourth'")
        run.out.wait_for("began the fourth")
        run.signal(signal.SIGTERM)
        assert run.wait() == 0
    words = [line.partition(" ")[0] for line in run.out.lines]
    assert words == ["began", "ended"] * 3
    assert "version.py changed: restarting" in run.err.text
    assert "SyntaxError" in run.err.text


def test_ctrl_c_while_reloading(app: Path) -> None:
    """A terminal sends it to both processes: it counts once, and work is drained, not cancelled."""
    add(app, 'queue.send(polite.envelope("one"))')
    with cli_on_terminal("run", "app:queue", "--reload", cwd=app) as (run, terminal):
        run.out.wait_for("began one")
        run.process.send_signal(signal.SIGSTOP)  # the child has its signal first
        os.write(terminal, b"\x03")
        run.process.send_signal(signal.SIGCONT)
        assert run.wait() == 0
    assert "ended one" in run.out.text
    assert "cancelled" not in run.out.text
    assert "SIGINT: stopping" not in run.err.text


def test_abandoned_while_reloading(app: Path) -> None:
    """The exit code is that of the child, and the second signal reaches it."""
    add(app, 'queue.send(stuck.envelope("one"))')
    with cli("run", "app:queue", "--reload", cwd=app) as run:
        run.out.wait_for("began one")
        run.signal(signal.SIGINT)
        run.err.wait_for("SIGTERM: stopping")
        run.signal(signal.SIGINT)
        assert run.wait() == 1
    assert "abandoned: <Envelope 'stuck'>" in run.err.text


def test_metrics_dashboard_and_top(app: Path) -> None:
    """The real ones: served from before the start until the end, and `top` shows what the dashboard tells."""
    add(app, LOOPS + 'aqueue.send(fetch.envelope("a", id="page-7")); queue.send(polite.envelope("t"))')
    token = {f"{PREFIX}TOKEN": "0123456789abcdef"}
    with cli("run", "app:queue", "app:aqueue", "--dashboard", "--metrics-port", "0", cwd=app, env=token) as run:
        run.out.wait_for("began a")
        run.out.wait_for("began t")
        url = next(line for line in run.err.lines if line.startswith("dashboard: ")).split()[1]
        for _ in range(50):  # the dashboard looks once a second
            shown = run_cli("top", url, cwd=app, env=token)
            if shown.returncode or "page-7" in shown.stdout:
                break
        assert shown.returncode == 0
        for words in (("mail", "running"), ("fetch", "running", "page-7"), ("polite", "attempt 1")):
            assert [word for word in words if word not in shown.stdout] == [], shown.stdout
        assert run_cli("top", url, cwd=app).returncode == 1  # without the token
        address = next(line for line in run.err.lines if line.startswith("metrics: ")).split()[1]
        with urlopen(address, timeout=30) as answer:
            metrics = answer.read().decode()
        assert 'workqueue_adds_total{name="mail"} 1.0' in metrics
        assert 'workqueue_adds_total{name="fetch"} 1.0' in metrics
        run.signal(signal.SIGTERM)
        assert run.wait() == 0
    assert run.out.text.count("ended") == 2
    assert "Traceback" not in run.err.text
