"""What users have had, in order of time: what sequential encoders read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from recgraph.types import PAD

if TYPE_CHECKING:
    from recgraph.data.interactions import Interactions


@dataclass(frozen=True, eq=False)
class Histories:
    """Each user's items in order of time, one user after the other; on the CPU.

    Attributes:
        items: of all users, item i stored as i + 1.
        starts: where in `items` each user begins; one more, which is where the last one ends.
    """

    items: Int[Tensor, "rows"]
    starts: Int[Tensor, "ends"]

    @classmethod
    def of(cls, interactions: Interactions) -> Histories:
        """In order of the `time` column, rows of one time in file order; without that column in file order."""
        rows = np.arange(len(interactions))
        if "time" in interactions.frame.columns:
            rows = np.argsort(interactions.frame["time"].to_numpy(), kind="stable")
        users = interactions.user_indices
        rows = rows[np.argsort(users[rows], kind="stable")]
        counts = torch.from_numpy(np.bincount(users, minlength=interactions.num_users))
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return cls(torch.from_numpy(interactions.item_indices[rows]) + 1, starts)

    def last(self, users: Int[Tensor, "batch"], max_length: int) -> Int[Tensor, "batch length"]:
        """The latest items of users, at most `max_length`, left-padded to the longest of these users' histories."""
        ends = self.starts[users + 1]
        return self.between(torch.maximum(self.starts[users], ends - max_length), ends)

    def between(self, first: Int[Tensor, "batch"], ends: Int[Tensor, "batch"]) -> Int[Tensor, "batch length"]:
        """Items from place `first` of `items` up to `ends`, which is not included, left-padded to the longest.

        A batch of nothing but empty histories is one column of padding.
        """
        width = max(1, int((ends - first).max()))
        places = ends[:, None] - width + torch.arange(width)
        found = self.items[places.clamp(0, max(0, len(self.items) - 1))] if len(self.items) else places
        return torch.where(places >= first[:, None], found, PAD)
