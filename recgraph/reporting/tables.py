"""Turns results into a tidy CSV and into tables with statistics."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recgraph.errors import DataError
from recgraph.evaluation.metrics import OF_CLICKS, definitions, direction, ranked
from recgraph.evaluation.significance import Comparison, compare
from recgraph.experiments.convergence import REACHED
from recgraph.experiments.schema import Published
from recgraph.files import undamaged, write_text
from recgraph.reporting.cells import MARKS, Cell, Finished, Grid, Result, figure, mark_of, unpaired
from recgraph.reporting.label_tables import label_grids
from recgraph.reporting.training_tables import diagnosed, learned

ABOUT = (
    *("epochs", "best_epoch", "refit", *REACHED, "train_seconds", "eval_seconds", "peak_memory_mib", "device"),
    *("commit", "dirty", "code", "config_hash", "data_fingerprint"),
)
"""Columns of the tidy table that describe the run, beside its metrics."""


def tidy(results: Iterable[Result]) -> pl.DataFrame:
    """One row per run, part and group and one column per metric, with what is needed to judge and repeat the run.

    `part` is validation, test, parity (test metrics at the epoch that is best on test) or vectors (diagnostics of the
    model's vectors). Metrics of labels are named label:metric. Their group "guessed" is the constant baseline from
    training labels; equal rows of it are written once.
    """
    rows = []
    for result in results:
        names = {key: result[key] for key in ("table", "row", "dataset", "seed", "split")}
        about = {key: result.get(key) if key in REACHED else result[key] for key in ABOUT}
        # Ten digits identify them, as everywhere else.
        about |= {key: str(about[key])[:10] for key in ("commit", "data_fingerprint") if about[key]}
        labels = result.get("labels", {})
        parts = [part for part in ("validation", "test", "parity") if part in result]
        measured: list[tuple[str, str, Mapping[str, Any]]]
        measured = [(part, "all", {**result[part], **labels.get(part, {})}) for part in parts]
        measured += [("test", group, found) for group, found in result.get("groups", {}).items()]
        measured += [("test", "guessed", labels["guessed"])] if labels else []
        measured += [("vectors", "all", result["diagnostics"])] if "diagnostics" in result else []
        rows += [{**names, "part": part, "group": group, **found, **about} for part, group, found in measured]
    if not rows:
        return pl.DataFrame()
    frame = pl.DataFrame(rows, infer_schema_length=None).select(pl.exclude(ABOUT), *ABOUT)
    new = pl.struct(pl.exclude("table", "row", *ABOUT)).is_first_distinct()
    return frame.filter((pl.col("group") != "guessed") | new)


def write_csv(path: Path, results: Iterable[Result]) -> None:
    """Write the tidy table atomically."""
    write_text(path, tidy(results).write_csv())


def blocks(finished: Sequence[Finished]) -> dict[tuple[str, str, tuple[str, ...]], list[Finished]]:
    """Runs that share a table, by dataset, fingerprint of the split, and metrics."""
    found: dict[tuple[str, str, tuple[str, ...]], list[Finished]] = {}
    for one in finished:
        result = one.result
        found.setdefault((result["dataset"], result["data_fingerprint"], tuple(result["test"])), []).append(one)
    return found


def grids(
    finished: Sequence[Finished],
    *,
    published: Mapping[str, Mapping[str, Published]] | None = None,
    against: str | None = None,
    marks: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> list[Grid]:
    """Tables of test metrics by row, differences from one row, speed of learning, groups, diagnostics and labels.

    Runs share a table only if they are comparable: the same data, split and metrics.

    Args:
        finished: finished runs.
        published: dataset -> row -> published figures.
        against: the reference row, with which the others are compared user by user; no comparison if None or missing.
        marks: dataset -> metric -> test figures; the seconds of training until they are reached are estimated.

    Raises:
        DataError: rows, or seeds of a row, were ranked for different users.
    """
    found: list[Grid] = []
    for (dataset, _, metrics), runs in blocks(finished).items():
        rows: dict[str, list[Finished]] = {}
        for one in runs:
            rows.setdefault(one.result["row"], []).append(one)
        paired = {row: runs for row, runs in rows.items() if row not in unpaired(rows, against)}
        differences = _differences(paired, metrics, against) if against in rows and len(paired) > 1 else {}
        found.append(_main(rows, metrics, (published or {}).get(dataset, {}), differences, against))
        if differences:
            found.append(_compared(differences, dataset, str(against)))
        if any(REACHED[0] in one.result for one in runs):
            found.append(learned(rows, dataset, (marks or {}).get(dataset, {})))
        if all(one.result.get("groups") for one in runs) and (metric := by_group(runs)):
            found.append(_grouped(rows, metric, dataset))
        if any("diagnostics" in one.result for one in runs):
            found.append(diagnosed(rows, dataset))
        found += label_grids(rows, dataset, against)
    return found


def _main(
    rows: Mapping[str, Sequence[Finished]],
    metrics: Sequence[str],
    published: Mapping[str, Published],
    differences: Mapping[str, Mapping[str, Comparison]],
    against: str | None,
) -> Grid:
    every = [one.result for runs in rows.values() for one in runs]
    values = {(row, m): [one.result["test"][m] for one in runs] for row, runs in rows.items() for m in metrics}
    means = {key: statistics.mean(several) for key, several in values.items()}
    best = {m: direction(m) * max(direction(m) * means[row, m] for row in rows) for m in metrics if direction(m)}
    parity = any("parity" in result for result in every)
    quoted = [m for m in metrics if any(m in published[row].metrics for row in rows if row in published)]
    head = [""]
    for metric in metrics:
        head += [metric, *([f"{metric}, epoch picked on test"] if parity else [])]
        head += ["published", "Δ"] if metric in quoted else []
    body = []
    for row, runs in rows.items():
        cells = [Cell(row)]
        for m in metrics:
            mark = mark_of(differences.get(m, {}).get(row))
            cells.append(Cell(figure(values[row, m]), means[row, m] == best.get(m), mark))
            if parity:
                picked = [one.result["parity"][m] for one in runs if "parity" in one.result]
                cells.append(Cell(figure(picked) if picked else ""))
            if m in quoted:
                cells += _quotation(published.get(row), m, means[row, m])
        body.append([*cells, *_cost(runs)])
    first = every[0]
    title = f"{first['dataset']}, split {first['split']}, test"
    return Grid(title, [*head, *COST], body, _notes(rows, metrics, every, published, differences, against))


def _notes(
    rows: Mapping[str, Sequence[Finished]],
    metrics: Sequence[str],
    every: Sequence[Result],
    published: Mapping[str, Published],
    differences: Mapping[str, Mapping[str, Comparison]],
    against: str | None,
) -> list[str]:
    first, seeds = every[0], sorted({result["seed"] for result in every})
    spread = " ± standard deviation" if len(seeds) > 1 else ""
    notes = [
        f"Data {first['data_fingerprint'][:10]}: mean over seeds {', '.join(map(str, seeds))}{spread}. "
        "The epoch is chosen on validation.",
        f"Rows of {first['test_users']} users predicted; no row is of two parts."
        if metrics[0] in OF_CLICKS
        else f"{ranked(metrics[0])}; training and validation positives masked; {first['test_users']} users, "
        f"{first['skipped_users']} without test items left out.",
        *(f"{name}: {meaning}" for name, meaning in definitions(metrics).items()),
    ]
    if refitted := [row for row, runs in rows.items() if runs[0].result["refit"]]:
        notes.append(f"Fitted again on train and validation before the test: {', '.join(refitted)}.")
    for row in rows:
        if row in published:
            flag = "; its authors picked the epoch or the settings on the test set" if published[row].on_test else ""
            lost = "".join(f"; {m}, which is not measured here" for m in published[row].metrics if m not in metrics)
            notes.append(f"Published, {row}: {published[row].source}{flag}{lost}.")
    if differences:
        notes.append(f"{', '.join(f'{mark}: p < {p}' for p, mark in reversed(MARKS))} against {against} ({TESTS}).")
    if apart := unpaired(rows, against):
        notes.append(f"No seed in common with {against}, and not compared: {', '.join(apart)}.")
    if cut := [r["row"] for r in every if r["stopped"] == "max_epochs" and r["best_epoch"] == r["epochs"]]:
        notes.append(f"Best in the last epoch, so longer training may gain: {', '.join(dict.fromkeys(cut))}.")
    if uneven := {row: len(runs) for row, runs in rows.items() if len(runs) < len(seeds)}:
        notes.append(f"Fewer seeds than the others: {', '.join(f'{row} ({n})' for row, n in uneven.items())}.")
    if any(result["dirty"] for result in every):
        notes.append("Some runs are of code with uncommitted changes.")
    # Rows with components of different packages differ after the plus sign; seeds of a row must not.
    own = {result["code"].partition("+")[0] for result in every}
    if len(own) > 1 or any(len({one.result["code"] for one in runs}) > 1 for runs in rows.values()):
        notes.append("Not all runs are of the same code.")
    return notes


TESTS = "paired t-test over users, common seeds averaged first, Holm-corrected over rows"

COST = ("best epoch", "train s", "rank s", "peak MiB")


def _cost(runs: Sequence[Finished]) -> list[Cell]:
    keys = (("best_epoch", ".0f"), ("train_seconds", ".1f"), ("eval_seconds", ".2f"), ("peak_memory_mib", ".0f"))
    return [Cell(f"{statistics.mean(one.result[key] for one in runs):{digits}}") for key, digits in keys]


def _quotation(quoted: Published | None, metric: str, ours: float) -> list[Cell]:
    """The published value, and the relative difference of ours."""
    if quoted is None or metric not in quoted.metrics:
        return [Cell(""), Cell("")]
    value = quoted.metrics[metric]
    return [Cell(f"{value:.4f}{' (test)' if quoted.on_test else ''}"), Cell(f"{100 * (ours / value - 1):+.1f}%")]


def _differences(
    rows: Mapping[str, Sequence[Finished]], metrics: Sequence[str], against: str | None
) -> dict[str, dict[str, Comparison]]:
    """Metric -> row -> its comparison with `against`, for metrics with a direction and a value per user."""
    frames = {row: _paired(runs, rows[str(against)]) for row, runs in rows.items()}
    users = {row: frame["user"].to_numpy() for row, frame in frames.items()}
    found = {}
    for m in metrics:
        if not direction(m) or not all(m in frame.columns for frame in frames.values()):
            continue
        values = {row: frame[m].to_numpy() for row, frame in frames.items()}
        counts = {row: ~np.isnan(each) for row, each in values.items()}  # NaN: the metric is not defined for the user
        if any(each.sum() < 2 for each in counts.values()):  # a spread is of two users at least
            continue
        found[m] = compare(
            {row: each[counts[row]] for row, each in values.items()},
            str(against),
            users={row: users[row][counts[row]] for row in values},
        )
    return found


def _paired(runs: Sequence[Finished], others: Sequence[Finished]) -> pl.DataFrame:
    """`_per_user`; if only some seeds are common with `others`, such that the difference from theirs is of these."""
    mine, theirs = ({one.result["seed"] for one in each} for each in (runs, others))
    if mine == theirs:
        return _per_user(runs)
    own, base = (_per_user([one for one in each if one.result["seed"] in mine & theirs]) for each in (runs, others))
    every = _per_user(others)
    if not own["user"].equals(every["user"]):  # `compare` names the user
        return own
    return own.with_columns(every[m] + own[m] - base[m] for m in own.columns[1:] if m in every.columns)


def _per_user(runs: Sequence[Finished]) -> pl.DataFrame:
    """Each user's metrics, averaged over seeds."""
    frames = []
    for one in runs:
        with undamaged(one.folder / "per_user.parquet") as path:
            frames.append(pl.read_parquet(path, glob=False))
    for one, frame in zip(runs, frames, strict=True):
        if not frame["user"].equals(frames[0]["user"]):
            raise DataError(f"{one.folder}: ranked for other users than {runs[0].folder}")
    values = {m: np.mean([frame[m].to_numpy() for frame in frames], axis=0) for m in frames[0].columns if m != "user"}
    return pl.DataFrame({"user": frames[0]["user"], **values})


def _compared(differences: Mapping[str, Mapping[str, Comparison]], dataset: str, against: str) -> Grid:
    body = [
        [
            Cell(row if number == 0 else ""),
            Cell(metric),
            Cell(f"{found[row].difference:+.4f}", mark=mark_of(found[row])),
            Cell(f"{found[row].low:+.4f} to {found[row].high:+.4f}"),
            Cell(f"{found[row].corrected:.2g}"),
        ]
        for row in next(iter(differences.values()))
        for number, (metric, found) in enumerate(differences.items())
    ]
    notes = [f"Mean difference from {against} over users; bootstrap interval over users; p: {TESTS}."]
    if any(metric in OF_CLICKS for metric in differences):
        notes.append("Of clicks, a user's own figure over the user's rows; not over all rows, as above.")
    head = ["", "metric", "Δ", "95% interval", "p"]
    return Grid(f"{dataset}, differences from {against}", head, body, notes, differences)


def by_group(runs: Sequence[Finished], wanted: str = "") -> str:
    """The metric to show by group: of those that groups have the wanted one, the first NDCG or the first; "" if none.

    Args:
        runs: comparable runs.
        wanted: the metric that is best shown.
    """
    having = {metric for one in runs for found in one.result.get("groups", {}).values() for metric in found}
    known = [metric for metric in runs[0].result["test"] if metric in having]
    return next((m for m in known if m == wanted), next((m for m in known if m.startswith("ndcg")), (*known, "")[0]))


def _grouped(rows: Mapping[str, Sequence[Finished]], metric: str, dataset: str) -> Grid:
    groups = list(next(iter(rows.values()))[0].result["groups"])
    body = []
    for row, runs in rows.items():
        values = [[one.result["groups"][group].get(metric) for one in runs] for group in groups]
        body.append([Cell(row), *(Cell("" if None in v else f"{statistics.mean(v):.4f}") for v in values)])
    notes = ["Users by quartile of training interactions; items by popularity, others counted as not relevant."]
    return Grid(f"{dataset}, {metric} by group", ["", *groups], body, notes)
