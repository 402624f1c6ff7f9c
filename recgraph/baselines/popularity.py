"""Popularity: a ranking that is the same for everyone, which every personalised model should beat."""

from __future__ import annotations

import torch

from recgraph.baselines.base import Baseline
from recgraph.data.interactions import Interactions
from recgraph.models.model import Scorer
from recgraph.registry import baselines


@baselines.register("popularity")
class Popularity(Baseline):
    """Ranks items by their number of training interactions, the same for every user.

    Fitting is one pass over the interactions; memory is O(items). Ties are ranked by item index.
    """

    counts: torch.Tensor

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items)
        self.register_buffer("counts", torch.zeros(num_items))

    def fit(self, train: Interactions) -> None:
        """Count each item's interactions."""
        items = torch.from_numpy(train.item_indices)
        self.counts.copy_(torch.bincount(items, minlength=self.num_items))

    def scorer(self) -> Scorer:
        """See `Model.scorer`."""
        return lambda users: self.counts.expand(len(users), -1)
