"""The limiters alone, on made-up times: what each says, what it counts, what it refuses."""

from __future__ import annotations

import doctest
import gc
import math
import random
import threading
import weakref
from datetime import timedelta
from fractions import Fraction

import pytest

from rate_envelope_queue import limiters
from rate_envelope_queue.limiters import (
    ExponentialBackoff,
    FastSlow,
    MaxOf,
    MaxWait,
    RateLimiter,
    TokenBucket,
    default_controller_limiter,
)

HUGE = 10**400  # no float holds it


def waits(limiter: RateLimiter, item: object, count: int) -> list[float]:
    return [limiter.when(item, now=0.0) for _ in range(count)]


def reserved(bucket: TokenBucket, *instants: float) -> list[float]:
    return [bucket.reserve(now) for now in instants]


def test_the_examples_in_the_docstrings_are_true() -> None:
    result = doctest.testmod(limiters)
    assert result.attempted >= 10
    assert result.failed == 0


# The lines of the conformance suite


def test_exponential_doubles_per_item() -> None:
    """M87: Exponential(1 ms, 1 s) gives 1, 2, 4, 8, 16 ms; items are apart; forget starts again."""
    limiter = ExponentialBackoff(0.001, 1)
    assert waits(limiter, "one", 5) == [0.001, 0.002, 0.004, 0.008, 0.016]
    assert limiter.num_requeues("one") == 5
    assert waits(limiter, "two", 2) == [0.001, 0.002]
    assert limiter.num_requeues("two") == 2
    limiter.forget("one")
    assert limiter.num_requeues("one") == 0
    assert waits(limiter, "one", 1) == [0.001]
    assert limiter.num_requeues("two") == 2


def test_exponential_reaches_its_cap_and_stays() -> None:
    """M88: Exponential(1 ms, 1000 s) says 1000 s after 1,000 calls, and after thousands more, without overflow."""
    limiter = ExponentialBackoff(0.001, 1000)
    said = waits(limiter, "item", 5000)
    assert said[:20] == [0.001 * 2**n for n in range(20)]
    assert set(said[20:]) == {1000.0}
    assert limiter.num_requeues("item") == 5000


def test_fast_slow() -> None:
    """M89: FastSlow(5 ms, 10 s, 3) gives 5, 5, 5 ms, 10 s, 10 s."""
    limiter = FastSlow(0.005, 10, 3)
    assert waits(limiter, "one", 5) == [0.005, 0.005, 0.005, 10.0, 10.0]
    assert limiter.num_requeues("one") == 5
    assert waits(limiter, "two", 1) == [0.005]
    limiter.forget("one")
    assert limiter.num_requeues("one") == 0
    assert waits(limiter, "one", 4) == [0.005, 0.005, 0.005, 10.0]


def test_max_of() -> None:
    """M90: MaxOf(FastSlow(5 ms, 3 s, 3), Exponential(1 ms, 1 s)) gives 5, 5, 5 ms, 3 s, 3 s; 5 requeues."""
    parts = FastSlow(0.005, 3, 3), ExponentialBackoff(0.001, 1)
    limiter = MaxOf(*parts)
    assert waits(limiter, "one", 5) == [0.005, 0.005, 0.005, 3.0, 3.0]
    assert limiter.num_requeues("one") == 5
    assert [part.num_requeues("one") for part in parts] == [5, 5]
    assert waits(limiter, "two", 1) == [0.005]
    limiter.forget("one")
    assert limiter.num_requeues("one") == 0
    assert [part.num_requeues("one") for part in parts] == [0, 0]
    assert limiter.num_requeues("two") == 1


def test_max_wait() -> None:
    """M91: MaxWait caps 1000 s at 500 s, and leaves alone what is shorter."""
    inner = ExponentialBackoff(1, 1000)
    limiter = MaxWait(inner, 500)
    assert waits(limiter, "item", 12) == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 500.0, 500.0, 500.0]
    assert inner.when("item", now=0.0) == 1000.0
    assert limiter.num_requeues("item") == inner.num_requeues("item") == 13
    limiter.forget("item")
    assert inner.num_requeues("item") == 0


def test_token_bucket() -> None:
    """M92: TokenBucket(10/s, burst 100) lets 100 go at once, then one every 0.1 s."""
    bucket = TokenBucket(10, burst=100)
    said = waits(bucket, "item", 10_100)
    assert said[:100] == [0.0] * 100
    assert all(abs(wait - (n + 1) / 10) < 1e-9 for n, wait in enumerate(said[100:]))
    assert bucket.num_requeues("item") == 0
    bucket.forget("item")
    assert bucket.when("item", now=0.0) == pytest.approx(1000.1)


