"""Section K: the client-go queue, on threads. A line's number is that of CONFORMANCE in the docs.

No test sleeps: a call that must block is made with `timeout=0` (then it raises TimeoutError), or in a thread that is
waited for.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rate_envelope_queue.workqueue import ShutDown, WorkQueue

PATIENCE = 60.0

SHUTDOWNS = pytest.mark.parametrize("how", ["shut_down", "shut_down_with_drain"])


@contextmanager
def crew(*calls: Callable[[], Any]) -> Iterator[list[threading.Thread]]:
    """Each call in a thread of its own, joined at the end; an error in one of them is raised here."""
    errors: list[BaseException] = []

    def guarded(call: Callable[[], Any]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    yield threads
    join(threads)
    if errors:
        raise errors[0]


def join(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread} did not end"


def until(condition: Callable[[], Any]) -> None:
    """Poll *condition*, or fail."""
    tick = threading.Event()
    for _ in range(int(PATIENCE * 1000)):
        if condition():
            return
        tick.wait(0.001)
    pytest.fail("it did not come about")


def is_shutting_down(queue: WorkQueue[Any]) -> bool:
    return bool(queue.shutting_down)


def would_block(queue: WorkQueue[Any]) -> bool:
    try:
        queue.get(timeout=0)
    except TimeoutError:
        return True
    return False


@pytest.fixture
def queue() -> Iterator[WorkQueue[Any]]:
    queue: WorkQueue[Any] = WorkQueue("test")
    yield queue
    queue.shut_down()


@SHUTDOWNS
def test_k72_producers_and_consumers(queue: WorkQueue[Any], how: str) -> None:
    """K72: 50 producers x 50 adds, 10 consumers, both shutdowns: len 0 after, nothing added after it is delivered."""
    delivered: Counter[Any] = Counter()
    being_processed: set[Any] = set()
    guard = threading.Lock()

    def produce(number: int) -> None:
        for _ in range(50):
            queue.add(number)

    def consume() -> None:
        for item in queue:
            with guard:
                assert item not in being_processed, "two consumers have the same item"
                being_processed.add(item)
                delivered[item] += 1
            with guard:
                being_processed.remove(item)
            queue.done(item)

    with crew(*[consume] * 10) as consumers:
        with crew(*[lambda number=number: produce(number) for number in range(50)]):
            pass
        getattr(queue, how)()
        queue.add("added after the shutdown")
        join(consumers)
    assert len(queue) == 0
    assert set(delivered) == set(range(50))
    assert all(1 <= times <= 50 for times in delivered.values())
    with pytest.raises(ShutDown):
        queue.get()


@SHUTDOWNS
def test_k73_items_added_again_while_they_are_processed(queue: WorkQueue[Any], how: str) -> None:
    """K73: each consumer re-adds an item up to 2 times while processing it: each is delivered, len 0 after."""
    delivered: Counter[int] = Counter()
    again: Counter[int] = Counter()
    all_done = threading.Event()
    guard = threading.Lock()

    def consume() -> None:
        for item in queue:
            with guard:
                delivered[item] += 1
                wanted = again[item] < 2
                again[item] += wanted
            if wanted:
                queue.add(item)
            queue.done(item)
            with guard:
                if sum(delivered.values()) == 150:
                    all_done.set()

    with crew(*[consume] * 10) as consumers:
        with crew(*[lambda number=number: queue.add(number) for number in range(50)]):
            pass
        assert all_done.wait(PATIENCE)
        getattr(queue, how)()
        join(consumers)
    assert len(queue) == 0
    assert delivered == Counter(dict.fromkeys(range(50), 3))


@SHUTDOWNS
def test_k73_a_shutdown_in_the_middle_of_it(queue: WorkQueue[Any], how: str) -> None:
    """K73: shut down while items are still being re-added: the consumers end, len 0, each item at least once."""
    delivered: Counter[int] = Counter()
    guard = threading.Lock()

    def consume() -> None:
        for item in queue:
            with guard:
                delivered[item] += 1
            if delivered[item] <= 2:
                queue.add(item)
            queue.done(item)

    with crew(*[consume] * 10) as consumers:
        with crew(*[lambda number=number: queue.add(number) for number in range(50)]):
            pass
        getattr(queue, how)()
        join(consumers)
    assert len(queue) == 0
    assert set(delivered) == set(range(50))
    assert max(delivered.values()) <= 3


def test_k74_len_counts_an_item_once(queue: WorkQueue[Any]) -> None:
    """K74: add foo, bar, foo -> len 1, 2, 2."""
    lengths = []
    for item in ("foo", "bar", "foo"):
        queue.add(item)
        lengths.append(len(queue))
    assert lengths == [1, 2, 2]


def test_k74_items_come_in_the_order_of_their_first_add(queue: WorkQueue[Any]) -> None:
    """K74: fair: first in, first out, and equal items are one."""
    for item in ("foo", "bar", "foo", "baz", 1, 1.0):
        queue.add(item)
    assert [queue.get(timeout=0) for _ in range(4)] == ["foo", "bar", "baz", 1]
    assert would_block(queue)


def test_k75_added_while_processed_comes_back(queue: WorkQueue[Any]) -> None:
    """K75: add, get, add, done -> comes back."""
    queue.add("foo")
    assert queue.get(timeout=0) == "foo"
    queue.add("foo")
    assert len(queue) == 0
    queue.done("foo")
    assert len(queue) == 1
    assert queue.get(timeout=0) == "foo"
    queue.done("foo")
    assert len(queue) == 0
    assert would_block(queue)


def test_k76_two_adds_while_processed_are_one(queue: WorkQueue[Any]) -> None:
    """K76: get, add twice while processing -> a second get blocks until done, then gets it once."""
    queue.add("bar")
    assert queue.get(timeout=0) == "bar"
    queue.add("bar")
    queue.add("bar")
    assert would_block(queue)
    got: list[Any] = []
    with crew(lambda: got.append(queue.get(timeout=PATIENCE))):
        assert got == []
        queue.done("bar")
    assert got == ["bar"]
    queue.done("bar")
    assert would_block(queue)


def test_k76_a_get_that_blocks_is_woken_by_an_add(queue: WorkQueue[Any]) -> None:
    """K76: get without a timeout blocks until there is something; each of 20 blocked ones gets one of 20 items."""
    got: list[Any] = []
    with crew(*[lambda: got.append(queue.get())] * 20):
        for item in range(20):
            queue.add(item)
    assert sorted(got) == list(range(20))


def test_k76_get_times_out(queue: WorkQueue[Any]) -> None:
    """K76: get raises TimeoutError when nothing came in time, and takes nothing later."""
    with pytest.raises(TimeoutError):
        queue.get(timeout=0.01)
    queue.add("late")
    assert len(queue) == 1
    assert queue.get(timeout=0) == "late"


def test_k77_drain_returns_after_both_done(queue: WorkQueue[Any]) -> None:
    """K77: shut_down_with_drain returns only after both items in flight are done."""
    queue.add("foo")
    queue.add("bar")
    first, second = queue.get(timeout=0), queue.get(timeout=0)
    finished = threading.Event()

    def drain() -> None:
        queue.shut_down_with_drain()
        finished.set()

    with crew(drain):
        until(lambda: is_shutting_down(queue))
        assert not finished.is_set()
        queue.done(first)
        assert not finished.wait(0.05)
        queue.done(second)
        assert finished.wait(PATIENCE)


def test_k77_drain_waits_for_what_is_queued_too(queue: WorkQueue[Any]) -> None:
    """K77: items that still wait are handed out during the drain; then get raises ShutDown."""
    for item in range(3):
        queue.add(item)
    got: list[int] = []

    def consume() -> None:
        for item in queue:
            got.append(item)
            queue.done(item)

    with crew(queue.shut_down_with_drain) as drain:
        until(lambda: is_shutting_down(queue))
        assert drain[0].is_alive()
        with crew(consume):
            pass
    assert got == [0, 1, 2]


@SHUTDOWNS
def test_k77_a_shutdown_of_an_idle_queue_returns(queue: WorkQueue[Any], how: str) -> None:
    """K77: with nothing in flight both shutdowns return, also the second time; get raises ShutDown ever after."""
    assert not is_shutting_down(queue)
    getattr(queue, how)()
    getattr(queue, how)()
    assert is_shutting_down(queue)
    for _ in range(2):
        with pytest.raises(ShutDown):
            queue.get()
        with pytest.raises(ShutDown):
            queue.get(timeout=0)
    assert list(queue) == []


def test_k78_shut_down_returns_at_once(queue: WorkQueue[Any]) -> None:
    """K78: shut_down returns at once, whatever is in flight; what is queued is still handed out, then ShutDown."""
    for item in ("foo", "bar", "waits"):
        queue.add(item)
    assert (queue.get(timeout=0), queue.get(timeout=0)) == ("foo", "bar")
    queue.shut_down()
    assert is_shutting_down(queue)
    queue.done("foo")
    assert queue.get(timeout=0) == "waits"
    with pytest.raises(ShutDown):
        queue.get()
    queue.done("bar")
    queue.done("waits")
    assert len(queue) == 0


@SHUTDOWNS
def test_k78_a_shutdown_wakes_every_blocked_get(queue: WorkQueue[Any], how: str) -> None:
    """K78: each of 10 consumers that block in get is woken by the shutdown and told so."""
    told: list[type] = []

    def consume() -> None:
        try:
            queue.get()
        except ShutDown as error:
            told.append(type(error))

    with crew(*[consume] * 10):
        getattr(queue, how)()
    assert told == [ShutDown] * 10


def test_k79_shut_down_wakes_a_drain(queue: WorkQueue[Any]) -> None:
    """K79: a drain in wait, then shut_down -> the drain wakes."""
    queue.add("foo")
    queue.add("bar")
    queue.get(timeout=0)
    queue.get(timeout=0)
    finished = threading.Event()

    def drain() -> None:
        queue.shut_down_with_drain()
        finished.set()

    with crew(drain):
        until(lambda: is_shutting_down(queue))
        assert not finished.wait(0.05)
        queue.shut_down()
        assert finished.wait(PATIENCE)


def test_k80_a_dirty_item_is_handed_out_again_during_a_drain(queue: WorkQueue[Any]) -> None:
    """K80: in flight and re-added, drain: done brings it back, the next get returns it, then comes the shutdown."""
    queue.add("foo")
    assert queue.get(timeout=0) == "foo"
    queue.add("foo")
    finished = threading.Event()

    def drain() -> None:
        queue.shut_down_with_drain()
        finished.set()

    with crew(drain):
        until(lambda: is_shutting_down(queue))
        queue.done("foo")
        assert not finished.wait(0.05)
        assert queue.get(timeout=PATIENCE) == "foo"
        queue.done("foo")
        assert finished.wait(PATIENCE)
    with pytest.raises(ShutDown):
        queue.get()


def test_k80_an_add_during_the_drain_is_not_taken(queue: WorkQueue[Any]) -> None:
    """K80: what is added after the shutdown has begun does not come back, not even an item in flight."""
    queue.add("foo")
    assert queue.get(timeout=0) == "foo"
    with crew(queue.shut_down_with_drain):
        until(lambda: is_shutting_down(queue))
        queue.add("foo")
        queue.add("bar")
        queue.add_after("baz", 0)
        queue.done("foo")
    assert len(queue) == 0
    with pytest.raises(ShutDown):
        queue.get()


class Item:
    """Something that can be referred to weakly."""


def test_k81_a_done_item_can_be_collected(queue: WorkQueue[Any]) -> None:
    """K81: an item done with can be garbage collected, though other items keep the queue busy."""
    gc.disable()
    try:
        item = Item()
        gone = weakref.ref(item)
        queue.add(item)
        queue.add("another")
        del item
        assert gone() is not None
        item = queue.get(timeout=0)
        queue.forget(item)
        queue.done(item)
        del item
        assert gone() is None
    finally:
        gc.enable()


def test_k81_also_when_it_came_by_a_delay_and_was_added_again(queue: WorkQueue[Any]) -> None:
    """K81: the same for an item that was delayed, limited, re-added while processed, and delivered to a thread."""
    gc.disable()
    try:
        item = Item()
        gone = weakref.ref(item)
        queue.add_after(item, 0)
        queue.add_after(item, 1000)
        queue.add_rate_limited(item)
        queue.add(item)
        del item

        def consume() -> None:
            for again in (True, False):
                item = queue.get(timeout=PATIENCE)
                if again:
                    queue.add(item)
                queue.done(item)
                queue.forget(item)

        with crew(consume):
            pass
        assert gone() is None
    finally:
        gc.enable()


def test_k81_requeues_are_counted_until_forgotten(queue: WorkQueue[Any]) -> None:
    """K81: num_requeues counts add_rate_limited for an item, and forget ends that; done does not."""
    assert queue.num_requeues("foo") == 0
    for times in (1, 2, 3):
        queue.add_rate_limited("foo")
        assert queue.num_requeues("foo") == times
    assert queue.get(timeout=PATIENCE) == "foo"
    queue.done("foo")
    assert (queue.num_requeues("foo"), queue.num_requeues("bar")) == (3, 0)
    queue.forget("foo")
    assert queue.num_requeues("foo") == 0
