"""Propagation against dense float64 products, for values and gradients."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from references import lightgcn, normalised_adjacency, propagation
from torch import Tensor

from recgraph.graph import BipartiteGraph, GraphPerLayer, layer_mean, layer_sum, layers, neighbour_sum
from recgraph.types import identity

USERS, ITEMS, DIM = 13, 9, 4


def case(
    seed: int, density: float = 0.3, dtype: torch.dtype = torch.float32
) -> tuple[BipartiteGraph, list[tuple[int, int]], Tensor, Tensor]:
    """A random graph whose last user and first item have no edges, its edges, and vectors that need gradients."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(USERS, ITEMS, generator=generator) < density
    present[-1], present[:, 0] = False, False
    users, items = present.nonzero().unbind(1)
    graph = BipartiteGraph.from_edges(users, items, USERS, ITEMS)
    tables = (torch.randn(rows, DIM, generator=generator, dtype=dtype).requires_grad_() for rows in (USERS, ITEMS))
    return graph, list(zip(users.tolist(), items.tolist(), strict=True)), *tables


def dot(left: Iterable[Tensor], right: Iterable[Tensor]) -> Tensor:
    return sum((a.double() * b.double()).sum() for a, b in zip(left, right, strict=True))


def assert_same(ours: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-5, atol=1e-5)


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_neighbour_sum_equals_the_dense_product(seed, density):
    graph, edges, users, items = case(seed, density)
    assert_same(neighbour_sum(graph, users, items), propagation(users, items, edges))


@given(st.integers(0, 2**32), st.integers(0, 5))
def test_layer_mean_and_its_gradient_equal_the_dense_lightgcn(seed, num_layers):
    graph, edges, users, items = case(seed)
    ours, theirs = layer_mean(graph, users, items, num_layers), lightgcn(users, items, edges, num_layers)
    assert_same(ours, theirs)
    _, _, *towards = case(seed + 1)
    gradients = [torch.autograd.grad(dot(result, towards), (users, items)) for result in (ours, theirs)]
    assert_same(*gradients)


def test_layer_sum_weighs_each_layer():
    graph, edges, users, items = case(0)
    adjacency = normalised_adjacency(edges, USERS, ITEMS)
    nodes = torch.cat([users, items]).double()
    expected = 2 * nodes - adjacency @ nodes + 0.5 * adjacency @ adjacency @ adjacency @ nodes
    assert_same(layer_sum(graph, users, items, (2, -1, 0, 0.5)), expected.split([USERS, ITEMS]))


