"""Synthetic power-law interactions of any size, with a fixed seed."""

from __future__ import annotations

import numpy as np

from recgraph.random import numpy_generator

EXPONENT = 0.6
"""The node of rank r is drawn with a probability proportional to r^-0.6, similar to Gowalla's users."""


def power_law(num_edges: int, num_users: int, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Users and items (int64) of `num_edges` distinct pairs, in random order."""
    generator = numpy_generator(0, "synthetic")
    shuffled_users, shuffled_items = generator.permutation(num_users), generator.permutation(num_items)
    keys = np.empty(0, np.int64)
    while len(keys) < num_edges:
        count = num_edges + num_edges // 5 - len(keys)
        users, items = shuffled_users[_ranks(generator, count, num_users)], _ranks(generator, count, num_items)
        keys = np.unique(np.concatenate([keys, users * num_items + shuffled_items[items]]))
    keys = keys[generator.permutation(len(keys))[:num_edges]]
    return keys // num_items, keys % num_items


def _ranks(generator: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Ranks below `size`, drawn by inverting the distribution function (r / size)^(1 - EXPONENT)."""
    return (size * generator.random(count) ** (1 / (1 - EXPONENT))).astype(np.int64)
