"""Schedules on running queues: what CONTRACT 3, 4, 5 and 7 rule about `every`, `fixed_rate`, `cron` and one's own.

Mostly in virtual time, where every instant is exact; what real threads could do otherwise is shown on both drivers.
The schedules by themselves are in tests/unit/test_schedules.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from rate_envelope_queue import (
    Envelope,
    EnvelopeQueue,
    InvalidIntervalError,
    QueueState,
    RetryEnvelope,
    StopEnvelope,
    StopMode,
)
from rate_envelope_queue.schedules import Schedule, cron, every, fixed_rate
from rate_envelope_queue.testing import SimulatedEnvelopeQueue, VirtualClock

from .harness import Harness
from .running import Seen, gaps, marks, started

BERLIN = ZoneInfo("Europe/Berlin")
KINDS = {"every": every(10), "fixed_rate": fixed_rate(10), "cron": cron("*/10 * * * * *")}


class Lab:
    """A running simulated queue with one periodic on it, and the instants of its runs."""

    def __init__(self, schedule: Any = None, *, takes: float = 0.0, start_utc: datetime | None = None, **options: Any):
        self.clock = VirtualClock() if start_utc is None else VirtualClock(start_utc)
        self.seen = Seen()
        self.queue = SimulatedEnvelopeQueue(
            "lab", clock=self.clock, observers=(self.seen,), **{"workers": 1, **options}
        )
        self.queue.start()
        self.runs: list[float] = []
        self.walls: list[datetime] = []
        self.takes = takes
        self.envelope = Envelope(self._invoke, schedule=schedule)

    def _invoke(self, ctx: Any, envelope: Any) -> None:
        self.runs.append(self.clock.now())
        self.walls.append(self.clock.wall_utc())
        if self.takes:
            self.clock.sleep(self.takes)

    def send(self, **options: Any) -> Lab:
        assert self.queue.send(self.envelope, **options) == 1
        return self

    def advance(self, seconds: float) -> list[float]:
        self.queue.advance(seconds)
        return self.runs

    def local(self, zone: ZoneInfo = BERLIN) -> list[str]:
        return [f"{wall.astimezone(zone):%d %H:%M}" for wall in self.walls]


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


# The first run


@pytest.mark.parametrize("schedule", [every(10), fixed_rate(10), every(10, jitter=5), fixed_rate(10, jitter=5)])
def test_the_first_run_is_at_once(schedule: Schedule) -> None:
    """3: the first run is at once, also with jitter, which spreads what is planned for later."""
    lab = Lab(schedule)
    lab.clock.advance(3)
    lab.send()
    assert lab.advance(0) == [3]


def test_the_first_run_of_cron_is_at_its_next_time() -> None:
    """3: cron's first run is at its next time: also when it is sent at the very second of one."""
    lab = Lab(cron("*/5 * * * *"), start_utc=datetime(2024, 5, 15, 8, 2, 30, tzinfo=UTC)).send()
    assert lab.advance(149) == []
    assert lab.advance(1) == [150]
    exactly = Lab(cron("*/5 * * * *"), start_utc=datetime(2024, 5, 15, 8, 5, tzinfo=UTC)).send()
    assert exactly.advance(600) == [300, 600]


def test_with_the_delay_of_a_send(kind: Schedule) -> None:
    """3, 5: send(delay=4) begins four seconds later: the first run then, grid and interval counted from it; cron takes
    its first time after that."""
    lab = Lab(kind).send(delay=4)
    runs = lab.advance(24)
    assert runs == ([10, 20] if kind is KINDS["cron"] else [4, 14, 24])


def test_a_delay_longer_than_a_cron_step() -> None:
    """5: cron with delay=95: nothing before that, then its next time."""
    assert Lab(cron("*/10 * * * * *")).send(delay=95).advance(110) == [100, 110]


