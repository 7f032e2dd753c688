"""`prometheus.register`: what a scrape shows, for which queues, for how long, and what it says of mistakes."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from rate_envelope_queue import (
    AsyncEnvelopeQueue,
    CapacityExceededError,
    Envelope,
    EnvelopeQueue,
    StopEnvelope,
    retry_after,
)
from rate_envelope_queue.prometheus import LONG_TIMES, WORKQUEUE_TIMES, register, unregister
from rate_envelope_queue.testing import AsyncSimulatedEnvelopeQueue, SimulatedEnvelopeQueue
from rate_envelope_queue.workqueue import AsyncWorkQueue, WorkQueue

CLIENT_GO = {
    "workqueue_depth": "gauge",
    "workqueue_adds": "counter",
    "workqueue_queue_duration_seconds": "histogram",
    "workqueue_work_duration_seconds": "histogram",
    "workqueue_unfinished_work_seconds": "gauge",
    "workqueue_longest_running_processor_seconds": "gauge",
    "workqueue_retries": "counter",
}
OURS = {
    "envelope_queue_latency_seconds": "histogram",
    "envelope_queue_occupancy": "gauge",
    "envelope_queue_capacity": "gauge",
    "envelope_queue_workers": "gauge",
    "envelope_queue_abandoned_running": "gauge",
    "envelope_queue_entries": "gauge",
    "envelope_queue_state": "gauge",
    "envelope_queue_accepted": "counter",
    "envelope_queue_coalesced": "counter",
    "envelope_queue_refused": "counter",
    "envelope_queue_late": "counter",
    "envelope_queue_stuck": "counter",
    "envelope_queue_outcomes": "counter",
    "envelope_queue_runs": "counter",
    "envelope_queue_type_runs": "counter",
    "envelope_queue_type_run_seconds": "histogram",
}
MEASURED = {*CLIENT_GO, "envelope_queue_latency_seconds"} - {"workqueue_depth", "workqueue_retries"}
OF_TYPES = {"envelope_queue_type_runs", "envelope_queue_type_run_seconds"}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def scraped(registry: CollectorRegistry) -> Samples:
    """All samples, by name and labels; each is there once."""
    text = generate_latest(registry).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def value(registry: CollectorRegistry, metric: str, /, **labels: str) -> float | None:
    return scraped(registry).get((metric, frozenset(labels.items())))


def shown(registry: CollectorRegistry) -> set[str]:
    """The queues that are shown."""
    return {dict(labels).get("name", "") for _, labels in scraped(registry)}


def fails(ctx: Any, envelope: Any) -> None:
    raise ValueError("no")


def stops(ctx: Any, envelope: Any) -> None:
    raise StopEnvelope


def done(ctx: Any, envelope: Any) -> None: ...


# What is shown


def test_the_families_and_their_kinds(registry: CollectorRegistry) -> None:
    """11: these metrics of these kinds, each described, each with the label `name`."""
    queue = EnvelopeQueue("mail")
    register(queue, registry, types=["email"])
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert {family.name: family.type for family in families} == CLIENT_GO | OURS
    assert all(family.documentation for family in families)
    assert all(sample.labels["name"] == "mail" for family in families for sample in family.samples)
    assert {family.name for family in families if not family.samples} == {"envelope_queue_type_runs"}


@pytest.mark.parametrize("make", [WorkQueue, AsyncWorkQueue])
def test_of_a_work_queue_those_of_client_go(registry: CollectorRegistry, make: Callable[..., Any]) -> None:
    """11: a work queue has no phases and no outcomes."""
    queue = make("deployments")
    register(queue, registry)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    assert {family.name for family in families if family.samples} == set(CLIENT_GO)


def test_the_openmetrics_exposition(registry: CollectorRegistry) -> None:
    """11: the other format is valid, too, and says the same."""
    queue = SimulatedEnvelopeQueue("mail")
    register(queue, registry, types=["email"])
    run_a_mixture(queue)
    families = list(parse_openmetrics(generate_openmetrics(registry).decode()))
    samples = [sample for family in families for sample in family.samples]
    assert {(each.name, frozenset(each.labels.items())): each.value for each in samples} == scraped(registry)
    assert {family.name: family.type for family in families} == CLIENT_GO | OURS | {"envelope_queue_state": "stateset"}


def run_a_mixture(queue: SimulatedEnvelopeQueue) -> None:
    """A bit of everything; the queue is stopped."""
    once = Envelope(done, type="email")
    queue.send(once, once, Envelope(fails), Envelope(stops, type="sms"))
    queue.send(Envelope(fails, type="email", max_attempts=3, failure_hook=lambda *args: retry_after(0.001)))
    queue.send(Envelope(done), delay=3600)
    with pytest.raises(CapacityExceededError):
        queue.send(*[Envelope(done) for _ in range(1_000_000)])
    queue.start()
    queue.advance(10)
    queue.stop()


def test_it_is_what_the_queue_counts(registry: CollectorRegistry) -> None:
    """I-19: metrics equal the ledger when the queue is at rest."""
    queue = SimulatedEnvelopeQueue("mail")
    register(queue, registry)
    run_a_mixture(queue)
    stats, measured = queue.stats(), queue.measured()
    assert measured is not None
    expected: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        (f"envelope_queue_{name}_total", ()): getattr(stats, name)
        for name in ("accepted", "coalesced", "refused", "late")
    }
    for outcome in ("succeeded", "stopped", "dropped", "returned", "abandoned"):
        expected["envelope_queue_outcomes_total", (("outcome", outcome),)] = getattr(stats, outcome)
    for result in ("succeeded", "failed", "cancelled", "stopped", "abandoned"):
        expected["envelope_queue_runs_total", (("result", result),)] = getattr(stats, f"runs_{result}")
    for phase in ("buffered", "ready", "delayed", "running"):
        expected["envelope_queue_entries", (("phase", phase),)] = getattr(stats, phase)
    for state in ("init", "running", "stopping", "stopped", "terminated"):
        expected["envelope_queue_state", (("envelope_queue_state", state),)] = state == "stopped"
    expected |= {
        ("envelope_queue_occupancy", ()): 1, ("envelope_queue_capacity", ()): 1_000_000,
        ("envelope_queue_workers", ()): 4, ("envelope_queue_stuck_total", ()): 0,
        ("workqueue_depth", ()): 0, ("workqueue_adds_total", ()): measured.adds, ("workqueue_retries_total", ()): 2,
        ("workqueue_work_duration_seconds_count", ()): 6, ("envelope_queue_latency_seconds_count", ()): 6,
    }  # fmt: skip
    found = scraped(registry)
    assert {key: found[key[0], frozenset({("name", "mail"), *key[1]})] for key in expected} == expected
    assert (stats.refused, stats.retried, measured.adds) == (1_000_000, 2, 6)


@pytest.mark.parametrize(
    "make", [EnvelopeQueue, SimulatedEnvelopeQueue, AsyncEnvelopeQueue, AsyncSimulatedEnvelopeQueue]
)
def test_every_flavour(registry: CollectorRegistry, make: Callable[..., Any]) -> None:
    """11: `register` takes a queue of any flavour, before it is started."""
    queue = make("mail", capacity=None)
    register(queue, registry)
    queue.send(Envelope(done), Envelope(done))
    assert value(registry, "workqueue_depth", name="mail") == 2
    assert value(registry, "envelope_queue_capacity", name="mail") == float("inf")


def test_on_a_running_loop(registry: CollectorRegistry) -> None:
    """11: an asyncio queue is scraped from the thread of an exporter while it runs."""

    async def handler(ctx: Any, envelope: Any) -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        async with AsyncEnvelopeQueue("mail") as queue:
            register(queue, registry)
            for _ in range(20):
                queue.send(*[Envelope(handler) for _ in range(10)])
                await asyncio.to_thread(scraped, registry)
            await queue.join()
            assert value(registry, "workqueue_work_duration_seconds_count", name="mail") == 200
            unregister(queue, registry)

    asyncio.run(main())


def test_the_buckets_are_those_of_a_histogram(registry: CollectorRegistry) -> None:
    """11: exactly what a Histogram of prometheus_client with client-go's buckets would show, on and between bounds."""
    queue = SimulatedEnvelopeQueue("mail", workers=1)
    own, long = (
        prometheus_client.Histogram(name, "-", buckets=bounds, registry=CollectorRegistry())
        for name, bounds in (("own", WORKQUEUE_TIMES), ("long", LONG_TIMES))
    )
    register(queue, registry)
    queue.start()
    sent_at = queue.clock.now()
    for seconds in (0.0, 5e-8, 1e-5, 0.003, 0.01, 0.010001, 3.0, 999.0, 5000.0):
        queue.send(Envelope(lambda ctx, envelope: ctx.wait(envelope.payload), payload=seconds))
    queue.run_until_idle()
    began_at = sent_at
    for seconds in (0.0, 5e-8, 1e-5, 0.003, 0.01, 0.010001, 3.0, 999.0, 5000.0):
        ended_at = began_at + seconds
        own.observe(ended_at - began_at)
        long.observe(began_at - sent_at)
        began_at = ended_at
    queue.advance(10_000)
    for ours, theirs in (("workqueue_work_duration_seconds", own), ("envelope_queue_latency_seconds", long)):
        (family,) = theirs.collect()
        expected = {(s.name.partition("_")[2], s.labels.get("le")): s.value for s in family.samples}
        found = {
            (name.removeprefix(f"{ours}_"), dict(labels).get("le")): number
            for (name, labels), number in scraped(registry).items()
            if name.startswith(ours)
        }
        expected = {key: number for key, number in expected.items() if key[0] != "created"}
        assert found == pytest.approx(expected)


