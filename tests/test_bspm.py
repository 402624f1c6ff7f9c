"""BSPM against dense solvers, and closed forms of what it solves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cases import checkerboard, random_interactions
from references_filters import bspm, normalised
from scipy.linalg import expm

from recgraph import registry
from recgraph.baselines import filters
from recgraph.baselines.bspm import BSPM
from recgraph.errors import ConfigError
from recgraph.evaluation.ranking import evaluate
from recgraph.models.model import Model, catalogue_of


def fitted(**options: object) -> BSPM:
    table = random_interactions()
    model = BSPM(table.num_users, table.num_items, **options)
    model.fit(table)
    model.catalogue = catalogue_of(table, [table], None)
    return model


@pytest.fixture(params=[1, 100, filters.FLOATS])
def floats(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The item graph is not small, and its products are made a column or some columns at a time; or it is."""
    monkeypatch.setattr(filters, "FLOATS", request.param)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("merge", ["early", "late"])
@pytest.mark.parametrize(("solver", "steps"), [("euler", 1), ("euler", 3), ("rk4", 1), ("rk4", 2)])
@pytest.mark.usefixtures("floats")
def test_scores_are_those_of_the_dense_solvers(solver: str, steps: int, merge: str, average: bool) -> None:
    matrix = random_interactions().csr().toarray().astype(float)
    model = fitted(factors=4, ideal_weight=0.3, time=2.2, steps=steps, solver=solver, merge=merge, average=average)
    users = torch.tensor([3, 11, 0])
    expected = bspm(matrix, 4, 0.3, 2.2, steps, solver, merge == "early", average)[users]
    np.testing.assert_allclose(model.scorer()(users).numpy(), expected, atol=1e-5)


def test_many_steps_come_to_the_exponential() -> None:
    matrix = random_interactions().csr().toarray().astype(float)
    graph = normalised(matrix).T @ normalised(matrix)
    scores = fitted(ideal_weight=0, time=2.5, steps=20).scorer()(torch.arange(12)).numpy()
    np.testing.assert_allclose(scores, matrix @ graph @ expm(-2.5 * graph), atol=1e-4)


def test_it_learns_the_checkerboard() -> None:
    split = checkerboard()
    model = BSPM(30, 30)
    model.fit(split.train)
    result = evaluate(model.scorer(), test=split.test.csr(), seen=split.train.csr(), metrics=["recall@1"])
    assert result.summary["recall@1"] == 1


def test_it_is_the_same_after_loading(tmp_path: Path) -> None:
    model = fitted(factors=4, merge="late", average=True)
    model.save(tmp_path)
    loaded = Model.load(tmp_path)
    assert loaded.options() == model.options()
    torch.testing.assert_close(loaded.scorer()(torch.arange(12)), model.scorer()(torch.arange(12)), rtol=0, atol=0)


def test_unknown_solvers_and_merges_are_errors() -> None:
    for option in ("solver", "merge"):
        with pytest.raises(ConfigError, match=rf"baseline\.{option}.*'heun'"):
            registry.baselines.build({"name": "bspm", option: "heun"}, 12, 17)
