"""Batches of labelled rows for click prediction, without negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from recgraph.data.clicks import context_of, outcomes
from recgraph.sampling.batches import Batches
from recgraph.types import Batch, Distinct, Inputs


@dataclass(frozen=True, eq=False)
class ClickBatches(Batches):
    """All rows of a labelled table once per epoch, shuffled, each with its label "click".

    Attributes:
        context: whether to give each row's hour and weekday.
    """

    context: bool = False

    def __iter__(self) -> Iterator[Batch]:
        """One epoch."""
        users, items = torch.from_numpy(self.train.user_indices), torch.from_numpy(self.train.item_indices)
        labels = torch.from_numpy(outcomes(self.train)).float()
        context = context_of(self.train) if self.context else None
        for rows in torch.randperm(len(users), generator=self.order).split(self.batch_size):
            own, other = users[rows], items[rows]
            moment = None if context is None else self._move(context[rows])
            yield Batch(
                Inputs(users=self._move(own), content=self.content, context=moment),
                self._move(other),
                labels={"click": self._move(labels[rows])},
                generator=self.views,
                distinct=Distinct(*map(self._move, Distinct.of(own, other))) if self.distinct else None,
            )
