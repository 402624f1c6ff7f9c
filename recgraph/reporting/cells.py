"""Building blocks of tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recgraph.evaluation.significance import Comparison
from recgraph.experiments.finished import Result

MARKS = ((0.01, "‡"), (0.05, "†"))
"""(upper bound of the corrected p, mark of significance), smallest bound first."""


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, whether it is the best of its column, and a mark of significance."""

    text: str
    best: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Grid:
    """A table for display: names in the first column, values in the others, and notes below.

    `effects` has the comparisons that it shows, by metric and row, of which charts are drawn.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    effects: Mapping[str, Mapping[str, Comparison]] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """A finished run: its result and its folder."""

    result: Result
    folder: Path


def figure(values: Sequence[float]) -> str:
    """The mean of a figure over runs, with the standard deviation if there are several."""
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def mark_of(found: Comparison | None) -> str:
    """The mark of a comparison; empty if it is not significant or missing."""
    return "" if found is None else next((mark for p, mark in MARKS if found.corrected < p), "")


def unpaired(rows: Mapping[str, Sequence[Finished]], against: str | None) -> list[str]:
    """Rows without a seed in common with the reference row: a difference would mix seeds and rows."""
    if against is None or against not in rows:
        return []
    seeds = {one.result["seed"] for one in rows[against]}
    return [row for row, runs in rows.items() if seeds.isdisjoint(one.result["seed"] for one in runs)]
