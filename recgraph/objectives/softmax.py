"""Objectives that compare the positive with all of its negatives at once, through a log-sum-exp at a temperature.

Low temperatures give the hardest negatives nearly all of the gradient. They presume scores of a known size, which the
head `cosine` gives; with `dot` the length of the vectors is a temperature of its own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.errors import ConfigError
from recgraph.objectives.base import Objective
from recgraph.objectives.ranking import Ranking, num_valid
from recgraph.objectives.rows import first_order, mean_over_rows
from recgraph.recommender import Recommender
from recgraph.registry import objectives
from recgraph.types import Batch, Encoding, PositiveFloat

UNDERFLOW = -87.0
"""Where exp is about to leave the normal numbers of 32 bits (2⁻¹²⁶ at -87.3), and torch's to take twenty times as long.
Beside the largest term of a sum, which is 1, it is nothing."""


@objectives.register("softmax")
class Softmax(Ranking):
    """Sampled softmax: -ln ( exp(s⁺/τ) / (exp(s⁺/τ) + Σ exp(s⁻/τ)) ), the mean over rows.

    Wu et al., "On the effectiveness of sampled softmax loss for item recommendation", TOIS 2024,
    https://arxiv.org/abs/2201.02327 (SSM). Computed as softplus(ln Σ exp(s⁻/τ) - s⁺/τ), which never overflows. The sum
    grows with the number of negatives, so values at different numbers cannot be compared. Negatives of a shared set
    that the row's user likes are left out; with none left, the loss of a row is 0.

    With `logq`, a negative counts exp(s⁻/τ) / (N q) below the bar: of its logit are subtracted the ln of the chance q
    that a draw is it and the ln of the number N of draws. Whatever the sampler, the sum then estimates that over all
    items the user does not like: popular ones are pushed down no harder than others, and values at different N can be
    compared. The positive is there without being drawn, so its logit stays. Yi et al., "Sampling-bias-corrected neural
    modeling for large corpus item recommendations", RecSys 2019, https://doi.org/10.1145/3298689.3346996, correct it
    too, as one of the items of the batch; why that is biased: Khrylchenko et al., "Correcting the logQ correction",
    RecSys 2025, https://arxiv.org/abs/2507.09331, whose weights of rows are not part of this.

    Args:
        temperature: τ. The authors of BSL, who call this SL, use 0.08 to 0.17 with matrix factorisation.
        logq: whether negatives are corrected. It presumes negatives of a known probability, drawn with replacement;
            those of `in_batch` count as drawn in proportion to their frequency in training.
        head: name of the head whose scores are compared.
    """

    def __init__(self, *, temperature: PositiveFloat = 0.1, logq: bool = False, head: str = "rank") -> None:
        super().__init__(head=head)
        self.temperature, self.logq = temperature, logq
        if logq:
            self.needs = self.needs | {"log_q"}  # type: ignore[misc]  # this one's, not the class's

    def part_losses(self, positives: Tensor, negatives: Tensor, part: Batch, num_items: int) -> Tensor:
        """Correct the negatives, where that is asked for, and compare.

        Raises:
            ValueError: the batch does not say how likely its negatives were.
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

    Every item but the row's own is below the fraction bar as one that is not wanted, also those that the user has had.
    Rows are walked in chunks, so that rows × items scores, and what a head makes for them, are never in memory at once.
    For SASRec the best of the losses that Klenitskiy and Vasilev compared, "Turning dross into gold loss: is BERT4Rec
    really better than SASRec?", RecSys 2023, https://arxiv.org/abs/2309.07602.

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

        width = len(encoding.items) * recommender.head(self.head).pair_floats
        return mean_over_rows(losses, batch, encoding, width=width, parameters=tuple(recommender.heads.parameters()))


