"""Steps: everyday life; what is sent, waits for room and is taken out meets what is there."""

from __future__ import annotations

from collections.abc import Sequence

from rate_envelope_queue.results import StopMode

from .naive import STOPPED, STOPPING, key_of
from .table import BATCHES, DELAYS, PICK, YES_NO, finish_if_it_runs, is_live, of_key, one_of, runs, step
from .twins import WAYS, Twins

# Everyday life


@step(5, batch=BATCHES, delay=DELAYS)
def send(twins: Twins, batch: Sequence[int], delay: float) -> None:
    twins.send([twins.envelopes[number] for number in batch], delay)


@step(8, batch=BATCHES)
def send_and_run(twins: Twins, batch: Sequence[int]) -> None:
    twins.send([twins.envelopes[number] for number in batch])
    twins.take_all()


@step(2, batch=BATCHES, delay=(1.0, 2.0))
def send_later_and_run(twins: Twins, batch: Sequence[int], delay: float) -> None:
    """Due at the same time, they run in the order in which they were sent."""
    twins.send([twins.envelopes[number] for number in batch], delay)
    twins.advance(delay)
    twins.take_all()


@step(5)
def take(twins: Twins) -> None:
    twins.take()


@step(4, is_live, many=(2, 3, 4))
def work(twins: Twins, many: int) -> None:
    """The life of most queues: plain envelopes, all of which succeed, by workers that go on and on."""
    twins.send(twins.envelopes[:many])
    twins.take_all()
    for _ in range(many):
        if twins.handles:
            twins.finish(0, "success", 0.0, takes=True)


@step(3)
def take_all(twins: Twins) -> None:
    twins.take_all()


@step(25, lambda t: t.handles, index=PICK, how=WAYS, after=(0.0, 0.0, 1.0, 4.0), takes=YES_NO)
def finish(twins: Twins, index: int, how: str, after: float, takes: bool) -> None:
    twins.finish(index, how, after, takes=takes)


@step(2, lambda t: t.handles, index=PICK, how=("retry", "backoff"), times=(2, 3, 4))
def fail_again(twins: Twins, index: int, how: str, times: int) -> None:
    """Until its attempts are used up."""
    key = one_of(twins.handles, index)[1]
    for _ in range(times):
        finish_if_it_runs(twins, key, how, 0.0, takes=True)


@step(3, seconds=(0.5, 1.0, 2.0, 7.0))
def advance(twins: Twins, seconds: float) -> None:
    twins.advance(seconds)


@step(4, lambda t: t.model.delayed)
def advance_to_due(twins: Twins) -> None:
    twins.advance(max(0.0, min(twins.model.delayed)[0] - twins.model.now))
    twins.take()


@step(20, lambda t: t.model.is_paused or t.model.state in (STOPPED, STOPPING))
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


@step(2, is_live, which=range(9), is_abandoned=YES_NO)
def send_x_delayed_and_run(twins: Twins, which: int, is_abandoned: bool) -> None:
    """Its old due time is left behind another's; it must not count, nor keep anything."""
    envelope, other = twins.envelopes[which], twins.envelopes[which + 1]
    for delay, one in ((5.0, other), (6.0, envelope), (0.0, envelope)):
        twins.send([one], delay)
    twins.take_all()
    if is_abandoned:
        twins.stop(StopMode.STOP, 0.0, 0.0)
        twins.start()
    finish_if_it_runs(twins, key_of(envelope), "retry", 9.0, takes=False)
    if is_abandoned:  # the report of another stop
        twins.stop(StopMode.STOP, None, 0.0)
        twins.start()
    else:
        twins.advance(6.5)
        twins.take()


@step(1, lambda t: is_live(t) and t.model.ready, index=PICK, delay=DELAYS)
def send_x_waiting(twins: Twins, index: int, delay: float) -> None:
    twins.send(of_key(twins, one_of(twins.model.ready, index)[1], index), delay)


@step(4, lambda t: is_live(t) and t.model.ghosts, index=PICK, delay=DELAYS)
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


@step(4, which=range(10), sends=("", "before", "after"), cancels=YES_NO)
def submit(twins: Twins, which: int, sends: str, cancels: bool) -> None:
    """Sent as well, maybe: a plain send keeps the entry in when the future is cancelled."""
    if sends == "before":
        twins.send([twins.envelopes[which]])
    twins.submit(twins.envelopes[which])
    if sends == "after":
        twins.send([twins.envelopes[which]])
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


@step(5, lambda t: t.model.seats, index=(0, 0, 1, 2))
def give_up_x_row(twins: Twins, index: int) -> None:
    twins.give_up(index)


@step(2, lambda t: t.model.capacity < 5, many=(2, 3))
def give_up_x_next(twins: Twins, many: int) -> None:
    """Who leaves held up somebody who fits."""
    fill(twins, 1)
    absent = [one for one in twins.envelopes[:5] if key_of(one) not in twins.model.book]
    if twins.send_wait(absent[:many]) is False and twins.send_wait(absent[-1:]) is False:
        twins.give_up(-2)


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


@step(4, lambda t: is_live(t) and t.model.gap and not t.model.ready, which=range(9), wait=(0.0, 0.5))
def cancel_x_held_back(twins: Twins, which: int, wait: float) -> None:
    """The start rate must not give a token to a place that is void, behind the last that was not."""
    envelope, other = twins.envelopes[which], twins.envelopes[which + 1]
    twins.send([envelope])
    twins.send([other])
    twins.cancel(key_of(other))
    for seconds in (2.0, wait):
        twins.advance(seconds)
        twins.take()