def test_stuck_runs_are_counted(registry: CollectorRegistry) -> None:
    """11: a stuck run is no entry of the ledger; it is counted as it is told."""
    queue = SimulatedEnvelopeQueue("mail", stuck_after=5)
    register(queue, registry)
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: ctx.queue.clock.sleep(60), deadline=1))
    queue.advance(100)
    assert value(registry, "envelope_queue_stuck_total", name="mail") == 1
    assert value(registry, "envelope_queue_late_total", name="mail") == 1


def test_abandoned_runs_that_go_on(registry: CollectorRegistry) -> None:
    """11: how many threads are held by runs that a stop gave up on."""
    queue = SimulatedEnvelopeQueue("mail")
    register(queue, registry)
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: ctx.queue.clock.sleep(60)))
    queue.run_until_idle()
    queue.stop(timeout=1, grace=1)
    assert value(registry, "envelope_queue_abandoned_running", name="mail") == 1
    queue.advance(100)
    assert value(registry, "envelope_queue_abandoned_running", name="mail") == 0


def test_the_types_on_the_list_and_all_others(registry: CollectorRegistry) -> None:
    """Security 9: labels are bounded: a type that is not on the list is "other", however many there are."""
    queue = SimulatedEnvelopeQueue("mail")
    register(queue, registry, types=["email", "sms"])
    queue.start()
    queue.send(*[Envelope(done, type=f"type {number}") for number in range(50)])
    queue.send(Envelope(fails, type="email"), Envelope(stops, type="sms"), Envelope(done))
    queue.send(Envelope(lambda ctx, envelope: ctx.wait(2) and ctx.check(), type="sms"))
    queue.advance(1)
    queue.terminate()
    runs = {
        (dict(labels)["type"], dict(labels)["result"]): number
        for (name, labels), number in scraped(registry).items()
        if name == "envelope_queue_type_runs_total"
    }
    assert runs == {("other", "succeeded"): 51, ("email", "failed"): 1, ("sms", "stopped"): 1, ("sms", "cancelled"): 1}
    counts = [value(registry, "envelope_queue_type_run_seconds_count", name="mail", type=t) for t in ("email", "sms")]
    assert counts == [1, 2]
    assert value(registry, "envelope_queue_type_run_seconds_sum", name="mail", type="sms") == 1


