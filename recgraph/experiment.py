"""Experiment files: a table of runs as one YAML tree, where every hyper-parameter has one dotted address.

source: https://...                     where the settings come from
datasets: [ml-100k]
seeds: [0, 1, 2]
base: {encoder: lightgcn, ...}          a run, see `RunConfig`
rows:                                   row = base + overrides by dotted path
  LightGCN: {}
  two layers: {encoder.num_layers: 2}
  no L2: {objectives.l2: null}          null takes an objective or head out
  popularity: {baseline: popularity}    a baseline takes the place of encoder, heads, objectives and training
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from recgraph import registry
from recgraph.data import cards
from recgraph.data.cards import Card
from recgraph.errors import ConfigError, suggest
from recgraph.evaluation import metrics
from recgraph.files import digest
from recgraph.training.trainer import TrainSettings

Spec = str | dict[str, Any]
"""A component: its name, or a mapping with `name` and its keyword arguments."""

RECIPE = ("encoder", "heads", "objectives", "negatives", "train")
"""Parts of a run that a baseline has none of."""


class EvaluateSettings(BaseModel):
    """The `evaluate:` block."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: tuple[str, ...] = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            metrics.parse(name)
        return value


class RunConfig(BaseModel):
    """One run: what is built, how it is trained, how it is measured."""

    model_config = ConfigDict(extra="forbid")

    split: Spec | None = None
    """null for the dataset card's own split; takes a `seed`, which is not the run's: all seeds share one split."""
    encoder: Spec | None = None
    heads: dict[str, Spec] = {"rank": "dot"}
    objectives: dict[str, Spec] = {}
    """Each takes a `weight` (1 by default) beside its own arguments."""
    negatives: Spec = "uniform"
    baseline: Spec | None = None
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()


class Experiment(BaseModel):
    """An experiment file."""

    model_config = ConfigDict(extra="forbid")

    source: str = ""
    datasets: list[str] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    base: dict[str, Any] = {}
    rows: dict[str, dict[str, Any]] = Field(min_length=1)

    @field_validator("rows")
    @classmethod
    def _can_be_listed(cls, value: dict[str, Any]) -> dict[str, Any]:
        for row in value:
            if "," in row:
                raise ValueError(f"the row name {row!r} holds a comma, which separates rows on the command line")
        return value


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

    def folder(self, root: Path) -> Path:
        """Where the run lives below `root`."""
        row = self.row.replace("/", "_").replace(" ", "_")
        return root / self.table / row / self.dataset / self.config_hash / f"seed-{self.seed}"


