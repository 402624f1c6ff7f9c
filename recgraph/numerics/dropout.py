"""Dropout that takes a quarter of the time of torch's on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recgraph.random import random_integers

LEVELS = 2**16
"""Rates are rounded to multiples of 1 / LEVELS."""


class Dropout(nn.Dropout):
    """`nn.Dropout`, computed by `dropout`."""

    def forward(self, values: Tensor) -> Tensor:
        """Apply dropout in training mode only."""
        return dropout(values, self.p) if self.training else values


def dropout(values: Tensor, rate: float) -> Tensor:
    """Set each value to zero with probability `rate`, and scale the others up to keep the expectation.

    On CPU, torch takes 12 ns per value to draw the mask (a Xeon of 2019), up to a third of a training step of a
    sequence encoder. Here each value uses 16 random bits, four values per draw of torch's generator. The rate is
    rounded to a multiple of 2⁻¹⁶, and kept values are divided by the rounded keep probability, so the expectation is
    exact.
    """
    kept = round((1 - rate) * LEVELS)
    if values.device.type != "cpu" or not 0 < kept < LEVELS:
        return F.dropout(values, rate)
    levels = random_integers(values.numel(), torch.int16, torch.default_generator).view(values.shape)
    mask = torch.lt(levels, kept - LEVELS // 2, out=torch.empty(values.shape, dtype=values.dtype))
    return values * mask.mul_(LEVELS / kept)