@pytest.mark.parametrize("weights", [(2, 2, -1, -1), (0.5, 0.5, 0, 0), (0, 0, 3, 3, 1, 1)])
def test_layer_sum_of_weights_in_pairs(weights):
    """They take a path of their own."""
    graph, edges, users, items = case(0)
    adjacency = normalised_adjacency(edges, USERS, ITEMS)
    layer = torch.cat([users, items]).double()
    expected = torch.zeros_like(layer)
    for weight in weights:
        expected, layer = expected + weight * layer, adjacency @ layer
    assert_same(layer_sum(graph, users, items, weights), expected.split([USERS, ITEMS]))


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_gradients_are_exact_to_second_order(num_layers):
    graph, _, users, items = case(1, dtype=torch.float64)

    def run(users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        return layer_mean(graph, users, items, num_layers)

    assert torch.autograd.gradcheck(run, (users, items))
    assert torch.autograd.gradgradcheck(run, (users, items))


def test_float64_keeps_its_precision():
    graph, edges, users, items = case(2, dtype=torch.float64)
    for mine, theirs in zip(layer_mean(graph, users, items, 3), lightgcn(users, items, edges, 3), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("exponents", [(0.6, -0.1), (1.0, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_other_exponents_and_their_gradients_to_second_order(exponents, weighted):
    """Â is not symmetric here, so a gradient that multiplies by Â and not by its transpose is wrong."""
    graph, edges, users, items = case(1, dtype=torch.float64)
    weights = torch.linspace(0, 2, len(edges)) if weighted else torch.ones(len(edges))
    if weighted:
        graph = graph.reweighted(weights)
    graph = graph.normalised(*exponents)
    adjacency = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    for (user, item), weight in zip(edges, weights.tolist(), strict=True):
        adjacency[user, USERS + item] = adjacency[USERS + item, user] = weight
    left, right = (torch.where(adjacency.sum(1) > 0, adjacency.sum(1) ** -power, 0) for power in exponents)
    dense = left[:, None] * adjacency * right
    nodes = torch.cat([users, items])
    expected = (nodes + dense @ nodes + 3 * dense @ dense @ nodes).split([USERS, ITEMS])

    def run(users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        return layer_sum(graph, users, items, (1.0, 1.0, 3.0))

    torch.testing.assert_close(run(users, items), expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(dot(found, found), (users, items)) for found in (run(users, items), expected))
    )
    assert torch.autograd.gradcheck(run, (users, items))
    assert torch.autograd.gradgradcheck(run, (users, items))


@given(st.integers(0, 2**32))
def test_the_operator_is_symmetric(seed):
    graph, _, *x = case(seed, dtype=torch.float64)
    _, _, *y = case(seed + 1, dtype=torch.float64)
    torch.testing.assert_close(dot(neighbour_sum(graph, *x), y), dot(x, neighbour_sum(graph, *y)))


@given(st.integers(0, 2**32))
def test_relabelling_nodes_relabels_the_result(seed):
    graph, _, users, items = case(seed)
    generator = torch.Generator().manual_seed(seed)
    new_user, new_item = (torch.randperm(count, generator=generator) for count in (USERS, ITEMS))
    relabelled = BipartiteGraph.from_edges(new_user[graph.users], new_item[graph.items], USERS, ITEMS)
    moved = users[new_user.argsort()], items[new_item.argsort()]
    result_users, result_items = layer_mean(relabelled, *moved, 3)
    assert_same((result_users[new_user], result_items[new_item]), layer_mean(graph, users, items, 3))


def test_nodes_without_edges_keep_only_their_own_share():
    graph, _, users, items = case(3)
    near_users, near_items = neighbour_sum(graph, users, items)
    assert not near_users[-1].any()
    assert not near_items[0].any()
    mean_users, mean_items = layer_mean(graph, users, items, 3)
    torch.testing.assert_close(mean_users[-1], users[-1] / 4)
    torch.testing.assert_close(mean_items[0], items[0] / 4)


def test_a_bad_value_spreads_to_neighbours_only():
    graph, _, users, items = case(3)
    with torch.no_grad():
        users[0] = torch.nan
    near_users, near_items = neighbour_sum(graph, users, items)
    assert not near_users.isnan().any()
    assert near_items.isnan().any(1).nonzero().squeeze(1).tolist() == graph.items[graph.users == 0].tolist()


@pytest.mark.parametrize(
    "loss",
    [
        lambda users, items: users.sum(),  # nothing comes back for items, and an expanded gradient for users
        lambda users, items: items.square().sum(),
        lambda users, items: (users.T.contiguous() ** 2).sum() + items.flip(1)[:, ::2].sum(),  # strided gradients
        lambda users, items: (users @ items.T).square().sum() + users.mean(),  # used twice
    ],
)
def test_gradients_of_any_layout_arrive(loss):
    graph, edges, users, items = case(4)
    ours, theirs = layer_mean(graph, users, items, 2), lightgcn(users, items, edges, 2)
    assert_same(*(torch.autograd.grad(loss(*result), (users, items)) for result in (ours, theirs)))


def test_two_graphs_and_two_uses_of_the_same_vectors():
    graph, edges, users, items = case(5)
    stays = torch.arange(len(edges)) % 3 > 0
    fewer = graph.keep(stays)
    remaining = [edge for edge, stay in zip(edges, stays, strict=True) if stay]

    def gradients(*results: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(sum(u.square().sum() + i.exp().sum() for u, i in results), (users, items))

    ours = gradients(*(layer_mean(g, users, items, 2) for g in (graph, fewer, graph)))
    theirs = gradients(*(lightgcn(users, items, pairs, 2) for pairs in (edges, remaining, edges)))
    assert_same(ours, theirs)


def test_one_side_may_be_fixed():
    graph, edges, users, items = case(6)
    sums = layer_mean(graph, users, items.detach(), 3)
    expected = lightgcn(users, items.detach(), edges, 3)
    ours, theirs = (torch.autograd.grad(dot(result, result), users) for result in (sums, expected))
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
    assert not any(part.requires_grad for part in layer_mean(graph, users.detach(), items.detach(), 3))


def test_arguments_are_left_alone():
    graph, _, users, items = case(7)
    before = users.clone(), items.clone()
    for num_layers in (0, 1, 3):
        result = layer_mean(graph, users, items, num_layers)
        with torch.no_grad():
            result[0].zero_(), result[1].zero_()
        assert torch.equal(users, before[0])
        assert torch.equal(items, before[1])


def test_wrong_arguments_are_refused():
    graph, _, users, items = case(8)
    with pytest.raises(ValueError, match=r"1 users and 9 items do not fit BipartiteGraph\(13 users, 9 items"):
        neighbour_sum(graph, users[:1], items)
    with pytest.raises(ValueError, match="num_layers is -1; expected 0 or more"):
        layer_mean(graph, users, items, -1)
    for function in (layer_sum, layers):
        with pytest.raises(ValueError, match="weights is empty"):
            function(graph, users, items, [])
        with pytest.raises(ValueError, match="13 users and 1 items do not fit"):
            function(graph, users, items[:1], [1.0, 1.0])


def test_weights_may_be_integers():
    graph, _, users, items = case(10)
    for weights, perturb in product(([1, 0, 2], torch.tensor([1.0, 0.0, 2.0])), (identity, lambda hidden: 3 * hidden)):
        total, every = layers(graph, users, items, weights, perturb=perturb)
        assert_same(total, tuple(zero + 2 * two for zero, _, two in zip(*every, strict=True)))


def test_layers_are_powers_of_the_adjacency():
    graph, edges, users, items = case(10)
    total, every = layers(graph, users, items, [0.25] * 4)
    for number, layer in enumerate(every):
        powers = layer_sum(graph, users, items, [0.0] * number + [1.0])
        assert_same(layer, powers)
    mean = tuple(sum(side) / 4 for side in zip(*every, strict=True))
    expected = lightgcn(users, items, edges, 3)
    assert_same(mean, expected)
    assert_same(total, expected)
    gradients = [torch.autograd.grad(dot(result, result), (users, items)) for result in (mean, total, expected)]
    assert_same(gradients[0], gradients[2])
    assert_same(gradients[1], gradients[2])


class Shift:
    """Adds the next of some fixed tables, which depend on nothing."""

    shifts = True

    def __init__(self, tables: list[torch.Tensor]) -> None:
        self.tables = iter(tables)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + next(self.tables)


def dense(graph: BipartiteGraph) -> Tensor:
    """D^-α A D^-β, for a graph whose links all have the weight 1."""
    (alpha, beta), size = graph.exponents, graph.num_users + graph.num_items
    adjacency = torch.zeros(size, size)
    adjacency[graph.users, graph.num_users + graph.items] = 1
    adjacency = adjacency + adjacency.T
    degrees = adjacency.sum(1).clamp(min=1)
    return degrees.pow(-alpha)[:, None] * adjacency * degrees.pow(-beta)


READ = {
    "the sum": lambda total, every: dot(total, total),
    "one layer": lambda total, every: every[2][0].square().sum(),
    "layer 0": lambda total, every: every[0][1].square().sum() + every[1][1].exp().sum(),
    "the sum of one side, and layers": lambda total, every: total[1].square().sum() + dot(every[1], every[3]),
    "all": lambda total, every: dot(total, every[3]) + dot(every[1], every[2]) + dot(every[0], total),
}


@pytest.mark.parametrize("read", READ.values(), ids=READ)
@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("weights", [(0.25, 0.25, 0.25, 0.25), (0.0, 2.0, -1.0, 0.5)])
def test_shifted_layers_and_their_gradients_are_those_of_dense_products(read, per_layer, weights):
    generator = torch.Generator().manual_seed(11)
    graph, _, users, items = case(11)
    graph = graph.normalised(0.7, 0.2)  # the gradient has another matrix
    nodes = torch.cat([users, items]).detach().requires_grad_()
    tables = [torch.rand(len(side), users.shape[1], generator=generator) for _ in range(3) for side in (users, items)]
    graphs = [graph] * 3
    if per_layer:
        graphs = [graph.keep(torch.rand(graph.num_edges, generator=generator) < 0.7) for _ in range(3)]
    drawn = iter(graphs)
    given = GraphPerLayer(lambda: next(drawn)) if per_layer else graph
    total, every = layers(given, users, items, weights, perturb=Shift(tables))
    hidden, naive = nodes, [nodes]
    for each, shift in zip(graphs, zip(tables[::2], tables[1::2], strict=True), strict=True):
        hidden = dense(each) @ hidden + torch.cat(shift)
        naive.append(hidden)
    sizes = [len(users), len(items)]
    naive_total = sum(weight * layer for weight, layer in zip(weights, naive, strict=True)).split(sizes)
    naive_every = [layer.split(sizes) for layer in naive]
    assert_same(total, naive_total)
    for one, other in zip(every, naive_every, strict=True):
        assert_same(one, other)
    found = torch.autograd.grad(read(total, every), (users, items), allow_unused=True)
    (expected,) = torch.autograd.grad(read(naive_total, naive_every), nodes)
    found = [torch.zeros_like(side) if each is None else each for each, side in zip(found, (users, items), strict=True)]
    assert_same(found, expected.split(sizes))


class Unread(torch.autograd.Function):
    """Takes a tensor, and has no gradient for it."""

    @staticmethod
    def forward(ctx, value):
        return value.sum()

    @staticmethod
    def backward(ctx, arriving):
        return None


def test_layers_that_nothing_reads_have_no_gradient():
    graph, _, users, items = case(12)
    users, items = (side.detach().requires_grad_() for side in (users, items))
    (total, _), _ = layers(graph, users, items, (0.5, 1.0, 3.0))
    Unread.apply(total).backward()
    assert users.grad is None
    assert items.grad is None


def test_layers_can_be_differentiated_twice():
    graph, _, users, items = case(12)
    users, items = (side[:, :2].detach().double().requires_grad_() for side in (users, items))

    def both(users, items):
        total, every = layers(graph, users, items, (0.5, 1.0, 3.0))
        return *total, *every[1]

    assert torch.autograd.gradgradcheck(both, (users, items))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_equals_cpu():
    graph, edges, users, items = case(9)
    stays = torch.arange(len(edges)) % 2 > 0
    on_gpu = graph.to("cuda").keep(stays.cuda())
    results = [
        layer_mean(g, users.to(g.users.device), items.to(g.users.device), 3) for g in (graph.keep(stays), on_gpu)
    ]
    gradients = [torch.autograd.grad(dot(result, result).cpu(), (users, items)) for result in results]
    assert_same(tuple(part.cpu() for part in results[1]), results[0])
    assert_same(*gradients)
