"""Times inner products by `@` and by `recgraph.numerics.matmul`, with and without gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from floor import seconds_of
from torch import Tensor
from worker import Channel

from recgraph.environment import keep_freed_memory
from recgraph.numerics.matmul import inner_products

SHAPES = ((512, 64, 2048), (2048, 64, 2048), (8192, 64, 512), (512, 192, 2048))
"""(rows, width, columns): chunks of InfoNCE, of a softmax with shared negatives, and of wider vectors."""


def both_ways(product: Callable[[Tensor, Tensor], Tensor], left: Tensor, right: Tensor, arriving: Tensor) -> None:
    """Compute the product and the gradients of both sides."""
    left.grad = right.grad = None
    product(left, right).backward(arriving)


def main() -> None:
    """Measure every shape."""
    channel = Channel()
    torch.set_num_threads(channel.task["threads"])
    keep_freed_memory()
    found: list[dict[str, Any]] = []
    for rows, width, columns in SHAPES:
        left, right = torch.randn(rows, width), torch.randn(columns, width)
        arriving = torch.randn(rows, columns)
        shape: dict[str, Any] = {"shape": [rows, width, columns]}
        for name, product in (("torch", lambda one, other: one @ other.T), ("recgraph", inner_products)):
            forward = seconds_of(partial(product, left, right), channel.task["repeats"])
            leaves = left.clone().requires_grad_(), right.clone().requires_grad_()
            whole = seconds_of(partial(both_ways, product, *leaves, arriving), channel.task["repeats"])
            shape[name] = {"forward": forward, "both_ways": whole}
        found.append(shape)
    channel.answer(shapes=found)


main()