@objectives.register("bsl")
class BSL(Ranking):
    """Bilateral softmax loss: -ln E⁺[exp(s⁺/τ)] + c · ln E⁻[exp(s⁻/τ)], the mean over rows.

    Wu et al., "BSL: understanding and improving softmax loss for recommendation", ICDE 2024,
    https://arxiv.org/abs/2312.12882, in the form of the authors' code (https://github.com/junkangwu/BSL,
    utils/losses.py): E⁻ is the mean over the row's negatives, c their `temperature_2`, an exponent on what is below the
    fraction bar. Where they sum negatives instead of taking the mean, the value differs by a constant and the gradient
    not at all. Unlike `softmax`, the positive is not below the bar: the loss is no probability and can be negative.
    With c = 1 and `by_user` false it is what the authors call SL. The paper has two temperatures instead,

        -τ₁ ln E⁺[exp(s⁺/τ₁)] + τ₂ ln E⁻[exp(s⁻/τ₂)],

    which is τ₂ times the above with τ = τ₂, `positive_temperature: τ₁`, `by_user: true` and c = 1.

    Args:
        temperature: τ, their `temperature` (0.08 to 0.30 in their settings).
        exponent: c (0.80 to 1.32 there); above 1, pushing negatives down weighs more than pulling positives up.
        by_user: E⁺ is the mean over all positives of the row's user in the batch (their mode "multi"; MF on Gowalla,
            Yelp2018 and MovieLens-1M), which goes easy on positives that do not fit in with the others. Otherwise over
            the row's own one (their mode "reweight": MF on Amazon, and LightGCN).
        positive_temperature: τ₁ of the positives of a user, whose part is then -(τ₁/τ) ln E⁺[exp(s⁺/τ₁)]; None for τ.
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
        """See the class; a user's positives are in several rows, so that their mean is outside of the chunks."""
        total = super().forward(recommender, batch, encoding)
        if not self.by_user:
            return total
        scores = recommender.score(encoding, batch.items.unsqueeze(-1), head=self.head).squeeze(-1)
        scores, users = scores / self.positive_temperature, batch.users
        if batch.mask is not None:
            scores, users = scores[batch.mask], users[batch.mask]
        difference = scores - log_mean_exp_of_groups(scores.flatten(), users.flatten()).view(scores.shape)
        scale = self.positive_temperature / self.temperature
        return total + scale * difference.sum() / max(1, difference.numel())

    def row_losses(self, positives: Tensor, negatives: Tensor, hits: Tensor | None, num_items: int) -> Tensor:
        """With E⁺ over the row's own positive; a row without valid negatives has that part alone."""
        counts = num_valid(negatives, hits)
        below = log_sum_exp(negatives, hits, self.temperature) - counts.clamp(min=1).log()
        return self.exponent * torch.where(counts > 0, below, 0) - positives.squeeze(-1) / self.temperature


def log_sum_exp(
    values: Float[Tensor, "*batch negatives"], hits: Int[Tensor, "hits"] | None, temperature: float
) -> Float[Tensor, "*batch"]:
    """ln Σ exp(value / τ) over negatives without the hits; its gradient cannot be differentiated again.

    Hits get the lowest finite number, not -∞: a row of nothing but hits then has this number as its value and a
    gradient of 0, where -∞ would give a gradient of ∞ - ∞.
    """
    found: Tensor = _LogSumExp.apply(values, hits, temperature)
    return found


class _LogSumExp(torch.autograd.Function):
    """One tensor of the size of `values`, written in place, and one exp: torch's own steps take twice as many."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, hits: Tensor | None, temperature: float) -> Tensor:
        ctx.dtype = values.dtype
        # autocast's are too coarse for sums
        shares = values.to(torch.promote_types(values.dtype, torch.float32)) / temperature

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
    """-ln softmax(value / τ) at the target: torch's, in nine tenths of the time on a CPU, four fifths if τ is not 1.

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
    """-ln softmax at the target, from the softmax, which a gradient needs anyway; and the softmax.

    The first is max - target - ln softmax(max), which cannot underflow. Both have 32 bits at least, for autocast's are
    too coarse for sums.
    """
    wide = torch.promote_types(values.dtype, torch.float32)
    shares = values.softmax(-1, dtype=wide)
    below = values.amax(-1, keepdim=True).to(wide) - values.gather(-1, targets).to(wide)
    return (below - shares.amax(-1, keepdim=True).log()).squeeze(-1), shares


def log_mean_exp_of_groups(values: Float[Tensor, "rows"], groups: Int[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """For each row ln mean exp over the rows of its group."""
    place = groups.unique(return_inverse=True)[1]
    zeros = torch.zeros_like(values)  # as many groups as rows at most
    peaks = zeros.scatter_reduce(0, place, values.detach(), "amax", include_self=False).index_select(0, place)
    sums = zeros.index_add(0, place, (values - peaks).exp()).index_select(0, place)
    counts = zeros.index_add(0, place, torch.ones_like(values)).index_select(0, place)
    return peaks + (sums / counts).log()
