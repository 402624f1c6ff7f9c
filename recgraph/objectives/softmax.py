"""Objectives that compare the positive with all of its negatives at once, through a log-sum-exp at a temperature.

Low temperatures give the hardest negatives nearly all of the gradient. They presume scores in a known range, as from
the head `cosine`; with `dot`, the norms of the vectors act as another temperature.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.errors import ConfigError
from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objective
from recgraph.objectives.ranking import Ranking, num_valid
from recgraph.objectives.rows import first_order, mean_over_rows
from recgraph.registry import objectives
from recgraph.types import Batch, Encoding, PositiveFloat

UNDERFLOW = -87.0
"""Just above where exp leaves the normal float32 numbers (2⁻¹²⁶ at -87.3) and torch's exp takes twenty times as long.
Beside the largest term of a sum, which is 1, exp of it is negligible."""


@objectives.register("softmax")
class Softmax(Ranking):
    """Sampled softmax: -ln ( exp(s⁺/τ) / (exp(s⁺/τ) + Σ exp(s⁻/τ)) ), the mean over rows.

    Wu et al., "On the effectiveness of sampled softmax loss for item recommendation", TOIS 2024,
    https://arxiv.org/abs/2201.02327 (SSM). Computed as softplus(ln Σ exp(s⁻/τ) - s⁺/τ), which never overflows. The sum
    grows with the number of negatives, so values at different numbers of negatives cannot be compared. Negatives of a
    shared set that the row's user likes are left out; with none left, the loss of a row is 0.

    With `logq`, a negative adds exp(s⁻/τ) / (N q) to the denominator: ln q and ln N are subtracted from its logit,
    where q is its probability in one draw and N the number of draws. For any sampler, the sum then estimates the one
    over all items the user does not like: popular items are pushed down no harder than others, and values at different
    N can be compared. The positive is not sampled, so its logit is not corrected. Yi et al., "Sampling-bias-corrected
    neural modeling for large corpus item recommendations", RecSys 2019, https://doi.org/10.1145/3298689.3346996,
    correct it too, as one of the items of the batch. That is biased: Khrylchenko et al., "Correcting the logQ
    correction", RecSys 2025, https://arxiv.org/abs/2507.09331, whose row weights are not used here.

    Args:
        temperature: τ. The authors of BSL, who call this SL, use 0.08 to 0.17 with matrix factorisation.
        logq: whether to correct the negatives. It presumes that they are drawn with replacement, with known
            probabilities; those of `in_batch` count as drawn in proportion to their frequency in training, also the
            row's own place among the N, so that they estimate (N - 1) / N of the sum.
        head: name of the head whose scores are compared.
    """

    def __init__(self, *, temperature: PositiveFloat = 0.1, logq: bool = False, head: str = "rank") -> None:
        super().__init__(head=head)
        self.temperature, self.logq = temperature, logq
        if logq:
            self.needs = self.needs | {"log_q"}  # type: ignore[misc]  # this one's, not the class's

    def part_losses(self, positives: Tensor, negatives: Tensor, part: Batch, num_items: int) -> Tensor:
        """Correct the negatives if `logq` is set, then compare.

        Raises:
            ValueError: the batch has no probabilities of its negatives (`log_q`).
        """
        if self.logq:
            if part.log_q is None:
                raise ValueError("softmax with `logq`: give Batch a `log_q`, the ln of its negatives' probabilities")
            negatives = negatives - self.temperature * (part.log_q + math.log(negatives.shape[-1]))
        return super().part_losses(positives, negatives, part, num_items)

    def row_losses(self, positives: Tensor, negatives: Tensor, hits: Tensor | None, num_items: int) -> Tensor:
        """See the class."""
        return F.softplus(log_sum_exp(negatives, hits, self.temperature) - positives.squeeze(-1) / self.temperature)


@objectives.register("cross_entropy")
class CrossEntropy(Objective):
    """Softmax over the whole catalogue: -ln ( exp(s⁺/τ) / Σ exp(s/τ) ), the mean over rows, with no negatives drawn.

    Every item but the row's own counts as a negative, including items the user has already interacted with. Rows are
    processed in chunks, so that the rows × items scores and a head's intermediate values are never in memory all at
    once. It was the best loss for SASRec in the comparison of Klenitskiy and Vasilev, "Turning dross into gold loss: is
    BERT4Rec really better than SASRec?", RecSys 2023, https://arxiv.org/abs/2309.07602.

    Args:
        temperature: τ.
        head: name of the head whose scores are compared.
    """

    def __init__(self, *, temperature: PositiveFloat = 1.0, head: str = "rank") -> None:
        super().__init__()
        self.temperature, self.head = temperature, head

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class."""

        def losses(part: Batch, encoding: Encoding) -> Tensor:
            return cross_entropy(recommender.score(encoding, head=self.head), part.items, self.temperature)

        head = recommender.head(self.head)
        width = len(encoding.items) * head.pair_floats + head.query_floats(encoding.past)
        # Without the negatives of other objectives: where rows share a set of them, it would be a chunk.
        rows = replace(batch, negatives=None, hits=None, log_q=None)
        return mean_over_rows(losses, rows, encoding, width=width, parameters=tuple(recommender.heads.parameters()))