def test_an_abandoned_run_of_a_type(registry: CollectorRegistry) -> None:
    """11: a run that a stop gave up on is counted by type, too; how long it takes nobody knows."""
    queue = SimulatedEnvelopeQueue("mail")
    register(queue, registry, types=["email"])
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: ctx.queue.clock.sleep(60), type="email"))
    queue.run_until_idle()
    queue.stop(timeout=0, grace=0)
    assert value(registry, "envelope_queue_type_runs_total", name="mail", type="email", result="abandoned") == 1
    assert value(registry, "envelope_queue_type_run_seconds_count", name="mail", type="email") == 0


def test_without_histograms_nothing_is_measured(registry: CollectorRegistry) -> None:
    """11: `histograms=False` leaves the queue as quick as it is, and shows what can be read off its book."""
    queue = EnvelopeQueue("mail")
    register(queue, registry, histograms=False)
    queue.send(Envelope(done), Envelope(done))
    assert queue.measured() is None
    families = text_string_to_metric_families(generate_latest(registry).decode())
    assert {family.name for family in families if not family.samples} == MEASURED | OF_TYPES
    assert value(registry, "workqueue_depth", name="mail") == 2


# Several queues, and their ends


def test_several_queues_in_one_registry(registry: CollectorRegistry) -> None:
    """11: each under its name, of whatever kind, in one family; one can be taken away."""
    mail, sms, deployments = EnvelopeQueue("mail"), SimulatedEnvelopeQueue("sms"), WorkQueue[str]("deployments")
    for queue in (mail, sms, deployments):
        register(queue, registry)
    sms.send(Envelope(done))
    deployments.add("a")
    depths = {name: value(registry, "workqueue_depth", name=name) for name in ("mail", "sms", "deployments")}
    assert depths == {"mail": 0, "sms": 1, "deployments": 1}
    unregister(sms, registry)
    assert shown(registry) == {"mail", "deployments"}
    assert sms.measured() is None
    assert generate_latest(registry).count(b"# TYPE workqueue_depth") == 1


