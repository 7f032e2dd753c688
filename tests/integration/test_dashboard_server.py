"""The dashboard on a port of its own: it starts, streams, bounds its clients, and leaves nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from rate_envelope_queue import AsyncEnvelopeQueue, Envelope, EnvelopeQueue, QueueState
from rate_envelope_queue.dashboard import Server, serve
from rate_envelope_queue.testing import SimulatedEnvelopeQueue

from .dashboard_world import TOKEN, noop, stopped_at_end, until

NAME = "rate-envelope-queue dashboard"


@pytest.fixture
def queue() -> SimulatedEnvelopeQueue:
    return SimulatedEnvelopeQueue("mail")


def bearer(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token}"}


def get(server: Server, path: str, **options: Any) -> httpx.Response:
    return httpx.get(server.address + path, headers=bearer(server), timeout=20, **options)


@contextmanager
def streaming(server: Server, **headers: str) -> Iterator[Iterator[tuple[str, str, Any]]]:
    """The events of one stream: name, id, data."""
    wanted = {**bearer(server), **headers}
    with httpx.stream("GET", f"{server.address}/api/events", headers=wanted, timeout=20) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield events(answer.iter_lines())


def events(lines: Iterator[str]) -> Iterator[tuple[str, str, Any]]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
            fields = {}


# Start and stop


def test_it_serves_and_stops(queue: Any) -> None:
    """Inside the block the state can be had at `{address}/api/state`; afterwards port and thread are gone."""
    with serve(queue) as server:
        assert get(server, "/api/state").json()["queues"][0]["name"] == "mail"
        assert [thread.name for thread in threading.enumerate()].count(NAME) == 1
    assert NAME not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(httpx.ConnectError):
        get(server, "/api/state")


def test_many_starts(queue: Any) -> None:
    """One after another, on the same port: nothing is left of the one before (threads and files: see conftest)."""
    with serve(queue) as server:
        port = server.port
    for _ in range(5):
        with serve(queue, port=port) as server:
            assert get(server, "/").status_code == 200


def test_two_at_once(queue: Any) -> None:
    """Two dashboards of one queue, on two ports."""
    with serve(queue) as one, serve(queue) as two:
        assert one.port != two.port
        assert [get(each, "/api/state").status_code for each in (one, two)] == [200, 200]


def test_a_port_that_is_taken(queue: Any) -> None:
    """OSError at once, and nothing is left."""
    with serve(queue) as server, pytest.raises(OSError, match=r"(?i)in use"), serve(queue, port=server.port):
        pass


def test_an_error_in_the_block(queue: Any) -> None:
    """It comes out, and the server has stopped."""
    with pytest.raises(LookupError), serve(queue):
        raise LookupError
    assert NAME not in [thread.name for thread in threading.enumerate()]


def test_ipv6(queue: Any) -> None:
    """On ::1, where there is IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with serve(queue, host="::1") as server:
        assert server.address == f"http://[::1]:{server.port}"
        assert get(server, "/api/state").status_code == 200


def test_on_all_addresses(queue: Any) -> None:
    """With a token of the user's; an address may be called by its number, which no name can be pointed at."""
    with serve(queue, host="0.0.0.0", token=TOKEN, allowed_hosts=["queues.example.org"]) as server:
        here = f"http://127.0.0.1:{server.port}/api/state"
        for host, status in {"192.0.2.7": 200, "queues.example.org": 200, "evil.example": 403}.items():
            headers = {**bearer(server), "Host": host}
            assert httpx.get(here, headers=headers, timeout=20).status_code == status


def test_no_news_in_the_log(queue: Any, caplog: pytest.LogCaptureFixture) -> None:
    """That a server started and stopped is the caller's to log: uvicorn says nothing, and nobody's loggers change."""
    caplog.set_level(logging.INFO)
    before = [
        (logging.getLogger(name).level, logging.getLogger(name).filters[:]) for name in ("uvicorn", "uvicorn.error")
    ]
    with serve(queue) as server:
        get(server, "/")
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert before == [
        (logging.getLogger(name).level, logging.getLogger(name).filters[:]) for name in ("uvicorn", "uvicorn.error")
    ]


