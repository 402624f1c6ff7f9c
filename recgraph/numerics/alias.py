"""Drawing from any distribution over items in the time of two numbers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def alias_table(probabilities: Float[Tensor, "items"]) -> tuple[Float[Tensor, "items"], Int[Tensor, "items"]]:
    """Walker's alias method: for each item the chance to stay with it, and the item to go to otherwise.

    Vectorised as a sweep: in order, each item of less than average probability is filled up by the item above average
    whose surplus is due, and an item that has given more than its surplus is filled up by the next one above average
    (the idea of Hübschle-Schneider and Sanders, "Parallel weighted random sampling", ESA 2019,
    https://arxiv.org/abs/1903.00227).
    """
    scaled = probabilities.double() * len(probabilities)
    keep, alias = torch.ones_like(scaled), torch.arange(len(scaled))
    light, heavy = (scaled < 1).nonzero().squeeze(1), (scaled >= 1).nonzero().squeeze(1)
    if len(heavy) == 0:  # all are equal, and rounded down
        return keep.float(), alias
    demand, supply = (1 - scaled[light]).cumsum(0), (scaled[heavy] - 1).cumsum(0)
    before = torch.cat([demand.new_zeros(1), demand])
    # A light item goes to the first heavy one whose supply is not used up before it; the last takes rounding errors.
    giver = torch.searchsorted(supply, before[:-1], right=True).clamp_(max=len(heavy) - 1)
    keep[light], alias[light] = scaled[light], heavy[giver]
    # What the light items up to and including a heavy one's last take beyond its supply, the next heavy one gives.
    taken = before[torch.searchsorted(giver, torch.arange(len(heavy)), right=True)]
    keep[heavy[:-1]] = (1 - (taken - supply)[:-1]).clamp(0, 1)
    alias[heavy[:-1]] = heavy[1:]
    return keep.float(), alias