def test_a_queue_that_is_gone_is_not_shown(registry: CollectorRegistry) -> None:
    """11: a registry keeps no queue; and its name is free."""
    queue = EnvelopeQueue("mail")
    register(queue, registry)
    assert shown(registry) == {"mail"}
    del queue
    gc.collect()
    assert scraped(registry) == {}
    queue = EnvelopeQueue("mail")
    register(queue, registry)
    assert shown(registry) == {"mail"}


def test_unregister_leaves_nothing_behind(registry: CollectorRegistry) -> None:
    """11: nobody listens or measures any more, and the registry has the names free for others."""
    queue = EnvelopeQueue("mail")
    register(queue, registry, types=["email"])
    unregister(queue, registry)
    assert queue.measured() is None
    assert (queue._machine.told, queue._machine.times) == (frozenset(), None)
    prometheus_client.Gauge("workqueue_depth", "of somebody else", registry=registry)
    with pytest.raises(ValueError, match="not registered"):
        unregister(queue, registry)


def test_the_default_registry() -> None:
    """2: `register(queue)` is for prometheus_client's own registry."""
    queue = EnvelopeQueue("of the default registry")
    register(queue)
    assert "of the default registry" in shown(prometheus_client.REGISTRY)
    unregister(queue)
    assert prometheus_client.REGISTRY.get_sample_value("workqueue_depth", {"name": queue.name}) is None


def test_two_registries_measure_once_each(registry: CollectorRegistry) -> None:
    """11: the queue measures until the last registry lets it go."""
    queue, other = EnvelopeQueue("mail"), CollectorRegistry()
    register(queue, registry)
    register(queue, other)
    unregister(queue, registry)
    assert queue.measured() is not None
    assert shown(other) == {"mail"}
    unregister(queue, other)
    assert queue.measured() is None


# Mistakes


def test_registering_twice(registry: CollectorRegistry) -> None:
    """11: a queue that is there already, and another of its name, are refused, and nothing has changed."""
    queue = EnvelopeQueue("mail")
    register(queue, registry)
    with pytest.raises(ValueError, match="'mail': it is registered there already"):
        register(queue, registry)
    with pytest.raises(ValueError, match="another queue of that name"):
        register(EnvelopeQueue("mail"), registry)
    with pytest.raises(ValueError, match="not registered"):
        unregister(EnvelopeQueue("mail"), registry)
    assert shown(registry) == {"mail"}
    unregister(queue, registry)
    assert queue.measured() is None


