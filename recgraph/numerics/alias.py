"""Sampling from any distribution over items at the cost of two random numbers per draw."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def alias_table(probabilities: Float[Tensor, "items"]) -> tuple[Float[Tensor, "items"], Int[Tensor, "items"]]:
    """Build the table of Walker's alias method: for each item, the probability of keeping it, and its alias otherwise.

    A vectorised sweep: items of below-average probability (light) are filled up in order by the current item above
    average (heavy). A heavy item that has given away more than its surplus is filled up by the next heavy one. The idea
    is from Hübschle-Schneider and Sanders, "Parallel weighted random sampling", ESA 2019,
    https://arxiv.org/abs/1903.00227.
    """
    scaled = probabilities.double() * len(probabilities)
    keep, alias = torch.ones_like(scaled), torch.arange(len(scaled))
    light, heavy = (scaled < 1).nonzero().squeeze(1), (scaled >= 1).nonzero().squeeze(1)
    if len(heavy) == 0:  # all are equal, and rounded to just below 1
        return keep.float(), alias
    demand, supply = (1 - scaled[light]).cumsum(0), (scaled[heavy] - 1).cumsum(0)
    before = torch.cat([demand.new_zeros(1), demand])
    # A light item's alias is the first heavy item with supply left; the last heavy item absorbs rounding errors.
    giver = torch.searchsorted(supply, before[:-1], right=True).clamp_(max=len(heavy) - 1)
    keep[light], alias[light] = scaled[light], heavy[giver]
    # If the light items up to a heavy item's last one take more than the supply so far, the next heavy one fills it up.
    taken = before[torch.searchsorted(giver, torch.arange(len(heavy)), right=True)]
    keep[heavy[:-1]] = (1 - (taken - supply)[:-1]).clamp(0, 1)
    alias[heavy[:-1]] = heavy[1:]
    return keep.float(), alias
