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

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from recgraph.errors import ConfigError, suggest
from recgraph.evaluation import metrics
from recgraph.training.trainer import TrainSettings

Spec = str | dict[str, Any]
"""A component: its name, or a mapping with `name` and its keyword arguments."""


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

    @field_validator("datasets", "seeds")
    @classmethod
    def _once(cls, value: list[Any]) -> list[Any]:
        if len(set(value)) < len(value):
            raise ValueError("one stands twice, and would count twice in every mean")
        return value

    @field_validator("rows")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        folders: dict[str, str] = {}
        for row in value:
            if "," in row or folder_name(row) in ("", ".", ".."):
                raise ValueError(f"the row name {row!r} cannot be listed by commas or be a folder")
            other = folders.setdefault(folder_name(row), row)
            if other != row:
                raise ValueError(f"the rows {other!r} and {row!r} would share the folder {folder_name(row)!r}")
        return value


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
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected keys such as datasets, seeds, base and rows, got {tree!r}")
    return validate(Experiment, tree, str(path))


def validate(schema: type[BaseModel], tree: Any, where: str) -> Any:
    """Hold a tree to a schema; what is wrong is a ConfigError with its path and the nearest key."""
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


def folder_name(row: str) -> str:
    """The folder of a row's runs."""
    return row.replace("/", "_").replace(" ", "_")


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; this refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key!r} stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)
