"""Each metric against loops over plain lists, scikit-learn and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from recgraph.errors import ConfigError
from recgraph.evaluation.metrics import (
    PER_USER,
    WHOLE_LIST,
    coverage,
    definitions,
    gini,
    mean_popularity,
    ndcg,
    num_sampled,
    parse,
    ranked,
    sampled,
)

Naive = Callable[[list[int], set[int]], float]


def naive_recall(shown: list[int], relevant: set[int]) -> float:
    return len([item for item in shown if item in relevant]) / len(relevant)


def naive_precision(shown: list[int], relevant: set[int]) -> float:
    return len([item for item in shown if item in relevant]) / len(shown)


def naive_ndcg(shown: list[int], relevant: set[int]) -> float:
    gained = sum(math.log(2) / math.log(rank + 1) for rank, item in enumerate(shown, 1) if item in relevant)
    best = sum(math.log(2) / math.log(rank + 1) for rank in range(1, min(len(shown), len(relevant)) + 1))
    return gained / best


def naive_hit(shown: list[int], relevant: set[int]) -> float:
    return 1.0 if relevant.intersection(shown) else 0.0


def naive_mrr(shown: list[int], relevant: set[int]) -> float:
    for rank, item in enumerate(shown, 1):
        if item in relevant:
            return 1 / rank
    return 0.0


def naive_map(shown: list[int], relevant: set[int]) -> float:
    total = 0.0
    for rank, item in enumerate(shown, 1):
        if item in relevant:
            total += naive_precision(shown[:rank], relevant)
    return total / min(len(shown), len(relevant))


NAIVE: dict[str, Naive] = {
    "recall": naive_recall,
    "precision": naive_precision,
    "ndcg": naive_ndcg,
    "hit": naive_hit,
    "mrr": naive_mrr,
    "map": naive_map,
}


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[list[int]], list[set[int]]]:
    """Lists of K of 12 items, and between 1 and 12 relevant items: fewer than K, K, and more."""
    k = draw(st.integers(1, 12))
    num_users = draw(st.integers(1, 5))
    shown = [draw(st.permutations(range(12)))[:k] for _ in range(num_users)]
    relevant = [draw(st.sets(st.integers(0, 11), min_size=1)) for _ in range(num_users)]
    return shown, relevant


def test_every_metric_has_a_naive_version() -> None:
    assert NAIVE.keys() == PER_USER.keys()


@settings(deadline=None)
@given(rankings())
def test_metrics_equal_naive_loops(ranking: tuple[list[list[int]], list[set[int]]]) -> None:
    shown, relevant = ranking
    hits = torch.tensor([[item in mine for item in items] for items, mine in zip(shown, relevant, strict=True)])
    num_relevant = torch.tensor([len(mine) for mine in relevant])
    for name, metric in PER_USER.items():
        values = metric(hits, num_relevant)
        expected = [NAIVE[name](items, mine) for items, mine in zip(shown, relevant, strict=True)]
        assert values.dtype == torch.float64
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("k", [1, 5, 20, 50])
def test_ndcg_equals_scikit_learn(k: int) -> None:
    """They coincide for binary gains without ties.

    scikit-learn takes the mean over users, gives tied scores the mean of their places where we give the better place to
    the lower item, and counts a user without relevant items as 0 where we leave such a user out.
    """
    generator = np.random.default_rng(0)
    relevant = generator.random((40, 50)) < generator.choice([0.05, 0.3, 0.9], size=(40, 1))
    relevant[:, 0] |= ~relevant.any(1)
    scores = generator.permuted(np.tile(np.arange(50.0), (40, 1)), axis=1)
    order = np.argsort(-scores, axis=1)[:, :k]
    hits = torch.from_numpy(np.take_along_axis(relevant, order, axis=1))
    values = ndcg(hits, torch.from_numpy(relevant.sum(1)))
    expected = [ndcg_score(relevant[[u]], scores[[u]], k=k) for u in range(40)]
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-12)


def test_hand_computed_example() -> None:
    hits = torch.tensor([[False, True, False, True], [False, False, False, False]])
    num_relevant = torch.tensor([6, 1])
    expected = {
        "recall": 2 / 6,
        "precision": 2 / 4,
        "ndcg": (0.6309297535714575 + 0.43067655807339306) / 2.5616063116448506,  # 1/log2 of 3, 5; of 2 to 5
        "hit": 1,
        "mrr": 1 / 2,
        "map": (1 / 2 + 2 / 4) / 4,
    }
    for name, value in expected.items():
        assert PER_USER[name](hits, num_relevant).tolist() == pytest.approx([value, 0]), name


def test_perfect_ranking_is_one_everywhere() -> None:
    """With as many relevant items as places; with fewer or more, all but the metric whose denominator is the other."""
    for relevant, others in [(4, ()), (2, ("precision",)), (9, ("recall",))]:
        hits = (torch.arange(4) < relevant).expand(3, 4)
        for name, metric in PER_USER.items():
            perfect = metric(hits, torch.full((3,), relevant))
            assert torch.allclose(perfect, torch.ones(3, dtype=torch.float64)) != (name in others), name


def test_gini_closed_forms() -> None:
    unused = torch.zeros(8)
    assert gini(torch.full((8,), 3), unused) == pytest.approx(0)
    assert gini(torch.tensor([0, 0, 5, 0, 0, 0, 0, 0]), unused) == pytest.approx(7 / 8)
    assert gini(torch.tensor([0, 4]), unused[:2]) == pytest.approx(1 / 2)


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any))
def test_gini_is_half_the_relative_mean_difference(counts: list[int]) -> None:
    differences = sum(abs(a - b) for a in counts for b in counts)
    expected = differences / (2 * len(counts) * sum(counts))
    assert gini(torch.tensor(counts), torch.zeros(len(counts))) == pytest.approx(expected)


def test_coverage_and_popularity() -> None:
    recommended, popularity = torch.tensor([3, 0, 1, 0]), torch.tensor([10.0, 99.0, 2.0, 0.0])
    assert coverage(recommended, popularity) == 2 / 4
    assert mean_popularity(recommended, popularity) == (3 * 10 + 2) / 4


def test_parse() -> None:
    assert parse("ndcg@20") == ("ndcg", PER_USER["ndcg"], 20)
    assert parse("gini@5") == ("gini", WHOLE_LIST["gini"], 5)


def test_sampled_metrics_carry_the_number_of_negatives_in_their_name() -> None:
    name = sampled("hit@10", 99)
    assert name == "hit@10:sampled-99"
    assert parse(name) == ("hit", PER_USER["hit"], 10)
    assert (num_sampled(name), num_sampled("hit@10")) == (99, None)
    assert definitions([name]) == definitions(["hit@10"])
    assert ranked("hit@10") == "Whole catalogue ranked"
    assert "among 99 sampled negatives" in ranked(name)


@pytest.mark.parametrize(
    "text",
    [
        "ndcg",
        "ndcg@",
        "ndcg@0",
        "ndcg@-1",
        "ndcg@1.5",
        "ndcg@ten",
        "@10",
        "",
        "ndcg@10 ",
        "ndcg@10:sampled",
        "ndcg:sampled-9@10",
        "ndcg@10:sampled-0",
    ],
)
def test_malformed_metrics(text: str) -> None:
    with pytest.raises(ConfigError, match="metric"):
        parse(text)


@pytest.mark.parametrize(("text", "nearest"), [("ndgc@10", "ndcg"), ("NDCG@10", "ndcg"), ("recal@5", "recall")])
def test_unknown_metric_names_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean '{nearest}'"):
        parse(text)


def test_definitions_are_one_line_for_each_name() -> None:
    everything = definitions(f"{name}@10" for name in [*PER_USER, *WHOLE_LIST])
    assert everything.keys() == {*PER_USER, *WHOLE_LIST}
    assert all(line.endswith(".") and "\n" not in line for line in everything.values())
    assert list(definitions(["ndcg@20", "recall@20", "ndcg@10"])) == ["ndcg", "recall"]
