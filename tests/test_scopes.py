"""Rankings of warm and of cold items against rankings by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import sparse

from recgraph.errors import ConfigError, DataError
from recgraph.evaluation import ranking
from recgraph.evaluation.metrics import definitions, parse
from recgraph.evaluation.ranking import Evaluation, evaluate
from recgraph.evaluation.scopes import evaluate_scopes, harmonic_mean

USERS, ITEMS = 25, 40
METRICS = [
    "ndcg@5",
    "ndcg@5:cold",
    "recall@5:warm",
    "ndcg@5:warm",
    "ndcg@5:harmonic",
    "cold_share@5",
    "coverage@5:cold",
]


def setting() -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]:
    """Scores, test, seen, popularity; items from 30 on are cold, and some users have no such test item."""
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.integers(0, 12, (USERS, ITEMS)).astype(np.float32))  # with ties
    seen = rng.random((USERS, ITEMS)) < 0.2
    seen[:, 30:] = False
    test = (rng.random((USERS, ITEMS)) < 0.1) & ~seen
    test[:5, 30:] = False
    test[5:8, :30] = False
    popularity = np.concatenate([np.maximum(seen.sum(0)[:30], 1), np.zeros(10, int)])
    return scores, test, seen, popularity


def naive_ndcg(scores: torch.Tensor, test: np.ndarray, seen: np.ndarray, items: range, k: int) -> dict[int, float]:
    """User -> ndcg@k of a ranking of `items`, by loops."""
    found = {}
    for user in range(USERS):
        relevant = [item for item in items if test[user, item]]
        if not relevant:
            continue
        best = sorted((i for i in items if not seen[user, i]), key=lambda i, u=user: (-scores[u, i].item(), i))[:k]
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(best) if item in relevant)
        found[user] = gain / sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant))))
    return found


def measured(metrics: list[str]) -> Evaluation:
    scores, test, seen, popularity = setting()
    matrices = {"test": sparse.csr_matrix(test), "seen": sparse.csr_matrix(seen)}
    return evaluate_scopes(lambda users: scores[users], **matrices, metrics=metrics, popularity=popularity)


def test_each_scope_equals_a_naive_ranking() -> None:
    scores, test, seen, _ = setting()
    found = measured(METRICS)
    means = {}
    for name, items in (("", range(40)), (":warm", range(30)), (":cold", range(30, 40))):
        naive = naive_ndcg(scores, test, seen, items, 5)
        means[name] = np.mean(list(naive.values()))
        column = found.per_user[f"ndcg@5{name}"]
        assert {int(u): v for u, v in zip(found.users, column, strict=True) if not np.isnan(v)} == pytest.approx(naive)
        assert found.summary[f"ndcg@5{name}"] == pytest.approx(means[name])
    assert len(naive_ndcg(scores, test, seen, range(30, 40), 5)) < found.num_users  # else NaN was not put to the test
    assert found.summary["ndcg@5:harmonic"] == pytest.approx(2 / (1 / means[":warm"] + 1 / means[":cold"]))
    assert list(found.summary) == METRICS


def test_the_share_of_cold_items_is_that_of_the_one_list() -> None:
    found = measured(["cold_share@5", "ndcg@5:cold"])
    lists = found.lists.tolist()
    cold = sum(item >= 30 for each in lists for item in each)
    assert found.summary["cold_share@5"] == pytest.approx(cold / sum(item >= 0 for each in lists for item in each))


def test_without_scopes_it_is_a_plain_evaluation() -> None:
    scores, test, seen, popularity = setting()
    matrices = {"test": sparse.csr_matrix(test), "seen": sparse.csr_matrix(seen)}
    plain = evaluate(lambda users: scores[users], **matrices, metrics=["ndcg@5"], popularity=popularity)
    assert measured(["ndcg@5"]).summary == plain.summary
    assert measured(["ndcg@5:cold", "ndcg@5"]).summary["ndcg@5"] == plain.summary["ndcg@5"]


def test_what_cannot_be_measured_is_explained() -> None:
    with pytest.raises(ConfigError, match="'coverage@5:harmonic': a harmonic mean is of metrics in which more is"):
        measured(["coverage@5:harmonic"])
    scores, test, seen, _ = setting()
    matrices = {"test": sparse.csr_matrix(test), "seen": sparse.csr_matrix(seen)}
    with pytest.raises(DataError, match="ndcg@5:cold: nobody has a cold test item"):
        evaluate_scopes(
            lambda users: scores[users], **matrices, metrics=["ndcg@5:cold"], popularity=np.ones(ITEMS, int)
        )
    with pytest.raises(ConfigError, match="all named as 'ndcg@10' is"):
        evaluate(lambda users: scores[users], **matrices, metrics=["ndcg@5:cold"])
    with pytest.raises(ConfigError, match="expected name@K"):
        parse("ndcg@5:tepid")
    with pytest.raises(ConfigError, match="candidates: they cannot be ranked by scopes"):
        popularity, candidates = np.ones(ITEMS, int), matrices["test"]
        asked = {"metrics": ["ndcg@5:warm"], "popularity": popularity, "candidates": candidates}
        evaluate_scopes(lambda users: scores[users], **matrices, **asked)


@pytest.mark.parametrize("metrics", [["ndcg@5"], ["ndcg@5:cold"]])
def test_a_scope_scores_as_many_users_at_once_as_the_catalogue(
    metrics: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "CHUNK_SCORES", 3 * ITEMS)
    monkeypatch.setattr(ranking, "CHUNK_USERS", 1)
    scores, test, seen, popularity = setting()
    matrices = {"test": sparse.csr_matrix(test), "seen": sparse.csr_matrix(seen)}
    sizes: set[int] = set()

    def scored(users: torch.Tensor) -> torch.Tensor:
        sizes.add(len(users))
        return scores[users]

    evaluate_scopes(scored, **matrices, metrics=metrics, popularity=popularity)
    assert max(sizes) == 3


def test_the_harmonic_mean_of_nothing_is_nothing() -> None:
    assert harmonic_mean(0.0, 0.0) == 0
    assert harmonic_mean(0.0, 0.7) == 0
    assert harmonic_mean(0.2, 0.6) == pytest.approx(0.3)


def test_scopes_are_defined_below_tables() -> None:
    found = definitions(["ndcg@20", "ndcg@20:cold"])
    assert list(found) == ["ndcg", ":cold"]
    assert "without training interactions" in found[":cold"]
