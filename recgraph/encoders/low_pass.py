"""The frequency filter that BSARec adds beside the attention of a transformer over histories."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.numerics.dropout import Dropout

EPS = 1e-8
"""Added to variances before their root, as in SASRec's code."""


class LowPass(nn.Module):
    """Applies BSARec's filter LN(x + low + β² (x - low)), with low the low-frequency part of x and β learned.

    Shin et al., "An attentive inductive bias for sequential recommendation beyond the self-attention", AAAI 2024,
    https://arxiv.org/abs/2312.10325. Keeping only the lowest frequencies of a discrete Fourier transform of
    `max_length` steps is a product with a symmetric matrix; a shorter history needs only its last rows and columns,
    since padding is 0 here. In the authors' code (https://github.com/yehjin-shin/BSARec) padded steps hold positions,
    which the filter mixes in.

    Args:
        dim: width of the vectors.
        max_length: number of steps of the transform.
        num_low: c; the mean and the ⌊c / 2⌋ lowest frequencies form the low-frequency part.
        dropout: dropout rate of the filtered vectors.
    """

    low: Tensor

    def __init__(self, dim: int, max_length: int, num_low: int, dropout: float) -> None:
        super().__init__()
        apart = torch.arange(max_length)[:, None] - torch.arange(max_length)
        weights = torch.zeros(max_length, max_length, dtype=torch.float64)
        for frequency in range(min(num_low // 2, max_length // 2) + 1):
            # Frequencies above 0 come with their conjugates, except the highest one of an even length.
            pair = 1 if frequency == 0 or 2 * frequency == max_length else 2
            weights += pair * torch.cos(2 * math.pi * frequency * apart / max_length) / max_length
        self.register_buffer("low", weights.float(), persistent=False)
        self.beta = nn.Parameter(torch.randn(dim))
        self.dropout, self.norm = Dropout(dropout), nn.LayerNorm(dim, eps=EPS)

    def forward(self, hidden: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        """See the class; `hidden` is 0 where there is padding."""
        start = len(self.low) - hidden.shape[1]
        low = self.low[start:, start:] @ hidden
        filtered = low + self.beta.square() * (hidden - low)
        return self.norm(hidden + self.dropout(filtered))