@pytest.mark.parametrize(
    ("queue", "options", "error", "message"),
    [
        (None, {}, TypeError, "a queue of this package, not NoneType"),
        (EnvelopeQueue, {}, TypeError, "a queue of this package, not type"),
        (WorkQueue(), {}, ValueError, "the name of the queue must be text"),
        (EnvelopeQueue("\ud800"), {}, ValueError, r"'\\ud800'"),
        (EnvelopeQueue("mail"), {"types": "email"}, TypeError, "not one str"),
        (EnvelopeQueue("mail"), {"types": [1]}, TypeError, "a type must be a str, not int"),
        (EnvelopeQueue("mail"), {"types": [""]}, ValueError, "a type must be text"),
        (WorkQueue("items"), {"types": ["email"]}, ValueError, "a work queue has no types"),
        (WorkQueue("items"), {"histograms": False}, ValueError, "a work queue has no types"),
    ],
)
def test_what_cannot_be_shown(
    registry: CollectorRegistry, queue: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """2: what cannot be shown is refused, naming it, and nothing has changed."""
    with pytest.raises(error, match=message):
        register(queue, registry, **options)
    assert list(registry.collect()) == []


def test_a_registry_that_has_such_metrics_from_elsewhere(registry: CollectorRegistry) -> None:
    """11: two collectors of one name would make a scrape that nobody can read: the registry refuses it."""
    prometheus_client.Gauge("workqueue_depth", "of somebody else", registry=registry)
    queue = EnvelopeQueue("mail")
    with pytest.raises(ValueError, match="workqueue_depth"):
        register(queue, registry)
    assert queue.measured() is None


class BrokenClock:
    """The clock of a service, which fails."""

    is_broken = False

    def now(self) -> float:
        if self.is_broken:
            raise OSError("no clock\nforged")
        return 1.0

    def wall_utc(self) -> Any:
        raise NotImplementedError


def test_a_queue_that_cannot_be_read_hides_no_other(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """9: the clock of one queue raises: the others are shown, and the log says which is not."""
    clock = BrokenClock()
    broken, other = EnvelopeQueue("bro\nken", clock=clock), EnvelopeQueue("other")
    register(broken, registry)
    register(other, registry)
    clock.is_broken = True
    assert shown(registry) == {"other"}
    (record,) = caplog.records
    assert record.getMessage() == r"queue 'bro\nken' shows no metrics: OSError"
    clock.is_broken = False
    assert shown(registry) == {"other", "bro\nken"}


def test_names_are_escaped_where_they_are_shown(registry: CollectorRegistry) -> None:
    """Security 8: a name forges no line of the exposition."""
    queue = EnvelopeQueue('a"} 1\nforged{x="')
    register(queue, registry)
    assert shown(registry) == {queue.name}
    assert not [line for line in generate_latest(registry).decode().splitlines() if line.startswith("forged")]


# At the same time


def test_scrapes_while_the_queue_works(registry: CollectorRegistry) -> None:
    """11: scrapes from several threads while workers run and queues come and go: counters never go back."""
    queue = EnvelopeQueue("mail", workers=4)
    register(queue, registry, types=["email"])
    over = threading.Event()
    wrong: list[Any] = []

    def scrape() -> None:
        last = 0.0
        while not over.is_set():
            try:
                found = scraped(registry)
                now = sum(number for (name, _), number in found.items() if name.endswith(("_total", "_count")))
                if now < last:
                    wrong.append((last, now))
                last = now
            except Exception as error:
                wrong.append(error)

    def come_and_go() -> None:
        while not over.is_set():
            other = EnvelopeQueue("guest")
            register(other, CollectorRegistry())
            other.send(Envelope(done))

    threads = [threading.Thread(target=target) for target in (scrape, scrape, come_and_go)]
    for thread in threads:
        thread.start()
    with queue:
        for number in range(3000):
            queue.send(Envelope(done if number % 100 else fails, type="email"))
        queue.join()
    over.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert value(registry, "envelope_queue_type_run_seconds_count", name="mail", type="email") == 3000
    assert value(registry, "workqueue_queue_duration_seconds_count", name="mail") == 3000
