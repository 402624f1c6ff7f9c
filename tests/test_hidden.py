"""Noise moves each vector by a fixed length within its orthant, and the encoder feeds noisy layers on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import references_contrast
import torch
from cases import graph_of, random_interactions

from recgraph.encoders import LightGCN
from recgraph.types import Inputs
from recgraph.views import Noise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perturbed(hidden: torch.Tensor, eps: float = 0.1, seed: int = 0) -> torch.Tensor:
    return Noise(eps=eps)(Inputs(torch.tensor([0])), generator(seed)).perturb(hidden)


@pytest.fixture
def hidden() -> torch.Tensor:
    return torch.randn(500, 16, dtype=torch.float64, generator=generator(9))


def test_each_vector_moves_by_eps_within_its_orthant(hidden: torch.Tensor) -> None:
    step = perturbed(hidden) - hidden
    torch.testing.assert_close(step.norm(dim=-1), torch.full((500,), 0.1, dtype=torch.float64))
    assert torch.equal((hidden + step).sign(), hidden.sign())
    assert (step * hidden >= 0).all()
    # Its direction is that of uniform numbers, and not, say, of Gaussian ones.
    expected = torch.rand(500, 16, dtype=torch.float64, generator=generator(0))
    torch.testing.assert_close(step.abs() / step.abs().max(-1, keepdim=True).values, expected / expected.amax(-1, True))


def test_zero_entries_stay_zero() -> None:
    assert torch.equal(perturbed(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_same_generator_same_noise_and_the_input_is_untouched(hidden: torch.Tensor) -> None:
    before = hidden.clone()
    assert torch.equal(perturbed(hidden), perturbed(hidden))
    assert not torch.equal(perturbed(hidden), perturbed(hidden, seed=1))
    assert torch.equal(hidden, before)


def test_eps_zero_is_the_identity(hidden: torch.Tensor) -> None:
    assert torch.equal(perturbed(hidden, eps=0.0), hidden)


def test_the_gradient_passes_as_if_noise_were_a_constant(hidden: torch.Tensor) -> None:
    leaf = hidden.requires_grad_()
    (gradient,) = torch.autograd.grad(perturbed(leaf).square().sum(), leaf)
    torch.testing.assert_close(gradient, 2 * perturbed(hidden.detach()))


def test_noise_acts_after_what_perturbs_already(hidden: torch.Tensor) -> None:
    given = Inputs(torch.tensor([0]), perturb=lambda vectors: 2 * vectors)
    torch.testing.assert_close(Noise()(given, generator()).perturb(hidden), perturbed(2 * hidden))


@pytest.mark.parametrize("first_layer", [0, 1, 2])
def test_lightgcn_feeds_noisy_layers_on_and_means_from_its_first_layer(first_layer: int) -> None:
    graph = graph_of(random_interactions())
    encoder = LightGCN(12, 17, dim=4, num_layers=2, first_layer=first_layer).double()
    given = Inputs(torch.tensor([3, 0]), graph=graph, every_layer=True)
    encoding = encoder(Noise(eps=0.3)(given, generator()))
    edges = list(zip(graph.users.tolist(), graph.items.tolist(), strict=True))
    matrix = references_contrast.adjacency(edges, [True] * len(edges), 12, 17)
    chance = generator()
    drawn = [torch.rand(n, 4, dtype=torch.float64, generator=chance) for _ in range(2) for n in (12, 17)]
    nodes = torch.cat([encoder.users.weight, encoder.items.weight])
    layers = references_contrast.noisy_layers(matrix, nodes, 12, 2, 0.3, drawn)
    mean = sum(layers[first_layer:]) / (3 - first_layer)
    torch.testing.assert_close(encoding.query, mean[[3, 0]])
    torch.testing.assert_close(encoding.items, mean[12:])
    assert len(encoding.layers) == 3
    for (query, items), layer in zip(encoding.layers, layers, strict=True):
        torch.testing.assert_close(query, layer[[3, 0]])
        torch.testing.assert_close(items, layer[12:])
    # Without anything to perturb or show, one polynomial takes the place of layers.
    plain = encoder(replace(given, every_layer=False))
    assert plain.layers is None
    torch.testing.assert_close(plain.items, encoder(given).items)
