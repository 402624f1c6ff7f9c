"""Turns an experiment file into runs with complete, validated configurations."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from recgraph import registry
from recgraph.data import cards
from recgraph.data.cards import Card
from recgraph.data.content import check_columns
from recgraph.data.features import Kind, Side, kinds
from recgraph.data.label_settings import LabelSettings, check_labels
from recgraph.data.modalities import ModalitySettings
from recgraph.errors import ConfigError, suggest
from recgraph.evaluation.metrics import num_sampled, sampled
from recgraph.experiments import pretraining
from recgraph.experiments.checking import check
from recgraph.experiments.reading import read, validate
from recgraph.experiments.relations import RelationSettings, check_relations
from recgraph.experiments.schema import Experiment, RunConfig, folder_name
from recgraph.experiments.spaces import Range
from recgraph.files import digest

RECIPE = (
    *("encoder", "relations", "sharing", "heads", "objectives", "balance", "negatives", "sequences", "train"),
    *("blend", "pretrained"),
)
"""Blocks of a run that do not apply to baselines."""

NAMED = ("content", "labels", "relations")
"""Blocks with entries by name, each for the components that read it."""


@dataclass(frozen=True)
class Run:
    """One cell of a table: a row's configuration on a dataset with a seed."""

    table: str
    row: str
    dataset: str
    seed: int
    config: dict[str, Any]

    @property
    def config_hash(self) -> str:
        """Ten hex digits that identify the complete configuration, defaults included."""
        return digest(self.config)

    @property
    def sources(self) -> dict[str, Run]:
        """Part -> the run that initialises it, with the same dataset and seed; empty if nothing is pretrained."""
        found = self.config.get("pretrained", {})
        return {part: replace(self, row=source["row"], config=source["config"]) for part, source in found.items()}

    def folder(self, root: Path) -> Path:
        """The run's folder below `root`."""
        return root / self.table / folder_name(self.row) / self.dataset / self.config_hash / f"seed-{self.seed}"


def plan(
    path: Path,
    *,
    rows: Iterable[str] = (),
    datasets: Iterable[str] = (),
    seeds: Iterable[int] = (),
    overrides: Mapping[str, Any] | None = None,
) -> list[Run]:
    """All runs of an experiment file, or the selected ones, with complete configurations.

    Every row of the file is validated, including those that are not selected.

    Args:
        path: the experiment file; its stem names the table.
        rows, datasets, seeds: keep only these; empty for all. Datasets and seeds need not be in the file.
        overrides: dotted path -> value, applied to the selected rows after their own. Overrides of training do not
            apply to baselines, unless only baselines are selected.

    Raises:
        ConfigError: an entry is misspelt or incompatible; the message has its path and the nearest valid name.
    """
    experiment = read(path)
    chosen_cards = [_card(name, path) for name in dict.fromkeys(datasets) or experiment.datasets]
    own = {row: complete(experiment, row, {}, chosen_cards[0], path) for row in experiment.rows}
    _check_published(experiment, own, path)
    _refuse_twins(own if experiment.ablate else {}, f"{path}: ablate")
    baselines = {row for row, config in own.items() if "baseline" in config}
    for row, space in experiment.search.items():
        tried = [{address: value} for address, values in space.items() for value in samples(values)]
        searched = [resolve(experiment, row, change, chosen_cards[0], path) for change in tried]
        _refuse_idle(space, searched, f"{path}: search.{row}")
    chosen = dict.fromkeys(rows) or experiment.rows
    for row in chosen:
        if row not in experiment.rows:
            raise ConfigError(f"{path}: no row {row!r}. {suggest(row, experiment.rows)}")
    everywhere = dict(overrides or {})
    for_baselines = everywhere
    if not baselines.issuperset(chosen):
        for_baselines = {address: value for address, value in everywhere.items() if not _of_training(address)}
    runs = [
        Run(path.stem, row, card.name, seed, _on(config, card, f"{path}: rows.{row}"))
        for card in chosen_cards
        for row in chosen
        for config in [complete(experiment, row, for_baselines if row in baselines else everywhere, card, path)]
        for seed in dict.fromkeys(seeds) or experiment.seeds
    ]
    changed = {run.row: run.config for run in runs}
    _refuse_twins(changed if experiment.ablate else {}, f"{path}: ablate, with these overrides")
    _refuse_idle(experiment.base, [*own.values(), *changed.values()], f"{path}: base")
    for row, changes in experiment.rows.items():
        _refuse_idle(changes, [own[row], changed.get(row, own[row])], f"{path}: rows.{row}")
    _refuse_idle(everywhere, changed.values(), str(path))
    return runs


