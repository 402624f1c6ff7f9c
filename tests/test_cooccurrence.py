"""An item's nearest against the dense item graph."""

from __future__ import annotations

import pytest
import torch
from cases import graph_of, random_interactions

from recgraph.graph import BipartiteGraph, cooccurrence
from recgraph.graph.cooccurrence import item_neighbours

GRAPH = graph_of(random_interactions(num_users=40, num_items=23, density=0.2))


def dense(graph: BipartiteGraph) -> torch.Tensor:
    """ω of all pairs; rows of items that nobody has are 0."""
    liked = torch.zeros(graph.num_users, graph.num_items, dtype=torch.float64)
    liked[graph.users, graph.items] = 1
    common = liked.T @ liked
    sums = common.sum(1)
    own = torch.where(sums > 0, (sums + 1).sqrt() / sums, 0)
    return own[:, None] * common / (sums + 1).sqrt()


@pytest.mark.parametrize("chunk", [1, 23, 23 * 5, 2**23])
@pytest.mark.parametrize("num", [1, 10, 100])
def test_equals_the_dense_graph_in_any_chunks(num: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "CHUNK_FLOATS", chunk)
    found, expected = item_neighbours(GRAPH, num), dense(GRAPH)
    size = min(num, 23)
    assert found.items.shape == found.weights.shape == (23, size)
    torch.testing.assert_close(found.weights.double(), expected.topk(size).values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.weights.double(), expected.gather(1, found.items), rtol=1e-5, atol=1e-6)
    assert all(len(set(row.tolist())) == size for row in found.items)


def test_items_without_users_are_near_nothing() -> None:
    graph = GRAPH.keep(GRAPH.items > 2)
    weights = item_neighbours(graph, 4).weights
    assert weights.isfinite().all()
    assert (weights[:3] == 0).all()
    assert (weights[3:, 0] > 0).all()


def test_weights_of_edges_are_left_aside() -> None:
    weighted = GRAPH.reweighted(torch.linspace(0, 1, GRAPH.num_edges))
    assert torch.equal(item_neighbours(weighted, 5).weights, item_neighbours(GRAPH, 5).weights)


def test_autocast_changes_nothing() -> None:
    graph = graph_of(random_interactions())
    with torch.autocast("cpu", torch.bfloat16):
        found = item_neighbours(graph, 3)
    assert torch.equal(found.weights, item_neighbours(graph, 3).weights)
