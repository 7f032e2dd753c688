"""Metrics for Prometheus: `register(queue)`. Needs the extra `prometheus` (prometheus_client).

The names of client-go's workqueue, so that dashboards made for controllers work as they are, and more of our own. All
is read at the scrape, off the queue's book; between two scrapes only the times of runs are kept.
"""

from __future__ import annotations

import logging
import threading
import weakref
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.registry import Collector

from . import Histogram, Measured, Outcome, QueueState, QueueStats
from .events import Abandoned, Cancelled, Failed, Observer, Stopped, Stuck, Succeeded

if TYPE_CHECKING:
    from . import AsyncEnvelopeQueue, EnvelopeQueue
    from .workqueue import AsyncWorkQueue, WorkQueue

    Queue = EnvelopeQueue | AsyncEnvelopeQueue | WorkQueue[Any] | AsyncWorkQueue[Any]

__all__ = ["OTHER", "register", "unregister"]

log = logging.getLogger("rate_envelope_queue")

OTHER = "other"  # the label of every type that is not on the list
LONG_TIMES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10000.0)
RESULTS = ("succeeded", "failed", "cancelled", "stopped", "abandoned")
PHASES = ("buffered", "ready", "delayed", "running")


def _decades() -> tuple[float, ...]:
    """The buckets of controller-runtime, `ExponentialBuckets(10e-9, 10, 12)`, which hold those of Kubernetes."""
    return tuple(accumulate([10e-9, *[10.0] * 11], lambda bound, factor: bound * factor))


WORKQUEUE_TIMES = _decades()


def register(
    queue: Queue,
    registry: CollectorRegistry | None = None,
    *,
    histograms: bool = True,
    types: Iterable[str] = (),
) -> None:
    """Have *registry* (None: the default one) show the metrics of *queue*, each with the label `name`.

    Any queue of this package, running or not; of a work queue, client-go's metrics alone. Nothing keeps the queue: with
    it, its metrics go. *histograms* has the queue measure how long entries wait and runs take, which costs each entry
    two readings of the clock; without it there are no adds, histograms and running times. *types* are the envelope
    types that get metrics of their own, all others are counted as "other"; listening to every run then costs each some
    microseconds.

    Undo it by `unregister`, which also ends the costs. Raises TypeError for what is no queue; ValueError for a queue
    that is registered there already, one with the name of another, or one without a name; what the registry raises when
    it has metrics of these names from elsewhere.

    >>> from prometheus_client import CollectorRegistry
    >>> from rate_envelope_queue import Envelope, EnvelopeQueue
    >>> registry, queue = CollectorRegistry(), EnvelopeQueue("mail")
    >>> register(queue, registry)
    >>> queue.send(Envelope(print))
    1
    >>> registry.get_sample_value("workqueue_depth", {"name": "mail"})
    1
    """
    source = _Source(queue, histograms=histograms, types=types)
    where = REGISTRY if registry is None else registry
    with _lock:
        collector = _collectors.get(where)
        if collector is None:
            collector = _Collector()
            where.register(collector)
            _collectors[where] = collector
        collector.add(source)


def unregister(queue: Queue, registry: CollectorRegistry | None = None) -> None:
    """Undo `register`: *registry* shows *queue* no more. ValueError when it does not."""
    where = REGISTRY if registry is None else registry
    with _lock:
        collector = _collectors.get(where)
        if collector is None or not collector.remove(queue):
            raise ValueError(f"{queue!r} is not registered there")
        if collector.is_empty():
            where.unregister(collector)
            del _collectors[where]


_lock = threading.RLock()
_collectors: weakref.WeakKeyDictionary[CollectorRegistry, _Collector] = weakref.WeakKeyDictionary()


