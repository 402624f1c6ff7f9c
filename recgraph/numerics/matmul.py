"""Inner products, unit vectors and linear layers, each by the fastest available implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# The operator that torch.compile uses for a linear layer on CPU. Builds without oneDNN lack it.
_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None

_cpu = Path("/proc/cpuinfo")
MKL_IS_SLOW = _cpu.exists() and "AuthenticAMD" in _cpu.read_text(encoding="utf-8")
"""Whether torch's own matrix products are slow here: they are MKL's, which has fast paths for Intel processors only."""

SMALL = 2**22
"""Products of fewer multiplications are left to torch, since a custom autograd function then costs at least as much as
oneDNN saves (128 x 64 x 64 takes twice torch's time, 2,048 x 128 x 64 two thirds)."""


def inner_products(
    left: Float[Tensor, "*batch dim"], right: Float[Tensor, "columns dim"], bias: Float[Tensor, "columns"] | None = None
) -> Tensor:
    """left @ right.T + bias, of shape [*batch, columns].

    On CPU, `@` uses MKL, which is slow on AMD processors: on an EPYC of 2024, oneDNN takes half of its time, forwards
    and backwards (`benchmarks/README.md`). On a Xeon of 2019 it takes as long forwards and 1.5 times as long backwards.
    torch has no public call to oneDNN that makes no copies.
    """
    small = left.numel() * len(right) < SMALL
    if _linear is None or not MKL_IS_SLOW or small or not _plain(left) or not _plain(right):
        return F.linear(left, right, bias)
    product: Tensor = _InnerProducts.apply(left.reshape(-1, left.shape[-1]), right, bias)
    return product if left.ndim == 2 else product.view(*left.shape[:-1], len(right))


def unit(vectors: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
    """Scale vectors to length 1, like `F.normalize`, whose gradient takes twice as long.

    Zero vectors, which have no direction, stay zero and pass no gradient; that of `F.normalize` is 1e12 there.
    """
    found: Tensor = _Unit.apply(vectors)
    return found


class Linear(nn.Linear):
    """`nn.Linear`, computed by `inner_products`."""

    def forward(self, values: Float[Tensor, "*batch inputs"]) -> Tensor:
        """W x + b for each x."""
        return inner_products(values, self.weight, self.bias)


def _plain(tensor: Tensor) -> bool:
    """Whether oneDNN can be used. Empty tensors, those not on CPU or not float32, and autocast are left to torch."""
    plain = tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.numel() > 0
    return plain and not torch.is_autocast_enabled("cpu")


class _InnerProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(left, right)
        # oneDNN takes a contiguous matrix or its transpose; on slices of wider rows its fallback is 2,000 times slower.
        if not right.T.is_contiguous():
            right = right.contiguous()
        return _linear(left.contiguous(), right, bias, "none", [], "")  # type: ignore[misc]

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            inner_products(arriving, right.T) if wanted[0] else None,
            _across(arriving, left) if wanted[1] else None,
            arriving.sum(0) if wanted[2] else None,
        )


def _across(one: Tensor, other: Tensor) -> Tensor:
    """one.T @ other; of the two, the one that has fewer columns is copied into another layout."""
    if one.shape[1] > other.shape[1]:
        return inner_products(other.T, one.T).T
    return inner_products(one.T, other.T)


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
        if torch.is_grad_enabled():  # double backward: the length must be part of the graph too
            scale = _scale(vectors)
        return (arriving - found * (arriving * found).sum(-1, keepdim=True)) * scale


def _scale(vectors: Tensor) -> Tensor:
    # 1e-12 is the eps of F.normalize. Clamped all the same: the gradient of 1 / 0 is NaN, even where it is not used.
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return length.clamp(min=1e-12).reciprocal().masked_fill(length <= 1e-12, 0.0)
