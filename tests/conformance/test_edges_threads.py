"""Rare sequences on threads, each of which once went wrong: what is left over, what raises, who comes in between."""

from __future__ import annotations

import gc
import sys
from collections import deque
from typing import Any

from rate_envelope_queue import Envelope, EnvelopeQueue

from .harness import PATIENCE, Harness, threads_only


def raises(error: BaseException) -> Any:
    """A handler that raises *error*."""

    def handler(ctx: Any, envelope: Any) -> None:
        raise error

    return handler


@threads_only
def test_an_abandoned_run_does_not_hold_the_stops_of_later_starts(h: Harness) -> None:
    """CONTRACT 7: an abandoned run is listed and forgotten, also when its worker had effects to deliver before it."""
    queue = h.queue(workers=1)
    gate, held = h.gate(), h.gate()
    queue.start()
    queue.submit(Envelope(lambda ctx, e: gate.wait(ctx)))
    queue.send(Envelope(lambda ctx, e: held.wait(ctx)))
    gate.open()
    h.until(lambda: held.waiting)
    assert len(queue.stop(timeout=0, grace=0).abandoned) == 1
    queue.start()
    assert queue.join(timeout=PATIENCE)
    assert h.in_background(queue.stop).result().abandoned == ()
    assert held.waiting


def with_letters(count: int) -> EnvelopeQueue:
    """A queue that has stopped with *count* dead letters."""
    with EnvelopeQueue("q", workers=1) as queue:
        queue.send(*[Envelope(raises(LookupError("gone"))) for _ in range(count)])
    return queue


def test_dead_letters_are_cleared_by_two_at_once() -> None:
    """CONTRACT 2: each dead letter goes to one of those who take them out, and nobody gets an error."""
    queue = with_letters(3)
    taken: list[Any] = []

    class Contested(deque[Any]):
        def popleft(self) -> Any:
            if not taken:  # another thread comes in between
                taken.append(super().popleft())
                taken.extend(queue.clear_dead_letters())
            return super().popleft()

    queue._letters = Contested(queue._letters)
    assert queue.clear_dead_letters() == ()
    assert len(taken) == 3


def test_dead_letters_are_read_while_garbage_is_collected() -> None:
    """CONTRACT 9: a look at the dead letters survives what finalisers do in the middle of it."""
    queue = with_letters(50)
    letters = queue.dead_letters()

    def collected(phase: str, info: Any) -> None:
        queue.clear_dead_letters()

    thresholds = gc.get_threshold()
    for wait in range(1, 20):  # one of them has the garbage collected in the middle of the look
        queue._letters.extend(letters)
        gc.collect()
        gc.callbacks.append(collected)
        gc.set_threshold(wait)
        try:
            assert queue.dead_letters() in (letters, ())
        finally:
            gc.set_threshold(*thresholds)
            gc.callbacks.remove(collected)
            queue.clear_dead_letters()


def at_depth(depth: int, call: Any) -> Any:
    """What *call* returns *depth* frames further down."""
    return at_depth(depth - 1, call) if depth else call()


@threads_only
def test_a_call_at_the_end_of_the_stack_is_made_or_refused(h: Harness) -> None:
    """CONTRACT 7: a call that meets the recursion limit leaves nothing behind that a later join or stop waits for."""
    queue = h.queue()
    queue.start()
    for depth in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit()):
        envelope = Envelope(h.handler())
        queue.send(envelope, delay=1000)
        try:
            at_depth(depth, lambda envelope=envelope: queue.cancel(envelope))
        except RecursionError:
            assert queue.cancel(envelope)
        assert queue.join(timeout=0)
    assert queue.stop().kept == ()