def samples(space: Sequence[Any] | Range) -> list[Any]:
    """Values that represent a search space: all of a list, both ends of a range, and a point inside if it has any."""
    if not isinstance(space, Range):
        return list(space)
    share = (5**0.5 - 1) / 2  # irrational: between whole ends it is no whole number, which some options want
    if space.uniform is not None:
        low, high = space.uniform
        return [low, high, low + share * (high - low)]
    if space.log is not None:
        low, high = space.log
        return [low, high, low * (high / low) ** share]
    return list(space.int or ())


def resolve(experiment: Experiment, row: str, overrides: Mapping[str, Any], card: Card, path: Path) -> dict[str, Any]:
    """The complete configuration of a row: base, then the row's overrides, then `overrides`; defaults filled in."""
    where = f"{path}: rows.{row}"
    tree = validate(RunConfig, experiment.base, f"{path}: base").model_dump()
    for changes in (experiment.rows[row], overrides):
        _refuse_lost(changes, where)
        for address, value in changes.items():
            override(tree, address, value, where)
    config = validate(RunConfig, tree, where)
    if config.baseline is not None:
        for address in (*experiment.rows[row], *overrides):
            if _of_training(address):
                raise ConfigError(f"{where}: {address} does nothing here, for the row is a baseline")
    return check(config, card, where)


def complete(experiment: Experiment, row: str, overrides: Mapping[str, Any], card: Card, path: Path) -> dict[str, Any]:
    """`resolve`, with row names in `pretrained` replaced by their configurations."""
    config = resolve(experiment, row, overrides, card, path)
    if "pretrained" in config:
        config["pretrained"] = pretraining.sources(
            config,
            experiment.rows,
            lambda name: resolve(experiment, name, overrides, card, path),
            f"{path}: rows.{row}",
        )
    return config


OPTIONS = {"seed": "--seeds", "seeds": "--seeds", "rows": "--rows", "datasets": "--datasets", "device": "--device"}
"""What an override of a run would not find, and the option of the command that sets it."""


def override(tree: dict[str, Any], address: str, value: Any, where: str) -> None:
    """Set the node at a dotted path, in place.

    Raises:
        ConfigError: a part of the path does not exist; the message suggests the nearest name.
    """
    *parents, leaf = address.split(".")
    node: dict[str, Any] = tree
    for key in parents:
        if key not in node:
            unset = f" Of an option that is not set yet, set the whole: {key}={{...}}" if "name" in node else ""
            raise ConfigError(f"{where}: {address}: no {key!r} here. {suggest(key, node)}{unset}")
        if isinstance(node[key], str):  # a component given by its name alone
            node[key] = {"name": node[key]}
        elif node[key] is None:
            node[key] = {}
        if not isinstance(node[key], dict):
            raise ConfigError(f"{where}: {address}: {key!r} is {node[key]!r} and has no parts")
        node = node[key]
    optional = parents in (["objectives"], ["heads"], ["content"], ["labels"], ["relations"])
    if node is tree and leaf in OPTIONS:
        raise ConfigError(f"{where}: {address}: a setting of the command, not of a run: give {OPTIONS[leaf]}")
    if node is tree and leaf not in node:
        raise ConfigError(f"{where}: {address}: no {leaf!r} here. {suggest(leaf, node)}")
    if optional and value is None:
        if leaf not in node:
            raise ConfigError(f"{where}: {address}: no {leaf!r} here. {suggest(leaf, node)}")
        del node[leaf]
    else:
        node[leaf] = copy.deepcopy(value)


