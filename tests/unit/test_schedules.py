"""The schedules alone, on made-up times: units, catch-up, changes of the clocks, what is refused."""

from __future__ import annotations

import copy
import doctest
import math
import pickle
import random
import sys
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest

from rate_envelope_queue import schedules
from rate_envelope_queue.errors import InvalidEnvelopeError
from rate_envelope_queue.schedules import Schedule, cron, every, fixed_rate

WALL = datetime(2024, 5, 15, 8, 0, tzinfo=UTC)  # a Wednesday
NEW_YORK = ZoneInfo("America/New_York")
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: tzinfo = UTC) -> datetime:
    """A local time as an instant; a trailing * means the second time that it comes."""
    local = datetime.fromisoformat(text.rstrip("*")).replace(tzinfo=zone, fold=text.endswith("*"))
    return local.astimezone(UTC)


def times(schedule: Schedule, start: datetime, count: int) -> list[datetime]:
    """The wall times, in UTC, of *count* instant runs of *schedule*, sent at *start*, on clocks that agree."""
    now, found = 1000.0, []
    planned = schedule.first(now=now, wall_utc=start)
    for _ in range(count):
        start += timedelta(seconds=planned - now)
        now = planned
        found.append(start)
        planned = schedule.next(planned=planned, now=now, wall_utc=start)
    return found


def following(schedule: Schedule, wall: datetime) -> datetime:
    """The cron time after *wall*."""
    return wall + timedelta(seconds=schedule.first(now=0.0, wall_utc=wall))


def test_the_examples_in_the_docstrings_are_true() -> None:
    result = doctest.testmod(schedules)
    assert result.attempted >= 5
    assert result.failed == 0


# every


def test_every_runs_at_once_and_then_after_a_fixed_delay() -> None:
    schedule = every(2)
    assert schedule.first(now=100.0, wall_utc=WALL) == 100.0
    assert schedule.next(planned=100.0, now=103.5, wall_utc=WALL) == 105.5


def test_every_counts_from_the_end_of_a_late_or_an_early_run() -> None:
    assert every(2).next(planned=100.0, now=50_000.0, wall_utc=WALL) == 50_002.0
    assert every(2).next(planned=100.0, now=99.0, wall_utc=WALL) == 101.0


# fixed_rate


def test_fixed_rate_runs_at_once_and_then_on_its_grid() -> None:
    schedule = fixed_rate(2)
    assert schedule.first(now=100.0, wall_utc=WALL) == 100.0
    assert schedule.next(planned=100.0, now=100.0, wall_utc=WALL) == 102.0
    assert schedule.next(planned=102.0, now=103.9, wall_utc=WALL) == 104.0


def test_fixed_rate_keeps_its_grid_when_a_run_came_early() -> None:
    schedule = fixed_rate(10)
    assert schedule.next(planned=110.0, now=104.0, wall_utc=WALL) == 110.0
    assert schedule.next(planned=110.0, now=109.999, wall_utc=WALL) == 110.0
    assert schedule.next(planned=110.0, now=110.0, wall_utc=WALL) == 120.0  # it came in time


@pytest.mark.parametrize(
    ("now", "expected"),
    [(109.99, 110.0), (110.0, 110.0), (110.5, 110.0), (119.9, 110.0), (120.0, 120.0), (129.0, 120.0), (3705.0, 3700.0)],
)
def test_fixed_rate_catches_up_with_the_last_grid_point_that_was_missed(now: float, expected: float) -> None:
    assert fixed_rate(10).next(planned=100.0, now=now, wall_utc=WALL) == expected


def test_fixed_rate_catches_up_once_after_a_pause() -> None:
    schedule = fixed_rate(1)
    planned = schedule.next(planned=0.0, now=28_800.4, wall_utc=WALL)
    assert planned == 28_800.0
    planned = schedule.next(planned=planned, now=28_800.5, wall_utc=WALL)
    assert planned == 28_801.0
    assert schedule.next(planned=planned, now=28_801.1, wall_utc=WALL) == 28_802.0


