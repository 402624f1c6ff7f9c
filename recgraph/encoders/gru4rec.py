"""GRU4Rec: a recurrent network over a user's history.

Hidasi, Karatzoglou, Baltrunas and Tikk, "Session-based recommendations with recurrent neural networks", ICLR 2016,
https://arxiv.org/abs/1511.06939. There sessions continue from batch to batch, with one target per step; here each
history is one row, as in later comparisons with SASRec.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from recgraph.encoders.base import Encoder
from recgraph.encoders.sequential import SequenceEncoder, UserVector, at_positions, steps
from recgraph.encoders.transformer import linear
from recgraph.numerics.dropout import Dropout
from recgraph.registry import encoders
from recgraph.types import Fraction, Inputs, PositiveFloat, PositiveInt


@encoders.register("gru4rec")
class GRU4Rec(SequenceEncoder):
    """Makes a query from the GRU state after the last step of the history, mapped to the item space.

    Histories are padded on the left, and padding must leave the state at 0: histories are rotated to begin in column 0,
    run through the GRU, and rotated back. The outputs at padding, then at the end, are not used.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors.
        max_length: number of most recent history steps that are read.
        hidden: width of the state (100 in the paper, which found 1000 to be better on large data).
        num_layers: stacked recurrent layers (1 in the paper).
        dropout: dropout rate of the steps, in [0, 1).
        std: standard deviation of the initial item vectors.
        items, item_table, user: see `SequenceEncoder`.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: PositiveInt = 64,
        max_length: PositiveInt = 50,
        hidden: PositiveInt = 128,
        num_layers: PositiveInt = 1,
        dropout: Fraction = 0.3,
        std: PositiveFloat = 0.02,
        items: Encoder | None = None,
        item_table: bool = False,
        user: UserVector = "history",
    ) -> None:
        super().__init__(
            *(num_users, num_items),
            dim=dim,
            max_length=max_length,
            std=std,
            items=items,
            item_table=item_table,
            user=user,
        )
        self.dropout = Dropout(dropout)
        self.units = nn.GRU(dim, hidden, num_layers, batch_first=True)
        self.output = linear(hidden, dim)

    def read(self, inputs: Inputs, items: Float[Tensor, "items dim"]) -> Float[Tensor, "rows dim"]:
        """See the class; `inputs.perturb` acts on the item vectors and on the queries."""
        history = self.history(inputs)
        found, real = steps(items, history)
        length = history.shape[1]
        column, padding = torch.arange(length, device=history.device), length - real.sum(1)
        states, _ = self.units(turned(self.dropout(found), (column + padding) % length))
        states = turned(states, (column - padding) % length) * real
        return inputs.perturb(self.output(at_positions(states, inputs)))


def turned(
    vectors: Float[Tensor, "batch length width"], columns: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch length width"]:
    """For each row and step, the vector at the given column."""
    return vectors.gather(1, columns.unsqueeze(-1).expand(-1, -1, vectors.shape[-1]))
