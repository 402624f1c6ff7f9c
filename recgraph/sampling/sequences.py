"""Batches of histories and the items to predict from them, for encoders that read histories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from recgraph.errors import DataError
from recgraph.sampling.batches import Batches
from recgraph.sampling.positives import Positives
from recgraph.types import MASK, PAD, Batch, Distinct, Inputs
from recgraph.views.sequence import hidden, lengths

BLOCK = 16
"""Number of batches whose sequences are sorted by length together. A larger number saves padding, but makes it likelier
that the same sequences share a batch again; MovieLens-1M has three such blocks at a batch size of 128."""

Targets = Literal["every", "last", "masked"]
"""Which items of a sequence are predicted."""


class Sequences(NamedTuple):
    """Sequences as ranges of `Histories.items`.

    Attributes:
        users: user of each sequence.
        first, last: positions in `Histories.items`. Items from `first` up to but excluding `last` are read, and the one
            at `last` is predicted; with targets "every", all after `first` are. With "masked", the item at `last` is
            read as well, and those that are hidden are predicted.
    """

    users: Int[Tensor, "sequences"]
    first: Int[Tensor, "sequences"]
    last: Int[Tensor, "sequences"]


@dataclass(frozen=True, eq=False)
class SequenceBatches(Batches):
    """All sequences once per epoch; `batch_size` counts sequences, not targets.

    With targets "every", a user's latest `max_length` + 1 items are one sequence, and each item but the first is
    predicted from those before it, as in SASRec. With "last", each item of a user but the first is the only target of a
    sequence of its own: all items are learned from, but each is read many times. With "masked", the sequence of
    "every", `max_length` + 1 items, is read whole; some items, drawn anew in each epoch, are hidden and predicted, as
    in BERT4Rec, but without its windows over earlier items and its samples that hide the last item alone.

    Sequences are padded to the longest of their batch. To reduce padding, `BLOCK` batches at a time are sorted by
    length, cut into batches with about the same number of targets, and shuffled. So each target has about the same
    weight, and a batch of short sequences has more than `batch_size` of them. Blocks are drawn anew in each epoch.

    Attributes:
        max_length: maximum number of items that an encoder reads.
        targets: which items are predicted.
        masked: share of a sequence's items that "masked" hides, rounded to the nearest number, at least one. They are
            drawn from the generator of the negatives, as partners are.
        partners: whether to find `Batch.partners`.
    """

    max_length: int = 50
    targets: Targets = "every"
    masked: float = 0.2
    partners: bool = False

    @cached_property
    def sequences(self) -> Sequences:
        """All sequences of an epoch, ordered by user.

        Raises:
            DataError: no user has two items.
        """
        starts = self.train.histories.starts
        if self.targets != "last":
            users = (starts.diff() > 1).nonzero().squeeze(1)
            begin, last = starts[users], starts[users + 1] - 1
        else:
            users = torch.repeat_interleave(starts.diff())
            last = torch.arange(len(users))
            begin = starts[users]
            users, begin, last = (part[last > begin] for part in (users, begin, last))
        if not len(users):
            raise DataError("no user has two training interactions: there is nothing to predict from a history")
        return Sequences(users, torch.maximum(begin, last - self.max_length), last)

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-len(self.sequences.users) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """One epoch."""
        order = torch.randperm(len(self.sequences.users), generator=self.order)
        for block in order.split(BLOCK * self.batch_size):
            for rows in self._alike(block):
                yield self._batch(Sequences(*(part.index_select(0, rows) for part in self.sequences)))

    def _alike(self, rows: Int[Tensor, "block"]) -> list[Int[Tensor, "batch"]]:
        """A block's rows as batches of similar length with about the same number of targets, in random order."""
        lengths = (self.sequences.last - self.sequences.first).index_select(0, rows)
        lengths, order = lengths.sort(stable=True)
        count = -(-len(rows) // self.batch_size)
        targets = (lengths if self.targets != "last" else torch.ones_like(lengths)).cumsum(0)
        number = torch.arange(1, count)
        ends = torch.searchsorted(targets, number * targets[-1] // count, right=True)
        # At least one row per batch: ends increase, and leave a row for each later batch.
        ends = (torch.maximum(ends - number, ends.new_zeros(())).cummax(0).values + number).minimum(
            len(rows) - count + number
        )
        parts = rows.index_select(0, order).tensor_split(ends)
        return [parts[place] for place in torch.randperm(count, generator=self.order).tolist()]

    def _batch(self, chosen: Sequences) -> Batch:
        known = self.train.histories
        history, users, positions = known.between(chosen.first, chosen.last), chosen.users, None
        if self.targets == "every":
            positions = (history != PAD).flatten().nonzero().squeeze(1)
            items = known.between(chosen.first + 1, chosen.last + 1).flatten().index_select(0, positions) - 1
            users = users.index_select(0, positions // history.shape[1])
        elif self.targets == "masked":
            whole = known.between(chosen.first, chosen.last + 1)
            count = (lengths(whole) * self.masked).round().long().clamp(min=1)
            history = hidden(whole, count, self.sampling)
            positions = (history == MASK).flatten().nonzero().squeeze(1)
            items = whole.flatten().index_select(0, positions) - 1
            users = users.index_select(0, positions // history.shape[1])
        else:
            items = known.items.index_select(0, chosen.last) - 1
        negatives, hits, log_q = None, None, None
        if self.sampler is not None:
            negatives = self.sampler.sample(users, items, self.sampling)
            if self.sampler.shared_by is not None:
                hits = tuple(map(self._move, self.sampler.hits(users, negatives, hits_of_runs)))
            if self.log_q:
                log_q = self._move(self.sampler.log_q(users, negatives))
            negatives = self._move(negatives)
        distinct = Distinct(*map(self._move, Distinct.of(chosen.users, items))) if self.distinct else None
        labels = self._labels({"user": self._move(users), "item": self._move(items)}) if self.labels else {}
        return Batch(
            Inputs(
                self._move(chosen.users),
                self._move(history),
                self.graph,
                content=self.content,
                positions=None if positions is None else self._move(positions),
            ),
            self._move(items),
            negatives,
            hits,
            log_q,
            labels=labels,
            generator=self.views,
            distinct=distinct,
            partners=self._move(self._draw_partners(chosen)) if self.partners else None,
        )

    @cached_property
    def _by_target(self) -> tuple[Int[Tensor, "sequences"], Int[Tensor, "ends"]]:
        """Sequences sorted by target, and where those of each target begin."""
        targets = self.train.histories.items.index_select(0, self.sequences.last)
        counts = torch.bincount(targets, minlength=self.train.num_items + 1)
        return targets.argsort(stable=True), torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def _draw_partners(self, chosen: Sequences) -> Int[Tensor, "batch length"]:
        """For each sequence, another one with the same target, or itself if there is none."""
        (order, starts), known = self._by_target, self.train.histories
        targets = known.items.index_select(0, chosen.last)
        first, count = starts[targets], starts[targets + 1] - starts[targets]
        # Sequences are ordered by `last`, and so are those of each target.
        own = torch.searchsorted(self._keys, self._key(targets, chosen.last)) - first
        drawn = (torch.rand(len(targets), generator=self.sampling, dtype=torch.float64) * (count - 1)).long()
        drawn = torch.where(count > 1, drawn + (drawn >= own), own)
        partner = order[first + drawn]
        return known.between(self.sequences.first[partner], self.sequences.last[partner])

    @cached_property
    def _keys(self) -> Int[Tensor, "sequences"]:
        order, _ = self._by_target
        last = self.sequences.last[order]
        return self._key(self.train.histories.items.index_select(0, last), last)

    def _key(self, targets: Int[Tensor, "batch"], last: Int[Tensor, "batch"]) -> Int[Tensor, "batch"]:
        return targets * len(self.train.histories.items) + last


def hits_of_runs(
    positives: Positives, users: Int[Tensor, "rows"], sets: Int[Tensor, "sets negatives"]
) -> list[Int[Tensor, "hits"]]:
    """`Positives.hits` for rows with many consecutive rows of the same user, who is looked up only once."""
    found = []
    for part, items in zip(users.split(-(-len(users) // len(sets))), sets, strict=True):
        owners, rows = part.unique_consecutive(return_counts=True)
        (once,) = positives.hits(owners, items[None])
        owner, column = once // len(items), once % len(items)
        repeats = rows.index_select(0, owner)
        each = torch.repeat_interleave(repeats)
        row = torch.arange(len(each)) + ((rows.cumsum(0) - rows)[owner] - (repeats.cumsum(0) - repeats))[each]
        found.append(row * len(items) + column[each])
    return found