def test_before_the_start_of_the_queue(kind: Schedule) -> None:
    """7: sent in INIT and started after three periods: one run at once, then in its rhythm; no burst."""
    clock, runs = VirtualClock(), []
    queue = SimulatedEnvelopeQueue("q", clock=clock, workers=1)
    queue.send(Envelope(lambda ctx, envelope: runs.append(clock.now()), schedule=kind))
    clock.advance(35)
    queue.start()
    queue.advance(20)
    assert runs == ([35, 45, 55] if kind is KINDS["every"] else [35, 40, 50])


# The rhythm


def test_every_counts_from_the_end_of_the_run_hooks_included() -> None:
    """3: interval is a fixed delay from the end of the run: before, after and success hooks, and a failed run, all
    count."""
    lab, ends = Lab(), []

    def hook(ctx: Any, envelope: Any) -> None:
        ctx.wait(0.5)
        ends.append(lab.clock.now())

    def invoke(ctx: Any, envelope: Any) -> None:
        lab.runs.append(lab.clock.now())
        ctx.wait(2)
        if len(lab.runs) == 2:
            raise ValueError

    envelope = Envelope(invoke, schedule=every(10), before_hook=hook, after_hook=hook, success_hook=hook)
    lab.queue.send(envelope)
    lab.advance(40)
    # 0.5 before, 2 invoke, 1 after and success: 3.5 s; the failed second run has only its 2.5 s
    assert lab.runs == [0.5, 14, 26.5, 40]
    assert ends[:3] == [0.5, 3, 3.5]


def test_a_fixed_rate_does_not_care_how_long_a_run_takes() -> None:
    """3: fixed_rate keeps its grid, whatever a run takes below the period, failed runs and retries included."""
    lab = Lab()
    lengths = iter([0, 3, 9.5, 0.1, 5, 0])

    def invoke(ctx: Any, envelope: Any) -> None:
        lab.runs.append(lab.clock.now())
        ctx.wait(next(lengths))
        if len(lab.runs) in (2, 4):
            raise RetryEnvelope(after=1) if len(lab.runs) == 2 else ValueError

    lab.queue.send(Envelope(invoke, schedule=fixed_rate(10)))
    assert lab.advance(55) == [0, 10, 20, 30, 40, 50]


def test_a_fixed_rate_with_a_run_that_is_too_long() -> None:
    """3: a run of 3.5 periods: one run at once in place of the three missed, then the grid goes on."""
    lab = Lab()

    def invoke(ctx: Any, envelope: Any) -> None:
        lab.runs.append(lab.clock.now())
        if len(lab.runs) == 2:
            lab.clock.sleep(35)

    lab.queue.send(Envelope(invoke, schedule=fixed_rate(10)))
    assert lab.advance(70) == [0, 10, 45, 50, 60, 70]


def test_cron_skips_what_passes_during_a_run() -> None:
    """3: a cron time that passes while a run goes on is skipped, not caught up with."""
    lab = Lab(cron("* * * * *"), takes=150).send()
    assert lab.advance(600) == [60, 240, 420, 600]


def test_the_grid_on_threads(h: Harness) -> None:
    """3: fixed_rate on every driver: run n is never before n periods have passed."""
    queue = started(h)
    began = h.now()
    queue.send(Envelope(marks(h, "run"), schedule=fixed_rate(h.s(1))))
    h.until(lambda: len(h.log) >= 8)
    times = h.times("run")
    assert times[0] - began == h.about(0)
    assert all(at - began >= number - 1e-6 for number, at in enumerate(times))


# Pauses: one catch-up run, never a burst


def pause(lab: Lab, seconds: float) -> None:
    lab.queue.pause()
    lab.queue.advance(seconds)
    lab.queue.resume()
    lab.queue.run_until_idle()


def stop_and_start(lab: Lab, seconds: float) -> None:
    lab.queue.stop()
    lab.clock.advance(seconds)
    lab.queue.start()
    lab.queue.run_until_idle()


