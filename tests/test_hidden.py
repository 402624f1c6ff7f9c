"""Noise moves each vector by a fixed length within its orthant, and the encoder feeds noisy layers on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import references_contrast
import torch
from cases import graph_of, random_interactions
from scipy.stats import chisquare, ks_2samp

from recgraph.encoders import NGCF, Attentive, LightGCN
from recgraph.types import Inputs
from recgraph.views import FeatureMask, Noise
from recgraph.views.hidden import coarse_levels


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


def test_the_direction_is_that_of_uniform_numbers() -> None:
    """And not, say, of Gaussian ones: against numpy's generator, by the first entry and by the smallest."""
    steps = perturbed(torch.ones(20_000, 8, dtype=torch.float64), eps=1.0) - 1
    drawn = np.random.default_rng(0).random((20_000, 8))
    others = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    for of in (lambda rows: rows[:, 0], lambda rows: rows.min(axis=1), lambda rows: rows.max(axis=1)):
        assert ks_2samp(of(steps.numpy()), of(others)).pvalue > 1e-3
    gaussian = np.abs(np.random.default_rng(0).normal(size=(20_000, 8)))
    gaussian /= np.linalg.norm(gaussian, axis=1, keepdims=True)
    assert ks_2samp(steps.numpy()[:, 0], gaussian[:, 0]).pvalue < 1e-9


def test_coarse_numbers_are_as_good_as_uniform_ones() -> None:
    for shape in (torch.Size([40_000, 7]), torch.Size([3, 5]), torch.Size([0, 4])):
        assert coarse_levels(shape, generator()).shape == shape
    drawn = references_contrast.middles(coarse_levels(torch.Size([40_000, 7]), generator(1))).numpy()
    # Each of 256 values as often as the others, in every place of the eight bytes that a draw makes.
    assert np.array_equal(np.unique(drawn), (np.arange(256) + 0.5) / 256)
    flat = drawn.ravel()
    for place in range(8):
        assert chisquare(np.unique(flat[place::8], return_counts=True)[1]).pvalue > 1e-4
    correlations = np.corrcoef(drawn.T) - np.eye(7)
    assert np.abs(correlations).max() < 5 / 40_000**0.5
    assert drawn.mean() == pytest.approx(0.5, abs=0.003)
    assert drawn.var() == pytest.approx(1 / 12, abs=0.001)


def test_many_rows_are_moved_like_few() -> None:
    """They are moved in parts."""
    hidden = torch.randn(9001, 7, dtype=torch.float64, generator=generator(3))
    drawn = references_contrast.middles(coarse_levels(hidden.shape, generator()))
    expected = hidden + 0.1 * hidden.sign() * drawn / drawn.norm(dim=1, keepdim=True)
    torch.testing.assert_close(perturbed(hidden), expected)


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
    drawn = [references_contrast.middles(coarse_levels(torch.Size([n, 4]), chance)) for _ in range(2) for n in (12, 17)]
    nodes = torch.cat([encoder.users.weight, encoder.items.weight])
    layers = references_contrast.noisy_layers(matrix, nodes, 12, 2, 0.3, drawn)
    mean = sum(layers[first_layer:]) / (3 - first_layer)
    torch.testing.assert_close(encoding.query, mean[[3, 0]])
    torch.testing.assert_close(encoding.items, mean[12:])
    assert len(encoding.layers) == 3
    for (users, items), layer in zip(encoding.layers, layers, strict=True):
        torch.testing.assert_close(users, layer[:12])
        torch.testing.assert_close(items, layer[12:])
    # Without anything to perturb or show, one polynomial takes the place of layers.
    plain = encoder(replace(given, every_layer=False))
    assert plain.layers is None
    torch.testing.assert_close(plain.items, encoder(given).items)


def test_a_feature_mask_hides_the_same_dimensions_everywhere(hidden: torch.Tensor) -> None:
    given = Inputs(torch.tensor([0]), perturb=lambda vectors: 2 * vectors)
    mask = FeatureMask(rate=0.5)
    perturb = mask(given, generator(1)).perturb
    seen = perturb(hidden)
    kept = (seen != 0).any(0)
    assert 0 < kept.sum() < 16
    torch.testing.assert_close(seen, 2 * hidden * kept)
    torch.testing.assert_close(perturb(hidden[:7] + 1), 2 * (hidden[:7] + 1) * kept)  # of another layer
    others = mask(given, generator(2)).perturb(hidden)
    assert not torch.equal((others != 0).any(0), kept)  # of another view
    torch.testing.assert_close(FeatureMask(rate=0.0)(given, generator()).perturb(hidden), 2 * hidden)


def test_a_feature_mask_hides_at_its_rate() -> None:
    ones = torch.ones(1, 20_000)
    hidden_share = 1 - FeatureMask(rate=0.3)(Inputs(torch.tensor([0])), generator()).perturb(ones).mean()
    assert float(hidden_share) == pytest.approx(0.3, abs=5 * (0.21 / 20_000) ** 0.5)


def test_a_feature_mask_is_one_for_each_width() -> None:
    """An encoder inside another perturbs its layers, and the other what comes out, which may be wider."""
    table = random_interactions()
    perturb = FeatureMask(rate=0.5)(Inputs(torch.tensor([0])), generator()).perturb
    narrow, wide = perturb(torch.ones(2, 8)), perturb(torch.ones(2, 24))
    assert torch.equal(perturb(torch.ones(2, 8)), narrow)
    assert torch.equal(perturb(torch.ones(2, 24)), wide)
    encoder = Attentive(
        table.num_users,
        table.num_items,
        dim=12,
        max_length=3,
        items=NGCF(table.num_users, table.num_items, dim=4, num_layers=2),
    )
    inputs = Inputs(torch.tensor([0, 1]), torch.tensor([[1, 2], [3, 4]]), graph_of(table))
    assert encoder(FeatureMask(rate=0.5)(inputs, generator())).query.shape == (2, 12)
