"""GAT's heads and weights against a loop; that it attends; what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import references
import torch
from cases import graph_of, random_interactions
from torch import Tensor

from recgraph import registry
from recgraph.encoders import GAT
from recgraph.errors import ConfigError
from recgraph.random import isolated
from recgraph.types import Inputs

TABLE = random_interactions()
GRAPH = graph_of(TABLE)
EDGES = list(zip(GRAPH.users.tolist(), GRAPH.items.tolist(), strict=True))
ALL = Inputs(torch.arange(TABLE.num_users), graph=GRAPH)


def build(**options: object) -> GAT:
    with isolated(0, "modules"):
        spec = {"name": "gat", "dim": 8, "std": 1.0, **options}
        encoder = registry.encoders.build(spec, TABLE.num_users, TABLE.num_items).double()
        for relation in (encoder.to_users, encoder.to_items):
            torch.nn.init.normal_(relation.bias)
    return encoder


def naive(encoder: GAT, num_heads: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    relations = [(relation.weight, relation.bias) for relation in (encoder.to_users, encoder.to_items)]
    tables = encoder.users.weight, encoder.items.weight
    return references.gat(*tables, EDGES, relations, encoder.num_layers, num_heads)


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_vectors_weights_and_gradients_equal_a_loop(num_heads: int) -> None:
    encoder = build(num_heads=num_heads, num_layers=2)
    found, (users, items, attentions) = encoder(ALL), naive(encoder, num_heads)
    torch.testing.assert_close((found.query, found.items), (users, items))
    parameters = list(encoder.parameters())
    ours = torch.autograd.grad((found.query @ found.items.T).sin().sum(), parameters)
    torch.testing.assert_close(ours, torch.autograd.grad((users @ items.T).sin().sum(), parameters))
    weights = encoder.attention(ALL)
    assert weights.to_users.shape == weights.to_items.shape == (num_heads, GRAPH.num_edges)
    for head, attention in enumerate(attentions):
        columns = TABLE.num_users + GRAPH.items
        torch.testing.assert_close(weights.to_users[head], attention[GRAPH.users, columns])
        torch.testing.assert_close(weights.to_items[head], attention[columns, GRAPH.users])


def test_attention_is_of_the_pair_and_not_of_the_neighbour_alone() -> None:
    """Two users who share two items can prefer different ones."""
    weights = build().attention(ALL).to_users[0]
    share = dict(zip(EDGES, weights.tolist(), strict=True))
    both = [
        (one, two, i, j)
        for (one, i), (other, j) in ((a, b) for a in EDGES for b in EDGES if a[0] == b[0] and a[1] < b[1])
        for two in range(TABLE.num_users)
        if one == other and two > one and (two, i) in share and (two, j) in share
    ]
    assert any((share[one, i] > share[one, j]) != (share[two, i] > share[two, j]) for one, two, i, j in both)


def test_layers_are_shown_and_perturbed() -> None:
    encoder = build(num_layers=2)
    encoding = encoder(replace(ALL, every_layer=True, perturb=lambda hidden: 2 * hidden))
    assert len(encoding.layers) == 3
    plain = encoder(replace(ALL, every_layer=True)).layers
    for number, (query, items) in enumerate(encoding.layers):
        torch.testing.assert_close((query, items), tuple(2**number * side for side in plain[number]))
    torch.testing.assert_close(encoding.items, sum(items for _, items in encoding.layers) / 3)


def test_a_user_without_edges_keeps_its_share_of_layer_0() -> None:
    encoder = build()
    encoding = encoder(Inputs(ALL.users, graph=GRAPH.keep(GRAPH.users > 0)))
    torch.testing.assert_close(encoding.query[0], encoder.users.weight[0] / 4)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_heads is 3; expected a divisor of dim, which is 8"):
        build(num_heads=3)