# Exponential and fast/slow


@pytest.mark.parametrize("base", [5e-324, 1e-9, 0.1, 0.3, 1.0, 7.7])
@pytest.mark.parametrize("longest", [8.0, 1000.0, 8_999_999_999.9])
def test_exponential_is_exact_up_to_the_cap(base: float, longest: float) -> None:
    said = waits(ExponentialBackoff(base, longest), "item", 1200)
    assert said == [float(min(Fraction(base) * 2**n, Fraction(longest))) for n in range(1200)]


def test_exponential_whose_cap_is_its_base() -> None:
    assert waits(ExponentialBackoff(2, 2), "item", 3) == [2.0, 2.0, 2.0]


def test_the_time_does_not_matter_to_the_counting_limiters() -> None:
    limiter = ExponentialBackoff(1, 8)
    assert [limiter.when("item", now=now) for now in (100.0, 0.0, 1e9)] == [1.0, 2.0, 4.0]


def test_durations_may_be_timedelta() -> None:
    assert waits(ExponentialBackoff(timedelta(milliseconds=500), timedelta(minutes=1)), "item", 2) == [0.5, 1.0]
    assert waits(FastSlow(timedelta(0), timedelta(seconds=2), 1), "item", 2) == [0.0, 2.0]
    assert waits(MaxWait(ExponentialBackoff(9, 9), timedelta(seconds=3)), "item", 1) == [3.0]


def test_fast_slow_without_fast_attempts_is_slow() -> None:
    assert waits(FastSlow(1, 2, 0), "item", 2) == [2.0, 2.0]


@pytest.mark.parametrize("make", [lambda: ExponentialBackoff(1, 8), lambda: FastSlow(1, 2, 3)])
def test_asking_and_forgetting_strangers_leaves_nothing(make: object) -> None:
    limiter = make()  # type: ignore[operator]
    assert limiter.num_requeues("stranger") == 0
    limiter.forget("stranger")
    assert limiter.num_requeues("stranger") == 0
    assert limiter._requests == {}


class Item:
    """A hashable that can be referred to weakly."""


@pytest.mark.parametrize(
    "make", [lambda: ExponentialBackoff(1, 8), lambda: FastSlow(1, 2, 3), default_controller_limiter]
)
def test_a_forgotten_item_is_freed(make: object) -> None:
    limiter, item = make(), Item()  # type: ignore[operator]
    ghost = weakref.ref(item)
    waits(limiter, item, 3)
    limiter.forget(item)
    gc.disable()
    try:
        del item
        assert ghost() is None
    finally:
        gc.enable()


def test_an_unhashable_item_is_refused() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        ExponentialBackoff(1, 8).when([], now=0.0)  # type: ignore[arg-type]


# The token bucket


def test_a_burst_of_one_spaces_all_but_the_first() -> None:
    assert reserved(TokenBucket(4), 100.0, 100.0, 100.0, 100.0) == [100.0, 100.25, 100.5, 100.75]


def test_a_token_is_back_after_its_time_and_not_before() -> None:
    assert reserved(TokenBucket(2), 0.0, 0.499, 1.0, 1.5) == [0.0, 0.5, 1.0, 1.5]


def test_tokens_come_back_bit_by_bit() -> None:
    bucket = TokenBucket(10, burst=3)
    assert reserved(bucket, 0.0, 0.0, 0.0) == [0.0, 0.0, 0.0]
    assert bucket.reserve(0.25) == 0.25  # two and a half tokens came back
    assert bucket.reserve(0.25) == 0.25
    assert bucket.reserve(0.25) == pytest.approx(0.3, abs=1e-12)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(10, burst=3)
    bucket.reserve(0.0)
    assert reserved(bucket, *[1e6] * 5) == pytest.approx([1e6, 1e6, 1e6, 1e6 + 0.1, 1e6 + 0.2], abs=1e-9)


def test_a_new_bucket_is_full_whatever_the_clock_says() -> None:
    for start in (-50.0, 0.0, 1e9):
        assert reserved(TokenBucket(1, burst=2), start, start, start) == [start, start, start + 1.0]


def test_many_reservations_do_not_drift() -> None:
    bucket = TokenBucket(10)
    now = 0.0
    for _ in range(300_000):
        now = bucket.reserve(now)
    assert now == pytest.approx(29_999.9, abs=1e-9)


