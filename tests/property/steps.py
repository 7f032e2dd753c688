"""What a program is made of: everyday life, and one step for each pair of things that may meet.

A step says when it is possible and what its arguments may be; hypothesis draws them, and so does a dice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from rate_envelope_queue.envelope import Envelope
from rate_envelope_queue.results import StopMode

from .naive import RUNNING, STOPPED, STOPPING, key_of
from .twins import WAYS, Twins

PICK = range(12)
YES_NO = (False, True)
DELAYS = (0.0, 0.0, 0.0, 1.0, 2.0, 5.0)
BATCHES = [(one,) for one in range(10)] * 3 + [(one, other) for one in range(10) for other in range(10)]
BATCHES += [(0, 1, 2, 3), (3, 4, 5, 6), (7, 0, 8, 0), (4, 4, 9, 9)]


@dataclass(frozen=True)
class Step:
    """`do(twins, **arguments)`, drawn from *choices*; chosen *weight* times as often as others, *when* possible."""

    do: Callable[..., None]
    weight: int
    when: Callable[[Twins], Any]
    choices: dict[str, Sequence[Any]]


STEPS: list[Step] = []


def step(
    weight: int = 1, when: Callable[[Twins], Any] = lambda t: True, **choices: Sequence[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A function is a step."""

    def listed(do: Callable[..., None]) -> Callable[..., None]:
        STEPS.append(Step(do, weight, when, choices))
        return do

    return listed


def rows(twins: Twins, phase: str) -> list[Hashable]:
    return [key for key, row in twins.model.book.items() if row.phase == phase]


def is_live(twins: Twins) -> bool:
    return twins.model.state is RUNNING


def runs(twins: Twins) -> bool:
    return is_live(twins) and bool(twins.model.active())


def of_key(twins: Twins, key: Hashable, index: int) -> list[Envelope]:
    """An envelope with this key, maybe another than the one that is there."""
    same = [envelope for envelope in twins.envelopes if key_of(envelope) == key]
    return [same[index % len(same)]]


def one_of(choices: Sequence[Any], index: int) -> Any:
    return choices[index % len(choices)]


# Everyday life


@step(5, batch=BATCHES, delay=DELAYS)
def send(twins: Twins, batch: Sequence[int], delay: float) -> None:
    twins.send([twins.envelopes[number] for number in batch], delay)


@step(2, batch=BATCHES)
def send_and_run(twins: Twins, batch: Sequence[int]) -> None:
    twins.send([twins.envelopes[number] for number in batch])
    twins.take_all()


@step(5)
def take(twins: Twins) -> None:
    twins.take()


@step(3)
def take_all(twins: Twins) -> None:
    twins.take_all()


@step(8, lambda t: t.handles, index=PICK, how=WAYS, after=(0.0, 0.0, 1.0, 4.0), takes=YES_NO)
def finish(twins: Twins, index: int, how: str, after: float, takes: bool) -> None:
    twins.finish(index, how, after, takes=takes)


@step(3, seconds=(0.5, 1.0, 2.0, 7.0))
def advance(twins: Twins, seconds: float) -> None:
    twins.advance(seconds)


@step(4, lambda t: t.model.delayed)
def advance_to_due(twins: Twins) -> None:
    twins.advance(max(0.0, min(twins.model.delayed)[0] - twins.model.now))
    twins.take()


@step(5, lambda t: t.model.is_paused or t.model.state in (STOPPED, STOPPING) or not is_live(t))
def go_on(twins: Twins) -> None:
    """So that most programs do not end in a pause or a stop."""
    if twins.model.is_paused:
        twins.resume()
    else:
        twins.start()
        twins.take_all()


# Sending meets


@step(4, runs, index=PICK, delay=DELAYS)
def send_x_running(twins: Twins, index: int, delay: float) -> None:
    twins.send(of_key(twins, one_of(twins.model.active(), index), index), delay)


@step(2, runs, index=PICK, delay=DELAYS)
def send_x_cancelled(twins: Twins, index: int, delay: float) -> None:
    key = one_of(twins.model.active(), index)
    twins.cancel(key)
    twins.send(of_key(twins, key, index), delay)


@step(1, runs, index=PICK)
def cancel_x_sent_again(twins: Twins, index: int) -> None:
    key = one_of(twins.model.active(), index)
    twins.send(of_key(twins, key, index))
    twins.cancel(key)


@step(2, lambda t: is_live(t) and t.model.delayed, index=PICK, delay=DELAYS)
def send_x_delayed(twins: Twins, index: int, delay: float) -> None:
    twins.send(of_key(twins, one_of(twins.model.delayed, index)[2], index), delay)


@step(1, lambda t: is_live(t) and t.model.ready, index=PICK, delay=DELAYS)
def send_x_waiting(twins: Twins, index: int, delay: float) -> None:
    twins.send(of_key(twins, one_of(twins.model.ready, index)[1], index), delay)


