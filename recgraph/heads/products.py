"""Heads that end in an inner product, so that scoring the catalogue is one matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.heads.base import Head
from recgraph.heads.layers import Widths, lecun_uniform, xavier_uniform
from recgraph.numerics.matmul import Linear, inner_products, unit
from recgraph.registry import heads
from recgraph.types import NonNegativeFloat


@heads.register("dot")
class Dot(Head):
    """Inner product of query and item."""

    def match(self, query: Float[Tensor, "*#batch width"], items: Float[Tensor, "*#batch width"]) -> Tensor:
        """⟨query, item⟩ over the last axis."""
        return (query * items).sum(-1)

    def match_all(self, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items width"]) -> Tensor:
        """One matrix product."""
        return inner_products(query, items)


@heads.register("cosine")
class Cosine(Dot):
    """Cosine of the angle between query and item, in [-1, 1]; it is 0 for a vector of norm 0.

    The encoder's vectors are not normalised: normalise exported vectors before use.

    With `popularity: c`, c · ln(1 + n) is added to the score of an item with n interactions; exported vectors do not
    contain it. Items occur among in-batch negatives in proportion to their popularity, so a softmax against these, at
    temperature τ, makes the cosine τ · ln of how much likelier this user is than others to take the item. With c = τ
    the score is, up to a constant per user, τ · ln of how likely the user is to take it: the logit adjustment of Menon
    et al., "Long-tail learning via logit adjustment", ICLR 2021, https://arxiv.org/abs/2007.07314 (section 4), in
    reverse. Apart from the 1 in the ln, which gives items without interactions a finite score, this is exact if
    negatives keep the user's positives (`negatives: {name: in_batch, keep_positives: true}`) and `bsl` has the exponent
    1, and approximate elsewhere (experiments/README.md). The objective's own head must not add it, as in

        heads: {rank: {name: cosine, popularity: 0.1}, plain: cosine}

    Args:
        dim: width of query and item vectors.
        popularity: c, to be set to the objective's temperature; 0 for the cosine alone.
    """

    def __init__(self, dim: int, *, popularity: NonNegativeFloat = 0.0) -> None:
        super().__init__(dim)
        self.popularity = popularity
        if popularity:
            self.reads = frozenset({"popularity"})

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Tensor:
        """Query / ‖query‖, followed by c."""
        return F.pad(unit(query), (0, 1), value=self.popularity) if self.popularity else unit(query)

    def prepare_items(self, items: Float[Tensor, "*batch wide"]) -> Tensor:
        """Item / ‖item‖, followed by its popularity ln(1 + n)."""
        if not self.popularity:
            return unit(items)
        vectors, popularity = items.split([self.dim, 1], -1)
        return torch.cat([unit(vectors), popularity], -1)

    def added(self, popularity: float) -> Mapping[str, float]:
        """c · ln(1 + interactions)."""
        return {"how popular the item is": self.popularity * popularity} if self.popularity else {}


@heads.register("gmf")
class GMF(Dot):
    """Generalised matrix factorisation: h·(query ⊙ item) + b, with learned h and b.

    He et al., "Neural collaborative filtering", WWW 2017, https://arxiv.org/abs/1708.05031, section 3.2, without the
    sigmoid, which is the objective's (`bce`). The paper's formula has no b, the authors' code has; it changes no rank.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.output = lecun_uniform(nn.Linear(dim, 1))

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Tensor:
        """Query ⊙ h: the rest is an inner product."""
        return query * self.output.weight[0]

    def match(self, query: Float[Tensor, "*#batch width"], items: Float[Tensor, "*#batch width"]) -> Tensor:
        """⟨query, item⟩ + b."""
        return super().match(query, items) + self.output.bias[0]

    def match_all(self, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items width"]) -> Tensor:
        """One matrix product."""
        return super().match_all(query, items) + self.output.bias[0]


@heads.register("towers")
class Towers(Dot):
    """Two towers: ⟨query, item⟩ after separate layers for each side, with ReLU between layers but not at the end.

    Huang et al., "Learning deep structured semantic models for web search using clickthrough data", CIKM 2013, have a
    tower for queries and one for documents, with tanh and a cosine.

    Args:
        dim: width of query and item vectors.
        hidden: widths of the layers of each tower; the last is the width of the vectors in the inner product.
    """

    def __init__(self, dim: int, *, hidden: Widths = (64, 32)) -> None:
        super().__init__(dim)
        self.query_tower, self.item_tower = (
            nn.Sequential(
                *(
                    part
                    for wide, narrow in pairwise((dim, *hidden))
                    for part in (xavier_uniform(Linear(wide, narrow)), nn.ReLU())
                )
            )[:-1]
            for _ in range(2)
        )

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Tensor:
        """The query's tower."""
        return self.query_tower(query)

    def prepare_items(self, items: Float[Tensor, "*batch dim"]) -> Tensor:
        """The items' tower."""
        return self.item_tower(items)
