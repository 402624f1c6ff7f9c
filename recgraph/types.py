"""Types that all parts of recgraph share, and the names of axes in shapes.

Shapes: `batch` is the number of rows in a batch; `dim` the width of a vector; `items` and `users` the numbers of all
items and users; `length` the length of a history; `negatives` the number drawn per row. `*batch` may be empty, one
axis, or (rows, positions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from recgraph.graph.bipartite import BipartiteGraph
    from recgraph.graph.low_rank import LowRankGraph
    from recgraph.graph.propagate import GraphPerLayer

PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
"""Option types with ranges, against which configurations are validated."""

LabelKind = Literal["classes", "tags", "number"]
"""What an auxiliary task predicts: one of several classes, any number of tags, or a number."""

PAD = 0
"""Padding in a history; item i is stored as i + 1."""

MASK = -1
"""Marks a step of a history whose item is hidden."""

CONTEXT = {"hour": 24, "weekday": 7}
"""Fields read from the time of an interaction, in the order of `Inputs.context`, with the number of values of each."""


def identity(hidden: Tensor) -> Tensor:
    """The perturbation that changes nothing."""
    return hidden


class Modality(NamedTuple):
    """Features of all users, or of all items, from one kind of source, such as text.

    Attributes:
        values: a vector per row, zeros where unknown; or, as int64, ids of values counted from 1, 0 for none.
        present: True where the features are known.
    """

    values: Float[Tensor, "rows width"] | Int[Tensor, "rows most"]
    present: Bool[Tensor, "rows"]


@dataclass(frozen=True, eq=False)
class Content:
    """Content of users and items, independent of interactions; see `recgraph.data.content`.

    Attributes:
        items: name -> modality of all items.
        users: name -> modality of all users.
    """

    items: Mapping[str, Modality]
    users: Mapping[str, Modality] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Content:
        """The content on `device`."""
        sides = ({k: Modality(*(t.to(device) for t in m)) for k, m in s.items()} for s in (self.items, self.users))
        return Content(*sides)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything that an encoder may read, which never includes the targets.

    Attributes:
        users: user index of each row.
        history: items that the user interacted with before the target, left-padded with `PAD`; item i is stored as i +
            1, and `MASK` replaces items that a view hides.
        graph: the training graph, or a view of it: other weights, a graph for each layer, or a low-rank graph.
        content: modalities of users and items.
        perturb: applied by encoders to each hidden layer; set by views (noise, dropout). If it has a true attribute
            `shifts`, the gradient passes through it unchanged, and need not be recorded.
        positions: request a query at these steps, given as indices into the flattened `history`, instead of after the
            last step of each history.
        every_layer: request `Encoding.layers`.
        context: the hour (0 to 23) and the weekday (0 for Monday) of each row, in UTC.
    """

    users: Int[Tensor, "*batch"]
    history: Int[Tensor, "*batch length"] | None = None
    graph: BipartiteGraph | GraphPerLayer | LowRankGraph | None = None
    content: Content | None = None
    perturb: Callable[[Tensor], Tensor] = identity
    positions: Int[Tensor, "rows"] | None = None
    every_layer: bool = False
    context: Int[Tensor, "*batch moments"] | None = None