@step(2, lambda t: is_live(t) and t.model.ghosts, index=PICK, delay=DELAYS)
def send_x_abandoned(twins: Twins, index: int, delay: float) -> None:
    """Behind a run that was abandoned; twice, or then cancelled."""
    key = one_of(list(twins.model.ghosts), index)
    twins.send(of_key(twins, key, index), delay)
    if index % 3 == 1:
        twins.send(of_key(twins, key, index + 1))
    elif index % 3 == 2:
        twins.cancel(key)


@step(2, lambda t: t.model.capacity < 5, batch=BATCHES, delay=DELAYS)
def send_x_full(twins: Twins, batch: Sequence[int], delay: float) -> None:
    """Filled to the brim, and one more."""
    fill(twins, 0)
    twins.send([twins.envelopes[number] for number in batch], delay)


def fill(twins: Twins, free: int) -> None:
    absent = [one for one in twins.envelopes[:5] if key_of(one) not in twins.model.book]
    while absent and len(twins.model.book) < twins.model.capacity - free:
        if isinstance(twins.send([absent.pop()]), type):
            return


@step(3, which=range(10), sends=YES_NO, cancels=YES_NO)
def submit(twins: Twins, which: int, sends: bool, cancels: bool) -> None:
    """Sent as well, maybe: a plain send keeps the entry in when the future is cancelled."""
    if sends:
        twins.send([twins.envelopes[which]])
    twins.submit(twins.envelopes[which])
    if cancels and twins.futures:
        twins.detach(0)


@step(2, runs, index=PICK)
def submit_x_running(twins: Twins, index: int) -> None:
    (envelope,) = of_key(twins, one_of(twins.model.active(), index), index)
    twins.submit(envelope)


@step(2, lambda t: t.futures, index=PICK)
def detach(twins: Twins, index: int) -> None:
    twins.detach(index)


# Room


@step(2, lambda t: t.model.capacity < 5, batch=BATCHES, many=(1, 2, 3), may_wait=(True, True, False))
def send_wait_x_full(twins: Twins, batch: Sequence[int], many: int, may_wait: bool) -> None:
    """Nearly filled; then a batch waits for room, and behind it one that might fit."""
    fill(twins, int(many > 1))
    absent = [one for one in twins.envelopes[:5] if key_of(one) not in twins.model.book]
    twins.send_wait([twins.envelopes[number] for number in batch], may_wait=may_wait)
    if len(absent) > 1:
        twins.send_wait(absent[:many])
        twins.send_wait(absent[-1:])


@step(2, lambda t: t.model.seats, index=(0, 0, 1, 2))
def give_up_x_row(twins: Twins, index: int) -> None:
    twins.give_up(index)


# Taking out


@step(3, lambda t: t.model.book, index=PICK, times=(0, 1, 2))
def cancel(twins: Twins, index: int, times: int) -> None:
    """What is there; maybe sent and cancelled again: its old places must stay void."""
    key = one_of(list(twins.model.book), index)
    envelope = twins.model.book[key].envelope
    assert twins.cancel(key) is True
    for _ in range(times):
        twins.send([envelope])
        if times == 2:
            twins.cancel(key)


@step(1, which=range(10))
def cancel_x_any(twins: Twins, which: int) -> None:
    twins.cancel(key_of(twins.envelopes[which]))


@step(2, lambda t: t.model.state is STOPPING and t.model.ready, index=PICK)
def cancel_x_drain(twins: Twins, index: int) -> None:
    """What a drain would still run; the last of it ends the stop."""
    twins.cancel(one_of(twins.model.ready, index)[1])


@step(1, lambda t: t.model.book)
def clear(twins: Twins) -> None:
    twins.clear()


@step(1, lambda t: is_live(t) and t.model.capacity > 1, which=range(10), delay=(1.0, 5.0))
def clear_x_delayed(twins: Twins, which: int, delay: float) -> None:
    twins.send([twins.envelopes[which]], delay)
    twins.clear()


# Control


@step(1)
def pause(twins: Twins) -> None:
    twins.pause()


@step(2, lambda t: is_live(t) and t.model.delayed and not t.model.is_paused, takes=YES_NO)
def pause_x_due(twins: Twins, takes: bool) -> None:
    """Due during a pause: it runs when that is over."""
    twins.pause()
    twins.advance(max(0.0, min(twins.model.delayed)[0] - twins.model.now))
    if takes:
        twins.take()
    twins.resume()
    twins.take()


@step(2, lambda t: t.model.state is STOPPING, takes=YES_NO)
def pause_x_drain(twins: Twins, takes: bool) -> None:
    twins.pause()
    if takes:
        twins.take()
    twins.resume()


@step(1, limit=(1, 2, 3, 4))
def resize(twins: Twins, limit: int) -> None:
    twins.resize(limit)


@step(2, lambda t: len(t.model.active()) > 1, index=PICK, takes=YES_NO)
def resize_x_running(twins: Twins, index: int, takes: bool) -> None:
    """Fewer workers than run: who ends leaves."""
    twins.resize(1)
    twins.finish(index, "success", 0.0, takes=takes)