def test_fixed_rate_runs_back_to_back_when_runs_take_longer_than_the_period() -> None:
    schedule, now, planned = fixed_rate(1), 0.0, 0.0
    for _ in range(20):
        now += 1.5
        planned = schedule.next(planned=planned, now=now, wall_utc=WALL)
        assert planned == math.floor(now)


@pytest.mark.parametrize("period", [0.1, 1 / 3, 0.7, 60.0])
def test_fixed_rate_has_one_catch_up_run_whatever_the_floats(period: float) -> None:
    schedule, dice = fixed_rate(period), random.Random(3)
    for _ in range(2000):
        planned = dice.uniform(0, 1e6)
        steps = dice.randint(2, 100_000)
        now = dice.choice([planned + period * steps, planned + period * (steps + dice.uniform(0, 0.999))])
        caught_up = schedule.next(planned=planned, now=now, wall_utc=WALL)
        assert now - period <= caught_up <= now
        later = math.nextafter(now + period * 1e-6, math.inf)
        assert schedule.next(planned=caught_up, now=later, wall_utc=WALL) > later


def test_fixed_rate_sees_that_now_is_on_the_grid() -> None:
    """Ten times a tenth is a little more than 1.0 in floats; the grid point at 1.0 runs once all the same."""
    schedule = fixed_rate(0.1)
    caught_up = schedule.next(planned=0.0, now=1.0, wall_utc=WALL)
    assert caught_up == 1.0
    assert schedule.next(planned=caught_up, now=1.0, wall_utc=WALL) == 1.1


def test_fixed_rate_does_not_drift() -> None:
    schedule, planned = fixed_rate(0.1), 0.0
    for n in range(200_000):
        now = planned + 0.03
        if n % 1000 == 999:
            now += 0.5  # it misses some, and catches up
        planned = schedule.next(planned=planned, now=now, wall_utc=WALL)
    assert abs(planned * 10 - round(planned * 10)) < 1e-6
    assert planned == pytest.approx(20_000 + 200 * 0.4, abs=1e-6)


# cron: which times


def test_cron_never_runs_at_once() -> None:
    schedule = cron("0 9 * * *")
    assert schedule.first(now=100.0, wall_utc=WALL) == 3700.0
    assert schedule.first(now=100.0, wall_utc=at("2024-05-15T09:00")) == 100.0 + 86_400


def test_cron_next_is_counted_from_the_end_of_the_run() -> None:
    schedule = cron("*/15 * * * *")
    assert schedule.next(planned=0.0, now=60.0, wall_utc=at("2024-05-15T08:01")) == 60.0 + 14 * 60
    assert schedule.next(planned=0.0, now=0.25, wall_utc=at("2024-05-15T08:00:00.250")) == 900.0


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 9 * * MON-FRI", ["2024-05-15T09:30", "2024-05-16T09:30", "2024-05-17T09:30", "2024-05-20T09:30"]),
        ("0 0 L * *", ["2024-05-31T00:00", "2024-06-30T00:00", "2024-07-31T00:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("0,30 8 * * *", ["2024-05-15T08:30", "2024-05-16T08:00", "2024-05-16T08:30"]),
        ("*/20 * * * * *", ["2024-05-15T08:00:20", "2024-05-15T08:00:40", "2024-05-15T08:01:00"]),
        ("* * * * * *", ["2024-05-15T08:00:01", "2024-05-15T08:00:02", "2024-05-15T08:00:03"]),
        ("* * * * *", ["2024-05-15T08:01", "2024-05-15T08:02", "2024-05-15T08:03"]),
    ],
)
def test_cron_times_in_a_row(expression: str, expected: list[str]) -> None:
    assert times(cron(expression), WALL, len(expected)) == [at(text) for text in expected]


def test_cron_follows_its_zone() -> None:
    wall = at("2024-05-15T07:00")
    assert following(cron("0 9 * * *", tz="Asia/Kolkata"), wall) == at("2024-05-16T03:30")
    assert following(cron("0 9 * * *", tz=timezone(timedelta(hours=-4))), wall) == at("2024-05-15T13:00")
    assert following(cron("0 9 * * *", tz=BERLIN), wall) == at("2024-05-16T07:00")
    assert following(cron("0 9 * * *", tz="UTC"), wall) == following(cron("0 9 * * *"), wall) == at("2024-05-15T09:00")


