"""Inner products of two sets of vectors, cosines and layers made of them, in the faster of the ways there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# What torch.compile calls for a linear layer on CPU. Where a build has no oneDNN there is no such operator.
_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None

_cpu = Path("/proc/cpuinfo")
MKL_IS_SLOW = _cpu.exists() and "AuthenticAMD" in _cpu.read_text(encoding="utf-8")
"""Whether torch's own products, which are MKL's, are slow here: it has its fast paths for Intel's processors alone."""

SMALL = 2**22
"""Products of fewer multiplications stay with torch: what autograd takes for a function of ours is then no less than
what oneDNN saves (128 x 64 x 64 takes twice as long, 2,048 x 128 x 64 two thirds)."""


def inner_products(
    left: Float[Tensor, "*batch dim"], right: Float[Tensor, "columns dim"], bias: Float[Tensor, "columns"] | None = None
) -> Tensor:
    """left @ right.T + bias, of shape [*batch, columns].

    On CPU `@` is MKL's, which is slow on AMD's processors: oneDNN takes half of its time on an EPYC of 2024, forwards
    and backwards (`benchmarks/README.md`), and on a Xeon of 2019 as much forwards and half as much again backwards.
    torch has no public call of oneDNN that makes no copies.
    """
    small = left.numel() * len(right) < SMALL
    if _linear is None or not MKL_IS_SLOW or small or not _plain(left) or not _plain(right):
        return F.linear(left, right, bias)
    product: Tensor = _InnerProducts.apply(left.reshape(-1, left.shape[-1]), right, bias)
    return product if left.ndim == 2 else product.view(*left.shape[:-1], len(right))


def unit(vectors: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
    """The vectors over their lengths, zeros for one of length 0: `F.normalize`, whose gradient takes twice as long."""
    found: Tensor = _Unit.apply(vectors)
    return found


class Linear(nn.Linear):
    """`nn.Linear`, with the products of `inner_products`."""

    def forward(self, values: Float[Tensor, "*batch inputs"]) -> Tensor:
        """W x + b for each x."""
        return inner_products(values, self.weight, self.bias)


def _plain(tensor: Tensor) -> bool:
    """Whether oneDNN is to have it: what is empty, or has another type by itself or by autocast, stays with torch."""
    plain = tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.numel() > 0
    return plain and not torch.is_autocast_enabled("cpu")


class _InnerProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(left, right)
        # oneDNN knows rows of either side in one piece; for parts of wider rows its fallback takes 2,000 times as long.
        if not right.T.is_contiguous():
            right = right.contiguous()
        return _linear(left.contiguous(), right, bias, "none", [], "")  # type: ignore[misc]

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        # The second, turned about so that `arriving`, the largest by far, is not copied into another order.
        return (
            inner_products(arriving, right.T) if wanted[0] else None,
            inner_products(left.T, arriving.T).T if wanted[1] else None,
            arriving.sum(0) if wanted[2] else None,
        )


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        scale = _scale(vectors)
        found = vectors * scale
        ctx.save_for_backward(vectors, found, scale)
        return found

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> Tensor:
        vectors, found, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated, by the vectors' length as well
            scale = _scale(vectors)
        return (arriving - found * (arriving * found).sum(-1, keepdim=True)) * scale


def _scale(vectors: Tensor) -> Tensor:
    # 1e-12 is F.normalize's.
    return torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=1e-12).reciprocal()
