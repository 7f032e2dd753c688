"""What one caller at a time sees of a queue: the naive model of the programs, asked for what the calls answered.

The model ends a stop, and what a call waits for, in the call that makes it so. Here a stop ends by a move of its own,
since the effects of others may hold it up, and a call that waits is two: one that begins, one that returns.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Self, cast

from rate_envelope_queue.envelope import Envelope
from rate_envelope_queue.errors import CapacityExceededError, EnvelopeQueueError
from rate_envelope_queue.results import Outcome, QueueState, QueueStats, StopMode, StopReport
from tests.property.naive import INIT, RUNNING, STOPPING, Row, key_of
from tests.property.naive_control import Model

from .linearise import Call

LATER = 1000.0  # seconds: a delay that no history outlives
REPORTED = ("mode", "state", "timed_out", "kept", "returned", "abandoned", "succeeded", "dropped")
ENVELOPES = ("kept", "returned", "abandoned")  # of those
COUNTED = (
    *Outcome, "coalesced", "refused", "retried", "runs_succeeded", "runs_failed", "runs_cancelled", "runs_stopped"
)  # fmt: skip


def answer_of(error: EnvelopeQueueError) -> Any:
    """What a history says of an error: its class, and what was full."""
    name = type(error).__name__
    if isinstance(error, CapacityExceededError):
        return name, error.capacity, error.occupancy, error.needed
    return name


def names(envelopes: Sequence[Envelope]) -> tuple[Any, ...]:
    """Envelopes are called by their id."""
    return tuple(envelope.id for envelope in envelopes)


def report_of(report: StopReport | dict[str, Any]) -> tuple[Any, ...]:
    """What of a stop's report does not depend on the time."""
    found = report if isinstance(report, dict) else {name: getattr(report, name) for name in REPORTED}
    return tuple(names(found[name]) if name in ENVELOPES else found[name] for name in REPORTED)


class Place(tuple[Envelope, ...]):
    """A batch that waits for room, of the call with this number."""

    number: int


