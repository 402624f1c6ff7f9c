"""LightGCN's options against dense loops: weights of layers, exponents of degrees, messages of length 1."""

from __future__ import annotations

import math

import pytest
import references
import torch
from cases import graph_of, random_interactions
from torch import Tensor

from recgraph import registry
from recgraph.encoders import LightGCN
from recgraph.errors import ConfigError
from recgraph.random import isolated
from recgraph.types import Inputs

TABLE = random_interactions()
GRAPH = graph_of(TABLE)
EDGES = list(zip(GRAPH.users.tolist(), GRAPH.items.tolist(), strict=True))
ALL = Inputs(torch.arange(TABLE.num_users), graph=GRAPH)


def build(**options: object) -> LightGCN:
    with isolated(0, "modules"):
        spec = {"name": "lightgcn", "dim": 4, **options}
        return registry.encoders.build(spec, TABLE.num_users, TABLE.num_items).double()


def check(encoder: LightGCN, weights: list[float] | Tensor, inputs: Inputs = ALL, **options: object) -> None:
    """Vectors, and the gradient of every parameter, equal the loop's."""
    found = encoder(inputs)
    expected = references.weighted_lightgcn(encoder.users.weight, encoder.items.weight, EDGES, weights, **options)
    torch.testing.assert_close((found.query, found.items), expected)
    parameters = list(encoder.parameters())
    gradients = [
        torch.autograd.grad((users @ items.T).sin().sum(), parameters)
        for users, items in ((found.query, found.items), expected)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("every_layer", [False, True])
@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"layer_weights": [0.5, 0, -2, 1]}, [0.5, 0, -2, 1]),
        ({"layer_weights": [2, 3], "first_layer": 2}, [0, 0, 2, 3]),
        ({"layer_weights": [1, 3, 3, 1]}, [1, 3, 3, 1]),
        ({"layer_weights": 0.1}, [0.1, 0.3, 0.3, 0.3]),
        ({"layer_weights": 1, "num_layers": 2}, [1, 0, 0]),
        ({"first_layer": 1}, [0, 1 / 3, 1 / 3, 1 / 3]),  # as files before `layer_weights` have it
    ],
)
def test_weights_of_layers(options: dict[str, object], weights: list[float], every_layer: bool) -> None:
    check(build(**options), weights, Inputs(ALL.users, graph=GRAPH, every_layer=every_layer))


def test_weights_of_layers_may_be_a_tuple() -> None:
    """From Python, where no file has made a list of them."""
    with isolated(0, "modules"):
        encoder = LightGCN(TABLE.num_users, TABLE.num_items, dim=4, layer_weights=(1.0, 3.0, 3.0, 1.0)).double()
    check(encoder, [1, 3, 3, 1], Inputs(ALL.users, graph=GRAPH, every_layer=True))


@pytest.mark.parametrize("first_layer", [0, 1])
def test_learned_weights_start_at_the_mean_and_are_learned(first_layer: int) -> None:
    encoder = build(layer_weights="learned", first_layer=first_layer)
    torch.testing.assert_close(encoder(ALL).items, build(first_layer=first_layer)(ALL).items, rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        encoder.layer_weights += torch.arange(4 - first_layer)
    check(encoder, torch.cat([torch.zeros(first_layer), encoder.layer_weights]))


@pytest.mark.parametrize(("alpha", "beta"), [(0.6, -0.1), (1.0, 0.0), (0.0, 1.0), (0.3, 0.3), (0.5, 0.5)])
@pytest.mark.parametrize("unit_messages", [False, True])
def test_exponents_and_messages_of_length_1(alpha: float, beta: float, unit_messages: bool) -> None:
    options = {"alpha": alpha, "beta": beta, "unit_messages": unit_messages}
    check(build(layer_weights=0.2, **options), [0.2, 0.8 / 3, 0.8 / 3, 0.8 / 3], **options)


def test_residual_connections_are_binomial_weights() -> None:
    encoder = build(layer_weights=[math.comb(3, layer) for layer in range(4)])
    adjacency = references.normalised_adjacency(EDGES, TABLE.num_users, TABLE.num_items)
    nodes = torch.cat([encoder.users.weight, encoder.items.weight])
    for _ in range(3):
        nodes = nodes + adjacency @ nodes
    torch.testing.assert_close(encoder(ALL).items, nodes[TABLE.num_users :])


def test_nodes_without_edges_have_finite_gradients_in_lightgcn_plus_plus() -> None:
    few = GRAPH.keep(GRAPH.users > 2)  # users 0 to 2 have layers of length 0, which has no direction
    encoder = build(layer_weights=0.2, alpha=0.6, beta=-0.1, unit_messages=True)
    encoding = encoder(Inputs(ALL.users, graph=few))
    torch.testing.assert_close(encoding.query[:3], 0.2 * encoder.users.weight[:3])
    (encoding.query @ encoding.items.T).square().sum().backward()
    assert all(parameter.grad.abs().max() < 1e3 for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_weights": [1, 2]}, "layer_weights has 2 numbers; expected 4, for layers 0 to 3"),
        ({"layer_weights": 1.5}, "layer_weights is 1.5, the weight of layer 0; expected a number from 0 to 1"),
        ({"layer_weights": 0.5, "first_layer": 1}, "first_layer 0 and num_layers 1 or more, got 1 and 3"),
        ({"layer_weights": 0.5, "num_layers": 0}, "got 0 and 0"),
        ({"layer_weights": "median"}, "encoder.layer_weights"),
        ({"alpha": "half"}, "encoder.alpha"),
    ],
)
def test_weights_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)