class _ByType(Observer):
    """Counts runs, and how long they took, for each of the types on the list. It knows no queue."""

    def __init__(self, types: Iterable[str]) -> None:
        self._types = frozenset(types)
        self._lock = threading.RLock()
        self._runs: Counter[tuple[str, str]] = Counter()  # (type, result)
        self._counts = {name: [0] * (len(LONG_TIMES) + 1) for name in (*sorted(self._types), OTHER)}
        self._seconds = dict.fromkeys(self._counts, 0.0)

    def _count(self, result: str, event: Any, duration: float | None) -> None:
        type_ = event.envelope.type
        name = type_ if type_ in self._types else OTHER
        with self._lock:
            self._runs[name, result] += 1
            if duration is not None:
                self._counts[name][bisect_left(LONG_TIMES, duration)] += 1
                self._seconds[name] += duration

    def on_succeeded(self, event: Succeeded) -> None:
        self._count("succeeded", event, event.duration)

    def on_failed(self, event: Failed) -> None:
        self._count("failed", event, event.duration)

    def on_stopped(self, event: Stopped) -> None:
        self._count("stopped", event, event.duration)

    def on_cancelled(self, event: Cancelled) -> None:
        self._count("cancelled", event, event.duration)

    def on_abandoned(self, event: Abandoned) -> None:
        self._count("abandoned", event, None)

    def copies(self) -> tuple[dict[tuple[str, str], int], dict[str, Histogram]]:
        """Runs by type and result, and their durations by type, at one moment."""
        with self._lock:
            durations = {
                name: Histogram(LONG_TIMES, tuple(counts), self._seconds[name]) for name, counts in self._counts.items()
            }
            return dict(self._runs), durations


class _StuckRuns(Observer):
    """Counts stuck runs, which no book does."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.count = 0

    def on_stuck(self, event: Stuck) -> None:
        with self._lock:
            self.count += 1


class _View(NamedTuple):
    """What one queue shows at one scrape."""

    name: str
    stats: QueueStats | None  # of a work queue: None
    capacity: float
    measured: Measured | None
    stuck: int
    by_type: tuple[dict[tuple[str, str], int], dict[str, Histogram]]


class _Source:
    """One queue: what is read off it, and what listens to it. It does not keep the queue."""

    def __init__(self, queue: Queue, *, histograms: bool, types: Iterable[str]) -> None:
        if isinstance(queue, type) or not callable(getattr(queue, "start_measuring", None)):
            raise TypeError(f"register() takes a queue of this package, not {type(queue).__name__}")
        self.name = _label(queue.name, "the name of the queue")
        self._queue = weakref.ref(queue)
        self._measures = histograms
        self._stuck = _StuckRuns()
        self._by_type = _by_type(types)
        self._observers: list[Observer] = []
        if hasattr(queue, "add_observer"):
            self._observers = [self._stuck] if self._by_type is None else [self._stuck, self._by_type]
        elif self._by_type is not None or not histograms:
            raise ValueError("a work queue has no types, and no metrics but those that it measures")

    @property
    def queue(self) -> Any:
        """The queue, or None once it is gone."""
        return self._queue()

    def begin(self) -> None:
        """Listen and measure."""
        queue = self.queue
        for observer in self._observers:
            queue.add_observer(observer)
        if self._measures:
            queue.start_measuring()

    def end(self) -> None:
        """Listen and measure no more."""
        queue = self.queue
        for observer in self._observers:
            queue.remove_observer(observer)
        if self._measures:
            queue.stop_measuring()

    def look(self) -> _View | None:
        """What it shows now. None when the queue is gone, or cannot be asked, as in the child of a fork."""
        queue = self.queue
        if queue is None:
            return None
        stats, capacity = None, None
        try:
            if self._observers:
                stats, capacity = queue.stats(), queue.capacity
            measured = queue.measured() if self._measures else None
        except Exception as error:  # a user's clock, or a signal handler that interrupted it: the others are shown
            log.warning("queue %r shows no metrics: %s", self.name[:100], type(error).__name__)
            return None
        by_type = ({}, {}) if self._by_type is None else self._by_type.copies()
        return _View(self.name, stats, inf if capacity is None else capacity, measured, self._stuck.count, by_type)


def _by_type(types: Iterable[str]) -> _ByType | None:
    if isinstance(types, str):
        raise TypeError("types must be a sequence of envelope types, not one str")
    listed = [_label(name, "a type") for name in types]
    return _ByType(listed) if listed else None


def _label(value: object, what: str) -> str:
    """*value* as the value of a label, which goes out as UTF-8."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    if not value or value.encode("utf-8", "replace").decode() != value:
        raise ValueError(f"{what} must be text that is not empty, to be shown: it is {value[:50]!a}")
    return value


