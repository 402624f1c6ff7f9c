"""Turbo-CF against its dense formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cases import checkerboard, random_interactions
from references_filters import turbo_cf

from recgraph import registry
from recgraph.baselines import turbo_cf as module
from recgraph.baselines.gfcf import GFCF
from recgraph.baselines.turbo_cf import TurboCF
from recgraph.errors import ConfigError, DataError
from recgraph.evaluation.ranking import evaluate
from recgraph.models.model import Model, catalogue_of


def fitted(**options: object) -> TurboCF:
    table = random_interactions()
    model = TurboCF(table.num_users, table.num_items, **options)
    model.fit(table)
    model.catalogue = catalogue_of(table, [table], None)
    return model


@pytest.mark.parametrize("coefficients", [(1.0,), (2.0, -1.0), (0.5, 0.0, 0.25)])
@pytest.mark.parametrize(("alpha", "power"), [(0.6, 0.7), (0.5, 1.4), (0.0, 1.0)])
def test_scores_are_those_of_the_dense_formula(alpha: float, power: float, coefficients: tuple[float, ...]) -> None:
    matrix = random_interactions().csr().toarray().astype(float)
    users = torch.tensor([3, 11, 0])
    scores = fitted(alpha=alpha, power=power, coefficients=coefficients).scorer()(users).numpy()
    np.testing.assert_allclose(scores, turbo_cf(matrix, alpha, power, coefficients)[users], rtol=1e-4)


def test_without_adjustments_it_is_the_linear_filter_of_gfcf() -> None:
    table = random_interactions()
    linear = GFCF(12, 17, ideal_weight=0)
    linear.fit(table)
    users = torch.arange(12)
    torch.testing.assert_close(fitted(alpha=0.5, power=1.0).scorer()(users), linear.scorer()(users))


def test_it_learns_the_checkerboard() -> None:
    split = checkerboard()
    model = TurboCF(30, 30)
    model.fit(split.train)
    result = evaluate(model.scorer(), test=split.test.csr(), seen=split.train.csr(), metrics=["recall@1"])
    assert result.summary["recall@1"] == 1


def test_it_is_the_same_after_loading(tmp_path: Path) -> None:
    model = fitted(alpha=0.4, coefficients=(2.0, -1.0))
    model.save(tmp_path)
    loaded = Model.load(tmp_path)
    assert loaded.options() == {"alpha": 0.4, "power": 0.7, "coefficients": (2.0, -1.0)}
    torch.testing.assert_close(loaded.scorer()(torch.arange(12)), model.scorer()(torch.arange(12)), rtol=0, atol=0)


def test_memory_that_is_not_there_is_an_error_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted()
    monkeypatch.setattr(module, "BYTES", 2**40)
    with pytest.raises(DataError, match=r"turbocf: the item graph has up to 289 entries and needs up to 295936\.0 GiB"):
        model.scorer()
    with pytest.raises(DataError, match="are free"):
        fitted()


def test_coefficients_are_lists_in_files_and_must_not_be_empty() -> None:
    model = registry.baselines.build({"name": "turbocf", "coefficients": [2, -1]}, 12, 17)
    assert model.coefficients == (2.0, -1.0)
    with pytest.raises(ConfigError, match="coefficients: expected at least one"):
        registry.baselines.build({"name": "turbocf", "coefficients": []}, 12, 17)
