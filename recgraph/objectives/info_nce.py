"""InfoNCE of vectors in any number, with a gradient that keeps nothing as large as the logits."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.errors import ConfigError
from recgraph.expected import mismatch
from recgraph.numerics.matmul import inner_products, unit
from recgraph.objectives.rows import first_order, row_chunks
from recgraph.objectives.softmax import losses_and_shares
from recgraph.types import PositiveFloat

Similarity = Literal["cosine", "dot"]


def info_nce(
    anchors: Float[Tensor, "anchors dim"],
    candidates: Float[Tensor, "candidates dim"],
    targets: Int[Tensor, "anchors"],
    *,
    temperature: float,
    similarity: Similarity = "cosine",
    bound: float | None = None,
) -> Float[Tensor, ""]:
    """Mean over anchors of -ln softmax(s(anchor, candidates) / τ) at its target.

    Processes the anchors in chunks, so that the anchors × candidates logits are never in memory at once. The gradient
    is computed with the value, and cannot be differentiated again.

    Args:
        anchors: vectors of any norm; they are normalised here for the cosine.
        candidates: likewise.
        targets: which candidate is the anchor's other vector.
        temperature: τ, above 0.
        similarity: s, the cosine or the inner product.
        bound: b, if s / τ of the target counts as at least -b and at most b where it is not in the softmax's sum.

    Raises:
        ConfigError: the temperature or the bound is not above 0, or there is no such similarity.
    """
    for name, value, kind in (
        *(("temperature", temperature, PositiveFloat), ("similarity", similarity, Similarity)),
        ("bound", bound, PositiveFloat | None),
    ):
        if expected := mismatch(value, kind):
            raise ConfigError(f"info_nce: {name} is {value!r}; expected {expected}")
    # 16 bits are too coarse for sums.
    wide = torch.promote_types(torch.promote_types(anchors.dtype, candidates.dtype), torch.float32)
    anchors, candidates = anchors.to(wide), candidates.to(wide)
    if similarity == "cosine":
        anchors, candidates = unit(anchors), unit(candidates)
    # τ divides the anchors, which are fewer numbers than the logits.
    found: Tensor = _InfoNCE.apply(anchors / temperature, candidates, targets.unsqueeze(-1), bound)
    return found


class _InfoNCE(torch.autograd.Function):
    """Computes its gradient in the forward pass, chunk by chunk, so that nothing as large as the logits is kept."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, candidates: Tensor, targets: Tensor, bound: float | None) -> Tensor:
        gradients = [
            torch.zeros_like(side) if needed else None
            for side, needed in zip((anchors, candidates), ctx.needs_input_grad, strict=False)
        ]
        total = anchors.new_zeros(())
        for where in row_chunks(anchors, width=len(candidates)):
            total += _add_chunk(anchors[where], candidates, targets[where], bound, gradients, where)
        ctx.gradients, ctx.num = gradients, max(1, len(anchors))
        return total / ctx.num

    @staticmethod
    @first_order
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor | None, ...]:
        scale = arriving / ctx.num
        return *(None if gradient is None else gradient * scale for gradient in ctx.gradients), None, None


def _add_chunk(
    part: Tensor,
    candidates: Tensor,
    targets: Tensor,
    bound: float | None,
    gradients: list[Tensor | None],
    where: slice,
) -> Float[Tensor, ""]:
    """The sum of a chunk's losses; adds their gradient. A function, so that its tensors are freed before the next."""
    logits = inner_products(part, candidates)
    losses, shares = losses_and_shares(logits, targets)
    pull = shares.new_full((), -1.0).expand_as(targets)
    if bound is not None:
        found = logits.gather(-1, targets)
        losses = losses + (found - found.clamp(-bound, bound)).squeeze(-1)
        pull = pull * (found.abs() <= bound)
    shares.scatter_add_(-1, targets, pull)
    of_anchors, of_candidates = gradients
    if of_anchors is not None:
        of_anchors[where] = inner_products(shares, candidates.T)
    if of_candidates is not None:  # turned about so that the shares are not copied into another order
        of_candidates += inner_products(part.T, shares.T).T
    return losses.sum()
