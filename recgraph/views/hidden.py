"""Views of the hidden layers: the same graph, perturbed vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from recgraph.random import random_integers
from recgraph.registry import views
from recgraph.types import Fraction, Inputs, NonNegativeFloat, View, identity

CPU_ROWS = 4096
"""Rows that get noise at a time on a CPU: of 64 numbers, a megabyte. All of Gowalla at once took a third to a half
longer on one quiet thread and on two, 2,048 as long. Two threads that share a core with another program wait for each
other at every part, and then all at once is faster, by 2.5 times with 4,096 and 3.5 with 2,048."""


@views.register("noise")
class Noise(View):
    """Moves each vector of each hidden layer by a step of fixed length within its own orthant.

        h' = h + eps · sign(h) ⊙ x / ‖x‖,  x uniform in [0, 1)ᵈ

    Yu et al., "Are graph augmentations necessary? Simple graph contrastive learning for recommendation" (SimGCL), SIGIR
    2022, https://arxiv.org/abs/2112.08679, section 3.1. x is as in the authors' code but for its resolution: an entry
    is the midpoint of one of 256 equal parts of [0, 1), with the mean of a uniform number, its variance to four
    digits, and a fraction of its cost. The next layer is computed from the noisy one. Layer 0 of a graph encoder is not
    perturbed; SimGCL also leaves it out of the mean, see `first_layer` of the encoder. An encoder without layers
    perturbs its vectors.

    Args:
        eps: length of the step, 0 or more (0.1 in SimGCL, 0.2 in XSimGCL). It is absolute: its effect depends on the
            norm of the vectors.
    """

    changes = frozenset({"perturb"})

    def __init__(self, *, eps: NonNegativeFloat = 0.1) -> None:
        self.eps = eps

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The inputs with noise after any earlier perturbation; the encoder draws from `generator` as it runs."""
        return replace(inputs, perturb=_Noisy(inputs.perturb, self.eps, generator))


class _Noisy:
    """The perturbation `before`, and then noise."""

    def __init__(self, before: Callable[[Tensor], Tensor], eps: float, generator: torch.Generator) -> None:
        self.before, self.eps, self.generator = before, eps, generator
        self.shifts = before is identity or getattr(before, "shifts", False)

    def __call__(self, hidden: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        moved: Tensor = _Moved.apply(self.before(hidden), self.eps, self.generator)
        return moved


class _Moved(torch.autograd.Function):
    """h + eps · sign(h) ⊙ x / ‖x‖, passing the gradient on unchanged; on a CPU in parts that fit its caches."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, eps: float, generator: torch.Generator) -> Tensor:
        found, levels = torch.empty_like(hidden), coarse_levels(hidden.shape, generator)
        rows = CPU_ROWS if hidden.device.type == "cpu" else max(1, len(hidden))
        for before, level, after in zip(*(table.split(rows) for table in (hidden, levels, found)), strict=True):
            drawn = level.to(hidden.dtype).add_(0.5)  # 256 x, which divided by its norm is the same
            steps = eps / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True)
            torch.sign(before, out=after)
            torch.addcmul(before, drawn.mul_(after), steps, out=after)
        return found

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor, None, None]:
        return arriving, None, None


@views.register("feature_mask")
class FeatureMask(View):
    """Hides some dimensions of hidden layers: h' = h ⊙ m, m in {0, 1}ᵈ, the same for all rows and layers of one width.

    Zhu et al., "Deep graph contrastive representation learning" (GRACE), 2020, https://arxiv.org/abs/2006.04131,
    section 3.2.1, mask input dimensions in this way. Here layer 0 of a graph encoder is left alone, as by `noise`.

    Args:
        rate: probability that a dimension is hidden, in [0, 1).
    """

    changes = frozenset({"perturb"})

    def __init__(self, *, rate: Fraction = 0.1) -> None:
        self.rate = rate

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The inputs with a mask after any earlier perturbation; the encoder draws from `generator` as it runs."""
        masks: dict[int, Tensor] = {}

        def perturb(hidden: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
            hidden = inputs.perturb(hidden)
            width = hidden.shape[-1]
            if width not in masks:
                masks[width] = torch.rand(width, generator=generator, device=hidden.device) >= self.rate
            return hidden * masks[width]

        return replace(inputs, perturb=perturb)


def coarse_levels(shape: torch.Size, generator: torch.Generator) -> UInt8[Tensor, "*shape"]:
    """Random indices, uniform over 256 equal parts of [0, 1), on the generator's device."""
    return random_integers(shape.numel(), torch.uint8, generator).view(shape)
