"""The options of a queue, checked and folded. Errors are TypeError or ValueError and name the option."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..durations import limit, nonnegative, positive, whole
from ..envelope import Stamp, checked_stamps, is_coroutine
from ..errors import InvalidEnvelopeError
from ..limiters import ExponentialBackoff, RateLimiter, TokenBucket, per_second
from ..results import StopMode
from ..text import bounded_repr
from .clock import Clock, SystemClock

LARGEST_POOL = 10_000
LARGEST_COUNT = sys.maxsize  # what a deque can be bounded by


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for, in the form in which it is used."""

    name: str
    workers: int
    capacity: int | None
    stop_mode: StopMode
    wait_on_stop: bool
    stamps: tuple[Stamp, ...]
    backoff: RateLimiter
    start_rate: TokenBucket | None
    is_replacing: bool
    is_strict: bool
    hook_fraction: float
    hook_floor: float
    stuck_after: float | None
    captures_context: bool
    dead_letter_limit: int | None
    clock: Clock
    observers: tuple[object, ...]


def checked_workers(value: object) -> int:
    """*value* as a number of workers."""
    return whole(value, "workers", least=1, most=LARGEST_POOL)


def checked_mode(value: object, name: str) -> StopMode:
    """*value* as a StopMode."""
    if not isinstance(value, StopMode):
        raise TypeError(f"{name} must be StopMode.DRAIN or StopMode.STOP, not {bounded_repr(value)}")
    return value


def checked_flag(value: object, name: str) -> bool:
    """*value* as a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {bounded_repr(value)}")
    return value


def checked_timeouts(timeout: object, grace: object) -> tuple[float | None, float]:
    """Timeout (None: no limit) and grace of a stop, in seconds."""
    return None if timeout is None else nonnegative(timeout, "timeout"), nonnegative(grace, "grace")


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"name must be a str, not {bounded_repr(value)}")
    if not value.strip():
        raise ValueError("name must not be empty: it is what logs and metrics call the queue")
    return value


def _capacity(value: object) -> int | None:
    if value is None:
        return None
    return whole(value, "capacity", least=1, advice="use None for unlimited")


def _letter_limit(value: object) -> int | None:
    if value is None:
        return None
    return whole(value, "dead_letter_limit", least=0, most=LARGEST_COUNT, advice="use None for unlimited")


def _fraction(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"hook_timeout_fraction must be a number, not {bounded_repr(value)}")
    if not 0 < value <= 1:  # NaN too
        raise ValueError(f"hook_timeout_fraction must be more than 0 and at most 1, not {bounded_repr(value)}")
    return float(value)


def _start_rate(value: object) -> TokenBucket | None:
    if value is None:
        return None
    if isinstance(value, TokenBucket):
        if type(value) is not TokenBucket:
            raise TypeError(
                f"start_rate must be a number or a plain TokenBucket, not {bounded_repr(value)}: "
                "it is asked under the queue's lock, where no user code may run"
            )
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"start_rate must be runs per second or a TokenBucket, not {bounded_repr(value)}")
    try:
        return TokenBucket(per_second(value, "start_rate"))
    except ValueError as error:
        raise ValueError(f"{error}: use None for no limit") from None


def _backoff(value: object) -> RateLimiter:
    if value is None:
        return ExponentialBackoff(0.005, 1000)
    if isinstance(value, type) or not isinstance(value, RateLimiter):
        raise TypeError(f"backoff must have when, forget and num_requeues (a RateLimiter), not {bounded_repr(value)}")
    return value


def _stamps(value: object) -> tuple[Stamp, ...]:
    try:
        return checked_stamps(value)
    except InvalidEnvelopeError as error:
        raise TypeError(str(error)) from None


def _clock(value: object) -> Clock:
    if value is None:
        return SystemClock()
    if isinstance(value, type) or not isinstance(value, Clock):
        raise TypeError(f"clock must have now() and wall_utc(), and {bounded_repr(value)} has not")
    return value


def _is_replacing(value: object) -> bool:
    if not isinstance(value, str) or value not in ("keep", "replace"):
        raise ValueError(f'duplicates must be "keep" or "replace", not {bounded_repr(value)}')
    return value == "replace"


def _observers(value: object) -> tuple[object, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"observers must be a sequence of observers, not {bounded_repr(value)}")
    return tuple(value)


def checked_options(
    name: str,
    *,
    workers: int,
    capacity: int | None,
    stop_mode: StopMode,
    wait_on_stop: bool,
    stamps: Iterable[Stamp],
    backoff: RateLimiter | None,
    start_rate: float | TokenBucket | None,
    duplicates: str,
    strict_deadline: bool,
    hook_timeout_fraction: float,
    hook_timeout_floor: float | timedelta,
    stuck_after: float | timedelta | None,
    capture_context: bool,
    dead_letter_limit: int | None,
    clock: Any,
    observers: Iterable[object],
) -> Options:
    """Check every option before anything is made of any."""
    return Options(
        name=_name(name),
        workers=checked_workers(workers),
        capacity=_capacity(capacity),
        stop_mode=checked_mode(stop_mode, "stop_mode"),
        wait_on_stop=checked_flag(wait_on_stop, "wait_on_stop"),
        stamps=_stamps(stamps),
        backoff=_backoff(backoff),
        start_rate=_start_rate(start_rate),
        is_replacing=_is_replacing(duplicates),
        is_strict=checked_flag(strict_deadline, "strict_deadline"),
        hook_fraction=_fraction(hook_timeout_fraction),
        hook_floor=positive(hook_timeout_floor, "hook_timeout_floor"),
        stuck_after=limit(stuck_after, "stuck_after"),
        captures_context=checked_flag(capture_context, "capture_context"),
        dead_letter_limit=_letter_limit(dead_letter_limit),
        clock=_clock(clock),
        observers=_observers(observers),
    )


def refuse_coroutines(functions: Iterable[object], what: str) -> None:
    """Raise InvalidEnvelopeError when one of *functions* is a coroutine function."""
    for function in functions:
        if is_coroutine(function):
            raise InvalidEnvelopeError(
                f"{what} must be a plain function, not the coroutine function {bounded_repr(function)}: "
                "EnvelopeQueue runs threads; use AsyncEnvelopeQueue"
            )
