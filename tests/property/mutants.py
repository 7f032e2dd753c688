"""Faults that a queue like this could have, each put into a copy of the core.

The first ten are those of the original in Go, and the commonest of any queue; then one for each rule that a reader of
the core might think superfluous. *kills* says what the programs of the dice find first, and after how many programs in
the mean of ten series; it is a measurement, not a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutating import Changes

ADMISSION, BOOK, DELAYS, ENTRIES = "core/admission.py", "core/book.py", "core/delays.py", "core/entries.py"
MACHINE, SETTLE, STOPPING, WAITING = "core/machine.py", "core/settle.py", "core/stopping.py", "core/waiting.py"


@dataclass(frozen=True)
class Mutant:
    """*changes* are (file, what is there once, what comes instead)."""

    name: str
    changes: Changes
    kills: str = ""


def mutant(name: str, file: str, old: str, new: str, kills: str = "") -> Mutant:
    return Mutant(name, ((file, old, new),), kills)


MUTANTS = (
    mutant(
        "a duplicate takes room",
        ADMISSION,
        "needed = self.count_new(envelopes)\n        if not self.fits(needed):",
        "needed = len(envelopes)\n        if not self.fits(needed):",
    ),
    mutant(
        "what is delayed is lost by a stop",
        STOPPING,
        "    if ticket.is_ending and machine.entries:",
        "    for key, entry in list(machine.entries.items()):\n"
        "        if entry.__class__ is Entry and entry.phase == DELAYED:\n"
        "            machine._withdraw(key, entry)\n"
        "    if ticket.is_ending and machine.entries:",
    ),
    mutant(
        "an exception drops the entry",
        MACHINE,
        "        if outcome is None:\n            self._go_on(entry, verdict)",
        "        if verdict.run == RUN_FAILED:\n            self._end(key, entry, verdict, Outcome.DROPPED, value)\n"
        "        elif outcome is None:\n            self._go_on(entry, verdict)",
    ),
    mutant(
        "a drain does not run what is retried",
        STOPPING,
        "        if machine.live_ready():\n            return",
        "        pass",
    ),
    mutant(
        "a stop does not wait for what runs",
        MACHINE,
        "        if self.active:\n            return\n        ticket = self.ticket",
        "        if self.active and self.state is not QueueState.STOPPING:\n"
        "            return\n        ticket = self.ticket",
    ),
    mutant(
        "a restart forgets what runs",
        MACHINE,
        "        self.ticket = None\n",
        "        self.ticket = None\n        self.ghosts.clear()\n",
    ),
    mutant(
        "the last one first",
        BOOK,
        "            self.ready.append(entry)",
        "            self.ready.append(entry)\n            if self.ready.__class__ is deque:\n"
        "                self.ready.rotate(1)",
    ),
    mutant(
        "a send is accepted while stopping",
        ADMISSION,
        "self.state is not QueueState.INIT and self.state is not QueueState.RUNNING:",
        "self.state is not QueueState.INIT and self.state not in (QueueState.RUNNING, QueueState.STOPPING):",
    ),
    mutant(
        "half a batch is taken in",
        ADMISSION,
        "            self.refused += len(envelopes)\n"
        "            raise CapacityExceededError(int(self.room), len(self.entries), needed)\n"
        "        return",
        "            self.refused += len(envelopes)\n"
        "            self.admit_all(envelopes[: int(self.room) - len(self.entries)], due, starts, future, context)\n"
        "            raise CapacityExceededError(int(self.room), len(self.entries), needed)\n"
        "        return",
    ),
    mutant(
        "a send during the run is lost",
        ADMISSION,
        "notes.again = due if notes.again is None else min(notes.again, due)",
        "notes.again = None",
    ),
    # Room
    mutant("one too many", ADMISSION, "elif len(entries) < self.room:", "elif len(entries) <= self.room:"),
    mutant("room is freed and nobody seated", ADMISSION, "        if self.seats:\n", "        if False:\n"),
    mutant("the row is overtaken", ADMISSION, "(not self.seats and self.fits(needed))", "self.fits(needed)"),
    mutant(
        "who leaves the row blocks it",
        WAITING,
        "    book.seats.remove(seat)\n    fill_seats(book)",
        "    book.seats.remove(seat)",
    ),
    mutant("a row forgets a stop", STOPPING, "    waiting.fail_seats(machine)\n", ""),
    # Duplicates and keys
    mutant("the later due time wins", ADMISSION, "due < entry.due):", "due > entry.due):"),
    mutant(
        "a cancel cannot be taken back", ADMISSION, "        notes.cancelled = False  # the last", "        # the last"
    ),
    mutant(
        "a cancel leaves the re-send",
        MACHINE,
        "            notes.cancelled = True\n            notes.again = None",
        "            notes.cancelled = True",
    ),
    mutant("a re-send always replaces", ADMISSION, "if is_first or self.is_replacing:", "if True:"),
    mutant("a re-send keeps the old envelope", ADMISSION, "                entry.envelope = notes.next_envelope\n", ""),
    mutant(
        "nothing is replaced", ADMISSION, "        entry.envelope = envelope\n        if planned", "        if planned"
    ),
    mutant(
        "a re-send keeps the attempts",
        MACHINE,
        "        asked = self.take_resend(entry)\n        entry.attempt = 1",
        "        asked = self.take_resend(entry)",
    ),
    mutant(
        "a retry before the re-send is late", MACHINE, "min(asked, self._due(verdict)) if goes_on else asked", "asked"
    ),
    mutant(
        "a stop by the user is overruled",
        MACHINE,
        "if notes is not None and outcome is not Outcome.STOPPED:",
        "if notes is not None:",
    ),
    mutant(
        "a re-send hides a drop", MACHINE, "        if verdict.outcome is Outcome.DROPPED:\n", "        if False:\n"
    ),
    mutant(
        "a key runs behind its abandoned run",
        BOOK,
        "if self.ghosts and key_of(entry.envelope) in self.ghosts:",
        "if False:",
    ),
    mutant(
        "what is blocked stays so",
        MACHINE,
        "        if isinstance(entry, Entry) and entry.phase == BLOCKED:\n            self._make_ready(entry)\n",
        "",
    ),
    mutant(
        "an abandoned run takes its re-send along",
        STOPPING,
        "and not ticket.is_ending:\n        _succeed",
        "and False:\n        _succeed",
    ),
    mutant(
        "a plain send does not hold", MACHINE, "if not notes.futures and not notes.is_pinned:", "if not notes.futures:"
    ),
    # Time
    mutant(
        "half a second early",
        MACHINE,
        "        if self.delays.next_due <= now:\n",
        "        now += 0.5\n        if self.delays.next_due <= now:\n",
    ),
    mutant(
        "ties are turned round", DELAYS, "entry.seq = seq = self._next_seq()", "entry.seq = seq = -self._next_seq()"
    ),
    mutant(
        "an old due time is not void",
        DELAYS,
        "            if entry.seq == seq and entry.phase == DELAYED:\n                self.size",
        "            if entry.phase == DELAYED:\n                self.size",
    ),
    mutant(
        "a drain runs what becomes due", MACHINE, "now = nextafter(self.ticket.begun_at, -inf)", "now = self.clock()"
    ),
    mutant(
        "a re-send that becomes due is drained",
        MACHINE,
        "(self.state is QueueState.RUNNING and due <= self.clock())",
        "due <= self.clock()",
    ),
    mutant("no start rate", MACHINE, "return now >= self.reserved", "return True"),
    mutant(
        "a token goes to nobody",
        MACHINE,
        "        return bool(ready) and self._is_token_due()",
        "        return self._is_token_due() and bool(ready)",
    ),
    # Attempts
    mutant("an interruption is an attempt", MACHINE, "elif verdict.run != RUN_CANCELLED:", "else:"),
    mutant("one attempt more", SETTLE, "attempt >= policy.max_attempts", "attempt > policy.max_attempts"),
    # Stopping
    mutant(
        "a stop does not harden",
        STOPPING,
        "            self.mode = StopMode.STOP\n            self.drains = False",
        "            self.mode = StopMode.STOP",
    ),
    mutant(
        "a drain goes on after its time",
        STOPPING,
        "        ticket.drains = False\n        machine.refresh()",
        "        machine.refresh()",
    ),
    mutant("times grow", STOPPING, "return other if one is None else min(one, other)", "return other"),
    mutant("an abandoned run is not counted", STOPPING, "    machine.runs_abandoned += 1\n", ""),
    mutant("terminate leaves what waits", STOPPING, "    if ticket.is_ending and machine.entries:", "    if False:"),
    mutant(
        "a stop ends before it has told", MACHINE, "        if self.delivering and not (", "        if False and not ("
    ),
    mutant(
        "join waits only for what is ready", WAITING, "    if book.one_offs() == 0:", "    if book.live_ready() == 0:"
    ),
    # Shortcuts
    mutant(
        "resume wakes nobody",
        MACHINE,
        "        self.is_paused = False\n        self.refresh()",
        "        self.is_paused = False",
    ),
    mutant(
        "fewer workers, not noted",
        MACHINE,
        "        self.limit = workers\n        self.refresh()",
        "        self.limit = workers",
    ),
    mutant("cancelled places count", MACHINE, "        if self.skip and handle in self.skip:", "        if False:"),
    mutant(
        "clear does not reach what runs",
        MACHINE,
        "            if is_running(entry):\n                self.cancel(key)\n",
        "            if is_running(entry):\n                pass\n",
    ),
    # What is told and kept
    mutant("priorities are ignored", ENTRIES, "insort(self._order, -priority)", "self._order.append(-priority)"),
    mutant(
        "the loss of a periodic is not told",
        STOPPING,
        "            machine.outbox.append((LOST, envelope))",
        "            pass",
    ),
    mutant("late successes are not counted", MACHINE, "        self.late += verdict.is_late\n", ""),
    mutant(
        "only success is told",
        BOOK,
        "        if notes.futures:\n",
        "        if notes.futures and outcome is Outcome.SUCCEEDED:\n",
    ),
    mutant("the limiter remembers for ever", BOOK, "        if notes.backed_off:\n", "        if False:\n"),
    mutant(
        "debris keeps envelopes",
        BOOK,
        "                entry.envelope = NO_ENVELOPE  # debris",
        "                pass  # debris",
    ),
    mutant(
        "an abandoned run keeps its envelope", MACHINE, "            handle.envelope = NO_ENVELOPE", "            pass"
    ),
)
