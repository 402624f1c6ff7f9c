"""FTRL-Proximal, for linear models in which most weights should be exactly 0."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class FTRL(torch.optim.Optimizer):
    """Follow the regularised leader, applied to each weight separately:

        σ = (√(n + g²) - √n) / lr,  z ← z + g - σ w,  n ← n + g²
        w = 0 where |z| ≤ l1, else -(z - sign(z) l1) / ((β + √n) / lr + l2)

    McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, algorithm 1. Cheng et al., "Wide & deep
    learning for recommender systems", DLRS 2016, section 3.3, train their wide part with it. All weights start at 0
    there. Here, the first step keeps only the share |g| / (β + |g|) of another initial value (for l1 = l2 = 0).

    Args:
        parameters: parameters to train; they should start at 0.
        lr: α, above 0.
        beta: β, 1 in the paper.
        l1, l2: λ₁ and λ₂, 0 or more.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, *, beta: float = 1.0, l1: float = 0.0, l2: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "beta": beta, "l1": l1, "l2": l2})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            lr, beta, l1, l2 = (group[name] for name in ("lr", "beta", "l1", "l2"))
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["z"], state["n"] = torch.zeros_like(weight), torch.zeros_like(weight)
                z, n, gradient = state["z"], state["n"], weight.grad
                before = n.sqrt()
                n.addcmul_(gradient, gradient)
                after = n.sqrt()
                z.add_(gradient).addcmul_((after - before) / lr, weight, value=-1)
                leader = -(z - z.sign() * l1) / ((beta + after) / lr + l2)
                weight.copy_(torch.where(z.abs() <= l1, 0, leader))