class Distinct(NamedTuple):
    """The distinct users and positive items of a batch, in ascending order of index.

    Attributes:
        rows: the first row of each distinct user.
        items: the distinct items.
    """

    rows: Int[Tensor, "distinct_users"]
    items: Int[Tensor, "distinct_items"]

    @classmethod
    def of(
        cls, users: Int[Tensor, "batch"], items: Int[Tensor, "batch"], mask: Bool[Tensor, "batch"] | None = None
    ) -> Distinct:
        """Find them among the rows where `mask` is True; on CUDA, the host waits for their number."""
        rows = torch.arange(len(users), device=users.device)
        if mask is not None:
            users, items, rows = users[mask], items[mask], rows[mask]
        found, place = users.unique(return_inverse=True)
        first = rows.new_empty(len(found)).scatter_reduce_(0, place, rows, "amin", include_self=False)
        return cls(first, items.unique())


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs, and what only objectives may read; its rows are those of the inputs or, if given, their `positions`.

    Attributes:
        inputs: what the encoder reads.
        items: the positive item of each row.
        negatives: items sampled for the rows: one set per row, or fewer sets, each shared by consecutive rows: row r
            has set `r // ⌈batch / sets⌉`.
        hits: training positives of the rows among shared negatives: for each set, positions in the flattened matrix
            [rows of the set, negatives]. None if each row has its own set, which contains none.
        log_q: for each negative, the ln of its probability in one draw for these rows.
        labels: targets of auxiliary tasks by name, for each row's user, item or interaction; -1 (classes) or NaN where
            unknown or held out.
        evidence: for labels predicted from a text, the vector of each row's text.
        mask: True where a row counts; None if all do.
        generator: source of all random draws, such as those of views, on the device of the batch.
        partners: for each row, another training history that is followed by the same item.
        distinct: the batch's distinct users and items, found in advance on the host so that nothing waits for a GPU.
    """

    inputs: Inputs
    items: Int[Tensor, "*batch"]
    negatives: Int[Tensor, "*batch negatives"] | Int[Tensor, "sets negatives"] | None = None
    hits: tuple[Int[Tensor, "hits"], ...] | None = None
    log_q: Float[Tensor, "*batch negatives"] | Float[Tensor, "sets negatives"] | None = None
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    evidence: Mapping[str, Float[Tensor, "rows width"]] = field(default_factory=dict)
    mask: Bool[Tensor, "*batch"] | None = None
    generator: torch.Generator | None = None
    distinct: Distinct | None = None
    partners: Int[Tensor, "*batch length"] | None = None

    @property
    def users(self) -> Int[Tensor, "*batch"]:
        """The user of each row."""
        inputs = self.inputs
        if inputs.positions is None or inputs.history is None:
            return inputs.users
        return inputs.users.index_select(0, inputs.positions // inputs.history.shape[-1])

    @property
    def num_valid(self) -> int | Int[Tensor, ""]:
        """Number of rows (and positions) that count; with a mask at least 1, so that a mean over none is 0."""
        return self.items.numel() if self.mask is None else self.mask.sum().clamp(min=1)

    def parts(self, rows: int) -> Iterator[tuple[slice, Batch]]:
        """Yield consecutive parts of the batch with their slices: one per shared set, else of at most `rows` rows.

        Parts have no history, features or labels, which only encoders and whole batches need.
        """
        num_rows, users = len(self.items), self.users
        shared = self.hits is not None
        if self.negatives is not None and shared:
            rows = max(1, -(-num_rows // len(self.negatives)))
        for number, start in enumerate(range(0, num_rows, rows)):
            where = slice(start, start + rows)
            one = slice(number, number + 1) if shared else where
            yield (
                where,
                Batch(
                    Inputs(users[where], graph=self.inputs.graph),
                    self.items[where],
                    None if self.negatives is None else self.negatives[one],
                    None if self.hits is None else self.hits[one],
                    None if self.log_q is None else self.log_q[one],
                    mask=None if self.mask is None else self.mask[where],
                ),
            )


class Ego(NamedTuple):
    """Untransformed ("layer 0") vectors, on which L2 regularisation acts.

    Attributes:
        query: the parameter rows behind each query, or None: queries made of histories have none, and the vector that a
            user may have beside the history is not counted.
        items: the item table before any transformation; that of the item encoder, where there is one.
    """

    query: Float[Tensor, "*batch dim"] | None
    items: Float[Tensor, "items dim"]


class Sides(NamedTuple):
    """The collaborative and the content vector of each item, from an encoder that has both.

    Attributes:
        collaborative: learned from interactions; meaningless for an item without any.
        content: computed from the item's content.
    """

    collaborative: Float[Tensor, "items dim"]
    content: Float[Tensor, "items dim"]


class Past(NamedTuple):
    """The histories of users, for heads that read them.

    Attributes:
        history: as in `Inputs`.
        positions: steps of the history, one per row, as in `Inputs`; None if each row has its own history.
    """

    history: Int[Tensor, "batch length"]
    positions: Int[Tensor, "rows"] | None = None

    def rows(self) -> Int[Tensor, "rows length"]:
        """The history of each row up to its step, left-padded."""
        if self.positions is None:
            return self.history
        length = self.history.shape[1]
        row, step = self.positions // length, self.positions % length
        column = torch.arange(length, device=step.device) - (length - 1 - step)[:, None]
        found = self.history.index_select(0, row).gather(1, column.clamp(min=0))
        return torch.where(column >= 0, found, PAD)

    def part(self, where: slice) -> Past:
        """The histories of some of the rows."""
        if self.positions is None:
            return Past(self.history[where])
        return Past(self.history, self.positions[where])


@dataclass(frozen=True, eq=False)
class Encoding:
    """What an encoder returns.

    Attributes:
        query: one vector per row (and position).
        items: one vector per item of the catalogue.
        ego: the same vectors before any transformation.
        layers: (users, items) of each hidden layer, from layer 0, of those that share a vector space: one vector per
            user and one per item of the catalogue. Only if `Inputs.every_layer` is set; None from an encoder without
            layers.
        sides: the vectors that `items` combines, from an encoder that reads content; else None.
        past: the history before each query, from an encoder that reads histories; else None.
    """

    query: Float[Tensor, "*batch dim"]
    items: Float[Tensor, "items dim"]
    ego: Ego
    layers: Sequence[tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]] | None = None
    sides: Sides | None = None
    past: Past | None = None


class View:
    """An augmentation: a function from an encoder's inputs to an encoder's inputs.

    A view never modifies its argument, and the same generator state gives the same result.
    """

    changes: frozenset[str] = frozenset()
    """Names of the fields of `Inputs` that the view changes; the encoder must read one of them."""
    draws: bool = True
    """Whether two calls give two views, and not the same one twice."""
    leaves: type | None = None
    """The type of the resulting graph if the view changes it; the encoder must be able to read it."""
    linked: bool = True
    """Whether it can be applied to a graph that has links."""

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """Return changed inputs, with all random draws from `generator`."""
        raise NotImplementedError
