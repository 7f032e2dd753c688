"""Delivery of what the machine asks for, outside the lock: futures, dead letters, reports, signals."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from ..core import effects
from ..core.effects import Effect
from ..core.settle import is_a
from ..envelope import Envelope
from ..errors import RetryEnvelope
from ..results import DeadLetter, Outcome
from ..text import cause_of, error_text
from .reporting import Reporter, is_ctrl_c


class Delivery:
    """Carries out effects, in order; never raises, whatever user code does."""

    def __init__(
        self,
        reporter: Reporter,
        wall_utc: Callable[[], datetime],
        *,
        letter_limit: int | None,
        forget: Callable[[Any], None],
        on_cancel: Callable[[Any], None],
        on_sweep: Callable[[], None],
        on_stopped: Callable[[Any], None],
    ) -> None:
        self._reporter = reporter
        self._wall_utc = wall_utc
        self.letters: deque[DeadLetter] = deque(maxlen=letter_limit)
        self._actions: dict[str, Callable[..., None]] = {
            effects.DEAD: self._bury,
            effects.ENDED: self._resolve,
            effects.FORGET: forget,
            effects.TOLD: reporter.tell,
            effects.ABANDONED: reporter.abandoned,
            effects.LOST: reporter.lost,
            effects.CANCEL: on_cancel,
            effects.SIGNAL: self._signal,
            effects.STATE: reporter.state_changed,
            effects.STOPPED: on_stopped,
            effects.SWEEP: on_sweep,
            effects.JUNK: self._drop,
        }

    def deliver(self, outbox: list[Effect]) -> None:
        """Do what *outbox* says, and empty it. A failure of one effect is reported and does not stop the next.

        Ctrl-C in the middle is raised once all is delivered; between two effects, at once: what is left stays in it.
        """
        interrupt: BaseException | None = None
        begun = 0
        try:
            for effect in outbox:
                begun += 1
                try:
                    self._actions[effect[0]](*effect[1:])
                except BaseException as error:
                    if is_ctrl_c(error):
                        interrupt = error
                    else:
                        self._reporter.callback_failed(f"delivery of {effect[0]}", error)
        finally:
            del outbox[:begun]
        if interrupt is not None:
            raise interrupt

    def _bury(self, envelope: Envelope, attempts: int, error: BaseException | None, reason: str | None) -> None:
        text = "" if error is None else error_text(_what_went_wrong(error))
        letter = DeadLetter(envelope, text, reason, attempts, self._wall_utc())
        self.letters.append(letter)
        self._reporter.dropped(letter)

    def _resolve(self, futures: list[Any], outcome: Outcome, error: BaseException | None, value: Any) -> None:
        interrupt: BaseException | None = None
        for future in futures:
            try:
                future._resolve(outcome, error, value)
            except BaseException as raised:
                if is_ctrl_c(raised):
                    interrupt = raised
                    continue
                self._reporter.callback_failed("a callback of a future", raised)
        if interrupt is not None:
            raise interrupt

    def _signal(self, waiter: Any) -> None:
        waiter.is_told = True
        if waiter.bell is not None:
            waiter.bell.release()

    def _drop(self, *junk: Any) -> None:
        """Nothing: the last references die here, where user code may run."""


def _what_went_wrong(error: BaseException) -> BaseException:
    """Of a RetryEnvelope raised from an error, that error: it is what a reader of dead letters wants to know."""
    cause = cause_of(error)
    return cause if cause is not None and is_a(error, RetryEnvelope) else error