def test_it_agrees_with_exact_arithmetic() -> None:
    """The rule of x/time/rate in fractions: gain by elapsed time up to the burst, take one, wait out the debt."""
    dice = random.Random(92)
    for _ in range(200):
        rate, burst = dice.choice([0.1, 1, 3, 10, 333]), dice.randint(1, 5)
        bucket, tokens, last, now = TokenBucket(rate, burst=burst), Fraction(burst), Fraction(0), 0.0
        for _ in range(50):
            now += dice.choice([0.0, 0.0, dice.random() / rate, dice.random() * 8 / rate])
            tokens = min(Fraction(burst), tokens + (Fraction(now) - last) * Fraction(rate)) - 1
            last = Fraction(now)
            expected = last + max(Fraction(0), -tokens / Fraction(rate))
            assert bucket.reserve(now) == pytest.approx(float(expected), abs=1e-9)


def test_threads_that_arrive_out_of_order_gain_nothing() -> None:
    bucket = TokenBucket(10)
    said = []
    for turn in range(1000):
        said += reserved(bucket, 100.0 + turn / 1000, 99.5 + turn / 1000)
    assert said == pytest.approx([100.0 + n / 10 for n in range(2000)], abs=1e-9)


def test_an_answer_is_never_before_now_when_now_goes_backwards() -> None:
    dice = random.Random(5)
    bucket = TokenBucket(3, burst=4)
    for _ in range(2000):
        now = dice.uniform(0, 10) * 10 ** dice.randint(0, 6)
        assert now <= bucket.reserve(now) < math.inf
        assert bucket.when("item", now=now) >= 0


def test_another_clock_takes_over_the_tokens() -> None:
    bucket = TokenBucket(10, burst=2)
    assert reserved(bucket, 5e5, 5e5, 5e5) == pytest.approx([5e5, 5e5, 5e5 + 0.1])
    assert reserved(bucket, 0.0, 0.0) == pytest.approx([0.2, 0.3], abs=1e-6)
    assert bucket.reserve(10.0) == 10.0


def test_small_steps_back_add_up_to_another_clock() -> None:
    assert reserved(TokenBucket(10), 100.0, 99.5, 98.75) == pytest.approx([100.0, 100.1, 98.95])


def test_reading_rate_and_burst() -> None:
    bucket = TokenBucket(Fraction(5, 2), 7)
    assert (bucket.rate, bucket.burst) == (2.5, 7)
    assert type(bucket.rate) is float


# Composition and protocol


class Custom:
    def __init__(self, wait: float) -> None:
        self.wait = wait
        self.forgotten: list[object] = []

    def when(self, item: object, *, now: float) -> float:
        return self.wait + now

    def forget(self, item: object) -> None:
        self.forgotten.append(item)

    def num_requeues(self, item: object) -> int:
        return 3


def test_limiters_of_the_users_own_take_part_and_hear_the_time() -> None:
    first, second = Custom(2.0), Custom(1.0)
    limiter = MaxWait(MaxOf(first, second), 100)
    assert limiter.when("item", now=40.0) == 42.0
    assert limiter.when("item", now=400.0) == 100.0
    assert limiter.num_requeues("item") == 3
    limiter.forget("item")
    assert first.forgotten == second.forgotten == ["item"]


def test_max_of_hands_its_count_to_the_longest_memory() -> None:
    one, two = ExponentialBackoff(1, 8), ExponentialBackoff(1, 8)
    waits(one, "item", 4)
    assert MaxOf(one, two).num_requeues("item") == MaxOf(two, one).num_requeues("item") == 4


def test_the_default_limiter_has_the_numbers_of_client_go() -> None:
    limiter = default_controller_limiter()
    assert [limiter.when(n, now=0.0) for n in range(102)] == [0.005] * 100 + [0.1, 0.2]
    assert [limiter.when("item", now=1e6) for _ in range(20)][-1] == 1000.0
    assert default_controller_limiter() is not limiter
    assert default_controller_limiter().num_requeues("item") == 0


@pytest.mark.parametrize(
    ("limiter", "text"),
    [
        (ExponentialBackoff(0.5, 8), "ExponentialBackoff(0.5, 8.0)"),
        (FastSlow(0.5, 8, 3), "FastSlow(0.5, 8.0, 3)"),
        (TokenBucket(10, burst=2), "TokenBucket(10.0, burst=2)"),
        (MaxOf(TokenBucket(1), FastSlow(0, 1, 1)), "MaxOf(TokenBucket(1.0, burst=1), FastSlow(0.0, 1.0, 1))"),
        (MaxWait(TokenBucket(1), 4), "MaxWait(TokenBucket(1.0, burst=1), 4.0)"),
    ],
)
def test_each_is_a_limiter_and_shows_how_it_was_made(limiter: RateLimiter, text: str) -> None:
    assert isinstance(limiter, RateLimiter)
    assert repr(limiter) == text


