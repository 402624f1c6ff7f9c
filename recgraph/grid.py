"""What a table is before it is drawn: cells, and the notes that go below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
