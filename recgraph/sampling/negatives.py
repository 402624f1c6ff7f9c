"""Negative samplers.

Sampling runs on the CPU, vectorised, so that a seed gives the same draws on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.data.interactions import Interactions
from recgraph.errors import ConfigError, DataError
from recgraph.numerics.alias import alias_table
from recgraph.registry import samplers
from recgraph.sampling.positives import Positives
from recgraph.types import NonNegativeFloat, PositiveInt


class Sampler:
    """Base class of negative samplers.

    Args:
        train: the training interactions.
        num: how many negatives a row, or a shared set, gets.
        shared_by: how many rows share a set of negatives; None draws for each row.
    """

    probabilities: Float[Tensor, "items"] | None = None
    """Probability of each item in one draw, the same for all users; None if it is unknown."""

    def __init__(self, train: Interactions, *, num: int, shared_by: int | None) -> None:
        self.num_items, self.num, self.shared_by = train.num_items, num, shared_by
        self.positives = Positives(train)

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, "count"]:
        """Draw `count` items from the sampler's distribution, the same for all users."""
        raise NotImplementedError

    def sample(
        self, users: Int[Tensor, "batch"], items: Int[Tensor, "batch"], generator: torch.Generator
    ) -> Int[Tensor, "sets negatives"]:
        """Negatives, on the CPU.

        Without `shared_by`: one set per row, without training positives of the row's user. Positives are redrawn until
        none is left, which keeps the relative probabilities of the other items.

        With `shared_by`: ⌈batch / shared_by⌉ sets. Row r has set r // ⌈batch / sets⌉. A set may contain positives of
        its rows, which `Positives.hits` finds.
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
        """The entries of the shared sets from `sample` that rows leave out, found by `find`; see `Positives.hits`."""
        return find(self.positives, users, sets)

    def log_q(
        self, users: Int[Tensor, "batch"], negatives: Int[Tensor, "sets negatives"]
    ) -> Float[Tensor, "sets negatives"]:
        """The ln of the probability in one draw of each negative that `sample` returned for these users.

        A row's own set never contains its user's positives, which makes all other items more likely.

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
        """For each user, the ln of the probability that one draw is not one of the user's positives."""
        assert self.probabilities is not None
        return (-self.positives.sums(self.probabilities)).log1p().float()

    def _check_somebody_left(self, train: Interactions, candidates: int) -> None:
        """Refuse users whose positives include all items that can be drawn: sampling would never end."""
        full = (self.positives.counts >= candidates).nonzero()
        if self.shared_by is None and len(full):
            user = train.users.decode([int(full[0])]).tolist()[0]
            raise DataError(
                f"user {user!r} has every item in training: there is no negative to draw. Share them (`shared_by`), "
                "or take cross_entropy, which draws none"
            )


@samplers.register("uniform")
class Uniform(Sampler):
    """Items drawn uniformly.

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
        """Draw each item with probability 1 / items."""
        return torch.randint(self.num_items, (count,), generator=generator)


@samplers.register("warm")
class Warm(Sampler):
    """Items that have training interactions, drawn uniformly.

    For models that read the content of items: with `uniform`, which also draws cold items, they would learn to score
    the content of cold items low. The authors of Heater and ALDI sample this way. Without content a cold item's vector
    is noise, and learning to score it low is right. Arguments are those of `Uniform`.
    """

    def __init__(self, train: Interactions, *, num: PositiveInt = 1, shared_by: PositiveInt | None = None) -> None:
        super().__init__(train, num=num, shared_by=shared_by)
        known = torch.bincount(torch.from_numpy(train.item_indices), minlength=self.num_items) > 0
        self._items = known.nonzero().squeeze(1)
        self.probabilities = known.double() / len(self._items)
        self._check_somebody_left(train, len(self._items))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw each of these items with the same probability."""
        return self._items[torch.randint(len(self._items), (count,), generator=generator)]


@samplers.register("popularity")
class Popularity(Sampler):
    """Items drawn in proportion to a power of their number of training interactions, pᵢ ∝ nᵢ^α.

    Mikolov et al., "Distributed representations of words and phrases and their compositionality", NIPS 2013,
    https://arxiv.org/abs/1310.4546, section 2.2, drew words this way, with α = 3/4.

    Args:
        train: the training interactions.
        num: how many negatives a row, or a shared set, gets.
        alpha: α; 0 is uniform over all items, 1 proportional to training frequency. Above 0, items without interactions
            are never drawn.
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
        """Draw each item with its probability, in constant time (Walker's alias method)."""
        items = torch.randint(self.num_items, (count,), generator=generator)
        stays = torch.rand(count, generator=generator) < self._keep[items]
        return torch.where(stays, items, self._alias[items])


@samplers.register("in_batch")
class InBatch(Sampler):
    """The positives of the other rows: each set consists of the items of the rows that share it.

    Items occur in sets in proportion to their training frequency, so this is `popularity` with α = 1, without drawing
    anything. A softmax against such items learns scores without popularity: `softmax` corrects that in training with
    `logq`, the head `cosine` in ranking with `popularity`. If the last set would be short, it is filled with items from
    the start of the batch.

    Args:
        train: the training interactions.
        shared_by: how many rows share a set, which is also approximately its size; at least 2, for a row's own item is
            no negative.
        keep_positives: count all items of the other rows as negatives, even those the row's user likes, as the authors
            of BSL do; otherwise such items are left out.
    """

    def __init__(
        self, train: Interactions, *, shared_by: Annotated[int, Ge(2)] = 2048, keep_positives: bool = False
    ) -> None:
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
        """See `Sampler.hits`; with `keep_positives` a row leaves out only its own place."""
        if not self.keep_positives:
            return super().hits(users, sets, find)
        each = -(-len(users) // len(sets))
        own = torch.arange(len(users)) % each
        return list((own * sets.shape[1] + own).split(each))