# What is refused


@pytest.mark.parametrize("bad", [math.nan, -1, 0, math.inf, HUGE, timedelta(0)])
def test_bad_values_are_refused_by_name(bad: float) -> None:
    for make, name in (
        (lambda: ExponentialBackoff(bad, 1), "base"),
        (lambda: ExponentialBackoff(1, bad), "max"),
        (lambda: FastSlow(1, bad, 1), "slow"),
        (lambda: MaxWait(TokenBucket(1), bad), "max"),
    ):
        with pytest.raises(ValueError, match=rf"^{name} must be "):
            make()


@pytest.mark.parametrize("bad", [True, "1", None, 1j])
def test_bad_types_are_refused_by_name(bad: float) -> None:
    for make, name in (
        (lambda: ExponentialBackoff(bad, 1), "base"),
        (lambda: ExponentialBackoff(1, bad), "max"),
        (lambda: FastSlow(bad, 1, 1), "fast"),
        (lambda: FastSlow(1, bad, 1), "slow"),
        (lambda: FastSlow(1, 1, bad), "max_fast_attempts"),  # type: ignore[arg-type]
        (lambda: TokenBucket(bad), "rate"),
        (lambda: TokenBucket(1, burst=bad), "burst"),  # type: ignore[arg-type]
        (lambda: MaxWait(TokenBucket(1), bad), "max"),
    ):
        with pytest.raises(TypeError, match=rf"^{name} must be .*{bad!r}".replace("(", r"\(").replace(")", r"\)")):
            make()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.5, 0, HUGE, 1e-10])
def test_a_bad_rate_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^rate must be .*per second"):
        TokenBucket(bad)


def test_a_rate_is_not_a_duration() -> None:
    with pytest.raises(TypeError, match=r"^rate must be a number per second"):
        TokenBucket(timedelta(seconds=1))  # type: ignore[arg-type]


def test_other_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^max must be at least base \(2\.0 s\), not 1$"):
        ExponentialBackoff(2, 1)
    with pytest.raises(ValueError, match=r"^burst must be 1 or more, not 0"):
        TokenBucket(1, burst=0)
    with pytest.raises(ValueError, match=r"^max_fast_attempts must be 0 or more, not -1"):
        FastSlow(1, 2, -1)
    with pytest.raises(ValueError, match=r"^fast must be 0 or more seconds, not -1"):
        FastSlow(-1, 2, 1)


@pytest.mark.parametrize("bad", [None, 5, "limiter", TokenBucket, [TokenBucket(1)]])
def test_only_limiters_can_be_combined(bad: RateLimiter) -> None:
    with pytest.raises(TypeError, match=r"^limiters must be a rate limiter"):
        MaxOf(TokenBucket(1), bad)
    with pytest.raises(TypeError, match=r"^limiter must be a rate limiter"):
        MaxWait(bad, 1)


def test_max_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^limiters must be one or more"):
        MaxOf()


# Threads: shown without any, by arguments whose operators look at the lock while they are used


class LockedItem:
    def __init__(self) -> None:
        self.seen: list[bool] = []
        self.lock = threading.Lock()

    def __hash__(self) -> int:
        self.seen.append(self.lock._is_owned())
        return 7


@pytest.mark.parametrize("limiter", [ExponentialBackoff(1, 8), FastSlow(1, 2, 3)])
def test_counts_are_read_and_changed_under_one_lock(limiter: ExponentialBackoff | FastSlow) -> None:
    item = LockedItem()
    item.lock = limiter._lock
    limiter.when(item, now=0.0)
    limiter.num_requeues(item)
    limiter.forget(item)
    assert len(item.seen) >= 4
    assert all(item.seen)
    assert not limiter._lock._is_owned()


def test_tokens_are_reserved_under_one_lock() -> None:
    bucket = TokenBucket(1)
    seen: list[bool] = []

    class Instant(float):
        def __lt__(self, other: float) -> bool:
            seen.append(bucket._lock._is_owned())
            return float(self) < other

        def __gt__(self, other: float) -> bool:
            seen.append(bucket._lock._is_owned())
            return float(self) > other

    bucket.reserve(Instant(1.0))
    assert seen
    assert all(seen)
    assert not bucket._lock._is_owned()
