"""Steps: pausing, resizing, starting, stopping and waiting meet what runs and what waits."""

from __future__ import annotations

from collections.abc import Sequence

from rate_envelope_queue.results import StopMode

from .naive import STOPPING, key_of
from .table import (
    BATCHES,
    DELAYS,
    PICK,
    YES_NO,
    delay_something,
    finish_if_it_runs,
    is_live,
    of_key,
    one_of,
    run_something,
    runs,
    some_run,
    step,
)
from .twins import WAYS, Twins

# Control


@step(1)
def pause(twins: Twins) -> None:
    twins.pause()


@step(2, lambda t: is_live(t) and not t.model.is_paused, which=PICK[:9], takes=YES_NO)
def pause_x_due(twins: Twins, which: int, takes: bool) -> None:
    """Due during a pause: it runs when that is over."""
    seconds = delay_something(twins, which)
    twins.pause()
    twins.advance(seconds)
    if takes:
        twins.take()
    twins.resume()
    twins.take()


@step(2, lambda t: is_live(t) or t.model.state is STOPPING, batch=BATCHES, takes=YES_NO, resumes=YES_NO)
def pause_x_drain(twins: Twins, batch: Sequence[int], takes: bool, resumes: bool) -> None:
    """What waits in a drain is kept when the queue is paused, and the drain ends with what runs."""
    twins.send([twins.envelopes[number] for number in batch])
    twins.stop(StopMode.DRAIN, None, 0.0)
    twins.pause()
    if takes:
        twins.take()
    if resumes:
        twins.resume()


@step(1, limit=(1, 2, 3, 4))
def resize(twins: Twins, limit: int) -> None:
    twins.resize(limit)


@step(3, lambda t: len(t.model.active()) > 1, index=PICK, takes=YES_NO, limit=(1, 2, 3))
def resize_x_running(twins: Twins, index: int, takes: bool, limit: int) -> None:
    """Fewer workers than run: who ends leaves."""
    twins.resize(1)
    twins.take()
    twins.finish(index, "success", 0.0, takes=takes)
    twins.resize(limit)


@step(2, lambda t: is_live(t) or t.model.state is STOPPING, mode=tuple(StopMode), index=PICK, limit=(1, 2, 4))
def resize_x_stopping(twins: Twins, mode: StopMode, index: int, limit: int) -> None:
    if is_live(twins):
        some_run(twins, index)
        twins.stop(mode, None, 0.0)
    twins.resize(limit)
    twins.take_all()


@step(2)
def start(twins: Twins) -> None:
    twins.start()


@step(1, lambda t: t.model.state is STOPPING and t.handles, index=PICK, how=WAYS, takes=YES_NO)
def start_x_stopping(twins: Twins, index: int, how: str, takes: bool) -> None:
    """Refused, and accepted once what runs has ended."""
    twins.start()
    twins.finish(index, how, 1.0, takes=takes)
    twins.start()


# Stopping


@step(2, mode=tuple(StopMode), timeout=(None, None, 0.0, 1.0, 3.0), grace=(0.0, 2.0))
def stop(twins: Twins, mode: StopMode, timeout: float | None, grace: float) -> None:
    twins.stop(mode, timeout, grace)


@step(1, is_live, which=PICK[:9], mode=tuple(StopMode), extra=(-0.5, 0.0, 0.5))
def stop_x_due(twins: Twins, which: int, mode: StopMode, extra: float) -> None:
    """A due time has come, or nearly, and nobody has looked."""
    twins.advance(max(0.0, delay_something(twins, which) + extra))
    twins.stop(mode, None, 0.0)


@step(2, is_live, mode=tuple(StopMode), index=PICK, delay=DELAYS)
def stop_x_sent_again(twins: Twins, mode: StopMode, index: int, delay: float) -> None:
    """Sent again just before, and due meanwhile."""
    key = some_run(twins, index)
    if key is not None:
        twins.send(of_key(twins, key, index), delay)
    twins.advance(delay)
    twins.stop(mode, None, 0.0)