def occupied(lab: Lab, seconds: float) -> None:
    """The only worker is busy with something else."""
    lab.queue.submit(Envelope(lambda ctx, envelope: lab.clock.sleep(seconds), priority=1)).result()
    lab.queue.run_until_idle()


@pytest.mark.parametrize("gap", [pause, stop_and_start, occupied], ids=lambda gap: gap.__name__)
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (every(1), [0, 1, 31.5, 32.5, 33.5]),
        (fixed_rate(1), [0, 1, 31.5, 32, 33]),
        (cron("* * * * * *"), [1, 31.5, 32, 33]),
    ],
    ids=["every", "fixed_rate", "cron"],
)
def test_one_catch_up_run(gap: Callable[[Lab, float], None], schedule: Schedule, expected: list[float]) -> None:
    """3: thirty periods pass while nothing can run, by pause, by stop and start, or with every worker busy: one run as
    soon as it can, and then the rhythm of each kind; the grid has not moved."""
    lab = Lab(schedule).send()
    lab.advance(1.5)
    gap(lab, 30)
    assert lab.advance(2) == expected


def test_one_catch_up_run_each_for_many() -> None:
    """I-11: a thousand periodics and eight hours in which nothing ran: one catch-up run each."""
    clock, counts = VirtualClock(), [0] * 1000
    queue = SimulatedEnvelopeQueue("q", clock=clock, workers=4)

    def invoke(ctx: Any, envelope: Any) -> None:
        counts[envelope.payload] += 1

    kinds = (every(60), fixed_rate(60), cron("* * * * *"))
    queue.send(*(Envelope(invoke, payload=number, schedule=kinds[number % 3]) for number in range(1000)))
    queue.start()
    queue.advance(30)
    before = counts[:]
    queue.pause()
    queue.advance(8 * 3600 - 1)
    assert counts == before
    queue.resume()
    queue.run_until_idle()
    assert [after - before for after, before in zip(counts, before, strict=True)] == [1] * 1000


def test_a_pause_on_threads(h: Harness) -> None:
    """3: a paused queue that is resumed after ten periods runs its periodic once, not ten times."""
    queue = started(h)
    queue.send(Envelope(marks(h, "run"), schedule=fixed_rate(h.s(2))))
    h.until(lambda: h.log)
    queue.pause()
    h.pass_time(20)
    count = len(h.log)
    resumed = h.now()
    queue.resume()
    h.until(lambda: len(h.log) >= count + 3)
    # one at once, the next on the grid, within a period, and the one after that a whole period later
    assert h.times("run")[count + 2] - resumed >= 2 - 1e-6


# Sent again


@pytest.mark.parametrize(("name", "expected"), [("every", [0, 4, 14, 24]), ("fixed_rate", [0, 4, 10, 20])])
def test_sent_again_between_periods(name: str, expected: list[float]) -> None:
    """4: a re-send between periods makes it due at once; an interval then counts from that run, a grid stays."""
    lab = Lab(KINDS[name]).send()
    lab.advance(4)
    assert lab.queue.send(lab.envelope) == 0
    assert lab.advance(20) == expected


def test_cron_sent_again_between_its_times() -> None:
    """4: a cron re-sent between its times has no earlier time to offer: nothing changes, and nothing runs twice."""
    lab = Lab(cron("*/10 * * * * *")).send()
    lab.advance(14)
    assert lab.queue.send(lab.envelope) == 0
    assert lab.advance(16) == [10, 20, 30]


@pytest.mark.parametrize(("name", "expected"), [("every", [0, 4, 18]), ("fixed_rate", [0, 4, 10, 20])])
def test_sent_again_while_it_runs(name: str, expected: list[float]) -> None:
    """4: a re-send during a run means one more run when it ends, however many sends; then the rhythm goes on."""
    lab = Lab(KINDS[name], takes=4).send()
    lab.advance(1)
    for _ in range(3):
        assert lab.queue.send(lab.envelope) == 0
    assert lab.advance(20) == expected


