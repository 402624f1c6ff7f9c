"""Balances: how the losses of several tasks are weighted against each other during training.

A task is an objective that predicts something: the ranking objective, called `rank`, and labels that are not probes.
All other terms of a recipe (regularisers, contrast, probes) keep their weights. Losses are multiplied by the weights in
the experiment file before they are balanced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.registry import balances
from recgraph.types import NonNegativeFloat, PositiveFloat


class Balance(nn.Module):
    """Computes the gradient of a step. Its parameters are trained with the model; its buffers are saved in checkpoints.

    Args:
        num: how many tasks.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Fields of `Batch` that it reads."""

    weighs: ClassVar[bool] = True
    """Whether it weights tasks by the size of their losses, which must then be above 0."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.num = num

    def backward(
        self,
        losses: Float[Tensor, "tasks"],
        rest: Float[Tensor, ""],
        shared: Sequence[nn.Parameter],
        generator: torch.Generator | None,
    ) -> None:
        """Add the gradient of a step to `.grad` of all parameters.

        Args:
            losses: of the tasks.
            rest: the sum of everything else.
            shared: parameters that the tasks have in common: those of the encoder and of the experts.
            generator: of the batch, on its device.
        """
        raise NotImplementedError

    def weights(self) -> Float[Tensor, "tasks"]:
        """The current factors of the losses; ones if the method has no factors."""
        return torch.ones(self.num)


@balances.register("uncertainty")
class Uncertainty(Balance):
    """Learned weights: Σ exp(-sᵢ) Lᵢ + ½ sᵢ, with sᵢ = ln σᵢ², which is 0 at first.

    Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh losses for scene geometry and semantics",
    CVPR 2018, https://arxiv.org/abs/1705.07115, section 3.2. For squared errors the paper has ½ exp(-s) L, which only
    moves s by ln 2: at the optimum of s, the factor of every loss is 1 / (2 L) either way. For the same reason, a
    task's weight in the experiment file only sets where its factor starts.
    """

    def __init__(self, num: int) -> None:
        super().__init__(num)
        self.log_variances = nn.Parameter(torch.zeros(num))

    def backward(
        self, losses: Tensor, rest: Tensor, shared: Sequence[nn.Parameter], generator: torch.Generator | None
    ) -> None:
        """See `Balance`."""
        ((-self.log_variances).exp() * losses + self.log_variances / 2).sum().add(rest).backward()

    def weights(self) -> Tensor:
        """exp(-s)."""
        return (-self.log_variances.detach()).exp()


@balances.register("gradnorm")
class GradNorm(Balance):
    """Weights that bring the gradients of all tasks to a common size, larger for tasks that learn more slowly.

    Let Gᵢ = wᵢ ‖∇Lᵢ‖ over shared parameters, Ḡ their mean, and rᵢ the loss divided by its value in the first step, over
    the mean of this ratio across tasks. Each step moves w down the gradient of Σ |Gᵢ - Ḡ rᵢ^α|, where Ḡ rᵢ^α counts as
    a constant, and rescales w to sum to the number of tasks. Chen et al., "GradNorm: gradient normalization for
    adaptive loss balancing in deep multitask networks", ICML 2018, https://arxiv.org/abs/1711.02257, section 3 and
    algorithm 1. Here the sum is divided by Ḡ, so that `lr` means the same for gradients of any size; weights are at
    least 0.001 before rescaling; and all shared parameters are used: embeddings have no last layer.

    Args:
        num: see `Balance`.
        alpha: α; 0 brings all gradients to one size (0.12 and 1.5 in the paper's experiments).
        lr: step of w (0.025 in the paper).
    """

    first: Tensor
    factors: Tensor

    def __init__(self, num: int, *, alpha: NonNegativeFloat = 1.5, lr: PositiveFloat = 0.025) -> None:
        super().__init__(num)
        self.alpha, self.lr = alpha, lr
        self.register_buffer("factors", torch.ones(num))
        self.register_buffer("first", torch.zeros(num))

    def backward(
        self, losses: Tensor, rest: Tensor, shared: Sequence[nn.Parameter], generator: torch.Generator | None
    ) -> None:
        """See `Balance`; the loss is weighted with the factors from before this step's update."""
        norms = torch.stack([product(own, own, losses) for own in gradients(losses, shared)]).sqrt()
        factors = self.factors.clone()
        self.step(losses.detach(), norms)
        (factors * losses).sum().add(rest).backward()

    def step(self, losses: Float[Tensor, "tasks"], norms: Float[Tensor, "tasks"]) -> None:
        """Update the weights from the losses of a step and the norms of their unweighted gradients."""
        self.first.copy_(torch.where(self.first > 0, self.first, losses))
        ratio = losses / self.first.clamp(min=TINY)
        sizes = self.factors * norms
        mean = sizes.mean().clamp(min=TINY)
        targets = mean * (ratio / ratio.mean().clamp(min=TINY)) ** self.alpha
        moved = (self.factors - self.lr * (sizes - targets).sign() * norms / mean).clamp(min=1e-3)
        self.factors.copy_(moved * self.num / moved.sum())

    def weights(self) -> Tensor:
        """w."""
        return self.factors.clone()


