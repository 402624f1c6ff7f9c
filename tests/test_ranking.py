"""The ranking against a sort of every row, and the evaluation against loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import Tensor

from recgraph.errors import ConfigError, DataError
from recgraph.evaluation import ranking
from recgraph.evaluation.metrics import PER_USER
from recgraph.evaluation.ranking import evaluate, top_k

WIDE = 5 * ranking.BLOCK
"""Items to each of K from which rows are cut into blocks."""


def matrix(rows: list[list[int]], num_items: int) -> sparse.csr_matrix:
    """Users × items from a list of items for each user."""
    dense = np.zeros((len(rows), num_items), dtype=np.float32)
    for user, items in enumerate(rows):
        dense[user, items] = 1
    return sparse.csr_matrix(dense)


def random_matrix(num_users: int, num_items: int, rate: float | np.ndarray, seed: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((np.random.default_rng(seed).random((num_users, num_items)) < rate).astype(np.float32))


def naive_top_k(scores: Tensor, seen: sparse.csr_matrix | None, k: int) -> list[list[int]]:
    """Sort all items of each user by (score descending, index ascending), leave out what was seen, fill with -1."""
    lists = []
    for user, row in enumerate(scores.tolist()):
        excluded = set() if seen is None else set(seen[[user]].indices.tolist())
        ranked = sorted(range(len(row)), key=lambda item, row=row: (-row[item], item))
        lists.append(([item for item in ranked if item not in excluded] + [-1] * k)[:k])
    return lists


@settings(deadline=None, max_examples=150)
@given(
    num_users=st.integers(1, 6),
    num_items=st.sampled_from([1, 2, 7, 50, WIDE - 1, WIDE, WIDE + 1, 2 * WIDE + 17, 4 * WIDE]),
    k=st.integers(1, 8),
    levels=st.sampled_from([1, 2, 5, 1000, 10**9]),
    rate=st.sampled_from([0, 0.1, 0.9, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    chunk=st.sampled_from([None, 1, 2, 100]),
    seed=st.integers(0, 10**6),
)
def test_top_k_equals_a_sort(
    num_users: int,
    num_items: int,
    k: int,
    levels: int,
    rate: float,
    dtype: torch.dtype,
    chunk: int | None,
    seed: int,
) -> None:
    """With one level every score is tied; with 10^9 nearly none is."""
    generator = torch.Generator().manual_seed(seed)
    scores = (torch.randint(levels, (num_users, num_items), generator=generator) - levels // 2).to(dtype)
    seen = random_matrix(num_users, num_items, rate, seed)
    users = torch.arange(num_users)
    assert top_k(lambda part: scores[part], users, seen, k, chunk).tolist() == naive_top_k(scores, seen, k)
    assert top_k(lambda part: scores[part], users, None, k, chunk).tolist() == naive_top_k(scores, None, k)


@pytest.mark.parametrize("k", [1, 3, 20])
def test_ties_across_blocks_go_to_the_lower_item(k: int) -> None:
    """Every block has the same maximum, at places that differ, and no top list is decided by it alone."""
    num_items = 24 * WIDE + 5
    generator = torch.Generator().manual_seed(0)
    scores = torch.zeros(8, num_items)
    places = torch.randint(num_items, (8, num_items // ranking.BLOCK), generator=generator)
    scores.scatter_(1, places, 1.0)
    scores[:, -1] = 2  # beyond the last whole block
    scores[0] = 0.0
    scores[1] = -0.0 * (torch.arange(num_items) % 2)  # negative zero is zero
    assert top_k(lambda part: scores[part], torch.arange(8), None, k).tolist() == naive_top_k(scores, None, k)


def test_large_catalogue_of_real_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, items = torch.randn(40, 8, generator=generator), torch.randn(5000, 8, generator=generator)
    items[2500:] = items[:2500]  # each item has a twin
    scores, seen = queries @ items.T, random_matrix(40, 5000, 0.2, 0)
    expected = naive_top_k(scores, seen, 10)
    assert top_k(lambda part: scores[part], torch.arange(40), seen, 10).tolist() == expected
    assert top_k(lambda part: scores[part], torch.arange(40).flip(0), seen, 10, 7).tolist() == expected[::-1]


def test_seen_items_are_never_recommended() -> None:
    scores, seen = torch.rand(30, 200), random_matrix(30, 200, 0.5, 1)
    items = top_k(lambda part: scores[part], torch.arange(30), seen, 50)
    assert not any(set(items[user].tolist()) & set(seen[[user]].indices.tolist()) for user in range(30))


@pytest.mark.parametrize("num_items", [30, 10 * WIDE])
def test_lists_of_users_with_few_items_left_end_in_minus_one(num_items: int) -> None:
    seen = matrix([list(range(num_items - 2)), list(range(num_items))], num_items)
    items = top_k(lambda part: torch.arange(num_items).double().expand(len(part), -1), torch.arange(2), seen, 4)
    assert items.tolist() == [[num_items - 1, num_items - 2, -1, -1], [-1, -1, -1, -1]]


def test_no_users_give_no_lists() -> None:
    assert top_k(lambda part: torch.zeros(len(part), 5), torch.arange(0), None, 3).shape == (0, 3)


@pytest.mark.parametrize("num_users", [1, 3])
def test_scores_that_are_the_models_own_memory_are_left_as_they_were(num_users: int) -> None:
    popularity, seen = torch.arange(6.0), matrix([[5], [4], [0]][:num_users], 6)
    table = popularity.repeat(num_users, 1)
    for scores in (lambda part: popularity.expand(len(part), -1), lambda part: table):
        assert top_k(scores, torch.arange(num_users), seen, 2).tolist() == [[4, 3], [5, 3], [5, 4]][:num_users]
    assert torch.equal(popularity, torch.arange(6.0))
    assert torch.equal(table, popularity.expand(num_users, -1))


def test_scores_are_made_without_gradients() -> None:
    def scores(users: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return torch.zeros(len(users), 3)

    top_k(scores, torch.arange(2), None, 1)


def test_scores_with_gradients_or_of_inference_mode() -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0, 3.0, 2.0]]))
    seen = matrix([[1]], 3)
    with torch.inference_mode():
        frozen = weight * 2
    for scores in (lambda part: weight, lambda part: weight * 2, lambda part: frozen):
        items = top_k(scores, torch.arange(1), seen, 2)
        assert items.tolist() == [[2, 0]]
        assert not items.is_inference()


@pytest.mark.parametrize("num_items", [10, 10 * WIDE])
def test_nan_names_the_user(num_items: int) -> None:
    scores = torch.zeros(9, num_items)
    scores[6, num_items // 2] = torch.nan
    with pytest.raises(DataError, match="user 6 hold NaN"):
        top_k(lambda part: scores[part], torch.tensor([1, 6, 2]), None, 3)


@pytest.mark.parametrize("wrong", [torch.zeros(2, 4), torch.zeros(3, 5), torch.zeros(4), torch.zeros(2, 5).long()])
def test_scores_of_the_wrong_kind(wrong: Tensor) -> None:
    with pytest.raises(DataError, match=r"expected floating point of shape \(2, 5\)"):
        top_k(lambda part: wrong, torch.arange(2), matrix([[], []], 5), 1)


def test_scores_can_be_a_numpy_array() -> None:
    table, seen = np.random.default_rng(0).normal(size=(7, 9)), random_matrix(7, 9, 0.3, seed=0)
    before = table.copy()
    found = top_k(lambda users: table[users.numpy()], torch.arange(7), seen, 4)
    assert found.tolist() == naive_top_k(torch.from_numpy(table), seen, 4)
    np.testing.assert_array_equal(table, before)


def test_an_evaluation_is_printed_by_its_summary() -> None:
    found = evaluate(lambda users: torch.rand(len(users), 9), test=random_matrix(700, 9, 0.3, 1), metrics=["ndcg@5"])
    assert len(repr(found)) < 120
    assert "ndcg@5" in repr(found)


@pytest.mark.parametrize(("k", "chunk"), [(0, None), (1, 0), (1, -2)])
def test_k_and_chunk_of_at_least_one(k: int, chunk: int | None) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        top_k(lambda part: torch.zeros(len(part), 5), torch.arange(2), None, k, chunk)


SCORES = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
SEEN = matrix([[0], [3, 4], [1]], 5)
TEST = matrix([[1, 4], [], [3]], 5)
# User 0 is shown 1, 2; user 1 has no test items; user 2 is shown 0, 2 (ties, lower item first).


def test_hand_computed_evaluation() -> None:
    metrics = ["hit@1", "recall@2", "precision@2", "hit@2", "hit@3", "mrr@3", "coverage@2", "gini@1", "popularity@2"]
    counts = np.array([10, 20, 30, 40, 50])
    result = evaluate(lambda users: SCORES[users], test=TEST, seen=SEEN, metrics=metrics, popularity=counts)
    assert result.users.tolist() == [0, 2]
    assert (result.num_users, result.num_skipped) == (2, 1)
    assert result.seconds > 0
    expected = {"hit@1": [1, 0], "recall@2": [0.5, 0], "precision@2": [0.5, 0], "hit@2": [1, 0], "hit@3": [1, 1]}
    for name, values in {**expected, "mrr@3": [1, 1 / 3]}.items():
        assert result.per_user[name].tolist() == pytest.approx(values), name
        assert result.summary[name] == pytest.approx(sum(values) / 2), name
    assert list(result.summary) == metrics
    assert result.summary["coverage@2"] == pytest.approx(3 / 5)  # items 0, 1, 2
    assert result.summary["gini@1"] == pytest.approx(3 / 5)  # items 1 and 0, once each
    assert result.summary["popularity@2"] == pytest.approx((20 + 30 + 10 + 30) / 4)


def test_k_may_exceed_the_catalogue_and_takes_no_more_memory() -> None:
    far = 10**12  # a place for each would be terabytes
    metrics = [f"{name}@{k}" for name in PER_USER for k in (5, far)]
    found = evaluate(lambda users: SCORES[users], test=TEST, seen=SEEN, metrics=metrics)
    assert found.lists.shape == (2, 5)
    for name in PER_USER:
        share = 5 / far if name == "precision" else 1
        assert found.per_user[f"{name}@{far}"] == pytest.approx(found.per_user[f"{name}@5"] * share)


def test_evaluation_equals_loops() -> None:
    """Users with fewer, as many and more test items than K; lists that end early; test items never shown."""
    num_users, num_items, k = 60, 40, 10
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(6, (num_users, num_items), generator=generator).double()
    seen = random_matrix(num_users, num_items, np.linspace(0.4, 1, num_users)[:, None], 1)
    test = random_matrix(num_users, num_items, 0.25, 2)
    test = sparse.csr_matrix(test - test.multiply(seen))
    metrics = [f"{name}@{at}" for name in PER_USER for at in (3, k)]
    result = evaluate(lambda users: scores[users], test=test, seen=seen, metrics=metrics, chunk=16)
    shown = naive_top_k(scores, seen, k)
    relevant = [set(np.flatnonzero(test[[user]].toarray()[0]).tolist()) for user in range(num_users)]
    assert result.users.tolist() == [user for user in range(num_users) if relevant[user]]
    assert result.num_skipped == num_users - result.num_users > 0
    for row, user in enumerate(result.users):
        hits = torch.tensor([[item in relevant[user] for item in shown[user]]])
        for name, metric in PER_USER.items():
            for at in (3, k):
                value = metric(hits[:, :at], torch.tensor([len(relevant[user])]))
                assert result.per_user[f"{name}@{at}"][row] == pytest.approx(value.item())


def test_minus_one_is_neither_a_hit_nor_an_item() -> None:
    """The place before a user's first item is the last item of the user before."""
    test, seen = matrix([[2], [2]], 3), matrix([[0, 1], [0, 1]], 3)
    metrics = ["precision@3", "coverage@3"]
    result = evaluate(lambda users: torch.zeros(len(users), 3), test=test, seen=seen, metrics=metrics)
    assert result.per_user["precision@3"].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert result.summary["coverage@3"] == pytest.approx(1 / 3)


