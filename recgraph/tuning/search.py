"""The search spaces of `recgraph tune`: the `search:` block of an experiment file, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgraph.data import cards
from recgraph.environment import code_digest
from recgraph.errors import ConfigError, suggest
from recgraph.evaluation import metrics
from recgraph.experiments.experiment import Run, complete, plan
from recgraph.experiments.reading import read, validate
from recgraph.experiments.schema import Experiment, RunConfig, folder_name
from recgraph.experiments.spaces import Range
from recgraph.files import digest
from recgraph.registry import packages

if TYPE_CHECKING:
    import optuna

FIXED = ("split", "clicks", "evaluate", "refit", "train.monitor")
"""Paths that cannot be searched: trials must be compared by one metric on one validation part."""


@dataclass(frozen=True)
class Search:
    """The search for one row on one dataset.

    Attributes:
        experiment, path: the experiment file, parsed, and its path.
        run: the row as given in the file; its seed is used for all trials and for the sampler.
    """

    experiment: Experiment
    path: Path
    run: Run

    @property
    def space(self) -> dict[str, list[Any] | Range]:
        """Dotted path -> values or range."""
        return self.experiment.search[self.run.row]

    @property
    def monitor(self) -> str:
        """The validation metric to maximise: the row's; for a baseline, which has no training, the base's."""
        if "baseline" in self.run.config:
            config: RunConfig = validate(RunConfig, self.experiment.base, f"{self.path}: base")
            return config.train.monitor
        return str(self.run.config["train"]["monitor"])

    def folder(self, root: Path) -> Path:
        """The folder of the results below `root`."""
        return root / self.run.table / folder_name(self.run.row) / self.run.dataset

    def study(self, fingerprint: str) -> str:
        """The study's name, which changes with the row's settings, the space, the metric, seed, data and code.

        Args:
            fingerprint: of the data that the row reads (`Task.trained_on`).
        """
        space = {
            address: values.model_dump() if isinstance(values, Range) else values
            for address, values in self.space.items()
        }
        named = [{"name": value} for values in space.values() for value in values if isinstance(value, str)]
        code = code_digest(packages([self.run.config, *space.values(), named]))
        same = [self.run.config, space, self.monitor, self.run.seed, fingerprint, code]
        return f"{self.run.table}/{self.run.row}/{self.run.dataset}/{digest(same)}"

    def draw(self, trial: optuna.Trial) -> None:
        """Sample a value for each path; values that the trial already has are kept.

        For a list, the index is sampled, since its values may be anything, such as components or null.
        """
        for address, values in self.space.items():
            if not isinstance(values, Range):
                trial.suggest_categorical(address, range(len(values)))
            elif values.int is not None:
                trial.suggest_int(address, *values.int)
            elif values.log is not None:
                trial.suggest_float(address, *values.log, log=True)
            elif values.uniform is not None:
                trial.suggest_float(address, *values.uniform)

    def overrides(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Dotted path -> value sampled by a trial, in the file's order, since the order of overrides matters."""
        return {
            address: chosen[address] if isinstance(values, Range) else values[chosen[address]]
            for address, values in self.space.items()
            if address in chosen
        }

    def at(self, overrides: Mapping[str, Any]) -> Run:
        """The row with these settings."""
        card = cards.find(self.run.dataset)
        config = complete(self.experiment, self.run.row, overrides, card, self.path)
        # Parity would rank for test, and is not needed to choose settings.
        return replace(self.run, config=config | {"evaluate": config["evaluate"] | {"parity": False}})


def searches(path: Path, *, rows: Iterable[str] = (), datasets: Iterable[str] = (), seed: int = 0) -> list[Search]:
    """All searches of an experiment file, or the selected ones; one for each row and dataset.

    Raises:
        ConfigError: anything is misspelt or does not fit, or a selected row has no search space.
    """
    experiment = read(path)
    chosen = list(rows) or list(experiment.search)
    if not experiment.search:
        raise ConfigError(f"{path}: there is no `search:` block, so there is nothing to tune")
    for row in chosen:
        if row in experiment.rows and not experiment.search.get(row):
            others = [name for name, space in experiment.search.items() if space]
            raise ConfigError(f"{path}: search: nothing to try for row {row!r}. {suggest(row, others)}")
    found = [Search(experiment, path, run) for run in plan(path, rows=chosen, datasets=datasets, seeds=[seed])]
    for search in found:
        where = f"{path}: search.{search.run.row}"
        if search.run.sources:
            before = ", ".join(source.row for source in search.run.sources.values())
            raise ConfigError(
                f"{where}: the row begins with {before}, which its settings would change; search for those"
            )
        for address in search.space:
            if address == "train" or any(f"{address}.".startswith(f"{fixed}.") for fixed in FIXED):
                raise ConfigError(f"{where}: {address} cannot be searched, for it says how trials are compared")
        if search.monitor not in (measured := search.run.config["evaluate"]["metrics"]):
            raise ConfigError(
                f"{where}: base.train.monitor: {search.monitor!r} is not among the row's evaluate.metrics. "
                f"{suggest(search.monitor, measured)}"
            )
        if metrics.direction(search.monitor) != 1:
            raise ConfigError(f"{where}: base.train.monitor: of {search.monitor!r}, more is not better")
    return found
