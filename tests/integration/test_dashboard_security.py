"""The dashboard against those who should not see it or touch it: one test for each thing that is promised."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any

import httpx
import pytest

from rate_envelope_queue import Envelope, EnvelopeQueue, StopMode
from rate_envelope_queue.dashboard import Dashboard, dashboard, serve
from rate_envelope_queue.testing import SimulatedEnvelopeQueue

from .dashboard_world import BEARER, HOSTILE, TOKEN, act, ask, fails, look, noop, until

API = ["/api/state", "/api/session", "/api/events"]
PATHS = ["/", "/static/js/main.js", "/static/nothing", "/nowhere", *API]


@pytest.fixture
def queue() -> SimulatedEnvelopeQueue:
    queue = SimulatedEnvelopeQueue("mail", stop_mode=StopMode.STOP)
    queue.start()
    return queue


@pytest.fixture
def app(queue: Any) -> Dashboard:
    return dashboard(queue, token=TOKEN, allow_actions=True)


# 1 A listener only when asked for, on loopback, and elsewhere only with a token


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1"])
def test_a_host_that_others_reach_needs_a_token(queue: Any, host: str) -> None:
    """Without a token of the user's nothing is served there: ValueError, not a warning."""
    for token in (None, False):
        with (
            pytest.raises(ValueError, match="can be reached by others: give a token"),
            serve(queue, host=host, token=token),
        ):
            pass


def test_the_default_is_loopback(queue: Any) -> None:
    """The port is bound to 127.0.0.1."""
    with serve(queue) as server:
        assert server.host == "127.0.0.1"
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=[\w-]{43}", server.url)


# 2 Tokens


def test_a_token_is_made_for_each_start(queue: Any) -> None:
    """256 bits, another each time."""
    tokens = {dashboard(SimulatedEnvelopeQueue("q")).token for _ in range(20)}
    assert len(tokens) == 20
    assert all(token is not None and len(token) == 43 for token in tokens)


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 15, "with a space in it", "ünicode-of-some-length", 12, b"x" * 20]
)
def test_a_token_that_would_not_do(queue: Any, token: Any) -> None:
    """One that can be guessed or cannot be sent is refused when the dashboard is made."""
    with pytest.raises(ValueError, match="token must"):
        dashboard(queue, token=token)


@pytest.mark.parametrize("path", API)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer \u00e9".encode("latin-1")},
        {"Cookie": f"queue_dashboard={TOKEN}"},
    ],
)
def test_the_api_needs_the_token(app: Dashboard, path: str, headers: Any) -> None:
    """Without it, or with another, nothing is told: 401."""
    answer = ask(app, "GET", path, headers=headers)
    assert (answer.status_code, list(answer.json())) == (401, ["error"])
    assert "mail" not in answer.text


def test_the_token_is_not_taken_from_the_query(app: Dashboard) -> None:
    """A query is kept in histories and logs: the token in it counts for nothing."""
    assert ask(app, "GET", "/api/state", params={"token": TOKEN}).status_code == 401


