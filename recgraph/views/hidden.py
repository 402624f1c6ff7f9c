"""Views of the hidden layers: the same graph, other vectors."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from recgraph.registry import views
from recgraph.types import Inputs, NonNegativeFloat, View


@views.register("noise")
class Noise(View):
    """Moves each vector of each hidden layer by a step of fixed length within its own orthant.

        h' = h + eps · sign(h) ⊙ x / ‖x‖,  x uniform in [0, 1)ᵈ

    Yu et al., "Are graph augmentations necessary? Simple graph contrastive learning for recommendation" (SimGCL), SIGIR
    2022, https://arxiv.org/abs/2112.08679, section 3.1, with x as in the authors' code. A noisy layer is what the next
    is made of. Layer 0 is not perturbed; SimGCL also leaves it out of the mean, see `first_layer` of the encoder.

    Args:
        eps: length of the step, 0 or more (0.1 in SimGCL, 0.2 in XSimGCL). Absolute: what it means depends on the norm
            of the vectors.
    """

    changes = frozenset({"perturb"})

    def __init__(self, *, eps: NonNegativeFloat = 0.1) -> None:
        self.eps = eps

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The inputs with noise after what perturbs them already; `generator` is drawn from as the encoder runs."""

        def perturb(hidden: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
            hidden = inputs.perturb(hidden)
            drawn = torch.rand(hidden.shape, generator=generator, dtype=hidden.dtype, device=hidden.device)
            return hidden + hidden.detach().sign() * F.normalize(drawn, dim=-1) * self.eps

        return replace(inputs, perturb=perturb)
