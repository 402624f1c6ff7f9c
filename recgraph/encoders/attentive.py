"""Attentive pooling: a query is a weighted mean of the items in the user's history, with learned weights.

Soft attention over the items of a history, as in attentive session-based and collaborative-filtering models: Li et al.,
"Neural attentive session-based recommendation" (NARM), CIKM 2017, https://arxiv.org/abs/1711.04725, and Chen et al.,
"Attentive collaborative filtering", SIGIR 2017, https://doi.org/10.1145/3077136.3080797. It reproduces neither: it uses
no recurrent network and no content, and weights depend only on the item and on how many steps ago it occurred.
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
from recgraph.types import PAD, Fraction, Inputs, PositiveFloat, PositiveInt


@encoders.register("attentive")
class Attentive(SequenceEncoder):
    """Pools steps s as Σ aₛ xₛ, with a = softmaxₛ(vᵀ tanh(W xₛ + b) + pₛ) and xₛ the item vectors.

    pₛ is a learned bias for the distance of step s from the step at which the query is made. Since no network follows,
    the query is a convex combination of the history's item vectors, whichever encoder they come from: with
    `items: lightgcn` this is attention over graph embeddings.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors.
        max_length: number of most recent history steps that are read.
        hidden: number of rows of W.
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
        hidden: PositiveInt = 64,
        dropout: Fraction = 0.2,
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
        self.inner, self.outer = linear(dim, hidden), nn.Linear(hidden, 1, bias=False)
        self.distance = nn.Parameter(torch.zeros(max_length))
        self.dropout = Dropout(dropout)

    def read(self, inputs: Inputs, items: Float[Tensor, "items dim"]) -> Float[Tensor, "rows dim"]:
        """See the class; `inputs.perturb` acts on the item vectors and on the steps."""
        history = self.history(inputs)
        found, real = steps(items, history)
        found = inputs.perturb(self.dropout(found)) * real
        if inputs.positions is None:
            return (self.weights(found, history, last=1) @ found).squeeze(1)
        return at_positions((self.weights(found, history) @ found) * real, inputs)

    def weights(
        self, found: Float[Tensor, "batch length dim"], history: Int[Tensor, "batch length"], last: int | None = None
    ) -> Float[Tensor, "batch queries length"]:
        """The weight that each query step, or each of the `last` ones, gives each step up to it (last axis)."""
        logits = self.outer(self.inner(found).tanh()).squeeze(-1)
        place = torch.arange(history.shape[1], device=history.device)
        asking = place if last is None else place[-last:]
        apart = asking[:, None] - place  # distance from the query step back to the other
        hidden = (apart < 0) | (history == PAD)[:, None, :]
        logits = logits[:, None, :] + self.distance[apart.clamp(min=0)]
        # Lowest finite number, not -inf: softmax over no steps is NaN. Padding vectors are 0, and so is their mean.
        return logits.masked_fill(hidden, torch.finfo(logits.dtype).min).softmax(-1)
