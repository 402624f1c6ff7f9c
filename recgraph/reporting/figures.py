"""The charts of a table: learning curves, cost, groups and effects."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recgraph.files import undamaged
from recgraph.reporting import charts
from recgraph.reporting.cells import Grid
from recgraph.reporting.charts import Interval, Series
from recgraph.reporting.page import Figure, Row
from recgraph.reporting.tables import Finished, by_group

LEAST_SECONDS = 0.01
"""Training seconds are stored with two decimals; those that round to 0 are drawn here, as the axis is logarithmic."""

BY_USERS, BY_ITEMS = "users, by quartile of their training interactions", "items, by popularity"


def figures(runs: Sequence[Finished], found: Sequence[Grid], monitor: str, styles: Mapping[str, int]) -> list[Figure]:
    """Charts of comparable runs, each with its data; charts without data are left out.

    Args:
        runs: finished runs on one dataset and split with the same metrics, as in `tables.grids`.
        found: the output of `tables.grids` for them.
        monitor: the metric to draw; the first of validation, or of test, where it is not among these. Sampled metrics
            of test have names of their own.
        styles: row -> number of its colour and marker.
    """
    rows: dict[str, list[Finished]] = {}
    for one in runs:
        rows.setdefault(one.result["row"], []).append(one)
    records = {row: [_records(one.folder) for one in several] for row, several in rows.items()}
    parts = (runs[0].result[part] for part in ("validation", "test"))
    watched, tested = (monitor if monitor in metrics else next(iter(metrics)) for metrics in parts)
    drawn = [_learning(rows, records, watched, styles)]
    drawn += [_loss(records, role, styles) for role in _roles(records)]
    drawn.append(_cost(rows, tested, styles))
    drawn += [_grouped(rows, by_group(runs, tested), what, styles) for what in (BY_USERS, BY_ITEMS)]
    drawn += _effects(found, styles)
    return [one for one in drawn if one is not None]


def _learning(
    rows: Mapping[str, Sequence[Finished]],
    records: Mapping[str, Sequence[Sequence[Any]]],
    monitor: str,
    styles: Mapping[str, int],
) -> Figure | None:
    """Validation by epoch; rows without epochs are horizontal lines."""
    lines, data = _lines(records, lambda record: record.get("validation", {}).get(monitor), styles)
    if not lines:
        return None
    for row, several in rows.items():
        if not any(records[row]):
            level = statistics.mean(one.result["validation"][monitor] for one in several)
            lines.append(Series(row, styles[row], [], [level], flat=True))
            data.append((row, "", level, "", ""))
    title = f"Learning: {monitor} on validation"
    levels = " A dashed level: a row without epochs." if any(line.flat for line in lines) else ""
    drawing = charts.curves(lines, f"{title}, by epoch", x="epoch", y=monitor)
    return Figure(title, drawing, BAND + levels, _legend(lines), ("row", "epoch", "mean", "min", "max"), data)


BAND = "Mean over seeds, with a band from the least to the greatest; as far as all seeds went."


def _loss(records: Mapping[str, Sequence[Sequence[Any]]], role: str, styles: Mapping[str, int]) -> Figure | None:
    lines, data = _lines(records, lambda record: record["losses"].get(role), styles)
    if not lines:
        return None
    title = f"Loss: {role}"
    drawing = charts.curves(lines, f"{title}, by epoch", x="epoch", y=f"{role}, before its weight")
    return Figure(title, drawing, BAND, _legend(lines), ("row", "epoch", "mean", "min", "max"), data)


def _lines(
    records: Mapping[str, Sequence[Sequence[Any]]], value: Callable[[Any], float | None], styles: Mapping[str, int]
) -> tuple[list[Series], list[Row]]:
    """A line for each row that has values, and the data of all lines."""
    lines: list[Series] = []
    data: list[Row] = []
    for row, seeds in records.items():
        by_seed = [{r["epoch"]: at for r in seed if (at := value(r)) is not None} for seed in seeds]
        epochs = sorted(set(by_seed[0]).intersection(*by_seed))
        if not epochs:
            continue
        values = [[seed[epoch] for seed in by_seed] for epoch in epochs]
        mean, low, high = [statistics.mean(v) for v in values], [min(v) for v in values], [max(v) for v in values]
        band = (low, high) if len(seeds) > 1 else ((), ())
        lines.append(Series(row, styles[row], epochs, mean, *band))
        rounded = [[float(f"{v:.6g}") for v in column] for column in (mean, low, high)]
        data += [(row, *line) for line in zip(epochs, *rounded, strict=True)]
    return lines, data


def _cost(rows: Mapping[str, Sequence[Finished]], metric: str, styles: Mapping[str, int]) -> Figure:
    """Test metric against training time."""
    points, data = [], []
    for row, several in rows.items():
        results = [one.result for one in several]
        seconds = [max(LEAST_SECONDS, result["train_seconds"]) for result in results]
        points.append(Series(row, styles[row], seconds, [result["test"][metric] for result in results]))
        data += [(row, one["seed"], one["train_seconds"], one["test"][metric]) for one in results]
    title = f"Accuracy and time: {metric} on test"
    caption = "A point for each run."
    if any(line[2] < LEAST_SECONDS for line in data):
        caption += f" What took less than {LEAST_SECONDS} s stands at {LEAST_SECONDS}."
    label = f"{title}, by seconds of training"
    drawing = charts.scatter(points, label, x="seconds of training, logarithmic", y=metric)
    return Figure(title, drawing, caption, _legend(points), ("row", "seed", "train_seconds", metric), data)


def _grouped(
    rows: Mapping[str, Sequence[Finished]], metric: str, what: str, styles: Mapping[str, int]
) -> Figure | None:
    """Test metric by groups of users or of items, for rows that have groups."""
    with_groups = {row: several for row, several in rows.items() if all(one.result.get("groups") for one in several)}
    names = dict.fromkeys(name for several in with_groups.values() for name in several[0].result["groups"])
    groups = [name for name in names if name.startswith("degree-") == (what == BY_USERS)]
    several_bars, data = [], []
    for row, several in with_groups.items():
        values = {g: [one.result["groups"].get(g, {}).get(metric) for one in several] for g in groups}
        means = {g: statistics.mean(found) for g, found in values.items() if None not in found}
        if means:
            several_bars.append(Series(row, styles[row], [groups.index(g) for g in means], list(means.values())))
            data += [(row, group, value) for group, value in means.items()]
    if not several_bars:
        return None
    title = f"Groups of {what}"
    shown = [name.removeprefix("degree-") for name in groups]
    drawing = charts.bars(shown, several_bars, f"{metric} on test, {title}", y=f"{metric} on test")
    order = "q1: those with the fewest. " if what == BY_USERS else ""
    caption = f"{order}Mean over seeds; bars stand in the order of the legend."
    return Figure(title, drawing, caption, _legend(several_bars), ("row", "group", metric), data)


def _effects(found: Iterable[Grid], styles: Mapping[str, int]) -> list[Figure]:
    """Differences from the reference row, with one chart per metric."""
    return [
        Figure(
            f"Effect on {metric}: {grid.title.partition(', ')[2]}",
            charts.forest(
                [Interval(row, styles[row], one.difference, one.low, one.high) for row, one in rows.items()],
                f"Effect on {metric}: {grid.title}",
                x=f"difference in {metric}",
            ),
            "With 95% intervals over users, each for itself alone; p in the data is corrected for the number of rows.",
            (),
            ("row", "difference", "low", "high", "p, corrected"),
            [(row, one.difference, one.low, one.high, f"{one.corrected:.2g}") for row, one in rows.items()],
        )
        for grid in found
        for metric, rows in grid.effects.items()
    ]


def _records(folder: Path) -> list[dict[str, Any]]:
    with undamaged(folder / "metrics.jsonl") as path:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _roles(records: Mapping[str, Sequence[Sequence[Any]]]) -> list[str]:
    every = (record["losses"] for seeds in records.values() for seed in seeds for record in seed)
    return list(dict.fromkeys(role for losses in every for role in losses))


def _legend(series: Iterable[Series]) -> list[tuple[str, int]]:
    return [(one.name, one.style) for one in series]
