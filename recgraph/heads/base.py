"""What a head is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Head(nn.Module):
    """Scores items for a query in two steps: first each side on its own, then pairs of what came out.

    A subclass gives `match`. What depends on one side alone goes to `prepare_query` or `prepare_items`: whoever scores
    many pairs then does it once a query and once an item.

    Args:
        dim: width of query and item vectors.
    """

    reads: frozenset[str] = frozenset()
    """What a head wants to know beside the vectors: "history", for which queries are `with_steps` and the encoder must
    read it too; "popularity", for which the ln of 1 + an item's interactions comes after its vector."""

    pair_floats: int = 1
    """Floats that `match_all` keeps of a pair for the gradient, by which objectives size their chunks: 1 for a product.
    Heads with layers over pairs say how many these have."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def prepare_query(self, query: Float[Tensor, "*batch wide"]) -> Float[Tensor, "*batch width"]:
        """The query's side: the vector as it is, unless a head does something with it."""
        return query

    def prepare_items(self, items: Float[Tensor, "*batch wide"]) -> Float[Tensor, "*batch width"]:
        """The items' side, likewise."""
        return items

    def match(self, query: Float[Tensor, "*#batch width"], items: Float[Tensor, "*#batch width"]) -> Tensor:
        """Scores of prepared vectors that are aligned; the leading axes broadcast."""
        raise NotImplementedError

    def match_all(self, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items width"]) -> Tensor:
        """Scores [*batch, items] of every prepared item for every prepared query; overridden by what is faster."""
        return self.match(query.unsqueeze(-2), items)

    def forward(self, query: Float[Tensor, "*#batch wide"], items: Float[Tensor, "*#batch other"]) -> Tensor:
        """Scores of an encoder's vectors that are aligned; the leading axes broadcast."""
        return self.match(self.prepare_query(query), self.prepare_items(items))

    def all_pairs(self, query: Float[Tensor, "*batch wide"], items: Float[Tensor, "items other"]) -> Tensor:
        """Scores [*batch, items] of every item for every query."""
        return self.match_all(self.prepare_query(query), self.prepare_items(items))

    def weights(
        self, query: Float[Tensor, "*#batch wide"], items: Float[Tensor, "*#batch dim"]
    ) -> Mapping[str, Float[Tensor, "*batch parts"]]:
        """What the scores of aligned vectors give weight to, by name: `recgraph explain` draws it. By default nothing.

        Weights called "history" are of the steps of the query; parts of others, such as experts behind a gate, are
        numbered.
        """
        return {}

    def added(self, popularity: float) -> Mapping[str, float]:
        """What an item's score has beside what vectors add to it, by name: for `recgraph explain`. By default nothing.

        Args:
            popularity: the ln of 1 + the item's interactions.
        """
        return {}


def with_steps(
    query: Float[Tensor, "*batch dim"], steps: Float[Tensor, "*batch length dim"], known: Bool[Tensor, "*batch length"]
) -> Float[Tensor, "*batch wide"]:
    """A query, the vectors of the steps before it, and 1 where there is such a step, one after the other.

    As one vector a history goes wherever a query goes; `steps_of` takes it apart.
    """
    return torch.cat([query, steps.flatten(-2), known.to(query)], -1)


def steps_of(wide: Float[Tensor, "*batch wide"], dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `with_steps` was given: query [*batch, dim], steps [*batch, length, dim] and known [*batch, length]."""
    length = (wide.shape[-1] - dim) // (dim + 1)
    query, steps, known = wide.split([dim, length * dim, length], -1)
    return query, steps.unflatten(-1, (length, dim)), known > 0
