"""Durations at the border: `float` seconds or `timedelta` in, finite `float` seconds out.

The functions raise TypeError or ValueError with a complete sentence; a caller that owes its users another class
wraps them. NaN would break the order of the delay heap, and `bool` is an int by accident: both are refused here.
"""

from __future__ import annotations

import math
from datetime import timedelta
from numbers import Real

from .text import bounded_repr

LONGEST = 9_000_000_000.0  # about 285 years; what threading can wait for is a little more


def seconds(value: object, name: str) -> float:
    """*value* as finite seconds of either sign; TypeError or ValueError names *name* and the value."""
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float, Real)):
        raise TypeError(f"{name} must be seconds (int or float) or a timedelta, not {bounded_repr(value)}")
    else:
        try:
            result = float(value)
        except OverflowError:
            raise ValueError(f"{name} must be at most {LONGEST:.0f} seconds, not {bounded_repr(value)}") from None
    if math.isnan(result):
        raise ValueError(f"{name} must be a number of seconds, not NaN")
    if abs(result) > LONGEST:
        raise ValueError(f"{name} must be at most {LONGEST:.0f} seconds, not {bounded_repr(value)}")
    return result


def nonnegative(value: object, name: str) -> float:
    """*value* as seconds, 0 allowed and meaning at once."""
    result = seconds(value, name)
    if result < 0:
        raise ValueError(f"{name} must be 0 or more seconds, not {bounded_repr(value)}")
    return result + 0.0  # -0.0 becomes 0.0


def positive(value: object, name: str) -> float:
    """*value* as seconds above 0."""
    result = seconds(value, name)
    if result <= 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {bounded_repr(value)}")
    return result


def limit(value: object, name: str) -> float | None:
    """*value* as seconds above 0, or None for no limit; 0 is refused with advice, since it reads like "none"."""
    if value is None:
        return None
    result = seconds(value, name)
    if result <= 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {bounded_repr(value)}: use None for no {name}")
    return result


def timeout(value: object, name: str = "timeout") -> float | None:
    """*value* as seconds, 0 meaning at once and None without limit."""
    return None if value is None else nonnegative(value, name)


def whole(value: object, name: str, *, least: int, most: int | None = None, advice: str = "") -> int:
    """*value* as an int of at least *least* and at most *most*; bool is refused."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {bounded_repr(value)}")
    advice = f": {advice}" if advice else ""
    if value < least:
        raise ValueError(f"{name} must be {least} or more, not {bounded_repr(value)}{advice}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}, not {bounded_repr(value)}{advice}")
    return value
