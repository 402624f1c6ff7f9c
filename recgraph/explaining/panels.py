"""The panels of an explanation: named numbers, and tables of shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Bars:
    """Named numbers.

    Attributes:
        title: what the numbers are.
        names: the name of each value.
        values: the numbers.
        note: how to read them.
        tails: suffixes of the names, which are never truncated; empty for none.
        rest: name -> value of further terms of the sum.
        total: the sum of values and rest; None if they are not terms of a sum.
        ordered: whether the order of the names is meaningful, such as time.
    """

    title: str
    names: Sequence[str]
    values: Sequence[float]
    note: str = ""
    tails: Sequence[str] = ()
    rest: Mapping[str, float] | None = None
    total: float | None = None
    ordered: bool = False

    def plus(self, more: Mapping[str, float]) -> Bars:
        """The same panel with more terms in `rest` and the sum; unchanged if it is not a sum."""
        if self.total is None:
            return self
        return replace(self, rest={**(self.rest or {}), **more}, total=self.total + sum(more.values()))


@dataclass(frozen=True)
class Grid:
    """Numbers in [0, 1] by row and column; each column sums to 1."""

    title: str
    names: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    note: str = ""
