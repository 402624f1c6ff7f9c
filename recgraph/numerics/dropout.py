"""Dropout that costs a quarter of torch's on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recgraph.random import random_integers

LEVELS = 2**16
"""Rates are rounded to multiples of one over this."""


class Dropout(nn.Dropout):
    """`nn.Dropout`, by `dropout`."""

    def forward(self, values: Tensor) -> Tensor:
        """In training, zeros in place of a share of the values."""
        return dropout(values, self.p) if self.training else values


def dropout(values: Tensor, rate: float) -> Tensor:
    """Zeros in place of a share `rate` of the values, each with the same probability; the others are scaled up for it.

    On CPU torch takes 12 ns to decide about a value (a Xeon of 2019), which is up to a third of a step of a sequence
    encoder. Here 16 bits decide, of which one draw of torch's generator gives four: the rate is rounded to a multiple
    of 2⁻¹⁶, and what is kept is divided by the share that is then kept, so that its expectation is exact.
    """
    kept = round((1 - rate) * LEVELS)
    if values.device.type != "cpu" or not 0 < kept < LEVELS:
        return F.dropout(values, rate)
    levels = random_integers(values.numel(), torch.int16, torch.default_generator).view(values.shape)
    mask = torch.lt(levels, kept - LEVELS // 2, out=torch.empty(values.shape, dtype=values.dtype))
    return values * mask.mul_(LEVELS / kept)
