"""One delivery: a letter handed over to one recipient by SMTP, and what follows when that does not succeed.

Each (letter, recipient) pair is an envelope of its own. In one SMTP transaction with several recipients some can be
refused while others are accepted; as one envelope, a retry for those that were refused for now would reach the others
a second time. As envelopes of their own each has its own retries, its own outcome, and arrives once.
"""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rate_envelope_queue import (
    Context,
    DeadlineExceeded,
    Decision,
    Envelope,
    EnvelopeType,
    drop,
    retry_with_backoff,
)

from .letters import ID_HEADER, Letter
from .report import Tally

CLIENT_NAME = "client.example.org"
DEADLINE = 2.5
MAX_ATTEMPTS = 6
# After the last byte of a message the server may have accepted it already, and to try again would deliver it twice:
# so we wait for that one reply well past the deadline (RFC 5321, 4.5.3.2.6, says ten minutes). A run that ends late
# has succeeded all the same.
LAST_REPLY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One copy of a letter for one recipient. `id` is unique; the server files the message under it."""

    id: str
    letter: Letter
    sender: str
    recipient: str

    @property
    def content(self) -> bytes:
        """The bytes to hand over: the letter with its id on top."""
        return f"{ID_HEADER}: {self.id}\r\n".encode() + self.letter.content


class RefusedError(Exception):
    """The server said no: `code` 4xx for now, 5xx for good."""

    def __init__(self, code: int, text: bytes) -> None:
        self.code = code
        super().__init__(f"{code} {text.decode('utf-8', 'replace')}")


def plan(letters: Sequence[Letter], copies: int) -> Iterator[Delivery]:
    """Every delivery, copy by copy. The sender of a later copy is tagged, so that greylisting knows it apart."""
    for copy in range(1, copies + 1):
        for letter_number, letter in enumerate(letters, 1):
            sender = _tagged(letter.sender, copy)
            for recipient_number, recipient in enumerate(letter.recipients, 1):
                yield Delivery(f"{copy}-{letter_number}-{recipient_number}", letter, sender, recipient)


def _tagged(sender: str, copy: int) -> str:
    local, _, domain = sender.rpartition("@")
    return sender if copy == 1 or local.endswith('"') else f"{local}+{copy}@{domain}"


class Postman:
    """Delivers to one server and counts what happened; `kind` makes the envelopes."""

    def __init__(self, host: str, port: int, tally: Tally) -> None:
        self._host = host
        self._port = port
        self._tally = tally
        self.kind = EnvelopeType(
            "mail",
            invoke=self.deliver,
            payload=Delivery,
            deadline=DEADLINE,
            max_attempts=MAX_ATTEMPTS,
            failure_hook=self.decide,
        )

    def deliver(self, ctx: Context, envelope: Envelope[Delivery]) -> None:
        """The handler. It returns once the server has accepted the message, and raises in every other case."""
        self._tally.started(ctx.attempt)
        delivery = envelope.payload
        with self._connection(ctx) as server:
            content = delivery.content
            options = _options(delivery, content)
            _step(ctx, server, server.ehlo)
            _step(ctx, server, lambda: server.mail(delivery.sender, options))
            _step(ctx, server, lambda: server.rcpt(delivery.recipient))
            _step(ctx, server, lambda: server.data(content), at_least=LAST_REPLY_SECONDS)
            self._tally.delivered(delivery.id, ctx.attempt)
            _say_goodbye(server)

    def decide(self, ctx: Context, envelope: Envelope[Delivery], error: BaseException) -> Decision:
        """The failure hook: refused for good is dropped, refused for now and trouble on the line is tried again."""
        if isinstance(error, RefusedError) and 500 <= error.code < 600:
            return drop(str(error))
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return drop(f"the server cannot take this message: {error}")
        if isinstance(error, (RefusedError, DeadlineExceeded, OSError)):  # what smtplib raises is an OSError too
            return retry_with_backoff()
        return drop(f"{type(error).__name__}: {error}")

    @contextmanager
    def _connection(self, ctx: Context) -> Iterator[smtplib.SMTP]:
        server = smtplib.SMTP(local_hostname=CLIENT_NAME, timeout=_time_left(ctx))
        try:
            _step(ctx, server, lambda: server.connect(self._host, self._port))
            yield server
        except OSError:
            ctx.check()  # the socket's time was the run's time: say that it is over, not how we noticed
            raise
        finally:
            server.close()


def _options(delivery: Delivery, content: bytes) -> list[str]:
    options = [] if content.isascii() else ["BODY=8BITMIME"]
    if not (delivery.sender + delivery.recipient).isascii():
        options.append("SMTPUTF8")
    return options


def _time_left(ctx: Context) -> float:
    remaining = ctx.remaining()
    return LAST_REPLY_SECONDS if remaining is None else max(remaining, 0.01)  # 0 would mean a non-blocking socket


def _step(
    ctx: Context, server: smtplib.SMTP, command: Callable[[], tuple[int, bytes]], *, at_least: float = 0.0
) -> None:
    """One command and its reply, in the time that the run has left. Raises `RefusedError` unless the reply is 2xx."""
    ctx.check()
    if server.sock is not None:
        server.sock.settimeout(max(_time_left(ctx), at_least))
    try:
        code, text = command()
    except smtplib.SMTPResponseException as error:  # smtplib raises some refusals itself
        text = error.smtp_error if isinstance(error.smtp_error, bytes) else error.smtp_error.encode()
        raise RefusedError(error.smtp_code, text) from None
    if not 200 <= code < 300:
        raise RefusedError(code, text)


def _say_goodbye(server: smtplib.SMTP) -> None:
    """QUIT. The message is accepted, so nothing that goes wrong from here on may make the run fail."""
    try:
        server.quit()
    except OSError:
        pass
