"""Links among users and among items: products against a dense adjacency, and what views make of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_propagate import DIM, ITEMS, USERS, assert_same, case, dot
from torch import Tensor

from recgraph import registry
from recgraph.encoders import GAT, NGCF, LightGCN
from recgraph.errors import ConfigError, DataError
from recgraph.graph import BipartiteGraph, Links, layer_mean, layer_sum, neighbour_sum
from recgraph.graph.low_rank import LowRankGraph
from recgraph.random import isolated, torch_generator
from recgraph.types import Inputs

Pairs = list[tuple[int, int, float]]
SOCIAL: Pairs = [(0, 3, 0.5), (12, 3, 0.25), (5, 0, 2.0), (3, 0, 0.125)]  # user 12 has no edges; 0 and 3 twice
CITED: Pairs = [(0, 4, 0.7), (8, 2, 1.0), (2, 0, 0.3)]  # nor has item 0
Weighted = list[tuple[int, int, float]]


def links(pairs: Pairs, size: int) -> Links:
    one, other, weights = zip(*pairs, strict=True)
    return Links.of(torch.tensor(one), torch.tensor(other), torch.tensor(weights), size)


def linked(graph: BipartiteGraph) -> BipartiteGraph:
    return graph.linked(links(SOCIAL, USERS), links(CITED, ITEMS))


def dense(edges: Weighted, alpha: float = 0.5, beta: float = 0.5, social: Pairs = SOCIAL) -> Tensor:
    """D^-α A D^-β over all nodes, with every edge and link written into A by hand."""
    adjacency = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    for user, item, weight in edges:
        adjacency[user, USERS + item] = adjacency[USERS + item, user] = weight
    for offset, pairs in ((0, social), (USERS, CITED)):
        for one, other, weight in pairs:
            adjacency[offset + one, offset + other] += weight
            adjacency[offset + other, offset + one] += weight
    degrees = adjacency.sum(1)
    left, right = (torch.where(degrees > 0, degrees**-power, 0.0) for power in (alpha, beta))
    return torch.diag(left) @ adjacency @ torch.diag(right)


def weighted(edges: list[tuple[int, int]]) -> Weighted:
    return [(user, item, 1.0) for user, item in edges]


def sums(adjacency: Tensor, users: Tensor, items: Tensor, weights: list[float]) -> tuple[Tensor, Tensor]:
    layer = torch.cat([users, items]).double()
    total = torch.zeros_like(layer)
    for weight in weights:
        total, layer = total + weight * layer, adjacency @ layer
    return total.split([USERS, ITEMS])


@pytest.mark.parametrize("weights", [[0.0, 1.0], [0.25] * 4, [1 / 3] * 3, [2.0, -1.0, 0.0, 0.5]])
@pytest.mark.parametrize("exponents", [(0.5, 0.5), (1.0, 0.0), (0.7, 0.2)])
def test_products_and_gradients_equal_the_dense_ones(weights: list[float], exponents: tuple[float, float]) -> None:
    graph, edges, users, items = case(3)
    ours = layer_sum(linked(graph).normalised(*exponents), users, items, weights)
    theirs = sums(dense(weighted(edges), *exponents), users, items, weights)
    assert_same(ours, theirs)
    _, _, *towards = case(4)
    assert_same(*(torch.autograd.grad(dot(result, towards), (users, items)) for result in (ours, theirs)))


def test_links_of_one_side_suffice() -> None:
    graph, edges, users, items = case(5)
    found = layer_mean(graph.linked(items=links(CITED, ITEMS)), users, items, 3)
    assert_same(found, sums(dense(weighted(edges), social=[]), users, items, [0.25] * 4))
    assert not graph.has_links
    assert graph.linked(items=links(CITED, ITEMS)).has_links


def test_float64_is_exact() -> None:
    graph, edges, users, items = case(6, dtype=torch.float64)
    found = neighbour_sum(linked(graph), users, items)
    for ours, theirs in zip(found, sums(dense(weighted(edges)), users, items, [0.0, 1.0]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)  # weights of links are float32


def test_whoever_has_no_interactions_is_reached() -> None:
    graph, _, users, items = case(0)
    alone, joined = neighbour_sum(graph, users, items), neighbour_sum(linked(graph), users, items)
    assert not alone[0][12].any()
    assert not alone[1][0].any()
    assert joined[0][12].any()
    assert joined[1][0].any()
    assert linked(graph).item_degrees[0] == 0  # interactions alone
    assert linked(graph).degrees_in(torch.float32)[1][0] == pytest.approx(1.0)


def test_links_move_with_views_of_the_edges() -> None:
    graph, edges, users, items = case(7)
    mask = torch.rand(graph.num_edges, generator=torch.Generator().manual_seed(0)) < 0.5
    left = [edge for edge, stays in zip(edges, mask.tolist(), strict=True) if stays]
    theirs = sums(dense(weighted(left)), users, items, [0.25] * 4)
    for view in (linked(graph).keep(mask), linked(graph).reweighted(mask.float())):
        assert_same(layer_mean(view, users, items, 3), theirs)
    halves = [(user, item, 0.5) for user, item in edges]
    found = layer_mean(linked(graph).reweighted(torch.full((len(edges),), 0.5)), users, items, 3)
    assert_same(found, sums(dense(halves), users, items, [0.25] * 4))


@pytest.mark.parametrize("view", ["edge_drop", "random_walk"])
def test_views_of_edges_leave_links(view: str) -> None:
    graph, _, users, items = case(8)
    encoder = LightGCN(USERS, ITEMS, dim=DIM, num_layers=1)
    with torch.no_grad():
        encoder.users.weight.copy_(users), encoder.items.weight.copy_(items)
    changed = registry.views.build({"name": view, "rate": 0.999})(
        Inputs(torch.arange(USERS), graph=linked(graph)), torch_generator(0, "views")
    )
    # Next to no edge is left, so that what is summed is over links alone.
    found = encoder(changed)
    none_left = [(0, 0, 0.0)]
    assert_same((found.query, found.items), sums(dense(none_left), users, items, [0.5, 0.5]))


def test_what_has_no_place_for_links_says_so() -> None:
    graph, _, users, items = case(0)
    with pytest.raises(ConfigError, match=r"backend 'pyg' passes messages .* links want backend 'torch'"):
        neighbour_sum(linked(graph), users, items, backend="pyg")
    with pytest.raises(ConfigError, match="no place for relations"):
        LowRankGraph.of(linked(graph), 2)
    inputs = Inputs(torch.arange(USERS), graph=linked(graph))
    with pytest.raises(ConfigError, match="node_drop drops nodes of interactions"):
        registry.views.build("node_drop")(inputs, torch_generator(0, "views"))
    with pytest.raises(ConfigError, match="GAT reads interactions alone"):
        GAT(USERS, ITEMS, dim=DIM)(inputs)
    with isolated(0, "test"):
        assert NGCF(USERS, ITEMS, dim=DIM).eval()(inputs).items.isfinite().all()


def test_a_graph_keeps_its_links_when_moved_or_copied() -> None:
    graph, _, users, items = case(0)
    whole = linked(graph)
    assert whole.to("cpu") is whole
    more = replace(whole, num_items=ITEMS + 2, item_links=whole.item_links.padded(ITEMS + 2))
    wider = torch.cat([items, torch.zeros(2, DIM)])
    found = neighbour_sum(more, users, wider)
    expected = neighbour_sum(whole, users, items)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1][:ITEMS], expected[1])
    assert not found[1][ITEMS:].any()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(0, 1, 1.0), (2, 2, 1.0)], r"link 1, of 2 and 2 .* two different ends in \[0, 9\)"),
        ([(0, 9, 1.0)], "link 0, of 0 and 9"),
        ([(-1, 3, 1.0)], "link 0, of -1 and 3"),
        ([(0, 1, 0.0)], "with weight 0.0: .* a weight above 0"),
        ([(0, 1, float("nan"))], "with weight nan"),
        ([(0, 1, float("inf"))], "with weight inf"),
    ],
)
def test_bad_links_are_refused(pairs: Pairs, message: str) -> None:
    with pytest.raises(DataError, match=message):
        links(pairs, ITEMS)


def test_links_must_fit_the_graph() -> None:
    graph, *_ = case(0)
    with pytest.raises(ValueError, match="links among 9 users do not fit"):
        graph.linked(links(CITED, ITEMS))
    with pytest.raises(DataError, match="2 and 1 ends, 1 weights"):
        Links.of(torch.tensor([0, 1]), torch.tensor([1]), torch.ones(1), 3)
