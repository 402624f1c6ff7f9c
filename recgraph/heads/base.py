"""The base class of heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from recgraph.types import Past


class Head(nn.Module):
    """Scores items for a query in two steps: prepares each side on its own, then matches pairs of prepared vectors.

    A subclass implements `match`. Computation that depends on one side alone belongs in `prepare_query` or
    `prepare_items`, so that scoring many pairs does it once per query and once per item.

    Args:
        dim: width of query and item vectors.
    """

    reads: frozenset[str] = frozenset()
    """What a head reads beside the vectors: "history": queries come from `with_steps`, and the encoder must read
    histories too; "popularity": ln(1 + the item's interactions) is appended to each item vector."""

    pair_floats: int = 1
    """Floats per pair that `match_all` keeps for the gradient, from which objectives size their chunks: 1 for a
    product. Heads with layers over pairs set it to the number that these keep."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def query_floats(self, past: Past | None) -> int:
        """Floats per row, besides those of its pairs, that are kept for the gradient: 0 unless a query is long.

        Args:
            past: the histories behind the queries.
        """
        return 0

    def prepare_query(self, query: Float[Tensor, "*batch wide"]) -> Float[Tensor, "*batch width"]:
        """The query's side: by default the vector unchanged."""
        return query

    def prepare_items(self, items: Float[Tensor, "*batch wide"]) -> Float[Tensor, "*batch width"]:
        """The items' side, likewise."""
        return items

    def match(self, query: Float[Tensor, "*#batch width"], items: Float[Tensor, "*#batch width"]) -> Tensor:
        """Scores of aligned prepared vectors; the leading axes broadcast."""
        raise NotImplementedError

    def match_all(self, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items width"]) -> Tensor:
        """Scores [*batch, items] of every prepared item for every prepared query; overridden for speed."""
        return self.match(query.unsqueeze(-2), items)

    def forward(self, query: Float[Tensor, "*#batch wide"], items: Float[Tensor, "*#batch other"]) -> Tensor:
        """Scores of an encoder's aligned vectors; the leading axes broadcast."""
        return self.match(self.prepare_query(query), self.prepare_items(items))

    def all_pairs(self, query: Float[Tensor, "*batch wide"], items: Float[Tensor, "items other"]) -> Tensor:
        """Scores [*batch, items] of every item for every query."""
        return self.match_all(self.prepare_query(query), self.prepare_items(items))

    def weights(
        self, query: Float[Tensor, "*#batch wide"], items: Float[Tensor, "*#batch dim"]
    ) -> Mapping[str, Float[Tensor, "*batch parts"]]:
        """The weights that scores of aligned vectors give to parts, by name, for `recgraph explain`. By default none.

        Weights named "history" belong to the steps of the query's history; under other names, parts such as the experts
        behind a gate are numbered.
        """
        return {}

    def added(self, popularity: float) -> Mapping[str, float]:
        """Terms of an item's score that do not come from vectors, by name, for `recgraph explain`. By default none.

        Args:
            popularity: the ln of 1 + the item's interactions.
        """
        return {}


def with_steps(
    query: Float[Tensor, "*batch dim"], steps: Float[Tensor, "*batch length dim"], known: Bool[Tensor, "*batch length"]
) -> Float[Tensor, "*batch wide"]:
    """Concatenate a query, the vectors of the steps before it, and for each step 1 where it exists, else 0.

    As part of one vector, a history can go wherever a query goes; `steps_of` splits it again.
    """
    return torch.cat([query, steps.flatten(-2), known.to(query)], -1)


def steps_of(wide: Float[Tensor, "*batch wide"], dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `with_steps` was given: query [*batch, dim], steps [*batch, length, dim] and known [*batch, length]."""
    length = (wide.shape[-1] - dim) // (dim + 1)
    query, steps, known = wide.split([dim, length * dim, length], -1)
    return query, steps.unflatten(-1, (length, dim)), known > 0
