"""Naive objectives: formulas as they are printed, for one row at a time, with exp and ln written out.

They share no code with the library. Autograd runs through them, so they are references for gradients too. Each takes
the score of a row's positive and a list of the scores of those negatives that count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

RowLoss = Callable[[Tensor, Sequence[Tensor]], Tensor]


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e⁻ˣ)."""
    return 1 / (1 + torch.exp(-x))


def softmax(temperature: float) -> RowLoss:
    """-ln of the positive's share."""

    def loss(positive: Tensor, negatives: Sequence[Tensor]) -> Tensor:
        above = torch.exp(positive / temperature)
        below = above
        for negative in negatives:
            below = below + torch.exp(negative / temperature)
        return -torch.log(above / below)

    return loss


def bsl(temperature: float, exponent: float) -> RowLoss:
    """-ln of exp(s⁺/τ) over a power of the mean of exp(s⁻/τ); nothing is below the bar without negatives."""

    def loss(positive: Tensor, negatives: Sequence[Tensor]) -> Tensor:
        above = torch.exp(positive / temperature)
        if not negatives:
            return -torch.log(above)
        mean = sum(torch.exp(negative / temperature) for negative in negatives) / len(negatives)
        return -torch.log(above / mean**exponent)

    return loss


def ccl(margin: float, weight: float) -> RowLoss:
    """1 - s⁺, and the mean of what negatives have above the margin."""

    def loss(positive: Tensor, negatives: Sequence[Tensor]) -> Tensor:
        total = 1 - positive
        for negative in negatives:
            if negative > margin:
                total = total + weight / len(negatives) * (negative - margin)
        return total

    return loss


def gbce(calibration: float, num_negatives: int, num_items: int) -> RowLoss:
    """Cross-entropy with σ(s⁺)^β, β from the sampling rate as in the paper."""
    rate = num_negatives / (num_items - 1)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)

    def loss(positive: Tensor, negatives: Sequence[Tensor]) -> Tensor:
        total = torch.log(sigmoid(positive) ** beta)
        for negative in negatives:
            total = total + torch.log(1 - sigmoid(negative))
        return -total / (len(negatives) + 1)

    return loss


def bce(positive: Tensor, negatives: Sequence[Tensor]) -> Tensor:
    """-(y ln ŷ + (1 - y) ln(1 - ŷ)), the mean over the row's pairs."""
    pairs = [(positive, 1.0), *((negative, 0.0) for negative in negatives)]
    total = torch.zeros((), dtype=torch.float64)
    for score, label in pairs:
        probability = sigmoid(score)
        total = total - (label * torch.log(probability) + (1 - label) * torch.log(1 - probability))
    return total / len(pairs)


def mean_over_rows(
    loss: RowLoss, scores: Tensor, items: Sequence[int], negatives: Sequence[Sequence[int]], rows: Sequence[int]
) -> Tensor:
    """The mean of a loss over some rows, given the scores [rows, items] of the whole catalogue."""
    losses = [loss(scores[row, items[row]], [scores[row, item] for item in negatives[row]]) for row in rows]
    return sum(losses, torch.zeros((), dtype=torch.float64)) / len(rows)


def unit(vector: Tensor) -> Tensor:
    """A vector over its length."""
    return vector / vector.square().sum().sqrt()


def cosines(queries: Tensor, items: Tensor) -> Tensor:
    """Cosines of all pairs."""
    return torch.stack([torch.stack([(unit(query) * unit(item)).sum() for item in items]) for query in queries])


def direct_au(users: Sequence[Tensor], items: Sequence[Tensor], gamma: float) -> Tensor:
    """Alignment of the rows, and γ/2 times the uniformity of users plus that of items."""
    users, items = [unit(user) for user in users], [unit(item) for item in items]
    alignment = sum((user - item).square().sum() for user, item in zip(users, items, strict=True)) / len(users)
    spread = torch.zeros((), dtype=torch.float64)
    for vectors in (users, items):
        pairs = [(one, other) for place, one in enumerate(vectors) for other in vectors[place + 1 :]]
        mean = sum(torch.exp(-2 * (one - other).square().sum()) for one, other in pairs) / len(pairs)
        spread = spread + torch.log(mean)
    return alignment + gamma / 2 * spread


def ultragcn(
    scores: Tensor,
    rows: Sequence[tuple[int, int, Sequence[int]]],
    liked: Sequence[Sequence[int]],
    weights: tuple[float, float, float, float],
    negative_weight: float,
    item_weight: float,
    num_neighbours: int,
) -> Tensor:
    """UltraGCN without its L2, for rows of (user, positive, negatives that count), given whom each user likes."""
    num_items = scores.shape[1]
    fans = [sum(item in mine for mine in liked) for item in range(num_items)]
    beta = lambda u, i: ((len(liked[u]) + 1) ** 0.5 / len(liked[u])) / (fans[i] + 1) ** 0.5  # noqa: E731
    common = [[sum(i in mine and j in mine for mine in liked) for j in range(num_items)] for i in range(num_items)]
    sums = [sum(row) for row in common]
    total = torch.zeros((), dtype=torch.float64)
    w1, w2, w3, w4 = weights
    for user, item, negatives in rows:
        total = total - (w1 + w2 * beta(user, item)) * torch.log(sigmoid(scores[user, item]))
        for other in negatives:
            weight = negative_weight / len(negatives) * (w3 + w4 * beta(user, other))
            total = total - weight * torch.log(1 - sigmoid(scores[user, other]))
        near = [
            (common[item][other] * (sums[item] + 1) ** 0.5 / sums[item] / (sums[other] + 1) ** 0.5, other)
            for other in range(num_items)
        ]
        for weight, other in sorted(near, reverse=True)[:num_neighbours]:
            total = total - item_weight * weight * torch.log(sigmoid(scores[user, other]))
    return total / len(rows)
