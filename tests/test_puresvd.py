"""PureSVD against a full singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import random_interactions
from references_baselines import puresvd

from recgraph import registry
from recgraph.baselines.puresvd import PureSVD
from recgraph.errors import ConfigError


def fitted(dim: int) -> PureSVD:
    model = PureSVD(12, 17, dim=dim)
    model.fit(random_interactions())
    return model


@pytest.mark.parametrize("dim", [1, 4, 12])
def test_scores_are_those_of_the_full_decomposition(dim: int) -> None:
    matrix = random_interactions().csr().toarray().astype(float)
    users = torch.tensor([3, 11, 0])
    expected = (matrix @ puresvd(matrix, dim))[users]
    np.testing.assert_allclose(fitted(dim).scorer()(users).numpy(), expected, atol=1e-5)


def test_with_all_factors_it_gives_the_history_back() -> None:
    matrix = random_interactions().csr().toarray()
    np.testing.assert_allclose(fitted(1000).scorer()(torch.arange(12)).numpy(), matrix, atol=1e-4)


def test_no_projection_of_as_many_factors_leaves_less_out() -> None:
    """Eckart and Young: the squares left out are those of the singular values left out."""
    matrix = random_interactions().csr().toarray().astype(float)
    left = matrix - fitted(5).scorer()(torch.arange(12)).double().numpy()
    assert (left**2).sum() == pytest.approx((np.linalg.svd(matrix)[1][5:] ** 2).sum(), rel=1e-5)


def test_a_larger_matrix_is_decomposed_as_well() -> None:
    table = random_interactions(1500, 1400, density=0.01)  # beyond what is decomposed as a dense matrix
    model = PureSVD(1500, 1400, dim=3)
    model.fit(table)
    matrix = table.csr().toarray().astype(float)
    values, right = np.linalg.svd(matrix)[1:]
    captured = np.linalg.norm(matrix @ model.vectors.double().numpy(), axis=0)
    np.testing.assert_allclose(captured, values[:3], rtol=1e-3)
    assert abs(right[0] @ model.vectors[:, 0].double().numpy()) == pytest.approx(1, abs=1e-4)


def test_dim_must_be_positive() -> None:
    with pytest.raises(ConfigError, match=r"baseline\.dim"):
        registry.baselines.build({"name": "puresvd", "dim": 0}, 12, 17)
