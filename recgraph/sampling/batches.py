"""The iterator that turns interactions into batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from recgraph.data.interactions import Interactions
from recgraph.data.labels import LabelData
from recgraph.errors import ConfigError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.sampling.negatives import Sampler
from recgraph.types import Batch, Content, Distinct, Inputs

BUILT = frozenset(
    {"graph", "content", "history", "partners", "negatives", "log_q", "generator", "distinct"}
    | {"click", "context", "labels", "perturb"}
)
"""Fields of `Inputs` and `Batch` that can be built, when an encoder or an objective needs them."""

BLOCK = 2**18
"""Number of rows prepared at once: enough to make the fixed cost of each tensor operation (about 5 µs) negligible even
with small batches, at about 10 MB."""

BLOCK_NEGATIVES = 2**20
"""Upper bound on the negatives of these rows together: drawing 2²⁴ took 600 MB."""


@dataclass(frozen=True, eq=False)
class Batches:
    """As many rows per epoch as there are training interactions, with only the fields that are needed.

    Attributes:
        train: the training interactions.
        batch_size: rows per batch; the last batch may be smaller.
        order: generator of the row order.
        sampling: generator of the negatives.
        graph: the encoder's input, already on the device; None if it reads none.
        sampler: draws negatives; None if no objective reads them.
        device: the device of the batches.
        views: generator for the random draws of views, on `device`; None if no objective needs it.
        distinct: whether to find each batch's distinct users and items.
        log_q: whether to give the ln of the probability of each negative.
        content: the encoder's input, already on the device; None if it reads none.
        labels: targets of auxiliary tasks, already on the device.
        draw_by: "interaction": all interactions, shuffled; "user": interactions of uniformly drawn users; see
            `TrainSettings`.
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
        """Batches per epoch."""
        return -(-len(self.train) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """One epoch."""
        users, items = torch.from_numpy(self.train.user_indices), torch.from_numpy(self.train.item_indices)
        each = 1 if self.sampler is None or self.sampler.shared_by is not None else self.sampler.num
        block = max(1, min(BLOCK, BLOCK_NEGATIVES // each) // self.batch_size) * self.batch_size
        for rows in self._rows().split(block):
            yield from self._batches(users.index_select(0, rows), items.index_select(0, rows), rows)

    def _rows(self) -> Int[Tensor, "rows"]:
        """The interactions of one epoch, in order."""
        if self.draw_by == "interaction":
            return torch.randperm(len(self.train), generator=self.order)
        rows, starts, counts = self._by_user
        users = torch.randint(len(counts), (len(rows),), generator=self.order)
        shares = torch.rand(len(rows), generator=self.order, dtype=torch.float64)
        return rows[starts[users] + (shares * counts[users]).long()]

    @cached_property
    def _by_user(self) -> tuple[Int[Tensor, "rows"], Int[Tensor, "active"], Int[Tensor, "active"]]:
        """Interactions sorted by user; and for each user with any, where they begin and how many there are."""
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
        """The labels of each row's user, item or interaction."""
        return {name: one.table.index_select(0, of[one.settings.of]) for name, one in self.labels.items()}

    def _move(self, tensor: Tensor) -> Tensor:
        if torch.device(self.device).type == "cuda":
            tensor = tensor.pin_memory()  # a copy from pageable memory would wait for the GPU
        return tensor.to(self.device, non_blocking=True)


def check_draws(draw_by: str, rows: str, *, corrected: bool, where: str) -> None:
    """Refuse draws that are meaningless, or corrected by probabilities that are not theirs.

    Args:
        draw_by: as in `Batches`.
        rows: what rows are if they are not single interactions, else empty.
        corrected: whether an objective corrects in-batch negatives for their frequency.
        where: path of the configuration, for messages.

    Raises:
        ConfigError: users are to be drawn and rows are not single interactions; or an objective corrects, and the
            positives of an epoch are not those of training.
    """
    if draw_by == "user" and rows:
        raise ConfigError(f"{where}: train.draw_by: 'user' draws single interactions, and rows are {rows} here")
    if corrected and (draw_by == "user" or rows == "histories"):
        which = "where users are drawn" if draw_by == "user" else "as targets of histories, which leave some items out"
        raise ConfigError(
            f"{where}: negatives: `logq` takes in_batch negatives to be as frequent as in training, which they are not "
            f"{which}; take popularity with alpha 1"
        )