def test_perfect_and_worst_scores() -> None:
    test = matrix([[0, 3], [5], [1, 2, 4, 6]], 8)
    perfect = torch.from_numpy(test.toarray())
    names = [f"{name}@2" for name in ("ndcg", "map", "mrr", "hit")]
    assert set(evaluate(lambda u: perfect[u], test=test, metrics=names).summary.values()) == {1.0}
    assert set(evaluate(lambda u: -perfect[u], test=test, metrics=names).summary.values()) == {0.0}


def test_stored_zeros_and_duplicates_do_not_count() -> None:
    untidy = sparse.csr_matrix((np.array([1.0, 1, 1, 1, 0]), np.array([4, 1, 4, 3, 0]), np.array([0, 3, 3, 5])), (3, 5))
    results = [evaluate(lambda u: SCORES[u], test=test, metrics=["recall@2"]) for test in (TEST, untidy)]
    assert results[0].per_user["recall@2"].tolist() == results[1].per_user["recall@2"].tolist()
    assert untidy.nnz == 5  # what was given is left as it was


def test_leaks_are_refused() -> None:
    with pytest.raises(DataError, match="1 test pairs are also in seen, the first: user 2, item 3"):
        evaluate(lambda u: SCORES[u], test=TEST, seen=matrix([[0], [3, 4], [1, 3]], 5), metrics=["ndcg@2"])