@pytest.mark.parametrize(("delay", "expected"), [(3, [0, 5, 10, 20]), (20, [0, 10, 20])])
def test_sent_again_with_a_delay(delay: float, expected: list[float]) -> None:
    """4: a re-send with a delay makes it due at the earlier of the two times; the grid stays."""
    lab = Lab(fixed_rate(10)).send()
    lab.advance(2)
    assert lab.queue.send(lab.envelope, delay=delay) == 0
    assert lab.advance(22) == expected


def test_a_grid_survives_many_early_runs() -> None:
    """4: however often it is sent between its periods, the grid of a fixed rate stays where it was."""
    lab = Lab(fixed_rate(10)).send()
    for step in range(1, 40):
        lab.advance(1)
        if step % 10 in (3, 7):
            lab.queue.send(lab.envelope)
    lab.advance(1)
    assert [at for at in lab.runs if at % 10 == 0] == [0, 10, 20, 30, 40]
    assert [at for at in lab.runs if at % 10] == [3, 7, 13, 17, 23, 27, 33, 37]


def test_replaced_by_another_rhythm() -> None:
    """4: duplicates="replace": the newer envelope's schedule is in force from its first run on."""
    clock, log = VirtualClock(), []
    queue = SimulatedEnvelopeQueue("q", clock=clock, workers=1, duplicates="replace")
    queue.start()

    def periodic(name: str, schedule: Schedule) -> Envelope[Any]:
        return Envelope(lambda ctx, envelope: log.append((name, clock.now())), key="k", schedule=schedule)

    queue.send(periodic("old", fixed_rate(10)))
    queue.advance(12)
    assert queue.send(periodic("new", fixed_rate(4))) == 0
    queue.advance(9)
    assert log == [("old", 0), ("old", 10), ("new", 12), ("new", 16), ("new", 20)]


# Cron and the clocks


def test_cron_across_the_spring_change() -> None:
    """3: 02:30 in Berlin on the day that it does not exist: runs once, when the clocks have changed; then as before."""
    lab = Lab(cron("30 2 * * *", tz="Europe/Berlin"), start_utc=datetime(2024, 3, 29, 23, tzinfo=UTC)).send()
    lab.advance(3 * 86400)
    assert lab.local() == ["30 02:30", "31 03:00", "01 02:30"]
    assert gaps(lab.runs) == [23.5 * 3600, 23.5 * 3600]


def test_cron_across_the_autumn_change() -> None:
    """3: 02:30 in Berlin on the day that it comes twice: runs once, the first time; the day after is 25 hours later."""
    lab = Lab(cron("30 2 * * *", tz="Europe/Berlin"), start_utc=datetime(2024, 10, 25, 23, tzinfo=UTC)).send()
    lab.advance(3 * 86400)
    assert lab.local() == ["26 02:30", "27 02:30", "28 02:30"]
    assert gaps(lab.runs) == [24 * 3600, 25 * 3600]


def test_an_hourly_cron_follows_the_clock_on_the_wall() -> None:
    """3: an hourly expression runs every hour of real time through both changes: skipped hours do not run, repeated
    ones run twice."""
    for day, expected in (
        (datetime(2024, 3, 30, 23, 30, tzinfo=UTC), ["31 01:00", "31 03:00", "31 04:00", "31 05:00"]),
        (datetime(2024, 10, 26, 22, 30, tzinfo=UTC), ["27 01:00", "27 02:00", "27 02:00", "27 03:00"]),
    ):
        lab = Lab(cron("0 * * * *", tz=BERLIN), start_utc=day).send()
        assert lab.advance(4 * 3600) == [1800, 5400, 9000, 12600]
        assert lab.local() == expected


