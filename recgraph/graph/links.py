"""Links among users, or among items: friends, citations, likeness. What a graph knows beside its interactions."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.errors import DataError
from recgraph.graph.sparse import csr_tensor, row_starts, row_sums


class Links(NamedTuple):
    """A symmetric matrix of weights, without a diagonal. Made by `of`, which checks; the constructor does not.

    Attributes:
        rows: of each entry, ascending; int64.
        columns: of each entry; int32, as products want them.
        weights: of each entry, above 0.
        starts: where the entries of each row begin, and where the last ones end; int32.
    """

    rows: Int[Tensor, "entries"]
    columns: Int[Tensor, "entries"]
    weights: Float[Tensor, "entries"]
    starts: Int[Tensor, "nodes+1"]

    @classmethod
    def of(
        cls, one: Int[Tensor, "pairs"], other: Int[Tensor, "pairs"], weights: Float[Tensor, "pairs"], size: int
    ) -> Links:
        """Links of pairs, whichever of the two is named first; what is given of a pair several times adds up.

        Args:
            one, other: the two ends of each link, in [0, size).
            weights: of each, above 0.
            size: users, or items, with or without links.

        Raises:
            DataError: lengths differ, an end is out of range or joined with itself, or a weight is not above 0.
        """
        if not len(one) == len(other) == len(weights):
            raise DataError(
                f"links: {len(one)} and {len(other)} ends, {len(weights)} weights; expected as many of each"
            )
        one, other = one.long(), other.long()
        wrong = (torch.minimum(one, other) < 0) | (torch.maximum(one, other) >= size) | (one == other)
        wrong |= ~((weights > 0) & weights.isfinite())
        if wrong.any():
            link = int(wrong.nonzero()[0])
            raise DataError(
                f"link {link}, of {int(one[link])} and {int(other[link])} with weight {float(weights[link])}: expected "
                f"two different ends in [0, {size}) and a weight above 0"
            )
        key, place = torch.cat([one * size + other, other * size + one]).unique(return_inverse=True)
        total = torch.zeros(len(key)).index_add_(0, place, weights.float().repeat(2))
        rows = key // size
        return cls(rows, (key % size).int(), total, row_starts(rows, size))

    @property
    def size(self) -> int:
        """Users, or items."""
        return len(self.starts) - 1

    @property
    def degrees(self) -> Float[Tensor, "nodes"]:
        """The sum of the weights of each one's links."""
        return row_sums(self.weights, self.starts)

    def scaled(self, rows: Float[Tensor, "nodes"], columns: Float[Tensor, "nodes"]) -> Float[Tensor, "nodes nodes"]:
        """The matrix in CSR form, in the type of the factors, with rows and columns multiplied by them."""
        values = rows.index_select(0, self.rows) * columns.index_select(0, self.columns)
        return csr_tensor(self.starts, self.columns, self.weights.to(values.dtype) * values, (self.size, self.size))

    def padded(self, size: int) -> Links:
        """The same links among more, of which the added ones have none."""
        return self._replace(starts=F.pad(self.starts, (0, size - self.size), mode="constant", value=len(self.rows)))

    def to(self, device: torch.device | str) -> Links:
        """The links on `device`."""
        return Links(*(tensor.to(device) for tensor in self))
