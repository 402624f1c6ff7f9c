"""FTRL-Proximal, for linear parts of which most weights should be exactly 0."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class FTRL(torch.optim.Optimizer):
    """Follow the regularised leader, weight by weight:

        σ = (√(n + g²) - √n) / lr,  z ← z + g - σ w,  n ← n + g²
        w = 0 where |z| ≤ l1, else -(z - sign(z) l1) / ((β + √n) / lr + l2)

    McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, algorithm 1. Cheng et al., "Wide & deep
    learning for recommender systems", DLRS 2016, section 3.3, train their wide part so. All weights start at 0 there:
    whatever a weight is here, its first step sets it to what its gradients say.

    Args:
        parameters: to train; they should begin at 0.
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
        """Follow the gradients."""
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