@step(2, lambda t: t.model.state is STOPPING, limit=(1, 2, 4))
def resize_x_stopping(twins: Twins, limit: int) -> None:
    twins.resize(limit)
    twins.take_all()


@step(1)
def start(twins: Twins) -> None:
    twins.start()


@step(1, lambda t: t.model.state is STOPPING and t.handles, index=PICK, how=WAYS, takes=YES_NO)
def start_x_stopping(twins: Twins, index: int, how: str, takes: bool) -> None:
    """Refused, and accepted once what runs has ended."""
    twins.start()
    twins.finish(index, how, 1.0, takes=takes)
    twins.start()


# Stopping


@step(1, mode=tuple(StopMode), timeout=(None, None, 0.0, 1.0, 3.0), grace=(0.0, 2.0))
def stop(twins: Twins, mode: StopMode, timeout: float | None, grace: float) -> None:
    twins.stop(mode, timeout, grace)


@step(1, lambda t: is_live(t) and t.model.delayed, mode=tuple(StopMode), extra=(0.0, 0.5))
def stop_x_due(twins: Twins, mode: StopMode, extra: float) -> None:
    """A due time has come, and nobody has looked."""
    twins.advance(max(0.0, min(twins.model.delayed)[0] - twins.model.now) + extra)
    twins.stop(mode, None, 0.0)


@step(2, runs, mode=tuple(StopMode), index=PICK, delay=DELAYS)
def stop_x_sent_again(twins: Twins, mode: StopMode, index: int, delay: float) -> None:
    """Sent again just before, and due meanwhile."""
    twins.send(of_key(twins, one_of(twins.model.active(), index), index), delay)
    twins.advance(delay)
    twins.stop(mode, None, 0.0)


@step(
    2, lambda t: t.model.state is STOPPING and t.handles,
    index=PICK, how=("retry", "retry", "backoff", "cancelled"), after=(0.0, 1.0), timeout=(None, 0.0), takes=YES_NO,
)  # fmt: skip
def escalate_x_retry(twins: Twins, index: int, how: str, after: float, timeout: float | None, takes: bool) -> None:
    """The stop hardens, or its time is over, and then what runs wants to run again."""
    twins.stop(StopMode.STOP, timeout, 1.0)
    if twins.handles:
        twins.finish(index, how, after, takes=takes)


@step(2, runs, index=PICK, how=WAYS, after=(0.0, 1.0))
def drain_x_retry(twins: Twins, index: int, how: str, after: float) -> None:
    """What ends in a drain; a periodic's next time is kept, and so is a retry later."""
    twins.stop(StopMode.DRAIN, None, 0.0)
    twins.finish(index, how, after, takes=True)


@step(2, runs, resent=(0, 1, 2), delay=DELAYS, index=PICK)
def abandon_x_restart(twins: Twins, resent: int, delay: float, index: int) -> None:
    """Given up on at once, and started; what runs was sent again just before (1), or is just after (2)."""
    key = one_of(twins.model.active(), index)
    if resent == 1:
        twins.send(of_key(twins, key, index), delay)
    twins.stop(StopMode.STOP, 0.0, 0.0)
    twins.start()
    if resent == 2:
        twins.send(of_key(twins, key, index), delay)
        twins.take_all()


@step(1, lambda t: t.model.state is STOPPING and t.model.active(), index=PICK)
def abandon_x_stopping(twins: Twins, index: int) -> None:
    """One run is given up on, the others go on."""
    twins.give_up_run(one_of(twins.model.active(), index))


@step(1, lambda t: len(t.log) > 25, timeout=(None, 0.0, 1.0), resent=YES_NO, index=PICK)
def terminate(twins: Twins, timeout: float | None, resent: bool, index: int) -> None:
    if resent and runs(twins):
        twins.send(of_key(twins, one_of(twins.model.active(), index), index))
    twins.stop(StopMode.STOP, timeout, 0.0, is_ending=True)


# Waiting for the end


@step(2, lambda t: len(t.model.joiners) < 2)
def join(twins: Twins) -> None:
    twins.join()


@step(1, runs, index=PICK, how=WAYS)
def join_x_sent_again(twins: Twins, index: int, how: str) -> None:
    """Who joined waits for the re-send too."""
    twins.join()
    index %= len(twins.handles)
    key = twins.handles[index][1]
    if key in twins.model.book and key not in twins.model.ghosts:
        twins.send(of_key(twins, key, index))
    twins.finish(index, how, 0.0, takes=True)


@step(1, lambda t: t.model.joiners)
def leave_join(twins: Twins) -> None:
    twins.leave_join()


@step(1, lambda t: not t.model.undelivered)
def hold(twins: Twins) -> None:
    twins.hold()


@step(3, lambda t: t.model.undelivered)
def deliver(twins: Twins) -> None:
    twins.deliver()
