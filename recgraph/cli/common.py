"""Shared code of all commands: the app, the terminal, and parsing of arguments."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
import yaml
from cyclopts import App
from rich.console import Console

from recgraph import __version__
from recgraph.errors import ConfigError, DataError, suggest
from recgraph.experiments.finished import config_of
from recgraph.training.weights_biases import flat

console, errors = Console(), Console(stderr=True)
app = App(name="recgraph", help="Graph and contrastive recommenders for research.", version=__version__)


def say(text: str) -> None:
    """Print text without markup or wrapping, so that tables survive a pipe."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def seed_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in listed(text)]
    except ValueError:
        raise ConfigError(f"--seeds: expected whole numbers separated by commas, got {text!r}") from None


def check_positive(numbers: Mapping[str, float | None]) -> None:
    """Refuse numbers of 0 or less, by option; None is one that is not given."""
    for option, number in numbers.items():
        if number is not None and not number > 0:
            raise ConfigError(f"{option}: expected a number above 0, got {number}")


def find_device(text: str) -> torch.device:
    try:
        device = torch.device(text)
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {text}: cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def to_write_to(folder: Path, option: str) -> None:
    """Make a folder if there is none, and refuse one that cannot be written to before hours of work for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"{option} {folder}: expected a folder that can be written to: {error.strerror}") from None


def assignment(text: str) -> tuple[str, Any]:
    address, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text}: expected PATH=VALUE, such as encoder.dim=32")
    try:
        return address, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"{address}: cannot read the value {value!r}") from None


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Overrides, by dotted path.

    Raises:
        ConfigError: one is no PATH=VALUE, or a path is given twice.
    """
    made: dict[str, Any] = {}
    for address, value in map(assignment, texts):
        if address in made:
            raise ConfigError(f"{address}: given twice, as {made[address]!r} and as {value!r}")
        made[address] = value
    return made


def one_run(arguments: Sequence[str]) -> None:
    """Refuse the folders of several runs, as a pattern of the shell may give, and tell what sets them apart.

    Raises:
        ConfigError: more than one argument is the folder of a finished run.
    """
    folders = [Path(one) for one in arguments if (Path(one) / "model.json").is_file()]
    if len(folders) < 2:
        return
    configs = [flat(config_of(one), ".") for one in folders]
    lines = []
    for folder, own in zip(folders, configs, strict=True):
        apart = [f"{key}: {value}" for key, value in own.items() if any(c.get(key, ...) != value for c in configs)]
        lines.append(f"  {folder}   {', '.join(apart[:5])}")
    raise ConfigError("\n".join([f"these are {len(folders)} runs; give one of them:", *lines]))


def read_newcomers(path: Path) -> pl.DataFrame:
    """Read a table of new items or users with a column `id`, csv or parquet; csv cells stay text, such as the tag 007.

    Raises:
        DataError: the file cannot be read, or has no column `id`.
    """
    try:
        text = path.read_bytes()  # polars would take brackets in a path for a pattern
        frame = pl.read_parquet(text) if path.suffix == ".parquet" else pl.read_csv(text, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{path}: cannot be read as {'parquet' if path.suffix == '.parquet' else 'csv'}: {error}"
        ) from error
    if "id" not in frame.columns:
        raise DataError(f"{path}: no column 'id'. {suggest('id', frame.columns)}")
    return frame
