"""What an explanation is made of: named numbers, and tables of shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Bars:
    """Named numbers.

    Attributes:
        title: what they are.
        names: of each.
        values: as many.
        note: how to read them.
        tails: said behind the names, however short these are cut; empty for none.
        rest: name -> value of what is in the sum and not among the values.
        total: what values and rest add up to; None where they are not said to add up to anything.
        ordered: whether the order of the names means something, such as time.
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
        """The same with more in the sum, if it is one."""
        if self.total is None:
            return self
        return replace(self, rest={**(self.rest or {}), **more}, total=self.total + sum(more.values()))


@dataclass(frozen=True)
class Grid:
    """Numbers from 0 to 1 by row and column; each column adds up to 1 over all rows."""

    title: str
    names: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    note: str = ""