def test_cron_in_two_zones() -> None:
    """3: the same expression in two zones runs at nine in each."""
    clock, log = VirtualClock(datetime(2024, 7, 1, tzinfo=UTC)), []
    queue = SimulatedEnvelopeQueue("q", clock=clock)
    queue.start()
    for zone in ("Asia/Tokyo", "America/New_York"):
        at_nine = cron("0 9 * * *", tz=zone)
        queue.send(
            Envelope(lambda ctx, envelope: log.append((envelope.payload, clock.now())), payload=zone, schedule=at_nine)
        )
    queue.advance(86400)
    assert log == [("America/New_York", 13 * 3600), ("Asia/Tokyo", 24 * 3600)]


@pytest.mark.parametrize("jump", [3600, -3600, 365 * 86400, -365 * 86400])
def test_a_jump_of_the_wall_clock_affects_cron_alone(jump: float) -> None:
    """5: the wall clock is set: intervals, grids, delays and deadlines do not notice."""
    clock, log = VirtualClock(datetime(2024, 5, 15, 8, tzinfo=UTC)), []
    queue = SimulatedEnvelopeQueue("q", clock=clock, workers=4)
    queue.start()

    def mark(ctx: Any, envelope: Any) -> None:
        log.append((envelope.payload, clock.now()))

    def waits(ctx: Any, envelope: Any) -> None:
        assert ctx.wait()
        mark(ctx, envelope)

    queue.send(Envelope(mark, payload="every", schedule=every(100)))
    queue.send(Envelope(mark, payload="rate", schedule=fixed_rate(100)))
    queue.send(Envelope(mark, payload="delay"), delay=150)
    queue.send(Envelope(waits, payload="deadline", deadline=120))
    queue.advance(50)
    clock.jump_wall(jump)
    queue.advance(150)
    assert log == [
        ("every", 0), ("rate", 0), ("every", 100), ("rate", 100), ("deadline", 120), ("delay", 150), ("every", 200),
        ("rate", 200),
    ]  # fmt: skip


@pytest.mark.parametrize(("jump", "following"), [(1200, 2400), (-1200, 1200)])
def test_a_jump_of_the_wall_clock_counts_from_the_run_after(jump: float, following: float) -> None:
    """3: cron whose wall clock is set between two runs: the planned one is not moved, the one after goes by the new
    time."""
    lab = Lab(cron("0 * * * *"), start_utc=datetime(2024, 5, 15, 8, tzinfo=UTC)).send()
    lab.advance(1000)
    lab.clock.jump_wall(jump)
    # planned for 3600 s; then it is 09:20, or 08:40, and the next full hour is 2400 s, or 1200 s, away
    assert lab.advance(10000)[:2] == [3600, 3600 + following]


def test_a_wall_clock_that_is_a_little_behind_does_not_run_a_time_twice() -> None:
    """3: set back by two seconds before the run of 09:00, the wall says 08:59:58 when it ends: 09:00 is not run
    again."""
    lab = Lab(cron("0 * * * *"), start_utc=datetime(2024, 5, 15, 8, tzinfo=UTC)).send()
    lab.advance(1000)
    lab.clock.jump_wall(-2)
    assert lab.advance(3000) == [3600]
    assert lab.advance(4000) == [3600, 7202]


# Jitter


@pytest.mark.parametrize("name", list(KINDS))
def test_jitter_is_within_its_bounds(name: str) -> None:
    """3: with jitter each run is up to that many seconds later than planned, never earlier, and not always the same;
    it does not move a grid."""
    schedule: Schedule = {
        "every": every(10, jitter=4),
        "fixed_rate": fixed_rate(10, jitter=4),
        "cron": cron("*/10 * * * * *", jitter=4),
    }[name]
    lab = Lab(schedule).send()
    runs = lab.advance(3000)
    if name == "every":
        spread = [gap - 10 for gap in gaps(runs)]
    else:
        spread = [at % 10 for at in runs[1:]]
        assert [math.floor(at / 10) for at in runs[1:]] == list(range(math.floor(runs[1] / 10), 300))
    assert len(spread) > 200
    assert all(-1e-6 <= late < 4 + 1e-6 for late in spread)
    assert max(spread) - min(spread) > 3
    assert len({round(late, 6) for late in spread}) > 100