@objectives.register("bsl")
class BSL(Ranking):
    """Bilateral softmax loss: -ln E⁺[exp(s⁺/τ)] + c · ln E⁻[exp(s⁻/τ)], the mean over rows.

    Wu et al., "BSL: understanding and improving softmax loss for recommendation", ICDE 2024,
    https://arxiv.org/abs/2312.12882, in the form of the authors' code (https://github.com/junkangwu/BSL,
    utils/losses.py): E⁻ is the mean over the row's negatives, and c their `temperature_2`, an exponent on the
    denominator. Where they sum over negatives instead of taking the mean, the value differs by a constant and the
    gradient not at all. Unlike in `softmax`, the positive is not in the denominator, so the loss can be negative. With
    c = 1 and `by_user` false it is what the authors call SL. The paper has two temperatures instead,

        -τ₁ ln E⁺[exp(s⁺/τ₁)] + τ₂ ln E⁻[exp(s⁻/τ₂)],

    which is τ₂ times the above with τ = τ₂, `positive_temperature: τ₁`, `by_user: true` and c = 1.

    Args:
        temperature: τ, their `temperature` (0.08 to 0.30 in their settings).
        exponent: c (0.80 to 1.32 there); above 1, pushing negatives down weighs more than pulling positives up.
        by_user: E⁺ is the mean over all positives of the row's user in the batch (their mode "multi"; MF on Gowalla,
            Yelp2018 and MovieLens-1M), which tolerates positives unlike the others. Otherwise E⁺ is over the row's own
            positive (their mode "reweight": MF on Amazon, and LightGCN).
        positive_temperature: τ₁ for a user's positives, whose term becomes -(τ₁/τ) ln E⁺[exp(s⁺/τ₁)]; None for τ.
        head: name of the head whose scores are compared. They train with cosines; LightGCN then ranks by inner products
            on Gowalla, Yelp2018 and Amazon, which is `heads: {rank: dot, cosine: cosine}` and `head: cosine` here.
    """

    signed = True

    def __init__(
        self,
        *,
        temperature: PositiveFloat = 0.1,
        exponent: PositiveFloat = 1.0,
        by_user: bool = False,
        positive_temperature: PositiveFloat | None = None,
        head: str = "rank",
    ) -> None:
        super().__init__(head=head)
        if positive_temperature is not None and not by_user:
            raise ConfigError("bsl: positive_temperature is of the mean over a user's positives: set by_user to true")
        self.temperature, self.exponent, self.by_user = temperature, exponent, by_user
        self.positive_temperature = positive_temperature or temperature

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class; a user's positives are in several rows, so their mean is taken outside the chunks."""
        total = super().forward(recommender, batch, encoding)
        if not self.by_user:
            return total
        scores = self.scores(recommender, encoding, batch.items.unsqueeze(-1)).squeeze(-1)
        scores, users = scores / self.positive_temperature, batch.users
        if batch.mask is not None:
            scores, users = scores[batch.mask], users[batch.mask]
        difference = scores - log_mean_exp_of_groups(scores.flatten(), users.flatten()).view(scores.shape)
        scale = self.positive_temperature / self.temperature
        return total + scale * difference.sum() / max(1, difference.numel())

    def row_losses(self, positives: Tensor, negatives: Tensor, hits: Tensor | None, num_items: int) -> Tensor:
        """The loss with E⁺ over the row's own positive; a row without valid negatives has only the positive's term."""
        counts = num_valid(negatives, hits)
        below = log_sum_exp(negatives, hits, self.temperature) - counts.clamp(min=1).log()
        return self.exponent * torch.where(counts > 0, below, 0) - positives.squeeze(-1) / self.temperature


