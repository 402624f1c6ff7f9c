"""The parts of a transformer over histories, in the variants that sequential recommenders use."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recgraph.encoders.low_pass import EPS, LowPass
from recgraph.errors import ConfigError
from recgraph.numerics.dropout import Dropout, dropout
from recgraph.numerics.matmul import Linear
from recgraph.types import PAD

Norm = Literal["query", "pre", "post"]
"""Where layers are normalised; see `SASRec`."""


class Block(nn.Module):
    """Applies attention and then a feed-forward network, each with a residual connection.

    Args:
        attention, network: the two sublayers.
        norm: where layers are normalised.
        dropout: dropout rate of the attention output; "query" applies none, as in SASRec's code.
        low: a filter beside the attention, only with "post"; None for none.
        alpha: weight of the filter.
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
        self.low, self.alpha = low, alpha
        self.dropout = Dropout(dropout)
        self.first, self.second = (nn.LayerNorm(attention.dim, eps=EPS) for _ in range(2))

    def forward(self, hidden: Float[Tensor, "batch length dim"], mask: Tensor) -> Float[Tensor, "batch length dim"]:
        """`mask` is True where a step (next to last axis) may attend to another (last axis)."""
        if self.norm == "query":
            query = self.first(hidden)
            hidden = self.second(query + self.attention(query, hidden, mask))
            return hidden + self.network(hidden)
        if self.norm == "pre":
            normed = self.first(hidden)
            hidden = hidden + self.dropout(self.attention(normed, normed, mask))
            return hidden + self.network(self.second(hidden))
        mixed = self.first(hidden + self.dropout(self.attention(hidden, hidden, mask)))
        if self.low is not None:
            mixed = self.alpha * self.low(hidden) + (1 - self.alpha) * mixed
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

    def forward(self, query: Tensor, steps: Tensor, mask: Tensor) -> Float[Tensor, "batch length dim"]:
        """Attention of `query` to `steps`, both [batch, length, dim]."""
        key, value = map(self._heads, self.key_value(steps).chunk(2, dim=-1))
        asked = self._heads(self.query(query))
        if self.training and self.dropout and asked.device.type == "cpu":
            found = dropout(_weights(asked, key, mask), self.dropout) @ value  # torch does not fuse dropout here
        else:
            rate = self.dropout if self.training else 0.0
            found = F.scaled_dot_product_attention(asked, key, value, mask, rate)
        return self.output(found.transpose(1, 2).flatten(2))

    def weights(self, query: Tensor, steps: Tensor, mask: Tensor) -> Float[Tensor, "batch heads length length"]:
        """The weight that each query (next to last axis) gives each step (last axis), without dropout."""
        key, _ = map(self._heads, self.key_value(steps).chunk(2, dim=-1))
        return _weights(self._heads(self.query(query)), key, mask)

    def _heads(self, vectors: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch heads length part"]:
        return vectors.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _weights(asked: Tensor, key: Tensor, mask: Tensor) -> Float[Tensor, "batch heads length length"]:
    logits = (asked / math.sqrt(asked.shape[-1])) @ key.transpose(-1, -2)
    return logits.masked_fill_(~mask, -math.inf).softmax(-1)


def causal(history: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 length length"]:
    """Which steps (last axis) each step may attend to: earlier ones that are not padding, and itself.

    A padded step sees itself too: the softmax of a fully masked row would be NaN.
    """
    before = torch.ones(history.shape[1], history.shape[1], dtype=torch.bool, device=history.device).tril()
    itself = torch.eye(history.shape[1], dtype=torch.bool, device=history.device)
    return ((before & (history != PAD)[:, None, :]) | itself).unsqueeze(1)


def check_heads(dim: int, num_heads: int) -> None:
    """Raise an error if the number of heads does not divide the width."""
    if dim % num_heads:
        raise ConfigError(f"encoder.num_heads: {num_heads} heads do not divide a dim of {dim}")


def network(dim: int, width: int, activation: nn.Module, *, inner: float, outer: float) -> nn.Sequential:
    """A two-layer network for each step, with dropout of `inner` after the first and `outer` after the second layer."""
    return nn.Sequential(linear(dim, width), activation, Dropout(inner), linear(width, dim), Dropout(outer))


def linear(width: int, out: int) -> nn.Linear:
    """A linear layer with Glorot-uniform initial weights, as in SASRec, and zero initial bias.

    Keys and values are one layer twice as wide, so that their weights begin at 0.82 of what two layers would have.
    """
    layer = Linear(width, out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
