"""The dead letters of a queue: reading them, taking them out, sending one again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..envelope import Envelope
from ..results import DeadLetter
from ..text import bounded_repr
from .section import Guarded

NOT_THERE = -1


class Letters(Guarded):
    """What of a queue is about its dead letters."""

    _letters: deque[DeadLetter]  # which compare by identity: looking for one calls no user code and is atomic

    def _send(self, envelopes: tuple[Envelope[Any], ...], delay: Any, admit: Callable[..., int] | None = None) -> int:
        """Send, by *admit* in the place of the machine's own `send`."""
        raise NotImplementedError

    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """The entries that were dropped, the oldest first, at most `dead_letter_limit` of them."""
        self._refuse_if_forked()
        return (*self._letters,)  # not tuple(): that may collect garbage, and run finalisers, in the middle

    def clear_dead_letters(self) -> tuple[DeadLetter, ...]:
        """Take the dead letters out."""
        self._refuse_if_forked()
        letters: list[DeadLetter] = []
        try:
            while True:
                letters.append(self._letters.popleft())
        except IndexError:  # none is left; another thread may have taken the last
            return tuple(letters)

    def retry_dead_letter(self, letter: DeadLetter) -> bool:
        """Send the envelope of *letter*, one of `dead_letters()`, again, and take the letter out.

        Attempts count from 1. False, and nothing has changed, when the letter is not there any more: it was retried,
        cleared, or has fallen out. Raises as `send`, and then the letter is where it was. Never blocks; of two callers
        with the same letter one gets True.
        """
        if not isinstance(letter, DeadLetter):
            raise TypeError(f"letter must be one of dead_letters(), not {bounded_repr(letter)}")

        def admit(*arguments: Any) -> int:
            if letter not in self._letters:
                return NOT_THERE
            new = self._machine.send(*arguments)
            try:
                self._letters.remove(letter)
            except ValueError:  # cleared meanwhile, which takes no lock
                pass
            return new

        return self._send((letter.envelope,), 0, admit) != NOT_THERE
