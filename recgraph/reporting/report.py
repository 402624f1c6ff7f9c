"""A self-contained HTML page about tables: their results, provenance and charts."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recgraph import __version__
from recgraph.environment import code_digest
from recgraph.experiments.experiment import Run, plan
from recgraph.experiments.finished import config_of, read_result
from recgraph.experiments.reading import read
from recgraph.experiments.schema import Experiment
from recgraph.files import undamaged
from recgraph.registry import packages
from recgraph.reporting import page
from recgraph.reporting.cells import Cell, Grid
from recgraph.reporting.figures import figures
from recgraph.reporting.page import Section
from recgraph.reporting.tables import Finished, blocks, grids


@dataclass(frozen=True)
class Study:
    """The finished runs of a table, and what is missing.

    Attributes:
        file: the experiment file.
        experiment: the parsed file.
        overrides: dotted path -> value, applied to all rows.
        runs: finished runs with these settings, by row and dataset in the file's order.
        monitor: the metric monitored in training, which the charts show.
        missing: planned runs that are not finished, as "dataset, seeds 1, 2: row, row".
        others: number of finished runs with other settings.
    """

    file: Path
    experiment: Experiment
    overrides: Mapping[str, Any]
    runs: Sequence[Finished]
    monitor: str
    missing: Sequence[str]
    others: int


def collect(file: Path, root: Path, overrides: Mapping[str, Any] | None = None, planned: Sequence[Run] = ()) -> Study:
    """Find the finished runs of a table. Nothing is run, and results of other code versions are accepted.

    Args:
        file: the experiment file.
        root: folder of all runs.
        overrides: dotted path -> value; the overrides with which the runs were made.
        planned: the runs to look for; by default those of all rows, with all existing seeds.

    Raises:
        ConfigError: the file or an override is invalid.
    """
    wanted = {run.folder(root) for run in planned}
    experiment, planned = read(file), planned or plan(file, overrides=overrides)
    parents = dict.fromkeys(run.folder(root).parent for run in planned)
    folders = [folder for parent in parents for folder in _seeds(parent) if not wanted or folder in wanted]
    runs = [Finished(read_result(folder), folder) for folder in folders]
    there = {(one.result["row"], one.result["dataset"], one.result["seed"]) for one in runs}
    missing = _missing(run for run in planned if (run.row, run.dataset, run.seed) not in there)
    everything = {path.parent.parent for path in (root / file.stem).rglob("seed-*/result.json")}
    others = sum(len(_seeds(parent)) for parent in everything - parents.keys())
    return Study(file, experiment, overrides or {}, runs, _monitor(planned), missing, others)


def _missing(runs: Iterable[Run]) -> list[str]:
    seeds: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        seeds.setdefault((run.dataset, run.row), []).append(str(run.seed))
    rows: dict[tuple[str, str], list[str]] = {}
    for (dataset, row), several in seeds.items():
        rows.setdefault((dataset, ", ".join(several)), []).append(row)
    return [f"{dataset}, seeds {several}: {', '.join(names)}" for (dataset, several), names in rows.items()]


def write(studies: Sequence[Study]) -> str:
    """The page as HTML."""
    styles: dict[str, int] = {}
    for study in studies:
        for one in study.runs:
            styles.setdefault(one.result["row"], len(styles))
    now = datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC")
    sections = [Section(study.file.stem, _section(study, styles)) for study in studies]
    return page.page("Report", f"Made by recgraph {__version__}, {now}.", sections)


def _section(study: Study, styles: Mapping[str, int]) -> str:
    text = study.file.read_text(encoding="utf-8")
    parts = [page.paragraph(_comment(text))]
    parts.append(page.paragraph(f"Settings from: {study.experiment.source}" if study.experiment.source else "", "soft"))
    changed = ", ".join(f"{address}={json.dumps(value)}" for address, value in study.overrides.items())
    parts.append(page.paragraph(f"Changed in every row: {changed}." if changed else "", "warn"))
    parts += [page.paragraph(line, "warn") for line in _doubts(study)]
    for (dataset, *_), runs in blocks(study.runs).items():
        parts.append(f"<h3>{page.escape(dataset)}</h3>")
        told = study.experiment
        found = grids(runs, published=told.published, against=told.against, marks=told.marks)
        main, *others = [page.table(grid, styles) for grid in found]
        parts += [main, page.figures(figures(runs, found, study.monitor, styles)), *others]
    parts.append("<h3>Where the figures come from</h3>")
    parts.append(page.table(_provenance(study.runs), {}))
    parts.append(page.folded(f"Settings: {study.file.name}", text))
    return "".join(parts)


def _doubts(study: Study) -> list[str]:
    """Caveats that a reader must know before the results."""
    lines = []
    if study.missing:
        lines.append(f"Not finished: {'; '.join(study.missing)}.")
    if study.others:
        lines.append(f"Left out: {study.others} finished runs of other settings than these.")
    if stale := sum(one.result["code"] != code_digest(packages(config_of(one.folder))) for one in study.runs):
        lines.append(f"Of other code than made this page ({code_digest()}): {stale} of {len(study.runs)} runs.")
    return lines


def _provenance(runs: Sequence[Finished]) -> Grid:
    """A table of the code, packages and machines that runs used, and when, with a row for each combination."""
    kinds: dict[tuple[str, ...], list[float]] = {}
    for one in runs:
        result = one.result
        with undamaged(one.folder / "env.json") as path:
            machine = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        dirty = {True: ", with uncommitted changes", False: "", None: ""}[result["dirty"]]
        processor = f"{machine.get('processor', 'unknown')}, {machine.get('threads', '?')} threads"
        packages = machine.get("packages", {})
        kind = (
            f"{(result['commit'] or 'none')[:10]}{dirty}",
            result["device"],
            processor,
            *(str(packages.get(name, "")) for name in ("torch", "numpy")),
        )
        kinds.setdefault((result["code"], *kind), []).append((one.folder / "result.json").stat().st_mtime)
    body = [[*kind, str(len(times)), f"{_when(min(times))} to {_when(max(times))}"] for kind, times in kinds.items()]
    head = ("code", "commit", "device", "processor", "torch", "numpy", "runs", "finished (UTC, by their files)")
    return Grid("Runs by code and machine", head, [[Cell(text) for text in line] for line in body])


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _seeds(parent: Path) -> list[Path]:
    """Folders of finished runs of one configuration, by seed, without results that were moved aside."""
    folders = {path.parent.name.removeprefix("seed-"): path.parent for path in parent.glob("seed-*/result.json")}
    return [folders[seed] for seed in sorted((s for s in folders if "." not in s), key=int)]


def _monitor(planned: Sequence[Run]) -> str:
    """The metric that most runs monitor; if none is trained, the first NDCG, or else the first metric."""
    watched = [run.config["train"]["monitor"] for run in planned if "train" in run.config]
    names: list[str] = planned[0].config["evaluate"]["metrics"]
    return statistics.mode(watched or [next((name for name in names if name.startswith("ndcg")), names[0])])


def _comment(text: str) -> str:
    """The comment at the top of an experiment file."""
    lines = text.splitlines()
    count = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.removeprefix("#").strip() for line in lines[:count])
