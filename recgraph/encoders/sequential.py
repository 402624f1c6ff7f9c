"""What encoders of histories share: where item vectors come from, and at which steps a query is wanted."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recgraph.encoders.base import Encoder, embedding_table, lookup
from recgraph.types import PAD, Ego, Encoding, Inputs


class SequenceEncoder(Encoder):
    """Turns what a user has had into a query; items have vectors whoever asks.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors.
        max_length: how much of a history is read, counted from its end.
        std: standard deviation of the initial item vectors.
    """

    reads = frozenset({"history"})

    targets: frozenset[str] = frozenset({"every", "last"})
    """Which targets, of those that `sequences.targets` of an experiment file may name, the encoder can learn from."""

    def __init__(self, num_users: int, num_items: int, *, dim: int, max_length: int, std: float) -> None:
        super().__init__(num_users, num_items, dim=dim)
        self.max_length = max_length
        self.items = embedding_table(num_items, dim, std)

    def forward(self, inputs: Inputs) -> Encoding:
        """Vectors of all items, and a query for each row, or for each of `inputs.positions`."""
        catalogue = self.catalogue(inputs)
        return Encoding(self.query(inputs, catalogue), catalogue.items, catalogue.ego)

    def catalogue(self, inputs: Inputs) -> Encoding:
        """Vectors of items, which do not depend on histories, as an `Encoding` whose query is of no interest."""
        items = self.items.weight
        return Encoding(items[:0], inputs.perturb(items), Ego(None, items))

    def query(self, inputs: Inputs, catalogue: Encoding) -> Float[Tensor, "rows dim"]:
        """A query for each row, or for each of `inputs.positions`, given what `catalogue` returned."""
        raise NotImplementedError

    def history(self, inputs: Inputs) -> Int[Tensor, "batch length"]:
        """The history, if it is there and fits.

        Raises:
            ValueError: it is missing, has another shape, or is longer than `max_length`.
        """
        if inputs.history is None or inputs.history.dim() != 2 or inputs.history.shape[1] > self.max_length:
            found = None if inputs.history is None else tuple(inputs.history.shape)
            raise ValueError(
                f"{type(self).__name__} reads Inputs.history of shape [batch, length], length at most "
                f"{self.max_length}, got {found}"
            )
        return inputs.history


def steps(
    items: Float[Tensor, "items dim"], history: Int[Tensor, "batch length"]
) -> tuple[Float[Tensor, "batch length dim"], Bool[Tensor, "batch length 1"]]:
    """The vector of each step of a history, 0 for padding and for a hidden item; and where there is no padding."""
    known = (history > PAD).unsqueeze(-1)
    return lookup(items, (history - 1).clamp(min=0)) * known, (history != PAD).unsqueeze(-1)


def at_positions(hidden: Float[Tensor, "batch length dim"], inputs: Inputs) -> Float[Tensor, "rows dim"]:
    """The vectors of the steps where a query is wanted: the last, or `inputs.positions`."""
    if inputs.positions is None:
        return hidden[:, -1]
    return hidden.flatten(0, 1).index_select(0, inputs.positions)


def causal(history: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 length length"]:
    """Which steps (last axis) each step may see: those before it that are no padding, and itself.

    A step of padding sees itself too: a softmax over nothing at all is NaN.
    """
    before = torch.ones(history.shape[1], history.shape[1], dtype=torch.bool, device=history.device).tril()
    itself = torch.eye(history.shape[1], dtype=torch.bool, device=history.device)
    return ((before & (history != PAD)[:, None, :]) | itself).unsqueeze(1)
