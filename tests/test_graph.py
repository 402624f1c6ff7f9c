"""Views of the graph drop what they say, as often as they say, and leave what they were given alone."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import references_contrast
import torch
from cases import graph_of, random_interactions

from recgraph import registry
from recgraph.encoders import LightGCN
from recgraph.errors import ConfigError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.graph.propagate import neighbour_sum
from recgraph.types import Inputs
from recgraph.views import SVD, EdgeDrop, NodeDrop, RandomWalk

KINDS = [EdgeDrop, NodeDrop]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs() -> Inputs:
    return Inputs(torch.tensor([0, 1]), graph=graph_of(random_interactions()))


def many(view: object, given: Inputs, times: int) -> torch.Tensor:
    """The weights of as many views, one below the other."""
    chance = generator()
    return torch.stack([view(given, chance).graph.weights for _ in range(times)])


@pytest.mark.parametrize("kind", KINDS)
def test_same_generator_same_view_and_the_input_is_untouched(kind: type) -> None:
    given = inputs()
    before = given.graph.operators_in(torch.float64)[0].user_item.values().clone()
    one, two = (kind(rate=0.5)(given, generator(3)) for _ in range(2))
    assert torch.equal(one.graph.weights, two.graph.weights)
    assert not torch.equal(one.graph.weights, kind(rate=0.5)(given, generator(4)).graph.weights)
    assert given.graph.weights is None
    assert torch.equal(given.graph.operators_in(torch.float64)[0].user_item.values(), before)
    assert one.users is given.users


VIEWS = [name for name, kind in registry.views.components().items() if kind.changes <= {"graph", "perturb"}]


def test_the_views_that_lightgcn_reads_are_all_here() -> None:
    assert {"edge_drop", "feature_mask", "noise", "node_drop", "random_walk", "svd"} <= set(VIEWS)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_changes_what_it_says_and_leaves_what_it_is_given(name: str) -> None:
    view = registry.views.build({"name": name, "rank": 2} if name == "svd" else name, where="view")
    given, encoder = inputs(), LightGCN(12, 17, dim=4, num_layers=2).double()
    clean, edges = encoder(given), given.graph.users.clone()
    one, two = (encoder(view(given, generator(3))) for _ in range(2))
    assert torch.equal(one.query, two.query)
    assert torch.equal(one.items, two.items)
    assert not torch.allclose(one.items, clean.items)
    seen = view(given, generator(3))
    changed = {field.name for field in fields(Inputs) if getattr(seen, field.name) is not getattr(given, field.name)}
    assert changed == view.changes
    assert torch.equal(given.graph.users, edges)
    assert torch.equal(encoder(given).items, clean.items)
    same_again = encoder(view(given, generator(4)))
    assert torch.equal(same_again.items, one.items) == (name == "svd")


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_that_goes_on_draws_another_view(kind: type) -> None:
    one, two = many(kind(rate=0.5), inputs(), 2)
    assert not torch.equal(one, two)


@pytest.mark.parametrize("kind", KINDS)
def test_rate_zero_is_the_identity(kind: type) -> None:
    given, encoder = inputs(), LightGCN(12, 17, dim=4).double()
    seen = encoder(kind(rate=0.0)(given, generator()))
    torch.testing.assert_close(seen.items, encoder(given).items, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["edge_drop", "node_drop", "random_walk"])
@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_outside_their_range_are_refused(name: str, rate: float) -> None:
    with pytest.raises(ConfigError, match=r"view\.rate"):
        registry.views.build({"name": name, "rate": rate}, where="view")


def test_almost_all_edges_are_dropped_at_a_rate_of_almost_1() -> None:
    seen = EdgeDrop(rate=1 - 2**-52)(inputs(), generator()).graph
    assert seen.weights.sum() <= 1  # each stays with probability 2⁻³²


def test_inputs_without_a_graph_are_refused() -> None:
    with pytest.raises(ConfigError, match="the inputs have none: give Inputs a `graph`"):
        EdgeDrop()(Inputs(torch.tensor([0])), generator())


def test_edges_are_dropped_independently_at_their_rate() -> None:
    stays = many(EdgeDrop(rate=0.3), inputs(), 4000)
    assert set(stays.unique().tolist()) == {0.0, 1.0}
    error = 5 * (0.3 * 0.7 / 4000) ** 0.5  # of a mean over 4000: five standard deviations
    torch.testing.assert_close(stays.mean(0), torch.full((stays.shape[1],), 0.7), rtol=0, atol=error)
    correlations = torch.corrcoef(stays.T) - torch.eye(stays.shape[1])
    assert correlations.abs().max() < 6 / 4000**0.5


def test_dropped_nodes_lose_all_their_edges_and_others_none() -> None:
    given, dropped = inputs(), 0
    users, items = given.graph.users, given.graph.items
    chance = generator()
    for _ in range(200):
        stays = NodeDrop(rate=0.3)(given, chance).graph.weights.bool()
        alive_users, alive_items = set(users[stays].tolist()), set(items[stays].tolist())
        for user, item, stay in zip(users.tolist(), items.tolist(), stays.tolist(), strict=True):
            # An edge between two nodes that have edges left was not dropped.
            assert stay == (user in alive_users and item in alive_items)
        dropped += 12 - len(alive_users)
    # A user is without edges if it is dropped, or if all of its items are, which is rare.
    assert dropped / (200 * 12) == pytest.approx(0.3, abs=0.06)


def test_an_edge_outlives_node_dropping_if_both_ends_do() -> None:
    stays = many(NodeDrop(rate=0.2), inputs(), 4000)
    error = 5 * (0.64 * 0.36 / 4000) ** 0.5
    torch.testing.assert_close(stays.mean(0), torch.full((stays.shape[1],), 0.64), rtol=0, atol=error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_propagates_over_what_is_left_with_the_degrees_that_are_left(kind: type) -> None:
    given = inputs()
    graph = kind(rate=0.4)(given, generator()).graph
    edges = list(zip(graph.users.tolist(), graph.items.tolist(), strict=True))
    matrix = references_contrast.adjacency(edges, graph.weights.bool().tolist(), 12, 17)
    vectors = torch.randn(29, 3, dtype=torch.float64, generator=generator())
    users, items = neighbour_sum(graph, vectors[:12], vectors[12:])
    torch.testing.assert_close(torch.cat([users, items]), matrix @ vectors)


def test_a_random_walk_goes_over_another_graph_in_each_layer() -> None:
    given = inputs()
    encoder = LightGCN(12, 17, dim=3, num_layers=3).double()
    encoding = encoder(RandomWalk(rate=0.4)(given, generator()))
    edges = list(zip(given.graph.users.tolist(), given.graph.items.tolist(), strict=True))
    layer = torch.cat([encoder.users.weight, encoder.items.weight])
    total, kept = layer, many(EdgeDrop(rate=0.4), given, 3).bool()
    assert not torch.equal(kept[0], kept[1])
    for stays in kept:
        layer = references_contrast.adjacency(edges, stays.tolist(), 12, 17) @ layer
        total = total + layer
    torch.testing.assert_close(encoding.query, total[[0, 1]] / 4)
    torch.testing.assert_close(encoding.items, total[12:] / 4)
    expected = torch.autograd.grad(total[[0, 1]].square().sum() / 16, encoder.items.weight)
    torch.testing.assert_close(torch.autograd.grad(encoding.query.square().sum(), encoder.items.weight), expected)


@pytest.mark.parametrize("options", [{}, {"alpha": 0.6, "beta": -0.1, "unit_messages": True, "layer_weights": 0.2}])
def test_a_random_walk_keeps_its_graphs_and_at_rate_zero_is_the_identity(options: dict[str, Any]) -> None:
    given, encoder = inputs(), LightGCN(12, 17, dim=4, **options).double()
    seen = RandomWalk(rate=0.4)(given, generator())
    assert torch.equal(encoder(seen).items, encoder(seen).items)
    again = RandomWalk(rate=0.4)(given, generator())
    assert torch.equal(encoder(again).items, encoder(seen).items)
    other = RandomWalk(rate=0.4)(given, generator(1))
    assert not torch.equal(encoder(other).items, encoder(seen).items)
    same = encoder(RandomWalk(rate=0.0)(given, generator()))
    torch.testing.assert_close(same.items, encoder(given).items, rtol=0, atol=1e-15)


def test_the_svd_view_is_found_once_and_draws_nothing() -> None:
    given, chance, view = inputs(), generator(), SVD(rank=2)
    state = chance.get_state()
    assert view(given, chance).graph is view(given, chance).graph
    assert torch.equal(chance.get_state(), state)
    assert view(inputs(), chance).graph is not view(given, chance).graph


def test_an_svd_view_of_full_rank_is_the_identity() -> None:
    given, encoder = inputs(), LightGCN(12, 17, dim=4).double()
    seen = encoder(SVD(rank=12)(given, generator()))
    torch.testing.assert_close(seen.items, encoder(given).items, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.query, encoder(given).query, rtol=1e-4, atol=1e-5)


def test_layers_of_the_svd_view_are_those_that_lightgcl_makes_of_the_layers_of_the_main_graph() -> None:
    given, encoder = inputs(), LightGCN(12, 17, dim=4, num_layers=2).double()
    seen = encoder(SVD(rank=3)(given, generator()))
    matrix = given.graph.operators_in(torch.float64)[0].user_item.to_dense().numpy()
    left, singular, right = np.linalg.svd(matrix)
    low = torch.from_numpy(left[:, :3] * singular[:3] @ right[:3])
    users, items = [encoder.users.weight], [encoder.items.weight]
    for _ in range(2):
        main = torch.from_numpy(matrix)
        users, items = [*users, main @ items[-1]], [*items, main.T @ users[-1]]
    expected = (users[0] + low @ items[0] + low @ items[1]) / 3
    torch.testing.assert_close(seen.query, expected[[0, 1]], rtol=1e-4, atol=1e-5)
    expected = (items[0] + low.T @ users[0] + low.T @ users[1]) / 3
    torch.testing.assert_close(seen.items, expected, rtol=1e-4, atol=1e-5)


def test_a_view_of_a_weighted_graph_keeps_the_weights() -> None:
    graph = graph_of(random_interactions())
    weighted: BipartiteGraph = graph.reweighted(torch.arange(graph.num_edges).float() + 1)
    seen = EdgeDrop(rate=0.5)(Inputs(torch.tensor([0]), graph=weighted), generator()).graph.weights
    kept = seen > 0
    assert 0 < kept.sum() < len(kept)
    assert torch.equal(seen[kept], weighted.weights[kept])
