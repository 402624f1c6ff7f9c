"""Tables of how models learn, and of how their vectors lie."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from recgraph.experiments.convergence import REACHED, seconds_to
from recgraph.reporting.cells import Cell, Finished, Grid


def learned(rows: Mapping[str, Sequence[Finished]], dataset: str, marks: Mapping[str, Sequence[float]]) -> Grid:
    """How fast rows that are trained in epochs reach shares of their best, and figures on test; see `grids`."""
    body, wanted = [], [(metric, mark) for metric, several in marks.items() for mark in several]
    for row, runs in rows.items():
        if REACHED[0] not in runs[0].result:
            continue
        values = [f"{statistics.mean(one.result[key] for one in runs):.1f}" for key in REACHED]
        for metric, mark in wanted:
            ours = statistics.mean(one.result["test"].get(metric, 0) for one in runs)
            found = seconds_to(mark, ours, [one.folder for one in runs])
            values.append("" if found is None else f"{found:.1f}")
        body.append([Cell(row), *map(Cell, values)])
    head = ["", *(name.replace("_", " ") + "%" for name in REACHED), *(f"s to {m} {v:.4f}" for m, v in wanted)]
    notes = ["Until validation was at that share of its own best; seconds of training, a warm start included."]
    notes += (
        ["s to: until it was at the share of its own best that this is of the row's test figure."] if wanted else []
    )
    return Grid(f"{dataset}, speed of learning", head, body, notes)


def diagnosed(rows: Mapping[str, Sequence[Finished]], dataset: str) -> Grid:
    """Diagnostics of the vectors, for rows that have any."""
    found = {
        row: [one.result["diagnostics"] for one in runs if "diagnostics" in one.result] for row, runs in rows.items()
    }
    keys = list(dict.fromkeys(key for values in found.values() for one in values for key in one))
    body = []
    for row, values in found.items():
        known = [[one[key] for one in values if key in one] for key in keys]
        if values:
            body.append([Cell(row), *(Cell(f"{statistics.mean(some):.3f}" if some else "") for some in known)])
    notes = [
        "Alignment: mean squared distance of a user and an item of theirs, on unit vectors; lower is nearer.",
        "Uniformity: from 0, all on one point, to about -4, evenly spread. Effective rank: of at most the width.",
        "Norm-popularity: rank correlation of a vector's length with its number of training interactions.",
    ]
    return Grid(f"{dataset}, how the vectors lie", ["", *(key.replace("_", " ") for key in keys)], body, notes)
