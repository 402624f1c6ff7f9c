"""What a head is."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Head(nn.Module):
    """Scores items for a query in two steps: first each side on its own, then pairs of what came out.

    A subclass gives `match`. What depends on one side alone goes to `prepare_query` or `prepare_items`: whoever scores
    many pairs then does it once a query and once an item.

    Args:
        dim: width of query and item vectors.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch width"]:
        """The query's side: the vector as it is, unless a head does something with it."""
        return query

    def prepare_items(self, items: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch width"]:
        """The items' side, likewise."""
        return items

    def match(self, query: Float[Tensor, "*#batch width"], items: Float[Tensor, "*#batch width"]) -> Tensor:
        """Scores of prepared vectors that are aligned; the leading axes broadcast."""
        raise NotImplementedError

    def match_all(self, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items width"]) -> Tensor:
        """Scores [*batch, items] of every prepared item for every prepared query; overridden by what is faster."""
        return self.match(query.unsqueeze(-2), items)

    def forward(self, query: Float[Tensor, "*#batch dim"], items: Float[Tensor, "*#batch dim"]) -> Tensor:
        """Scores of an encoder's vectors that are aligned; the leading axes broadcast."""
        return self.match(self.prepare_query(query), self.prepare_items(items))

    def all_pairs(self, query: Float[Tensor, "*batch dim"], items: Float[Tensor, "items dim"]) -> Tensor:
        """Scores [*batch, items] of every item for every query."""
        return self.match_all(self.prepare_query(query), self.prepare_items(items))
