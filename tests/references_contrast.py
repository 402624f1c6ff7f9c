"""Naive versions of contrastive losses and of what views do: loops over Python floats and autograd's own sums."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def info_nce(
    anchors: Tensor,
    candidates: Tensor,
    targets: list[int],
    temperature: float,
    *,
    dot: bool = False,
    bound: float = math.inf,
) -> Tensor:
    """Mean of -ln softmax at the target, written out row by row, without any trick for stability."""
    rows = []
    for anchor, target in zip(anchors, targets, strict=True):
        alike = [(anchor @ candidate if dot else cosine(anchor, candidate)) / temperature for candidate in candidates]
        within = min(max(alike[target], -bound), bound)
        rows.append(torch.log(sum(torch.exp(one) for one in alike)) - within)
    return sum(rows) / len(rows)


def cosine(one: Tensor, two: Tensor) -> Tensor:
    return (one * two).sum() / (torch.sqrt((one * one).sum()) * torch.sqrt((two * two).sum()))


def kmeans(vectors: list[list[float]], start: list[list[float]], iterations: int) -> tuple[list, list[int]]:
    """Centroids and the nearest of each vector, by loops over all pairs."""

    def nearest() -> list[int]:
        return [min(range(len(centroids)), key=lambda c: math.dist(vector, centroids[c])) for vector in vectors]

    centroids = [list(centroid) for centroid in start]
    for _ in range(iterations):
        places = nearest()
        for number in range(len(centroids)):
            mine = [vector for vector, place in zip(vectors, places, strict=True) if place == number]
            if mine:
                centroids[number] = [sum(column) / len(mine) for column in zip(*mine, strict=True)]
    return centroids, nearest()


def adjacency(edges: list[tuple[int, int]], kept: list[bool], num_users: int, num_items: int) -> Tensor:
    """Dense Â of the edges that are kept, with the degrees that are left."""
    left = [edge for edge, keep in zip(edges, kept, strict=True) if keep]
    matrix = torch.zeros(num_users + num_items, num_users + num_items, dtype=torch.float64)
    for user, item in left:
        degree_user = sum(u == user for u, _ in left)
        degree_item = sum(i == item for _, i in left)
        value = 1 / math.sqrt(degree_user * degree_item)
        matrix[user, num_users + item] = matrix[num_users + item, user] = value
    return matrix


def middles(levels: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """The midpoints of 256 equal parts of [0, 1)."""
    return (levels.to(dtype) + 0.5) / 256


def noisy_layers(matrix: Tensor, nodes: Tensor, num_users: int, num_layers: int, eps: float, drawn: list) -> list:
    """Layers 0 to L, where layer k of users, then of items, moves by `drawn`, uniform numbers in the order of use."""
    layers, drawn = [nodes], list(drawn)
    for _ in range(num_layers):
        hidden = matrix @ layers[-1]
        rows = []
        uniform = torch.cat([drawn.pop(0), drawn.pop(0)])
        for vector, step in zip(hidden, uniform, strict=True):
            length = math.sqrt(sum(x * x for x in step.tolist()))
            signs = torch.tensor([(x > 0) - (x < 0) for x in vector.tolist()], dtype=torch.float64)
            rows.append(vector + eps * signs * step / length)
        layers.append(torch.stack(rows))
    return layers
