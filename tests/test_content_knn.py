"""Baselines by content against loops; nothing of a cold item's interactions is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cases import random_content, random_interactions
from torch import Tensor

from recgraph.baselines.content_knn import ContentIALS, ContentKNN
from recgraph.baselines.ials import IALS
from recgraph.data.interactions import Interactions
from recgraph.errors import ConfigError
from recgraph.models.model import Model, catalogue_of

TABLE = random_interactions()
COLD = np.array([2, 9])
TRAIN = TABLE.select(~np.isin(TABLE.item_indices, COLD))
CONTENT = random_content(TABLE.num_users, TABLE.num_items)


def cosines() -> np.ndarray:
    """By loops, of modalities of length 1 side by side."""
    rows = []
    for item in range(TABLE.num_items):
        parts = [one.values[item].double().numpy() for one in CONTENT.items.values()]
        row = np.concatenate([part / max(np.linalg.norm(part), 1e-12) for part in parts])
        rows.append(row / max(np.linalg.norm(row), 1e-12))
    return np.array([[one @ two for two in rows] for one in rows])


def neighbours(count: int) -> list[dict[int, float]]:
    alike, warm = cosines(), sorted(set(TRAIN.item_indices.tolist()))
    found = []
    for item in range(TABLE.num_items):
        ranked = sorted((other for other in warm if other != item), key=lambda other, i=item: -alike[i, other])
        found.append({other: alike[item, other] for other in ranked[:count] if alike[item, other] > 0})
    return found


def scores(model: ContentKNN | ContentIALS, train: Interactions = TRAIN) -> Tensor:
    model.content = CONTENT
    model.fit(train)
    return model.scorer()(torch.arange(TABLE.num_users))


@pytest.mark.parametrize("normalise", [False, True])
def test_content_knn_equals_a_loop(normalise: bool) -> None:
    found = scores(ContentKNN(TABLE.num_users, TABLE.num_items, neighbours=4, normalise=normalise))
    liked = TRAIN.csr().toarray() > 0
    for item, near in enumerate(neighbours(4)):
        total = sum(near.values()) if normalise else 1.0
        for user in range(TABLE.num_users):
            expected = sum(value for other, value in near.items() if liked[user, other]) / (total or 1)
            assert found[user, item].item() == pytest.approx(expected, abs=1e-5)
    assert found[:, COLD].abs().sum() > 0


def test_ials_gives_cold_items_the_mean_of_the_nearest_warm_ones_and_leaves_the_others() -> None:
    model = ContentIALS(TABLE.num_users, TABLE.num_items, dim=4, neighbours=3)
    scores(model)
    plain = IALS(TABLE.num_users, TABLE.num_items, dim=4)
    plain.fit(TRAIN)
    warm = np.setdiff1d(np.arange(TABLE.num_items), COLD)
    assert torch.equal(model.items[warm], plain.items[warm])
    assert torch.equal(model.users, plain.users)
    for item in COLD:
        near = neighbours(3)[item]
        mean = sum(value * plain.items[other] for other, value in near.items()) / sum(near.values())
        torch.testing.assert_close(model.items[item], mean, rtol=1e-4, atol=1e-5)


def test_without_content_they_say_what_to_set() -> None:
    for model in (ContentKNN(12, 17), ContentIALS(12, 17)):
        with pytest.raises(ConfigError, match="set `content`"):
            model.fit(TRAIN)


def test_a_score_is_the_sum_of_its_reasons_and_survives_being_saved(tmp_path: Path) -> None:
    model = ContentKNN(TABLE.num_users, TABLE.num_items, neighbours=4)
    found = scores(model)
    model.catalogue = catalogue_of(TRAIN, [TRAIN], None)
    model.save(tmp_path)
    again = Model.load(tmp_path)
    assert torch.equal(again.scorer()(torch.arange(TABLE.num_users)), found)
    for user, item in ((0, 2), (4, 9), (5, 3)):
        assert sum(one.contribution for one in model.explain(user, item)) == pytest.approx(found[user, item].item())
