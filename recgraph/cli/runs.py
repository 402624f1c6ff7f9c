"""Commands that run experiment files: train, table."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from recgraph.cli.common import (
    app,
    assignments,
    check_positive,
    console,
    errors,
    find_device,
    listed,
    say,
    seed_numbers,
    to_write_to,
)
from recgraph.environment import code_version
from recgraph.errors import ConfigError, RecgraphError
from recgraph.experiments.experiment import Run, plan
from recgraph.experiments.reading import read
from recgraph.experiments.running import Settings, execute
from recgraph.experiments.scheduling import LOCKED, Outcome, do, preview
from recgraph.experiments.toy import ToyTask, smoke
from recgraph.files import write_text
from recgraph.reporting import rendering, report, tables
from recgraph.training.weights_biases import log_table

RUNS = Path("runs")
Track = Literal["none", "offline", "online"]


@app.command
def train(
    file: Path,
    *overrides: str,
    rows: str = "",
    on: Annotated[str, Parameter(name="--datasets")] = "",
    seeds: str = "",
    device: str = "cpu",
    runs: Path = RUNS,
) -> None:
    """Train and test the runs of an experiment file, and print their results; `table` does more.

    Finished runs are not run again, and killed runs resume from their last checkpoint.

    Args:
        file: experiment file, such as experiments/ml100k.yaml.
        overrides: settings by dotted path, such as encoder.dim=32 train.lr=0.002 objectives.l2=null.
        rows: rows of the table, separated by commas; all by default.
        on: datasets, separated by commas; those of the file by default.
        seeds: seeds, separated by commas; those of the file by default.
        device: cpu, cuda, cuda:1 ...
        runs: folder of all runs.
    """
    planned = _planned(file, overrides, rows, on, seeds)
    to_write_to(runs, "--runs")
    outcomes = _do(planned, runs, Settings(find_device(device)), 1)
    say("\n" + rendering.markdown(tables.grids(_finished(outcomes))))
    _fail_if_any(outcomes)


@app.command(name=["table", "ablate"])
def table(
    file: Path,
    *overrides: str,
    rows: str = "",
    on: Annotated[str, Parameter(name="--datasets")] = "",
    seeds: str = "",
    workers: int = 1,
    dry_run: bool = False,
    smoke: bool = False,
    select: Literal["validation", "test"] = "validation",
    official: bool = False,
    any_code: bool = False,
    track: Track = "none",
    device: str = "cpu",
    runs: Path = RUNS,
    results: Path | None = None,
) -> None:
    """Run what is missing of a table or an ablation, and write it as CSV, Markdown, LaTeX and an HTML page with charts.

    A run that has a result for the same configuration, data and code is not run again, and a killed run resumes from
    its last checkpoint. What a finished run of any row has trained alike is not trained again: a new metric or blend
    costs no training, and at a constant rate a raised `max_epochs` goes on from the last epoch. A failed run does not
    stop the others: its traceback is in its folder, and the command ends with an error.

    Args:
        file: experiment file, such as experiments/ml100k.yaml.
        overrides: settings by dotted path, such as encoder.dim=32 train.lr=0.002 objectives.l2=null.
        rows: rows of the table, separated by commas; all by default.
        on: datasets, separated by commas; those of the file by default.
        seeds: seeds, separated by commas; those of the file by default.
        workers: number of parallel runs, which share the cores.
        dry_run: only list what would run, and the expected time, estimated from earlier runs.
        smoke: only check that each row runs: two epochs on a toy dataset; nothing is kept.
        select: with test, also evaluate on test at every validation, and add a column with the results of the epoch
            that is best there, for comparison with papers that choose it on test. These runs are stored separately.
        official: refuse to run code with uncommitted changes.
        any_code: accept existing results of other code versions.
        track: mirror runs and the table to Weights & Biases: offline writes to the runs' folders (`wandb sync` uploads
            them), online to the server. Without a key or a network, runs neither fail nor slow down.
        device: cpu, cuda, cuda:1 ...
        runs: folder of all runs.
        results: folder of the CSV, Markdown and LaTeX; by default `results` beside the file for a whole table, else
            the table's folder of runs, which is also where the table goes if a run failed. The HTML page is in the
            table's folder of runs: report.html of a whole table, else part.html.
    """
    check_positive({"--workers": workers})
    if select == "test":
        overrides = (*overrides, "evaluate.parity=true")
    planned = _planned(file, overrides, rows, on, seeds)
    settings = Settings(find_device(device), any_code, track)
    if smoke:
        _smoke(planned, settings)
        return
    if dry_run:
        _preview(planned, runs, settings, workers)
        return
    if official and code_version()[1] is not False:
        raise ConfigError("--official: the code has uncommitted changes, or is in no git checkout; commit them first")
    whole = not (overrides or rows or on or seeds)
    folder = results or (file.parent / "results" if whole else runs / file.stem)
    to_write_to(runs, "--runs")
    to_write_to(folder, "--results")
    outcomes = _do(planned, runs, settings, workers)
    finished, experiment = _finished(outcomes), read(file)
    grids = tables.grids(finished, published=experiment.published, against=experiment.against, marks=experiment.marks)
    text = rendering.markdown(grids)
    say("\n" + text)
    if len(finished) < len(outcomes):  # a table that lacks rows must not replace one that has them
        whole, folder = False, runs / file.stem
    if grids:
        tables.write_csv(folder / f"{file.stem}.csv", [one.result for one in finished])
        write_text(folder / f"{file.stem}.md", text + "\n")
        write_text(folder / f"{file.stem}.tex", rendering.latex(grids))
        page = runs / file.stem / ("report.html" if whole else "part.html")
        changes = assignments(overrides)
        write_text(page, report.write([report.collect(file, runs, changes, planned)]))
        say(f"\nWrote {folder / file.stem}.csv, .md and .tex, and {page}.")
        if track != "none":
            log_table(file.stem, folder / f"{file.stem}.csv", runs / file.stem, mode=track)
    _fail_if_any(outcomes)


def _planned(file: Path, overrides: Sequence[str], rows: str, on: str, seeds: str) -> list[Run]:
    changes = assignments(overrides)
    return plan(file, rows=listed(rows), datasets=listed(on), seeds=seed_numbers(seeds), overrides=changes)


def _do(planned: Sequence[Run], runs: Path, settings: Settings, workers: int) -> list[Outcome]:
    """Do runs, and print a line about each."""
    count = iter(range(1, len(planned) + 1))

    def tell(outcome: Outcome) -> None:
        name = f"[{next(count)}/{len(planned)}] {_name(outcome.run)}"
        if outcome.result is None:
            errors.print(f"{name}: {outcome.error} ({outcome.folder})", markup=False, style="red", soft_wrap=True)
        else:
            shown = " ".join(f"{name} {value:.4f}" for name, value in list(outcome.result["test"].items())[:4])
            say(f"{name}: {shown} ({outcome.folder})")

    return do(planned, runs, settings=settings, console=console, workers=workers, report=tell)


def _name(run: Run) -> str:
    return f"{run.row} · {run.dataset} · seed {run.seed}"


def _finished(outcomes: Sequence[Outcome]) -> list[tables.Finished]:
    return [tables.Finished(one.result, one.folder) for one in outcomes if one.result is not None]


def _fail_if_any(outcomes: Sequence[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.result is None]
    if failed:
        # The file in the folder of a locked run is an earlier attempt's.
        told = (
            path if one.error != LOCKED and (path := one.folder / "error.txt").exists() else one.error for one in failed
        )
        lines = "".join(f"\n  {_name(one.run)}: {why}" for one, why in zip(failed, told, strict=True))
        raise RecgraphError(f"{len(failed)} of {len(outcomes)} runs failed:{lines}")


def _smoke(planned: Sequence[Run], settings: Settings) -> None:
    """Run two epochs of each row on a toy dataset, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="recgraph-smoke-") as folder:
        for run in {run.row: run for run in planned}.values():
            task = ToyTask(settings.device, clicks="clicks" in run.config)
            execute(smoke(run), Path(folder), settings=Settings(settings.device), console=console, task=task)
            say(f"{run.row}: runs")


def _preview(planned: Sequence[Run], runs: Path, settings: Settings, workers: int) -> None:
    cells = preview(planned, runs, settings=settings)
    shown = Table("run", "state", "expected seconds")
    for cell in cells:
        shown.add_row(escape(_name(cell.run)), cell.state, "?" if cell.seconds is None else f"{cell.seconds:.0f}")
    console.print(shown)
    together = min(workers, max(1, sum(cell.seconds != 0 for cell in cells)))
    known = sum(cell.seconds or 0 for cell in cells) / together
    unknown = sum(cell.seconds is None for cell in cells)
    say(f"About {known / 60:.0f} minutes{f', and {unknown} runs of which nothing is known' if unknown else ''}.")
