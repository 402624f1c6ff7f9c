"""Inner products of two sets of vectors, by the faster of the CPU's libraries."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# What torch.compile calls for a linear layer on CPU. Where a build has no oneDNN there is no such operator.
_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def inner_products(left: Float[Tensor, "*batch dim"], right: Float[Tensor, "columns dim"]) -> Tensor:
    """left @ right.T, of shape [*batch, columns].

    On CPU `@` is MKL's, which is slow on AMD's processors: oneDNN takes half of its time on an EPYC of 2024, forwards
    and backwards (`benchmarks/README.md`). torch has no public call of oneDNN that makes no copies.
    """
    if _linear is None or not _plain(left) or not _plain(right):
        return left @ right.T
    product: Tensor = _InnerProducts.apply(left.reshape(-1, left.shape[-1]), right)
    return product.view(*left.shape[:-1], len(right))


def _plain(tensor: Tensor) -> bool:
    """Whether oneDNN is to have it: what is empty, or has another type by itself or by autocast, stays with torch."""
    plain = tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.numel() > 0
    return plain and not torch.is_autocast_enabled("cpu")


class _InnerProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return _linear(left.contiguous(), right, None, "none", [], "")  # type: ignore[misc]

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        # The second, turned about so that `arriving`, the largest by far, is not copied into another order.
        return (
            inner_products(arriving, right.T) if wanted[0] else None,
            inner_products(left.T, arriving.T).T if wanted[1] else None,
        )