def read(path: Path) -> Experiment:
    """Read and validate the outline of an experiment file; `plan` validates its rows.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key, or does not fit the schema.
    """
    if not path.is_file():
        others = [str(other) for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise ConfigError(f"no experiment file {path}. {suggest(str(path), others)}")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    return _validate(Experiment, tree, str(path))


def plan(
    path: Path,
    *,
    rows: Iterable[str] = (),
    datasets: Iterable[str] = (),
    seeds: Iterable[int] = (),
    overrides: Mapping[str, Any] | None = None,
) -> list[Run]:
    """All runs of an experiment file, or the selected ones, with complete configurations.

    Every row of the file is checked, also those that are not selected.

    Args:
        path: the experiment file; its stem names the table.
        rows, datasets, seeds: keep only these; empty for all. Other datasets and seeds than the file's may be named.
        overrides: dotted path -> value, applied to the selected rows after their own.

    Raises:
        ConfigError: anything is misspelt or does not fit, with its path and the nearest valid name.
    """
    experiment = read(path)
    chosen_cards = [_card(name, path) for name in list(datasets) or experiment.datasets]
    for row in experiment.rows:
        resolve(experiment, row, {}, chosen_cards[0], path)
    chosen = list(rows) or list(experiment.rows)
    for row in chosen:
        if row not in experiment.rows:
            raise ConfigError(f"{path}: no row {row!r}. {suggest(row, experiment.rows)}")
    return [
        Run(path.stem, row, card.name, seed, config)
        for card in chosen_cards
        for row in chosen
        for config in [resolve(experiment, row, overrides or {}, card, path)]
        for seed in list(seeds) or experiment.seeds
    ]


def resolve(experiment: Experiment, row: str, overrides: Mapping[str, Any], card: Card, path: Path) -> dict[str, Any]:
    """The complete configuration of a row: base, then the row's overrides, then `overrides`; defaults filled in."""
    where = f"{path}: rows.{row}"
    tree = _validate(RunConfig, experiment.base, f"{path}: base").model_dump()
    changes = {**experiment.rows[row], **overrides}
    for address, value in changes.items():
        override(tree, address, value, where)
    config = _validate(RunConfig, tree, where)
    if config.baseline is not None:
        for address in changes:
            if address.split(".")[0] in RECIPE:
                raise ConfigError(f"{where}: {address} does nothing here, for the row is a baseline")
    return _check(config, card, where)


def override(tree: dict[str, Any], address: str, value: Any, where: str) -> None:
    """Set the node at a dotted path, in place.

    Raises:
        ConfigError: a part of the path leads nowhere; the message suggests the nearest.
    """
    *parents, leaf = address.split(".")
    node: dict[str, Any] = tree
    for key in parents:
        if key not in node:
            raise ConfigError(f"{where}: {address}: no {key!r} here. {suggest(key, node)}")
        if isinstance(node[key], str):  # a component given by its name alone
            node[key] = {"name": node[key]}
        if not isinstance(node[key], dict):
            raise ConfigError(f"{where}: {address}: {key!r} is {node[key]!r} and has no parts")
        node = node[key]
    optional = parents in (["objectives"], ["heads"])
    if node is tree and leaf not in node:
        raise ConfigError(f"{where}: {address}: no {leaf!r} here. {suggest(leaf, node)}")
    if optional and value is None:
        if leaf not in node:
            raise ConfigError(f"{where}: {address}: no {leaf!r} here. {suggest(leaf, node)}")
        del node[leaf]
    else:
        node[leaf] = copy.deepcopy(value)


def _check(config: RunConfig, card: Card, where: str) -> dict[str, Any]:
    """Validate components against their signatures and against each other."""
    known = list(config.evaluate.metrics)
    checked: dict[str, Any] = {"evaluate": {"metrics": known}, "split": _check_split(config.split, card, where)}
    if config.baseline is not None:
        return checked | {"baseline": registry.baselines.check(config.baseline, f"{where}: baseline")}
    if config.encoder is None:
        raise ConfigError(f"{where}: set either `encoder` or `baseline`")
    if config.train.monitor not in known:
        raise ConfigError(
            f"{where}: train.monitor: {config.train.monitor!r} is not among evaluate.metrics. "
            f"{suggest(config.train.monitor, known)}"
        )
    if not config.objectives:
        raise ConfigError(f"{where}: objectives: at least one is needed")
    if "rank" not in config.heads:
        raise ConfigError(f"{where}: heads: one must be called 'rank'; it ranks the catalogue")
    objectives = {
        role: _check_objective(spec, f"{where}: objectives.{role}") for role, spec in config.objectives.items()
    }
    for role, spec in objectives.items():
        head = spec.get("head", "rank")
        if head not in config.heads:
            raise ConfigError(f"{where}: objectives.{role}.head: no head {head!r}. {suggest(head, config.heads)}")
    return checked | {
        "encoder": registry.encoders.check(config.encoder, f"{where}: encoder"),
        "heads": {name: registry.heads.check(spec, f"{where}: heads.{name}") for name, spec in config.heads.items()},
        "objectives": objectives,
        "negatives": registry.samplers.check(config.negatives, f"{where}: negatives"),
        "train": config.train.model_dump(),
    }


def _check_objective(spec: Spec, where: str) -> dict[str, Any]:
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    weight = _number(options.pop("weight", 1.0), f"{where}.weight", float)
    return {"weight": weight, **registry.objectives.check(options, where)}


def _check_split(spec: Spec | None, card: Card, where: str) -> dict[str, Any]:
    """The split with the options that the dataset's card gives it, unless the file says otherwise."""
    options = dict(spec) if isinstance(spec, Mapping) else {"name": spec or card.default_split}
    options = card.splits.get(str(options.get("name")), {}) | options
    seed = _number(options.pop("seed", 0), f"{where}: split.seed", int)
    return {"seed": seed, **registry.splits.check(options, f"{where}: split")}


def _card(name: str, path: Path) -> Card:
    try:
        return cards.find(name)
    except ConfigError as error:
        raise ConfigError(f"{path}: datasets: {error}") from None


def _number(value: Any, where: str, kind: type) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: expected a number, got {value!r}") from None


def _validate(schema: type[BaseModel], tree: Any, where: str) -> Any:
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        # A misspelt key comes first: it explains the required one that is missing.
        first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        address = ".".join(str(part) for part in first["loc"] if part not in ("str", "dict[str,any]"))
        if first["type"] != "extra_forbidden":
            got = "" if first["type"] == "missing" else f", got {first['input']!r}"
            raise ConfigError(f"{where}: {address}: {first['msg']}{got}") from None
        *parents, leaf = first["loc"]
        for key in parents:
            schema = schema.model_fields[str(key)].annotation  # type: ignore[assignment]
        raise ConfigError(f"{where}: {address}: no such key. {suggest(str(leaf), schema.model_fields)}") from None


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; this refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key!r} stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)
