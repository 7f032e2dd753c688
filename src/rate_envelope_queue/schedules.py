"""When a periodic envelope runs: after a fixed delay, at a fixed rate, or by a cron expression.

A schedule is an immutable value without state, clock or randomness: it is told the time, answers with a monotonic
instant, and may be shared by any number of envelopes and queues. It is asked for one run at a time, at the end of the
one before, so that after a pause of the machine there is one catch-up run, never a burst.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .durations import nonnegative, positive
from .errors import InvalidEnvelopeError
from .text import bounded_repr

if TYPE_CHECKING:
    from cronsim import CronSim

_ANY_DAY = datetime(2024, 1, 1, tzinfo=UTC)


@runtime_checkable
class Schedule(Protocol):
    """Decides when a periodic envelope runs; write your own with these four names.

    `now`, `planned` and the answers are seconds on the queue's monotonic clock; `wall_utc` is the wall time at `now`,
    timezone-aware. The methods are called without a lock held, maybe from several threads at once. An answer that is
    not after `now` means at once.

    >>> class EverySecondOne:
    ...     jitter = 0.0
    ...     period = None
    ...     def first(self, *, now, wall_utc):
    ...         return now + 60 - wall_utc.second
    ...     def next(self, *, planned, started, now, wall_utc):
    ...         return now + 120 - wall_utc.second
    >>> isinstance(EverySecondOne(), Schedule)
    True
    """

    @property
    def jitter(self) -> float:
        """Each run starts up to this many seconds later than planned, never earlier; the queue throws the dice."""
        ...

    @property
    def period(self) -> float | None:
        """The seconds between runs where they are constant, else None. No deadline may be longer."""
        ...

    def first(self, *, now: float, wall_utc: datetime) -> float:
        """The instant of the first run, without jitter."""
        ...

    def next(self, *, planned: float, started: float, now: float, wall_utc: datetime) -> float:
        """The instant of the next run, without jitter.

        *planned* is the last answer of `first` or `next`; the run that just ended began at *started*, maybe much later,
        and ended, hooks included, at *now*.
        *planned* lies after *now* when that run came early because its envelope was sent again.
        """
        ...


def every(interval: float | timedelta, *, jitter: float | timedelta = 0) -> Schedule:
    """A fixed delay: the first run at once, each next one *interval* seconds after the end of the one before.

    The same as `Envelope(interval=...)`, with a *jitter*: each run starts up to that many seconds later. Raises
    InvalidEnvelopeError for an interval that is not above 0.

    >>> every(60, jitter=5)
    every(60.0, jitter=5.0)
    """
    return _Every(_period(interval, "interval"), _jitter(jitter))


def fixed_rate(period: float | timedelta, *, jitter: float | timedelta = 0) -> Schedule:
    """A fixed grid: the first run at once, the others every *period* seconds from there, however long each takes.

    When runs were missed, because one took too long or the machine paused, there is one run at once in place of them
    all, and the grid goes on. *jitter*, at most the period, starts each run up to that many seconds later and does not
    shift the grid. Raises InvalidEnvelopeError for a period that is not above 0.

    >>> fixed_rate(0.5)
    fixed_rate(0.5)
    """
    length, spread = _period(period, "period"), _jitter(jitter)
    if spread > length:
        raise InvalidEnvelopeError(f"jitter must be at most the period ({length!r} s), not {bounded_repr(jitter)}")
    return _FixedRate(length, spread)


def cron(expression: str, *, tz: str | tzinfo | None = None, jitter: float | timedelta = 0) -> Schedule:
    """The times of a cron *expression* in the time zone *tz*, beginning with the next one.

    Five fields (minute hour day month weekday), or six with seconds first. *tz* is a name such as "Europe/Berlin", a
    tzinfo, or None for UTC. *jitter* starts each run up to that many seconds later. A time that passes while a run is
    going on is skipped. A run is planned when the one before ends; if the wall clock is set meanwhile, that counts from
    the run after. A wall clock up to 5 seconds behind (half a second with six fields) does not run a time twice.

    When the clocks change, five fields with a fixed minute and hour do as Debian's cron does: a local time that is
    skipped runs when the clocks have changed, one that comes twice runs once, the first time. Any other expression
    follows the clock on the wall: skipped times do not run, repeated ones run twice. In a zone whose clocks change by
    half an hour (Lord Howe Island), such an expression may miss a time on that day.

    Needs the package `cronsim`: `pip install 'rate-envelope-queue[cron]'`, else ImportError. Raises
    InvalidEnvelopeError for an expression that is wrong or never matches, and for an unknown zone.

    >>> cron("30 9 * * MON-FRI", tz="Europe/Berlin")
    cron('30 9 * * MON-FRI', tz='Europe/Berlin')
    """
    _cronsim()  # a missing package is told before anything else
    if not isinstance(expression, str):
        raise InvalidEnvelopeError(
            f"expression must be a str such as '30 9 * * MON-FRI', not {bounded_repr(expression)}"
        )
    schedule = _Cron(" ".join(expression.split()), _zone(tz), _jitter(jitter))
    try:
        schedule._after(_ANY_DAY)
    except InvalidEnvelopeError:
        raise
    except Exception as error:  # whatever the parser trips over, it is the expression that is wrong
        raise InvalidEnvelopeError(
            f"expression {bounded_repr(expression)} is not a cron expression ({error}): "
            "use five fields (minute hour day month weekday), or six with seconds first"
        ) from None
    return schedule


@dataclass(frozen=True, slots=True, repr=False)
class _Every:
    interval: float
    jitter: float

    @property
    def period(self) -> float:
        return self.interval

    def first(self, *, now: float, wall_utc: datetime) -> float:
        return now

    def next(self, *, planned: float, started: float | None = None, now: float, wall_utc: datetime) -> float:
        return now + self.interval

    def __repr__(self) -> str:
        return f"every({self.interval!r}{_jitter_repr(self.jitter)})"


@dataclass(frozen=True, slots=True, repr=False)
class _FixedRate:
    period: float
    jitter: float

    def first(self, *, now: float, wall_utc: datetime) -> float:
        return now

    def next(self, *, planned: float, started: float | None = None, now: float, wall_utc: datetime) -> float:
        # Each answer is a grid point, from which the next is one addition away: at most half an ulp of the clock per
        # run (2e-9 s after a year of uptime), below what any clock keeps.
        if started is not None:
            planned = self._latest(planned, started)  # a run that began late stands for all points up to its beginning
        if planned > now:
            return planned
        upcoming = planned + self.period
        return upcoming if upcoming > now else self._latest(planned, now)

    def _latest(self, planned: float, at: float) -> float:
        """The last grid point up to *at*, or *planned* when there is none later."""
        if at - planned < self.period:
            return planned
        since = math.fmod(at - planned, self.period)  # exact, where a quotient is not
        # A grid point that is only a rounding error ahead is now: else it would follow its catch-up run at once.
        return at if self.period - since < 4 * math.ulp(at) else at - since

    def __repr__(self) -> str:
        return f"fixed_rate({self.period!r}{_jitter_repr(self.jitter)})"


@dataclass(frozen=True, slots=True, repr=False)
class _Cron:
    expression: str
    tz: tzinfo
    jitter: float

    @property
    def period(self) -> None:
        return None

    def first(self, *, now: float, wall_utc: datetime) -> float:
        wall = _in_utc(wall_utc)
        return now + (self._after(wall) - wall).total_seconds()

    def next(self, *, planned: float, started: float | None = None, now: float, wall_utc: datetime) -> float:
        wall = _in_utc(wall_utc)
        upcoming = self._after(wall)
        # A run may end while the wall clock, which was set back or goes slower than the monotonic one, is still just
        # short of the very time that the run was for. That time must not run twice.
        ago = now - planned
        if ago >= 0 and (upcoming - wall).total_seconds() + ago < self._tolerance():
            upcoming = self._after(upcoming)
        return now + (upcoming - wall).total_seconds()

    def _tolerance(self) -> float:
        """How far the wall clock may be behind, in seconds: well below the finest step of the expression."""
        return 5.0 if self.expression.count(" ") == 4 else 0.5

    def _after(self, wall: datetime) -> datetime:
        """The first cron time strictly after *wall*, in UTC.

        cronsim counts local times, and in the second pass of a repeated hour its first answers may be of the first
        pass, that is in the past: hence the comparison.
        """
        for local in _cronsim()(self.expression, wall.astimezone(self.tz)):
            instant = local.astimezone(UTC)
            if instant > wall:
                return instant
        raise InvalidEnvelopeError(f"expression {bounded_repr(self.expression)} matches no time in the next 50 years")

    def __repr__(self) -> str:
        zone = "" if self.tz is UTC else f", tz={getattr(self.tz, 'key', None) or self.tz!r}"
        return f"cron({self.expression!r}{zone}{_jitter_repr(self.jitter)})"


def _cronsim() -> type[CronSim]:
    try:
        from cronsim import CronSim
    except ImportError as error:
        message = "cron() needs the package cronsim: pip install 'rate-envelope-queue[cron]'"
        raise ImportError(message, name="cronsim") from error
    return CronSim


def _period(value: object, name: str) -> float:
    try:
        return positive(value, name)
    except (TypeError, ValueError) as error:
        raise InvalidEnvelopeError(str(error)) from None


def _jitter(value: object) -> float:
    try:
        return nonnegative(value, "jitter")
    except (TypeError, ValueError) as error:
        raise InvalidEnvelopeError(str(error)) from None


def _jitter_repr(jitter: float) -> str:
    return f", jitter={jitter!r}" if jitter else ""


def _in_utc(wall_utc: datetime) -> datetime:
    """*wall_utc* as an aware datetime in UTC; a naive one is UTC already, as its name says."""
    if wall_utc.tzinfo is None:
        return wall_utc.replace(tzinfo=UTC)
    return wall_utc.astimezone(UTC)


def _zone(tz: object) -> tzinfo:
    if tz is None:
        return UTC
    if isinstance(tz, str):
        return _named_zone(tz)
    if isinstance(tz, tzinfo) and _keeps_local_time(tz):
        return tz
    raise InvalidEnvelopeError(
        f"tz must be a zone name, a zoneinfo.ZoneInfo or a like tzinfo (not one of pytz's), not {bounded_repr(tz)}"
    )


def _named_zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # OSError: the name of a directory of zones
        raise InvalidEnvelopeError(
            f"tz must be the name of a known time zone such as 'Europe/Berlin', not {bounded_repr(name)} "
            "(where the system has no zones, pip install tzdata)"
        ) from None


def _keeps_local_time(tz: tzinfo) -> bool:
    """Whether *tz* is one object the whole year round; pytz's zones are not, and go wrong in arithmetic."""
    try:
        return all(_ANY_DAY.replace(month=month).astimezone(tz).tzinfo is tz for month in (1, 7))
    except Exception:  # a tzinfo of the user's, and unfinished
        return False
