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


def weighted_lightgcn(
    users_table: Tensor,
    items_table: Tensor,
    edges: Edges,
    weights: Iterable[float],
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    unit_messages: bool = False,
) -> tuple[Tensor, Tensor]:
    """A weighted sum of layers, each node's the sum of its neighbours over d^α of its own and d^β of their degrees."""
    num_users, nodes = len(users_table), len(users_table) + len(items_table)
    neighbours: list[list[int]] = [[] for _ in range(nodes)]
    for user, item in edges:
        neighbours[user].append(num_users + item)
        neighbours[num_users + item].append(user)
    layer, total = torch.cat([users_table, items_table]).double(), torch.zeros(nodes, users_table.shape[1])
    for weight in weights:
        total = total + weight * layer
        sums = []
        for node in range(nodes):
            vector = torch.zeros(users_table.shape[1], dtype=torch.float64)
            for other in neighbours[node]:
                message = layer[other] / layer[other].square().sum().sqrt() if unit_messages else layer[other]
                vector = vector + message / len(neighbours[node]) ** alpha / len(neighbours[other]) ** beta
            sums.append(vector)
        layer = torch.stack(sums)
    return total[:num_users], total[num_users:]


def ngcf(
    users_table: Tensor, items_table: Tensor, edges: Edges, weights: Iterable[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """NGCF message by message: a neighbour sends W₁ b + W₂ (a ⊙ b), a node tells itself W₁ a; without dropout."""
    num_users, nodes = len(users_table), len(users_table) + len(items_table)
    adjacency = normalised_adjacency(edges, num_users, len(items_table))
    layer = torch.cat([users_table, items_table]).double()
    shown = [layer]
    for one, two in weights:
        rows = []
        for a in range(nodes):
            total = one @ layer[a]
            for b in adjacency[a].nonzero().flatten().tolist():
                total = total + adjacency[a, b] * (one @ layer[b] + two @ (layer[a] * layer[b]))
            rows.append(torch.where(total > 0, total, 0.2 * total))
        layer = torch.stack(rows)
        shown.append(torch.stack([row / row.square().sum().sqrt() for row in layer]))
    result = torch.cat(shown, dim=1)
    return result[:num_users], result[num_users:]


def gat(
    users_table: Tensor,
    items_table: Tensor,
    edges: Edges,
    relations: list[tuple[Tensor, Tensor]],
    num_layers: int,
    num_heads: int = 1,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The mean of layers that are attentions' sums, node by node; and each head's attention [nodes, nodes]."""
    num_users, nodes = len(users_table), len(users_table) + len(items_table)
    near: list[list[int]] = [[] for _ in range(nodes)]
    for user, item in edges:
        near[user].append(num_users + item)
        near[num_users + item].append(user)
    layer = torch.cat([users_table, items_table]).double()
    width = layer.shape[1] // num_heads
    heads = [slice(head * width, (head + 1) * width) for head in range(num_heads)]
    attentions = [torch.zeros(nodes, nodes, dtype=torch.float64) for _ in heads]
    for attention, columns in zip(attentions, heads, strict=True):
        for a in range(nodes):
            weight, bias = relations[0 if a < num_users else 1]
            asked = torch.tanh(weight @ layer[a] + bias)[columns]
            powers = {b: torch.exp((weight @ layer[b])[columns] @ asked) for b in near[a]}
            for b, power in powers.items():
                attention[a, b] = power / sum(powers.values())
    total = layer
    for _ in range(num_layers):
        layer = torch.cat(
            [attention @ layer[:, columns] for attention, columns in zip(attentions, heads, strict=True)], 1
        )
        total = total + layer
    mean = total / (num_layers + 1)
    return mean[:num_users], mean[num_users:], attentions


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


def din(
    query: Tensor,
    steps: list[Tensor],
    item: Tensor,
    attention: list[tuple[Tensor, Tensor]],
    layers: list[tuple[Tensor, Tensor]],
    *,
    softmax: bool,
) -> Tensor:
    """DIN: layers of [query; v; item; v ⊙ item], where v is the sum of the steps by their weights."""
    weights = din_weights(steps, item, attention, softmax=softmax)
    found = sum((weight * step for weight, step in zip(weights, steps, strict=True)), torch.zeros_like(item))
    *below, (weight, bias) = layers
    return (weight @ tower(torch.cat([query, found, item, found * item]), below) + bias)[0]


def din_weights(
    steps: list[Tensor], item: Tensor, attention: list[tuple[Tensor, Tensor]], *, softmax: bool
) -> list[Tensor]:
    """A step at a time: layers of [item; step; item - step; item ⊙ step], whose last neuron is a weight."""
    weights = []
    for step in steps:
        hidden = torch.cat([item, step, item - step, item * step])
        for number, (weight, bias) in enumerate(attention):
            hidden = weight @ (hidden if number == 0 else 1 / (1 + torch.exp(-hidden))) + bias
        weights.append(torch.exp(hidden[0] / math.sqrt(len(item))) if softmax else hidden[0])
    return [weight / sum(weights) for weight in weights] if softmax else weights


def content_tower(module: Any, modalities: Any) -> Tensor:
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