def test_jitter_is_the_same_in_every_simulation() -> None:
    """2: the simulated queue throws its dice the same way every time; two periodics get different throws."""

    def trace() -> tuple[list[float], list[float]]:
        lab = Lab(every(10, jitter=5)).send()
        others: list[float] = []
        lab.queue.send(Envelope(lambda ctx, envelope: others.append(lab.clock.now()), schedule=every(10, jitter=5)))
        return lab.advance(500), others

    first = trace()
    assert trace() == first
    assert first[0] != first[1]


def test_jitter_is_never_early_on_threads(h: Harness) -> None:
    """3: on every driver the spans between runs are the interval and up to the jitter more."""
    queue = started(h)
    queue.send(Envelope(marks(h, "run"), schedule=every(h.s(1), jitter=h.s(1))))
    h.until(lambda: len(h.log) >= 6)
    assert all(gap >= 1 - 1e-6 for gap in gaps(h.times("run")))


# Schedules of the user's


class Planned:
    """A schedule of the user's: answers from a list, relative to what it is asked; remembers the questions."""

    jitter = 0.0
    period: float | None = None

    def __init__(self, first: float, *following: Any) -> None:
        self._first = first
        self._following = list(following)
        self.asked: list[tuple[float, float, float]] = []

    def first(self, *, now: float, wall_utc: datetime) -> float:
        assert wall_utc.tzinfo is UTC
        return now + self._first

    def next(self, *, planned: float, started: float, now: float, wall_utc: datetime) -> float:
        assert wall_utc.tzinfo is UTC
        self.asked.append((planned, started, now))
        answer = self._following.pop(0) if self._following else 1e6
        if isinstance(answer, BaseException):
            raise answer
        return now + answer


def test_a_schedule_of_the_users() -> None:
    """3: a user's schedule is told its last answer, the begin and the end of the run, and is obeyed."""
    schedule = Planned(5, 7, 1, 20)
    lab = Lab(schedule, takes=2).send()
    assert lab.advance(50) == [5, 14, 17, 39]
    assert schedule.asked == [(5, 5, 7), (14, 14, 16), (17, 17, 19), (39, 39, 41)]


def test_a_schedule_is_told_its_last_answer_after_an_early_run() -> None:
    """3, 4: sent again during a run, it runs once more at once; the schedule is then told the answer it gave before,
    which lies ahead."""
    schedule = Planned(0, 7, 20)
    lab = Lab(schedule, takes=2).send()
    lab.advance(1)
    lab.queue.send(lab.envelope)
    assert lab.advance(30) == [0, 2, 24]
    assert schedule.asked == [(0, 0, 2), (9, 2, 4), (24, 24, 26)]


def test_a_schedule_that_answers_with_the_past_means_at_once() -> None:
    """3: an answer that is not after now means at once; other work still gets its turn between the runs."""
    lab = Lab(Planned(-100, -5, 0, -1))
    lab.send()
    lab.queue.send(Envelope(lambda ctx, envelope: lab.runs.append(-1)))
    assert lab.advance(0) == [0, -1, 0, 0, 0]


