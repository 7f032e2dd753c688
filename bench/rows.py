"""The rows of the target table: what is set against what, how much of it, and which ratio is asked for.

Targets are those of the pure Python core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import contestants as who
from . import loops, subprocesses
from .measure import Samples, alternate, percentile
from .table import Row

CREWS = (1, 4, 64)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int = 7
    share: float = 1.0  # of the usual number of items
    delayed: int = 1_000_000

    def of(self, count: int) -> int:
        return max(1_000, int(count * self.share) // 100 * 100)


def workers_text(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"


def noop_simplequeue(effort: Effort) -> list[Row]:
    """Prebuilt envelopes against prebuilt tuples."""
    count, rows = effort.of(100_000), []
    for workers, target in zip(CREWS, (10, 10, 5), strict=True):
        found = alternate(
            {"ours": who.sends(workers, who.plain_envelope, count), "theirs": who.simple_queue(workers, count)},
            effort.rounds,
        )
        rows.append(
            Row(
                f"noop-simplequeue-{workers}",
                f"no-op, {workers_text(workers)}",
                "us",
                found["ours"],
                found["theirs"],
                "SimpleQueue",
                target=target,
            )
        )
    return rows


def built_simplequeue(effort: Effort) -> list[Row]:
    """Envelopes and tuples that are built inside the timing."""
    count, rows = effort.of(50_000), []
    for workers in CREWS:
        found = alternate(
            {"ours": who.builds(workers, count), "theirs": who.simple_queue(workers, count, build=True)}, effort.rounds
        )
        rows.append(
            Row(
                f"built-simplequeue-{workers}",
                f"no-op, built too, {workers_text(workers)}",
                "us",
                found["ours"],
                found["theirs"],
                "SimpleQueue",
            )
        )
    return rows


def batches(effort: Effort) -> list[Row]:
    """A hundred envelopes a `send`, against one."""
    count, rows = effort.of(50_000), []
    for workers in CREWS:
        found = alternate(
            {
                "ours": who.sends_in_batches(workers, count, 100),
                "theirs": who.sends(workers, who.plain_envelope, count),
            },
            effort.rounds,
        )
        rows.append(
            Row(
                f"batch-{workers}",
                f"no-op, sent by 100, {workers_text(workers)}",
                "us",
                found["ours"],
                found["theirs"],
                "sent singly",
            )
        )
    found = alternate({"ours": who.only_sends(count, 100), "theirs": who.only_sends(count, 1)}, effort.rounds)
    rows.append(
        Row(
            "batch-send", "the send alone, by 100", "us", found["ours"], found["theirs"], "sent singly", note=SEND_ALONE
        )
    )
    return rows


SEND_ALONE = "the send alone: per envelope, into a paused queue, so that no worker competes"


def noop_executor(effort: Effort) -> list[Row]:
    """No-op tasks against `ThreadPoolExecutor.submit`."""
    count, rows = effort.of(20_000), []
    for workers in CREWS:
        found = alternate(
            {
                "ours": who.sends(workers, who.plain_envelope, count),
                "built": who.builds(workers, count),
                "theirs": who.executor(workers, who.noop, int, count),
            },
            effort.rounds,
        )
        for name, target in (("ours", 7.0), ("built", None)):
            rows.append(
                Row(
                    f"noop-executor-{workers}{'-built' if name == 'built' else ''}",
                    f"no-op{', built too' if name == 'built' else ''}, {workers_text(workers)}",
                    "us",
                    found[name],
                    found["theirs"],
                    "executor",
                    kind="speed",
                    target=target,
                )
            )
    return rows


def everything(effort: Effort) -> list[Row]:
    """Everything on, against a bare loop and against an executor that call the same functions."""
    count = effort.of(20_000)
    by_loop, by_executor = [], []
    for workers in CREWS:
        found = alternate(
            {
                "ours": who.sends(workers, who.full_envelope, count),
                "loop": who.bare_loop(count),
                "executor": who.executor(workers, who.full_by_hand, who.full_envelope, count),
            },
            effort.rounds,
        )
        title = f"everything on, {workers_text(workers)}"
        by_loop.append(
            Row(f"everything-loop-{workers}", title, "us", found["ours"], found["loop"], "bare loop", target=16)
        )
        by_executor.append(
            Row(
                f"everything-executor-{workers}",
                title,
                "us",
                found["ours"],
                found["executor"],
                "executor",
                kind="speed",
                target=3,
            )
        )
    return by_loop + by_executor


def sending(effort: Effort) -> list[Row]:
    """What a send costs by itself: a periodic built and sent, and one envelope sent over and over."""
    periodic, same = effort.of(5_000), effort.of(200_000)
    found = alternate(
        {
            "quiet": who.periodic_sends(periodic, paused=True),
            "busy": who.periodic_sends(periodic, paused=False),
            "same": who.same_envelope(64, same),
        },
        effort.rounds,
    )
    return [
        Row("periodic-send", "build and send an 11 ms periodic", "us", found["quiet"], note=PERIODIC),
        Row("periodic-send-busy", "the same, 4 workers running them", "us", found["busy"]),
        Row(
            "same-envelope",
            "same envelope over and over, 64 workers",
            "us",
            found["same"],
            kind="figure",
            target=0.8,
        ),
    ]


PERIODIC = (
    "the periodic has four hooks and a stamp; the first row's queue is paused, the second's workers run meanwhile"
)


def hand_off(effort: Effort) -> list[Row]:
    """From send to invoke when everybody is idle."""
    count = max(100, effort.of(2_000) // effort.rounds)
    found: dict[str, list[list[float]]] = {"ours": [], "executor": []}
    for _ in range(effort.rounds):
        for name, values in who.hand_offs(count).items():
            found[name].append(values)

    def of(name: str, share: float) -> Samples:
        return Samples(tuple(percentile(values, share) for values in found[name]))

    note = f"4 workers, idle 1 ms before each, in turn, {effort.rounds} x {count} hand-offs each"
    return [
        Row(
            "handoff-p50",
            "send to invoke, idle, p50",
            "us",
            of("ours", 0.5),
            of("executor", 0.5),
            "executor",
            target=0.7,
            note=note,
        ),
        Row("handoff-p99", "send to invoke, idle, p99", "us", of("ours", 0.99), of("executor", 0.99), "executor"),
    ]


def delayed(effort: Effort) -> list[Row]:
    """Memory of a million delayed envelopes, and whether the price of one grows with their number."""
    top = effort.delayed
    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= top]
    memory = subprocesses.memory(top, 1)  # four runs agreed within a byte
    costs = subprocesses.costs(sizes, 5)
    rows = [
        Row("delayed-bytes", f"{top:,} delayed, each", "B", memory["bytes"], kind="figure", target=480, note=MEMORY),
        Row("delayed-send", "build and send one of them", "us", memory["send"]),
    ]
    rows += [Row(f"delayed-add-{size}", f"add one at {size:,}", "us", costs[size]["add"]) for size in sizes]
    rows += [
        Row(f"delayed-pop-{size}", f"pop one at {size:,}", "us", found["pop"], found["bare pop"], "bare heapq")
        for size, found in costs.items()
    ]
    for verb, target in (("add", 2.0), ("pop", 2.0), ("bare pop", None)):
        middles = {size: costs[size][verb].median for size in sizes}
        dearest, cheapest = max(middles, key=middles.__getitem__), min(middles, key=middles.__getitem__)
        title = f"{verb}: dearest size over cheapest".replace("bare pop", "pop of a bare heapq")
        ours, theirs = costs[dearest][verb], costs[cheapest][verb]
        key = f"delayed-{verb.replace(' ', '-')}-flat"
        rows.append(Row(key, title, "us", ours, theirs, f"at {cheapest:,}", target=target, note=COSTS))
    return rows


MEMORY = (
    "growth of the process's resident memory over the number of envelopes, each built and sent with a delay of its own "
    "to a running queue, in a fresh process"
)
COSTS = subprocesses.COSTS


def loop(effort: Effort) -> list[Row]:
    """On asyncio: against `asyncio.Queue` with tasks that await the same functions, and how long a turn takes."""
    plain, full = effort.of(50_000), effort.of(20_000)
    noop = alternate(
        {
            "ours": loops.sends(loops.plain_envelope, plain),
            "queue": loops.asyncio_queue(loops.noop, loops.plain_envelope, plain),
            "bare": loops.bare_awaits(plain),
        },
        effort.rounds,
    )
    everything = alternate(
        {
            "ours": loops.sends(loops.full_envelope, full),
            "queue": loops.asyncio_queue(loops.full_by_hand, loops.full_envelope, full),
        },
        effort.rounds,
    )
    turns = [loops.stalls(effort.of(100_000)) for _ in range(effort.rounds)]
    against = "asyncio.Queue"
    return [
        Row("asyncio-noop", "no-op, 64 workers", "us", noop["ours"], noop["queue"], against, kind="speed", target=1.4),
        Row("asyncio-noop-bare", "the same", "us", noop["ours"], noop["bare"], "bare awaits"),
        Row(
            "asyncio-everything",
            "everything on, 64 workers",
            "us",
            everything["ours"],
            everything["queue"],
            against,
            kind="speed",
            target=0.6,
            note=UNBOUNDED,
        ),
        Row(
            "asyncio-stall",
            "turn of the loop while no-ops drain, p99",
            "ms",
            Samples(tuple(percentile(values, 0.99) for values in turns)),
            kind="figure",
            target=5.0,
        ),
        Row("asyncio-stall-max", "the longest of them", "ms", Samples(tuple(map(max, turns)))),
    ]


UNBOUNDED = "the tasks of asyncio.Queue await the same functions, without a deadline"


def imports(effort: Effort) -> list[Row]:
    """How long `import rate_envelope_queue` takes a fresh interpreter."""
    found = subprocesses.imports({"ours": "rate_envelope_queue", "theirs": "concurrent.futures.thread"}, effort.rounds)
    return [Row("import", "import rate_envelope_queue", "ms", found["ours"], found["theirs"], "concurrent.futures")]


SECTIONS: tuple[tuple[str, str, Callable[[Effort], list[Row]]], ...] = (
    ("noop-simplequeue", "No-op tasks against queue.SimpleQueue and threads", noop_simplequeue),
    ("built-simplequeue", "The same, each envelope and each tuple built inside the timing", built_simplequeue),
    ("batch", "Sends of 100 envelopes against single sends", batches),
    ("noop-executor", "No-op tasks against ThreadPoolExecutor.submit", noop_executor),
    ("everything", "Everything on: before, after, success and failure hook, two stamps, a deadline", everything),
    ("sending", "What a send costs", sending),
    ("handoff", "Idle hand-off", hand_off),
    ("delayed", "Delayed envelopes", delayed),
    ("asyncio", "On asyncio, against asyncio.Queue and worker tasks", loop),
    ("import", "Import", imports),
)
