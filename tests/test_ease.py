"""EASE against a ridge regression for each item."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import interactions, random_interactions
from references_baselines import ease

from recgraph import registry
from recgraph.baselines import ease as module
from recgraph.baselines.ease import EASE
from recgraph.errors import ConfigError, DataError


@pytest.fixture(params=["double", "single"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "single":
        monkeypatch.setattr(module, "DOUBLE_UP_TO", 0)
    return request.param


@pytest.mark.parametrize("l2", [0.5, 80.0])
@pytest.mark.parametrize("chunk", [1, 40, 2**22])
def test_each_item_is_a_ridge_regression_on_the_others(
    l2: float, chunk: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    table = random_interactions()
    model = EASE(12, 17, l2=l2)
    model.fit(table)
    matrix = table.csr().toarray().astype(float)
    expected = ease(matrix, l2)
    assert model.weights.dtype == torch.float32
    atol = 1e-6 if precision == "double" else 1e-5
    np.testing.assert_allclose(model.weights.numpy(), expected, rtol=0, atol=atol)
    users = torch.tensor([3, 11, 0])
    np.testing.assert_allclose(model.scorer()(users).numpy(), (matrix @ expected)[users], rtol=0, atol=1e-4)


def test_the_weights_are_not_symmetric_and_the_history_is_on_their_left() -> None:
    """Only then do scores with the weights and with their transpose differ, which libraries have confused."""
    table = random_interactions()
    model = EASE(12, 17, l2=1.0)
    model.fit(table)
    assert (model.weights - model.weights.T).abs().max() > 0.1
    scores = model.scorer()(torch.arange(12)).double().numpy()
    matrix = table.csr().toarray()
    right, wrong = (
        ((matrix - matrix @ weights) ** 2).sum() for weights in (model.weights.numpy(), model.weights.T.numpy())
    )
    assert ((matrix - scores) ** 2).sum() == pytest.approx(right, rel=1e-4)
    assert right < 0.9 * wrong


def test_much_regularisation_leaves_the_gram_matrix() -> None:
    """(G + λ)⁻¹ is (1 - G/λ)/λ for a large λ: the weights are co-occurrences over λ."""
    table = random_interactions()
    model = EASE(12, 17, l2=1e5)
    model.fit(table)
    gram = table.csr().toarray().T @ table.csr().toarray()
    np.fill_diagonal(gram, 0)
    np.testing.assert_allclose(model.weights.numpy() * 1e5, gram, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 16, 70, 131])
def test_matrices_are_inverted_in_their_own_memory(
    size: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    monkeypatch.setattr(module, "PANEL", 48)
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((size, 20))
    original = factor @ factor.T + 5 * np.eye(size)
    matrix = torch.tensor(original, dtype=dtype)
    inverse = module._negated_inverse(matrix, 5.0)
    assert inverse.data_ptr() == matrix.data_ptr()
    atol = 1e-6 if dtype == torch.float32 else 1e-14
    np.testing.assert_allclose(inverse.numpy(), -np.linalg.inv(original), rtol=0, atol=atol)


def test_an_l2_below_the_precision_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOUBLE_UP_TO", 0)
    twins = np.array([[user, item] for user in range(3) for item in range(2)])
    with pytest.raises(DataError, match="l2 of 1e-12 is too small"):
        EASE(3, 2, l2=1e-12).fit(interactions(twins))


def test_memory_that_is_not_there_is_an_error_before_anything_is_tried() -> None:
    model = EASE(12, 5_000_000)
    with pytest.raises(DataError, match=r"ease: the weights of 5,000,000 items need 93132\.3 GiB .* GiB are free"):
        model.fit(random_interactions())


def test_l2_must_be_positive() -> None:
    with pytest.raises(ConfigError, match=r"baseline\.l2"):
        registry.baselines.build({"name": "ease", "l2": 0}, 12, 17)
