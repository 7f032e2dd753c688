"""`python -m bench [--quick] [--json FILE] [--only ROW]`: measure, print the table, write it as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from time import perf_counter

from .facts import facts, facts_text
from .rows import SECTIONS, Effort
from .table import Row, lines, summary

RESULTS = Path(__file__).with_name("results.json")
QUICK = Effort(rounds=5, share=0.1, delayed=100_000)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description="The target table, measured on this machine.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the items, 5 rounds: a look, not a verdict")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="where to write the figures")
    parser.add_argument(
        "--only",
        action="append",
        metavar="ROW",
        choices=[key for key, _, _ in SECTIONS],
        help="only this group of rows, may be repeated: " + ", ".join(key for key, _, _ in SECTIONS),
    )
    parser.add_argument("--rounds", type=int, help="rounds, at least 5 (default 7)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    wanted = arguments(argv)
    effort = QUICK if wanted.quick else Effort()
    if wanted.rounds is not None:
        effort = Effort(max(5, wanted.rounds), effort.share, effort.delayed)
    found, started_at = facts(), perf_counter()
    sections: list[tuple[str, list[Row]]] = []
    for key, heading, measure in SECTIONS:
        if not wanted.only or key in wanted.only:
            print(f"measuring {key} ...", end="", file=sys.stderr, flush=True)
            begun_at = perf_counter()
            sections.append((heading, measure(effort)))
            print(f" {perf_counter() - begun_at:.0f} s", file=sys.stderr)
    rows = [row for _, group in sections for row in group]
    elapsed = perf_counter() - started_at
    print(
        facts_text(found), f"{effort.rounds} rounds, medians; ratios within a round; {elapsed:.0f} s in all", sep="\n"
    )
    print("", *lines(sections), "", summary(rows), sep="\n")
    result = {"facts": found, "rounds": effort.rounds, "quick": wanted.quick, "elapsed": elapsed}
    wanted.json.write_text(json.dumps({**result, "rows": [row.as_json() for row in rows]}, indent=1) + "\n")
    print(f"written to {wanted.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
