"""What tables are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recgraph.evaluation.significance import Comparison

Result = dict[str, Any]
"""The content of a run's `result.json`."""

MARKS = ((0.01, "‡"), (0.05, "†"))
"""Significance, by the corrected p that is stayed below."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, whether it is the best of its column, and a mark of significance."""

    text: str
    best: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Grid:
    """A table to be shown: its first column holds names, the others figures; below it stands what they mean."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Finished:
    """A finished run: its result and its folder."""

    result: Result
    folder: Path


def mark_of(found: Comparison | None) -> str:
    """The mark of a difference; none where it may be chance, or where there is none."""
    return "" if found is None else next((mark for p, mark in MARKS if found.corrected < p), "")
