"""Links among users, or among items: friendship, citation, similarity; graph edges that are not interactions."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.errors import DataError
from recgraph.graph.sparse import csr_tensor, row_starts, row_sums


class Links(NamedTuple):
    """Holds a symmetric matrix of weights without diagonal; made by `of`, which checks, unlike the constructor.

    Attributes:
        rows: row of each entry, ascending; int64.
        columns: column of each entry; int32, as sparse products require.
        weights: of each entry, above 0.
        starts: where the entries of each row begin, and where the last row ends; int32.
    """

    rows: Int[Tensor, "entries"]
    columns: Int[Tensor, "entries"]
    weights: Float[Tensor, "entries"]
    starts: Int[Tensor, "nodes+1"]

    @classmethod
    def of(
        cls, one: Int[Tensor, "pairs"], other: Int[Tensor, "pairs"], weights: Float[Tensor, "pairs"], size: int
    ) -> Links:
        """Build links from pairs, in either order; the weights of repeated pairs add up.

        Args:
            one, other: the two ends of each link, in [0, size).
            weights: weight of each link, above 0.
            size: number of users, or of items, with or without links.

        Raises:
            DataError: lengths differ, an end is out of range or linked to itself, or a weight is not in (0, ∞).
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
        total = torch.zeros(len(key), device=key.device).index_add_(0, place, weights.float().repeat(2))
        rows = key // size
        return cls(rows, (key % size).int(), total, row_starts(rows, size))

    @property
    def size(self) -> int:
        """The number of users, or of items."""
        return len(self.starts) - 1

    @property
    def degrees(self) -> Float[Tensor, "nodes"]:
        """The sum of the weights of each node's links."""
        return row_sums(self.weights, self.starts)

    def scaled(self, rows: Float[Tensor, "nodes"], columns: Float[Tensor, "nodes"]) -> Float[Tensor, "nodes nodes"]:
        """The matrix in CSR form, with rows and columns multiplied by the given factors, and in their type."""
        values = rows.index_select(0, self.rows) * columns.index_select(0, self.columns)
        return csr_tensor(self.starts, self.columns, self.weights.to(values.dtype) * values, (self.size, self.size))

    def padded(self, size: int) -> Links:
        """The same links among `size` nodes; the added nodes have none."""
        return self._replace(starts=F.pad(self.starts, (0, size - self.size), mode="constant", value=len(self.rows)))

    def to(self, device: torch.device | str) -> Links:
        """The links on `device`."""
        return Links(*(tensor.to(device) for tensor in self))
