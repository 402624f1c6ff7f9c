"""GF-CF against its dense formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cases import checkerboard, random_interactions
from references_filters import gfcf, normalised

from recgraph.baselines import filters
from recgraph.baselines.gfcf import GFCF
from recgraph.evaluation.ranking import evaluate
from recgraph.models.model import Model, catalogue_of


def fitted(**options: float) -> GFCF:
    table = random_interactions()
    model = GFCF(table.num_users, table.num_items, **options)
    model.fit(table)
    model.catalogue = catalogue_of(table, [table], None)
    return model


@pytest.fixture(params=[1, 100, filters.FLOATS])
def floats(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The item graph is not small, and its products are made a column or some columns at a time; or it is."""
    monkeypatch.setattr(filters, "FLOATS", request.param)


@pytest.mark.parametrize("factors", [1, 4, 12])
@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
@pytest.mark.usefixtures("floats")
def test_scores_are_those_of_the_dense_formula(factors: int, weight: float) -> None:
    matrix = random_interactions().csr().toarray().astype(float)
    users = torch.tensor([3, 11, 0])
    scores = fitted(factors=factors, ideal_weight=weight).scorer()(users).numpy()
    np.testing.assert_allclose(scores, gfcf(matrix, factors, weight)[users], atol=1e-5)


def test_the_ideal_filter_is_a_projection_and_passes_the_dominant_vector() -> None:
    model = fitted(factors=5)
    projection = (model.vectors.T @ model.vectors).double().numpy()
    np.testing.assert_allclose(projection @ projection, projection, atol=1e-5)
    assert np.trace(projection) == pytest.approx(5, abs=1e-4)
    matrix = random_interactions().csr().toarray().astype(float)
    dominant = matrix.sum(0) ** 0.5  # of the symmetric normalisation, with singular value 1
    filtered = normalised(matrix)
    np.testing.assert_allclose(filtered.T @ filtered @ dominant, dominant)
    np.testing.assert_allclose(projection @ dominant, dominant, atol=1e-5)


def test_with_all_factors_the_ideal_filter_gives_the_history_back() -> None:
    matrix = random_interactions().csr().toarray()
    model = fitted(factors=12)
    np.testing.assert_allclose(model.ideal()(torch.arange(12)).T.numpy(), matrix, atol=1e-4)


def test_it_learns_the_checkerboard() -> None:
    split = checkerboard()
    model = GFCF(30, 30)
    model.fit(split.train)
    result = evaluate(model.scorer(), test=split.test.csr(), seen=split.train.csr(), metrics=["recall@1"])
    assert result.summary["recall@1"] == 1


def test_it_is_the_same_after_loading(tmp_path: Path) -> None:
    model = fitted(factors=4, ideal_weight=0.5)
    model.save(tmp_path)
    loaded = Model.load(tmp_path)
    assert loaded.options() == {"factors": 4, "ideal_weight": 0.5}
    torch.testing.assert_close(loaded.scorer()(torch.arange(12)), model.scorer()(torch.arange(12)), rtol=0, atol=0)
