"""Faults that a queue like this could have, each put into a copy of the core.

The first ten are those of the original in Go, and the commonest of any queue; then one for each rule that a reader of
the core might think superfluous.

Each says what of the programs finds it mostly, and after how many programs, in the mean of ten series of seeds; it was
measured once, and is no bound. "answers" and "who runs": the machine and the model differ in an answer, or in what is
taken; "check": the book's fields do not agree; "crash": an exception; a number: that guarantee.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutating import Changes

ADMISSION, BOOK, DELAYS, ENTRIES = "core/admission.py", "core/book.py", "core/delays.py", "core/entries.py"
MACHINE, SETTLE, STOPPING, WAITING = "core/machine.py", "core/settle.py", "core/stopping.py", "core/waiting.py"
TELLING, TIMES = "core/telling.py", "core/times.py"


@dataclass(frozen=True)
class Mutant:
    """*changes* are (file, what is there once, what comes instead)."""

    name: str
    changes: Changes
    found_by: str
    mean: float


def mutant(name: str, file: str, old: str, new: str, found_by: str, mean: float) -> Mutant:
    return Mutant(name, ((file, old, new),), found_by, mean)


MUTANTS = (
    mutant(
        "a duplicate takes room",
        ADMISSION,
        "needed = self.count_new(envelopes)\n        if not self.fits(needed):",
        "needed = len(envelopes)\n        if not self.fits(needed):",
        "answers",
        1.2,
    ),
    mutant(
        "what is delayed is lost by a stop",
        STOPPING,
        "    if ticket.is_ending and machine.entries:",
        "    for key, entry in list(machine.entries.items()):\n"
        "        if entry.__class__ is Entry and entry.phase == DELAYED:\n"
        "            machine._withdraw(key, entry)\n"
        "    if ticket.is_ending and machine.entries:",
        "I-1",
        1.6,
    ),
    mutant(
        "an exception drops the entry",
        MACHINE,
        "        if outcome is None:\n            self._go_on(entry, verdict)",
        "        if verdict.run == RUN_FAILED:\n            self._end(key, entry, verdict, Outcome.DROPPED, value)\n"
        "        elif outcome is None:\n            self._go_on(entry, verdict)",
        "I-1",
        2.0,
    ),
    mutant(
        "a drain does not run what is retried",
        STOPPING,
        "        if machine.live_ready():\n            return",
        "        pass",
        "I-6",
        3.9,
    ),
    mutant(
        "a stop does not wait for what runs",
        MACHINE,
        "        if self.active:\n            return\n        ticket = self.ticket",
        "        if self.active and self.state is not QueueState.STOPPING:\n"
        "            return\n        ticket = self.ticket",
        "check",
        1.5,
    ),
    mutant(
        "a restart forgets what runs",
        MACHINE,
        "        self.ticket = None\n",
        "        self.ticket = None\n        self.ghosts.clear()\n",
        "I-5",
        1.5,
    ),
    mutant(
        "the last one first",
        BOOK,
        "            self.ready.append(entry)",
        "            self.ready.append(entry)\n            if self.ready.__class__ is deque:\n"
        "                self.ready.rotate(1)",
        "I-7",
        2.3,
    ),
    mutant(
        "a send is accepted while stopping",
        ADMISSION,
        "self.state is not QueueState.INIT and self.state is not QueueState.RUNNING:",
        "self.state is not QueueState.INIT and self.state not in (QueueState.RUNNING, QueueState.STOPPING):",
        "answers",
        1.3,
    ),
    mutant(
        "half a batch is taken in",
        ADMISSION,
        "        if not self.fits(needed):\n",
        "        if not self.fits(needed):\n"
        "            self.admit_all(envelopes[: int(self.room) - len(self.entries)], due, starts, future, context)\n",
        "I-1",
        2.7,
    ),
    mutant(
        "a send during the run is lost",
        ADMISSION,
        "notes.again = due if notes.again is None else min(notes.again, due)",
        "notes.again = None",
        "I-1",
        1.5,
    ),
    # Room
    mutant(
        "one too many", ADMISSION, "elif len(entries) < self.room:", "elif len(entries) <= self.room:", "check", 3.9
    ),
    mutant(
        "room is freed and nobody seated", ADMISSION, "        if self.seats:\n", "        if False:\n", "check", 6.5
    ),
    mutant(
        "the row is overtaken", ADMISSION, "(not self.seats and self.fits(needed))", "self.fits(needed)", "answers", 9.3
    ),
    mutant(
        "who leaves the row blocks it",
        WAITING,
        "    book.seats.remove(seat)\n    fill_seats(book)",
        "    book.seats.remove(seat)",
        "check",
        6.6,
    ),
    mutant("a row forgets a stop", STOPPING, "    waiting.fail_seats(machine)\n", "", "I-4", 3.3),
    # Duplicates and keys
    mutant("the later due time wins", ADMISSION, "due < entry.due):", "due > entry.due):", "I-3", 21.6),
    mutant(
        "a cancel cannot be taken back",
        ADMISSION,
        "        notes.cancelled = False  # the last",
        "        # the last",
        "I-1",
        4.9,
    ),
    mutant(
        "a cancel leaves the re-send",
        MACHINE,
        "            notes.cancelled = True\n            notes.again = None",
        "            notes.cancelled = True",
        "I-3",
        30.5,
    ),
    mutant("a re-send always replaces", ADMISSION, "if is_first or self.is_replacing:", "if True:", "I-3", 20.5),
    mutant(
        "a re-send keeps the old envelope",
        ADMISSION,
        "                entry.envelope = notes.next_envelope\n",
        "",
        "check",
        2.3,
    ),
    mutant(
        "nothing is replaced",
        ADMISSION,
        "        entry.envelope = envelope\n        if planned",
        "        if planned",
        "check",
        2.3,
    ),
    mutant(
        "a re-send keeps the attempts",
        MACHINE,
        "        entry.attempt = 1\n        due = min(asked",
        "        due = min(asked",
        "I-15",
        15.1,
    ),
    mutant(
        "a retry before the re-send is late",
        MACHINE,
        "min(asked, self._due(verdict)) if goes_on else asked",
        "asked",
        "I-3",
        16.1,
    ),
    mutant(
        "a stop by the user is overruled",
        MACHINE,
        "if notes is not None and outcome is not Outcome.STOPPED:",
        "if notes is not None:",
        "I-1",
        8.4,
    ),
    mutant(
        "a re-send hides a drop",
        MACHINE,
        "        if verdict.outcome is Outcome.DROPPED:\n",
        "        if False:\n",
        "I-19",
        6.8,
    ),
    mutant(
        "a key runs behind its abandoned run",
        BOOK,
        "if self.ghosts and key_of(entry.envelope) in self.ghosts:",
        "if False:",
        "I-3",
        2.8,
    ),
    mutant(
        "what is blocked stays so",
        MACHINE,
        "        if isinstance(entry, Entry) and entry.phase == BLOCKED:\n            self._make_ready(entry)\n",
        "",
        "check",
        1.9,
    ),
    mutant(
        "an abandoned run takes its re-send along",
        STOPPING,
        "and not ticket.is_ending:\n        _succeed",
        "and False:\n        _succeed",
        "I-1",
        1.9,
    ),
    mutant(
        "a plain send does not hold",
        WAITING,
        "if not notes.futures and not notes.is_pinned:",
        "if not notes.futures:",
        "I-1",
        2.3,
    ),
    # Time
    mutant(
        "half a second early",
        MACHINE,
        "        if self.delays.next_due <= now:\n",
        "        now += 0.5\n        if self.delays.next_due <= now:\n",
        "I-3",
        11.0,
    ),
    mutant(
        "ties are turned round",
        DELAYS,
        "entry.seq = seq = self._next_seq()",
        "entry.seq = seq = -self._next_seq()",
        "I-7",
        18.4,
    ),
    mutant(
        "an old due time is not void",
        DELAYS,
        "            if entry.seq == seq and entry.phase == DELAYED:\n                self.size",
        "            if entry.phase == DELAYED:\n                self.size",
        "I-3",
        39.1,
    ),
    mutant(
        "a drain runs what becomes due",
        MACHINE,
        "now = nextafter(self.ticket.begun_at, -inf)",
        "now = self.clock()",
        "I-3",
        5.6,
    ),
    mutant(
        "a re-send that becomes due is drained",
        MACHINE,
        "(self.state is QueueState.RUNNING and due <= self.clock())",
        "due <= self.clock()",
        "I-3",
        10.9,
    ),
    mutant("no start rate", MACHINE, "return now >= self.reserved", "return True", "who runs", 3.7),
    mutant(
        "a token goes to nobody",
        MACHINE,
        "        return bool(ready) and self._is_token_due()",
        "        return self._is_token_due() and bool(ready)",
        "I-6",
        102.4,
    ),
    # Attempts
    mutant("an interruption is an attempt", MACHINE, "elif verdict.run != RUN_CANCELLED:", "else:", "I-15", 2.6),
    mutant(
        "one attempt more", SETTLE, "attempt >= policy.max_attempts", "attempt > policy.max_attempts", "who runs", 14.0
    ),
    # Stopping
    mutant(
        "a stop does not harden",
        STOPPING,
        "            self.mode = StopMode.STOP\n            self.drains = False",
        "            self.mode = StopMode.STOP",
        "I-6",
        8.2,
    ),
    mutant(
        "a drain goes on after its time",
        STOPPING,
        "        ticket.drains = False\n        machine.refresh()",
        "        machine.refresh()",
        "who runs",
        3.7,
    ),
    mutant("times grow", STOPPING, "return other if one is None else min(one, other)", "return other", "I-19", 8.4),
    mutant("an abandoned run is not counted", STOPPING, "    machine.runs_abandoned += 1\n", "", "I-1", 1.5),
    mutant(
        "terminate leaves what waits",
        STOPPING,
        "    if ticket.is_ending and machine.entries:",
        "    if False:",
        "I-1",
        1.4,
    ),
    mutant(
        "a stop ends before it has told",
        MACHINE,
        "        if self.delivering and not (",
        "        if False and not (",
        "I-9",
        1.4,
    ),
    mutant(
        "join waits only for what is ready",
        WAITING,
        "    if book.one_offs() == 0:",
        "    if book.live_ready() == 0:",
        "I-19",
        6.7,
    ),
    # Shortcuts
    mutant(
        "resume wakes nobody",
        MACHINE,
        "        self.is_paused = False\n        self.refresh()",
        "        self.is_paused = False",
        "I-6",
        2.4,
    ),
    mutant(
        "fewer workers, not noted",
        MACHINE,
        "        self.limit = workers\n        self.refresh()",
        "        self.limit = workers",
        "I-3",
        17.0,
    ),
    mutant(
        "cancelled places count",
        MACHINE,
        "        if self.skip and handle in self.skip:",
        "        if False:",
        "crash",
        36.8,
    ),
    mutant(
        "clear does not reach what runs",
        MACHINE,
        "            if is_running(entry):\n                self.cancel(key)\n",
        "            if is_running(entry):\n                pass\n",
        "I-1",
        11.2,
    ),
    mutant(
        "a plain success asks nothing",
        MACHINE,
        "if verdict is SUCCESS and self.calm:",
        "if verdict is SUCCESS:",
        "who runs",
        20.5,
    ),
    mutant(
        "a paused drain goes on for ever",
        MACHINE,
        "        self.is_paused = True\n        self.refresh()\n        self.rest()",
        "        self.is_paused = True\n        self.refresh()",
        "I-9",
        5.5,
    ),
    # What is told and kept
    mutant(
        "a plain one is dropped and not buried",
        MACHINE,
        "                self._bury(envelope_of(key, entry), 1, verdict)",
        "                pass",
        "I-19",
        11.2,
    ),
    mutant(
        "priorities are ignored", ENTRIES, "insort(self._order, -priority)", "self._order.append(-priority)", "I-7", 4.3
    ),
    mutant(
        "the loss of a periodic is not told",
        STOPPING,
        "            machine.outbox.append((LOST, envelope))",
        "            pass",
        "I-19",
        2.9,
    ),
    mutant("late successes are not counted", MACHINE, "        self.late += verdict.is_late\n", "", "I-1", 3.1),
    mutant(
        "only success is told",
        BOOK,
        "        if notes.futures:\n",
        "        if notes.futures and outcome is Outcome.SUCCEEDED:\n",
        "I-2",
        3.8,
    ),
    mutant(
        "the limiter remembers for ever", BOOK, "        if notes.backed_off:\n", "        if False:\n", "I-19", 3.6
    ),
    mutant(
        "debris keeps envelopes",
        BOOK,
        "                entry.envelope = NO_ENVELOPE  # debris",
        "                pass  # debris",
        "I-16",
        3.9,
    ),
    mutant(
        "an abandoned run keeps its envelope",
        MACHINE,
        "            handle.envelope = NO_ENVELOPE",
        "            pass",
        "I-16",
        24.6,
    ),
    # What is told of each, and measured
    mutant(
        "sends take the short way though they are told",
        TELLING,
        "    if times is not None or book.told & OF_SENDS:\n        book.swift = None",
        "    pass",
        "I-3",
        2.8,
    ),
    mutant(
        "a plain success is not told",
        TELLING,
        "times.is_calm = book.calm and not book.told & OF_RUNS",
        "times.is_calm = book.calm",
        "I-19",
        23.8,
    ),
    mutant(
        "a refused batch is told as one",
        ADMISSION,
        '[(TOLD, "refused", envelope, error) for envelope in envelopes]',
        '[(TOLD, "refused", envelope, error) for envelope in envelopes[:1]]',
        "I-19",
        6.3,
    ),
    mutant(
        "what a sweep returns is not told",
        BOOK,
        "        if self.told or self.times is not None:\n            telling.ended",
        "        if (self.told or self.times is not None) and not (self.ticket and self.ticket.sweeps):\n"
        "            telling.ended",
        "I-19",
        7.2,
    ),
    mutant(
        "the last run of an entry is not told",
        MACHINE,
        "        if self.told or self.times is not None:\n            telling.over(",
        "        if (self.told or self.times is not None) and verdict.outcome is None:\n            telling.over(",
        "I-19, times",
        3.3,
    ),
    mutant("a lateness is not told", TELLING, 'if verdict.is_late and "late" in book.told', "if False", "I-19", 9.6),
    mutant(
        "the wait for a due one counts from when a worker looks",
        MACHINE,
        "self._make_ready(entry, entry.due)",
        "self._make_ready(entry)",
        "I-19, times",
        7.9,
    ),
    mutant(
        "backoff is no latency",
        TIMES,
        "        self._sent_at[key] = sent_at\n",
        "",
        "I-19, times",
        7.5,
    ),
    mutant(
        "a send during the run is no add", TIMES, "            self._again[key] = self.now\n", "", "I-19, times", 4.4
    ),
    mutant(
        "a send during the run is ready when that is over",
        TIMES,
        "            self.ready_at[key] = self._again.pop(key)\n",
        "            self._again.pop(key)\n",
        "I-19, times",
        4.4,
    ),
    mutant(
        "an abandoned run is not measured",
        STOPPING,
        "        machine.times.over(key)\n",
        "        pass\n",
        "I-19, times",
        3.6,
    ),
    mutant(
        "a period counts from the send",
        MACHINE,
        "            self.times.planned(key_of(entry.envelope), due)\n",
        "            pass\n",
        "I-19, times",
        7.1,
    ),
    mutant(
        "what was cancelled while it runs stays added",
        MACHINE,
        "                self.times.unsent(key)\n",
        "                pass\n",
        "I-19, times",
        19.4,
    ),
    mutant(
        "marks outlive their entries",
        TIMES,
        "        ready_at = self.ready_at.pop(key, None)\n        sent_at = self._sent_at.pop(key, ready_at)\n",
        "        ready_at = self.ready_at.get(key)\n        sent_at = self._sent_at.pop(key, ready_at)\n",
        "I-16",
        5.6,
    ),
)
