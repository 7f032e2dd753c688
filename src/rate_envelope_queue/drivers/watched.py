"""Who watches a queue: observers, and those who read what it measures. Both may come and go while it runs.

Rules for changing it: who listens is changed in a section, together with what the machine tells, so that from then on
each event is told that the book counts. An observer is user code and is looked at before the section.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import QueueStateError
from ..text import bounded_repr
from .section import Guarded

if TYPE_CHECKING:
    from ..results import Measured
    from .reporting import Reporter


class Measuring(Guarded):
    """A queue that can measure itself. Plain calls that never block, from any thread, at any time."""

    _measurers = 0

    def start_measuring(self) -> None:
        """Measure from now on how long entries wait and runs take: see `measured`.

        For whoever calls it until their `stop_measuring`: while one is left, the queue measures. Costs each entry two
        readings of the clock and some hundred bytes while it is in the queue; nothing before the first call.
        """
        self._call(self._measure, 1)

    def stop_measuring(self) -> None:
        """End a `start_measuring`. With the last one, what was measured is forgotten. QueueStateError without any."""
        self._call(self._measure, -1)

    def measured(self) -> Measured | None:
        """What was measured since `start_measuring`, consistent in itself; None when nobody has the queue measure.

        An entry that was in the queue before that is measured from its next wait on.
        """
        return self._call(self._machine.measured) if self._measurers else None

    def _measure(self, more: int) -> None:
        if self._measurers + more < 0:
            raise QueueStateError("the queue does not measure: call start_measuring() first")
        self._measurers += more
        self._watch()

    def _watch(self) -> None:
        """Have the machine tell and measure what is wanted now."""
        self._machine.watch(frozenset(), is_measured=self._measurers > 0)


class Observed(Measuring):
    """A queue that has observers, too."""

    _reporter: Reporter

    def add_observer(self, observer: object) -> None:
        """Have *observer* (see `events.Observer`) told of what happens from now on.

        Never blocks; from any thread, at any time. Raises TypeError for what cannot listen, ValueError when it listens
        already.
        """
        methods = self._reporter.methods_of(observer)
        if not self._call(self._change, self._reporter.add, observer, methods):
            raise ValueError(f"{bounded_repr(observer)} observes the queue already")

    def remove_observer(self, observer: object) -> bool:
        """Tell *observer* nothing more. False when it does not observe the queue. Never blocks; from any thread.

        What happened before may still be told, by a thread that is about to.
        """
        return self._call(self._change, self._reporter.remove, observer)

    def _change(self, change: Callable[..., bool], *args: Any) -> bool:
        has_changed = change(*args)
        self._watch()
        return has_changed

    def _retire(self, event: str, method: Callable[..., object]) -> None:
        """A *method* that raised at *event* is not called again."""
        try:
            self._section(self._change, self._reporter.retire, event, method)
        except QueueStateError:  # in the child of a fork
            self._reporter.retire(event, method)

    def _watch(self) -> None:
        self._machine.watch(self._reporter.listened_to(), is_measured=self._measurers > 0)
