"""Measurements that want a fresh process: memory, the price of delayed envelopes by their number, imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .measure import Samples, alternate

COSTS = (
    "add: the mean over filling up to that number; pop: from that number on, made ready, taken and settled; "
    "the core alone on a clock that jumps, delays at random"
)
IMPORT = "import time; at = time.perf_counter(); import {}; print(time.perf_counter() - at)"


def _run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    return done.stdout


def _delayed(verb: str, size: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_run("-m", "bench.delayed", verb, str(size)))
    return found


def memory(size: int, rounds: int) -> dict[str, Samples]:
    """Bytes for each of *size* delayed envelopes, and seconds to send one; one fresh process a round."""
    found = [_delayed("memory", size) for _ in range(rounds)]
    return {name: Samples(tuple(each[name] for each in found)) for name in ("bytes", "send")}


def costs(sizes: Sequence[int], rounds: int) -> dict[int, dict[str, Samples]]:
    """Seconds per add, pop and pop of a bare heapq at each size; the sizes take turns."""
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            found[size].append(_delayed("costs", size))
    return {
        size: {verb: Samples(tuple(each[verb] for each in figures)) for verb in ("add", "pop", "bare pop")}
        for size, figures in found.items()
    }


def imports(modules: Mapping[str, str], rounds: int) -> dict[str, Samples]:
    """Seconds that importing each module takes a fresh interpreter; they take turns."""
    return alternate(
        {name: (lambda module=module: float(_run("-c", IMPORT.format(module)))) for name, module in modules.items()},
        rounds,
    )
