"""Naive versions of heads and encoder for fields: Python loops over values, one pair at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

WORD = 2**64


def bucket(one: int, other: int, buckets: int) -> int:
    """The bucket of a pair of ids, from 0: MurmurHash3's finaliser on golden · one + other, unsigned."""
    mixed = (0x9E3779B97F4A7C15 * one + other) % WORD
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed = (mixed ^ (mixed >> 33)) * factor % WORD
    mixed ^= mixed >> 33
    # The library counts remainders of the signed number.
    return (mixed - WORD if mixed >= WORD // 2 else mixed) % buckets


def fields(tables: Any, row: int, modalities: Mapping[str, Any], moment: Mapping[str, int]) -> list[Tensor]:
    """The vector of each field of a row: of its id, each modality, and what is read of the moment."""
    found = [tables.index.weight[row]]
    for name, (values, _) in modalities.items():
        weight = tables.values[name].weight
        if values.is_floating_point():
            found.append(sum((weight[:, k] * values[row, k] for k in range(values.shape[1])), torch.zeros(len(weight))))
        else:
            listed = [int(value) - 1 for value in values[row] if value > 0]
            total = sum((weight[value] for value in listed), torch.zeros(weight.shape[1], dtype=weight.dtype))
            found.append(total / max(1, len(listed)))
    return found + [tables.moment[name].weight[value] for name, value in moment.items()]


def crosses(one: Sequence[int], other: Sequence[int], weights: Tensor) -> Tensor:
    """The weights of all pairs of ids of two fields, ids counted from 1."""
    found = [weights[bucket(a, b, len(weights))].squeeze() for a in one for b in other if a > 0 and b > 0]
    return sum(found, torch.zeros((), dtype=weights.dtype))


def factorisation(vectors: Sequence[Tensor]) -> Tensor:
    """The sum of the products of all pairs of fields."""
    pairs = [(a, b) for b in range(len(vectors)) for a in range(b)]
    return sum((vectors[a] @ vectors[b] for a, b in pairs), torch.zeros((), dtype=vectors[0].dtype))


def cross_layers(start: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """x ← x₀ ⊙ (W x + b) + x, column by column."""
    values = start
    for weight, bias in layers:
        values = torch.stack([start[i] * (weight[i] @ values + bias[i]) + values[i] for i in range(len(start))])
    return values


def auc(scores: Sequence[float], labels: Sequence[float]) -> float:
    """Over all pairs of a click and a non-click."""
    won = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, x in zip(scores, labels, strict=True)
        for b, y in zip(scores, labels, strict=True)
        if x > y
    ]
    return sum(won) / len(won)


def log_loss(scores: Sequence[float], labels: Sequence[float]) -> float:
    """The mean of -ln of the probability of what happened."""
    probabilities = [1 / (1 + math.exp(-score)) for score in scores]
    return -sum(math.log(p if y else 1 - p) for p, y in zip(probabilities, labels, strict=True)) / len(scores)
