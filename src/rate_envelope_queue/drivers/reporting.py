"""Reports to the outside: log records, and events for observers. Called without any lock.

Text from users is escaped and bounded before it reaches a log. An observer that raises is logged and not called again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from ..core.settle import is_a
from ..envelope import Envelope
from ..events import FACTS, OBSERVABLE, Observer
from ..policy import is_coroutine, is_generator
from ..results import DeadLetter, QueueState
from ..text import bounded_repr, error_text, escaped, name_of, traceback_text

log = logging.getLogger("rate_envelope_queue")


def names_of(envelope: Envelope) -> tuple[str, object, object]:
    """Its type, id and key: as a subclass shows them, or as they were given where that raises."""
    try:
        return envelope.type, envelope.id, envelope.key
    except BaseException:
        return envelope._policy.type, envelope._id, envelope._key


def label(envelope: Envelope) -> str:
    """What a log calls an envelope."""
    type_, id_, key = names_of(envelope)
    name = escaped(type_, 100) if type_ else name_of(envelope._policy.invoke)
    if id_ is not None:
        name += f" id={bounded_repr(id_)}"
    return name if key is None else f"{name} key={bounded_repr(key)}"


def is_ctrl_c(error: BaseException) -> bool:
    """Whether *error* is a KeyboardInterrupt where Ctrl-C comes: elsewhere it is an exception like any other."""
    return is_a(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def _write(level: int, message: str, *args: object, extra: dict[str, object] | None = None) -> None:
    """Log; a handler that raises must not end whoever has something to say."""
    try:
        try:
            log.log(level, message, *args, extra=extra)
        except KeyError:  # the service's record factory has such a field already, and logging lets none be overwritten
            if extra is None:
                raise
            log.log(level, message, *args)
    except BaseException as error:
        if is_ctrl_c(error):
            raise


def tell_of_failure(what: str, error: BaseException) -> None:
    """Log that *what* raised, with the traceback."""
    _write(logging.ERROR, "%s failed: %s\n%s", what, error_text(error), traceback_text(error))


def _check_names(observer: object) -> None:
    """Raise TypeError for a method that listens to an event which does not exist: it would never be called.

    An object of another class may have other methods that begin with `on_`; only what is nearly one of ours is refused.
    """
    known = [f"on_{event}" for event in OBSERVABLE]
    for name in dir(observer):
        if name.startswith("on_") and name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1, 0.75 if isinstance(observer, Observer) else 0.85)
            if near or isinstance(observer, Observer):
                advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                raise TypeError(f"observers: {bounded_repr(observer)} has {name}, which is no event: {advice}")


def _listens(observer: object) -> dict[str, Callable[[Any], object]]:
    """The methods of *observer* by the events that they listen to; TypeError for one that cannot."""
    _check_names(observer)
    found: dict[str, Callable[[Any], object]] = {}
    for event in OBSERVABLE:
        method = getattr(observer, f"on_{event}", None)
        if method is None or getattr(method, "is_unused", False) is True:  # a Mock has every attribute
            continue
        if not callable(method):
            raise TypeError(f"observers: on_{event} of {bounded_repr(observer)} must be callable")
        if is_coroutine(method) or is_generator(method):
            raise TypeError(
                f"observers: on_{event} of {bounded_repr(observer)} must be a plain method: nobody would await it"
            )
        found[event] = method
    if not found and not isinstance(observer, Observer):
        raise TypeError(
            f"observers must have methods such as on_failed or on_stuck (see events.Observer), "
            f"and {bounded_repr(observer)} has none"
        )
    return found


class Reporter:
    """The log and the observers of one queue. Who listens is changed under its lock; whoever tells needs none."""

    methods_of = staticmethod(_listens)

    def __init__(
        self,
        name: str,
        on_interrupt: Callable[[BaseException], None] | None,
        on_retire: Callable[[str, Callable[..., object]], None],
    ) -> None:
        self.name = name
        self._observers: list[tuple[object, dict[str, Callable[[Any], object]]]] = []
        self._listeners: dict[str, list[Callable[[Any], object]]] = {}  # the lists are replaced, never changed
        self._on_interrupt = on_interrupt  # where user code runs on a caller's behalf
        self._on_retire = on_retire

    # Who listens

    def add(self, observer: object, methods: dict[str, Callable[[Any], object]]) -> bool:
        """Tell *observer* by its *methods*. False when that is done already."""
        if any(other is observer for other, _ in self._observers):
            return False
        self._observers = [*self._observers, (observer, methods)]
        self._refresh()
        return True

    def remove(self, observer: object) -> bool:
        """Tell *observer* nothing more. False when it was told nothing."""
        left = [item for item in self._observers if item[0] is not observer]
        was_there = len(left) < len(self._observers)
        self._observers = left
        self._refresh()
        return was_there

    def retire(self, event: str, method: Callable[..., object]) -> bool:
        """Do not call *method* for *event* again. Which of several threads that found out was the first is all one."""
        for _, methods in self._observers:
            if methods.get(event) is method:
                del methods[event]
        self._refresh()
        return True

    def _refresh(self) -> None:
        listeners: dict[str, list[Callable[[Any], object]]] = {}
        for _, methods in self._observers:
            for event, method in methods.items():
                listeners.setdefault(event, []).append(method)
        self._listeners = listeners

    def listened_to(self) -> frozenset[str]:
        """The events that anybody wants to hear of."""
        return frozenset(self._listeners)

    # Telling

    def tell(self, event: str, *facts: Any) -> None:
        """Tell those who listen to *event*, if anybody still does."""
        if event in self._listeners:
            self.emit(event, FACTS[event](self.name, *facts))

    def emit(self, event: str, fact: object) -> None:
        """Tell those who listen. Ctrl-C that comes meanwhile is raised once all were told."""
        interrupt: BaseException | None = None
        for method in self._listeners.get(event, ()):
            try:
                method(fact)
            except BaseException as error:
                if is_ctrl_c(error):
                    interrupt = error
                    continue
                self._pass_on(error)
                self._on_retire(event, method)
                _write(logging.ERROR,
                    "queue %s: the observer %s failed at on_%s and is not called again: %s\n%s",
                    escaped(self.name), bounded_repr(getattr(method, "__self__", method)), event,
                    error_text(error), traceback_text(error),
                )  # fmt: skip
        if interrupt is not None:
            raise interrupt

    def _pass_on(self, error: BaseException) -> None:
        if self._on_interrupt is not None and is_a(error, KeyboardInterrupt):
            self._on_interrupt(error)

    def failed(self, envelope: Envelope, attempt: int, error: BaseException, *, is_retried: bool) -> None:
        """A run failed: one record. A run that will be tried again is news, not yet a warning.

        The event is the machine's, which knows whether the run counts: one that was abandoned does not.
        """
        if envelope._policy.is_quiet:
            return
        level = logging.INFO if is_retried else logging.WARNING
        if log.isEnabledFor(level):
            _write(
                level, "queue %s: run %d of %s failed%s: %s\n%s", escaped(self.name), attempt, label(envelope),
                " and is retried" if is_retried else "", error_text(error), traceback_text(error),
                extra=self._fields(envelope, attempt, error),
            )  # fmt: skip

    def hook_failed(self, envelope: Envelope, attempt: int, error: BaseException, hook: str) -> None:
        """A hook, limiter or schedule raised; what it was asked for is decided without it."""
        self.tell("hook_failed", envelope, attempt, error, hook)
        if log.isEnabledFor(logging.WARNING):
            _write(logging.WARNING,
                "queue %s: the %s of %s failed: %s\n%s", escaped(self.name), hook, label(envelope), error_text(error),
                traceback_text(error), extra=self._fields(envelope, attempt, error),
            )  # fmt: skip

    def _fields(self, envelope: Envelope, attempt: int, error: BaseException) -> dict[str, object]:
        """The fields of a record, each with the prefix `envelope_`, so that a service's own `queue` stays its own."""
        type_, id_, key = names_of(envelope)
        return {
            "envelope_queue": escaped(self.name),
            "envelope_type": escaped(type_, 100),
            "envelope_id": bounded_repr(id_),
            "envelope_key": bounded_repr(key),
            "envelope_attempt": attempt,
            "envelope_error": error_text(error),
        }

    def dropped(self, letter: DeadLetter) -> None:
        """An entry went to the dead letters."""
        self.tell("dropped", letter)

    def abandoned(self, envelope: Envelope) -> None:
        """A stop gave up on a run."""
        _write(
            logging.WARNING,
            "queue %s: gave up on a run of %s: it went on past the stop",
            escaped(self.name),
            label(envelope),
        )
        self.tell("abandoned", envelope)

    def lost(self, envelope: Envelope) -> None:
        """A periodic ended because its run was abandoned."""
        _write(logging.ERROR,
            "queue %s: %s was periodic and its run was abandoned: it will not run again unless it is sent again",
            escaped(self.name), label(envelope),
        )  # fmt: skip

    def stuck(self, envelope: Envelope, attempt: int, overdue: float, stack: str) -> None:
        """A run outlived its deadline for long."""
        _write(logging.WARNING,
            "queue %s: run %d of %s is stuck, %.3f s past its deadline:\n%s",
            escaped(self.name), attempt, label(envelope), overdue, stack,
        )  # fmt: skip
        self.tell("stuck", envelope, attempt, overdue, stack)

    def state_changed(self, old: QueueState, new: QueueState) -> None:
        """The queue went from one state to another."""
        _write(logging.DEBUG, "queue %s: %s -> %s", escaped(self.name), old.value, new.value)
        self.tell("state_changed", old, new)

    def callback_failed(self, what: str, error: BaseException) -> None:
        """Something that was called back raised."""
        self._pass_on(error)
        tell_of_failure(f"queue {escaped(self.name)}: {what}", error)

    def kept(self, one_offs: int, periodics: int) -> None:
        """A queue was left with work in it. Periodics alone are what every clean stop leaves: no warning."""
        _write(
            logging.WARNING if one_offs else logging.INFO,
            "queue %s: stopped with entries kept (one-offs: %d, periodic: %d); last_report lists them",
            escaped(self.name), one_offs, periodics,
        )  # fmt: skip
