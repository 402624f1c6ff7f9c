"""SASRec: causal self-attention over a user's history.

Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018, https://arxiv.org/abs/1808.09781, and the
authors' code (https://github.com/kang205/SASRec). With `frequency` it is BSARec: Shin et al., "An attentive inductive
bias for sequential recommendation beyond the self-attention", AAAI 2024, https://arxiv.org/abs/2312.10325.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.encoders.base import Encoder
from recgraph.encoders.sequential import SequenceEncoder, UserVector, steps
from recgraph.encoders.transformer import EPS, Attention, Block, LowPass, Norm, causal, check_heads, network, through
from recgraph.errors import ConfigError
from recgraph.numerics.dropout import Dropout
from recgraph.registry import encoders
from recgraph.types import Fraction, Inputs, NonNegativeInt, PositiveFloat, PositiveInt


@encoders.register("sasrec")
class SASRec(SequenceEncoder):
    """Makes a query from the last step of the history after blocks of causal self-attention and feed-forward networks.

    The item table provides both the input steps and the vectors that queries are compared with. Positions are learned
    and counted from the end of the history, so that padding on the left changes nothing; padded steps are 0 throughout.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors (50 in the paper).
        max_length: number of most recent history steps that are read (200 on MovieLens-1M, 50 elsewhere).
        num_blocks: blocks of attention and feed-forward network (2 in the paper).
        num_heads: attention heads (1 in the paper); must divide `dim`.
        dropout: dropout rate of input vectors and within blocks, in [0, 1) (0.2 on MovieLens-1M, 0.5 elsewhere).
        attention_dropout: dropout rate of attention weights; None for the value of `dropout`.
        norm: where layers are normalised. "query" follows the authors' code: q = LN(x), x = LN(q + attention(q, x)),
            then x + network(x), and LN at the end; items are first scaled by √dim. "pre" is x + f(LN(x)), and LN at the
            end. "post" is LN(x + f(x)), after LN of the input vectors, as in BERT and BSARec.
        feed_forward: hidden width of that network, as a multiple of `dim` (1 in the authors' code, 4 in BSARec).
        activation: of the feed-forward network ("relu" in the authors' code, "gelu" in BSARec).
        std: standard deviation of the initial item vectors and positions (0.02 in BSARec).
        frequency: α of BSARec, the share of the frequency filter in each block (0.7 on Beauty); 0 for none. The filter
            sees all steps at once, so only the last step may have a target; it requires `norm` "post".
        low_pass: c of BSARec; the mean and the ⌊c / 2⌋ lowest frequencies form the low-frequency part (5 on Beauty).
        items, item_table, user: see `SequenceEncoder`.
        item_dropout: dropout rate of item vectors, with one mask for an item's steps and the item as a candidate, as in
            RecTools (https://github.com/MobileTeleSystems/RecTools, `IdEmbeddingsItemNet`); 0 in the paper.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: PositiveInt = 64,
        max_length: PositiveInt = 50,
        num_blocks: NonNegativeInt = 2,
        num_heads: PositiveInt = 1,
        dropout: Fraction = 0.2,
        attention_dropout: Fraction | None = None,
        norm: Norm = "query",
        feed_forward: PositiveInt = 1,
        activation: Literal["relu", "gelu"] = "relu",
        std: PositiveFloat = 0.02,
        frequency: Fraction = 0.0,
        low_pass: PositiveInt = 5,
        items: Encoder | None = None,
        item_table: bool = False,
        user: UserVector = "history",
        item_dropout: Fraction = 0.0,
    ) -> None:
        super().__init__(
            *(num_users, num_items),
            dim=dim,
            max_length=max_length,
            std=std,
            items=items,
            item_table=item_table,
            user=user,
            item_dropout=item_dropout,
        )
        check_heads(dim, num_heads)
        if frequency and norm != "post":
            raise ConfigError(f"encoder.frequency: the filter wants norm 'post', got {norm!r}")
        if frequency:
            self.targets = frozenset({"last"})
        self.scale = math.sqrt(dim) if norm == "query" else 1.0
        # On the same scale as the steps that they are added to.
        self.positions = nn.Parameter(torch.randn(max_length, dim) * std * self.scale)
        self.norm, self.dropout, self.filtered = norm, Dropout(dropout), frequency
        self.edge = nn.LayerNorm(dim, eps=EPS)  # first with "post", else last
        act = {"relu": nn.ReLU, "gelu": nn.GELU}[activation]
        weights = dropout if attention_dropout is None else attention_dropout
        self.blocks = nn.ModuleList(
            Block(
                Attention(dim, num_heads, weights, project=norm != "query"),
                network(dim, feed_forward * dim, act(), inner=0.0 if norm == "post" else dropout, outer=dropout),
                norm=norm,
                dropout=dropout,
                low=LowPass(dim, max_length, low_pass, dropout) if frequency else None,
                alpha=frequency,
            )
            for _ in range(num_blocks)
        )

    def read(self, inputs: Inputs, items: Float[Tensor, "items dim"]) -> Float[Tensor, "rows dim"]:
        """See the class; `inputs.perturb` acts on the item vectors and on the output of each block.

        Raises:
            ValueError: queries at other steps than the last are requested with a filter, which sees all steps.
        """
        history = self.history(inputs)
        if "every" not in self.targets and inputs.positions is not None:
            raise ValueError("SASRec with `frequency` mixes all steps of a history: only the last can have a target")
        hidden, real = steps(items, history)
        hidden = hidden * self.scale + self.positions[self.max_length - history.shape[1] :]
        hidden = self.dropout(self.edge(hidden) if self.norm == "post" else hidden) * real
        found = through(self.blocks, hidden, causal(history), real, inputs)
        return found if self.norm == "post" else self.edge(found)
