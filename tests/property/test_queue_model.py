"""The machine against a naive model: any sequence of public calls and run ends gives the same answers, the same order,
the same outcomes and the same counts, and every guarantee holds after every step.

Twice: hypothesis draws programs, and makes a failing one as short as it can; a dice throws them, which is quicker and
fairer, and says which seed failed. Both count what they meet, and fail when a pair was not met. `REQ_SOAK=1` asks for
more, at random.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from rate_envelope_queue.core import book
from rate_envelope_queue.core.settle import RUN_SUCCEEDED, next_period
from tests.unit.machine_world import World, envelope_of, retry

from .guarantees import hold, hold_at_the_end
from .naive import PERIOD, key_of
from .pairs import NAMED, PAIRS
from .programs import SETTINGS, one_more, play
from .twins import Twins, make_envelopes

IS_LONG = os.environ.get("REQ_SOAK") == "1"
REACHED: Counter[str] = Counter()


class QueueMachine(RuleBasedStateMachine):
    """Programs for both. One rule draws from the table of steps that are possible: were each step a rule, hypothesis,
    which looks for a possible one by trial, would hardly ever choose what is seldom possible, and so interesting."""

    twins: Twins

    @initialize(**{name: st.sampled_from(choices) for name, choices in SETTINGS.items()})
    def begin(self, **options: Any) -> None:
        self.twins = Twins(REACHED, **options)

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        one_more(self.twins, lambda choices: data.draw(st.sampled_from(choices)))

    @invariant()
    def all_guarantees_hold(self) -> None:
        if hasattr(self, "twins"):
            hold(self.twins)

    def teardown(self) -> None:
        if hasattr(self, "twins"):
            hold_at_the_end(self.twins)


@pytest.fixture(params=[None, 0], ids=["as it is", "debris stays"])
def debris(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once more with debris left in short queues too, as it is in long ones."""
    if request.param is not None:
        monkeypatch.setattr(book, "SMALL", request.param)


def missing(pairs: list[str], reached: Counter[str]) -> list[str]:
    return [pair for pair in pairs if not reached[pair]]


@pytest.mark.usefixtures("debris")
def test_the_machine_does_what_the_model_does() -> None:
    """I-1 to I-10, I-15, I-16, I-19: programs drawn by hypothesis, which meet every pair that has a step of its own."""
    REACHED.clear()
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=10_000 if IS_LONG else 200,
            stateful_step_count=100 if IS_LONG else 50,
            derandomize=not IS_LONG,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert missing(PAIRS if IS_LONG else NAMED, REACHED) == []


@pytest.mark.usefixtures("debris")
def test_random_programs() -> None:
    """I-1 to I-10, I-15, I-16, I-19: programs thrown by a dice, which meet every pair."""
    first = time.time_ns() if IS_LONG else 0
    reached: Counter[str] = Counter()
    for seed in range(first, first + (20_000 if IS_LONG else 300)):
        play(seed, reached)
    assert missing(PAIRS, reached) == []


def test_a_resend_that_makes_a_one_off_periodic_is_drained() -> None:
    """7: DRAIN runs pending re-sends: also the one that brings a periodic under the key of a one-off. Found by the
    model: the stop used to end in the middle of that very settlement."""
    world, periodic, one_off = World(), *make_envelopes()[7:9]
    world.send(one_off)
    handle = world.take()
    world.machine.send([periodic], None, {periodic: (0.0, None)})
    world.stop()
    again = world.turn(handle)
    assert again is not None
    assert envelope_of(again) is periodic
    world.end(again, next_period(RUN_SUCCEEDED, PERIOD, PERIOD, error=None, is_late=False))
    assert world.report().kept == (periodic,)


def test_a_plain_send_keeps_an_entry_whatever_was_noted_since() -> None:
    """2: the last future's cancel withdraws an entry only when no plain send asked for it: also when the first thing
    to be noted of it was a backoff, or a re-send while it ran. Found by the random programs."""
    for backed_off in (True, False):
        world, envelope = World(), make_envelopes()[4]
        world.send(envelope)
        handle = world.take()
        if not backed_off:
            world.send(envelope)
        world.end(handle, retry(1.0, backed_off=backed_off))
        world.send(envelope, future=7)
        assert world.done(world.machine.detach(key_of(envelope), 7)) is True
        assert list(world.machine.envelopes()) == [envelope]
