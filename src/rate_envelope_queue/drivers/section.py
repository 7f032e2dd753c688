"""Sections: the only way into the machine. One lock, one operation, then everything it asks for outside.

Rules for changing it: a KeyboardInterrupt may come at any call in here, and must neither keep the lock nor lose an
effect or a wake. Whoever enters again on the same thread (a signal handler, `__del__`, a key's `__eq__`) is refused,
since waiting for itself would never end.
"""

from __future__ import annotations

import threading
from _thread import get_ident
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ..core.machine import Machine
from ..errors import QueueStateError
from ..limiters import renew_lock
from ..results import QueueState
from .parking import Parking
from .plan import PlanBook
from .process import ForkedLock

T = TypeVar("T")


class Delivers(Protocol):
    """Carries out effects."""

    def deliver(self, outbox: list[Any]) -> None:
        """Do what *outbox* says."""
        ...


DEEPEST = 20  # frames that a section and the delivery of its effects may need


def _need_frames(count: int) -> None:
    """RecursionError unless *count* more calls fit: in the middle of a section it could keep the lock."""
    if count:
        _need_frames(count - 1)


class Guarded:
    """A machine behind its lock, with the parking of its idle workers and the delivery of its effects."""

    def __init__(self, machine: Machine, delivery: Delivers, plans: PlanBook) -> None:
        self._machine = machine
        self._delivery = delivery
        self._plans = plans
        self._parking = self._new_parking(machine)
        self._idle = self._parking.idle
        self._insiders: set[int] = set()  # threads that run user code of this queue
        self._set_lock(threading.RLock())

    def _new_parking(self, machine: Machine) -> Parking:
        return Parking(machine)

    def _set_lock(self, lock: Any) -> None:
        self._lock = lock
        self._acquire: Callable[..., bool] = lock.acquire
        self._release: Callable[[], None] = lock.release

    def _call(self, operation: Callable[..., T], *args: Any, **options: Any) -> T:
        """Do one operation of the machine in a section, then what it asks for outside.

        RecursionError, with nothing done, when the stack leaves no room for all that.
        """
        _need_frames(DEEPEST)
        return self._section(operation, *args, **options)

    def _section(self, operation: Callable[..., T], *args: Any, **options: Any) -> T:
        """As `_call`, for what must be done whatever room there is.

        A KeyboardInterrupt may come at any call in here, and must neither keep the lock nor lose an effect.
        """
        machine = self._machine
        is_inside = False
        try:
            self._acquire()
            if machine.is_busy:
                self._release()
                raise QueueStateError(
                    "the queue was entered again by the thread that is inside it (a signal handler, __del__ or a key's "
                    "__eq__): do it from elsewhere"
                )
            machine.is_busy = is_inside = True
            return operation(*args, **options)
        finally:
            if not is_inside:
                self._abort_section(is_inside=False)
            else:  # the way out is written out here: an interrupt may come at the beginning of a method, before its try
                wake = outbox = None
                try:
                    if self._idle:
                        wake = self._parking.next_wake()
                finally:
                    debt = [True]
                    if machine.outbox:
                        outbox, machine.outbox = machine.outbox, []
                        machine.delivering += 1
                    machine.is_busy = False
                    try:
                        self._release()
                    finally:
                        try:
                            if wake is not None:
                                wake.release()
                        finally:
                            if outbox is not None:
                                try:
                                    self._deliver(outbox, debt)
                                except KeyboardInterrupt:
                                    self._deliver(outbox, debt)  # what is left of it
                                    raise

    def _abort_section(self, is_inside: bool) -> None:
        """An exception came in a section, maybe just after the acquire: give the lock back, if it was had."""
        machine = self._machine
        if is_inside:
            machine.is_busy = False
        if is_inside or (not machine.is_busy and self._lock._is_owned()):
            self._release()

    def _deliver(self, outbox: list[Any], debt: list[bool]) -> None:
        """Carry out what is left in *outbox*, and have it count as under way no more; *debt* says whether it does."""
        ident = get_ident()
        is_new = ident not in self._insiders
        try:
            self._insiders.add(ident)
            self._delivery.deliver(outbox)
        finally:
            try:
                if is_new:
                    self._insiders.discard(ident)
            finally:
                try:
                    self._section(self._delivered, debt)
                except KeyboardInterrupt:
                    self._section(self._delivered, debt)
                    raise

    def _delivered(self, debt: list[bool]) -> None:
        if debt[0]:
            debt[0] = False
            self._machine.delivering -= 1
        self._machine.rest()

    def _ring(self, bells: list[Any]) -> None:
        for bell in bells:
            bell.release()

    def _is_inside(self) -> bool:
        return get_ident() in self._insiders

    # Fork

    def _is_unused(self) -> bool:
        """Whether a fork finds nothing in it, and nobody who works for it."""
        machine = self._machine
        return machine.state is QueueState.INIT and not machine.entries and not machine.ready

    def _limiters(self) -> tuple[object, ...]:
        """The limiters that it asks; others may ask them, too."""
        return ()

    def _is_forked(self) -> bool:
        return isinstance(self._lock, ForkedLock)

    def _refuse_if_forked(self) -> None:
        if self._is_forked():
            self._lock.acquire()

    def _forked(self) -> None:
        """In the child of a fork."""
        machine = self._machine
        if self._is_unused():
            machine.is_busy = False  # a thread of the parent may have been inside
            self._insiders.clear()
            self._set_lock(threading.RLock())
            self._plans.renew_locks()
            for limiter in self._limiters():
                renew_lock(limiter)
        else:
            self._set_lock(ForkedLock())
