"""Users' histories: their items in order of time, as sequential encoders read them."""

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
    """Each user's items in order of time, concatenated over users; on the CPU.

    Attributes:
        items: items of all users, item i stored as i + 1.
        starts: where each user's items begin in `items`, followed by the end of the last user's.
    """

    items: Int[Tensor, "rows"]
    starts: Int[Tensor, "ends"]

    @classmethod
    def of(cls, interactions: Interactions) -> Histories:
        """Histories sorted by the `time` column, ties in file order; without that column, in file order."""
        rows = np.arange(len(interactions))
        if "time" in interactions.frame.columns:
            rows = np.argsort(interactions.frame["time"].to_numpy(), kind="stable")
        users = interactions.user_indices
        rows = rows[np.argsort(users[rows], kind="stable")]
        counts = torch.from_numpy(np.bincount(users, minlength=interactions.num_users))
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return cls(torch.from_numpy(interactions.item_indices[rows]) + 1, starts)

    def last(self, users: Int[Tensor, "batch"], max_length: int) -> Int[Tensor, "batch length"]:
        """The latest items of each user, at most `max_length`, left-padded to the longest of the batch."""
        ends = self.starts[users + 1]
        return self.between(torch.maximum(self.starts[users], ends - max_length), ends)

    def between(self, first: Int[Tensor, "batch"], ends: Int[Tensor, "batch"]) -> Int[Tensor, "batch length"]:
        """The items from position `first` of `items` up to but excluding `ends`, left-padded to the longest.

        A batch of empty histories only is one column of padding.
        """
        width = max(1, int((ends - first).max()))
        places = ends[:, None] - width + torch.arange(width)
        found = self.items[places.clamp(0, max(0, len(self.items) - 1))] if len(self.items) else places
        return torch.where(places >= first[:, None], found, PAD)
