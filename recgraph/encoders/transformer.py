"""The parts of a transformer over histories, in the variants that sequential recommenders use."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recgraph.types import PAD

Norm = Literal["query", "pre", "post"]
"""Where layers are normalised; see `SASRec`."""

EPS = 1e-8
"""Added to variances before their root, as in SASRec's code."""


class Block(nn.Module):
    """Attention and then a network for each step, each added to what it was given.

    Args:
        attention, network: the two.
        norm: where layers are normalised.
        dropout: of what attention adds; in "query" there is none, as in SASRec's code.
        low: a filter beside the attention, only with "post"; None for none.
        alpha: its share.
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
        self.dropout = nn.Dropout(dropout)
        self.first, self.second = (nn.LayerNorm(attention.dim, eps=EPS) for _ in range(2))

    def forward(self, hidden: Float[Tensor, "batch length dim"], mask: Tensor) -> Float[Tensor, "batch length dim"]:
        """`mask` is True where a step (next to last axis) sees another."""
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
    """Scaled dot-product attention of several heads.

    Args:
        dim: width of the vectors.
        num_heads: divides `dim`.
        dropout: of the weights.
        project: map the heads' values once more; SASRec's code does not, most others do.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float, *, project: bool) -> None:
        super().__init__()
        self.dim, self.num_heads, self.dropout = dim, num_heads, dropout
        self.query, self.key_value = linear(dim, dim), linear(dim, 2 * dim)
        self.output = linear(dim, dim) if project else nn.Identity()

    def forward(self, query: Tensor, steps: Tensor, mask: Tensor) -> Float[Tensor, "batch length dim"]:
        """Attention of `query` to `steps`, both [batch, length, dim]."""
        key, value = map(self._heads, self.key_value(steps).chunk(2, dim=-1))
        rate = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(self._heads(self.query(query)), key, value, mask, rate)
        return self.output(found.transpose(1, 2).flatten(2))

    def _heads(self, vectors: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch heads length part"]:
        return vectors.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class LowPass(nn.Module):
    """BSARec's filter: LN(x + low + β² (x - low)), low being the slow part of x along the history, β learned.

    Shin et al., "An attentive inductive bias for sequential recommendation beyond the self-attention", AAAI 2024,
    https://arxiv.org/abs/2312.10325. Leaving only the lowest frequencies of a discrete Fourier transform of
    `max_length` steps is a product with a symmetric matrix, of which a shorter history needs the last rows and columns,
    for padding is 0 here. In the authors' code (https://github.com/yehjin-shin/BSARec) steps of padding hold
    positions, and the filter mixes those in.

    Args:
        dim: width of the vectors.
        max_length: steps of the transform.
        num_low: c; the mean and ⌊c / 2⌋ frequencies are slow.
        dropout: of the filtered vectors.
    """

    low: Tensor

    def __init__(self, dim: int, max_length: int, num_low: int, dropout: float) -> None:
        super().__init__()
        apart = torch.arange(max_length)[:, None] - torch.arange(max_length)
        weights = torch.zeros(max_length, max_length, dtype=torch.float64)
        for frequency in range(min(num_low // 2, max_length // 2) + 1):
            # A frequency above 0 comes with its conjugate, unless it is the highest of an even length.
            pair = 1 if frequency == 0 or 2 * frequency == max_length else 2
            weights += pair * torch.cos(2 * math.pi * frequency * apart / max_length) / max_length
        self.register_buffer("low", weights.float(), persistent=False)
        self.beta = nn.Parameter(torch.randn(dim))
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(dim, eps=EPS)

    def forward(self, hidden: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        """See the class; `hidden` is 0 where there is padding."""
        start = len(self.low) - hidden.shape[1]
        low = self.low[start:, start:] @ hidden
        filtered = low + self.beta.square() * (hidden - low)
        return self.norm(hidden + self.dropout(filtered))


def causal(history: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 length length"]:
    """Which steps (last axis) each step may see: those before it that are no padding, and itself.

    A step of padding sees itself too: a softmax over nothing at all is NaN.
    """
    before = torch.ones(history.shape[1], history.shape[1], dtype=torch.bool, device=history.device).tril()
    itself = torch.eye(history.shape[1], dtype=torch.bool, device=history.device)
    return ((before & (history != PAD)[:, None, :]) | itself).unsqueeze(1)


def network(dim: int, width: int, activation: nn.Module, *, inner: float, outer: float) -> nn.Sequential:
    """A network of two layers for each step, with dropout of `inner` after the first and `outer` after the second."""
    return nn.Sequential(linear(dim, width), activation, nn.Dropout(inner), linear(width, dim), nn.Dropout(outer))


def linear(width: int, out: int) -> nn.Linear:
    """A layer with Glorot's uniform weights, which is how SASRec's start, and no shift."""
    layer = nn.Linear(width, out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
