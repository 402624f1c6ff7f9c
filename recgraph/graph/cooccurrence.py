"""The item co-occurrence graph, cut down to each item's nearest neighbours."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.graph.bipartite import BipartiteGraph
from recgraph.graph.propagate import product
from recgraph.graph.sparse import SparseRows, dense_product

CHUNK_FLOATS = 2**23
"""Floats of the part of the item graph that is in memory at once: 32 MB, as for the chunks of a loss."""


class ItemNeighbours(NamedTuple):
    """Holds each item's nearest neighbours.

    Attributes:
        items: indices of the neighbours, nearest first.
        weights: ω of `item_neighbours`, 0 or more; 0 pads where an item has fewer neighbours.
    """

    items: Int[Tensor, "items neighbours"]
    weights: Float[Tensor, "items neighbours"]


@torch.no_grad()
def item_neighbours(graph: BipartiteGraph, num: int) -> ItemNeighbours:
    """Each item's neighbours of greatest ω_ij = G_ij · √(g_i + 1) / g_i / √(g_j + 1), with G = RᵀR and g its row sums.

    G_ij is the number of users that items i and j have in common, ignoring edge weights; an item is among its own
    neighbours, with its degree as G_ii. This follows UltraGCN's code (Mao et al., CIKM 2021,
    https://github.com/xue-pai/UltraGCN); the paper has G_ij / (g_i - G_ii) · √(g_i / g_j). On CUDA the host waits.

    G is computed in chunks of rows of 32 MB. Ties are ordered as torch.topk returns them.

    Args:
        graph: the training graph.
        num: K, the number of neighbours of each item; at most the number of items.
    """
    with torch.autocast(graph.users.device.type, enabled=False):  # sparse products do not support bfloat16
        return _neighbours(graph, min(num, graph.num_items))


def _neighbours(graph: BipartiteGraph, num: int) -> ItemNeighbours:
    ones = torch.ones(graph.num_edges, device=graph.users.device)
    by_item, by_user = graph.rows_of_items(ones), graph.rows_of_users(ones)
    users_of = SparseRows(by_item.crow_indices(), by_item.col_indices(), by_item.values())
    sums = product(by_item, graph.user_degrees.float().unsqueeze(1), 1.0).squeeze(1)  # Σⱼ G_ij = Σ of users' degrees
    own, other = (sums + 1).sqrt() / sums.clamp(min=1), (sums + 1).rsqrt()
    found = []
    for rows in torch.arange(graph.num_items, device=sums.device).split(max(1, CHUNK_FLOATS // graph.num_items)):
        common = dense_product(users_of.select(rows).csr(graph.num_users), by_user)
        weights, nearest = common.mul_(other).topk(num)
        found.append((nearest, weights * own[rows].unsqueeze(1)))
    return ItemNeighbours(*(torch.cat(parts) for parts in zip(*found, strict=True)))
