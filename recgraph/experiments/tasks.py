"""Validates the multi-task blocks of a configuration: labels, experts and the balance of losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from recgraph import registry
from recgraph.errors import ConfigError, suggest
from recgraph.experiments.schema import RunConfig
from recgraph.models.sharing import RANK


def check_tasks(
    config: RunConfig, checked: Mapping[str, Any], objectives: Mapping[str, Mapping[str, Any]], where: str
) -> dict[str, Any]:
    """Validate the blocks `labels`, `sharing` and `balance`, and return those that the run uses.

    Args:
        config: configuration of the run.
        checked: its validated part: `content` and `sequences` if the encoder reads those.
        objectives: validated entries.
        where: file and row, for messages.

    Raises:
        ConfigError: an objective's label does not exist, the encoder reads a label to be predicted, or a block is
            invalid.
    """
    found: dict[str, Any] = {}
    learned = {role: spec for role, spec in objectives.items() if spec["name"] == "label"}
    for role, spec in learned.items():
        name = spec["of"]
        if name not in config.labels:
            raise ConfigError(f"{where}: objectives.{role}.of: no label {name!r}. {suggest(name, config.labels)}")
        if not can_name(name) or name == RANK:
            raise ConfigError(f"{where}: {name!r} cannot name a label; choose another word")
        label = config.labels[name]
        if [other["of"] for other in learned.values()].count(name) > 1:
            raise ConfigError(f"{where}: objectives.{role}.of: another objective has the label {name!r} and its head")
        if label.of == "interaction" and "sequences" in checked:
            raise ConfigError(f"{where}: objectives.{role}.of: an encoder of histories has no rows of interactions")
        for modality, entry in checked.get("content", {}).items():
            if entry["side"] == label.of and label.feature in entry["columns"]:
                raise ConfigError(
                    f"{where}: the encoder reads content.{modality}, in which is {label.feature!r}, the label that "
                    f"objectives.{role} is to predict, of held-out {label.of}s too"
                )
    if learned:
        found["labels"] = {spec["of"]: config.labels[spec["of"]].model_dump(mode="json") for spec in learned.values()}
    if config.sharing is not None:
        found["sharing"] = registry.sharings.check(config.sharing, f"{where}: sharing")
        for spec in objectives.values():
            if spec["name"] in ("clcrec", "aldi", "gar"):
                raise ConfigError(
                    f"{where}: sharing: {spec['name']} scores an encoder's two vectors of items, before any experts"
                )
    if config.balance is not None:
        found["balance"] = registry.balances.check(config.balance, f"{where}: balance")
        if len(tasks_of(objectives)) < 2:
            raise ConfigError(
                f"{where}: balance: expected two tasks at least, the objective `rank` and labels that are no probes, "
                f"got {list(tasks_of(objectives))}"
            )
        for role in tasks_of(objectives):
            loss, way = objectives[role]["name"], found["balance"]["name"]
            if registry.objectives.find(loss).signed and registry.balances.find(way).weighs:
                raise ConfigError(
                    f"{where}: balance: {way} weighs losses by their size, and objectives.{role}, {loss}, can fall "
                    "below 0: take pcgrad, or another loss"
                )
    return found


def can_name(word: str) -> bool:
    """Whether a word can name a head, an objective, a label or a modality; torch and `train.wide` reserve some."""
    return word.isidentifier() and word != "wide" and not hasattr(nn.ModuleDict(), word)


def tasks_of(objectives: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The roles whose losses are balanced: ranking, and labels that are not probes."""
    return tuple(
        role for role, spec in objectives.items() if role == RANK or (spec["name"] == "label" and not spec["probe"])
    )
