"""Alignment and uniformity: positives should be near each other, and everything spread over the sphere."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from recgraph.encoders.base import lookup
from recgraph.models.recommender import Recommender
from recgraph.numerics.matmul import inner_products, unit
from recgraph.objectives.base import Objective, masked_mean
from recgraph.objectives.rows import first_order, row_chunks
from recgraph.registry import objectives
from recgraph.types import Batch, Encoding, NonNegativeFloat


@objectives.register("direct_au")
class DirectAU(Objective):
    """Mean of ‖u - i‖² over rows plus γ times the mean of the uniformity of users and of items, on unit vectors.

    The uniformity of vectors is ln mean exp(-2 ‖x - y‖²) over pairs of different rows of the batch; a user or item that
    occurs twice is paired with itself at distance 0, as in the authors' code. No negatives are drawn, since uniformity
    replaces them; so a batch should be large enough to show how vectors are spread. Wang et al., "Towards
    representation alignment and uniformity in collaborative filtering", KDD 2022, https://arxiv.org/abs/2206.12811.

    Training uses unit vectors whichever head ranks; the authors' code (https://github.com/THUwangcy/DirectAU) ranks by
    inner products of the vectors as they are, which is the head `dot`.

    Args:
        gamma: γ (0.5, 5 and 1 on the authors' Beauty, Gowalla and Yelp2018, with matrix factorisation).
    """

    signed = True
    of_vectors = True

    def __init__(self, *, gamma: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class; masked rows are in no pair."""
        users = unit(encoding.query)
        items = unit(lookup(encoding.items, batch.items))
        alignment = masked_mean((users - items).square().sum(-1), batch.mask)
        if batch.mask is not None:
            users, items = users[batch.mask], items[batch.mask]
        spread = [uniformity(vectors.flatten(0, -2)) for vectors in (users, items)]
        return alignment + self.gamma * torch.stack(spread).mean()


def uniformity(vectors: Float[Tensor, "rows dim"]) -> Float[Tensor, ""]:
    """ln mean exp(-2 ‖x - y‖²) over pairs of rows, which are unit vectors; 0 where there is no pair.

    Between unit vectors ‖x - y‖² is 2 - 2⟨x, y⟩, so a pair counts exp(4⟨x, y⟩ - 4), from e⁻⁸ to 1: a plain sum is
    safe. Rows are processed in chunks, each paired with itself and the rows after it, so that memory stays bounded. The
    gradient cannot be differentiated again.
    """
    num = len(vectors)
    if num < 2:
        return vectors.sum() * 0

    # 16 bits are too coarse for sums.
    total: Tensor = _SumOverPairs.apply(vectors.to(torch.promote_types(vectors.dtype, torch.float32)))
    return (total / (num * (num - 1) / 2)).log()


class _SumOverPairs(torch.autograd.Function):
    """Σ exp(4⟨x, y⟩ - 4), with its gradient from the forward pass, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        ctx.gradient = torch.zeros_like(vectors) if ctx.needs_input_grad[0] else None
        total = vectors.new_zeros(())
        for where in row_chunks(vectors, width=len(vectors)):
            total += _add_chunk(vectors, where, ctx.gradient)
        return total

    @staticmethod
    @first_order
    def backward(ctx: Any, arriving: Tensor) -> Tensor | None:
        return None if ctx.gradient is None else ctx.gradient * arriving


def _add_chunk(vectors: Tensor, where: slice, gradient: Tensor | None) -> Float[Tensor, ""]:
    """The sum over a chunk's pairs; adds its gradient. A function, so that its tensors are freed before the next."""
    part, later = 4 * vectors[where], vectors[where.start :]
    close = inner_products(part, later).to(vectors.dtype).sub_(4).exp_()
    close[:, : len(part)].triu_(1)
    if gradient is not None:  # the second turned about so that what is close is not copied into another order
        gradient[where] += inner_products(close, later.T).mul_(4)
        gradient[where.start :] += inner_products(part.T, close.T).T
    return close.sum()
