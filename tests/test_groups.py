"""Groups against loops over their definitions, and figures by group against a naive ranking."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from recgraph.errors import DataError
from recgraph.evaluation.groups import by_group, degree_groups, item_groups
from recgraph.evaluation.ranking import evaluate

COUNTS = st.lists(st.one_of(st.integers(0, 4), st.integers(0, 1000)), min_size=1, max_size=40).map(np.array)


def memberships(groups: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    """In how many of the named groups each one is."""
    return np.sum([groups[name] for name in names if name in groups], axis=0)


@given(COUNTS)
def test_degree_groups_partition_the_users(degrees: np.ndarray) -> None:
    groups = degree_groups(degrees)
    assert (memberships(groups, ["degree-q1", "degree-q2", "degree-q3", "degree-q4"]) == 1).all()
    ranges = [(degrees[members].min(), degrees[members].max()) for members in groups.values()]
    assert list(groups) == sorted(groups)
    assert all(low[1] < high[0] for low, high in pairwise(ranges))  # so equal degrees stay together


@given(st.integers(1, 12), st.randoms(use_true_random=False))
def test_degree_groups_are_quarters_where_degrees_differ(quarter: int, random: object) -> None:
    degrees = np.array(random.sample(range(500), 4 * quarter))  # type: ignore[attr-defined]
    groups = degree_groups(degrees)
    ranked = np.argsort(degrees)
    for number in range(4):
        expected = set(ranked[number * quarter : (number + 1) * quarter].tolist())
        assert set(np.flatnonzero(groups[f"degree-q{number + 1}"]).tolist()) == expected


def test_degree_groups_by_hand() -> None:
    """Quantiles 3, 3.5 and 5.5: the second quartile has nobody."""
    groups = degree_groups(np.array([3, 9, 3, 3, 4, 6, 3, 3, 7, 4]))
    assert {name: np.flatnonzero(members).tolist() for name, members in groups.items()} == {
        "degree-q1": [0, 2, 3, 6, 7],
        "degree-q3": [4, 9],
        "degree-q4": [1, 5, 8],
    }


@given(COUNTS)
def test_item_groups_equal_loops(popularity: np.ndarray) -> None:
    groups, total = item_groups(popularity), int(popularity.sum())
    for item, count in enumerate(popularity.tolist()):
        above = sum(other for other in popularity.tolist() if other > count)
        if count == 0:
            expected = {"cold"}
        else:
            share = Fraction(above, total)
            band = "head" if share < Fraction("0.2") else "mid" if share < Fraction("0.8") else "tail"
            expected = {band, "warm"} if (popularity == 0).any() else {band}
        assert {name for name, members in groups.items() if members[item]} == expected


def test_item_groups_by_hand() -> None:
    """Of 100 interactions one item has 50, a head by itself; with 20 and 15 more, 85 are held."""
    popularity = np.array([6, 0, 15, 1, 50, 3, 5, 20])
    groups = item_groups(popularity)
    assert {name: np.flatnonzero(members).tolist() for name, members in groups.items()} == {
        "head": [4],
        "mid": [2, 7],
        "tail": [0, 3, 5, 6],
        "warm": [0, 2, 3, 4, 5, 6, 7],
        "cold": [1],
    }
    assert list(item_groups(np.array([5, 4, 1]))) == ["head", "mid", "tail"]
    assert list(item_groups(np.array([2, 2]))) == ["head"]
    exactly = item_groups(np.array([2, 1, 1, 1, 1, 1, 1, 1, 1]))  # the first holds 20%
    assert [exactly["head"].sum(), exactly["mid"].sum()] == [1, 8]
    assert item_groups(np.array([4, 2, 4]))["tail"].tolist() == [False, True, False]  # the others hold 80%


def naive(scores: np.ndarray, seen: np.ndarray, relevant: np.ndarray, k: int) -> dict[str, float] | None:
    """Means of recall and ndcg over users who have a relevant item; None where nobody has."""
    recalls, ndcgs = [], []
    for user in range(len(scores)):
        wanted = set(np.flatnonzero(relevant[user]).tolist())
        if not wanted:
            continue
        order = sorted(np.flatnonzero(~seen[user]).tolist(), key=lambda item, user=user: (-scores[user, item], item))
        gains = [1 / math.log2(rank + 2) for rank, item in enumerate(order[:k]) if item in wanted]
        recalls.append(len(gains) / len(wanted))
        ndcgs.append(sum(gains) / sum(1 / math.log2(rank + 2) for rank in range(min(k, len(wanted)))))
    return {f"recall@{k}": float(np.mean(recalls)), f"ndcg@{k}": float(np.mean(ndcgs))} if recalls else None


def test_by_group_equals_loops() -> None:
    generator = np.random.default_rng(0)
    num_users, num_items, k = 60, 40, 5
    chance = np.where(np.arange(num_items) % 5 == 0, 0, 0.9 / np.arange(1, num_items + 1) ** 0.5)
    train = generator.random((num_users, num_items)) < chance * generator.uniform(0.2, 1, (num_users, 1))
    validation = (generator.random(train.shape) < 0.1) & ~train
    test = (generator.random(train.shape) < 0.15) & ~train & ~validation
    test[:6] = False  # users without test items are in no group, and do not move the quartiles
    scores = generator.integers(4, size=train.shape).astype(np.float64)
    table, seen = torch.from_numpy(scores), train | validation
    arguments = {"test": sparse.csr_matrix(test), "seen": sparse.csr_matrix(seen)}
    whole = evaluate(lambda users: table[users], metrics=[f"recall@{k}", f"coverage@{k}", f"ndcg@{k}"], **arguments)
    found = by_group(whole, train=sparse.csr_matrix(train.astype(float)), test=arguments["test"])
    assert set(found) == {"degree-q1", "degree-q2", "degree-q3", "degree-q4", "head", "mid", "tail", "warm", "cold"}

    has_test = test.any(1)
    degrees = train.sum(1)
    quartiles = np.quantile(degrees[has_test], [0.25, 0.5, 0.75])
    for number in range(4):
        members = has_test & ((degrees[:, None] > quartiles).sum(1) == number)
        assert found[f"degree-q{number + 1}"] == pytest.approx(naive(scores, seen, test & members[:, None], k))
    popularity = train.sum(0)
    for name, members in item_groups(popularity).items():
        assert found[name] == pytest.approx(naive(scores, seen, test & members, k))
    assert found["cold"] == pytest.approx(naive(scores, seen, test & (popularity == 0), k))


def test_other_test_items_keep_their_places() -> None:
    """The user's popular test item is ranked first, so that the unpopular one is second, not first."""
    train = np.array([[0, 0, 1], [1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]], dtype=bool)
    test = np.zeros_like(train)
    test[0, :2] = True
    table = torch.tensor([[3.0, 2.0, 1.0]]).expand(6, -1)
    arguments = {"test": sparse.csr_matrix(test), "seen": sparse.csr_matrix(train)}
    whole = evaluate(lambda users: table[users], metrics=["mrr@2", "hit@1"], **arguments)
    found = by_group(whole, train=sparse.csr_matrix(train), test=arguments["test"])
    assert found["head"] == {"mrr@2": 1, "hit@1": 1}
    assert found["tail"] == {"mrr@2": 0.5, "hit@1": 0}
    assert "mid" not in found  # item 2, which nobody has in test
    assert "cold" not in found


