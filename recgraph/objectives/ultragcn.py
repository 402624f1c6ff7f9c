"""UltraGCN: matrix factorisation constrained towards the limit of infinitely many graph convolution layers."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from recgraph.encoders.base import graph_of
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.graph.cooccurrence import ItemNeighbours, item_neighbours
from recgraph.models.recommender import Recommender
from recgraph.objectives.ranking import Ranking, mean_of_valid
from recgraph.objectives.rows import mean_over_rows
from recgraph.registry import objectives
from recgraph.types import Batch, Encoding, NonNegativeFloat, PositiveInt


class Constraints(NamedTuple):
    """Weights from the training graph: β_ui = user[u] · item[i], and the nearest items of each item."""

    user: Float[Tensor, "users"]
    item: Float[Tensor, "items"]
    near: ItemNeighbours | None


@objectives.register("ultragcn")
class UltraGCN(Ranking):
    """Weighted binary cross-entropy of the positive, the negatives and items similar to the positive, plus L2.

        (w₁ + w₂ β_ui) · softplus(-s_ui)  +  W · mean over j of (w₃ + w₄ β_uj) · softplus(s_uj)
          +  λ · Σ over the K items k nearest to i of ω_ik · softplus(-s_uk)

    averaged over rows, plus γ · ½‖Θ‖² over all parameters of the encoder. Degrees of the training graph give
    β_ui = √(d_u + 1) / d_u / √(d_i + 1); `item_neighbours` has ω. Mao et al., "UltraGCN: ultra simplification of graph
    convolutional networks for recommendation", CIKM 2021, https://arxiv.org/abs/2110.15114, in the form of the authors'
    code (https://github.com/xue-pai/UltraGCN). Their code sums over rows and this takes the mean, which makes no
    difference to Adam if γ is theirs divided by the batch size. Their negatives may be positives of the user; here they
    are not, and positives in a shared set do not count.

    The model is the encoder `embedding`; the item graph is built with the first batch (some seconds on Gowalla).

    Args:
        w1: weight of every positive (10⁻⁶ in the authors' settings for Gowalla, 10⁻⁸ for Yelp2018 and Amazon-Book).
        w2: weight of positives by β (1 there).
        w3: weight of every negative (10⁻⁶, 10⁻⁸ and 1).
        w4: weight of negatives by β (1, 1 and 10⁻⁸).
        negative_weight: W (300, 300 and 500, with 1500, 800 and 500 negatives).
        item_weight: λ of their settings, which the paper calls γ (5·10⁻⁴, 5·10⁻⁴ and 2.75).
        num_neighbours: K (10).
        l2: γ (10⁻⁴ in their settings, divided by the batch size: 512 for Gowalla, 1024 for the others).
        head: name of the head whose scores are compared.
    """

    needs = frozenset({"negatives", "graph"})

    def __init__(
        self,
        *,
        w1: NonNegativeFloat = 1e-6,
        w2: NonNegativeFloat = 1.0,
        w3: NonNegativeFloat = 1e-6,
        w4: NonNegativeFloat = 1.0,
        negative_weight: NonNegativeFloat = 300.0,
        item_weight: NonNegativeFloat = 5e-4,
        num_neighbours: PositiveInt = 10,
        l2: NonNegativeFloat = 2e-7,
        head: str = "rank",
    ) -> None:
        super().__init__(head=head)
        self.positive_weights, self.negative_weights = (w1, w2), (w3, w4)
        self.negative_weight, self.item_weight, self.l2 = negative_weight, item_weight, l2
        self.num_neighbours = num_neighbours
        self._found: tuple[BipartiteGraph, Constraints] | None = None

    def constraints(self, graph: BipartiteGraph) -> Constraints:
        """The weights from a graph; cached until called with another graph."""
        if self._found is None or self._found[0] is not graph:
            users, items = graph.user_degrees, graph.item_degrees
            near = item_neighbours(graph, self.num_neighbours) if self.item_weight else None
            user, item = (users + 1).sqrt() / users.clamp(min=1), (items + 1).rsqrt()
            self._found = graph, Constraints(user, item, near)
        return self._found[1]

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class.

        Raises:
            TypeError: the batch's inputs have no graph.
        """
        total = super().forward(recommender, batch, encoding)
        if (near := self.constraints(graph_of(batch.inputs, self)).near) is not None:
            items, shares = near

            def losses(part: Batch, encoding: Encoding) -> Tensor:
                alike = items.index_select(0, part.items)
                weights = shares.index_select(0, part.items)
                return (weights * F.softplus(-recommender.score(encoding, alike, head=self.head))).sum(-1)

            head, parameters = recommender.head(self.head), tuple(recommender.heads.parameters())
            width = items.shape[1] * max(encoding.items.shape[1], head.pair_floats)
            width += head.query_floats(encoding.past)
            # This part has no negatives, and must not go by their shared sets.
            rows = replace(batch, negatives=None, hits=None, log_q=None)
            found = mean_over_rows(losses, rows, encoding, width=width, parameters=parameters)
            total = total + self.item_weight * found
        squares = sum(parameter.square().sum() for parameter in recommender.encoder.parameters())
        return total + self.l2 / 2 * squares

    def part_losses(self, positives: Tensor, negatives: Tensor, part: Batch, num_items: int) -> Tensor:
        """The first two terms of each row."""
        assert part.negatives is not None
        user, item, _ = self.constraints(graph_of(part.inputs, self))
        users = user.index_select(0, part.inputs.users)
        below = part.negatives if part.hits is None else part.negatives[:1]
        beta = users * item.index_select(0, part.items)
        betas = users.unsqueeze(1) * item.index_select(0, below.flatten()).view(below.shape)
        (w1, w2), (w3, w4) = self.positive_weights, self.negative_weights
        pushed = mean_of_valid((w3 + w4 * betas) * F.softplus(negatives), None if part.hits is None else part.hits[0])
        return (w1 + w2 * beta) * F.softplus(-positives.squeeze(-1)) + self.negative_weight * pushed