def test_the_exchange_for_a_cookie(app: Dashboard) -> None:
    """The token is exchanged for a cookie, HttpOnly and SameSite=Strict, which is not the token and opens the API."""
    answer = ask(app, "POST", "/api/session", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 200
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert TOKEN not in cookie + answer.text
    assert ask(app, "GET", "/api/state", headers={"Cookie": cookie.split(";")[0]}).status_code == 200


def test_the_cookie_is_secure_over_tls(app: Dashboard) -> None:
    """Where TLS is used the cookie never travels without it."""
    answer = ask(app, "POST", "/api/session", base="https://127.0.0.1:8000", json={"token": TOKEN})
    assert "Secure" in answer.headers["set-cookie"].split("; ")


@pytest.mark.parametrize("body", [{"token": "wrong"}, {"token": None}, {"token": 1}, {"token": [TOKEN]}, {}, {"a": 1}])
def test_a_wrong_exchange(app: Dashboard, body: Any) -> None:
    """No cookie for what is not the token."""
    answer = ask(app, "POST", "/api/session", json=body)
    assert answer.status_code in (401, 422)
    assert "set-cookie" not in answer.headers


def test_the_cookies_of_two_dashboards(queue: Any) -> None:
    """Cookies know no ports: each dashboard has a name of its own, and the other's does not open it."""
    one, two = (dashboard(SimulatedEnvelopeQueue("q")) for _ in range(2))
    cookies = [
        ask(each, "POST", "/api/session", json={"token": each.token}).headers["set-cookie"].split(";")[0]
        for each in (one, two)
    ]
    assert cookies[0].split("=")[0] != cookies[1].split("=")[0]
    assert ask(two, "GET", "/api/state", headers={"Cookie": cookies[0]}).status_code == 401
    assert ask(two, "GET", "/api/state", headers={"Cookie": "; ".join(cookies)}).status_code == 200


def test_the_token_is_never_logged(queue: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Neither logs nor reprs hold it, whatever is asked."""
    caplog.set_level(0)
    with serve(queue, token=TOKEN, allow_actions=True) as server:
        httpx.get(f"{server.address}/api/state", headers=BEARER, timeout=10)
        httpx.post(f"{server.address}/api/session", json={"token": TOKEN}, timeout=10)
        httpx.post(f"{server.address}/api/queues/0/pause", json={}, headers=BEARER, timeout=10)
        assert TOKEN not in repr(server) + repr(server.app)
    assert "pause of queue mail" in caplog.text
    assert TOKEN not in caplog.text
    assert not any(TOKEN in repr(vars(record)) for record in caplog.records if record.name != "httpx")


def test_no_token_only_when_told_so(queue: Any) -> None:
    """token=False: somebody in front of it asks who comes. What changes something still needs the page's own secret."""
    app = dashboard(queue, token=False, allow_actions=True)
    assert app.token is None
    assert ask(app, "GET", "/api/state").status_code == 200
    assert ask(app, "POST", "/api/queues/0/pause", json={}).status_code == 403
    csrf = ask(app, "GET", "/api/session").json()["csrf"]
    assert ask(app, "POST", "/api/queues/0/pause", json={}, headers={"X-CSRF-Token": csrf}).status_code == 200


# 3 Hosts and origins


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "192.0.2.1", "127.0.0.2", "[::2]",
             "", "localhost:80:80", "localhost@evil.example", "localhost/", "localhost:port"],
)  # fmt: skip
def test_a_foreign_host(app: Dashboard, path: str, host: str) -> None:
    """A name that an attacker has pointed here (DNS rebinding) is refused, whatever else the request brings."""
    answer = ask(app, "GET", path, headers={**BEARER, "Host": host})
    assert (answer.status_code, list(answer.json())) == (403, ["error"])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_its_own_hosts(app: Dashboard, host: str) -> None:
    """The names of loopback, with any port."""
    assert ask(app, "GET", "/api/state", headers={**BEARER, "Host": host}).status_code == 200


def test_hosts_that_were_allowed(queue: Any) -> None:
    """allowed_hosts are the only ones."""
    app = dashboard(queue, token=TOKEN, allowed_hosts=["Queues.Example.ORG", "[2001:db8::1]"])
    for host, status in {"queues.example.org:443": 200, "[2001:db8::1]": 200, "localhost": 403}.items():
        assert ask(app, "GET", "/api/state", headers={**BEARER, "Host": host}).status_code == status


@pytest.mark.parametrize(
    ("hosts", "error"),
    [("localhost", TypeError), (["http://localhost"], ValueError), (["localhost:80"], ValueError), (["*"], ValueError)],
)
def test_allowed_hosts_that_would_allow_nothing(queue: Any, hosts: Any, error: type[Exception]) -> None:
    """What is no name of a host is refused when the dashboard is made."""
    with pytest.raises(error, match="allowed_hosts"):
        dashboard(queue, allowed_hosts=hosts)


