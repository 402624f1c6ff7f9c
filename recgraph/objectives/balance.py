"""How the losses of several tasks are weighed against each other while they are trained.

A task is an objective that predicts something: the ranking one, called `rank`, and labels that are no probes. What else
a recipe has (regularisers, contrast, probes) keeps its weight. Weights of the experiment file are factors of the losses
before anything is balanced.
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
    """Takes the gradient of a step. Its parameters are trained along; its buffers are part of checkpoints.

    Args:
        num: how many tasks.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Fields of `Batch` that it reads."""

    weighs: ClassVar[bool] = True
    """Whether it weighs tasks by how large their losses are, which must then be above 0."""

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
            shared: parameters that the tasks have in common: those of the encoder, and of experts.
            generator: of the batch, on its device.
        """
        raise NotImplementedError

    def weights(self) -> Float[Tensor, "tasks"]:
        """Factors of the losses, as they are now; where a method has none, ones."""
        return torch.ones(self.num)


@balances.register("uncertainty")
class Uncertainty(Balance):
    """Learned weights: Σ exp(-sᵢ) Lᵢ + ½ sᵢ, with sᵢ = ln σᵢ², which is 0 at first.

    Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh losses for scene geometry and semantics",
    CVPR 2018, https://arxiv.org/abs/1705.07115, section 3.2. For squared errors the paper has ½ exp(-s) L, which only
    moves s by ln 2: at the optimum of s, the factor of every loss is 1 / (2 L) either way. For the same reason a task's
    weight in the file is but where its factor starts.
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
    """Weights that bring the gradients of all tasks to one size, larger for those that learn more slowly.

    With Gᵢ = wᵢ ‖∇Lᵢ‖ over shared parameters, Ḡ their mean, and rᵢ the loss relative to that of the first step, divided
    by the mean of that over tasks: each step moves w down the gradient of Σ |Gᵢ - Ḡ rᵢ^α|, where Ḡ rᵢ^α counts as a
    constant, and scales it so that its sum is the number of tasks. Chen et al., "GradNorm: gradient normalization for
    adaptive loss balancing in deep multitask networks", ICML 2018, https://arxiv.org/abs/1711.02257, section 3 and
    algorithm 1. Here the sum is divided by Ḡ, so that `lr` means the same for gradients of any size, a weight stays
    above 0.001, and the shared parameters are all those of the encoder, for an encoder of embeddings has no last layer.

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
        """See `Balance`; the step itself has the weights from before it."""
        norms = gram(gradients(losses, shared)).diagonal().sqrt()
        factors = self.factors.clone()
        self.step(losses.detach(), norms)
        (factors * losses).sum().add(rest).backward()

    def step(self, losses: Float[Tensor, "tasks"], norms: Float[Tensor, "tasks"]) -> None:
        """Move the weights by the losses of a step and the norms of their gradients, unweighted."""
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
    """Gradients that do not work against each other: each loses what of it is against another.

    Task by task, in a random order of the others: where gᵢ · gⱼ < 0, gᵢ becomes gᵢ - (gᵢ · gⱼ / ‖gⱼ‖²) gⱼ; gⱼ is as it
    was. Shared parameters follow the sum. Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020,
    https://arxiv.org/abs/2001.06782, algorithm 1. Parameters of one task's own follow its gradient as it is.
    """

    needs = frozenset({"generator"})
    weighs = False

    def backward(
        self, losses: Tensor, rest: Tensor, shared: Sequence[nn.Parameter], generator: torch.Generator | None
    ) -> None:
        """See `Balance`."""
        found = gradients(losses, shared)
        more = projected(gram(found), generator) - 1  # of each gradient, beside the one that backward adds
        losses.sum().add(rest).backward()
        for number, parameter in enumerate(shared):
            for task, own in enumerate(found):
                if (gradient := own[number]) is not None:
                    assert parameter.grad is not None
                    parameter.grad.addcmul_(gradient, more[task].to(gradient.dtype))


TINY = 1e-12
"""In place of a norm or a loss of 0 below a fraction bar."""

Gradients = list[tuple[Tensor | None, ...]]
"""Of each task, with respect to each shared parameter; None where the task does not depend on it."""


def gradients(losses: Float[Tensor, "tasks"], shared: Sequence[nn.Parameter]) -> Gradients:
    """The gradient of each loss by itself; the graph is kept."""
    return [torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True) for loss in losses.unbind()]


def gram(found: Gradients) -> Float[Tensor, "tasks tasks"]:
    """Inner products of the tasks' gradients, each taken as one long vector."""
    device = next(part.device for own in found for part in own if part is not None)
    zero = torch.zeros((), device=device)
    rows = []
    for one in found:
        row = []
        for other in found:
            both = zip(one, other, strict=True)
            row.append(sum(((a * b).sum().float() for a, b in both if a is not None and b is not None), zero))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def projected(products: Float[Tensor, "tasks tasks"], generator: torch.Generator | None) -> Float[Tensor, "tasks"]:
    """What each gradient counts in the sum of the projected ones.

    A projected gradient is a combination of the gradients, so its inner products follow from theirs.

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
            # A gradient has nothing against itself, but for rounding.
            share = torch.where(other == task, 0, inner.clamp(max=0) / against.index_select(0, at).clamp(min=TINY))
            combined = combined.index_put((torch.full_like(at, task), at), -share, accumulate=True)
    return combined.sum(0)
