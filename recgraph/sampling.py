"""Negative samplers, and the iterator that turns interactions into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from recgraph.data.interactions import Interactions
from recgraph.errors import DataError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.registry import samplers
from recgraph.types import Batch, Inputs, PositiveInt

BUILT = frozenset({"graph", "negatives"})
"""Fields of `Inputs` and `Batch` that are built when an encoder reads or an objective needs them."""


class Sampler:
    """Draws negatives for users.

    Args:
        train: the training interactions.
        num: how many negatives a row.
    """

    def __init__(self, train: Interactions, *, num: int) -> None:
        self.num_items, self.num = train.num_items, num

    def sample(self, users: Int[Tensor, "batch"], generator: torch.Generator) -> Int[Tensor, "batch negatives"]:
        """Negatives of each user, on the CPU."""
        raise NotImplementedError


@samplers.register("uniform")
class Uniform(Sampler):
    """Items drawn uniformly from those that are not a training positive of the user (exact, by rejection).

    Args:
        train: the training interactions.
        num: how many negatives a row (1 in BPR and LightGCN).
    """

    def __init__(self, train: Interactions, *, num: PositiveInt = 1) -> None:
        super().__init__(train, num=num)
        users, items = torch.from_numpy(train.user_indices), torch.from_numpy(train.item_indices)
        self._positives = torch.unique(users * self.num_items + items)  # sorted keys
        full = torch.bincount(self._positives // self.num_items) == self.num_items
        if full.any():
            user = train.users.decode([int(full.nonzero()[0])]).tolist()[0]
            raise DataError(f"user {user!r} has every item in training: there is no negative to draw")

    def sample(self, users: Int[Tensor, "batch"], generator: torch.Generator) -> Int[Tensor, "batch negatives"]:
        """Draw, then draw again where a positive was hit, until none is."""
        owners = users.repeat_interleave(self.num)
        drawn = torch.randint(self.num_items, owners.shape, generator=generator)
        todo = torch.arange(len(owners))
        while True:
            todo = todo[self._is_positive(owners[todo], drawn[todo])]
            if not len(todo):
                return drawn.view(len(users), self.num)
            drawn[todo] = torch.randint(self.num_items, todo.shape, generator=generator)

    def _is_positive(self, users: Tensor, items: Tensor) -> Tensor:
        keys = users * self.num_items + items
        nearest = torch.searchsorted(self._positives, keys).clamp_(max=len(self._positives) - 1)
        return self._positives[nearest] == keys


@dataclass(frozen=True, eq=False)
class Batches:
    """All training interactions once an epoch, in a fresh order, with only the fields that somebody reads.

    Attributes:
        train: the training interactions.
        batch_size: rows a batch; the last one may be smaller.
        order: generator of the row order.
        graph: handed to the encoder, already on the device; None if no encoder reads it.
        sampler: draws negatives; None if no objective reads them.
        sampling: generator of the negatives.
        device: where batches go. Sampling itself runs on the CPU, so that a seed means the same on every device.
    """

    train: Interactions
    batch_size: int
    order: torch.Generator
    sampling: torch.Generator
    graph: BipartiteGraph | None = None
    sampler: Sampler | None = None
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-len(self.train) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """One epoch."""
        users, items = torch.from_numpy(self.train.user_indices), torch.from_numpy(self.train.item_indices)
        for rows in torch.randperm(len(users), generator=self.order).split(self.batch_size):
            negatives = None
            if self.sampler is not None:
                negatives = self._move(self.sampler.sample(users[rows], self.sampling))
            inputs = Inputs(users=self._move(users[rows]), graph=self.graph)
            yield Batch(inputs, self._move(items[rows]), negatives)

    def _move(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)