def test_two_hosts(app: Dashboard) -> None:
    """A request with two Host headers, of which each reader would take another, is refused."""
    headers = [("Host", "localhost"), ("Host", "evil.example"), *BEARER.items()]
    assert ask(app, "GET", "/api/state", headers=headers).status_code == 403


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:8001"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "127.0.0.1:8000"},
        {"Origin": "file://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_a_page_of_another_origin(app: Dashboard, method: str, headers: dict[str, str]) -> None:
    """Another site's page, also one on another port of this machine, may neither read nor act, token or not."""
    path = "/api/state" if method == "GET" else "/api/queues/0/pause"
    options: dict[str, Any] = {} if method == "GET" else {"json": {}}
    assert ask(app, method, path, headers={**BEARER, **headers}, **options).status_code == 403


def test_its_own_page(app: Dashboard) -> None:
    """The page itself may; and a link from elsewhere may open it."""
    own = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
    assert act(app, "pause", headers={**BEARER, **own}).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(app, "GET", "/", headers=link).status_code == 200


# 4 Forged requests


@pytest.mark.parametrize("action", ["pause", "stop", "clear_dead_letters"])
def test_nothing_changes_by_get(app: Dashboard, queue: Any, action: str) -> None:
    """Actions are POST alone."""
    before = queue.stats(), queue.is_paused
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        assert ask(app, method, f"/api/queues/0/{action}", headers=BEARER).status_code == 405
    assert (queue.stats(), queue.is_paused) == before


def logged_in(app: Dashboard) -> tuple[dict[str, str], str]:
    answer = ask(app, "POST", "/api/session", json={"token": TOKEN})
    return {"Cookie": answer.headers["set-cookie"].split(";")[0]}, answer.json()["csrf"]


def test_a_cookie_alone_changes_nothing(app: Dashboard, queue: Any) -> None:
    """With the cookie, which the browser sends by itself, the page's secret must come in a header."""
    cookie, csrf = logged_in(app)
    for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": csrf[:-1]}, {"X-CSRF-Token": TOKEN}):
        assert act(app, "pause", headers={**cookie, **headers}).status_code == 403
    assert not queue.is_paused
    assert act(app, "pause", headers={**cookie, "X-CSRF-Token": csrf}).status_code == 200
    assert queue.is_paused


@pytest.mark.parametrize(
    "type_",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json-patch+json"],
)
def test_json_alone(app: Dashboard, queue: Any, type_: str) -> None:
    """A form of another site cannot send application/json, and nothing else is taken."""
    for path in ("/api/queues/0/pause", "/api/session"):
        answer = ask(app, "POST", path, headers={**BEARER, "Content-Type": type_}, content=json.dumps({"token": TOKEN}))
        assert answer.status_code == 415
    assert not queue.is_paused


@pytest.mark.parametrize("path", PATHS)
def test_nobody_else_is_told_that_he_may_read(app: Dashboard, path: str) -> None:
    """There are no CORS headers, and preflights are refused."""
    origin = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for headers in ({}, origin):
        answer = ask(app, "OPTIONS", path, headers=headers)
        assert answer.status_code in (403, 404, 405)
        assert not [name for name in answer.headers if name.startswith("access-control")]


# 5 Looking, and acting


@pytest.mark.parametrize(
    "action", ["pause", "resume", "resize", "stop", "start", "cancel", "retry", "clear_dead_letters"]
)
def test_it_only_shows_by_default(queue: Any, action: str) -> None:
    """Without allow_actions=True there are none, also with the token."""
    app = dashboard(queue, token=TOKEN)
    answer = act(app, action)
    assert (answer.status_code, "allow_actions" in answer.text) == (403, True)
    assert ask(app, "GET", "/api/session", headers=BEARER).json()["actions"] == []
    assert (queue.is_paused, queue.state.value) == (False, "running")


def test_actions_are_logged(app: Dashboard, caplog: pytest.LogCaptureFixture) -> None:
    """Each action, done or refused, leaves a record: what, of which queue, by whom, and what came of it."""
    act(app, "resize", {"workers": 3})
    act(app, "cancel", {"entry": 77})
    act(app, "explode%1b[31m")
    done, refused, unknown = (r for r in caplog.records if r.name == "rate_envelope_queue.dashboard")
    assert done.levelno == logging.WARNING
    assert done.getMessage() == "dashboard: resize of queue mail, asked for by 127.0.0.1 with workers=3: 3 workers"
    assert (done.dashboard_action, done.dashboard_queue) == ("resize", "mail")  # type: ignore[attr-defined]
    assert (done.dashboard_client, done.dashboard_result) == ("127.0.0.1", "3 workers")  # type: ignore[attr-defined]
    assert "refused: that entry is no longer in the queue" in refused.getMessage()
    assert "\x1b" not in unknown.getMessage()
    assert "explode\\x1b[31m" in unknown.getMessage()


# 6 and 7 What is shown of the users' objects


class Loud:
    """A payload that says what it is."""

    def __init__(self, text: str = "the payload says hello") -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


class Raising:
    """A payload and id of which nothing can be had."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


def everything(app: Dashboard) -> str:
    return ask(app, "GET", "/api/state", headers=BEARER).text


def test_payloads_are_not_shown(queue: Any) -> None:
    """By default nothing of a payload is told, be it delayed or dead."""
    app = dashboard(queue, token=TOKEN)
    queue.send(Envelope(noop, payload=Loud(), type="waits"), delay=1000)
    queue.send(Envelope(lambda ctx, envelope: 1 / 0, payload=Loud(), type="dies"))
    queue.run_until_idle()
    text = everything(app)
    assert "hello" not in text
    assert "payload" not in text
    assert ("waits" in text, "dies" in text) == (True, True)


def payloads(app: Dashboard) -> list[Any]:
    state = json.loads(everything(app))["queues"][0]
    return [each["payload"] for each in (*state["due"], *state["dead_letters"]["recent"])]


def shown_payload(queue: Any, payload: Any, **options: Any) -> str:
    """What is shown of a payload, once it has been made."""
    app = dashboard(queue, token=TOKEN, show_payloads=True, **options)
    queue.send(Envelope(noop, payload=payload), delay=1000)

    def made() -> Any:
        look(app)
        return [text for text in payloads(app) if text != "..."]

    (text,) = until(made)
    return str(text)


def test_payloads_when_asked_for(queue: Any) -> None:
    """show_payloads shows their repr."""
    assert shown_payload(queue, {"to": "ann", "n": [1, 2]}) == "{'n': [1, 2], 'to': 'ann'}"


def test_a_payload_is_bounded(queue: Any) -> None:
    """At most 4 KiB of it."""
    assert len(shown_payload(queue, Loud("x" * 1_000_000))) <= 4096


def test_a_payload_that_raises(queue: Any) -> None:
    """A repr that raises is not the dashboard's fault."""
    assert shown_payload(queue, Raising()).startswith(("<Raising instance", "(it could not"))


def test_a_payload_is_redacted(queue: Any) -> None:
    """redact answers what is shown in the payload's place; when it raises, nothing of the payload is shown."""
    seen: list[Any] = []
    assert shown_payload(queue, Loud(), redact=lambda envelope: seen.append(envelope.payload) or "secret") == "secret"
    assert str(seen[0]) == "the payload says hello"

    def broken(envelope: Any) -> object:
        raise ValueError(envelope.payload)

    queue.clear()
    assert shown_payload(queue, Loud(), redact=broken) == "(it could not be shown)"


def test_a_payload_that_is_slow(queue: Any) -> None:
    """A repr that does not end holds up nobody: the state comes, and says so."""
    import threading

    gate = threading.Event()

    class Slow:
        def __repr__(self) -> str:
            assert gate.wait(20)
            return "at last"

    app = dashboard(queue, token=TOKEN, show_payloads=True)
    queue.send(Envelope(noop, payload=Slow(), id="slow"), delay=1000)
    try:
        until(lambda: look(app) or payloads(app) == ["(its repr takes too long)"])
    finally:
        gate.set()
    until(lambda: look(app) or payloads(app) == ["at last"])


def test_hostile_text_is_plain_text(queue: Any) -> None:
    """Types, ids, errors, reasons and names are escaped and bounded strings, whatever they hold."""
    hostile = SimulatedEnvelopeQueue(HOSTILE)
    hostile.start()
    app = dashboard(hostile, token=TOKEN)
    hostile.send(Envelope(fails, type=HOSTILE, id=HOSTILE * 100, payload=HOSTILE))
    hostile.run_until_idle()
    hostile.send(Envelope(noop, type="t", id=Raising()), delay=5)
    answer = ask(app, "GET", "/api/state", headers=BEARER)
    (state,) = answer.json()["queues"]
    (letter,) = state["dead_letters"]["recent"]
    escaped = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert (state["name"], letter["type"]) == (escaped, escaped[:97] + "..." if len(escaped) > 100 else escaped)
    assert len(letter["id"]) == 100
    assert letter["error"] == f"RuntimeError: {escaped}"
    assert not re.search(r"[\x00-\x1f\u202e]", answer.text)


@pytest.mark.parametrize("id_", [1, -(10**5000), 1.5, True, (1, "two"), "three", Loud("x" * 9999), Raising()],
                         ids=["int", "huge", "float", "bool", "tuple", "str", "long", "raising"])  # fmt: skip
def test_ids_of_all_kinds(queue: Any, id_: Any) -> None:
    """An id is a short text, whatever it is."""
    app = dashboard(queue, token=TOKEN)
    queue.send(Envelope(noop, id=id_), delay=1000)

    def shown() -> Any:
        look(app)
        (due,) = json.loads(everything(app))["queues"][0]["due"]
        return due["id"] != "..." and due["id"]

    text = until(shown)
    assert isinstance(text, str)
    assert 0 < len(text) <= 100


def test_no_traceback_is_shown(queue: Any) -> None:
    """Tracebacks may hold secrets: the page has the error's class and message, and nothing of its frames."""
    app = dashboard(queue, token=TOKEN)
    queue.send(Envelope(fails, payload="what went wrong"))
    queue.run_until_idle()
    text = everything(app)
    assert "RuntimeError: what went wrong" in text
    assert "dashboard_world" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize("path", [*PATHS, "/api/queues/0/pause"])
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_every_answer_has_the_headers(app: Dashboard, path: str, host: str) -> None:
    """Also errors: CSP without inline script or foreign sources, nosniff, no framing, no referrer, nothing cached."""
    answer = ask(app, "GET", path, headers={"Host": host})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"unsafe|\*|http|data:", policy)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] in ("no-store", "no-cache")


