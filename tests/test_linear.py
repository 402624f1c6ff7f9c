"""Linear models: sparse products, explanations that add up, and models that are the same after loading."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from cases import checkerboard, random_interactions

from recgraph import registry
from recgraph.baselines.linear import LinearModel
from recgraph.data.interactions import Interactions
from recgraph.errors import DataError
from recgraph.evaluation.ranking import evaluate
from recgraph.models.model import Model, catalogue_of

MODELS = sorted(
    name
    for name, component in registry.baselines.components().items()
    if issubclass(component, LinearModel) and not component.reads
)
"""Without those that know more than interactions: tests/test_content_knn.py has them."""

TITLES = [None, *(f"Film {item}" for item in range(1, 17))]


def table() -> Interactions:
    """Users and items with ids that are not their indices; user 3 and item 5 have no interactions."""
    full = random_interactions()
    users = [f"u{user:02d}" for user in full.user_indices]
    table = Interactions.from_frame(pl.DataFrame({"user": users, "item": 100 - full.item_indices}))
    return table.select((table.user_indices != 3) & (table.item_indices != 5))


def fitted(name: str) -> LinearModel:
    train = table()
    options = {"neighbours": 4} if "neighbours" in registry.options(registry.baselines.find(name)) else {}
    model = registry.baselines.build({"name": name, **options}, train.num_users, train.num_items)
    model.fit(train)
    model.catalogue = catalogue_of(train, [train], TITLES)
    return model


def test_the_linear_models() -> None:
    assert MODELS == ["ease", "item_knn", "puresvd", "rp3beta", "slim", "user_knn"]


@pytest.mark.parametrize("name", MODELS)
def test_an_explanation_adds_up_to_the_score(name: str) -> None:
    model, train = fitted(name), table()
    scores = model.scorer()(torch.arange(12))
    assert scores.abs().max() > 0.01
    history = train.csr()
    for user in (0, 4, 11):
        for item in range(17):
            reasons = model.explain(f"u{user:02d}", train.items.ids[item])
            assert math.fsum(reason.contribution for reason in reasons) == pytest.approx(
                float(scores[user, item]), rel=1e-4, abs=1e-6
            )
            added = [reason.contribution for reason in reasons]
            assert added == sorted(added, reverse=True)
            indices = train.items.encode([reason.item for reason in reasons])
            assert sorted(indices) == sorted(history[user].indices)
            assert [reason.title for reason in reasons] == [TITLES[index] for index in indices]


@pytest.mark.parametrize("name", [name for name in MODELS if name != "user_knn"])
def test_a_reason_is_the_score_of_a_user_who_has_nothing_else(name: str) -> None:
    model, train = fitted(name), table()
    reasons = model.explain("u04", train.items.ids[2])
    for reason in reasons:
        model.starts = torch.ones(13, dtype=torch.int32)
        model.starts[0] = 0
        model.history = torch.tensor(train.items.encode([reason.item]).tolist(), dtype=torch.int32)
        assert float(model.scorer()(torch.tensor([0]))[0, 2]) == pytest.approx(reason.contribution, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", MODELS)
def test_who_has_nothing_scores_nothing(name: str) -> None:
    model = fitted(name)
    scores = model.scorer()(torch.arange(12))
    assert not scores[3].any()
    assert not scores[:, 5].any()
    assert scores[4].any()
    assert model.explain("u03", 100) == []


def test_explanations_want_known_ids_and_a_catalogue() -> None:
    model = fitted("item_knn")
    with pytest.raises(DataError, match="unknown id 'nobody'"):
        model.explain("nobody", 100)
    with pytest.raises(DataError, match="unknown id 1 "):
        model.explain("u00", 1)
    model.catalogue = None
    with pytest.raises(DataError, match="no catalogue"):
        model.explain("u00", 100)


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_scores_and_explains_as_the_saved_one(name: str, tmp_path: Path) -> None:
    model = fitted(name)
    model.save(tmp_path)
    loaded = Model.load(tmp_path)
    assert isinstance(loaded, LinearModel)
    assert loaded.options() == model.options()
    users = torch.arange(12)
    torch.testing.assert_close(loaded.scorer()(users), model.scorer()(users), rtol=0, atol=0)
    for again, reason in zip(loaded.explain("u04", 98), model.explain("u04", 98), strict=True):
        assert again._replace(contribution=0) == reason._replace(contribution=0)
        # Memory that is aligned in another way is added up in another order.
        assert again.contribution == pytest.approx(reason.contribution, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_it_learns_the_checkerboard(name: str) -> None:
    split = checkerboard()
    spec = {"name": name, "dim": 2} if name == "puresvd" else name  # with all of them the history comes back
    model = registry.baselines.build(spec, 30, 30)
    model.fit(split.train)
    result = evaluate(model.scorer(), test=split.test.csr(), seen=split.train.csr(), metrics=["recall@1"])
    assert result.summary["recall@1"] == 1


@pytest.mark.parametrize("name", MODELS)
def test_repeated_interactions_count_once(name: str) -> None:
    once = random_interactions()
    models = [registry.baselines.build(name, 12, 17) for _ in range(2)]
    for model, train in zip(models, (once, once.concat(once.select(np.arange(20)))), strict=True):
        model.fit(train)
    users = torch.arange(12)
    torch.testing.assert_close(models[0].scorer()(users), models[1].scorer()(users), rtol=0, atol=0)
