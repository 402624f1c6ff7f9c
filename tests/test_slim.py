"""SLIM against non-negative least squares over all items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import random_interactions
from references_baselines import ease, slim
from sklearn.exceptions import ConvergenceWarning

from recgraph import registry
from recgraph.baselines import slim as module
from recgraph.baselines.slim import SLIM
from recgraph.errors import ConfigError


def weights(l1: float, l2: float) -> np.ndarray:
    table = random_interactions(30, 17, density=0.15)
    model = SLIM(30, 17, l1=l1, l2=l2, tolerance=1e-9)
    model.fit(table)
    return model.weights.csr(17).to_dense().double().numpy()


def matrix() -> np.ndarray:
    return random_interactions(30, 17, density=0.15).csr().toarray().astype(float)


@pytest.mark.parametrize("chunk", [1, 5, 512])
@pytest.mark.parametrize(("l1", "l2"), [(0.01, 0.3), (0.5, 0.3), (0.2, 20.0)])
def test_each_item_is_a_non_negative_elastic_net(
    l1: float, l2: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    assert (matrix().T @ matrix() == 0).any()  # there are items that are left out from the start
    np.testing.assert_allclose(weights(l1, l2), slim(matrix(), l1, l2), atol=1e-5)


def test_the_slope_is_l1_where_there_is_a_weight_and_not_above_it_elsewhere() -> None:
    found, liked = weights(0.1, 2.0), matrix()
    slope = liked.T @ (liked - liked @ found) - 2.0 * found
    off_diagonal = ~np.eye(17, dtype=bool)
    assert 10 < (found > 0).sum() < 200
    np.testing.assert_allclose(slope[found > 0], 0.1, atol=1e-4)
    assert slope[(found == 0) & off_diagonal].max() <= 0.1 + 1e-4
    assert not found.diagonal().any()


def test_more_l1_is_sparser() -> None:
    kept = [(weights(l1, 1.0) > 0).sum() for l1 in (0.01, 0.3, 1.5)]
    assert kept[0] > kept[1] > kept[2]


def test_where_no_weight_wants_to_be_negative_it_is_ease() -> None:
    l2 = 1e3  # weights are then co-occurrences over l2 and small corrections
    reference = ease(matrix(), l2)
    shared = matrix().T @ matrix() > 0
    np.testing.assert_allclose(weights(1e-6, l2)[shared], reference[shared], atol=1e-6)


def test_the_defaults_are_the_settings_they_are_said_to_be() -> None:
    """alpha 0.005 and l1_ratio 1e-6 of scikit-learn, for the 29,858 users of Gowalla."""
    options = SLIM(29858, 40981).options()
    assert options["l2"] == pytest.approx(0.005 * (1 - 1e-6) * 29858, rel=0.01)
    assert options["l1"] == pytest.approx(0.005 * 1e-6 * 29858, rel=0.01)


def test_what_has_not_converged_is_told() -> None:
    model = SLIM(30, 17, l1=0.01, l2=0.01, max_iter=1, tolerance=1e-9)
    with pytest.warns(ConvergenceWarning):
        model.fit(random_interactions(30, 17, density=0.15))


def test_it_is_deterministic() -> None:
    models = [SLIM(12, 17) for _ in range(2)]
    for model in models:
        model.fit(random_interactions())
    assert torch.equal(models[0].weight_values, models[1].weight_values)


@pytest.mark.parametrize(("option", "value"), [("l1", 0), ("l2", 0), ("max_iter", 0), ("tolerance", 0)])
def test_options_out_of_range_are_errors(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"baseline\.{option}"):
        registry.baselines.build({"name": "slim", option: value}, 12, 17)