def test_the_past_is_there_when_somebody_comes(queue: Any) -> None:
    """It samples also while nobody looks, so that the charts begin with what was."""
    with serve(queue) as server:

        def points() -> int:
            with streaming(server) as stream:
                return len(next(stream)[2]["points"][0])

        assert until(lambda: points() >= 2)


# Streams


def test_a_stream(queue: Any) -> None:
    """First the past, then the state about once a second, each with the number of its sample."""
    with serve(queue) as server, streaming(server) as stream:
        name, _, past = next(stream)
        assert (name, len(past["points"])) == ("history", 1)
        begun = time.monotonic()
        states = [next(stream) for _ in range(3)]
        assert [name for name, _, _ in states] == ["state"] * 3
        numbers = [int(id_) for _, id_, _ in states]
        assert numbers == sorted(set(numbers))
        assert {"name", "state", "stats", "rates", "deltas", "running", "due", "dead_letters"} <= set(
            states[0][2]["queues"][0]
        )
        assert 1.5 < time.monotonic() - begun < 15


def test_a_stream_is_taken_up_again(queue: Any) -> None:
    """With the number of the last sample it had, a client gets only what came after it."""
    with serve(queue) as server:
        with streaming(server) as stream:
            next(stream)
            _, first, _ = next(stream)
            _, second, _ = next(stream)
        with streaming(server, **{"Last-Event-ID": first}) as stream:
            _, _, past = next(stream)
            assert int(second) - int(first) <= len(past["points"][0]) <= 5
        for wrong in ("x", "-1", "9" * 400, ""):
            with streaming(server, **{"Last-Event-ID": wrong}) as stream:
                assert next(stream)[0] == "history"


