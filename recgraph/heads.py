"""Heads turn a query vector and item vectors into scores."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.registry import heads


class Head(nn.Module):
    """Scores items for a query.

    Args:
        dim: width of query and item vectors.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, query: Float[Tensor, "*#batch dim"], items: Float[Tensor, "*#batch dim"]) -> Tensor:
        """Scores of aligned vectors; the leading axes broadcast."""
        raise NotImplementedError

    def all_pairs(self, query: Float[Tensor, "*batch dim"], items: Float[Tensor, "items dim"]) -> Tensor:
        """Scores [*batch, items] of every item for every query; overridden where there is a faster way."""
        return self(query.unsqueeze(-2), items)


@heads.register("dot")
class Dot(Head):
    """Inner product of query and item."""

    def forward(self, query: Float[Tensor, "*#batch dim"], items: Float[Tensor, "*#batch dim"]) -> Tensor:
        """⟨query, item⟩ over the last axis."""
        return (query * items).sum(-1)

    def all_pairs(self, query: Float[Tensor, "*batch dim"], items: Float[Tensor, "items dim"]) -> Tensor:
        """One matrix product."""
        return query @ items.T


@heads.register("cosine")
class Cosine(Head):
    """Cosine of the angle between query and item, in [-1, 1]; a vector of length 0 has it 0 with everything.

    The vectors of an encoder stay as long as they are: whoever uses exported ones normalises them first.
    """

    def forward(self, query: Float[Tensor, "*#batch dim"], items: Float[Tensor, "*#batch dim"]) -> Tensor:
        """⟨query, item⟩ / (‖query‖ ‖item‖) over the last axis."""
        return (F.normalize(query, dim=-1) * F.normalize(items, dim=-1)).sum(-1)

    def all_pairs(self, query: Float[Tensor, "*batch dim"], items: Float[Tensor, "items dim"]) -> Tensor:
        """One matrix product of unit vectors."""
        return F.normalize(query, dim=-1) @ F.normalize(items, dim=-1).T
