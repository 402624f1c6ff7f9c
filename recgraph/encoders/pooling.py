"""The mean of a history: the baseline that attention has to beat.

This is how the base model of Zhou et al., "Deep interest network for click-through rate prediction", KDD 2018,
https://arxiv.org/abs/1706.06978, section 4.2, pools the items of a user.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from recgraph.encoders.base import Encoder
from recgraph.encoders.sequential import SequenceEncoder, UserVector, at_positions, steps
from recgraph.numerics.dropout import Dropout
from recgraph.registry import encoders
from recgraph.types import PAD, Fraction, Inputs, PositiveFloat, PositiveInt


@encoders.register("pooling")
class Pooling(SequenceEncoder):
    """Averages the item vectors of the history so far into a query.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors.
        max_length: number of most recent history steps that are read.
        dropout: dropout rate of the steps, in [0, 1).
        std: standard deviation of the initial item vectors.
        items, item_table, user: see `SequenceEncoder`.
    """

    ordered = False

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: PositiveInt = 64,
        max_length: PositiveInt = 50,
        dropout: Fraction = 0.0,
        std: PositiveFloat = 0.1,
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

    def read(self, inputs: Inputs, items: Float[Tensor, "items dim"]) -> Float[Tensor, "rows dim"]:
        """See the class; `inputs.perturb` acts on the item vectors and on the steps."""
        history = self.history(inputs)
        found, real = steps(items, history)
        found = inputs.perturb(self.dropout(found)) * real
        return at_positions(found.cumsum(1) / real.cumsum(1).clamp(min=1), inputs)

    def weights(
        self, found: Float[Tensor, "batch length dim"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length length"]:
        """The weight that each query step (next to last axis) gives each step up to it: all the same."""
        before = (history != PAD).to(found).unsqueeze(1).expand(-1, history.shape[1], -1).tril()
        return before / before.sum(-1, keepdim=True).clamp(min=1)
