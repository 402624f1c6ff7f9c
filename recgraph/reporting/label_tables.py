"""Tables of label prediction, beside those of rankings."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from recgraph.evaluation.prediction import DEFINITIONS, LOWER_IS_BETTER, Predictions
from recgraph.evaluation.resampling import RESAMPLES, compare_predictions
from recgraph.evaluation.significance import Comparison
from recgraph.experiments.labelling import read_predictions
from recgraph.reporting.cells import MARKS, Cell, Finished, Grid, figure, mark_of, unpaired

GUESS = "most frequent in training"
"""The row of the constant baseline: class frequencies in training; for numbers, the mean."""


def label_grids(rows: Mapping[str, Sequence[Finished]], dataset: str, against: str | None) -> list[Grid]:
    """The test metrics of each label by row, with marks of significance; empty if no row has labels.

    Args:
        rows: row -> its runs, on one split of one dataset.
        dataset: name of the dataset.
        against: the reference row of the comparison, which covers the labels that the reference predicts; None for no
            comparison.
    """
    having = {row: runs for row, runs in rows.items() if all("labels" in one.result for one in runs)}
    if not having:
        return []
    values = {
        (row, m): [one.result["labels"]["test"][m] for one in runs]
        for row, runs in having.items()
        for m in runs[0].result["labels"]["test"]
    }
    metrics = list(dict.fromkeys(m for _, m in values))
    read = {
        row: {one.result["seed"]: read_predictions(one.folder / "labels.parquet") for one in runs}
        for row, runs in having.items()
    }
    apart = _apart(read, against)
    alone = unpaired(having, against)
    paired = {row: seeds for row, seeds in read.items() if row not in alone}
    compared = _compare(paired, apart, against) if against in having else {}
    best = {}
    for m in metrics:
        label, _, kind = m.rpartition(":")
        if label not in apart:
            means = [statistics.mean(values[row, m]) for row in having if (row, m) in values]
            best[m] = min(means) if kind in LOWER_IS_BETTER else max(means)
    body = [[Cell(GUESS), *(Cell(_guess(having, m)) for m in metrics)]]
    for row in having:
        cells = [Cell(row)]
        for m in metrics:
            if (row, m) not in values:
                cells.append(Cell(""))
                continue
            mark = mark_of(compared.get(m, {}).get(row))
            cells.append(Cell(figure(values[row, m]), statistics.mean(values[row, m]) == best.get(m), mark))
        body.append(cells)
    kinds = dict.fromkeys(m.rpartition(":")[2] for m in metrics)
    notes = ["Labels of held-out users, items or interactions, whom no head has learned from; missing labels left out."]
    notes += [f"{kind}: {DEFINITIONS[kind]}" for kind in kinds]
    if compared:
        marks = ", ".join(f"{mark}: p < {p}" for p, mark in reversed(MARKS))
        notes.append(
            f"{marks} against {against} (paired bootstrap of {RESAMPLES} resamples over the examples, metrics averaged "
            "over common seeds, Holm-corrected over rows)."
        )
    if alone:
        notes.append(f"No seed in common with {against}, and not compared: {', '.join(alone)}.")
    for label, others in apart.items():
        than = next(iter(others.values()))
        notes.append(f"{label}: other labels in {', '.join(others)} than in {than}; not compared, and none is best.")
    return [Grid(f"{dataset}, labels, test", ["", *metrics], body, notes)]


Read = Mapping[str, Mapping[int, Mapping[str, Predictions]]]
"""Row -> seed -> label -> predictions."""


def _apart(read: Read, against: str | None) -> dict[str, dict[str, str]]:
    """Label -> row -> the row whose targets it differs from: the reference or, without it, the first with the label."""
    first: dict[str, tuple[str, np.ndarray]] = {}
    found: dict[str, dict[str, str]] = {}
    for row in sorted(read, key=lambda row: row != against):
        for predictions in read[row].values():
            for label, one in predictions.items():
                base, targets = first.setdefault(label, (row, one.targets))
                if not np.array_equal(one.targets, targets):
                    found.setdefault(label, {})[row] = base
    return found


def _compare(read: Read, apart: Mapping[str, Collection[str]], against: str) -> dict[str, dict[str, Comparison]]:
    """label:metric -> row -> its comparison with the reference, for labels of the reference and rows not `apart`."""
    found: dict[str, dict[str, Comparison]] = {}
    for label in next(iter(read[against].values())):
        own = {
            row: {seed: one[label] for seed, one in seeds.items()}
            for row, seeds in read.items()
            if label in next(iter(seeds.values())) and row not in apart.get(label, ())
        }
        if len(own) > 1 and against in own:
            compared = compare_predictions(own, against)
            found |= {f"{label}:{metric}": rows_of for metric, rows_of in compared.items()}
    return found


def _guess(rows: Mapping[str, Sequence[Finished]], metric: str) -> str:
    guessed = (runs[0].result["labels"]["guessed"] for runs in rows.values())
    return next(f"{values[metric]:.4f}" for values in guessed if metric in values)