def test_a_wall_time_may_be_given_in_any_zone() -> None:
    schedule = cron("0 9 * * *", tz=BERLIN)
    for wall in (at("2024-05-15T06:00"), at("2024-05-15T06:00").astimezone(NEW_YORK), datetime(2024, 5, 15, 6)):
        assert schedule.first(now=0.0, wall_utc=wall) == 3600.0
        assert schedule.next(planned=-60.0, now=0.0, wall_utc=wall) == 3600.0


# cron: late, early, and clocks that disagree


def test_a_cron_time_that_passes_during_a_run_is_skipped() -> None:
    schedule = cron("0 * * * *")
    end = at("2024-05-15T11:20")  # the run of 8:00 took until then
    assert schedule.next(planned=0.0, now=12_000.0, wall_utc=end) == 12_000.0 + 40 * 60


def test_a_cron_run_that_came_early_leaves_its_time() -> None:
    schedule = cron("0 9 * * *")
    assert schedule.next(planned=3600.0, now=0.0, wall_utc=WALL) == 3600.0
    assert schedule.next(planned=3600.0, now=3599.0, wall_utc=at("2024-05-15T08:59:59")) == 3600.0


@pytest.mark.parametrize("behind", [0.001, 0.4, 3.0, 4.9])
def test_a_wall_clock_that_is_behind_does_not_run_a_time_twice(behind: float) -> None:
    wall = at("2024-05-15T09:00") - timedelta(seconds=behind)
    schedule = cron("0 9 * * *")
    assert schedule.next(planned=50.0, now=50.0, wall_utc=wall) == pytest.approx(50.0 + behind + 86_400)
    ended = wall + timedelta(seconds=behind / 2)
    found = schedule.next(planned=50.0, now=50.0 + behind / 2, wall_utc=ended)
    assert found == pytest.approx(50.0 + behind + 86_400)


def test_a_long_run_that_ends_just_before_a_time_does_not_lose_it() -> None:
    schedule = cron("*/15 * * * *")
    assert schedule.next(planned=0.0, now=898.0, wall_utc=at("2024-05-15T08:14:58")) == 900.0
    assert schedule.next(planned=0.0, now=899.75, wall_utc=at("2024-05-15T08:14:59.750")) == 900.0


def test_a_wall_clock_that_was_set_back_runs_again() -> None:
    assert cron("0 9 * * *").next(planned=50.0, now=50.0, wall_utc=at("2024-05-15T08:59:50")) == 60.0
    assert cron("0 0 9 * * *").next(planned=50.0, now=50.0, wall_utc=at("2024-05-15T08:59:59")) == 51.0


def test_a_time_each_second_loses_none_to_the_tolerance() -> None:
    schedule = cron("* * * * * *")
    assert schedule.next(planned=7.0, now=7.3, wall_utc=WALL + timedelta(seconds=0.3)) == pytest.approx(8.0)
    assert schedule.next(planned=7.0, now=7.0, wall_utc=WALL - timedelta(seconds=0.01)) == pytest.approx(8.01)


# cron: when the clocks change


def test_fixed_times_keep_their_local_hour_over_both_changes() -> None:
    spring = times(cron("0 9 * * *", tz=NEW_YORK), at("2024-03-09T00:00", NEW_YORK), 3)
    assert spring == [at("2024-03-09T14:00"), at("2024-03-10T13:00"), at("2024-03-11T13:00")]
    autumn = times(cron("0 9 * * *", tz=NEW_YORK), at("2024-11-02T00:00", NEW_YORK), 3)
    assert autumn == [at("2024-11-02T13:00"), at("2024-11-03T14:00"), at("2024-11-04T14:00")]


@pytest.mark.parametrize("zone_and_day", [(NEW_YORK, "2024-03-10"), (BERLIN, "2024-03-31")])
def test_a_fixed_time_that_is_skipped_runs_after_the_change_once(zone_and_day: tuple[tzinfo, str]) -> None:
    zone, day = zone_and_day
    found = times(cron("30 2 * * *", tz=zone), at(f"{day}T00:00", zone), 2)
    assert found[0] == at(f"{day}T03:00", zone)
    assert found[1].astimezone(zone).replace(tzinfo=None) == datetime.fromisoformat(f"{day}T02:30") + timedelta(days=1)


