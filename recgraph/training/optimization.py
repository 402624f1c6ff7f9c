"""The optimisation step: precision, gradient clipping, Adam with a learning-rate schedule, and weight averaging."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from recgraph.errors import ConfigError
from recgraph.training.ftrl import FTRL
from recgraph.training.settings import TrainSettings


class Optimization:
    """Adam with a learning-rate schedule, with optional weight averaging and a separate optimiser for linear parts.

    Args:
        recommender: its parameters are trained, and averaged if the settings say so.
        objectives: their parameters are trained too.
        settings: the `train:` block.
        steps: number of steps per epoch.
    """

    def __init__(self, recommender: nn.Module, objectives: nn.Module, settings: TrainSettings, steps: int) -> None:
        self.parameters = [*recommender.parameters(), *objectives.parameters()]
        self.wide = wide_optimizer(recommender, settings)
        apart = set() if self.wide is None else set(self.wide.param_groups[0]["params"])
        # Fused Adam updates all tables in one pass over memory.
        adam = [parameter for parameter in self.parameters if parameter not in apart]
        self.adam = torch.optim.Adam(adam, lr=settings.lr, fused=True)
        factor = lr_factor(settings.schedule, warmup=settings.warmup * steps, total=settings.max_epochs * steps)
        self.schedule = LambdaLR(self.adam, factor)
        self.max_grad_norm = settings.max_grad_norm
        self.average = Average(recommender, settings.average * steps) if settings.average else None

    def zero_grad(self) -> None:
        """Clear all gradients."""
        self.adam.zero_grad()
        if self.wide is not None:
            self.wide.zero_grad()

    def step(self) -> None:
        """Clip the gradients and update the parameters, the learning rate and the average."""
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.adam.step()
        if self.wide is not None:
            self.wide.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Use the averaged weights in the recommender within the block, if there is an average."""
        if self.average is None:
            yield
            return
        self.average.swap()
        try:
            yield
        finally:
            self.average.swap()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume training."""
        average = self.average and {"num": self.average.num, "means": self.average.means}
        wide = self.wide and self.wide.state_dict()
        states = {"adam": self.adam.state_dict(), "schedule": self.schedule.state_dict()}
        return {**states, "average": average, "wide": wide}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.adam.load_state_dict(state["adam"])
        self.schedule.load_state_dict(state["schedule"])
        if self.wide is not None:
            self.wide.load_state_dict(state["wide"])
        if self.average is not None:
            self.average.num = state["average"]["num"]
            for mean, value in zip(self.average.means, state["average"]["means"], strict=True):
                mean.copy_(value)


def wide_optimizer(recommender: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer | None:
    """The separate optimiser of the parameters in modules called `wide`; None if `train.wide` is not set.

    Raises:
        ConfigError: `train.wide` is set, and there are no such parameters.
    """
    if settings.wide is None:
        return None
    parameters = [value for name, value in recommender.named_parameters() if "wide" in name.split(".")]
    if not parameters:
        raise ConfigError("train.wide: the model has no linear part: it is of encoder fields and its heads")
    if settings.wide.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, lr=settings.wide.lr)
    return FTRL(parameters, settings.wide.lr, l1=settings.wide.l1)


def lr_factor(schedule: str, *, warmup: float, total: int) -> Callable[[int], float]:
    """A function that returns the factor of the learning rate at a step, counted from 0.

    The factor is (t + 1) / warmup while that is below 1. Then, with x = (t - warmup) / (total - warmup) from 0 to 1, it
    is 1 (constant), 1 - x (linear) or (1 + cos πx) / 2 (cosine: Loshchilov and Hutter, "SGDR: stochastic gradient
    descent with warm restarts", ICLR 2017, https://arxiv.org/abs/1608.03983, section 3, to 0 and without restarts).

    Args:
        schedule: constant, linear or cosine.
        warmup: number of warm-up steps, below `total`.
        total: number of steps of the whole training.
    """

    def factor(step: int) -> float:
        if step + 1 < warmup:
            return (step + 1) / warmup
        done = min(1.0, max(0.0, step - warmup) / (total - warmup))
        return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[schedule]

    return factor


class Average:
    """The average of a module's parameters over recent steps.

    The n-th step has weight 1 / min(n, window). This is the plain mean of all steps until the window is full. From then
    on it is an exponential moving average with decay 1 - 1 / window, in which that plain mean has a weight of 1/e after
    `window` more steps. The initial parameters are never included. Averages of Adam's iterates: Kingma and Ba, "Adam: a
    method for stochastic optimization", ICLR 2015, https://arxiv.org/abs/1412.6980, section 7.2.

    Buffers (such as the statistics of batch normalisation) are not averaged: they keep the values of the last step.

    Args:
        module: already on its device; its parameters must not be replaced by others later.
        window: number of steps; below 1, the average is the last step alone.
    """

    def __init__(self, module: nn.Module, window: float) -> None:
        self.window, self.num = window, 0
        self.parameters = list(module.parameters())
        self.means: list[Tensor] = [parameter.detach().clone() for parameter in self.parameters]

    def update(self) -> None:
        """Add the current parameters to the average."""
        self.num += 1
        decay = 1 - 1 / max(1.0, min(self.num, self.window))
        get_ema_multi_avg_fn(decay)(self.means, self.parameters, self.num)

    def swap(self) -> None:
        """Exchange parameters and averages without copying."""
        for place, parameter in enumerate(self.parameters):
            parameter.data, self.means[place] = self.means[place], parameter.data


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Compute matrix products within the block in a precision of `train.precision`."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if name == "tf32" else before)
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
