"""BERT4Rec: bidirectional self-attention over a history, trained to predict masked items from both sides.

Sun et al., "BERT4Rec: Sequential recommendation with bidirectional encoder representations from transformer", CIKM
2019, https://arxiv.org/abs/1904.06690, and the authors' code (https://github.com/FeiSun/BERT4Rec).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recgraph.encoders.base import Encoder
from recgraph.encoders.sequential import SequenceEncoder, UserVector, steps
from recgraph.encoders.transformer import EPS, Attention, Block, check_heads, linear, network, through
from recgraph.numerics.dropout import Dropout
from recgraph.registry import encoders
from recgraph.types import MASK, PAD, Fraction, Inputs, PositiveFloat, PositiveInt


@encoders.register("bert4rec")
class BERT4Rec(SequenceEncoder):
    """Makes a query from the output of bidirectional self-attention blocks at a step whose item is masked.

    In training, `sequences: {targets: masked}` masks items of the history, and each is predicted from the others. To
    predict the next item, a masked step is appended to the history; `max_length` does not count it. Blocks are BERT's:
    LN(x + f(x)), feed-forward networks four times as wide, with GELU. The final map to item space is LN(GELU(W x + b)).
    The paper's per-item output bias is left out, since a query cannot hold it.

    Training samples differ as well. The authors (gen_data_fin.py) cut a history that is longer than `max_length` into
    overlapping windows, mask each window ten times beforehand, and once more its last item alone. Here only the latest
    `max_length` + 1 items are learned from, masks are drawn anew in each epoch, and no sample is made to mask the last
    item alone.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors (64 in the paper).
        max_length: number of most recent history steps that are read (200 on MovieLens-1M, 50 on Beauty).
        num_blocks: blocks of attention and feed-forward network (2 in the paper).
        num_heads: attention heads (2 in the paper); must divide `dim`.
        dropout: dropout rate of input vectors, within blocks, and of attention weights, in [0, 1).
        std: standard deviation of the initial item vectors and positions (0.02 in the authors' code).
        masked: fraction of a history's items that is masked in training, at least one item (0.2 on MovieLens and 0.6 on
            Beauty in the paper, which tunes it per dataset).
        items, item_table, user: see `SequenceEncoder`.
    """

    targets = frozenset({"masked"})

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: PositiveInt = 64,
        max_length: PositiveInt = 50,
        num_blocks: PositiveInt = 2,
        num_heads: PositiveInt = 2,
        dropout: Fraction = 0.1,
        std: PositiveFloat = 0.02,
        masked: Fraction = 0.2,
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
        check_heads(dim, num_heads)
        self.masked = masked
        self.hidden = nn.Parameter(torch.randn(dim) * std)
        self.positions = nn.Parameter(torch.randn(max_length + 1, dim) * std)
        self.edge, self.dropout = nn.LayerNorm(dim, eps=EPS), Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                Attention(dim, num_heads, dropout, project=True),
                network(dim, 4 * dim, nn.GELU(), inner=0.0, outer=dropout),
                norm="post",
                dropout=dropout,
            )
            for _ in range(num_blocks)
        )
        self.output, self.last = linear(dim, dim), nn.LayerNorm(dim, eps=EPS)

    def history(self, inputs: Inputs) -> Int[Tensor, "batch length"]:
        """See `SequenceEncoder.history`; a history with `inputs.positions` already contains its masked items."""
        found = inputs.history
        if found is not None and inputs.positions is not None and found.shape[1:] == (self.max_length + 1,):
            return found
        return super().history(inputs)

    def read(self, inputs: Inputs, items: Float[Tensor, "items dim"]) -> Float[Tensor, "rows dim"]:
        """See the class; `inputs.perturb` acts on the item vectors and on the output of each block.

        `inputs.positions` are masked steps, whose targets are the items that were masked.
        """
        history = self.history(inputs)
        if inputs.positions is None:
            history = F.pad(history, (0, 1), value=MASK)
        vectors, real = steps(items, history)
        vectors = vectors + (history == MASK).unsqueeze(-1) * self.hidden
        vectors = vectors + self.positions[self.max_length + 1 - history.shape[1] :]
        vectors = self.dropout(self.edge(vectors)) * real
        found = through(self.blocks, vectors, both_ways(history), real, inputs)
        return self.last(F.gelu(self.output(found)))


def both_ways(history: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 length length"]:
    """Which steps (last axis) each step may attend to: all that are not padding, and itself, as in `causal`."""
    itself = torch.eye(history.shape[1], dtype=torch.bool, device=history.device)
    return ((history != PAD)[:, None, :] | itself).unsqueeze(1)
