"""An SMTP server on the loopback interface that behaves like the mail world: it delays, refuses and hangs up.

How it treats a recipient depends on the address alone, so that every run of the demo meets the same difficulties.
It accepts a message at one point only, the reply to DATA, and hangs up only before that point. What it accepts it keeps
exactly as received, duplicates included, so that they can be counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections import Counter
from dataclasses import dataclass
from enum import Enum

from aiosmtpd.smtp import SMTP, Envelope, Session

from .letters import ID_HEADER

HOST = "127.0.0.1"
GREYLIST_SECONDS = 0.5
STUCK_SECONDS = 30.0  # far beyond the deadline of a delivery

logging.getLogger("mail.log").setLevel(
    logging.CRITICAL
)  # aiosmtpd reports clients that go away; here they are meant to


class Manner(Enum):
    """How a recipient is treated."""

    PLAIN = "accepted"
    GREY = "450 until a short time has passed, then accepted"
    SLOW = "accepted after 0.3 to 2 seconds"
    STUCK = "the first time no answer for a long time, then accepted"
    FLAKY = "the connection is dropped once or twice, then accepted"
    BUSY = "451 every time"
    FULL = "552 every time"
    GONE = "550 every time"


_REFUSALS = {
    Manner.BUSY: "451 4.3.2 the mailbox is busy",
    Manner.FULL: "552 5.2.2 the mailbox is full",
    Manner.GONE: "550 5.1.1 no such mailbox",
}
# For addresses whose names say nothing: each manner gets the addresses whose hash is below its number, of 256.
_SHARES = ((Manner.GREY, 40), (Manner.SLOW, 70), (Manner.GONE, 90), (Manner.FLAKY, 110), (Manner.FULL, 115))


def manner(address: str, by_hash: bool = False) -> Manner:
    """What *address* will meet. `grey.anna@...` is greylisted, and so on with slow, stuck, flaky, busy, full and gone.

    Any other address is accepted; with *by_hash* a share of those is treated otherwise, chosen by a hash of the
    address, which makes the demo worth watching with somebody's own mail.
    """
    prefix, dot, _ = address.lower().partition(".")
    if dot and prefix.upper() in Manner.__members__:
        return Manner[prefix.upper()]
    if by_hash:
        for each, below in _SHARES:
            if _hash(address) < below:
                return each
    return Manner.PLAIN


def _hash(address: str) -> int:
    return hashlib.sha256(address.lower().encode("utf-8", "surrogateescape")).digest()[0]


@dataclass(frozen=True, slots=True)
class Received:
    """One accepted message for one recipient; `id` is its X-Mailroom-Id, empty when there was none."""

    id: str
    sender: str
    recipient: str
    content: bytes


class MailServer:
    """A running server; `port` is chosen by the system. `with MailServer() as server:` stops it at the end.

    `mailbox` and `replies` (how often it greylisted, refused, hung up) are complete once the server has stopped.
    """

    def __init__(self, *, by_hash: bool = False, greylist_seconds: float = GREYLIST_SECONDS) -> None:
        self.port = 0
        self.mailbox: list[Received] = []
        self.replies: Counter[str] = Counter()
        self._by_hash = by_hash
        self._greylist_seconds = greylist_seconds
        self._first_seen: dict[tuple[str, str], float] = {}
        self._visits: Counter[tuple[str, str]] = Counter()
        self._connections: set[_Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="mail-server", daemon=True)

    def __enter__(self) -> MailServer:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await self._loop.create_server(self._connection, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        while self._connections:
            for connection in tuple(self._connections):
                connection.hang_up()
            await asyncio.sleep(0.01)

    def _connection(self) -> _Connection:
        assert self._loop is not None
        return _Connection(self, self._connections, self._loop)

    # The two methods below are the hooks of aiosmtpd.

    async def handle_RCPT(  # noqa: N802  the name is aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        how = manner(address, self._by_hash)
        pair = (str(envelope.mail_from).lower(), address.lower())
        self._visits[pair] += 1
        refusal = await self._treat(how, pair, server)
        if refusal is not None:
            self.replies[refusal[:3]] += 1
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def _treat(self, how: Manner, pair: tuple[str, str], server: SMTP) -> str | None:
        now = asyncio.get_running_loop().time()
        if how is Manner.GREY and now - self._first_seen.setdefault(pair, now) < self._greylist_seconds:
            return "450 4.7.1 greylisted, try again later"
        if how is Manner.SLOW:
            await asyncio.sleep(0.3 + 1.7 * _hash(pair[1]) / 255)
        elif how is Manner.STUCK and self._visits[pair] == 1:
            self.replies["no answer"] += 1
            await asyncio.sleep(STUCK_SECONDS)
        elif how is Manner.FLAKY and self._visits[pair] == 1:
            await self._hang_up(server)
        return _REFUSALS.get(how)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        sender, content = str(envelope.mail_from), bytes(envelope.original_content or b"")
        for recipient in envelope.rcpt_tos:
            twice = _hash(recipient) % 2 == 0  # half of the flaky ones fail once more, when all bytes are here
            flaky = manner(recipient, self._by_hash) is Manner.FLAKY
            if flaky and twice and self._visits[sender.lower(), recipient.lower()] == 2:
                await self._hang_up(server)
        for recipient in envelope.rcpt_tos:
            self.mailbox.append(Received(_mail_id(content), sender, recipient, content))
        self.replies["250"] += len(envelope.rcpt_tos)
        return "250 2.0.0 accepted"

    async def _hang_up(self, server: SMTP) -> None:
        self.replies["hung up"] += 1
        assert isinstance(server, _Connection)
        server.hang_up()
        await asyncio.sleep(STUCK_SECONDS)  # aiosmtpd cancels this as soon as the connection is down


class _Connection(SMTP):
    """One client; known to the server while it lasts."""

    def __init__(self, desk: MailServer, known: set[_Connection], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(desk, hostname="mailroom.example.org", ident="mailroom", enable_SMTPUTF8=True, loop=loop)
        self._known = known

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._known.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._known.discard(self)
        super().connection_lost(error)

    def hang_up(self) -> None:
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()


def _mail_id(content: bytes) -> str:
    name, _, value = content.partition(b"\r\n")[0].partition(b":")
    return value.strip().decode("ascii", "replace") if name.lower() == ID_HEADER.lower().encode() else ""
