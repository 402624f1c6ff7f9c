"""The graph against plain Python on its list of edges."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from references import normalised_adjacency
from torch import Tensor

from recgraph.errors import DataError
from recgraph.graph import BipartiteGraph

Pairs = list[tuple[int, int]]


@st.composite
def edge_lists(draw: st.DrawFn) -> tuple[Pairs, int, int]:
    """Distinct edges in any order; users and items without edges are likely."""
    num_users, num_items = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    pairs = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
    return draw(st.lists(pairs, unique=True, max_size=30)), num_users, num_items


def graph_of(edges: Pairs, num_users: int, num_items: int) -> BipartiteGraph:
    users, items = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return BipartiteGraph.from_edges(users, items, num_users, num_items)


def pairs_of(graph: BipartiteGraph) -> Pairs:
    return list(zip(graph.users.tolist(), graph.items.tolist(), strict=True))


def dense(graph: BipartiteGraph, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    operator = graph.operators_in(dtype)[0]
    return operator.user_item.to_dense(), operator.item_user.to_dense()


@given(edge_lists())
def test_edges_are_sorted_both_ways_and_degrees_count_them(case):
    edges, num_users, num_items = case
    graph = graph_of(*case)
    assert pairs_of(graph) == sorted(edges)
    assert [pairs_of(graph)[edge] for edge in graph.by_item] == sorted(edges, key=lambda pair: pair[::-1])
    assert graph.user_degrees.tolist() == [sum(user == u for user, _ in edges) for u in range(num_users)]
    assert graph.item_degrees.tolist() == [sum(item == i for _, item in edges) for i in range(num_items)]
    assert graph.num_edges == len(edges)


@given(edge_lists())
def test_operator_is_the_normalised_adjacency(case):
    _, num_users, _ = case
    expected = normalised_adjacency(*case)[:num_users, num_users:]
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-15)):
        user_item, item_user = dense(graph_of(*case), dtype)
        assert user_item.dtype == item_user.dtype == dtype
        torch.testing.assert_close(user_item.double(), expected, rtol=tolerance, atol=0)
        torch.testing.assert_close(item_user.double(), expected.T, rtol=tolerance, atol=0)


@given(edge_lists())
def test_operator_is_valid_csr_with_32_bit_indices(case):
    graph = graph_of(*case)
    for half in (graph.operator.user_item, graph.operator.item_user):
        assert half.crow_indices().dtype == half.col_indices().dtype == torch.int32
        # torch's own checks: row starts rise from 0 to the number of edges, columns are in range and rise in a row
        torch.sparse_csr_tensor(
            half.crow_indices(), half.col_indices(), half.values(), half.shape, check_invariants=True
        )


@given(edge_lists(), st.randoms())
def test_keep_equals_building_from_the_kept_edges(case, chance: random.Random):
    graph = graph_of(*case)
    mask = [chance.random() < 0.6 for _ in range(graph.num_edges)]
    kept = graph.keep(torch.tensor(mask, dtype=torch.bool))
    remaining = [pair for pair, stays in zip(pairs_of(graph), mask, strict=True) if stays]
    built = graph_of(remaining, *case[1:])
    for name in ("users", "items", "by_item", "user_degrees", "item_degrees"):
        assert torch.equal(getattr(kept, name), getattr(built, name)), name
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(dense(kept), dense(built), strict=True))
    assert pairs_of(graph) == sorted(case[0]), "keep changed the graph it was called on"


def test_keep_can_be_repeated():
    graph = graph_of([(0, 0), (0, 1), (1, 0), (2, 2)], 3, 3)
    once = graph.keep(torch.tensor([True, False, True, True])).keep(torch.tensor([False, True, True]))
    assert pairs_of(once) == [(1, 0), (2, 2)]
    assert pairs_of(graph.keep(torch.zeros(4, dtype=torch.bool))) == []


@pytest.mark.parametrize("mask", [torch.ones(4), torch.ones(3, dtype=torch.bool), torch.ones(4, 1).bool()])
def test_keep_refuses_a_mask_that_does_not_fit(mask):
    with pytest.raises(ValueError, match=r"mask is torch\.\w+ of shape .*expected torch\.bool of \[4\]"):
        graph_of([(0, 0), (0, 1), (1, 0), (2, 2)], 3, 3).keep(mask)


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([0, 1, 3, 9], [0, 0, 0, 0], r"edge 2: user 3 is outside \[0, 3\)"),
        ([0, -1], [0, 0], r"edge 1: user -1 is outside \[0, 3\)"),
        ([0, 1, 2], [0, 2, 1], r"edge 1: item 2 is outside \[0, 2\)"),
        ([2, 0, 2, 0], [1, 0, 1, 0], r"edge 2 \(user 2, item 1\) repeats an earlier one"),
        ([0, 1], [0], "2 users but 1 items"),
        ([0.0, 1.0], [0, 0], r"users of edges: expected integers of shape \[edges\], got torch.float32 \[2\]"),
        ([0, 1], [[0], [1]], r"items of edges: expected integers of shape \[edges\], got torch.int64 \[2, 1\]"),
        ([True, False], [0, 0], "users of edges: expected integers"),
    ],
)
def test_bad_edges_are_named(users, items, message):
    with pytest.raises(DataError, match=message):
        BipartiteGraph.from_edges(torch.tensor(users), torch.tensor(items), 3, 2)


@pytest.mark.parametrize("kind", ["int32", "uint32", "int64"])
def test_numpy_arrays_will_do_and_are_not_kept(kind):
    users, items = np.array([1, 0], dtype=kind), np.array([0, 2], dtype=kind)
    frozen = users.copy()
    frozen.setflags(write=False)
    graph = BipartiteGraph.from_edges(frozen, items, 2, 3)
    assert pairs_of(graph) == [(0, 2), (1, 0)]
    assert graph.users.dtype == graph.items.dtype == torch.int64


def test_operator_is_built_once_and_never_carried_over():
    graph = graph_of([(0, 0), (1, 1)], 2, 2)
    assert graph.operator is graph.operator
    assert graph.operators_in(torch.float32)[0] is graph.operator
    assert dataclasses.replace(graph, num_items=5).operator.user_item.shape == (2, 5)


def test_other_exponents_are_kept_beside_the_symmetric_operator():
    graph = graph_of([(0, 0), (0, 1), (1, 1)], 2, 2)
    symmetric, other = graph.operator, graph.normalised(1, 0)
    assert graph.normalised(0.5, 0.5) is graph
    assert graph.transposed is graph.operator is symmetric
    assert other is graph.normalised(1.0, 0.0)
    assert other is not graph.normalised(0, 1)
    assert other.operator is other.operators_in(torch.float32)[0]
    torch.testing.assert_close(other.operator.user_item.to_dense(), torch.tensor([[0.5, 0.5], [0, 1]]))
    torch.testing.assert_close(other.operator.item_user.to_dense(), torch.tensor([[1, 0], [0.5, 0.5]]))
    torch.testing.assert_close(other.transposed.user_item.to_dense(), torch.tensor([[1, 0.5], [0, 0.5]]))
    for changed in (other.keep(torch.ones(3, dtype=torch.bool)), other.reweighted(torch.ones(3)), other.to("meta")):
        assert changed.exponents == (1, 0)


def test_to_and_repr():
    graph = graph_of([(0, 0), (1, 1), (1, 2)], 2, 4)
    assert graph.to("cpu") is graph
    assert repr(graph) == "BipartiteGraph(2 users, 4 items, 3 edges, cpu)"
    moved = graph.to("meta")
    assert {moved.users.device.type, moved.items.device.type, moved.by_item.device.type} == {"meta"}


@given(st.integers(0, 2**32))
def test_reweighting_equals_the_dense_operator_of_the_weights(seed: int):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(6, 5, generator=generator, dtype=torch.float64) * (torch.rand(6, 5, generator=generator) < 0.6)
    present = (torch.rand(6, 5, generator=generator) < 0.5) | (weights > 0)
    users, items = present.nonzero().unbind(1)
    graph = BipartiteGraph.from_edges(users, items, 6, 5).reweighted(weights[present])
    inverse = lambda degrees: torch.where(degrees > 0, degrees, torch.inf).rsqrt()  # noqa: E731
    expected = inverse(weights.sum(1))[:, None] * weights * inverse(weights.sum(0))
    operator = graph.operators_in(torch.float64)[0]
    torch.testing.assert_close(operator.user_item.to_dense(), expected)
    torch.testing.assert_close(operator.item_user.to_dense(), expected.T)


def test_weights_of_zero_and_one_equal_keeping_edges():
    graph = graph_of([(0, 0), (0, 1), (1, 0), (1, 2), (2, 2)], 4, 3)
    mask = torch.tensor([True, False, True, False, True])
    kept, weighted = graph.keep(mask).operator, graph.reweighted(mask.float()).operator
    torch.testing.assert_close(weighted.user_item.to_dense(), kept.user_item.to_dense())
    torch.testing.assert_close(weighted.item_user.to_dense(), kept.item_user.to_dense())
    assert graph.weights is None, "reweighted changed the graph it was called on"


def test_keep_and_to_carry_weights():
    graph = graph_of([(0, 0), (0, 1), (1, 0)], 2, 2).reweighted(torch.tensor([1.0, 2.0, 3.0]))
    assert graph.keep(torch.tensor([True, False, True])).weights.tolist() == [1, 3]
    assert graph.to("meta").weights.device.type == "meta"


@pytest.mark.parametrize("weights", [torch.ones(3), torch.ones(4, 1), torch.ones(4, dtype=torch.long)])
def test_reweighted_refuses_weights_that_do_not_fit(weights):
    with pytest.raises(ValueError, match=r"weights is .* expected floating point of \[4\]"):
        graph_of([(0, 0), (0, 1), (1, 0), (2, 2)], 3, 3).reweighted(weights)


def test_weights_that_want_a_gradient_are_refused():
    with pytest.raises(ValueError, match="none reaches the weights of a graph"):
        graph_of([(0, 0), (0, 1)], 1, 2).reweighted(torch.ones(2, requires_grad=True))
