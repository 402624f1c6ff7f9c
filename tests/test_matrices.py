"""Rankings of stored candidates against a sort of each user's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import Tensor

from recgraph.errors import ConfigError, DataError
from recgraph.evaluation import ranking
from recgraph.evaluation.matrices import padded
from recgraph.evaluation.ranking import evaluate, top_k

WIDE = 5 * ranking.BLOCK
"""Candidates to each of K from which rows are cut into blocks."""


def matrix(rows: list[list[int]], num_items: int) -> sparse.csr_matrix:
    """Users × items from a list of items for each user."""
    dense = np.zeros((len(rows), num_items), dtype=np.float32)
    for user, items in enumerate(rows):
        dense[user, items] = 1
    return sparse.csr_matrix(dense)


def naive(scores: Tensor, candidates: np.ndarray, seen: np.ndarray, k: int) -> list[list[int]]:
    """Sort the unseen candidates of each user by (score descending, index ascending), fill with -1."""
    lists = []
    for row, own, known in zip(scores.tolist(), candidates, seen, strict=True):
        ranked = sorted((-row[item], item) for item in np.flatnonzero(own & ~known).tolist())
        lists.append(([item for _, item in ranked] + [-1] * k)[:k])
    return lists


@settings(max_examples=100)
@given(
    num_users=st.integers(1, 6),
    num_items=st.sampled_from([1, 3, 40, WIDE + 1, 3 * WIDE]),
    k=st.integers(1, 8),
    levels=st.sampled_from([1, 2, 5, 10**9]),
    rate=st.sampled_from([0, 0.1, 0.6, 1.0]),
    chunk=st.sampled_from([None, 1, 4]),
    seed=st.integers(0, 10**6),
)
def test_top_k_of_candidates_equals_a_sort(
    num_users: int, num_items: int, k: int, levels: int, rate: float, chunk: int | None, seed: int
) -> None:
    """With one level every score is tied; with 10^9 nearly none is."""
    generator = np.random.default_rng(seed)
    scores = torch.from_numpy(generator.integers(levels, size=(num_users, num_items)).astype(np.float64))
    candidates = generator.random((num_users, num_items)) < rate
    known = generator.random((num_users, num_items)) < 0.2
    before, users = scores.clone(), torch.arange(num_users)
    own = sparse.csr_matrix(candidates)
    found = top_k(lambda part: scores[part], users, sparse.csr_matrix(known), k, chunk, own)
    assert found.tolist() == naive(scores, candidates, known, k)
    assert top_k(lambda part: scores[part], users, None, k, chunk, own).tolist() == naive(
        scores, candidates, np.zeros_like(known), k
    )
    backwards = top_k(lambda part: scores[part], users.flip(0), None, k, chunk, own)
    assert backwards.tolist() == naive(scores, candidates, np.zeros_like(known), k)[::-1]
    assert torch.equal(scores, before)


def test_evaluation_of_candidates_equals_a_loop() -> None:
    """Users have one test item and different numbers of negatives; every third has no test item and is in no figure."""
    generator = np.random.default_rng(0)
    scores = torch.from_numpy(generator.integers(12, size=(60, 50)).astype(np.float32))  # many ties
    kind = generator.permuted(np.tile(np.arange(50), (60, 1)), axis=1)  # a random order of the items for each user
    test, seen = (kind == 0) & (np.arange(60) % 3 > 0)[:, None], (kind > 0) & (kind < 10)
    candidates = test | ((kind >= 10) & (kind < 28 + np.arange(60)[:, None] % 3))
    found = evaluate(
        lambda users: scores[users],
        test=sparse.csr_matrix(test),
        seen=sparse.csr_matrix(seen),
        candidates=sparse.csr_matrix(candidates.astype(np.float32)),
        metrics=["hit@5", "ndcg@5"],
        chunk=7,
    )
    hits, gains = [], []
    for user in np.flatnonzero(test.any(1)):
        wanted = int(np.flatnonzero(test[user])[0])
        rank = 1
        for item in np.flatnonzero(candidates[user]):
            other, own = scores[user, item], scores[user, wanted]
            rank += bool(other > own or (other == own and item < wanted))
        hits.append(rank <= 5)
        gains.append(1 / np.log2(rank + 1) if rank <= 5 else 0)
    assert found.summary == pytest.approx({"hit@5:sampled-20": np.mean(hits), "ndcg@5:sampled-20": np.mean(gains)})
    assert list(found.per_user) == list(found.summary)
    assert 0 < np.mean(hits) < 1
    assert (found.num_users, found.num_skipped) == (40, 20)


TEST, SEEN = matrix([[0], [2], []], 5), matrix([[1], [], [0]], 5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"candidates": matrix([[2, 3], [2, 3], []], 5)}, DataError, "1 test pairs are not among the candidates, the first: user 0, item 0"),
        ({"candidates": matrix([[0, 1], [2, 3], []], 5)}, DataError, "1 candidates are also in seen, the first: user 0, item 1"),
        ({"candidates": matrix([[0], [2], [1, 3]], 5)}, DataError, "nobody has one beside the test items"),
        ({"candidates": matrix([[0, 2], [2, 3]], 5)}, DataError, r"candidates are \(2, 5\), test is \(3, 5\)"),
        ({"metrics": ["hit@1:sampled-1"]}, ConfigError, r"all named as 'ndcg@10' is, got \['hit@1:sampled-1'\]"),
        ({"metrics": ["hit@1:sampled-1"], "candidates": None}, ConfigError, "all named as 'ndcg@10' is"),
    ],
)  # fmt: skip
def test_what_cannot_be_ranked_honestly_is_refused(changes: Any, error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {
        "test": TEST,
        "seen": SEEN,
        "candidates": matrix([[0, 2], [2, 3], []], 5),
        "metrics": ["hit@1"],
    }
    assert list(evaluate(lambda users: torch.zeros(len(users), 5), **given).summary) == ["hit@1:sampled-1"]
    with pytest.raises(error, match=message):
        evaluate(lambda users: torch.zeros(len(users), 5), **{**given, **changes})


def test_scores_that_are_not_ranked_may_be_nan() -> None:
    scores = torch.tensor([[1.0, torch.nan, 0.0]])
    given: dict[str, Any] = {"test": matrix([[0]], 3), "metrics": ["hit@1"]}
    assert evaluate(lambda _: scores, candidates=matrix([[0, 2]], 3), **given).summary == {"hit@1:sampled-1": 1}
    with pytest.raises(DataError, match="user 0 hold NaN"):
        evaluate(lambda _: scores, candidates=matrix([[0, 1]], 3), **given)


def test_candidates_are_padded_in_order() -> None:
    assert padded(matrix([[3, 1], [], [2]], 4)).tolist() == [[1, 3], [-1, -1], [2, -1]]
    assert padded(matrix([[], []], 4)).tolist() == [[-1], [-1]]
