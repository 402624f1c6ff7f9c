"""Graphs of low rank against a dense decomposition: their factors, their products and the gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import graph_of, random_interactions
from references import normalised_adjacency

from recgraph.errors import ConfigError
from recgraph.graph import BipartiteGraph, LowRankGraph, layer_mean, spectrum


def graph_and_edges(num_users: int = 12, num_items: int = 17) -> tuple[BipartiteGraph, list[tuple[int, int]]]:
    graph = graph_of(random_interactions(num_users, num_items))
    return graph, list(zip(graph.users.tolist(), graph.items.tolist(), strict=True))


def best(edges: list[tuple[int, int]], num_users: int, num_items: int, rank: int) -> torch.Tensor:
    """The rank-q approximation of all of Â, dense."""
    matrix = normalised_adjacency(edges, num_users, num_items)[:num_users, num_users:].numpy()
    left, singular, right = np.linalg.svd(matrix)
    low = torch.from_numpy(left[:, :rank] * singular[:rank] @ right[:rank])
    full = torch.zeros(num_users + num_items, num_users + num_items, dtype=torch.float64)
    full[:num_users, num_users:], full[num_users:, :num_users] = low, low.T
    return full


@pytest.mark.parametrize("shape", [(12, 17), (17, 12)])
@pytest.mark.parametrize("rank", [1, 3])
def test_products_and_gradients_equal_those_of_the_dense_approximation(shape: tuple[int, int], rank: int) -> None:
    graph, edges = graph_and_edges(*shape)
    low = LowRankGraph.of(graph, rank)
    assert (low.num_users, low.num_items) == shape
    matrix = best(edges, *shape, rank)
    tables = [torch.randn(rows, 3, dtype=torch.float64).requires_grad_() for rows in shape]
    nodes = torch.cat(tables)
    found = layer_mean(low, *tables, 2)
    expected = ((nodes + matrix @ nodes + matrix @ matrix @ nodes) / 3).split(list(shape))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    ours, theirs = (
        torch.autograd.grad(users.square().sum() + items.sin().sum(), tables) for users, items in (found, expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_it_is_the_same_each_time_whatever_has_been_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectrum, "SMALL", 0)
    monkeypatch.setattr(spectrum, "BLOCK", 4)
    graph, edges = graph_and_edges(60, 40)
    one = LowRankGraph.of(graph, 3)
    torch.rand(5)
    two = LowRankGraph.of(graph, 3)
    assert torch.equal(one.users, two.users)
    assert torch.equal(one.items, two.items)
    expected = best(edges, 60, 40, 3)[:60, 60:].float()
    torch.testing.assert_close(one.users @ one.items.T, expected, rtol=0, atol=2e-3)


def test_autocast_does_not_reach_it() -> None:
    graph, _ = graph_and_edges()
    plain = LowRankGraph.of(graph, 3)
    tables = torch.randn(12, 4), torch.randn(17, 4)
    expected = layer_mean(plain, *tables, 2)
    with torch.autocast("cpu", torch.bfloat16):
        low = LowRankGraph.of(graph, 3)
        found = layer_mean(low, *tables, 2)
    torch.testing.assert_close(low.users, plain.users, rtol=0, atol=0)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_another_backend_has_the_same_products() -> None:
    low = LowRankGraph.of(graph_and_edges()[0], 3)
    tables = torch.randn(12, 4), torch.randn(17, 4)
    torch.testing.assert_close(layer_mean(low, *tables, 2, backend="pyg"), layer_mean(low, *tables, 2))


def test_more_rank_than_there_is_is_refused() -> None:
    graph = BipartiteGraph.from_edges(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), 2, 2)
    with pytest.raises(
        ConfigError, match=r"rank is 2, but the normalised adjacency of BipartiteGraph\(2 users.* has 1"
    ):
        LowRankGraph.of(graph, 2)


def test_it_is_of_the_symmetric_adjacency_whatever_the_exponents_of_the_graph() -> None:
    graph, edges = graph_and_edges()
    for given in (graph, graph.normalised(1, 0)):
        low = LowRankGraph.of(given, 3)
        torch.testing.assert_close(
            low.users @ low.items.T, best(edges, 12, 17, 3)[:12, 12:].float(), rtol=1e-4, atol=1e-5
        )
