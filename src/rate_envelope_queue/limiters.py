"""How long to wait: the rate limiters of client-go's `util/workqueue`.

A limiter is told the time and reads no clock, so that it is exact on a virtual one. Each limiter here may be shared by
queues and called from any thread; none of them blocks for longer than it takes to count.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable
from datetime import timedelta
from numbers import Real
from typing import Final, Protocol, runtime_checkable

from .durations import LONGEST, nonnegative, positive, whole
from .text import bounded_repr

_LARGEST_BURST = 2**53  # beyond it a float does not count one by one
_ANOTHER_CLOCK = 1.0  # seconds back; less is two threads that read the clock in one order and arrived in the other


@runtime_checkable
class RateLimiter(Protocol):
    """Decides how long an item waits before its next try; write your own with these three methods.

    Items are any hashables. A limiter may be called from several threads at once, but never with a queue's lock held.

    >>> class Constant:
    ...     def when(self, item, *, now):
    ...         return 2.5
    ...     def forget(self, item):
    ...         pass
    ...     def num_requeues(self, item):
    ...         return 0
    >>> isinstance(Constant(), RateLimiter)
    True
    """

    def when(self, item: Hashable, *, now: float) -> float:
        """The seconds from *now* that *item* has to wait. Each call counts as one more request."""
        ...

    def forget(self, item: Hashable) -> None:
        """Forget *item*, because it succeeded or was given up: its next failure is a first one."""
        ...

    def num_requeues(self, item: Hashable) -> int:
        """How many requests of *item* were counted since it was last forgotten; asking does not count."""
        ...


class _PerItem:
    """A count of requests per item. Invariant: an item that was forgotten, or never asked for, has no entry."""

    __slots__ = ("_lock", "_requests")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._requests: dict[Hashable, int] = {}

    def _count(self, item: Hashable) -> int:
        """Count one request of *item*; the answer is how many there were before."""
        with self._lock:
            before = self._requests.get(item, 0)
            self._requests[item] = before + 1
        return before

    def forget(self, item: Hashable) -> None:
        """Drop all that is known of *item*; nothing of it is retained."""
        with self._lock:
            self._requests.pop(item, None)

    def num_requeues(self, item: Hashable) -> int:
        """How many requests of *item* were counted since it was last forgotten."""
        with self._lock:
            return self._requests.get(item, 0)


class ExponentialBackoff(_PerItem):
    """Per item: *base* seconds, then twice that, and so on, never more than *max*.

    The wait after n earlier failures is `base * 2**n`; it stays at *max* however often the item fails. Both are seconds
    or timedelta. As client-go's ItemExponentialFailureRateLimiter.

    >>> limiter = ExponentialBackoff(0.5, 3)
    >>> [limiter.when("item", now=0.0) for _ in range(4)]
    [0.5, 1.0, 2.0, 3.0]
    >>> limiter.forget("item")
    >>> limiter.when("item", now=0.0)
    0.5
    """

    __slots__ = ("_doublings", "base", "max")

    def __init__(self, base: float | timedelta, max: float | timedelta) -> None:
        super().__init__()
        self.base: Final = positive(base, "base")
        self.max: Final = positive(max, "max")
        if self.max < self.base:
            raise ValueError(f"max must be at least base ({self.base!r} s), not {bounded_repr(max)}")
        self._doublings = math.ceil(
            math.log2(self.max) - math.log2(self.base)
        )  # beyond these it is max, and no overflow

    def when(self, item: Hashable, *, now: float) -> float:
        """`base * 2**n` seconds after n earlier failures of *item*, at most `max`."""
        failures = self._count(item)
        return self.max if failures > self._doublings else min(math.ldexp(self.base, failures), self.max)

    def __repr__(self) -> str:
        return f"ExponentialBackoff({self.base!r}, {self.max!r})"


class FastSlow(_PerItem):
    """Per item: *fast* seconds for the first *max_fast_attempts* failures, *slow* seconds for all that follow.

    Durations are seconds or timedelta; `fast=0` means at once. As client-go's ItemFastSlowRateLimiter.

    >>> limiter = FastSlow(0.005, 10, 2)
    >>> [limiter.when("item", now=0.0) for _ in range(4)]
    [0.005, 0.005, 10.0, 10.0]
    """

    __slots__ = ("fast", "max_fast_attempts", "slow")

    def __init__(self, fast: float | timedelta, slow: float | timedelta, max_fast_attempts: int) -> None:
        super().__init__()
        self.fast: Final = nonnegative(fast, "fast")
        self.slow: Final = positive(slow, "slow")
        self.max_fast_attempts: Final = whole(max_fast_attempts, "max_fast_attempts", least=0)

    def when(self, item: Hashable, *, now: float) -> float:
        """`fast` seconds while *item* has fast attempts left, then `slow` seconds."""
        return self.fast if self._count(item) < self.max_fast_attempts else self.slow

    def __repr__(self) -> str:
        return f"FastSlow({self.fast!r}, {self.slow!r}, {self.max_fast_attempts})"


class TokenBucket:
    """At most *rate* requests per second over all items, and up to *burst* of them at once after a quiet time.

    The bucket starts full, with *burst* tokens, and gains *rate* tokens per second up to *burst*. Every request
    reserves one, a future one if need be, so those who come later wait longer. With `burst=1` the first goes at once
    and the others `1 / rate` seconds apart. Instants are counted from the last time the bucket was full, never added
    up, so they do not drift. As client-go's BucketRateLimiter over `golang.org/x/time/rate`.

    >>> bucket = TokenBucket(10, burst=2)
    >>> [bucket.when("item", now=0.0) for _ in range(4)]
    [0.0, 0.0, 0.1, 0.2]
    """

    __slots__ = ("_full_at", "_latest", "_lock", "_taken", "burst", "rate")

    def __init__(self, rate: float, burst: int = 1) -> None:
        self.rate: Final = per_second(rate, "rate")
        self.burst: Final = whole(burst, "burst", least=1, most=_LARGEST_BURST)
        self._lock = threading.RLock()
        # The bucket was full at _full_at, and never again up to _latest: of what it held then, and of what it has
        # gained since, _taken tokens were reserved.
        self._full_at = -math.inf
        self._latest = -math.inf
        self._taken = 0

    def reserve(self, now: float) -> float:
        """Reserve one token; the instant at which it may be used, never before *now*.

        A *now* a little earlier than an earlier call's gains nothing. One that is more than a second earlier is of
        another clock: the bucket goes on from there with the tokens it has.
        """
        with self._lock:
            if now < self._latest - _ANOTHER_CLOCK:
                self._full_at -= self._latest - now
                self._latest = now
            elif now > self._latest:
                self._latest = now
            if self._latest >= self._full_at + self._taken / self.rate:
                self._full_at = self._latest
                self._taken = 0
            self._taken += 1
            return max(now, self._full_at + (self._taken - self.burst) / self.rate)

    def use(self, now: float) -> None:
        """A reserved token is used at *now*. If the bucket has filled up meanwhile, it counts as taken now."""
        with self._lock:
            if now >= self._full_at + self._taken / self.rate:
                self._full_at = self._latest = now
                self._taken = 1

    def when(self, item: Hashable, *, now: float) -> float:
        """The seconds until the token that this call reserves may be used."""
        return self.reserve(now) - now

    def forget(self, item: Hashable) -> None:
        """Do nothing: a token once reserved is spent, and items are not told apart."""

    def num_requeues(self, item: Hashable) -> int:
        """Always 0: items are not told apart."""
        return 0

    def __repr__(self) -> str:
        return f"TokenBucket({self.rate!r}, burst={self.burst})"


class MaxOf:
    """The longest wait that any of the *limiters* asks for.

    Every one of them counts every request; `num_requeues` is the largest of theirs. As client-go's MaxOfRateLimiter.

    >>> limiter = MaxOf(ExponentialBackoff(1, 8), TokenBucket(0.25))
    >>> [limiter.when("item", now=0.0) for _ in range(3)]
    [1.0, 4.0, 8.0]
    """

    __slots__ = ("limiters",)

    def __init__(self, *limiters: RateLimiter) -> None:
        if not limiters:
            raise ValueError("limiters must be one or more rate limiters, not none")
        for limiter in limiters:
            _check_limiter(limiter, "limiters")
        self.limiters: Final = limiters

    def when(self, item: Hashable, *, now: float) -> float:
        """The longest of the limiters' waits, in seconds."""
        return max([limiter.when(item, now=now) for limiter in self.limiters])

    def forget(self, item: Hashable) -> None:
        """Make every limiter forget *item*."""
        for limiter in self.limiters:
            limiter.forget(item)

    def num_requeues(self, item: Hashable) -> int:
        """The largest of the limiters' counts."""
        return max([limiter.num_requeues(item) for limiter in self.limiters])

    def __repr__(self) -> str:
        return f"MaxOf({', '.join(map(repr, self.limiters))})"


