"""Naive versions of sequential encoders: one user, one step, one head at a time, without batches or padding."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def linear(layer: object, vector: Tensor) -> Tensor:
    return layer.weight @ vector + layer.bias


def normed(layer: object, vector: Tensor) -> Tensor:
    centred = vector - vector.mean()
    return layer.weight * centred / (centred.square().mean() + layer.eps).sqrt() + layer.bias


def attention(layer: object, queries: list[Tensor], steps: list[Tensor], *, causal: bool = True) -> list[Tensor]:
    """Each query attends to the steps up to its own, or to all."""
    dim, heads = len(steps[0]), layer.num_heads
    width, out = dim // heads, []
    for number, vector in enumerate(queries):
        query, parts = linear(layer.query, vector), []
        for head in range(heads):
            mine = slice(head * width, (head + 1) * width)
            weights, values = [], []
            for step in steps[: number + 1] if causal else steps:
                both = linear(layer.key_value, step)
                key, value = both[:dim][mine], both[dim:][mine]
                weights.append((query[mine] @ key / math.sqrt(width)).exp())
                values.append(value)
            parts.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
        found = torch.cat(parts)
        out.append(linear(layer.output, found) if hasattr(layer.output, "weight") else found)
    return out


def network(layers: object, vector: Tensor) -> Tensor:
    inner = linear(layers[0], vector)
    inner = torch.where(inner > 0, inner, 0) if isinstance(layers[1], torch.nn.ReLU) else gelu(inner)
    return linear(layers[3], inner)


def gelu(vector: Tensor) -> Tensor:
    return vector / 2 * (1 + torch.erf(vector / math.sqrt(2)))


def low_pass(layer: object, steps: list[Tensor], max_length: int, num_low: int) -> list[Tensor]:
    """By Fourier transform of the padded history, as BSARec's authors do it."""
    padded = torch.cat([torch.zeros(max_length - len(steps), len(steps[0]), dtype=steps[0].dtype), torch.stack(steps)])
    spectrum = torch.fft.rfft(padded, dim=0, norm="ortho").clone()
    spectrum[num_low // 2 + 1 :] = 0
    low = torch.fft.irfft(spectrum, n=max_length, dim=0, norm="ortho")[-len(steps) :]
    return [normed(layer.norm, x + slow + layer.beta**2 * (x - slow)) for x, slow in zip(steps, low, strict=True)]


def sasrec(encoder: object, items: list[int], num_low: int = 5) -> list[Tensor]:
    """The query after each step of one history of item indices, which is not longer than `max_length`."""
    first = encoder.max_length - len(items)
    scale = math.sqrt(encoder.dim) if encoder.norm == "query" else 1.0
    steps = [encoder.items.weight[item] * scale + encoder.positions[first + n] for n, item in enumerate(items)]
    if encoder.norm == "post":
        steps = [normed(encoder.edge, step) for step in steps]
    for block in encoder.blocks:
        if encoder.norm == "query":
            queries = [normed(block.first, step) for step in steps]
            found = attention(block.attention, queries, steps)
            steps = [normed(block.second, q + f) for q, f in zip(queries, found, strict=True)]
            steps = [step + network(block.network, step) for step in steps]
        elif encoder.norm == "pre":
            queries = [normed(block.first, step) for step in steps]
            found = attention(block.attention, queries, queries)
            steps = [step + f for step, f in zip(steps, found, strict=True)]
            steps = [step + network(block.network, normed(block.second, step)) for step in steps]
        else:
            found = attention(block.attention, steps, steps)
            mixed = [normed(block.first, step + f) for step, f in zip(steps, found, strict=True)]
            if block.low is not None:
                slow = low_pass(block.low, steps, encoder.max_length, num_low)
                mixed = [block.alpha * s + (1 - block.alpha) * m for s, m in zip(slow, mixed, strict=True)]
            steps = [normed(block.second, step + network(block.network, step)) for step in mixed]
    return steps if encoder.norm == "post" else [normed(encoder.edge, step) for step in steps]


def gru4rec(encoder: object, items: list[int]) -> list[Tensor]:
    """The query after each step, one recurrent unit at a time, by the formulas of torch.nn.GRU."""
    units, out = encoder.units, []
    state = [torch.zeros(units.hidden_size, dtype=torch.float64) for _ in range(units.num_layers)]
    for item in items:
        vector = encoder.items.weight[item]
        for layer in range(units.num_layers):
            w_in, w_state, b_in, b_state = (
                getattr(units, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            ours = (w_in @ vector + b_in).split(units.hidden_size)
            theirs = (w_state @ state[layer] + b_state).split(units.hidden_size)
            reset, update = (1 / (1 + torch.exp(-(ours[part] + theirs[part]))) for part in (0, 1))
            new = torch.tanh(ours[2] + reset * theirs[2])
            state[layer] = vector = (1 - update) * new + update * state[layer]
        out.append(linear(encoder.output, vector))
    return out


def attentive(encoder: object, items: list[int]) -> list[Tensor]:
    """The query after each step: a weighted mean of the item vectors so far."""
    vectors, out = [encoder.items.weight[item] for item in items], []
    for now in range(len(items)):
        weights = []
        for place in range(now + 1):
            inner = torch.tanh(linear(encoder.inner, vectors[place]))
            weights.append((encoder.outer.weight[0] @ inner + encoder.distance[now - place]).exp())
        out.append(sum(w * v for w, v in zip(weights, vectors, strict=False)) / sum(weights))
    return out


def pooling(encoder: object, items: list[int]) -> list[Tensor]:
    """The query after each step: the mean of the item vectors so far."""
    vectors = [encoder.items.weight[item] for item in items]
    return [sum(vectors[: now + 1]) / (now + 1) for now in range(len(items))]


def bert4rec(encoder: object, items: list[int | None], hidden: int | None = None) -> list[Tensor]:
    """What is said of the step behind the history, or of the hidden step: None stands for a hidden item."""
    if hidden is None:
        items, hidden = [*items, None], len(items)
    first = len(encoder.positions) - len(items)
    steps = [encoder.hidden if item is None else encoder.items.weight[item] for item in items]
    steps = [normed(encoder.edge, step + encoder.positions[first + n]) for n, step in enumerate(steps)]
    for block in encoder.blocks:
        found = attention(block.attention, steps, steps, causal=False)
        mixed = [normed(block.first, step + f) for step, f in zip(steps, found, strict=True)]
        steps = [normed(block.second, step + network(block.network, step)) for step in mixed]
    return [normed(encoder.last, gelu(linear(encoder.output, steps[hidden])))]
