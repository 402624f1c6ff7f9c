"""Where the fields of users and items stand in the vectors of an encoder."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Layout(NamedTuple):
    """What the columns of an encoder's vectors are, for heads that look into them.

    In this order: the weight, if there is one; the fields' vectors side by side; the ids that are crossed; zeros, up
    to the width of the other side.

    Attributes:
        dim: width of a field's vector.
        query, items: fields of a query, and of an item.
        wide: whether the first column is a weight, the sum of those of all values of the side.
        crosses: for each cross of a field of the query with a field of the item, how many ids either has at most. They
            are whole numbers, 0 for none.
        buckets: weights that the pairs of a cross are hashed to.
    """

    dim: int
    query: int = 1
    items: int = 1
    wide: bool = False
    crosses: tuple[tuple[int, int], ...] = ()
    buckets: int = 0

    @property
    def widths(self) -> tuple[int, int]:
        """Columns of the fields of a query, and of an item."""
        return self.query * self.dim, self.items * self.dim

    def fields(self, vectors: Float[Tensor, "*batch width"], side: int) -> Float[Tensor, "*batch columns"]:
        """The fields' columns of queries (side 0) or items (side 1)."""
        return vectors.narrow(-1, int(self.wide), self.widths[side])

    def ids(self, vectors: Float[Tensor, "*batch width"], side: int) -> Float[Tensor, "*batch columns"]:
        """The columns of ids, all crosses side by side."""
        start = int(self.wide) + self.widths[side]
        return vectors.narrow(-1, start, sum(cross[side] for cross in self.crosses))