def test_a_fixed_time_that_comes_twice_runs_the_first_time() -> None:
    schedule = cron("30 1 * * *", tz=NEW_YORK)
    assert times(schedule, at("2024-11-03T00:00", NEW_YORK), 2) == [
        at("2024-11-03T01:30", NEW_YORK),
        at("2024-11-04T01:30", NEW_YORK),
    ]


@pytest.mark.parametrize("minute", range(60))
def test_a_repeated_hour_never_gives_a_time_in_the_past(minute: int) -> None:
    schedule = cron("30 1 * * *", tz=NEW_YORK)
    again = at(f"2024-11-03T01:{minute:02}*", NEW_YORK)
    assert following(schedule, again) == at("2024-11-04T01:30", NEW_YORK)


def test_steps_go_on_through_both_changes() -> None:
    spring = times(cron("*/30 * * * *", tz=BERLIN), at("2024-03-31T01:00", BERLIN), 4)
    assert spring == [at("2024-03-31T00:30") + timedelta(minutes=30 * n) for n in range(4)]
    autumn = times(cron("*/30 * * * *", tz=BERLIN), at("2024-10-27T01:30", BERLIN), 8)
    assert autumn == [at("2024-10-27T00:00") + timedelta(minutes=30 * n) for n in range(8)]


def test_steps_in_an_hour_that_is_repeated_run_twice_and_in_one_that_is_skipped_not_at_all() -> None:
    found = times(cron("*/30 2 * * *", tz=BERLIN), at("2024-10-27T00:00", BERLIN), 5)
    assert found == [at(f"2024-10-27T{text}", BERLIN) for text in ("02:00", "02:30", "02:00*", "02:30*")] + [
        at("2024-10-28T02:00", BERLIN)
    ]
    assert following(cron("*/30 2 * * *", tz=BERLIN), at("2024-03-31T00:00", BERLIN)) == at("2024-04-01T02:00", BERLIN)


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("America/New_York", "2024-03-10"),
        ("America/New_York", "2024-11-03"),
        ("Europe/Berlin", "2024-03-31"),
        ("Europe/Berlin", "2024-10-27"),
        ("America/Havana", "2024-03-10"),  # at midnight
        ("America/Havana", "2024-11-03"),
        ("Antarctica/Troll", "2024-03-31"),  # by two hours
        ("Antarctica/Troll", "2024-10-27"),
        ("Pacific/Apia", "2011-12-30"),  # the day that was left out
    ],
)
@pytest.mark.parametrize(("expression", "hours"), [("*/20 * * * *", range(24)), ("*/20 0-2 * * *", (0, 1, 2))])
def test_every_real_minute_that_matches_is_found(zone: str, day: str, expression: str, hours: range) -> None:
    """Against the definition: go through the days in real minutes and look at the clock on the wall."""
    tz = ZoneInfo(zone)
    start = at(f"{day}T00:00") - timedelta(days=1)
    expected = []
    for instant in (start + timedelta(minutes=n) for n in range(1, 3 * 24 * 60)):
        local = instant.astimezone(tz)
        if local.minute % 20 == 0 and local.hour in hours:
            expected.append(instant)
    assert len(expected) > 20
    assert times(cron(expression, tz=tz), start, len(expected)) == expected


# cron: what is refused


@pytest.mark.parametrize(
    "bad",
    [
        *(
            "",
            "* * * *",
            "* * * * * * *",
            "99 * * * *",
            "@daily",
            "0 24 * * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "x * * * *",
        ),
        *("0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 */30 2 1#5", "1" * 5000 + " * * * *", "0 0 * * ²L"),
    ],
)
def test_a_wrong_or_hopeless_expression_is_refused(bad: str) -> None:
    with pytest.raises(InvalidEnvelopeError, match=r"^expression '") as caught:
        cron(bad, tz=BERLIN)
    assert bad[:8] in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_message_says_what_is_wrong() -> None:
    with pytest.raises(InvalidEnvelopeError, match=r"^expression '99 \* \* \* \*' is not .* \(Bad minute\): use five"):
        cron("99 * * * *")
    with pytest.raises(InvalidEnvelopeError, match=r"^expression '0 0 \*/30 2 1#5' matches no time"):
        cron("0 0 */30 2 1#5")


