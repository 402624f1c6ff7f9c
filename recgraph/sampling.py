"""Negative samplers, and the iterator that turns interactions into batches.

Sampling runs on the CPU, vectorised, so that a seed means the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.alias import alias_table
from recgraph.data.interactions import Interactions
from recgraph.data.labels import LabelData
from recgraph.errors import ConfigError, DataError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.positives import Positives
from recgraph.registry import samplers
from recgraph.types import Batch, Content, Distinct, Inputs, NonNegativeFloat, PositiveInt

BUILT = frozenset(
    {"graph", "content", "history", "partners", "negatives", "log_q", "generator", "distinct"}
    | {"click", "context", "labels"}
)
"""Fields of `Inputs` and `Batch` that are built when an encoder reads or an objective needs them."""

BLOCK = 2**18
"""Rows for which an epoch is prepared at once: enough for the fixed cost of each tensor operation (some 5 µs) to vanish
even for small batches, and some 10 MB."""


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

    An item is in it as often as it is in training, so this is `popularity` with α = 1 without drawing anything.
    Where the last set would be short, it is filled with items from the start of the batch.

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


@dataclass(frozen=True, eq=False)
class Batches:
    """As many rows an epoch as there are training interactions, with only the fields that somebody reads.

    Attributes:
        train: the training interactions.
        batch_size: rows a batch; the last one may be smaller.
        order: generator of the row order.
        sampling: generator of the negatives.
        graph: handed to the encoder, already on the device; None if nobody reads it.
        sampler: draws negatives; None if no objective reads them.
        device: where batches go.
        views: generator that views draw from, on `device`; None if no objective needs it.
        distinct: find each batch's distinct users and items.
        log_q: give batches the probabilities of their negatives.
        content: handed to the encoder, already on the device; None if no encoder reads it.
        labels: what objectives learn to predict, already on the device.
        draw_by: the rows are all interactions, in a fresh order, or those of users drawn evenly; see `TrainSettings`.
    """

    train: Interactions
    batch_size: int
    order: torch.Generator
    sampling: torch.Generator
    graph: BipartiteGraph | None = None
    sampler: Sampler | None = None
    device: torch.device | str = "cpu"
    views: torch.Generator | None = None
    distinct: bool = False
    log_q: bool = False
    content: Content | None = None
    labels: Mapping[str, LabelData] = field(default_factory=dict)
    draw_by: Literal["interaction", "user"] = "interaction"

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-len(self.train) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """One epoch."""
        users, items = torch.from_numpy(self.train.user_indices), torch.from_numpy(self.train.item_indices)
        block = max(1, BLOCK // self.batch_size) * self.batch_size
        for rows in self._rows().split(block):
            yield from self._batches(users.index_select(0, rows), items.index_select(0, rows), rows)

    def _rows(self) -> Int[Tensor, "rows"]:
        """Which interactions an epoch has, in its order."""
        if self.draw_by == "interaction":
            return torch.randperm(len(self.train), generator=self.order)
        rows, starts, counts = self._by_user
        users = torch.randint(len(counts), (len(rows),), generator=self.order)
        shares = torch.rand(len(rows), generator=self.order, dtype=torch.float64)
        return rows[starts[users] + (shares * counts[users]).long()]

    @cached_property
    def _by_user(self) -> tuple[Int[Tensor, "rows"], Int[Tensor, "active"], Int[Tensor, "active"]]:
        """Interactions in the order of users; and of each user who has any, where they begin and how many they are."""
        users = torch.from_numpy(self.train.user_indices)
        counts = torch.bincount(users, minlength=self.train.num_users)
        active = counts > 0
        return users.argsort(stable=True), (counts.cumsum(0) - counts)[active], counts[active]

    def _batches(self, users: Tensor, items: Tensor, rows: Tensor) -> Iterator[Batch]:
        sampler, each = self.sampler, self.batch_size
        drawn = None
        if sampler is not None and sampler.shared_by is None:
            drawn = sampler.sample(users, items, self.sampling)
        for start in range(0, len(users), each):
            some = slice(start, start + each)
            negatives, hits = None if drawn is None else drawn[some], None
            if sampler is not None and drawn is None:
                negatives = sampler.sample(users[some], items[some], self.sampling)
                hits = tuple(map(self._move, sampler.hits(users[some], negatives)))
            log_q = None
            if self.log_q and sampler is not None and negatives is not None:
                log_q = sampler.log_q(users[some], negatives)
            moved = {"user": self._move(users[some]), "item": self._move(items[some])}
            of = moved | ({"interaction": self._move(rows[some])} if self.labels else {})
            yield Batch(
                Inputs(users=moved["user"], graph=self.graph, content=self.content),
                moved["item"],
                None if negatives is None else self._move(negatives),
                hits,
                None if log_q is None else self._move(log_q),
                generator=self.views,
                distinct=Distinct(*map(self._move, Distinct.of(users[some], items[some]))) if self.distinct else None,
                labels=self._labels(of),
                evidence={
                    name: label.text.index_select(0, of["interaction"])
                    for name, label in self.labels.items()
                    if label.text is not None
                },
            )

    def _labels(self, of: Mapping[str, Int[Tensor, "batch"]]) -> dict[str, Tensor]:
        """Labels of the users, items and interactions of rows."""
        return {name: one.table.index_select(0, of[one.settings.of]) for name, one in self.labels.items()}

    def _move(self, tensor: Tensor) -> Tensor:
        if torch.device(self.device).type == "cuda":
            tensor = tensor.pin_memory()  # else the copy waits for the GPU
        return tensor.to(self.device, non_blocking=True)