def log_sum_exp(
    values: Float[Tensor, "*batch negatives"], hits: Int[Tensor, "hits"] | None, temperature: float
) -> Float[Tensor, "*batch"]:
    """ln Σ exp(value / τ) over the negatives that are not hits; its gradient cannot be differentiated again.

    Hits get the lowest finite number, not -∞: a row of hits only then has this number as its value and a gradient of 0,
    where -∞ would give a gradient of ∞ - ∞.
    """
    found: Tensor = _LogSumExp.apply(values, hits, temperature)
    return found


class _LogSumExp(torch.autograd.Function):
    """One tensor of the size of `values`, written in place, and one exp; torch's own operations need twice as many."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, hits: Tensor | None, temperature: float) -> Tensor:
        ctx.dtype = values.dtype
        # autocast's are too coarse for sums
        shares = (values.to(torch.promote_types(values.dtype, torch.float32)) / temperature).contiguous()

        def fill(value: float) -> None:
            if hits is not None:
                shares.view(-1).index_fill_(0, hits, value)

        fill(torch.finfo(shares.dtype).min)
        peak = shares.amax(-1, keepdim=True)
        shares.sub_(peak).clamp_(min=UNDERFLOW).exp_()
        fill(0.0)
        total = shares.sum(-1, keepdim=True).clamp_(min=1)  # below 1 in rows of nothing but hits alone
        ctx.save_for_backward(shares, total * temperature)
        return (peak + total.log()).squeeze(-1)

    @staticmethod
    @first_order
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor, None, None]:
        shares, total = ctx.saved_tensors
        return (shares * (arriving.unsqueeze(-1) / total)).to(ctx.dtype), None, None


def cross_entropy(
    values: Float[Tensor, "*batch candidates"], targets: Int[Tensor, "*batch"], temperature: float = 1.0
) -> Float[Tensor, "*batch"]:
    """-ln softmax(value / τ) at the target; on a CPU it takes 90% of the time of torch's, 80% if τ is not 1.

    Its gradient cannot be differentiated again.
    """
    found: Tensor = _CrossEntropy.apply(values, targets.unsqueeze(-1), temperature)
    return found


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, targets: Tensor, temperature: float) -> Tensor:
        ctx.dtype, ctx.temperature = values.dtype, temperature
        if temperature != 1:
            values = values / temperature
        losses, shares = losses_and_shares(values, targets)
        ctx.save_for_backward(shares, targets)
        return losses

    @staticmethod
    @first_order
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor, None, None]:
        shares, targets = ctx.saved_tensors
        arriving = arriving.unsqueeze(-1) / ctx.temperature
        return (shares * arriving).scatter_add_(-1, targets, -arriving).to(ctx.dtype), None, None


def losses_and_shares(
    values: Float[Tensor, "*batch candidates"], targets: Int[Tensor, "*batch 1"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch candidates"]]:
    """-ln softmax at the target, and the softmax it is computed from, which the gradient needs anyway.

    The loss is max - target - ln softmax(max), which cannot underflow. Both have at least 32 bits, since autocast's 16
    bits are too coarse for sums.
    """
    wide = torch.promote_types(values.dtype, torch.float32)
    shares = values.softmax(-1, dtype=wide)
    below = values.amax(-1, keepdim=True).to(wide) - values.gather(-1, targets).to(wide)
    return (below - shares.amax(-1, keepdim=True).log()).squeeze(-1), shares


def log_mean_exp_of_groups(values: Float[Tensor, "rows"], groups: Int[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """For each row, the ln of the mean of exp over the rows of its group."""
    place = groups.unique(return_inverse=True)[1]
    zeros = torch.zeros_like(values)  # as many groups as rows at most
    peaks = zeros.scatter_reduce(0, place, values.detach(), "amax", include_self=False).index_select(0, place)
    sums = zeros.index_add(0, place, (values - peaks).exp()).index_select(0, place)
    counts = zeros.index_add(0, place, torch.ones_like(values)).index_select(0, place)
    return peaks + (sums / counts).log()