@pytest.mark.parametrize("bad", [None, 5, b"* * * * *", ["*"] * 5])
def test_an_expression_of_another_type_is_refused(bad: str) -> None:
    with pytest.raises(InvalidEnvelopeError, match=r"^expression must be a str"):
        cron(bad)


@pytest.mark.parametrize("bad", ["Nowhere/City", "America", "", "/etc/passwd", "../UTC", "a\0b"])
def test_an_unknown_zone_is_refused(bad: str) -> None:
    with pytest.raises(InvalidEnvelopeError, match=r"^tz must be the name of a known time zone"):
        cron("* * * * *", tz=bad)


class ZoneOfPytz(tzinfo):
    """What pytz does: conversion answers with another object than was asked for."""

    def fromutc(self, dt: datetime) -> datetime:
        return dt.replace(tzinfo=timezone(timedelta(hours=2)))

    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(minutes=53)


@pytest.mark.parametrize("bad", [5, ZoneInfo, tzinfo(), ZoneOfPytz()])
def test_an_unusable_zone_is_refused(bad: tzinfo) -> None:
    with pytest.raises(InvalidEnvelopeError, match=r"^tz must be a zone name"):
        cron("* * * * *", tz=bad)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ImportError, match=r"pip install 'rate-envelope-queue\[cron\]'") as caught:
        cron("* * * * *")
    assert caught.value.name == "cronsim"
    assert every(1).period == fixed_rate(1).period  # these do without it


def test_a_schedule_with_no_further_time_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = cron("0 9 * * *")
    monkeypatch.setattr("cronsim.CronSim.__next__", lambda self: next(iter(())))
    with pytest.raises(InvalidEnvelopeError, match="matches no time"):
        schedule.first(now=0.0, wall_utc=WALL)


# What all have in common

ALL = [every(2), fixed_rate(2), cron("0 9 * * *", tz="Europe/Berlin")]


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, True, "1", None, 10**400])
def test_a_bad_length_is_refused_by_name(bad: float) -> None:
    with pytest.raises(InvalidEnvelopeError, match=r"^interval must be "):
        every(bad)
    with pytest.raises(InvalidEnvelopeError, match=r"^period must be "):
        fixed_rate(bad)


def test_zero_is_refused_as_too_little() -> None:
    with pytest.raises(InvalidEnvelopeError, match=r"^interval must be more than 0 seconds, not 0$"):
        every(0)
    with pytest.raises(InvalidEnvelopeError, match=r"^period must be more than 0 seconds"):
        fixed_rate(timedelta(0))


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, True, "1", None])
def test_a_bad_jitter_is_refused_by_name(bad: float) -> None:
    for make in (
        lambda: every(1, jitter=bad),
        lambda: fixed_rate(1, jitter=bad),
        lambda: cron("* * * * *", jitter=bad),
    ):
        with pytest.raises(InvalidEnvelopeError, match=r"^jitter must be ") as caught:
            make()
        assert caught.value.__suppress_context__


def test_the_jitter_of_a_grid_is_at_most_its_period() -> None:
    assert fixed_rate(2, jitter=2).jitter == 2.0
    with pytest.raises(InvalidEnvelopeError, match=r"^jitter must be at most the period \(2\.0 s\), not 2\.5$"):
        fixed_rate(2, jitter=2.5)
    assert every(2, jitter=30).jitter == 30.0


def test_period_and_jitter_can_be_read() -> None:
    assert [schedule.period for schedule in ALL] == [2.0, 2.0, None]
    assert [schedule.jitter for schedule in ALL] == [0.0, 0.0, 0.0]
    assert every(timedelta(minutes=1), jitter=timedelta(milliseconds=500)).period == 60.0
    assert every(timedelta(minutes=1), jitter=timedelta(milliseconds=500)).jitter == 0.5
    assert cron("* * * * *", jitter=3).jitter == 3.0
    assert type(every(2, jitter=1).period) is type(every(2, jitter=1).jitter) is float


