"""Negative samplers.

Sampling runs on the CPU, vectorised, so that a seed means the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.alias import alias_table
from recgraph.data.interactions import Interactions
from recgraph.errors import ConfigError, DataError
from recgraph.positives import Positives
from recgraph.registry import samplers
from recgraph.types import NonNegativeFloat, PositiveInt


class Sampler:
    """Draws negatives.

    Args:
        train: the training interactions.
        num: how many negatives a row, or a shared set, gets.
        shared_by: how many rows share a set of negatives; None draws for each row.
    """

    probabilities: Float[Tensor, "items"] | None = None
    """Of each item in one draw, whoever asks; None where a sampler does not know."""

    def __init__(self, train: Interactions, *, num: int, shared_by: int | None) -> None:
        self.num_items, self.num, self.shared_by = train.num_items, num, shared_by
        self.positives = Positives(train)

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, "count"]:
        """Items from the sampler's distribution, whoever asks."""
        raise NotImplementedError

    def sample(
        self, users: Int[Tensor, "batch"], items: Int[Tensor, "batch"], generator: torch.Generator
    ) -> Int[Tensor, "sets negatives"]:
        """Negatives, on the CPU.

        Without `shared_by`: a set for each row, in which no item is a training positive of the row's user. They are
        drawn again until none is, which leaves the distribution over the others as it is.

        With it: ⌈batch / shared_by⌉ sets. Row r has set r // ⌈batch / sets⌉. These may hold positives of some of their
        rows, which `Positives.hits` finds.
        """
        if self.shared_by is not None:
            sets = -(-len(users) // self.shared_by)
            return self.draw(sets * self.num, generator).view(sets, self.num)
        owners = users.repeat_interleave(self.num) if self.num > 1 else users
        drawn = self.draw(len(owners), generator)
        todo = self.positives.among(owners, drawn)
        while len(todo):
            drawn[todo] = self.draw(len(todo), generator)
            todo = todo[self.positives.among(owners[todo], drawn[todo])]
        return drawn.view(len(users), self.num)

    def hits(
        self,
        users: Int[Tensor, "batch"],
        sets: Int[Tensor, "sets negatives"],
        find: Callable[[Positives, Tensor, Tensor], list[Tensor]] = Positives.hits,
    ) -> list[Int[Tensor, "hits"]]:
        """For shared sets that `sample` gave these users, what rows leave out: see `Positives.hits`, or another way."""
        return find(self.positives, users, sets)

    def log_q(
        self, users: Int[Tensor, "batch"], negatives: Int[Tensor, "sets negatives"]
    ) -> Float[Tensor, "sets negatives"]:
        """For what `sample` gave these users, the ln of the probability of each in one draw.

        Where a row has a set of its own, its user's positives are never in it, which makes all others likelier.

        Raises:
            ConfigError: the sampler does not know its probabilities.
        """
        if self.probabilities is None:
            raise ConfigError(
                f"{type(self).__name__} has no `probabilities`, which the correction of scores is made of"
            )
        found = self.probabilities.log().float().index_select(0, negatives.flatten()).view(negatives.shape)
        if self.shared_by is not None:
            return found
        return found - self._log_left.index_select(0, users).unsqueeze(1)

    @cached_property
    def _log_left(self) -> Float[Tensor, "users"]:
        """For each user the ln of the probability that one draw is none of its positives."""
        assert self.probabilities is not None
        return (-self.positives.sums(self.probabilities)).log1p().float()

    def _check_somebody_left(self, train: Interactions, candidates: int) -> None:
        """Refuse a user whose positives are all of the items that can be drawn: sampling would never end."""
        full = (self.positives.counts >= candidates).nonzero()
        if self.shared_by is None and len(full):
            user = train.users.decode([int(full[0])]).tolist()[0]
            raise DataError(f"user {user!r} has every item in training: there is no negative to draw")


@samplers.register("uniform")
class Uniform(Sampler):
    """Items drawn evenly.

    Args:
        train: the training interactions.
        num: how many negatives a row, or a shared set, gets (1 in BPR and LightGCN).
        shared_by: how many rows share a set of negatives; None draws for each row.
    """

    def __init__(self, train: Interactions, *, num: PositiveInt = 1, shared_by: PositiveInt | None = None) -> None:
        super().__init__(train, num=num, shared_by=shared_by)
        self.probabilities = torch.full((self.num_items,), 1 / self.num_items, dtype=torch.float64)
        self._check_somebody_left(train, self.num_items)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Each item with probability 1 / items."""
        return torch.randint(self.num_items, (count,), generator=generator)


@samplers.register("warm")
class Warm(Sampler):
    """Items that have training interactions, drawn evenly.

    For models that know items by content: from `uniform`, which draws cold items as well, they would learn that the
    content of these is bad. The authors of Heater and ALDI draw so. Without content a cold item's vector is noise, and
    it is as well to learn that nobody takes it. Arguments are those of `Uniform`.
    """

    def __init__(self, train: Interactions, *, num: PositiveInt = 1, shared_by: PositiveInt | None = None) -> None:
        super().__init__(train, num=num, shared_by=shared_by)
        known = torch.bincount(torch.from_numpy(train.item_indices), minlength=self.num_items) > 0
        self._items = known.nonzero().squeeze(1)
        self.probabilities = known.double() / len(self._items)
        self._check_somebody_left(train, len(self._items))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Each of these items with the same probability."""
        return self._items[torch.randint(len(self._items), (count,), generator=generator)]


@samplers.register("popularity")
class Popularity(Sampler):
    """Items drawn in proportion to a power of their number of training interactions, pᵢ ∝ nᵢ^α.

    Mikolov et al., "Distributed representations of words and phrases and their compositionality", NIPS 2013,
    https://arxiv.org/abs/1310.4546, section 2.2, drew words so, with α = 3/4.

    Args:
        train: the training interactions.
        num: how many negatives a row, or a shared set, gets.
        alpha: α; 0 is uniform over all items, 1 is as often as in training. Above 0, items without interactions are
            never drawn.
        shared_by: how many rows share a set of negatives; None draws for each row.
    """

    def __init__(
        self,
        train: Interactions,
        *,
        num: PositiveInt = 1,
        alpha: NonNegativeFloat = 0.75,
        shared_by: PositiveInt | None = None,
    ) -> None:
        super().__init__(train, num=num, shared_by=shared_by)
        counts = torch.bincount(torch.from_numpy(train.item_indices), minlength=self.num_items)
        self.probabilities = counts.double() ** alpha / (counts.double() ** alpha).sum()
        self._check_somebody_left(train, int((self.probabilities > 0).sum()))
        self._keep, self._alias = alias_table(self.probabilities)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Each item with its probability, in constant time (Walker's alias method)."""
        items = torch.randint(self.num_items, (count,), generator=generator)
        stays = torch.rand(count, generator=generator) < self._keep[items]
        return torch.where(stays, items, self._alias[items])


@samplers.register("in_batch")
class InBatch(Sampler):
    """The positives of the other rows: a set is the items of the rows that share it.

    An item is in it as often as it is in training, so this is `popularity` with α = 1 without drawing anything. A
    softmax against such items learns scores without popularity: `softmax` corrects that with `logq` while it learns,
    the head `cosine` with `popularity` when it ranks. Where the last set would be short, it is filled with items from
    the start of the batch.

    Args:
        train: the training interactions.
        shared_by: rows that share a set, and about the size of it.
        keep_positives: count as negatives of a row whatever other rows have, even if its user likes it, as the authors
            of BSL do; otherwise such items are left out.
    """

    def __init__(self, train: Interactions, *, shared_by: PositiveInt = 2048, keep_positives: bool = False) -> None:
        super().__init__(train, num=shared_by, shared_by=shared_by)
        self.keep_positives = keep_positives
        counts = torch.bincount(torch.from_numpy(train.item_indices), minlength=self.num_items)
        self.probabilities = counts.double() / len(train)

    def sample(self, users: Tensor, items: Tensor, generator: torch.Generator) -> Tensor:
        """See `Sampler.sample`; nothing is drawn."""
        assert self.shared_by is not None  # for the type checker
        sets = -(-len(items) // self.shared_by)
        return items[torch.arange(-(-len(items) // sets) * sets) % len(items)].view(sets, -1)

    def hits(
        self,
        users: Tensor,
        sets: Tensor,
        find: Callable[[Positives, Tensor, Tensor], list[Tensor]] = Positives.hits,
    ) -> list[Tensor]:
        """See `Sampler.hits`; with `keep_positives` a row leaves out its own place alone."""
        if not self.keep_positives:
            return super().hits(users, sets, find)
        each = -(-len(users) // len(sets))
        own = torch.arange(len(users)) % each
        return list((own * sets.shape[1] + own).split(each))
