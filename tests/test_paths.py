"""Vectors are sums over neighbours, and scores sums over paths: exact, whatever the options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import graph_of, random_interactions

from recgraph import registry
from recgraph.encoders import NGCF, Embedding
from recgraph.explaining.paths import messages, pairs
from recgraph.heads import GMF, MLP, Cosine, Dot
from recgraph.random import isolated
from recgraph.types import Inputs

ENCODERS: dict[str, dict[str, Any]] = {
    "lightgcn": {"name": "lightgcn"},
    "no layers": {"name": "lightgcn", "num_layers": 0},
    "without the first": {"name": "lightgcn", "first_layer": 1},
    "from the second": {"name": "lightgcn", "first_layer": 2},
    "weights": {"name": "lightgcn", "layer_weights": [0.1, 0.2, 0.3, 0.4]},
    "learned": {"name": "lightgcn", "layer_weights": "learned"},
    "lightgcn++": {"name": "lightgcn", "layer_weights": 0.2, "alpha": 0.6, "beta": -0.1, "unit_messages": True},
    "gat": {"name": "gat", "num_layers": 2},
    "gat heads": {"name": "gat", "num_layers": 2, "num_heads": 2},
}
HEADS = {"dot": Dot, "cosine": Cosine, "gmf": GMF}


def build(name: str) -> tuple[Any, Inputs, Any]:
    table = random_interactions()
    graph = graph_of(table)
    with isolated(0, "modules"):
        encoder = registry.encoders.build({"dim": 6, **ENCODERS[name]}, 12, 17).double().eval()
        for parameter in encoder.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return encoder, Inputs(torch.arange(12), graph=graph), graph


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_pairs_add_up_to_the_score(name: str, head: str) -> None:
    encoder, inputs, graph = build(name)
    with isolated(1, "modules"):
        scorer = HEADS[head](6).double()
        for parameter in scorer.parameters():
            parameter.data += torch.randn_like(parameter)
    encoding, found = encoder(inputs), messages(encoder, inputs)
    scores = scorer.all_pairs(encoding.query, encoding.items)
    for user, item in ((0, 3), (7, 16), (11, 0)):
        parts = pairs(found, graph, scorer, user, item)
        torch.testing.assert_close(parts.table.sum() + parts.rest, scores[user, item])


@torch.no_grad()
def test_a_pair_is_what_two_neighbours_say_of_user_and_item() -> None:
    """One layer by hand: no message but the neighbours' own vectors."""
    encoder, inputs, graph = build("lightgcn")
    encoder.num_layers, encoder.layer_weights = 1, [0.5, 0.5]
    parts = pairs(messages(encoder, inputs), graph, Dot(6), 7, 16)
    edges = set(zip(graph.users.tolist(), graph.items.tolist(), strict=True))
    had, who = {i for u, i in edges if u == 7}, {u for u, i in edges if i == 16}
    assert set(parts.items.tolist()) == had
    assert set(parts.users.tolist()) == who
    degree = {("u", u): sum(a == u for a, _ in edges) for u in range(12)}
    degree |= {("i", i): sum(b == i for _, b in edges) for i in range(17)}
    for row, item in enumerate(parts.items.tolist()):
        for column, user in enumerate(parts.users.tolist()):
            told, said = encoder.items.weight[item], encoder.users.weight[user]
            share = 0.5 / (degree["u", 7] * degree["i", item]) ** 0.5
            back = 0.5 / (degree["u", user] * degree["i", 16]) ** 0.5
            torch.testing.assert_close(parts.table[row + 1, column + 1], share * back * (told @ said))
            assert bool(parts.linked[row, column]) == ((user, item) in edges)


@torch.no_grad()
def test_an_item_that_is_taken_from_a_history_takes_its_part_with_it() -> None:
    """A perturbation: with one message set to 0, the score falls by its row."""
    encoder, inputs, graph = build("lightgcn")
    found = messages(encoder, inputs)
    parts = pairs(found, graph, Dot(6), 7, 16)
    users, items = found.told
    gone = items.clone()
    gone[parts.items[2]] = 0
    without = pairs(found._replace(told=(users, gone)), graph, Dot(6), 7, 16)
    torch.testing.assert_close(parts.table.sum() - without.table.sum(), parts.table[3].sum())


@torch.no_grad()
def test_what_is_no_sum_has_no_parts() -> None:
    encoder, inputs, graph = build("lightgcn")
    assert pairs(messages(encoder, inputs), graph, MLP(6), 0, 3) is None
    with isolated(0, "modules"):
        assert messages(NGCF(12, 17, dim=4).double(), inputs) is None
        assert messages(Embedding(12, 17), inputs) is None
