"""Resampled metrics are those of rows that are there several times, and p is small where a row is better."""

from __future__ import annotations

import numpy as np
import pytest

from recgraph.errors import DataError
from recgraph.evaluation.prediction import Predictions, measure
from recgraph.evaluation.resampling import compare_predictions, resampled, weighted_auc


def predictions(kind: str, rows: int = 50, seed: int = 0, skill: float = 1.0) -> Predictions:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(rows, 3)).round(1)  # with ties
    truth = np.random.default_rng(9).integers(0, 3, rows)
    if kind == "classes":
        return Predictions(kind, noise + skill * np.eye(3)[truth], truth)
    if kind == "tags":
        tags = np.random.default_rng(9).random((rows, 3)) < 0.3
        return Predictions(kind, noise + skill * tags, tags.astype(float))
    if kind == "two":
        return Predictions("classes", noise[:, :2] + skill * np.eye(2)[truth % 2], truth % 2)
    return Predictions("number", truth[:, None] + noise[:, :1] / skill, truth.astype(float))


@pytest.mark.parametrize("kind", ["classes", "two", "tags", "number"])
def test_counting_rows_is_repeating_them(kind: str) -> None:
    whole = predictions(kind)
    times = np.random.default_rng(1).multinomial(50, np.full(50, 1 / 50), size=6)
    times[0] = 1
    found = resampled(whole, times)
    for number, row in enumerate(times):
        expected = measure(whole.select(np.repeat(np.arange(50), row)))  # scikit-learn, on rows that are really there
        assert {metric: values[number] for metric, values in found.items()} == pytest.approx(expected)


def test_auc_without_both_kinds_is_not_a_number() -> None:
    counts = np.array([[1.0, 0.0, 2.0], [1.0, 1.0, 1.0]])
    found = weighted_auc(np.array([0.3, 0.1, 0.7]), np.array([True, False, True]), counts)
    assert np.isnan(found[0])
    assert found[1] == 1.0


@pytest.mark.parametrize("kind", ["classes", "tags", "number"])
def test_a_better_row_is_found_and_an_equal_one_is_not(kind: str) -> None:
    rows = {
        "reference": {0: predictions(kind, 200, 1, 0.5), 1: predictions(kind, 200, 2, 0.5)},
        "better": {0: predictions(kind, 200, 3, 3.0), 1: predictions(kind, 200, 4, 3.0)},
        "same": {0: predictions(kind, 200, 1, 0.5), 1: predictions(kind, 200, 2, 0.5)},
    }
    for metric, found in compare_predictions(rows, "reference", resamples=300).items():
        sign = -1 if metric == "rmse" else 1
        better = found["better"]
        assert sign * better.difference > 0
        assert better.low <= better.difference <= better.high
        assert better.low * better.high > 0
        assert better.corrected == pytest.approx(2 * 2 / 301)  # Holm over two rows of the smallest p there is
        assert (found["same"].difference, found["same"].corrected) == (0, 1)


def test_p_is_even_where_there_is_no_difference() -> None:
    found = []
    for seed in range(40):
        rows = {"a": {0: predictions("two", 80, seed, 0.5)}, "b": {0: predictions("two", 80, 1000 + seed, 0.5)}}
        found.append(compare_predictions(rows, "a", resamples=200)["auc"]["b"].p)
    assert np.mean(np.array(found) < 0.05) < 0.2
    assert 0.3 < np.mean(found) < 0.7


def test_a_row_with_fewer_seeds_is_compared_with_the_same_seeds() -> None:
    good, bad = predictions("classes", 100, 1, 3.0), predictions("classes", 100, 2, 0.5)
    rows = {"a": {0: good, 1: bad}, "all": {0: good, 1: bad}, "good": {0: good}, "bad": {1: bad}}
    found = compare_predictions(rows, "a", resamples=100)["auc"]
    assert [found[row].difference for row in ("all", "good", "bad")] == [0, 0, 0]


def test_other_examples_are_refused() -> None:
    with pytest.raises(DataError, match="row 'b' has predictions of other labels than 'a'"):
        compare_predictions({"a": {0: predictions("classes")}, "b": {0: predictions("two")}}, "a")
