"""The normalised adjacency of a graph.

It is never held as one square matrix but as CSR matrices of its blocks with 32-bit indices, which is what the products
of `recgraph.graph.propagate` walk fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Operator:
    """The normalised adjacency Â = D^-α A D^-β, in the blocks that are not 0.

    Â[a, b] = w_ab / (d_aᵅ d_bᵝ) on edges. A weight w is 1 unless the graph has been re-weighted; a degree d is the sum
    of the weights of a node's edges and links. A node of degree 0 has a row and a column of zeros. Where α = β, which
    is ½ unless `BipartiteGraph.normalised` says otherwise, Â is symmetric.

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
    """Where Â is not zero: row starts and columns of its halves."""

    user_starts: Int[Tensor, "users+1"]
    items: Int[Tensor, "edges"]
    item_starts: Int[Tensor, "items+1"]
    users: Int[Tensor, "edges"]


def inverse_power(degrees: Float[Tensor, "rows"], exponent: float) -> Float[Tensor, "rows"]:
    """1 / d to the exponent, and 0 where d is 0."""
    return torch.where(degrees > 0, degrees.pow(-exponent), 0)
