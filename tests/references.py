"""Naive versions of what the library computes fast: dense, float64, written for reading.

They share no code with the library. Autograd runs through them, so they are references for gradients too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

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


def tower(module: Any, modalities: Any) -> Tensor:
    """The vector of each row by a loop over rows and modalities, from the parameters of a tower; an erf for GELU."""
    state = dict(module.named_parameters())
    rows: list[Tensor | None] = []
    count = len(next(iter(modalities.values())).values)
    for row in range(count):
        hidden, logits = [], []
        for name, (values, present) in modalities.items():
            if not present[row]:
                continue
            x = values[row]
            x = (x - x.mean()) / torch.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
            x = x * state[f"towers.{name}.0.weight"] + state[f"towers.{name}.0.bias"]
            last = 2
            if f"towers.{name}.4.weight" in state:
                x = state[f"towers.{name}.1.weight"] @ x + state[f"towers.{name}.1.bias"]
                x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
                last = 4
            h = state[f"towers.{name}.{last}.weight"] @ x + state[f"towers.{name}.{last}.bias"]
            hidden.append(h)
            if len(modalities) > 1:
                inner = torch.tanh(state["attend.0.weight"] @ h + state["attend.0.bias"])
                logits.append((state["attend.2.weight"] @ inner).squeeze())
        if not hidden:
            rows.append(None)
        elif len(modalities) == 1:
            rows.append(hidden[0])
        else:
            total = sum(torch.exp(logit) for logit in logits)
            rows.append(sum(torch.exp(logit) / total * h for logit, h in zip(logits, hidden, strict=True)))
    known = [row for row in rows if row is not None]
    return torch.stack([sum(known) / len(known) if row is None else row for row in rows])


def hybrid(known: Tensor, made: Tensor, item_of_each_edge: list[int], shrinkage: float) -> Tensor:
    """Graph and content vectors of items mixed by how many interactions each has, one item at a time."""
    counts = [item_of_each_edge.count(item) for item in range(len(known))]
    lengths = [math.sqrt(sum(x * x for x in known[i].tolist())) for i, count in enumerate(counts) if count]
    mean = sum(lengths) / len(lengths)
    rows = []
    for item, count in enumerate(counts):
        content = made[item] * (mean / torch.sqrt((made[item] ** 2).sum()))
        if not count:
            rows.append(content)
        else:
            rows.append((count * known[item] + shrinkage * content) / (count + shrinkage))
    return torch.stack(rows)
