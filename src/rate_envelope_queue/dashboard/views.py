"""What the page is told of the user's objects: plain numbers and strings, bounded, never able to raise.

An envelope or a letter that is shown gets a number, by which an action may name it. Nothing is kept alive by that.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from math import isfinite
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary, WeakValueDictionary

from .. import DeadLetter, Envelope
from ..text import escaped, name_of
from .reader import Reader

TYPE_LENGTH, ID_LENGTH, ERROR_LENGTH = 100, 100, 500
_AT_ONCE = (str, int, float, bool, UUID)  # ids whose text is made without calling anything of the user's


def type_of(envelope: Envelope[Any]) -> str:
    """The type of *envelope*, else the name of its handler; as it is, not yet escaped."""
    try:
        return envelope.type or name_of(envelope.invoke)
    except BaseException:  # a subclass shows its type by code of its own
        return "?"


def shown(text: object, limit: int) -> str:
    """*text* escaped and cut to *limit* characters."""
    return escaped(text, limit) if isinstance(text, str) else "?"


def number(value: float) -> float | None:
    """*value* rounded; None for what a clock of the user's has made no number of, which JSON does not know."""
    return round(value, 3) if isfinite(value) else None


class Numbers:
    """Numbers for objects that are shown, the same for the same object as long as it lives."""

    def __init__(self) -> None:
        self._next = count(1).__next__
        self._numbers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._objects: WeakValueDictionary[int, Any] = WeakValueDictionary()

    def of(self, value: Any) -> int:
        """The number of *value*."""
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = self._next()
            self._objects[number] = value
        return number

    def find(self, number: int) -> Any:
        """The object with that number, or None when it is gone."""
        return self._objects.get(number)


@dataclass(frozen=True, slots=True)
class Run:
    """A run that goes on: `started_at` is on the queue's clock, None when it began before anybody listened."""

    envelope: Envelope[Any]
    attempt: int
    started_at: float | None


class Views:
    """Entries and letters as the JSON has them."""

    def __init__(self, reader: Reader, *, show_payloads: bool) -> None:
        self.entries = Numbers()
        self.letters = Numbers()
        self.now = 0.0  # of the sample that is being taken
        self._reader = reader
        self._show_payloads = show_payloads

    def envelope(self, envelope: Envelope[Any]) -> dict[str, object]:
        """Its type and id, and its payload where that is to be shown."""
        view: dict[str, object] = {"type": shown(type_of(envelope), TYPE_LENGTH), "id": self._id(envelope)}
        if self._show_payloads:
            view["payload"] = self._reader.payload(envelope, self.now)
        return view

    def _id(self, envelope: Envelope[Any]) -> str | None:
        try:
            value = envelope.id
        except BaseException:
            return "?"
        if value is None:
            return None
        if type(value) in _AT_ONCE:
            return escaped(str(value)[: 2 * ID_LENGTH] if type(value) is not int else _whole(value), ID_LENGTH)
        return self._reader.id(envelope, self.now)

    def run(self, run: Run, now: float) -> dict[str, object]:
        """A run that goes on."""
        return {
            "entry": self.entries.of(run.envelope),
            **self.envelope(run.envelope),
            "attempt": run.attempt,
            "age": None if run.started_at is None else number(max(0.0, now - run.started_at)),
        }

    def due(self, envelope: Envelope[Any], attempt: int, due_in: float | None) -> dict[str, object]:
        """An entry that waits for its time."""
        return {
            "entry": self.entries.of(envelope),
            **self.envelope(envelope),
            "attempt": attempt,
            "due_in": None if due_in is None else number(due_in),
        }

    def letter(self, letter: DeadLetter) -> dict[str, object]:
        """A dead letter."""
        return {
            "letter": self.letters.of(letter),
            **self.envelope(letter.envelope),
            "reason": None if letter.reason is None else shown(letter.reason, ERROR_LENGTH),
            "error": shown(letter.error, ERROR_LENGTH),
            "attempts": letter.attempts,
            "at": letter.at_utc.isoformat(timespec="milliseconds"),
        }


def _whole(value: int) -> str:
    """A number of any size as text: str() refuses those of many digits."""
    return str(value) if value.bit_length() < 1024 else "a number of very many digits"
