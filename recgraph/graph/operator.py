"""The normalised adjacency of a graph.

It is never held as one square matrix but as CSR matrices of its blocks with 32-bit indices, the layout that the
products of `recgraph.graph.propagate` read fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Operator:
    """Holds the normalised adjacency Â = D^-α A D^-β as its non-zero blocks.

    Â[a, b] = w_ab / (d_aᵅ d_bᵝ) on edges. A weight w is 1 unless the graph has been re-weighted; a degree d is the sum
    of the weights of a node's edges and links. A node of degree 0 has a zero row and column. If α = β (both ½ unless
    `BipartiteGraph.normalised` changes them), Â is symmetric.

    Attributes:
        user_item: rows of users, in CSR form with int32 indices; its values are in the graph's edge order.
        item_user: rows of items, likewise; its values are in the order of the graph's `by_item`.
        user_user: links among users, likewise; None where there are none.
        item_item: links among items.
    """

    user_item: Float[Tensor, "users items"]
    item_user: Float[Tensor, "items users"]
    user_user: Float[Tensor, "users users"] | None = None
    item_item: Float[Tensor, "items items"] | None = None


class Pattern(NamedTuple):
    """Holds the non-zero pattern of Â: row starts and columns of its halves."""

    user_starts: Int[Tensor, "users+1"]
    items: Int[Tensor, "edges"]
    item_starts: Int[Tensor, "items+1"]
    users: Int[Tensor, "edges"]


def inverse_power(degrees: Float[Tensor, "rows"], exponent: float) -> Float[Tensor, "rows"]:
    """1 / d raised to the exponent, and 0 where d is 0."""
    return torch.where(degrees > 0, degrees.pow(-exponent), 0)
