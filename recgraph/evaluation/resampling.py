"""Paired bootstrap of label metrics: would a difference between two rows hold for other users, items or reviews?

AUC and macro-F1 are not means over examples, so a t-test does not apply. All rows of a table and all their seeds use
the same resamples of the same examples; a row's value in a resample is its mean over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from recgraph.errors import DataError
from recgraph.evaluation.prediction import METRICS, Predictions, measure, probabilities, truth_of
from recgraph.evaluation.significance import Comparison, holm
from recgraph.random import numpy_generator

RESAMPLES = 2000
"""Number of resamples: a p of 0.05 is then accurate to ± 0.01, at two standard errors."""

CHUNK = 2**21
"""Examples × resamples processed at once: arrays of 16 MB."""


def compare_predictions(
    rows: Mapping[str, Mapping[int, Predictions]], reference: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, Comparison]]:
    """Metric -> row -> its comparison with the reference row, over the seeds that both have.

    p = 2 (b + 1) / (resamples + 1), at most 1, with b resamples whose difference is 0 or on the other side of 0. It is
    Holm-corrected over the rows of a metric.

    Args:
        rows: row -> seed -> its predictions of one label; every row has a seed in common with the reference.
        reference: the row that the others are compared with.
        resamples: number of resamples.
        seed: seed of the resamples.

    Raises:
        DataError: rows differ in their targets.
    """
    runs = {(row, number): one for row, seeds in rows.items() for number, one in seeds.items()}
    first = next(iter(rows[reference].values()))
    for (row, _), one in runs.items():
        if not np.array_equal(one.targets, first.targets):
            raise DataError(f"row {row!r} has predictions of other labels than {reference!r}")
    generator, examples = numpy_generator(seed, "bootstrap"), len(first.targets)
    size = max(1, CHUNK // examples)
    drawn: dict[tuple[str, int], list[dict[str, np.ndarray]]] = {run: [] for run in runs}
    for start in range(0, resamples, size):
        times = generator.multinomial(examples, np.full(examples, 1 / examples), size=min(size, resamples - start))
        for run, one in runs.items():
            drawn[run].append(resampled(one, times))
    plain = {run: measure(one) for run, one in runs.items()}
    others = [row for row in rows if row != reference]
    compared: dict[str, dict[str, Comparison]] = {}
    for metric in METRICS[first.kind]:
        values = {run: np.concatenate([part[metric] for part in parts]) for run, parts in drawn.items()}
        changes = {}  # row -> its difference, then those of the resamples
        for row in others:
            shared = rows[row].keys() & rows[reference].keys()
            ours, theirs = (
                np.mean([np.append(plain[name, n][metric], values[name, n]) for n in sorted(shared)], 0)
                for name in (row, reference)
            )
            changes[row] = ours - theirs
        p = np.array([_two_sided(changes[row][1:]) for row in others])
        ends = {row: np.nanquantile(changes[row][1:], [0.025, 0.975]).tolist() for row in others}
        compared[metric] = {
            row: Comparison(float(changes[row][0]), ends[row][0], ends[row][1], one, corrected)
            for row, one, corrected in zip(others, p.tolist(), holm(p).tolist(), strict=True)
        }
    return compared


def resampled(
    predictions: Predictions, times: Int[np.ndarray, "resamples rows"]
) -> dict[str, Float[np.ndarray, "resamples"]]:
    """The metrics of `measure` if row r counts `times[:, r]` times; NaN where a resample leaves a metric undefined."""
    if predictions.kind == "number":
        errors = (predictions.outputs[:, 0] - predictions.targets) ** 2
        return {"rmse": np.sqrt(times @ errors / times.sum(1))}
    scores, truth = probabilities(predictions), truth_of(predictions)
    if predictions.kind == "classes":
        likeliest = predictions.outputs.argmax(1)
        said, right = likeliest[:, None] == np.arange(scores.shape[1]), likeliest == predictions.targets
        columns = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    else:
        said, columns = predictions.outputs > 0, range(scores.shape[1])
        right = (said == truth).mean(1)
    counts = times.astype(np.float64)
    hits, claims, wanted = (counts @ part for part in (said & truth, said, truth))
    # Leave out classes that are neither present nor predicted, and tags that all examples have, or none.
    counted = claims + wanted > 0
    if predictions.kind == "tags":
        counted = (wanted > 0) & (wanted < counts.sum(1)[:, None])
    f1 = np.where(counted, 2 * hits / np.maximum(claims + wanted, 1), 0)
    aucs = np.stack([weighted_auc(scores[:, n], truth[:, n], counts) for n in columns])
    there = ~np.isnan(aucs)
    with np.errstate(invalid="ignore"):
        return {
            "auc": np.where(there, aucs, 0).sum(0) / there.sum(0),
            "accuracy": counts @ right / counts.sum(1),
            "macro_f1": f1.sum(1) / counted.sum(1),
        }


def weighted_auc(
    scores: Float[np.ndarray, "rows"], positive: Bool[np.ndarray, "rows"], times: Float[np.ndarray, "resamples rows"]
) -> Float[np.ndarray, "resamples"]:
    """AUC if rows count `times` times, ties counting half; NaN without both positives and negatives."""
    order = np.argsort(scores, kind="stable")
    times, positive, scores = times[:, order], positive[order], scores[order]
    start, end = np.searchsorted(scores, scores, "left"), np.searchsorted(scores, scores, "right")
    below = np.concatenate([np.zeros((len(times), 1)), (times * ~positive).cumsum(1)], 1)
    lost, ahead = below[:, start], below[:, end]
    pairs = (times * positive).sum(1) * below[:, -1]
    won = (times * positive * (lost + ahead)).sum(1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, won / pairs, np.nan)


def _two_sided(differences: Float[np.ndarray, "resamples"]) -> float:
    known = differences[~np.isnan(differences)]
    tail = min((known <= 0).sum(), (known >= 0).sum())
    return min(1.0, 2 * (tail + 1) / (len(known) + 1))
