"""Diagnostics where their values are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import random_interactions
from scipy.stats import spearmanr

from recgraph.evaluation import diagnostics
from recgraph.evaluation.diagnostics import alignment, diagnose, effective_rank, spearman


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    table = random_interactions()
    return torch.from_numpy(table.user_indices), torch.from_numpy(table.item_indices)


def test_alignment_of_equal_orthogonal_and_opposite_vectors() -> None:
    users = torch.tensor([[3.0, 0.0], [0.0, 0.1]])
    items = torch.tensor([[7.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])
    for user, item, expected in ((0, 0, 0.0), (0, 1, 4.0), (0, 2, 2.0)):
        assert alignment(users, items, torch.tensor([user]), torch.tensor([item])) == pytest.approx(expected)
    mixed = alignment(users, items, torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]))
    assert mixed == pytest.approx((0 + 4 + 2) / 3)


def test_alignment_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = torch.randn(12, 5), torch.randn(17, 5)
    whole = alignment(users, items, *pairs())
    monkeypatch.setattr(diagnostics, "PAIRS", 7)
    assert alignment(users, items, *pairs()) == pytest.approx(whole, rel=1e-6)


def test_effective_rank_of_known_spectra() -> None:
    rotation = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64)).Q
    for singular in ([1.0, 1, 1, 1], [5.0, 0, 0, 0], [2.0, 2, 0, 0], [3.0, 2, 1, 0.5]):
        share = np.array(singular) / sum(singular)
        expected = math.exp(-sum(p * math.log(p) for p in share if p))
        vectors = rotation[:, :4] @ torch.tensor(singular, dtype=torch.float64).diag()
        turned = vectors @ torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
        for same in (vectors, turned, 1e-3 * vectors):
            assert effective_rank(same) == pytest.approx(expected, rel=1e-6)
    assert effective_rank(torch.zeros(3, 4)) == 0


def test_spearman_is_that_of_scipy_and_defined_for_constants() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=50), rng.integers(0, 8, 50)
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert spearman(other, 3 * other + 1) == pytest.approx(1)
    assert spearman(other, -other) == pytest.approx(-1)
    assert spearman(one, np.ones(50)) == 0


def test_all_together_on_vectors_as_long_as_items_are_popular() -> None:
    user_indices, item_indices = pairs()
    counts = torch.bincount(item_indices)
    users, items = torch.randn(12, 3), F.normalize(torch.randn(17, 3), dim=-1) * counts[:, None]
    found = diagnose(users, items, user_indices, item_indices)
    assert list(found) == [
        "alignment", "user_uniformity", "user_effective_rank", "user_norm_popularity",
        "item_uniformity", "item_effective_rank", "item_norm_popularity",
    ]  # fmt: skip
    assert found["item_norm_popularity"] == pytest.approx(1, abs=0.05)  # but for rounding among equals
    unit = F.normalize(users, dim=-1)
    distances = [(unit[i] - unit[j]).square().sum() for i in range(12) for j in range(i)]
    expected = math.log(np.mean([math.exp(-2 * distance) for distance in distances]))
    assert found["user_uniformity"] == pytest.approx(expected, abs=1e-5)


def test_who_has_no_interaction_counts_in_nothing() -> None:
    users, items = torch.randn(12, 3), torch.randn(17, 3)
    found = diagnose(users, items, *pairs())
    strange = 1e3 * torch.randn(5, 3)
    assert diagnose(torch.cat([users, strange]), torch.cat([items, strange]), *pairs()) == pytest.approx(found)


def test_vectors_on_one_point_show_it() -> None:
    found = diagnose(torch.ones(12, 3), torch.ones(17, 3), *pairs())
    expected = {"alignment": 0, "item_uniformity": 0, "item_effective_rank": 1, "item_norm_popularity": 0}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name
