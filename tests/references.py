"""Naive versions of what the library computes fast: dense, float64, written for reading.

They share no code with the library. Autograd runs through them, so they are references for gradients too.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

Edges = Iterable[tuple[int, int]]
"""Pairs (user, item)."""


def normalised_adjacency(edges: Edges, num_users: int, num_items: int) -> Tensor:
    """D^-1/2 A D^-1/2 over all nodes, users first; a node without edges has zeros."""
    nodes = num_users + num_items
    adjacency = torch.zeros(nodes, nodes, dtype=torch.float64)
    for user, item in edges:
        adjacency[user, num_users + item] = adjacency[num_users + item, user] = 1
    scale = torch.zeros(nodes, dtype=torch.float64)
    for node in range(nodes):
        degree = adjacency[node].sum()
        if degree > 0:
            scale[node] = 1 / degree.sqrt()
    return torch.diag(scale) @ adjacency @ torch.diag(scale)


def propagation(users: Tensor, items: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """One product with the normalised adjacency (LightGCN, equation 3)."""
    adjacency = normalised_adjacency(edges, len(users), len(items))
    nodes = adjacency @ torch.cat([users, items]).double()
    return nodes[: len(users)], nodes[len(users) :]


def lightgcn(users_table: Tensor, items_table: Tensor, edges: Edges, num_layers: int) -> tuple[Tensor, Tensor]:
    """The mean of layers 0 to `num_layers` (LightGCN, equations 3 and 4 with α = 1 / (layers + 1))."""
    adjacency = normalised_adjacency(edges, len(users_table), len(items_table))
    layers = [torch.cat([users_table, items_table]).double()]
    for _ in range(num_layers):
        layers.append(adjacency @ layers[-1])
    mean = torch.stack(layers).mean(0)
    return mean[: len(users_table)], mean[len(users_table) :]


def gmf(query: Tensor, item: Tensor, output: Tensor, bias: Tensor) -> Tensor:
    """h·(p ⊙ q) + b, a product at a time (NCF, section 3.2)."""
    total = bias
    for place in range(len(query)):
        total = total + output[place] * query[place] * item[place]
    return total


def tower(vector: Tensor, layers: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """φ(W_L … φ(W₁ x + b₁) … + b_L), with φ(x) = max(0, x), a neuron at a time."""
    for weights, biases in layers:
        neurons = []
        for weight, bias in zip(weights, biases, strict=True):
            total = bias
            for place in range(len(vector)):
                total = total + weight[place] * vector[place]
            neurons.append(total if total > 0 else total * 0)
        vector = torch.stack(neurons)
    return vector


def neumf(
    gmf_vectors: tuple[Tensor, Tensor],
    mlp_vectors: tuple[Tensor, Tensor],
    layers: Iterable[tuple[Tensor, Tensor]],
    output: Tensor,
    bias: Tensor,
) -> Tensor:
    """h·[φ_GMF; φ_MLP] + b: one output layer over the products of one pair and the tower of another (section 3.4)."""
    last = torch.cat([gmf_vectors[0] * gmf_vectors[1], tower(torch.cat(mlp_vectors), layers)])
    return sum((output[place] * last[place] for place in range(len(last))), bias)