def _on(config: dict[str, Any], card: Card, where: str) -> dict[str, Any]:
    """Check that the dataset has the attributes, columns and candidates that a configuration reads, and return it."""
    files = next(iter(card.forms.values())).features
    content = {name: ModalitySettings(**entry) for name, entry in config.get("content", {}).items()}
    labels = {name: LabelSettings(**entry) for name, entry in config.get("labels", {}).items()}
    try:
        known: dict[Side, dict[str, Kind]] = {"item": kinds("item", files), "user": kinds("user", files)}
        check_columns(content, known)
        check_relations({name: RelationSettings(**one) for name, one in config.get("relations", {}).items()}, known)
        check_labels(labels, known, card.columns)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if "clicks" in config:
        columns = next(iter(card.forms.values())).interactions[0].read.columns
        for address, column in (("clicks.column", config["clicks"]["column"]), ("encoder.context", "time")):
            if column not in columns and (address == "clicks.column" or config["encoder"].get("context")):
                raise ConfigError(
                    f"{where}: {address}: the interactions of dataset {card.name!r} have no column {column!r}. "
                    f"{suggest(column, columns)}"
                )
    if config["evaluate"]["sampled"] and not card.has_candidates(config["split"]["name"]):
        having = [other.name for other in cards.every() if other.has_candidates("official")]
        raise ConfigError(
            f"{where}: evaluate.sampled: dataset {card.name!r} has no stored candidates for its split "
            f"{config['split']['name']!r}; those with candidates for their official split: {', '.join(having)}"
        )
    return config


def _check_published(experiment: Experiment, configs: Mapping[str, dict[str, Any]], path: Path) -> None:
    """Reject published figures and marks of metrics that are not measured, for a table would leave them out."""
    every = {metric for config in configs.values() for metric in config["evaluate"]["metrics"]}
    for dataset, marks in experiment.marks.items():
        for metric in marks.keys() - every:
            raise ConfigError(f"{path}: marks.{dataset}: no row measures {metric!r}. {suggest(metric, every)}")
    for dataset, rows in experiment.published.items():
        for row, quoted in rows.items():
            evaluate = configs[row]["evaluate"]
            for metric in quoted.metrics:
                # The number of negatives is known once the candidates are read; NCF's, for a name without one.
                negatives = num_sampled(metric) or 99
                measured = [sampled(m, negatives) if evaluate["sampled"] else m for m in evaluate["metrics"]]
                if metric not in measured:
                    raise ConfigError(
                        f"{path}: published.{dataset}.{row}.metrics: the row does not measure {metric!r}. "
                        f"{suggest(metric, measured)}"
                    )


def _refuse_twins(configs: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Reject rows of one configuration, which would be trained twice and counted as two in corrections of p."""
    for one, other in combinations(configs, 2):
        if configs[one] == configs[other]:
            raise ConfigError(f"{where}: the row {other!r} is the same as {one!r}; take one out")


def _refuse_lost(changes: Mapping[str, Any], where: str) -> None:
    """Reject an override of a part of something that a later override replaces."""
    addresses = list(changes)
    for number, address in enumerate(addresses):
        for later in addresses[number + 1 :]:
            if address.startswith(f"{later}."):
                raise ConfigError(f"{where}: {address} is lost, for {later} after it replaces the whole")


def _refuse_idle(changes: Mapping[str, Any], configs: Iterable[Mapping[str, Any]], where: str) -> None:
    """Reject settings of blocks that only some components read, if these configurations have none of those."""
    given = set()  # blocks, or entries as labels.gender
    for address, value in changes.items():
        block, *names = address.split(".")
        if block in NAMED and value is not None:
            given |= {f"{block}.{name}" for name in names[:1] or value}
        elif block in ("negatives", "sequences"):
            given.add(block)
    if idle := given.difference(*map(_used, configs)):
        raise ConfigError(f"{where}: {min(idle)} does nothing here, for nothing reads it; take it out")


def _used(config: Mapping[str, Any]) -> set[str]:
    """The blocks, of those that only some components read, that a complete configuration does; entries by name."""
    found = {f"{block}.{name}" for block in NAMED for name in config.get(block, {})} | {"sequences"} & config.keys()
    needs = (registry.objectives.find(spec["name"]).needs for spec in config.get("objectives", {}).values())
    return found | {"negatives"} & set().union(*needs)


def _of_training(address: str) -> bool:
    return address.split(".")[0] in RECIPE


def _card(name: str, path: Path) -> Card:
    try:
        return cards.find(name)
    except ConfigError as error:
        raise ConfigError(f"{path}: datasets: {error}") from None
