"""Metrics of predictions equal what is counted by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from recgraph.evaluation.prediction import DEFINITIONS, METRICS, Predictions, baseline, measure


def naive_auc(scores: list[float], positive: list[bool]) -> float:
    pairs = [
        (a, b)
        for a, p in zip(scores, positive, strict=True)
        if p
        for b, n in zip(scores, positive, strict=True)
        if not n
    ]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def naive_f1(said: list[bool], true: list[bool]) -> float:
    hits = sum(a and b for a, b in zip(said, true, strict=True))
    return 2 * hits / (sum(said) + sum(true)) if sum(said) + sum(true) else 0.0


def test_classes_equal_loops() -> None:
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)  # nobody has the fourth class
    found = measure(Predictions("classes", outputs, targets))
    chances = [[math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in outputs.tolist()]
    said = [row.index(max(row)) for row in chances]
    assert found["accuracy"] == pytest.approx(np.mean([a == b for a, b in zip(said, targets, strict=True)]))
    aucs = [naive_auc([row[c] for row in chances], [t == c for t in targets]) for c in range(3)]
    assert found["auc"] == pytest.approx(np.mean(aucs))
    f1 = [naive_f1([s == c for s in said], [t == c for t in targets]) for c in {*said, *targets.tolist()}]
    assert found["macro_f1"] == pytest.approx(np.mean(f1))


def test_two_classes_are_told_apart_by_their_difference() -> None:
    outputs, targets = np.array([[5.0, 6.0], [0.0, 0.5], [-3.0, -1.0], [9.0, 9.5]]), np.array([0, 0, 1, 1])
    expected = naive_auc([1.0, 0.5, 2.0, 0.5], [False, False, True, True])  # the logits of one class say otherwise
    assert measure(Predictions("classes", outputs, targets))["auc"] == pytest.approx(expected)


def test_what_a_head_is_sure_of_is_still_told_apart() -> None:
    """In single precision, the chances of logits of 20 and 30 are both 1."""
    sure = np.array([[0.0, 20.0], [0.0, 30.0], [0.0, -1.0]], np.float32)
    assert measure(Predictions("classes", sure, np.array([0, 1, 0])))["auc"] == 1
    assert measure(Predictions("tags", sure[:, 1:], np.array([[0], [1], [0]])))["auc"] == 1


def test_tags_equal_loops_over_tags_that_vary() -> None:
    rng = np.random.default_rng(1)
    outputs, targets = rng.normal(size=(40, 5)), (rng.random((40, 5)) < 0.3).astype(float)
    targets[:, 1], targets[:, 2] = 0, 1
    found = measure(Predictions("tags", outputs, targets))
    aucs = [naive_auc(list(outputs[:, tag]), list(targets[:, tag] > 0)) for tag in (0, 3, 4)]
    f1 = [naive_f1([x > 0 for x in outputs[:, tag]], [y > 0 for y in targets[:, tag]]) for tag in (0, 3, 4)]
    right = [(x > 0) == (y > 0) for x, y in zip(outputs.ravel(), targets.ravel(), strict=True)]
    assert found == pytest.approx({"auc": np.mean(aucs), "accuracy": np.mean(right), "macro_f1": np.mean(f1)})


def test_rmse() -> None:
    found = measure(Predictions("number", np.array([[1.0], [4.0]]), np.array([2.0, 2.0])))
    assert found == pytest.approx({"rmse": math.sqrt((1 + 4) / 2)})


def test_one_class_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="nothing to tell apart"):
        measure(Predictions("classes", np.zeros((3, 2)), np.zeros(3, int)))


def test_a_guess_is_what_is_most_frequent_in_training() -> None:
    guess = baseline("classes", 3, np.array([1, 1, 2]), np.array([1, 0, 1, 2]))
    assert measure(guess)["accuracy"] == 0.5
    assert measure(guess)["auc"] == 0.5
    tags = baseline("tags", 2, np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert (tags.outputs > 0).tolist() == [[True, False]] * 2
    assert measure(baseline("number", 1, np.array([1.0, 3.0]), np.array([2.0, 4.0])))["rmse"] == pytest.approx(2**0.5)


def test_every_metric_is_defined() -> None:
    assert set(itertools.chain(*METRICS.values())) == set(DEFINITIONS)
