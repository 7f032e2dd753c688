"""The rows of the result, the judgement on each, and the table for a person."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from .measure import Samples

UNITS = {"us": 1e6, "ms": 1e3, "B": 1.0, "x": 1.0}
HEADINGS = ("", "ours", "theirs", "ratio", "range", "target", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    `kind` says what is compared with `target`: "time", our time over theirs, is to be at most that; "speed", their time
    over ours, at least that; "figure", our own median in `unit`, at most that. Without a target it is only reported.
    """

    key: str
    title: str
    unit: str
    ours: Samples
    theirs: Samples | None = None
    against: str = ""
    kind: Literal["time", "speed", "figure"] = "time"
    target: float | None = None
    note: str = ""

    @property
    def ratio(self) -> Samples | None:
        if self.theirs is None:
            return None
        return self.theirs.over(self.ours) if self.kind == "speed" else self.ours.over(self.theirs)

    @property
    def factor_missed(self) -> float:
        """By what factor the target is missed; 1.0 or less when it is met or there is none."""
        if self.target is None:
            return 0.0
        judged = self.ratio.median if self.ratio is not None else self.ours.median * UNITS[self.unit]
        return self.target / judged if self.kind == "speed" else judged / self.target

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "ok" if self.factor_missed <= 1.0 else f"MISS by {self.factor_missed:.2f}x"

    def target_text(self) -> str:
        if self.target is None:
            return "-"
        if self.kind == "figure":
            return f"<= {self.target:g} {self.unit}"
        return f"{'>=' if self.kind == 'speed' else '<='} {self.target:g}x"

    def as_json(self) -> dict[str, Any]:
        ratio = self.ratio
        return {
            "row": self.key,
            "title": self.title,
            "unit": self.unit,
            "ours": _as_json(self.ours, UNITS[self.unit]),
            "theirs": None if self.theirs is None else _as_json(self.theirs, UNITS[self.unit]),
            "against": self.against or None,
            "kind": self.kind,
            "ratio": None if ratio is None else _as_json(ratio, 1.0),
            "target": self.target,
            "verdict": self.verdict or None,
            "note": self.note or None,
        }


def _as_json(samples: Samples, factor: float) -> dict[str, Any]:
    scaled = samples.scaled(factor)
    return {
        "median": scaled.median,
        "low": scaled.low,
        "high": scaled.high,
        "values": list(scaled.values),
    }


def figure(value: float, unit: str) -> str:
    """*value* (in SI) in *unit*, with as many digits as a person wants."""
    value *= UNITS[unit]
    digits = 3 if value < 1 else 2 if value < 100 else 0
    return f"{value:,.{digits}f} {unit}" if unit != "x" else f"{value:.2f}x"


def cells(row: Row) -> tuple[str, ...]:
    """The cells of one line."""
    ratio = row.ratio
    theirs = "" if row.theirs is None else f"{figure(row.theirs.median, row.unit)} {row.against}"
    shown, text = (
        (row.ours, f"±{row.ours.spread:.0%}") if ratio is None else (ratio, f"{ratio.low:.3g}-{ratio.high:.3g}")
    )
    return (
        row.title,
        figure(row.ours.median, row.unit),
        theirs,
        "" if ratio is None else f"{shown.median:.2f}x {'faster' if row.kind == 'speed' else ''}".rstrip(),
        text,
        row.target_text(),
        row.verdict,
    )


def lines(sections: Iterable[tuple[str, list[Row]]]) -> list[str]:
    """The whole table as aligned lines: a heading, its rows, and their notes below."""
    sections = [(heading, rows) for heading, rows in sections if rows]
    body = [cells(row) for _, rows in sections for row in rows]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *body, strict=True)]

    def aligned(line: tuple[str, ...]) -> str:
        first, *rest = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        return "  ".join(["  " + first, *rest]).rstrip()

    out = [aligned(HEADINGS)]
    for heading, rows in sections:
        out += ["", heading, *(aligned(cells(row)) for row in rows)]
        out += [f"    note: {note}" for note in dict.fromkeys(row.note for row in rows if row.note)]
    return out


def summary(rows: list[Row]) -> str:
    """One line: how many targets were met, and which were not."""
    judged = [row for row in rows if row.target is not None]
    missed = [row for row in judged if row.verdict != "ok"]
    text = f"{len(judged) - len(missed)} of {len(judged)} targets met"
    return text + (
        "" if not missed else "; missed: " + ", ".join(f"{row.key} ({row.factor_missed:.2f}x)" for row in missed)
    )
