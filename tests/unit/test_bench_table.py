"""The judgement of the benchmark's table: ratios within a round, medians of them, and what is a miss."""

from __future__ import annotations

import pytest
from bench.measure import Samples, alternate, percentile
from bench.table import Row, lines, summary


def samples(*values: float) -> Samples:
    return Samples(values)


def test_a_ratio_belongs_to_its_round() -> None:
    """A slow round slows both: the median is of the rounds' ratios, not the ratio of medians."""
    row = Row("r", "r", "us", samples(2.0, 40.0, 6.0), samples(1.0, 10.0, 3.0), "theirs", target=2)
    assert row.ratio is not None
    assert row.ratio.values == (2.0, 4.0, 2.0)
    assert (row.ratio.median, row.verdict) == (2.0, "ok")


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("r", "r", "us", samples(3.0), samples(1.0), target=2), "MISS by 1.50x"),
        (Row("r", "r", "us", samples(1.0), samples(8.0), kind="speed", target=7), "ok"),
        (Row("r", "r", "us", samples(1.0), samples(3.5), kind="speed", target=7), "MISS by 2.00x"),
        (Row("r", "r", "us", samples(0.4e-6), kind="figure", target=0.8), "ok"),
        (Row("r", "r", "B", samples(960.0), kind="figure", target=480), "MISS by 2.00x"),
        (Row("r", "r", "us", samples(1.0), samples(1.0)), ""),
    ],
)
def test_the_verdict(row: Row, verdict: str) -> None:
    """At most, at least, or an absolute figure; without a target there is no verdict."""
    assert row.verdict == verdict


def test_contestants_take_turns() -> None:
    """In each round everybody once, every other round in reverse; the warm-up does not count."""
    turns: list[str] = []

    def contestant(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    found = alternate({"a": lambda: contestant("a"), "b": lambda: contestant("b")}, 2)
    assert turns == ["b", "a", "a", "b", "b", "a"]
    assert found == {"a": samples(3.0, 6.0), "b": samples(4.0, 5.0)}


def test_the_table_is_aligned() -> None:
    """Each column begins where its heading does, and the summary names what was missed."""
    rows = [
        Row("fast", "a short title", "us", samples(1e-6), samples(2e-6), "theirs", target=10),
        Row("slow", "a title that is longer", "ms", samples(1.0), kind="figure", target=0.5, note="only here"),
    ]
    table = lines([("Heading", rows), ("Empty", [])])
    assert table[0].index("ours") == table[3].index("1.00 us") == table[4].index("1,000 ms")
    assert table[-1] == "    note: only here"
    assert "Empty" not in table
    assert summary(rows) == "1 of 2 targets met; missed: slow (2000.00x)"


def test_percentile() -> None:
    """The share of the values that lie below."""
    assert (percentile(range(100), 0.5), percentile(range(100), 0.99), percentile([7.0], 0.99)) == (50, 99, 7.0)