def test_a_stream_ends_by_itself(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds: so no server that stops waits long for it. The browser comes back by itself."""
    monkeypatch.setattr("rate_envelope_queue.dashboard.stream.SECONDS", 0.05)
    with serve(queue) as server, streaming(server) as stream:
        assert [name for name, _, _ in stream] == ["history", "state", "state"]


def test_the_clients_are_bounded(queue: Any) -> None:
    """Sixteen streams; the next gets 503 and word to come back; a place that was left is free again."""
    with serve(queue) as server:
        streams = [streaming(server) for _ in range(16)]
        open_ = [stream.__enter__() for stream in streams]  # which keeps them open
        for lines in open_:
            next(lines)
        answer = get(server, "/api/events")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert get(server, "/api/state").status_code == 200
        streams.pop().__exit__(None, None, None)

        def has_room() -> bool:
            with httpx.stream("GET", f"{server.address}/api/events", headers=bearer(server), timeout=20) as answer:
                return answer.status_code == 200

        until(has_room)
        for stream in streams:
            stream.__exit__(None, None, None)


def test_open_streams_do_not_hold_up_the_end(queue: Any) -> None:
    """The end of the block ends them."""
    with serve(queue) as server:
        stream = streaming(server)
        lines = stream.__enter__()
        next(lines)
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    assert {name for name, _, _ in lines} <= {"state"}
    stream.__exit__(None, None, None)


def raw(server: Server) -> socket.socket:
    connection = socket.create_connection((server.host, server.port), timeout=20)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return connection


def test_a_client_that_does_not_read(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up nobody else, and is dropped when what it was sent does not go away."""
    monkeypatch.setattr("rate_envelope_queue.dashboard.stream.PATIENCE", 0.2)
    monkeypatch.setattr("rate_envelope_queue.dashboard.stream.INTERVAL", 0.001)
    monkeypatch.setattr("rate_envelope_queue.dashboard.stream.MOST_CLIENTS", 1)
    queue.send(*[Envelope(noop, type="t" * 100, id="i" * 100) for _ in range(100)], delay=10)
    with serve(queue) as server, raw(server) as connection:
        request = f"GET /api/events HTTP/1.1\r\nHost: {server.host}\r\nAuthorization: Bearer {server.token}\r\n\r\n"
        connection.sendall(request.encode())
        until(lambda: get(server, "/api/events").status_code == 503)
        begun = time.monotonic()
        assert get(server, "/api/state").status_code == 200
        assert time.monotonic() - begun < 5

        def has_room() -> bool:
            with httpx.stream("GET", f"{server.address}/api/events", headers=bearer(server), timeout=20) as answer:
                return answer.status_code == 200

        until(has_room)


def test_a_client_that_does_not_ask(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which no whole request comes (slow loris) is dropped, whatever trickles in."""
    monkeypatch.setattr("rate_envelope_queue.dashboard.server.REQUEST_PATIENCE", 0.3)
    with serve(queue) as server, raw(server) as silent, raw(server) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")

        def is_dropped(connection: socket.socket) -> bool:
            try:
                connection.sendall(b"X: y\r\n")
                connection.settimeout(0.01)
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        until(lambda: is_dropped(slow))
        until(lambda: is_dropped(silent))
        assert get(server, "/").status_code == 200


def test_one_request_on_a_connection(queue: Any) -> None:
    """After its answer the connection is closed: a second request has nothing to trickle into."""
    with serve(queue) as server, raw(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b""
        while part := connection.recv(65536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in answer.lower()


@pytest.mark.parametrize(
    "request_", [b"\x00" * 100, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"A" * 200_000 + b"\r\n\r\n"]
)
def test_what_is_no_request(queue: Any, request_: bytes) -> None:
    """It is refused, and the server goes on."""
    with serve(queue) as server:
        with raw(server) as connection:
            try:
                connection.sendall(request_)
                assert connection.recv(20)[9:12] in (b"400", b"403", b"431")
            except ConnectionError:
                pass
        assert get(server, "/").status_code == 200


# Queues of both flavours, while they run


def test_a_running_queue() -> None:
    """A queue on threads: its actions do not wait for what runs."""
    queue = EnvelopeQueue("mail", workers=2)
    with stopped_at_end(queue), serve(queue, allow_actions=True) as server:
        for action, state in (
            ("start", QueueState.RUNNING),
            ("stop", QueueState.STOPPED),
            ("start", QueueState.RUNNING),
        ):
            answer = httpx.post(f"{server.address}/api/queues/0/{action}", json={}, headers=bearer(server), timeout=20)
            assert answer.status_code == 200, answer.text
            until(lambda state=state: queue.state is state)


def test_an_asyncio_queue() -> None:
    """Served from a thread while its loop runs here: actions go to that loop."""

    async def main() -> None:
        queue = AsyncEnvelopeQueue("mail")
        async with queue:
            with serve(queue, allow_actions=True) as server:
                async with httpx.AsyncClient(base_url=server.address, headers=bearer(server), timeout=20) as client:
                    for action, is_running in (("stop", False), ("start", True)):
                        answer = await client.post(f"/api/queues/0/{action}", json={})
                        assert answer.status_code == 200, answer.text
                        if not is_running:
                            await queue.stop()
                        assert (queue.state is QueueState.RUNNING) is is_running
                    assert (await client.post("/api/queues/0/pause", json={})).status_code == 200
                    assert queue.is_paused
                    queue.resume()

    asyncio.run(main())


def test_an_asyncio_queue_whose_loop_is_not_known() -> None:
    """Its loop cannot be guessed: starting and stopping it are refused with advice; all else works."""
    queue = AsyncEnvelopeQueue("mail")
    with serve(queue, allow_actions=True) as server:
        for action, status in (("start", 409), ("stop", 409), ("pause", 200), ("resume", 200)):
            answer = httpx.post(f"{server.address}/api/queues/0/{action}", json={}, headers=bearer(server), timeout=20)
            assert answer.status_code == status
            assert status == 200 or "loop=" in answer.json()["error"]


def test_its_observer_leaves_with_it() -> None:
    """After the block the queue is as cheap as before."""
    queue = SimulatedEnvelopeQueue("mail")
    with serve(queue) as server:
        watch = server.app.observers[0]
    assert queue.remove_observer(watch) is False