def test_bad_input_to_evaluate() -> None:
    def run(**changes: object) -> None:
        evaluate(lambda u: SCORES[u], **{"test": TEST, "seen": SEEN, "metrics": ["ndcg@2"], **changes})

    for changes, error, message in [
        ({"metrics": []}, ConfigError, r"at least one.*got \[\]"),
        ({"metrics": ["ndcg@2", "auc"]}, ConfigError, r"got \['auc'\]"),
        ({"metrics": ["popularity@2"]}, ConfigError, "popularity@2 needs `popularity`"),
        ({"metrics": ["ndcg@2", "cold_share@2"]}, ConfigError, "cold_share@2 needs `popularity`"),
        ({"metrics": ["ndgc@2"]}, ConfigError, "Did you mean 'ndcg'"),
        ({"popularity": np.ones(4)}, DataError, "each of 5 items"),
        ({"seen": matrix([[0]], 5)}, DataError, r"test is \(3, 5\), seen is \(1, 5\)"),
        ({"test": matrix([[], [], []], 5)}, DataError, "nothing to measure"),
    ]:
        with pytest.raises(error, match=message):
            run(**changes)


def test_write(tmp_path: Path) -> None:
    result = evaluate(lambda u: SCORES[u], test=TEST, seen=SEEN, metrics=["ndcg@2", "coverage@2", "hit@1"])
    result.write(tmp_path / "run" / "per_user.parquet")
    frame = pl.read_parquet(tmp_path / "run" / "per_user.parquet")
    assert frame.columns == ["user", "ndcg@2", "hit@1"]
    assert frame["user"].to_list() == [0, 2]
    assert frame["ndcg@2"].to_list() == result.per_user["ndcg@2"].tolist()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_ranks_as_the_cpu_does() -> None:
    scores = torch.randint(50, (64, 30 * WIDE)).float()
    seen = random_matrix(64, 30 * WIDE, 0.1, 0)
    on_gpu = scores.cuda()
    expected = top_k(lambda part: scores[part], torch.arange(64), seen, 20)
    assert torch.equal(top_k(lambda part: on_gpu[part], torch.arange(64, device="cuda"), seen, 20), expected)


def test_importing_loads_neither_polars_nor_pydantic() -> None:
    code = "import sys, recgraph.evaluation.ranking; sys.exit(bool({'polars', 'pydantic'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
