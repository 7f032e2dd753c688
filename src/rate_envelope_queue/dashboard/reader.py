"""Texts of payloads and ids, made in a thread of their own.

What an object says of itself is the user's code: it may raise, take long, or never end. So the page never waits for it:
a text is there when it has been made, and until then it says so. The thread ends when nothing has been asked for some
seconds.
"""

from __future__ import annotations

import reprlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any
from weakref import WeakKeyDictionary, ref

from .. import Envelope
from ..text import bounded_repr, escaped

PAYLOAD_LENGTH = 4096
ID_LENGTH = 100
PENDING = "..."
FAILED = "(it could not be shown)"
SLOW = "(its repr takes too long)"
SLOW_AFTER = 1.0  # seconds for one text
FRESH_FOR = 5.0  # seconds; a payload may change
IDLE = 5.0  # seconds
MOST_WAITING = 1000

_payloads = reprlib.Repr()
_payloads.maxlevel = 5
_payloads.maxdict = _payloads.maxlist = _payloads.maxtuple = _payloads.maxset = _payloads.maxfrozenset = 40
_payloads.maxstring = _payloads.maxother = _payloads.maxlong = 1000


class Text:
    """A text, None until it has been made; when it was asked for, and since when it is known to be in the making."""

    __slots__ = ("asked_at", "busy_since", "is_busy", "value")

    def __init__(self) -> None:
        self.value: str | None = None
        self.asked_at: float | None = None
        self.busy_since: float | None = None
        self.is_busy = False


class Reader:
    """Makes texts of payloads and ids. *redact* is given an envelope and answers what to show for its payload."""

    def __init__(self, redact: Callable[[Envelope[Any]], object] | None = None) -> None:
        self._redact = redact
        self._payloads: WeakKeyDictionary[Envelope[Any], Text] = WeakKeyDictionary()
        self._ids: WeakKeyDictionary[Envelope[Any], Text] = WeakKeyDictionary()
        self._jobs: SimpleQueue[tuple[Text, ref[Envelope[Any]], Callable[[Envelope[Any]], str]]] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_at_work = False

    def payload(self, envelope: Envelope[Any], now: float) -> str:
        """The payload of *envelope*, or what stands for it."""
        return self._text(self._payloads, envelope, self._payload, now)

    def id(self, envelope: Envelope[Any], now: float) -> str:
        """The id of *envelope*."""
        return self._text(self._ids, envelope, lambda envelope: bounded_repr(envelope.id, ID_LENGTH), now)

    def _payload(self, envelope: Envelope[Any]) -> str:
        value: object = envelope.payload if self._redact is None else self._redact(envelope)
        if self._redact is not None and type(value) is str:
            return escaped(value, PAYLOAD_LENGTH)
        return escaped(_payloads.repr(value), PAYLOAD_LENGTH)

    def _text(
        self,
        texts: WeakKeyDictionary[Envelope[Any], Text],
        envelope: Envelope[Any],
        make: Callable[[Any], str],
        now: float,
    ) -> str:
        text = texts.get(envelope)
        if text is None:
            text = texts[envelope] = Text()
        if text.is_busy:
            text.busy_since = now if text.busy_since is None else text.busy_since
            if now - text.busy_since > SLOW_AFTER:
                return SLOW
        else:
            text.busy_since = None
            if text.asked_at is None or (text.value is not None and now - text.asked_at > FRESH_FOR):
                self._ask(text, envelope, make, now)
        return PENDING if text.value is None else text.value

    def _ask(self, text: Text, envelope: Envelope[Any], make: Callable[[Any], str], now: float) -> None:
        if self._jobs.qsize() >= MOST_WAITING:
            return
        text.asked_at = now
        self._jobs.put((text, ref(envelope), make))
        with self._lock:
            if self._is_at_work:
                return
            self._is_at_work = True
        threading.Thread(target=self._work, name="rate-envelope-queue dashboard reader", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                text, envelope, make = self._jobs.get(timeout=IDLE)
            except Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._is_at_work = False
                        return
                continue
            self._make(text, envelope(), make)

    def _make(self, text: Text, envelope: Envelope[Any] | None, make: Callable[[Any], str]) -> None:
        if envelope is None:
            return
        text.is_busy = True
        try:
            text.value = make(envelope)
        except BaseException:  # the user's repr or redact: never the payload itself then
            text.value = FAILED
        finally:
            text.is_busy = False
