"""A graph's normalised adjacency in low rank: its main structure, in which everybody is everybody's neighbour.

Cai et al., "LightGCL: Simple yet effective graph contrastive learning for recommendation", ICLR 2023,
https://arxiv.org/abs/2302.08191, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from recgraph.errors import ConfigError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.graph.sparse import SparseRows
from recgraph.graph.spectrum import right_singular_vectors


class Factored(NamedTuple):
    """Holds the matrix left · rightᵀ, never multiplied out."""

    left: Float[Tensor, "rows rank"]
    right: Float[Tensor, "columns rank"]

    def product(self, vectors: Float[Tensor, "columns dim"], scale: float) -> Float[Tensor, "rows dim"]:
        """scale · left (rightᵀ vectors), in the vectors' precision, even under autocast."""
        with torch.autocast(vectors.device.type, enabled=False):
            return self.left @ (self.right.T @ vectors).mul_(scale)


class LowRankOperator(NamedTuple):
    """Holds the halves of Â_q, as `Operator` holds those of Â."""

    user_item: Factored
    item_user: Factored


@dataclass(frozen=True, eq=False)
class LowRankGraph:
    """Stands in for a graph in `recgraph.graph.propagate`: R̂_q = Σₖ σₖ uₖ vₖᵀ over the q largest σ of R̂.

    Attributes:
        users: R̂ V = U Σ.
        items: V, with orthonormal columns; R̂_q = users · itemsᵀ.
    """

    users: Float[Tensor, "users rank"]
    items: Float[Tensor, "items rank"]

    @classmethod
    @torch.no_grad()
    def of(cls, graph: BipartiteGraph, rank: int) -> LowRankGraph:
        """The best approximation of Â of the given rank. Deterministic; rank 5 of a graph of Gowalla's size takes a
        second on one core.

        Raises:
            ConfigError: R̂ has fewer singular values above 0 than `rank`, or the graph has links.
        """
        if graph.has_links:
            raise ConfigError("a graph of low rank is made of interactions: it has no place for relations")
        graph, device = graph.normalised(0.5, 0.5), graph.users.device
        with torch.autocast(device.type, enabled=False):
            by_user, by_item = (
                SparseRows(half.crow_indices(), half.col_indices(), half.values())
                for half in (graph.operator.user_item, graph.operator.item_user)
            )
            vectors = right_singular_vectors(by_user, by_item, rank).T.contiguous()
            if vectors.shape[1] < rank:
                raise ConfigError(f"rank is {rank}, but the normalised adjacency of {graph} has {vectors.shape[1]}")
            return cls(by_user @ vectors, vectors)

    @property
    def num_users(self) -> int:
        """Users, with or without edges."""
        return len(self.users)

    @property
    def num_items(self) -> int:
        """Items, with or without edges."""
        return len(self.items)

    def normalised(self, alpha: float, beta: float) -> LowRankGraph:
        """This graph; see `BipartiteGraph.normalised`.

        Raises:
            ConfigError: the exponents are not ½: only the symmetric R̂ is approximated.
        """
        if (alpha, beta) != (0.5, 0.5):
            raise ConfigError(f"a graph of low rank is normalised with alpha 0.5 and beta 0.5, not {alpha} and {beta}")
        return self

    def operators_in(self, dtype: torch.dtype) -> tuple[LowRankOperator, LowRankOperator]:
        """Â_q twice, as it is its own transpose, with factors in `dtype`; float64 has no more digits than float32."""
        users, items = self.users.to(dtype), self.items.to(dtype)
        operator = LowRankOperator(Factored(users, items), Factored(items, users))
        return operator, operator