class Sequential(Model):
    """The naive model, as a specification: copied for each step, and asked in the words of a history."""

    def __init__(self, envelopes: Sequence[Envelope], capacity: float, workers: int, *, replaces: bool) -> None:
        super().__init__(capacity, workers, replaces=replaces, gap=0.0)
        self.named = {envelope.id: envelope for envelope in envelopes}
        self.told: dict[int, Any] = {}  # what calls that wait will be told, by their number
        self.owed: dict[int, frozenset[int]] = {}  # the letters that must be there when they are
        self.stoppers: list[int] = []
        self.unburied: dict[int, Any] = {}  # dropped, and not yet among the dead letters
        self.letters: list[Any] = []
        self.undelivered = 1  # a stop ends by `moves` alone

    # As a specification

    def after(self, call: Call) -> Self | None:
        """See `Specification`. What only looks leaves everything as it is."""
        name = call.name
        if name == "returns" and call.arguments[0] not in self.told:
            name = "give_up"
        if name in READS:
            return self if READS[name](self, *call.arguments) == call.answer else None
        if name == "begin" and not self._may_begin(call.arguments[0]):
            return None
        other = self.copy()
        try:
            answer = CHANGES[name](other, *call.arguments)
        except EnvelopeQueueError as error:
            answer = answer_of(error)
        if answer != call.answer:
            return None
        return self if changes_nothing(name, answer) else other

    def moves(self) -> Iterator[Self]:
        """A stop ends, once nothing runs and nothing is left to drain."""
        if self.state is STOPPING and not self.active() and not (self.may_run() and self.ready):
            other = self.copy()
            other.undelivered = 0
            other.rest()
            other.undelivered = 1
            for number in other.stoppers:
                other.tell(number, report_of(other.report))
            other.stoppers.clear()
            yield other

    def key(self) -> Hashable:
        """See `Specification`."""
        rows = tuple(
            (key, row.envelope.id, row.phase, row.attempt, row.again, row.following and row.following.id,
             row.is_cancelled, row.is_pinned, tuple(row.futures)) for key, row in self.book.items()
        )  # fmt: skip
        before, seats = self.stopping.before, cast("list[Place]", self.seats)
        return (
            rows, tuple(self.ready), self.state, self.is_paused, self.is_ending, self.limit,
            self.stopping.mode, before[Outcome.SUCCEEDED], before[Outcome.DROPPED], self.read_last_report(),
            tuple(self.told.items()), tuple(self.owed.items()), tuple(self.stoppers), tuple([p.number for p in seats]),
            tuple(self.letters), tuple(self.unburied.items()), tuple(self.resolved.items()),
            tuple([self.counts[name] for name in COUNTED]),
        )  # fmt: skip

    def copy(self) -> Self:
        """Another that can go its own way."""
        other = object.__new__(type(self))
        new = other.__dict__
        new.update(self.__dict__)
        new["book"] = {key: copied(row) for key, row in self.book.items()}
        for name in ("ready", "delayed", "seats", "stoppers", "letters"):
            new[name] = new[name][:]
        for name in ("told", "owed", "unburied", "resolved", "counts"):
            new[name] = new[name].copy()
        new["stopping"] = copied(self.stopping)
        return other

    def __str__(self) -> str:
        rows = {row.envelope.id: f"{row.phase} {row.attempt}" for row in self.book.values()}
        return f"{self.state.value}, paused: {self.is_paused}, {rows}, {shown(self.read_stats())}"

    # What calls do, and what they are to answer

    def _batch(self, wanted: Sequence[Any]) -> list[Envelope]:
        return [self.named[name] for name in wanted]

    def refuse(self, envelopes: Sequence[Envelope]) -> None:
        self.counts["refused"] += len(envelopes)
        raise CapacityExceededError(int(self.capacity), len(self.book), self.new(envelopes))

    def do_send(self, wanted: Sequence[Any], delay: float = 0.0) -> int:
        return self.send(self._batch(wanted), delay)

    def do_submit(self, name: Any, future: int) -> str:
        self.send([self.named[name]], 0.0, future)
        return "future"

    def do_detach(self, name: Any, future: int) -> bool:
        return self.detach(key_of(self.named[name]), future)

    def do_cancel(self, name: Any) -> bool:
        return self.cancel(key_of(self.named[name]))

    def do_clear(self) -> tuple[Any, ...]:
        return names(self.clear())

    def do_pause(self) -> None:
        self.is_paused = True

    def do_resume(self) -> None:
        self.is_paused = False

    def do_resize(self, workers: int) -> None:
        self.limit = workers

    def do_start(self) -> None:
        self.start()

    # Calls that wait

    def tell(self, number: int, answer: Any) -> None:
        """A call is to answer so, once what was dropped until now is among the dead letters."""
        self.told[number] = answer
        self.owed[number] = frozenset(self.unburied)

    def read_returns(self, number: int) -> Any:
        """What a call that waits is to answer; None when there is nothing yet that it could."""
        owes = self.owed.get(number, frozenset()) & self.unburied.keys()
        return None if owes else self.told.get(number)

    def do_give_up(self, number: int) -> Any:
        """A call that waits for room waits no longer."""
        seats: list[Any] = self.seats
        self.seats = [place for place in seats if place.number != number]
        self.fill_seats()
        return "CapacityExceededError" if len(self.seats) < len(seats) else None

    def do_join(self, number: int) -> str | None:
        """Decided at a moment at which there is nothing to wait for, or no hope."""
        if not self.active() and not self.one_offs():
            self.tell(number, True)
        elif self.state not in (RUNNING, STOPPING):
            self.told[number] = "QueueStateError"
        else:
            return "not now"
        return None

    def do_send_wait(self, number: int, wanted: Sequence[Any]) -> None:
        place = Place(self._batch(wanted))
        place.number = number
        before = len(self.book)
        try:
            if self.send_wait(place, may_wait=True):
                self.told[number] = len(self.book) - before
        except EnvelopeQueueError as error:
            self.told[number] = type(error).__name__

    def fill_seats(self) -> None:
        while self.seats and self.fits(self.seats[0]):
            place: Any = self.seats.pop(0)
            self.told[place.number] = self.admit(place, 0.0)

    def do_stop(self, number: int, mode: StopMode, *, is_ending: bool = False) -> None:
        seats: list[Any] = self.seats[:]
        self.stop(mode, None, 0.0, is_ending=is_ending)
        if self.state is STOPPING:
            self.stoppers.append(number)
            error = "QueueTerminatedError" if self.is_ending else "QueueNotRunningError"
            self.told.update({place.number: error for place in seats})
        elif self.report:
            self.tell(number, report_of(self.report))
        else:
            self.told[number] = (mode, self.state, False, (), (), (), 0, 0)

    def do_terminate(self, number: int) -> None:
        self.do_stop(number, StopMode.STOP, is_ending=True)

    def do_begin_stop(self, number: int, mode: StopMode) -> None:
        """A stop that does not wait; when there is nothing to wait for, it is told of the end."""
        self.do_stop(number, mode)
        self.owed.pop(number, None)

    # Runs

    def _may_begin(self, key: Hashable) -> bool:
        is_head = bool(self.ready) and self.ready[0][1] == key
        return is_head and self.may_run() and len(self.active()) < self.limit

    def do_begin(self, key: Hashable) -> tuple[Any, int]:
        self.take()
        row = self.book[key]
        return row.envelope.id, row.attempt

    def do_end(self, key: Hashable, how: str, attempt: int) -> None:
        name, dead = self.book[key].envelope.id, self.counts["dead"]
        self.finish(key, how, 0.0, attempt)
        if self.counts["dead"] > dead:
            self.unburied[self.counts["dead"]] = name

    def do_bury(self, name: Any) -> bool:
        numbers = [number for number, other in self.unburied.items() if other == name]
        if numbers:
            self.letters.append(self.unburied.pop(numbers[0]))
        return bool(numbers)

    def do_clear_letters(self) -> tuple[Any, ...]:
        letters, self.letters = self.letters, []
        return tuple(letters)

    # What calls see

    def read_stats(self) -> QueueStats:
        counts, phases = self.counts, [row.phase for row in self.book.values()]
        runs = {name: counts[name] for name in COUNTED if isinstance(name, str)}
        waits = phases.count("ready")
        return QueueStats(
            accepted=sum(counts[outcome] for outcome in Outcome) + len(self.book),
            **{outcome.value: counts[outcome] for outcome in Outcome}, **runs,
            buffered=waits if self.state is INIT else 0, ready=0 if self.state is INIT else waits,
            delayed=phases.count("delayed"), running=phases.count("running"), occupancy=len(self.book),
            runs_started=sum(runs[name] for name in runs if name[:5] == "runs_") + phases.count("running"),
            runs_abandoned=0, abandoned_ended=0, late=0, workers=self.limit, state=self.state,
        )  # fmt: skip

    def read_snapshot(self) -> tuple[Any, ...]:
        return tuple((row.envelope.id, row.phase, row.attempt) for row in self.book.values())

    def read_length(self) -> int:
        return len(self.book)

    def read_state(self) -> QueueState:
        return self.state

    def read_last_report(self) -> Any:
        return report_of(self.report) if self.report else None

    def read_letters(self) -> tuple[Any, ...]:
        return tuple(self.letters)

    def read_outcome(self, future: int) -> Any:
        return self.resolved.get(future)


def changes_nothing(name: str, answer: Any) -> bool:
    """Whether a call that is answered so has never changed anything."""
    return answer is False or (name == "clear_letters" and not answer) or (name == "start" and answer is not None)


def copied(record: Any) -> Any:
    """A copy of a row or of a stop."""
    other = object.__new__(type(record))
    other.__dict__.update(record.__dict__)
    if isinstance(record, Row):
        other.futures = record.futures[:]
    return other


def shown(stats: QueueStats) -> str:
    """What is not zero."""
    return ", ".join(f"{name}={value}" for name, value in vars_of(stats) if value and name != "state")


def vars_of(stats: QueueStats) -> list[tuple[str, Any]]:
    return [(name, getattr(stats, name)) for name in type(stats).__dataclass_fields__]


CHANGES = {name[3:]: method for name, method in vars(Sequential).items() if name[:3] == "do_"}
READS = {name[5:]: method for name, method in vars(Sequential).items() if name[:5] == "read_"}
