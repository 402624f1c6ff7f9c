"""The types that every part of recgraph shares, and the vocabulary of shapes.

Shapes: `batch` rows of a batch; `dim` width of a vector; `items` and `users` sizes of the catalogue; `length` of a
history; `negatives` drawn per row. `*batch` may be empty, one axis, or (rows, positions).
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
    from recgraph.data.features import Features
    from recgraph.graph.bipartite import BipartiteGraph
    from recgraph.graph.low_rank import LowRankGraph
    from recgraph.graph.propagate import GraphPerLayer

PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
"""Types of options with their ranges, which configurations are held to."""

LabelKind = Literal["classes", "tags", "number"]
"""What an auxiliary task predicts: one of several classes, any number of tags, or a number."""

PAD = 0
"""Padding in a history; item i is stored as i + 1."""

MASK = -1
"""A step of a history whose item is hidden."""

CONTEXT = {"hour": 24, "weekday": 7}
"""What is known of the moment of an interaction, in the order of `Inputs.context`, and how many values it has."""


def identity(hidden: Tensor) -> Tensor:
    """The perturbation that changes nothing."""
    return hidden


class Modality(NamedTuple):
    """What is known of each user, or of each item, from one kind of source, such as its text.

    Attributes:
        values: a vector each, zeros where nothing is known; or, as int64, ids of values counted from 1, 0 for none.
        present: True where something is.
    """

    values: Float[Tensor, "rows width"] | Int[Tensor, "rows most"]
    present: Bool[Tensor, "rows"]


@dataclass(frozen=True, eq=False)
class Content:
    """What users and items are, whoever interacted with them; see `recgraph.data.content`.

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
    """All that an encoder may see: never the targets.

    Attributes:
        users: user index of each row.
        history: items the user had before the target, left-padded with `PAD`, item i stored as i + 1; `MASK` where
            a view hides an item.
        graph: the training graph, or a view of it: other weights, a graph for each layer, or a graph of low rank.
        features: attributes of users and items.
        content: vectors of what users and items are.
        perturb: called by encoders on each hidden layer; a view replaces it (noise, dropout).
        positions: ask for a query at these steps of the histories, places in the flattened `history`, and not after the
            last step of each.
        every_layer: ask for `Encoding.layers`.
        context: of each row the hour (0 to 23) and the weekday (0 for Monday), UTC.
    """

    users: Int[Tensor, "*batch"]
    history: Int[Tensor, "*batch length"] | None = None
    graph: BipartiteGraph | GraphPerLayer | LowRankGraph | None = None
    features: Features | None = None
    content: Content | None = None
    perturb: Callable[[Tensor], Tensor] = identity
    positions: Int[Tensor, "rows"] | None = None
    every_layer: bool = False
    context: Int[Tensor, "*batch moments"] | None = None


class Distinct(NamedTuple):
    """Each user and each positive item of a batch once, in the order of their indices.

    Attributes:
        rows: the first row of each user.
        items: the items themselves.
    """

    rows: Int[Tensor, "distinct_users"]
    items: Int[Tensor, "distinct_items"]

    @classmethod
    def of(
        cls, users: Int[Tensor, "batch"], items: Int[Tensor, "batch"], mask: Bool[Tensor, "batch"] | None = None
    ) -> Distinct:
        """Found among the rows where `mask` is True. On CUDA the host waits for how many there are."""
        rows = torch.arange(len(users), device=users.device)
        if mask is not None:
            users, items, rows = users[mask], items[mask], rows[mask]
        found, place = users.unique(return_inverse=True)
        first = rows.new_empty(len(found)).scatter_reduce_(0, place, rows, "amin", include_self=False)
        return cls(first, items.unique())


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs plus what only objectives may see. A row is one of the inputs', or one of their `positions`.

    Attributes:
        inputs: what the encoder reads.
        items: the positive item of each row.
        negatives: sets of items drawn for the rows: one each, or fewer, which equal runs of rows share: row r has set
            r // ⌈batch / sets⌉.
        hits: where a shared set holds training positives of the rows that share it: for each set, positions in the
            flattened matrix [its rows, negatives]. None where each row has a set of its own, which holds none.
        log_q: for each of the negatives the ln of the probability that one draw for these rows is it.
        labels: targets of auxiliary tasks by name, of each row's user, item or interaction; -1 (classes) or NaN where
            they are not known or not to be learned from.
        evidence: for labels that a text tells, the vector of each row's text.
        mask: True where a row counts; None when all do.
        generator: what views draw from, on the device of the batch.
        partners: for each row another history that the same item comes after, from training.
        distinct: its users and items without repetition, known to the host beforehand so that nothing waits for a GPU.
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
        """Rows (and positions) that count; at least 1, so that a mean without any is 0."""
        return self.items.numel() if self.mask is None else self.mask.sum().clamp(min=1)

    def parts(self, rows: int) -> Iterator[tuple[slice, Batch]]:
        """The batch cut into consecutive parts and where each stands: one a shared set, else of `rows` rows at most.

        Without the history, features and labels, which are the encoder's and whole batches' matter.
        """
        num_rows, users = len(self.items), self.users
        shared = self.hits is not None
        if self.negatives is not None and shared:
            rows = -(-num_rows // len(self.negatives))
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
    """Untransformed ("layer 0") vectors: what L2 regularisation acts on.

    Attributes:
        query: the parameter rows behind each query, or None where a query has none of its own (sequences).
        items: the item table before any transformation.
    """

    query: Float[Tensor, "*batch dim"] | None
    items: Float[Tensor, "items dim"]


class Sides(NamedTuple):
    """The two vectors of each item of an encoder that has both.

    Attributes:
        collaborative: from who had it; of no meaning for an item that nobody had.
        content: from what it is.
    """

    collaborative: Float[Tensor, "items dim"]
    content: Float[Tensor, "items dim"]


class Past(NamedTuple):
    """What users had before, for heads that look at it.

    Attributes:
        history: as in `Inputs`.
        positions: steps of it, one a row, as in `Inputs`; None where each row has a history of its own.
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
        """That of some of the rows."""
        if self.positions is None:
            return Past(self.history[where])
        return Past(self.history, self.positions[where])


@dataclass(frozen=True, eq=False)
class Encoding:
    """What an encoder returns.

    Attributes:
        query: one vector per row (and position).
        items: one vector per item of the catalogue.
        ego: the same before any transformation.
        layers: (users, items) of each hidden layer from 0 on, as far as they are vectors of the same space: one a user
            and one an item of the catalogue. Only when `Inputs.every_layer` asks for them, and None from an encoder
            that has no layers.
        sides: what `items` is made of, from an encoder that knows content; else None.
        past: what came before each query, from an encoder that reads histories; else None.
    """

    query: Float[Tensor, "*batch dim"]
    items: Float[Tensor, "items dim"]
    ego: Ego
    layers: Sequence[tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]] | None = None
    sides: Sides | None = None
    past: Past | None = None


class View:
    """An augmentation: a function from an encoder's inputs to an encoder's inputs.

    A view never changes what it is given, and the same generator state gives the same result.
    """

    changes: frozenset[str] = frozenset()
    """Names of the fields of `Inputs` that the view changes; the encoder must read one of them."""
    leaves: type | None = None
    """The kind of graph that comes out, where it is another than went in; the encoder must be able to read it."""
    linked: bool = True
    """Whether it can be of a graph that has links."""

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """Return changed inputs, drawing all chance from `generator`."""
        raise NotImplementedError