def test_jitter_is_left_to_the_queue() -> None:
    assert every(2, jitter=1).first(now=5.0, wall_utc=WALL) == 5.0
    assert every(2, jitter=1).next(planned=5.0, now=5.5, wall_utc=WALL) == 7.5
    assert fixed_rate(2, jitter=1).first(now=5.0, wall_utc=WALL) == 5.0
    assert fixed_rate(2, jitter=1).next(planned=5.0, now=5.9, wall_utc=WALL) == 7.0
    spread = cron("0 9 * * *", jitter=60)
    assert spread.first(now=0.0, wall_utc=WALL) == 3600.0
    assert spread.next(planned=0.0, now=0.0, wall_utc=WALL) == 3600.0


@pytest.mark.parametrize(
    ("one", "same", "others"),
    [
        (every(2), every(timedelta(seconds=2)), [every(3), every(2, jitter=1), fixed_rate(2)]),
        (fixed_rate(2), fixed_rate(2.0), [fixed_rate(3), fixed_rate(2, jitter=1), every(2)]),
        (
            cron("0 9  * * *", tz="Europe/Berlin"),
            cron(" 0 9 * * *", tz=BERLIN),
            [cron("0 9 * * *"), cron("1 9 * * *", tz=BERLIN), cron("0 9 * * *", tz=BERLIN, jitter=1)],
        ),
        (cron("0 9 * * *"), cron("0 9 * * *", tz="UTC"), [every(2)]),
    ],
)
def test_schedules_are_values(one: Schedule, same: Schedule, others: list[Schedule]) -> None:
    assert one == same
    assert hash(one) == hash(same)
    assert all(one != other for other in others)
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one


@pytest.mark.parametrize("schedule", ALL)
@pytest.mark.parametrize("name", ["jitter", "period", "interval", "expression", "anything"])
def test_schedules_cannot_be_changed(schedule: Schedule, name: str) -> None:
    with pytest.raises((AttributeError, TypeError)):
        setattr(schedule, name, 1.0)
    with pytest.raises(AttributeError):
        schedule.__dict__


@pytest.mark.parametrize("schedule", ALL)
def test_schedules_keep_no_state(schedule: Schedule) -> None:
    """The same question gets the same answer, whatever was asked between: one object serves many envelopes."""
    first = schedule.first(now=5.0, wall_utc=WALL)
    following = schedule.next(planned=5.0, now=6.0, wall_utc=WALL)
    times(schedule, WALL + timedelta(days=3), 10)
    assert schedule.first(now=5.0, wall_utc=WALL) == first
    assert schedule.next(planned=5.0, now=6.0, wall_utc=WALL) == following


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (every(2), "every(2.0)"),
        (every(2, jitter=0.5), "every(2.0, jitter=0.5)"),
        (fixed_rate(0.25, jitter=0.1), "fixed_rate(0.25, jitter=0.1)"),
        (cron("0 9 * * MON"), "cron('0 9 * * MON')"),
        (cron("0 9 * * *", tz=BERLIN, jitter=1), "cron('0 9 * * *', tz='Europe/Berlin', jitter=1.0)"),
        (
            cron("0 9 * * *", tz=timezone(timedelta(hours=2))),
            "cron('0 9 * * *', tz=datetime.timezone(datetime.timedelta(seconds=7200)))",
        ),
    ],
)
def test_each_is_a_schedule_and_shows_how_it_was_made(schedule: Schedule, text: str) -> None:
    assert isinstance(schedule, Schedule)
    assert repr(schedule) == text


class Sundays:
    jitter = 0.0
    period = None

    def first(self, *, now: float, wall_utc: datetime) -> float:
        return now

    def next(self, *, planned: float, now: float, wall_utc: datetime) -> float:
        return now + 7 * 86_400


def test_a_schedule_of_the_users_own_is_one() -> None:
    mine: Schedule = Sundays()
    assert isinstance(mine, Schedule)
    assert not isinstance(every, Schedule)
    assert not isinstance(5.0, Schedule)
