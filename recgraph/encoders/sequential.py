"""Shared parts of sequence encoders: where item and user vectors come from, and at which steps queries are made."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recgraph.encoders.base import Encoder, embedding_table, lookup
from recgraph.errors import ConfigError
from recgraph.numerics.dropout import Dropout
from recgraph.numerics.matmul import Linear
from recgraph.types import PAD, Ego, Encoding, Inputs, Past

UserVector = Literal["history", "sum", "gate"]
"""What a query is made of: the history alone, or also a vector that the user has whatever the history."""


class SequenceEncoder(Encoder):
    """Turns a user's history into a query; item vectors do not depend on the user.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors.
        max_length: number of most recent history steps that are read.
        std: standard deviation of the initial item vectors, and of user vectors if there are any.
        items: another encoder of the same width, such as a graph's, whose item vectors are used in place of a table.
            Its graph is the whole training graph, which includes a step's own target and later interactions.
        item_table: with `items`, keep a table too and mix both by a gate: g ⊙ table + (1 - g) ⊙ vector, with
            g = σ(W [table; vector] + b) for each item.
        user: "history" for queries from histories alone, "sum" to add a vector for the user, "gate" to mix both by a
            gate. The user vector comes from the other encoder, or from a table if there is none.
        item_dropout: dropout rate of the item vectors, with one mask for an item's steps and the item as a candidate.
    """

    reads = frozenset({"history", "perturb"})

    targets: frozenset[str] = frozenset({"every", "last"})
    """Which targets, of those that `sequences.targets` of an experiment file may name, the encoder can learn from."""

    ordered: ClassVar[bool] = True
    """Whether the order of a history matters to its query."""

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: int,
        max_length: int,
        std: float,
        items: Encoder | None = None,
        item_table: bool = False,
        user: UserVector = "history",
        item_dropout: float = 0.0,
    ) -> None:
        super().__init__(num_users, num_items, dim=dim)
        self.max_length, self.user, self.source, self.item_dropout = max_length, user, items, Dropout(item_dropout)
        if items is not None:
            items.layout.refuse_weights("encoder.items", type(self).__name__)
            if items.dim != dim or isinstance(items, SequenceEncoder):
                got = f"a {type(items).__name__} of dim {items.dim}"
                raise ConfigError(f"encoder.items: expected an encoder of dim {dim} that reads no histories, got {got}")
            self.reads = type(self).reads | items.reads
        elif item_table:
            raise ConfigError("encoder.item_table: there is nothing to mix the table with; give `items`")
        self.items = embedding_table(num_items, dim, std) if items is None or item_table else None
        self.users = embedding_table(num_users, dim, std) if items is None and user != "history" else None
        self.item_gate = Gate(dim) if item_table else None
        self.user_gate = Gate(dim) if user == "gate" else None

    def forward(self, inputs: Inputs) -> Encoding:
        """Vectors of all items, and a query for each row, or for each of `inputs.positions`."""
        found = self.catalogue(inputs)
        return replace(found, query=self.query(inputs, found), past=Past(self.history(inputs), inputs.positions))

    def catalogue(self, inputs: Inputs) -> Encoding:
        """The part independent of histories: item vectors, and user vectors as `query` if `user` asks for them."""
        ego = None if self.items is None else self.items.weight
        users, items = None, None if ego is None else inputs.perturb(ego)
        if self.source is not None:
            found = self.source(replace(inputs, history=None, positions=None, every_layer=False))
            users, ego = found.query, found.ego.items
            items = found.items if self.item_gate is None or items is None else self.item_gate(items, found.items)
        elif self.users is not None:
            users = lookup(self.users.weight, inputs.users)
        assert items is not None  # for the type checker: there is a table or another encoder
        assert ego is not None
        if users is None or self.user == "history":
            users = items.new_empty(len(inputs.users), 0)
        return Encoding(users, self.item_dropout(items), Ego(None, ego))

    def query(self, inputs: Inputs, catalogue: Encoding) -> Float[Tensor, "rows dim"]:
        """A query for each row, or for each of `inputs.positions`.

        Args:
            inputs: the histories and their users.
            catalogue: the result of the method `catalogue`, with the users of `inputs`.
        """
        read = self.read(inputs, catalogue.items)
        if self.user == "history":
            return read
        own = catalogue.query
        if inputs.positions is not None:
            own = own.index_select(0, inputs.positions // self.history(inputs).shape[1])
        return read + own if self.user_gate is None else self.user_gate(read, own)

    def read(self, inputs: Inputs, items: Float[Tensor, "items dim"]) -> Float[Tensor, "rows dim"]:
        """The queries as computed from the histories alone."""
        raise NotImplementedError

    def history(self, inputs: Inputs) -> Int[Tensor, "batch length"]:
        """The history; a ValueError if it is missing or does not fit."""
        if inputs.history is None or inputs.history.dim() != 2 or inputs.history.shape[1] > self.max_length:
            found = None if inputs.history is None else tuple(inputs.history.shape)
            raise ValueError(
                f"{type(self).__name__} reads Inputs.history of shape [batch, length], length at most "
                f"{self.max_length}, got {found}"
            )
        return inputs.history


class Gate(nn.Module):
    """Mixes two vectors as g ⊙ a + (1 - g) ⊙ b, with a learned gate g = σ(W [a; b] + bias) per dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = Linear(2 * dim, dim)

    def forward(self, one: Float[Tensor, "rows dim"], two: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        """The mixture."""
        return two + self.weight(torch.cat([one, two], -1)).sigmoid() * (one - two)  # lerp wants one type of both


def steps(
    items: Float[Tensor, "items dim"], history: Int[Tensor, "batch length"]
) -> tuple[Float[Tensor, "batch length dim"], Bool[Tensor, "batch length 1"]]:
    """The vector of each step, 0 for padding and masked items; and a mask of the steps that are not padding."""
    known = (history > PAD).unsqueeze(-1)
    return lookup(items, (history - 1).clamp(min=0)) * known, (history != PAD).unsqueeze(-1)


def at_positions(hidden: Float[Tensor, "batch length dim"], inputs: Inputs) -> Float[Tensor, "rows dim"]:
    """The vectors of the steps at which queries are made: the last, or `inputs.positions`."""
    return hidden[:, -1] if inputs.positions is None else hidden.flatten(0, 1).index_select(0, inputs.positions)
