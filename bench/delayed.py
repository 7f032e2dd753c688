"""One measurement in a process of its own: `python -m bench.delayed memory N` or `... costs N`; prints JSON."""

from __future__ import annotations

import gc
import json
import os
import sys
from heapq import heapify, heappop
from pathlib import Path
from random import Random
from time import perf_counter

from rate_envelope_queue import Envelope, EnvelopeQueue
from rate_envelope_queue.core.machine import Machine
from rate_envelope_queue.core.settle import SUCCESS

from .contestants import noop, plain_envelope
from .measure import level_gc

AT_LEAST = 50_000  # operations measured for one figure
SOONEST, LATEST = 3600.0, 7200.0


def resident() -> int:
    """Bytes of this process in memory."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def memory(size: int) -> dict[str, float]:
    """Resident bytes for each of *size* delayed envelopes, everything included, and seconds to build and send one."""
    random = Random(size)
    with EnvelopeQueue("bench", workers=1) as queue:
        queue.send(Envelope(noop))
        queue.join(timeout=60)
        gc.collect()
        before = resident()
        started_at = perf_counter()
        for _ in range(size):
            queue.send(Envelope(noop), delay=random.uniform(SOONEST, LATEST))
        elapsed = perf_counter() - started_at
        gc.collect()
        grown = resident() - before
        assert queue.stats().delayed == size
        queue.terminate(timeout=5)
    return {"bytes": grown / size, "send": elapsed / size}


def bare_heap(delayed: list[tuple[tuple[Envelope[int], ...], float]], pops: int) -> float:
    """Seconds for *pops* pops of a `heapq` with the same due times, and nothing else."""
    heap = [(due, number, envelopes[0]) for number, (envelopes, due) in enumerate(delayed)]
    heapify(heap)
    with level_gc():
        started_at = perf_counter()
        for _ in range(pops):
            heappop(heap)
        return perf_counter() - started_at


def core(delayed: list[tuple[tuple[Envelope[int], ...], float]], pops: int) -> tuple[float, float]:
    """Seconds to add all of *delayed* to a machine, and for *pops* pops: made ready, taken, settled."""
    now = 0.0
    machine = Machine(lambda: now, workers=1)
    machine.start()
    add, turn = machine.send, machine.turn
    with level_gc():
        started_at = perf_counter()
        for envelopes, due in delayed:
            add(envelopes, due)
        adding = perf_counter() - started_at
    now = sorted(due for _, due in delayed)[pops - 1]
    with level_gc():
        started_at = perf_counter()
        handle = turn(None, None, None)
        for _ in range(pops - 1):
            handle = turn(handle, SUCCESS, None)
        popping = perf_counter() - started_at
    assert handle is not None
    return adding, popping


def costs(size: int) -> dict[str, float]:
    """Seconds per add while the heap grows to *size*, and per pop of the first that become due."""
    times = max(1, AT_LEAST // size)
    pops = min(size, AT_LEAST)
    adding = popping = bare = 0.0
    for index in range(times):
        random = Random(index)
        delayed = [((plain_envelope(number),), random.uniform(SOONEST, LATEST)) for number in range(size)]
        bare += bare_heap(delayed, pops)
        one_adding, one_popping = core(delayed, pops)
        adding += one_adding
        popping += one_popping
    return {"add": adding / (times * size), "pop": popping / (times * pops), "bare pop": bare / (times * pops)}


if __name__ == "__main__":
    measure = {"memory": memory, "costs": costs}[sys.argv[1]]
    print(json.dumps(measure(int(sys.argv[2]))), flush=True)
    os._exit(0)  # a million objects need not be freed one by one
