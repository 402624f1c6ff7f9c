"""The layout of fields in the query and item vectors of an encoder."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from recgraph.errors import ConfigError


class Layout(NamedTuple):
    """Describes the columns of an encoder's vectors, for heads that read them by field.

    The columns are, in order: the weight, if there is one; the fields' vectors, concatenated; the ids of crossed
    fields; zeros that pad to the width of the other side.

    Attributes:
        dim: width of a field's vector.
        query, items: number of fields of a query, and of an item.
        wide: whether the first column is a weight, the sum of the weights of all values of the side and of the crosses
            within it.
        crosses: for each cross of a query field with an item field, the maximum number of ids of each. Ids are whole
            numbers; 0 means none.
        buckets: number of weights that the pairs of a cross are hashed to.
    """

    dim: int
    query: int = 1
    items: int = 1
    wide: bool = False
    crosses: tuple[tuple[int, int], ...] = ()
    buckets: int = 0

    @property
    def widths(self) -> tuple[int, int]:
        """Number of columns of a query's fields, and of an item's fields."""
        return self.query * self.dim, self.items * self.dim

    def refuse_weights(self, where: str, reader: str, hint: str = "") -> None:
        """Refuse columns of weights and ids, which `reader` would treat like those of vectors.

        Args:
            where: dotted path of the reader, for messages.
            reader: what takes the columns as they are.
            hint: what else could be done, before the advice to leave the weights out.

        Raises:
            ConfigError: there are some.
        """
        if self.wide:
            raise ConfigError(
                f"{where}: {reader} takes vectors as they are, and this encoder gives weights beside them: {hint}set "
                "its `wide` to false"
            )

    def fields(self, vectors: Float[Tensor, "*batch width"], side: int) -> Float[Tensor, "*batch columns"]:
        """The columns of fields, of queries (side 0) or items (side 1)."""
        return vectors.narrow(-1, int(self.wide), self.widths[side])

    def ids(self, vectors: Float[Tensor, "*batch width"], side: int) -> Float[Tensor, "*batch columns"]:
        """The columns of ids of all crosses, concatenated."""
        start = int(self.wide) + self.widths[side]
        return vectors.narrow(-1, start, sum(cross[side] for cross in self.crosses))
