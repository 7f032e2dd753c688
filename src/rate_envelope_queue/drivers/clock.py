"""The clocks. The only file that may call the time functions of the standard library."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

give_way = time.sleep  # give_way(0) lets another thread run
real_now = time.monotonic
LONGEST_WAIT = 3600.0  # one wait of a lock; whoever waits longer looks at the clock and waits again


@runtime_checkable
class Clock(Protocol):
    """What a queue needs of time. `now` is monotonic seconds; `wall_utc` is aware and affects cron alone."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def wall_utc(self) -> datetime:
        """The date and time, in UTC."""
        ...


class SystemClock:
    """The clock of the machine."""

    now = staticmethod(real_now)

    def wall_utc(self) -> datetime:
        """The date and time, in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for *seconds*, whatever a context says."""
        time.sleep(seconds)

    def __repr__(self) -> str:
        return "SystemClock()"