class MaxWait:
    """What *limiter* says, but never more than *max* seconds (or timedelta).

    As client-go's WithMaxWaitRateLimiter.

    >>> limiter = MaxWait(ExponentialBackoff(1, 1000), 3)
    >>> [limiter.when("item", now=0.0) for _ in range(4)]
    [1.0, 2.0, 3.0, 3.0]
    """

    __slots__ = ("limiter", "max")

    def __init__(self, limiter: RateLimiter, max: float | timedelta) -> None:
        _check_limiter(limiter, "limiter")
        self.limiter: Final = limiter
        self.max: Final = positive(max, "max")

    def when(self, item: Hashable, *, now: float) -> float:
        """The limiter's wait in seconds, at most `max`."""
        return min(self.limiter.when(item, now=now), self.max)

    def forget(self, item: Hashable) -> None:
        """Make the limiter forget *item*."""
        self.limiter.forget(item)

    def num_requeues(self, item: Hashable) -> int:
        """The limiter's count."""
        return self.limiter.num_requeues(item)

    def __repr__(self) -> str:
        return f"MaxWait({self.limiter!r}, {self.max!r})"


def default_controller_limiter() -> MaxOf:
    """A new limiter with the numbers of client-go's DefaultControllerRateLimiter.

    Per item 5 ms doubling up to 1000 s, and over all items 10 per second with a burst of 100.

    >>> default_controller_limiter()
    MaxOf(ExponentialBackoff(0.005, 1000.0), TokenBucket(10.0, burst=100))
    """
    return MaxOf(ExponentialBackoff(0.005, 1000), TokenBucket(10, burst=100))


def renew_lock(limiter: object) -> None:
    """In a forked child: a lock held by a thread that is no more would never be released."""
    if isinstance(limiter, (_PerItem, TokenBucket)):
        limiter._lock = threading.RLock()
    elif isinstance(limiter, MaxOf):
        for one in limiter.limiters:
            renew_lock(one)
    elif isinstance(limiter, MaxWait):
        renew_lock(limiter.limiter)


def per_second(value: object, name: str) -> float:
    """*value* as a finite number per second, above 0 and not so small that one token takes centuries."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Real)):
        raise TypeError(f"{name} must be a number per second (int or float), not {bounded_repr(value)}")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not 0 < result < math.inf:  # NaN too
        raise ValueError(f"{name} must be a finite number per second above 0, not {bounded_repr(value)}")
    if result * LONGEST < 1:
        raise ValueError(f"{name} must be at least one in {LONGEST:.0f} seconds, not {bounded_repr(value)} per second")
    return result


def _check_limiter(value: object, name: str) -> None:
    if isinstance(value, type) or not isinstance(value, RateLimiter):
        raise TypeError(f"{name} must be a rate limiter (when, forget, num_requeues), not {bounded_repr(value)}")