class _Collector(Collector):
    """All queues of one registry, family by family."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}

    def add(self, source: _Source) -> None:
        """Show one more."""
        there = self._sources.get(source.name)
        if there is not None and there.queue is not None:
            what = "it" if there.queue is source.queue else "another queue of that name"
            raise ValueError(f"queue {source.name[:100]!r}: {what} is registered there already")
        source.begin()
        self._sources[source.name] = source

    def remove(self, queue: Queue) -> bool:
        """Show *queue* no more. False when it was not shown."""
        source = self._sources.get(queue.name)
        if source is None or source.queue is not queue:
            return False
        del self._sources[queue.name]
        source.end()
        return True

    def is_empty(self) -> bool:
        """Whether no queue is left."""
        return all(source.queue is None for source in list(self._sources.values()))

    def describe(self) -> Iterator[Metric]:
        """The families, so that a registry notices when it has others of these names."""
        return _families([])

    def collect(self) -> Iterator[Metric]:
        """All that there is to show."""
        views = []
        for source in list(self._sources.values()):
            view = source.look()
            if view is not None:
                views.append(view)
            elif source.queue is None and self._sources.get(source.name) is source:
                del self._sources[source.name]
        return _families(views)


def _families(views: Sequence[_View]) -> Iterator[Metric]:
    yield from _of_clientgo(views)
    of_queues = [(view, view.stats) for view in views if view.stats is not None]
    yield from _gauges(of_queues)
    yield from _counters(of_queues)
    yield from _of_types(views)


def _of_clientgo(views: Sequence[_View]) -> Iterator[Metric]:
    """Those of client-go, by its names."""
    depth = GaugeMetricFamily("workqueue_depth", "Entries that wait to be run now", labels=["name"])
    adds = CounterMetricFamily("workqueue_adds", "How often an entry became ready to run", labels=["name"])
    retries = CounterMetricFamily("workqueue_retries", "How often a failed entry was to run again", labels=["name"])
    unfinished = GaugeMetricFamily(
        "workqueue_unfinished_work_seconds", "How long all that runs has been running, in sum", labels=["name"]
    )
    longest = GaugeMetricFamily(
        "workqueue_longest_running_processor_seconds", "How long the longest run has been running", labels=["name"]
    )
    waited = _histogram("workqueue_queue_duration_seconds", "How long an entry was ready before its run began")
    ran = _histogram("workqueue_work_duration_seconds", "How long a run took, hooks included")
    latency = _histogram(
        "envelope_queue_latency_seconds", "From the send to the start of each run, delays and backoff included"
    )
    for view in views:
        measured, stats = view.measured, view.stats
        if measured is not None:
            depth.add_metric([view.name], measured.depth)
            adds.add_metric([view.name], measured.adds)
            retries.add_metric([view.name], measured.retries)
            unfinished.add_metric([view.name], measured.unfinished)
            longest.add_metric([view.name], measured.longest)
            waited.add_metric([view.name], *_buckets(measured.waited, WORKQUEUE_TIMES))
            ran.add_metric([view.name], *_buckets(measured.ran, WORKQUEUE_TIMES))
            if stats is not None:
                latency.add_metric([view.name], *_buckets(measured.latency, LONG_TIMES))
        elif stats is not None:
            depth.add_metric([view.name], stats.ready + stats.buffered)
            retries.add_metric([view.name], stats.retried)
    yield from (depth, adds, retries, unfinished, longest, waited, ran, latency)


def _gauges(views: Sequence[tuple[_View, QueueStats]]) -> Iterator[Metric]:
    """What there is now."""
    entries = GaugeMetricFamily("envelope_queue_entries", "Entries in the queue, by phase", labels=["name", "phase"])
    state = StateSetMetricFamily("envelope_queue_state", "Where the queue is in its life", labels=["name"])
    gauges = {
        "occupancy": "Entries in the queue, in whatever phase",
        "capacity": "The most entries at a time",
        "workers": "How many runs may go on at a time",
        "abandoned_running": "Abandoned runs that still go on",
    }
    families = {
        name: GaugeMetricFamily(f"envelope_queue_{name}", text, labels=["name"]) for name, text in gauges.items()
    }
    for view, stats in views:
        families["occupancy"].add_metric([view.name], stats.occupancy)
        families["capacity"].add_metric([view.name], view.capacity)
        families["workers"].add_metric([view.name], stats.workers)
        families["abandoned_running"].add_metric([view.name], stats.runs_abandoned - stats.abandoned_ended)
        for phase in PHASES:
            entries.add_metric([view.name, phase], getattr(stats, phase))
        state.add_metric([view.name], {each.value: each is stats.state for each in QueueState})
    yield from (*families.values(), entries, state)


def _counters(views: Sequence[tuple[_View, QueueStats]]) -> Iterator[Metric]:
    """What there was since the queue was made, as its ledger has it."""
    counters = {
        "accepted": "Entries taken in",
        "coalesced": "Sends that merged into an entry that was there",
        "refused": "Envelopes not taken in",
        "late": "Runs that succeeded after their deadline",
    }
    for name, text in counters.items():
        family = CounterMetricFamily(f"envelope_queue_{name}", text, labels=["name"])
        for view, stats in views:
            family.add_metric([view.name], getattr(stats, name))
        yield family
    stuck = CounterMetricFamily("envelope_queue_stuck", "Runs reported as stuck", labels=["name"])
    outcomes = CounterMetricFamily("envelope_queue_outcomes", "Entries ended, by outcome", labels=["name", "outcome"])
    runs = CounterMetricFamily("envelope_queue_runs", "Runs ended, by result", labels=["name", "result"])
    for view, stats in views:
        stuck.add_metric([view.name], view.stuck)
        for outcome in Outcome:
            outcomes.add_metric([view.name, outcome.value], getattr(stats, outcome.value))
        for result in RESULTS:
            runs.add_metric([view.name, result], getattr(stats, f"runs_{result}"))
    yield from (stuck, outcomes, runs)


def _of_types(views: Sequence[_View]) -> Iterator[Metric]:
    """Of the types on the lists."""
    labels = ["name", "type"]
    runs = CounterMetricFamily("envelope_queue_type_runs", "Runs ended, by type and result", labels=[*labels, "result"])
    durations = HistogramMetricFamily("envelope_queue_type_run_seconds", "How long runs took, by type", labels=labels)
    for view in views:
        for (type_, result), number in sorted(view.by_type[0].items()):
            runs.add_metric([view.name, type_, result], number)
        for type_, histogram in view.by_type[1].items():
            durations.add_metric([view.name, type_], *_buckets(histogram, LONG_TIMES))
    yield from (runs, durations)


def _histogram(name: str, text: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, text, labels=["name"])


def _buckets(histogram: Histogram, bounds: Sequence[float]) -> tuple[list[tuple[str, float]], float]:
    """The cumulative buckets of *histogram* at *bounds*, which are among its own, and its sum."""
    below = [0, *accumulate(histogram.counts)]
    found = [(repr(bound), float(below[bisect_right(histogram.bounds, bound)])) for bound in bounds]
    return [*found, ("+Inf", float(below[-1]))], histogram.total
