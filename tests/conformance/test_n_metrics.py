"""N: the metrics of client-go, as a scrape shows them, on a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rate_envelope_queue import Envelope, retry_after
from rate_envelope_queue.prometheus import register
from rate_envelope_queue.testing import AsyncSimulatedEnvelopeQueue, SimulatedEnvelopeQueue, VirtualClock
from rate_envelope_queue.workqueue import AsyncWorkQueue, ExponentialBackoff, WorkQueue

US = 1e-6


class Scraped:
    """What is scraped of one queue, parsed by prometheus_client's own parser."""

    def __init__(self, queue: Any) -> None:
        self.registry = CollectorRegistry()
        self.name = queue.name
        register(queue, self.registry)

    def __getitem__(self, wanted: str) -> float:
        text = generate_latest(self.registry).decode()
        (value,) = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"workqueue_{wanted}" and sample.labels == {"name": self.name}
        ]
        return value


class Blocking:
    """A work queue of either flavour, whose `get` is a plain call."""

    def __init__(self, flavour: Any) -> None:
        self.clock = VirtualClock()
        self.queue = flavour("deployments", clock=self.clock, limiter=ExponentialBackoff(1, 1000))
        self.scraped = Scraped(self.queue)

    def get(self) -> Any:
        if isinstance(self.queue, AsyncWorkQueue):
            return asyncio.run(self.queue.get(timeout=0))
        return self.queue.get(timeout=0)


@pytest.fixture(params=[WorkQueue, AsyncWorkQueue], ids=["threads", "asyncio"])
def it(request: pytest.FixtureRequest) -> Blocking:
    return Blocking(request.param)


def test_n93_add(it: Blocking) -> None:
    """N93: add -> adds 1, depth 1."""
    it.queue.add("foo")
    assert (it.scraped["adds_total"], it.scraped["depth"]) == (1, 1)
    it.queue.add("foo")
    assert (it.scraped["adds_total"], it.scraped["depth"]) == (1, 1)


def test_n94_get(it: Blocking) -> None:
    """N94: 50 us later, get -> one queue-duration observation of 50 us, depth 0."""
    it.queue.add("foo")
    it.clock.advance(50 * US)
    assert it.get() == "foo"
    assert it.scraped["queue_duration_seconds_count"] == 1
    assert it.scraped["queue_duration_seconds_sum"] == pytest.approx(50 * US)
    assert (it.scraped["adds_total"], it.scraped["depth"]) == (1, 0)


def test_n95_five_adds_while_processing(it: Blocking) -> None:
    """N95: five adds while processing -> adds 2, depth 1; the second wait counts from the first of them."""
    it.queue.add("foo")
    item = it.get()
    for _ in range(5):
        it.queue.add(item)
    assert (it.scraped["adds_total"], it.scraped["depth"]) == (2, 1)
    it.clock.advance(25 * US)
    it.queue.done(item)
    assert (it.scraped["adds_total"], it.scraped["depth"]) == (2, 1)
    assert it.get() == "foo"
    assert it.scraped["queue_duration_seconds_count"] == 2
    assert it.scraped["queue_duration_seconds_sum"] == pytest.approx(25 * US)


def test_n96_done(it: Blocking) -> None:
    """N96: 25 us later, done -> one work-duration observation of 25 us."""
    it.queue.add("foo")
    item = it.get()
    it.clock.advance(25 * US)
    assert it.scraped["work_duration_seconds_count"] == 0
    it.queue.done(item)
    assert it.scraped["work_duration_seconds_count"] == 1
    assert it.scraped["work_duration_seconds_sum"] == pytest.approx(25 * US)


def test_n97_unfinished_and_longest_running(it: Blocking) -> None:
    """N97: unfinished and longest-running follow the clock."""
    it.queue.add("foo")
    it.queue.add("bar")
    first = it.get()
    it.clock.advance(0.001)
    assert (it.scraped["unfinished_work_seconds"], it.scraped["longest_running_processor_seconds"]) == (0.001, 0.001)
    second = it.get()
    it.clock.advance(0.002)
    assert it.scraped["unfinished_work_seconds"] == pytest.approx(0.005)
    assert it.scraped["longest_running_processor_seconds"] == pytest.approx(0.003)
    it.queue.done(first)
    assert it.scraped["unfinished_work_seconds"] == pytest.approx(0.002)
    it.queue.done(second)
    assert (it.scraped["unfinished_work_seconds"], it.scraped["longest_running_processor_seconds"]) == (0, 0)
    assert it.scraped["work_duration_seconds_sum"] == pytest.approx(0.005)


def test_n97_what_is_delayed_is_added_when_it_is_due(it: Blocking) -> None:
    """N97: `add_after` and `add_rate_limited` are retries, and adds once they are due; then the wait begins."""
    it.queue.add_after("foo", 10)
    it.queue.add_rate_limited("bar")
    assert (it.scraped["retries_total"], it.scraped["adds_total"], it.scraped["depth"]) == (2, 0, 0)
    it.clock.advance(4)
    assert it.scraped["depth"] == 1
    assert it.get() == "bar"
    it.clock.advance(8)
    assert it.get() == "foo"
    assert (it.scraped["adds_total"], it.scraped["queue_duration_seconds_sum"]) == (2, 3 + 2)
    it.queue.shut_down()
    it.queue.add_after("foo", 10)
    assert it.scraped["retries_total"] == 2


def start(queue: Any) -> None:
    started = queue.start()
    if started is not None:
        asyncio.run(started)


@pytest.fixture(params=[SimulatedEnvelopeQueue, AsyncSimulatedEnvelopeQueue], ids=["threads", "asyncio"])
def queue(request: pytest.FixtureRequest) -> Any:
    return request.param("reports")


def test_n98_a_periods_next_run_is_no_retry(queue: Any) -> None:
    """N98: a periodic's next run is not counted as a retry, though it failed."""
    scraped = Scraped(queue)

    def fails(ctx: Any, envelope: Any) -> None:
        raise ValueError

    queue.send(Envelope.every(10, fails), Envelope.every(10, lambda ctx, envelope: None))
    start(queue)
    queue.advance(35)
    assert (scraped["retries_total"], scraped["adds_total"]) == (0, 8)


def test_n98_a_retry_is_one(queue: Any) -> None:
    """N98: a retry of a one-off is counted as a retry, and as an add when it is due."""
    scraped = Scraped(queue)

    def fails(ctx: Any, envelope: Any) -> None:
        if ctx.attempt < 3:
            raise ValueError

    queue.send(Envelope(fails, failure_hook=lambda *args: retry_after(5)))
    start(queue)
    queue.advance(3)
    assert (scraped["retries_total"], scraped["adds_total"], scraped["depth"]) == (1, 1, 0)
    queue.advance(60)
    assert (scraped["retries_total"], scraped["adds_total"]) == (2, 3)
    assert scraped["work_duration_seconds_count"] == 3