def test_no_inline_script_and_no_foreign_asset() -> None:
    """The files hold no inline script, style or handler, no address of another host, and no innerHTML."""
    from rate_envelope_queue.dashboard.assets import assets

    page = assets()["index.html"].content.decode()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|javascript:|//", page) == []
    for name, asset in assets().items():
        if name.startswith("js/"):
            code = asset.content.decode()
            assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|https?://", code) == []
        if name.startswith("css/"):
            assert re.findall(rb"url\(|@import|https?:", asset.content) == []


# 10 Limits


def test_a_large_body(app: Dashboard) -> None:
    """More than 16 KiB are not read."""
    answer = ask(
        app, "POST", "/api/session", content=b'"' + b"x" * 20_000, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b'"x"', b"null", b"\xff", b"[" * 15_000, b'{"a": NaN'])
def test_a_body_that_is_no_object(app: Dashboard, body: bytes) -> None:
    """400, with a word, and no traceback."""
    for path in ("/api/session", "/api/queues/0/pause"):
        headers = {**BEARER, "Content-Type": "application/json"}
        assert ask(app, "POST", path, content=body, headers=headers).status_code == 400


def test_a_body_that_does_not_come(app: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, but not for ever."""
    monkeypatch.setattr("rate_envelope_queue.dashboard.app.BODY_PATIENCE", 0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/api/session", "raw_path": b"/api/session", "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")], "scheme": "http",
        "http_version": "1.1", "server": ("localhost", 80), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 408


def test_actions_are_limited(app: Dashboard) -> None:
    """Retries and all other actions: at most 20 a second, so that a stuck key does no harm."""
    statuses = [act(app, "retry", {"letter": 1}).status_code for _ in range(25)]
    assert statuses[:20] == [404] * 20
    assert statuses[20:] == [429] * 5


@pytest.mark.parametrize("path", ["../app.py", "..%2fapp.py", "js/../../app.py", "/etc/passwd", "js", "", "vendor/"])
def test_files_that_are_not_the_pages(app: Dashboard, path: str) -> None:
    """Only the page's own files are served, whatever a path says."""
    assert ask(app, "GET", f"/static/{path}").status_code == 404


def test_a_websocket_is_refused(app: Dashboard) -> None:
    """There is none."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": "/", "headers": []}, None, send))  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_the_queue_must_be_a_queue() -> None:
    """What is no queue is refused when the dashboard is made; so is none at all."""
    with pytest.raises(ValueError, match="at least one queue"):
        dashboard()
    with pytest.raises(TypeError, match="a dashboard shows queues, not a str"):
        dashboard("mail")  # type: ignore[arg-type]


def test_it_needs_its_extra_alone() -> None:
    """Importing the package brings neither the dashboard nor starlette, and a queue needs neither."""
    import subprocess
    import sys

    code = (
        "import sys, rate_envelope_queue as r; q = r.EnvelopeQueue('q'); q.start(); q.stop(); "
        "print([m for m in sys.modules if m.split('.')[0] in ('starlette', 'uvicorn') or 'dashboard' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
    assert EnvelopeQueue.__module__.startswith("rate_envelope_queue.drivers")