def test_stored_zeros_and_duplicates_do_not_count() -> None:
    """User 0 has one item, stored twice; user 1 has two, beside a stored zero."""
    untidy = sparse.csr_matrix((np.array([1, 1, 1, 0, 1]), np.array([2, 2, 2, 0, 3]), np.array([0, 2, 5])), (2, 5))
    tidy = sparse.csr_matrix(np.array([[0, 0, 1, 0, 0], [0, 0, 1, 1, 0]]))
    test, seen = sparse.csr_matrix(np.array([[1, 1, 0, 0, 0], [0, 1, 0, 0, 1]])), sparse.csr_matrix((2, 5))
    table = torch.arange(10.0).reshape(2, 5)
    whole = evaluate(lambda users: table[users], test=test, seen=seen, metrics=["recall@2"])
    found = [by_group(whole, train=train, test=test) for train in (untidy, tidy)]
    assert found[0] == found[1]
    assert found[0].keys() == {"degree-q1", "degree-q4", "cold"}
    assert untidy.nnz == 5  # what was given is left as it was


def test_without_per_user_metrics() -> None:
    test = sparse.csr_matrix(np.eye(3))
    whole = evaluate(lambda users: torch.ones(len(users), 3), test=test, metrics=["coverage@1"])
    nobody = sparse.csr_matrix((3, 3))
    assert by_group(whole, train=nobody, test=test) == {}


def test_train_of_another_shape() -> None:
    test = sparse.csr_matrix(np.eye(3))
    empty = sparse.csr_matrix((3, 3))
    whole = evaluate(lambda users: torch.ones(len(users), 3), test=test, metrics=["hit@1"])
    with pytest.raises(DataError, match=r"train is \(3, 2\), test is \(3, 3\)"):
        by_group(whole, train=empty[:, :2], test=test)


def test_order_and_duplicates_of_test_items_do_not_count() -> None:
    untidy = sparse.csr_matrix((np.ones(5), np.array([4, 1, 4, 3, 0]), np.array([0, 3, 5])), (2, 5))
    tidy = sparse.csr_matrix(np.array([[0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]))
    train = sparse.csr_matrix(np.array([[0, 0, 1, 0, 0], [0, 0, 1, 0, 0]]))
    table = torch.tensor([[0.0, 3, 0, 1, 2], [4.0, 3, 0, 1, 2]])
    found = []
    for test in (untidy, tidy):
        whole = evaluate(lambda users: table[users], test=test, metrics=["recall@2"])
        found.append(by_group(whole, train=train, test=test))
    assert found[0] == found[1]
    assert found[0]["cold"] == {"recall@2": 0.75}
    assert untidy.nnz == 5  # what was given is left as it was
