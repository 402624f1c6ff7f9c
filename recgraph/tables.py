"""From results to a tidy CSV and a table people can read."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from tabulate import tabulate

from recgraph.evaluation.metrics import PER_USER, definitions, parse
from recgraph.files import write_text

Result = dict[str, Any]
"""The content of a run's `result.json`."""

ABOUT = (
    *("epochs", "best_epoch", "train_seconds", "eval_seconds", "peak_memory_mib", "device"),
    *("commit", "dirty", "config_hash", "data_fingerprint"),
)
"""What a tidy row says of its run, beside what it measured."""


def tidy(results: Sequence[Result]) -> pl.DataFrame:
    """One row per run, part and metric, with what is needed to judge and repeat it."""
    return pl.DataFrame(
        [
            {key: result[key] for key in ("table", "row", "dataset", "seed")}
            | {"split": result["split"], "part": part, "group": "all", "metric": metric, "value": value}
            | {key: result[key] for key in ABOUT}
            for result in results
            for part in ("validation", "test")
            for metric, value in result[part].items()
        ],
        infer_schema_length=None,
    )


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write the tidy table, atomically."""
    write_text(path, tidy(results).write_csv())


def markdown(results: Sequence[Result]) -> str:
    """Mean ± sd over seeds on test, the best in bold, and below it what the numbers mean.

    Only what can be compared shares a table: the same data in the same split, by the same metrics.
    """
    blocks: dict[Any, list[Result]] = {}
    for result in results:
        key = (result["dataset"], result["data_fingerprint"], tuple(result["test"]))
        blocks.setdefault(key, []).append(result)
    return "\n\n".join(map(_block, blocks.values()))


def _block(results: Sequence[Result]) -> str:
    metrics = list(results[0]["test"])
    names = dict.fromkeys(result["row"] for result in results)
    rows = {name: [result for result in results if result["row"] == name] for name in names}
    means = {name: {m: statistics.mean(run["test"][m] for run in runs) for m in metrics} for name, runs in rows.items()}
    best = {m: max(mean[m] for mean in means.values()) for m in metrics if parse(m)[0] in PER_USER}
    body = [
        [name, *(_cell(runs, m, means[name][m] == best.get(m)) for m in metrics), *_cost(runs)]
        for name, runs in rows.items()
    ]
    head = ["", *metrics, "best epoch", "train s", "rank s"]
    table = tabulate(
        body, head, tablefmt="github", disable_numparse=True, colalign=["left", *["right"] * (len(head) - 1)]
    )
    first = results[0]
    seeds = sorted({result["seed"] for result in results})
    notes = [
        f"Test of {first['dataset']}, split {first['split']} (data {first['data_fingerprint'][:10]}): mean over seeds "
        f"{', '.join(map(str, seeds))}{' ± standard deviation' if len(seeds) > 1 else ''}. "
        "The epoch is chosen on validation.",
        f"Whole catalogue ranked; training and validation positives masked; {first['test_users']} users, "
        f"{first['skipped_users']} without test items left out.",
        *(f"{name}: {meaning}" for name, meaning in definitions(metrics).items()),
    ]
    flagged = [name for name, runs in rows.items() if any(_cut_short(run) for run in runs)]
    if flagged:
        notes.append(f"Best in the last epoch, so longer training may gain: {', '.join(flagged)}.")
    return table + "\n\n" + "\n".join(notes)


def _cut_short(result: Result) -> bool:
    return result["stopped"] == "max_epochs" and result["best_epoch"] == result["epochs"]


def _cell(runs: Sequence[Result], metric: str, best: bool) -> str:
    values = [run["test"][metric] for run in runs]
    text = f"{statistics.mean(values):.4f}"
    text = f"**{text}**" if best else text
    return f"{text} ± {statistics.stdev(values):.4f}" if len(values) > 1 else text


def _cost(runs: Sequence[Result]) -> list[str]:
    return [
        f"{statistics.mean(run['best_epoch'] for run in runs):.0f}",
        f"{statistics.mean(run['train_seconds'] for run in runs):.1f}",
        f"{statistics.mean(run['eval_seconds'] for run in runs):.2f}",
    ]
