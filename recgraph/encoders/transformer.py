"""The parts of a transformer over histories, in the variants that sequential recommenders use."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recgraph.encoders.low_pass import EPS, LowPass
from recgraph.encoders.sequential import at_positions
from recgraph.errors import ConfigError
from recgraph.numerics.dropout import Dropout, dropout
from recgraph.numerics.matmul import Linear
from recgraph.types import PAD, Inputs

Norm = Literal["query", "pre", "post"]
"""Where layers are normalised; see `SASRec`."""


class Block(nn.Module):
    """Applies attention and then a feed-forward network, each with a residual connection.

    Args:
        attention, network: the two sublayers.
        norm: where layers are normalised.
        dropout: dropout rate of the attention output; "query" applies none, as in SASRec's code.
        low, alpha: a filter beside the attention, only with "post", and its weight; None for none.
    """

    def __init__(
        self,
        attention: Attention,
        network: nn.Module,
        *,
        norm: Norm,
        dropout: float,
        low: LowPass | None = None,
        alpha: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention, self.network, self.norm = attention, network, norm
        self.low, self.alpha, self.dropout = low, alpha, Dropout(dropout)
        self.first, self.second = (nn.LayerNorm(attention.dim, eps=EPS) for _ in range(2))

    def forward(self, hidden: Float[Tensor, "batch length dim"], mask: Tensor) -> Float[Tensor, "batch asking dim"]:
        """The last steps' output; `mask` has a row for each, True where it may attend to another (last axis)."""
        last = slice(-mask.shape[-2], None)
        asking = hidden[:, last]
        if self.norm == "query":
            query = self.first(asking)
            asking = self.second(query + self.attention(query, hidden, mask))
            return asking + self.network(asking)
        if self.norm == "pre":
            normed = self.first(hidden)
            asking = asking + self.dropout(self.attention(normed[:, last], normed, mask))
            return asking + self.network(self.second(asking))
        mixed = self.first(asking + self.dropout(self.attention(asking, hidden, mask)))
        if self.low is not None:
            mixed = self.alpha * self.low(hidden)[:, last] + (1 - self.alpha) * mixed
        return self.second(mixed + self.network(mixed))


class Attention(nn.Module):
    """Computes multi-head scaled dot-product attention.

    Args:
        dim: width of the vectors.
        num_heads: number of heads; must divide `dim`.
        dropout: dropout rate of the attention weights.
        project: apply an output projection to the heads' values; SASRec's code does not, most others do.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float, *, project: bool) -> None:
        super().__init__()
        self.dim, self.num_heads, self.dropout = dim, num_heads, dropout
        self.query, self.key_value = linear(dim, dim), linear(dim, 2 * dim)
        self.output = linear(dim, dim) if project else nn.Identity()

    def forward(self, query: Tensor, steps: Tensor, mask: Tensor) -> Float[Tensor, "batch asking dim"]:
        """Attention of `query`, [batch, asking, dim], to `steps`, [batch, length, dim]."""
        key, value = map(self._heads, self.key_value(steps).chunk(2, dim=-1))
        asked = self._heads(self.query(query))
        if self.training and self.dropout and asked.device.type == "cpu":
            found = dropout(_weights(asked, key, mask), self.dropout) @ value  # torch does not fuse dropout here
        else:
            found = F.scaled_dot_product_attention(asked, key, value, mask, self.dropout * self.training)
        return self.output(found.transpose(1, 2).flatten(2))

    def weights(self, query: Tensor, steps: Tensor, mask: Tensor) -> Float[Tensor, "batch heads asking length"]:
        """The weight that each query (next to last axis) gives each step (last axis), without dropout."""
        key, _ = map(self._heads, self.key_value(steps).chunk(2, dim=-1))
        return _weights(self._heads(self.query(query)), key, mask)

    def _heads(self, vectors: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch heads length part"]:
        return vectors.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _weights(asked: Tensor, key: Tensor, mask: Tensor) -> Float[Tensor, "batch heads asking length"]:
    logits = (asked / math.sqrt(asked.shape[-1])) @ key.transpose(-1, -2)
    return logits.masked_fill_(~mask, -math.inf).softmax(-1)


def through(
    blocks: nn.ModuleList, hidden: Float[Tensor, "batch length dim"], mask: Tensor, real: Tensor, inputs: Inputs
) -> Float[Tensor, "rows dim"]:
    """The output of all blocks at the steps where `inputs` makes queries; `inputs.perturb` acts on that of each block.

    `mask` is that of all steps, [batch, 1, length, length]; `real` is False for padding, [batch, length, 1].
    """
    for number, block in enumerate(blocks, 1):
        if number == len(blocks) and inputs.positions is None:
            mask, real = mask[:, :, -1:], real[:, -1:]  # nothing reads the other steps any more
        hidden = inputs.perturb(block(hidden, mask)) * real
    return at_positions(hidden, inputs)


def causal(history: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 length length"]:
    """Which steps (last axis) each step may attend to: earlier ones that are not padding, and itself.

    A padded step sees itself too: the softmax of a fully masked row would be NaN.
    """
    step = torch.arange(history.shape[1], device=history.device)
    return (((step <= step[:, None]) & (history != PAD)[:, None, :]) | (step == step[:, None])).unsqueeze(1)


def check_heads(dim: int, num_heads: int) -> None:
    """Raise an error if the number of heads does not divide the width."""
    if dim % num_heads:
        raise ConfigError(f"encoder.num_heads: {num_heads} heads do not divide a dim of {dim}")


def network(dim: int, width: int, activation: nn.Module, *, inner: float, outer: float) -> nn.Sequential:
    """A two-layer network for each step, with dropout of `inner` after the first and `outer` after the second layer."""
    return nn.Sequential(linear(dim, width), activation, Dropout(inner), linear(width, dim), Dropout(outer))


def linear(width: int, out: int) -> nn.Linear:
    """A linear layer with Glorot-uniform initial weights, as in SASRec, and zero initial bias.

    BERT4Rec and BSARec begin so too, where their authors draw weights from N(0, 0.02²). Keys and values are one layer
    twice as wide, so that their weights begin at 0.82 of what two layers would have.
    """
    layer = Linear(width, out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
