"""Objectives that compare a row's positive with sampled negatives, and BPR."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objective, negatives_of
from recgraph.objectives.rows import mean_over_rows
from recgraph.registry import objectives
from recgraph.types import Batch, Encoding


class Ranking(Objective):
    """Base class: the mean over rows of a loss that depends on the scores of a positive and its negatives.

    Args:
        head: name of the head whose scores are ranked. It need not be the head that ranks the catalogue.
    """

    needs = frozenset({"negatives"})

    def __init__(self, *, head: str = "rank") -> None:
        super().__init__()
        self.head = head

    def row_losses(
        self,
        positives: Float[Tensor, "*batch 1"],
        negatives: Float[Tensor, "*batch negatives"],
        hits: Int[Tensor, "hits"] | None,
        num_items: int,
    ) -> Float[Tensor, "*batch"]:
        """The loss of each row.

        Args:
            positives: scores of the positives.
            negatives: scores of the negatives.
            hits: positions in the flattened `negatives` of shared items that the row's user likes, to be left out. None
                where each row has its own set, which holds none.
            num_items: size of the catalogue.
        """
        raise NotImplementedError

    def part_losses(
        self,
        positives: Float[Tensor, "*batch 1"],
        negatives: Float[Tensor, "*batch negatives"],
        part: Batch,
        num_items: int,
    ) -> Float[Tensor, "*batch"]:
        """`row_losses` of a part of a batch; overridden by objectives that need more than scores."""
        return self.row_losses(positives, negatives, None if part.hits is None else part.hits[0], num_items)

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """Score and compare, a chunk of rows at a time."""
        score = partial(self.scores, recommender)

        def losses(part: Batch, encoding: Encoding) -> Tensor:
            assert part.negatives is not None  # `needs` has them built
            positives, num_items = part.items.unsqueeze(-1), len(encoding.items)
            if part.hits is None:
                scores = score(encoding, torch.cat([positives, part.negatives], -1))
                return self.part_losses(scores[..., :1], scores[..., 1:], part, num_items)
            negatives = score(encoding, part.negatives[0])
            return self.part_losses(score(encoding, positives), negatives, part, num_items)

        num, head = negatives_of(batch).shape[-1], recommender.head(self.head)
        pairs, dim = num * head.pair_floats, encoding.items.shape[1]
        if batch.hits is None:  # each row has vectors of its own negatives
            pairs = (1 + num) * max(head.pair_floats, dim)
        return mean_over_rows(
            losses,
            batch,
            encoding,
            width=pairs + head.query_floats(encoding.past),
            parameters=tuple(recommender.heads.parameters()),
        )

    def scores(self, recommender: Recommender, encoding: Encoding, items: Tensor) -> Float[Tensor, "*batch candidates"]:
        """Scores of candidates, in float32 at least: those of autocast are too coarse for sums."""
        scores = recommender.score(encoding, items, head=self.head)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))


@objectives.register("bpr")
class BPR(Ranking):
    """Bayesian personalised ranking: -ln σ(score of the positive - score of a negative).

    The mean over rows and negatives of softplus(s⁻ - s⁺), which equals -ln σ(s⁺ - s⁻) without its overflow. Rendle et
    al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009, https://arxiv.org/abs/1205.2618,
    section 4.1 (BPR-Opt), without its regulariser, which is a separate objective here.

    Args:
        head: name of the head whose scores are ranked.
    """

    def row_losses(self, positives: Tensor, negatives: Tensor, hits: Tensor | None, num_items: int) -> Tensor:
        """Mean of softplus(s⁻ - s⁺); negatives of a shared set that the row's user likes are left out."""
        return mean_of_valid(F.softplus(negatives - positives), hits)


def fill(
    values: Float[Tensor, "*batch negatives"], hits: Int[Tensor, "hits"] | None, value: float
) -> Float[Tensor, "*batch negatives"]:
    """A copy with `value` at the hits; `values` itself if `hits` is None."""
    return values if hits is None else values.reshape(-1).index_fill(0, hits, value).view(values.shape)


def num_valid(values: Float[Tensor, "*batch negatives"], hits: Int[Tensor, "hits"] | None) -> Float[Tensor, "*batch"]:
    """The number of negatives of each row that are not hits."""
    num = values.shape[-1]
    if hits is None:
        return values.new_full(values.shape[:-1], num)
    counts = values.new_full((values.numel() // num,), num)
    # Not bincount, for which the host would wait on CUDA.
    return counts.index_add_(0, hits // num, values.new_full(hits.shape, -1)).view(values.shape[:-1])


def mean_of_valid(
    values: Float[Tensor, "*batch negatives"], hits: Int[Tensor, "hits"] | None
) -> Float[Tensor, "*batch"]:
    """Mean over negatives that are not hits; 0 for a row in which all are."""
    if hits is None:
        return values.mean(-1)
    return fill(values, hits, 0.0).sum(-1) / num_valid(values, hits).clamp(min=1)
