"""Sums with computed weights against dense matrices, to second order; softmax over neighbours at its extremes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_propagate import DIM, ITEMS, USERS, case
from torch import Tensor

from recgraph.graph import BipartiteGraph
from recgraph.graph.attention import edge_dots, edge_softmax, sum_to_items, sum_to_users

GRAPH, _, VECTORS, THINGS = case(0, dtype=torch.float64)
WEIGHTS = torch.randn(GRAPH.num_edges, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


def dense(values: Tensor, graph: BipartiteGraph = GRAPH, fill: float = 0.0) -> Tensor:
    empty = torch.full((USERS, ITEMS), fill, dtype=values.dtype)
    return empty.index_put((graph.users, graph.items), values)


@pytest.mark.parametrize(
    ("found", "expected", "arguments"),
    [
        (edge_dots, lambda users, items: (users @ items.T)[GRAPH.users, GRAPH.items], (VECTORS, THINGS)),
        (sum_to_users, lambda weights, items: dense(weights) @ items, (WEIGHTS, THINGS)),
        (sum_to_items, lambda weights, users: dense(weights).T @ users, (WEIGHTS, VECTORS)),
        (
            lambda graph, logits: edge_softmax(graph, logits, "items"),
            lambda logits: dense(logits, fill=-torch.inf).softmax(1)[GRAPH.users, GRAPH.items],
            (WEIGHTS,),
        ),
        (
            lambda graph, logits: edge_softmax(graph, logits, "users"),
            lambda logits: dense(logits, fill=-torch.inf).softmax(0)[GRAPH.users, GRAPH.items],
            (WEIGHTS,),
        ),
    ],
    ids=["edge_dots", "sum_to_users", "sum_to_items", "softmax over items", "softmax over users"],
)
def test_equals_dense_and_its_gradients_to_second_order(
    found: Callable[..., Tensor], expected: Callable[..., Tensor], arguments: tuple[Tensor, ...]
) -> None:
    ours, theirs = found(GRAPH, *arguments), expected(*arguments)
    torch.testing.assert_close(ours, theirs)
    towards = torch.randn(ours.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad((result * towards).sin().sum(), arguments) for result in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(lambda *given: found(GRAPH, *given), arguments)
    assert torch.autograd.gradgradcheck(lambda *given: found(GRAPH, *given), arguments)


def test_columns_of_wider_tables_will_do() -> None:
    users, items = VECTORS.split(DIM // 2, -1)[1], THINGS.split(DIM // 2, -1)[1]
    expected = (users @ items.T)[GRAPH.users, GRAPH.items]
    torch.testing.assert_close(edge_dots(GRAPH, users, items), expected)
    torch.testing.assert_close(sum_to_users(GRAPH, WEIGHTS, items), dense(WEIGHTS) @ items)


@pytest.mark.parametrize("over", ["items", "users"])
@pytest.mark.parametrize("scale", [0.0, 1e4, -1e4])
def test_softmax_sums_to_1_at_any_size(over: str, scale: float) -> None:
    logits = (scale * WEIGHTS.detach().float()).requires_grad_()
    weights = edge_softmax(GRAPH, logits, over)
    sums = dense(weights).sum(1 if over == "items" else 0)
    degrees = GRAPH.user_degrees if over == "items" else GRAPH.item_degrees
    torch.testing.assert_close(sums, (degrees > 0).float())
    weights.square().sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("over", ["items", "users"])
def test_edges_of_weight_0_are_as_good_as_dropped(over: str) -> None:
    stays = (torch.arange(GRAPH.num_edges) % 3 > 0) & (GRAPH.users != GRAPH.users[5])  # and one user loses all
    high = torch.where(stays, 0.0, 1e4).double() + WEIGHTS.detach()  # what is dropped would be the peak
    logits = high.requires_grad_()
    weights = edge_softmax(GRAPH.reweighted(stays.float()), logits, over)
    kept = edge_softmax(GRAPH.keep(stays), logits.detach()[stays], over)
    torch.testing.assert_close(weights[stays], kept)
    assert (weights[~stays] == 0).all()
    weights.square().sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[~stays] == 0).all()


def test_weights_of_edges_are_factors() -> None:
    factors = torch.linspace(0.5, 2, GRAPH.num_edges, dtype=torch.float64)
    found = dense(edge_softmax(GRAPH.reweighted(factors), WEIGHTS, "items"))
    powers = dense(factors * WEIGHTS.exp())
    torch.testing.assert_close(found[:-1], (powers / powers.sum(1, keepdim=True))[:-1])