@balances.register("pcgrad")
class PCGrad(Balance):
    """Gradients without conflicts: from each, its component against any other is removed.

    For each task i, over the others j in random order: where gᵢ · gⱼ < 0, gᵢ becomes gᵢ - (gᵢ · gⱼ / ‖gⱼ‖²) gⱼ, with
    the original gⱼ. Shared parameters follow the sum. Yu et al., "Gradient surgery for multi-task learning", NeurIPS
    2020, https://arxiv.org/abs/2001.06782, algorithm 1. A task's own parameters follow its unchanged gradient.
    """

    needs = frozenset({"generator"})
    weighs = False

    def backward(
        self, losses: Tensor, rest: Tensor, shared: Sequence[nn.Parameter], generator: torch.Generator | None
    ) -> None:
        """See `Balance`."""
        found = gradients(losses, shared)
        more = projected(gram(found, losses), generator) - 1  # of each gradient, beside the one that backward adds
        losses.sum().add(rest).backward()
        for number, parameter in enumerate(shared):
            for task, own in enumerate(found):
                if (gradient := own[number]) is not None:
                    assert parameter.grad is not None
                    parameter.grad.addcmul_(gradient, more[task].to(gradient.dtype))


TINY = 1e-12
"""Lower bound of GradNorm's denominators, in place of a norm or a loss of 0."""

Gradients = list[tuple[Tensor | None, ...]]
"""For each task, its gradient for each shared parameter; None where the task does not depend on it."""


def gradients(losses: Float[Tensor, "tasks"], shared: Sequence[nn.Parameter]) -> Gradients:
    """The gradient of each loss separately; the autograd graph is kept."""
    return [torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True) for loss in losses.unbind()]


def product(one: Sequence[Tensor | None], other: Sequence[Tensor | None], losses: Tensor) -> Float[Tensor, ""]:
    """Inner product of two tasks' gradients, each taken as one long vector; on the device of `losses`."""
    both = zip(one, other, strict=True)
    return sum(((a * b).sum().float() for a, b in both if a is not None and b is not None), losses.new_zeros(()))


def gram(found: Gradients, losses: Tensor) -> Float[Tensor, "tasks tasks"]:
    """Inner products of all pairs of tasks' gradients."""
    num = len(found)
    known = {(i, j): product(found[i], found[j], losses) for i in range(num) for j in range(i + 1)}
    return torch.stack([torch.stack([known[max(i, j), min(i, j)] for j in range(num)]) for i in range(num)])


def projected(products: Float[Tensor, "tasks tasks"], generator: torch.Generator | None) -> Float[Tensor, "tasks"]:
    """The coefficient of each gradient in the sum of the projected ones.

    A projected gradient is a linear combination of the gradients, so its inner products follow from theirs.

    Args:
        products: inner products of the gradients.
        generator: draws the orders, on the device of `products`.
    """
    num = len(products)
    combined = torch.eye(num, dtype=products.dtype, device=products.device)
    for task in range(num):
        for other in torch.randperm(num, generator=generator, device=products.device).unbind():
            at = other.unsqueeze(0)
            against = products.index_select(1, at).squeeze(1)  # of each gradient with the other one
            inner = combined[task] @ against
            square = against.index_select(0, at)
            # A gradient has nothing against itself, but for rounding, and nothing is against a gradient of 0.
            idle = (other == task) | (square == 0)
            share = torch.where(idle, 0, inner.clamp(max=0) / square.masked_fill(idle, 1))
            combined = combined.index_put((torch.full_like(at, task), at), -share, accumulate=True)
    return combined.sum(0)
