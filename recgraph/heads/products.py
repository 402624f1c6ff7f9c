"""Heads that are an inner product in the end: the whole catalogue is one matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.heads.base import Head
from recgraph.heads.layers import Widths, lecun_uniform, xavier_uniform
from recgraph.matmul import Linear, inner_products, unit
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
    """Cosine of the angle between query and item, in [-1, 1]; a vector of length 0 has it 0 with everything.

    The vectors of an encoder stay as long as they are: whoever uses exported ones normalises them first.

    With `popularity: c`, c · ln(1 + n) is added for an item of n interactions; exported vectors do not contain it. An
    item is among in-batch negatives as often as it is popular, so a softmax against these, at a temperature τ, makes
    the cosine τ · ln of how much likelier than others the user is to take the item. With c = τ the score is, up to a
    constant of the user, τ · ln of how likely the user is to take it: the adjustment of logits of Menon et al.,
    "Long-tail learning via logit adjustment", ICLR 2021, https://arxiv.org/abs/2007.07314 (section 4), the other way
    round. That holds, but for the 1 under the ln, which gives items that nobody has had a finite score, where negatives
    keep what the user likes (`negatives: {name: in_batch, keep_positives: true}`) and `bsl` has the exponent 1, and
    nearly elsewhere (experiments/README.md). The objective's own head goes without, as in

        heads: {rank: {name: cosine, popularity: 0.1}, plain: cosine}

    Args:
        dim: width of query and item vectors.
        popularity: c, the temperature of the objective; 0 for the cosine alone.
    """

    def __init__(self, dim: int, *, popularity: NonNegativeFloat = 0.0) -> None:
        super().__init__(dim)
        self.popularity = popularity
        if popularity:
            self.reads = frozenset({"popularity"})

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Tensor:
        """Query / ‖query‖, and c after it."""
        return F.pad(unit(query), (0, 1), value=self.popularity) if self.popularity else unit(query)

    def prepare_items(self, items: Float[Tensor, "*batch wide"]) -> Tensor:
        """Item / ‖item‖, and what comes after it."""
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
    sigmoid, which is the objective's (`bce`). The paper's formula has no b; the authors' code has. It moves no rank.
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
    """Two towers: query and item each go through layers of their own, then ⟨·,·⟩. ReLU between layers, none at the end.

    Huang et al., "Learning deep structured semantic models for web search using clickthrough data", CIKM 2013, have a
    tower for queries and one for documents, with tanh and a cosine.

    Args:
        dim: width of query and item vectors.
        hidden: widths of the layers of each tower; the last is that of the inner product.
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