@pytest.mark.parametrize(
    "answer", [ValueError("of the user"), SystemExit(1), math.nan, math.inf, "soon", None], ids=repr
)
def test_a_schedule_that_fails_ends_its_own_envelope_alone(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """9: a schedule that raises, or answers with no time, ends its envelope as dropped, with a dead letter that says
    so; one event, one record; the worker and every other envelope go on."""
    lab = Lab(Planned(0, 1, answer)).send()
    others: list[float] = []
    lab.queue.send(Envelope(lambda ctx, envelope: others.append(lab.clock.now()), schedule=every(1)))
    assert lab.advance(4) == [0, 1]
    assert others == [0, 1, 2, 3, 4]
    (letter,) = lab.queue.dead_letters()
    assert (letter.envelope, letter.reason) == (lab.envelope, "its schedule failed")
    assert [event.hook for event in lab.seen.hook_failed] == ["schedule"]
    assert (lab.queue.stats().dropped, lab.queue.stats().occupancy) == (1, 1)
    assert len(caplog.records) == 1
    assert "schedule" in caplog.text


def test_a_schedule_that_fails_at_its_first_question_sends_nothing() -> None:
    """9: a schedule that raises when it is asked for the first run raises from send, and of the batch nothing is taken
    in."""

    class Broken(Planned):
        def first(self, *, now: float, wall_utc: datetime) -> float:
            raise LookupError("of the user")

    lab = Lab(Broken(0))
    with pytest.raises(LookupError, match="of the user"):
        lab.queue.send(Envelope(marks, payload=1), lab.envelope)
    assert lab.queue.stats().accepted == 0


def test_a_schedule_may_use_its_queue() -> None:
    """9: schedules are asked without a lock: one that sends and reads the queue does not deadlock, on any driver."""
    for make in (SimulatedEnvelopeQueue, EnvelopeQueue):
        queue = make("q", workers=1)
        queue.start()

        class Curious(Planned):
            def next(self, *, planned: float, started: float, now: float, wall_utc: datetime) -> float:
                assert queue.stats().running == 1  # noqa: B023
                queue.send(Envelope(lambda ctx, envelope: None))  # noqa: B023
                return now + 1000

        queue.send(Envelope(lambda ctx, envelope: None, schedule=Curious(0)))
        queue.submit(Envelope(lambda ctx, envelope: None)).result(timeout=20)
        assert queue.join(timeout=20)
        assert (queue.stats().delayed, queue.stats().succeeded) == (1, 2)
        queue.terminate()


# What is refused


@pytest.mark.parametrize("make", [every, fixed_rate])
def test_a_deadline_longer_than_the_period_is_refused(make: Any) -> None:
    """3: a deadline longer than the period is InvalidIntervalError at construction; equal is allowed."""
    with pytest.raises(InvalidIntervalError, match=r"deadline=10\.5 is longer than the interval of 10 s"):
        Envelope(lambda ctx, envelope: None, schedule=make(10), deadline=10.5)
    assert Envelope(lambda ctx, envelope: None, schedule=make(10), deadline=10).deadline == 10
    assert Envelope(lambda ctx, envelope: None, schedule=make(timedelta(hours=1)), deadline=3600).deadline == 3600


def test_cron_takes_any_deadline() -> None:
    """3: cron has no constant period: any deadline is allowed; a user's schedule is held to the period that it
    names."""
    assert Envelope(lambda ctx, envelope: None, schedule=cron("* * * * *"), deadline=500).deadline == 500
    named = Planned(0)
    named.period = 5.0
    with pytest.raises(InvalidIntervalError):
        Envelope(lambda ctx, envelope: None, schedule=named, deadline=6)


# Ends, stops and starts


def test_a_periodic_survives_stop_and_start_with_its_due_time(kind: Schedule) -> None:
    """7: stop keeps a periodic, reports it, and the next start goes on at the due time it had."""
    for mode in (StopMode.DRAIN, StopMode.STOP):
        lab = Lab(kind).send()
        lab.advance(12)
        report = lab.queue.stop(mode)
        assert (report.kept, lab.queue.state, len(lab.queue)) == ((lab.envelope,), QueueState.STOPPED, 1)
        lab.clock.advance(3)
        lab.queue.start()
        assert lab.advance(15) == ([10, 20, 30] if kind is KINDS["cron"] else [0, 10, 20, 30])


def test_a_periodic_that_is_due_during_a_stop_does_not_run_in_it(kind: Schedule) -> None:
    """7: what becomes due during a drain is kept: the drain lasts, the periodic waits for the start."""
    lab = Lab(kind, workers=2).send()
    lab.queue.send(Envelope(lambda ctx, envelope: lab.clock.sleep(15)), delay=5)
    lab.advance(6)
    runs = len(lab.runs)
    report = lab.queue.stop()
    assert (lab.clock.now(), len(lab.runs), report.kept) == (20, runs, (lab.envelope,))
    lab.queue.start()
    lab.queue.run_until_idle()
    assert len(lab.runs) == runs + 1


def test_a_run_that_terminate_cancels_is_returned(kind: Schedule) -> None:
    """3, 7: terminate during a run that ends by Cancelled: returned, and it never runs again."""
    clock, runs = VirtualClock(), []
    queue = SimulatedEnvelopeQueue("q", clock=clock)

    def invoke(ctx: Any, envelope: Any) -> None:
        runs.append(clock.now())
        ctx.wait(50)
        ctx.check()

    envelope = Envelope(invoke, schedule=kind)
    queue.send(envelope)
    queue.start()
    queue.advance(11)
    begun = len(runs)
    report = queue.terminate()
    queue.advance(100)
    assert (report.returned, len(runs), queue.stats().runs_cancelled) == ((envelope,), begun, 1)


def test_stop_envelope_ends_a_periodic(kind: Schedule) -> None:
    """3: StopEnvelope ends a periodic of any kind: stopped, and not scheduled again."""
    lab = Lab()

    def invoke(ctx: Any, envelope: Any) -> None:
        lab.runs.append(lab.clock.now())
        if len(lab.runs) == 3:
            raise StopEnvelope

    lab.queue.send(Envelope(invoke, schedule=kind))
    lab.advance(100)
    assert (len(lab.runs), len(lab.queue), lab.queue.stats().stopped) == (3, 0, 1)


def test_cancelled_between_its_periods(kind: Schedule) -> None:
    """7: cancel between periods ends it RETURNED; sent once more, it begins anew."""
    lab = Lab(kind).send()
    lab.advance(13)
    runs = len(lab.runs)
    assert lab.queue.cancel(lab.envelope)
    lab.advance(100)
    assert (len(lab.runs), lab.queue.stats().returned) == (runs, 1)
    lab.send()
    expected = [120] if kind is KINDS["cron"] else [113]
    assert lab.advance(8)[runs:] == expected


def test_attempts_of_a_periodic_count_its_failures_in_a_row(kind: Schedule) -> None:
    """3: ctx.attempt is 1 + consecutive failures; max_attempts does not apply, and the rhythm is the same."""
    lab, attempts = Lab(), []

    def invoke(ctx: Any, envelope: Any) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) in (1, 2, 3, 5):
            raise ValueError

    lab.queue.send(Envelope(invoke, schedule=kind, max_attempts=2))
    lab.advance(70)
    assert attempts[:7] == [1, 2, 3, 4, 1, 2, 1]
    assert (lab.queue.stats().dropped, len(lab.queue)) == (0, 1)


class NoTimes(list[float]):
    """A schedule that counts as false."""

    jitter = 0.0
    period = None

    def first(self, *, now: float, wall_utc: Any) -> float:
        return now

    def next(self, *, planned: float, started: float, now: float, wall_utc: Any) -> float:
        return now + 10


def test_a_schedule_that_counts_as_false_is_one() -> None:
    """CONTRACT 3: whatever else a schedule is, such as an empty list, its envelope is periodic from the first send."""
    queue = SimulatedEnvelopeQueue("q")
    queue.start()
    queue.send(Envelope(lambda ctx, e: None, schedule=NoTimes()))
    assert queue.join(timeout=5)
    queue.advance(25)
    assert queue.stats().runs_succeeded == 3
    assert queue.join(timeout=0)