@step(
    2, lambda t: t.handles,
    index=PICK, how=("retry", "retry", "backoff", "cancelled"), after=(0.0, 1.0),
    timeout=(0.0, None, 0.0), takes=YES_NO,
)  # fmt: skip
def escalate_x_retry(twins: Twins, index: int, how: str, after: float, timeout: float | None, takes: bool) -> None:
    """A drain hardens, or its time is over, and then what runs wants to run again."""
    twins.stop(StopMode.DRAIN, None, 0.0)
    twins.stop(StopMode.STOP, timeout, 1.0)
    if twins.handles:
        twins.finish(index, how, after, takes=takes)


@step(2, runs, index=PICK, how=WAYS, after=(0.0, 1.0))
def drain_x_retry(twins: Twins, index: int, how: str, after: float) -> None:
    """What ends in a drain; a periodic's next time is kept, and so is a retry later."""
    twins.stop(StopMode.DRAIN, None, 0.0)
    twins.finish(index, how, after, takes=True)


@step(2, is_live, batch=BATCHES, index=PICK, how=WAYS, grace=(0.0, 5.0))
def drain_x_time_over(twins: Twins, batch: Sequence[int], index: int, how: str, grace: float) -> None:
    """What waits when the time of a drain is over is kept."""
    twins.send([twins.envelopes[number] for number in batch])
    twins.take()
    twins.stop(StopMode.DRAIN, 1.0, grace)
    twins.advance(1.0)
    twins.take()
    if twins.handles:
        twins.finish(index, how, 0.0, takes=True)


@step(1, is_live, which=(6, 7, 9), how=("success", "retry", "cancelled", "drop"), takes=YES_NO)
def drain_x_periodic(twins: Twins, which: int, how: str, takes: bool) -> None:
    """The next time of a periodic does not keep a drain from ending."""
    run_something(twins, which)
    twins.stop(StopMode.DRAIN, None, 0.0)
    finish_if_it_runs(twins, key_of(twins.envelopes[which]), how, 0.0, takes=takes)


@step(3, is_live, resent=(0, 1, 2), delay=DELAYS, index=PICK)
def abandon_x_restart(twins: Twins, resent: int, delay: float, index: int) -> None:
    """Given up on at once, and started; what runs was sent again just before (1), or is just after (2)."""
    key = some_run(twins, index)
    if resent == 1 and key is not None:
        twins.send(of_key(twins, key, index), delay)
    twins.stop(StopMode.STOP, 0.0, 0.0)
    twins.start()
    if resent == 2 and key is not None:
        twins.send(of_key(twins, key, index), delay)
        twins.take_all()


@step(3, lambda t: t.model.state is STOPPING and t.model.active(), index=PICK)
def abandon_x_stopping(twins: Twins, index: int) -> None:
    """One run is given up on, the others go on."""
    twins.give_up_run(one_of(twins.model.active(), index))


@step(2, lambda t: len(t.log) > 25, timeout=(None, 0.0, 1.0), resent=YES_NO, index=PICK, how=(*WAYS, "cancelled"))
def terminate(twins: Twins, timeout: float | None, resent: bool, index: int, how: str) -> None:
    """Late in a program, since little happens afterwards; what runs may end meanwhile."""
    if resent and runs(twins):
        twins.send(of_key(twins, one_of(twins.model.active(), index), index))
    twins.stop(StopMode.STOP, timeout, 0.0, is_ending=True)
    if twins.handles:
        twins.finish(index, how, 0.0, takes=True)


# Waiting for the end


@step(2, lambda t: len(t.model.joiners) < 2)
def join(twins: Twins) -> None:
    twins.join()


@step(1, runs, index=PICK, how=WAYS)
def join_x_sent_again(twins: Twins, index: int, how: str) -> None:
    """Who joined waits for the re-send too."""
    index %= len(twins.handles)
    key = twins.handles[index][1]
    if key in twins.model.book and key not in twins.model.ghosts:
        twins.send(of_key(twins, key, index))
    twins.join()
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
