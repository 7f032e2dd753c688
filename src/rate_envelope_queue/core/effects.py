"""What the machine asks the driver to do once the lock is released, in order.

An effect is a tuple that begins with one of these names. Whatever calls user code, wakes a caller or may drop a last
reference is an effect; nothing of that kind happens inside the machine.
"""

from __future__ import annotations

from typing import Any

DEAD = "dead"  # envelope, attempts, error, reason: write a dead letter
ENDED = "ended"  # futures, outcome, error, value: resolve the futures
FORGET = "forget"  # key: the backoff limiter may forget it
TOLD = "told"  # event, facts: somebody listens to it
ABANDONED = "abandoned"  # envelope: a stop gave up on its run
LOST = "lost"  # envelope: it was periodic, and was abandoned
CANCEL = "cancel"  # scope: end the contexts of all runs under it
SIGNAL = "signal"  # waiter: what it waited for has come
STATE = "state"  # old, new
STOPPED = "stopped"  # ticket: its report is complete
SWEEP = "sweep"  # entries are to be returned: tick while the ticket sweeps
JUNK = "junk"  # anything: only to be let go of outside the lock

Effect = tuple[Any, ...]
