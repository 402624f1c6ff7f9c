"""Builds a configuration for one user and one item, to find incompatible parts before anything runs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from recgraph import registry
from recgraph.encoders.base import Encoder
from recgraph.encoders.hybrid import Hybrid
from recgraph.encoders.sequential import SequenceEncoder
from recgraph.errors import ConfigError
from recgraph.experiments.batching import sequence_options
from recgraph.heads import build_head
from recgraph.models.sharing import RANK
from recgraph.random import isolated
from recgraph.training.optimization import wide_optimizer
from recgraph.training.settings import TrainSettings
from recgraph.types import Content, Modality


def rehearse(config: Mapping[str, Any], train: TrainSettings, *, content: bool, where: str) -> Encoder:
    """Build the encoder, heads and objectives of a checked configuration; returns the encoder.

    Args:
        config: configuration of the run: `encoder`, `heads`, `objectives`; `content`, `sequences` and `sharing` if it
            has them.
        train: the `train:` block.
        content: whether the encoder takes content; each modality is then a single value.
        where: file and row, for messages.

    Raises:
        ConfigError: a part cannot be built, with its address; or no objective trains a head that has weights.
    """

    def made(address: str, make: Callable[..., Any], *data: Any, **more: Any) -> Any:
        try:
            return make(*data, **more)
        except ConfigError as error:
            text = str(error)
            raise ConfigError(f"{where}: {text if text.startswith(address) else f'{address}: {text}'}") from None

    def built(address: str, make: Callable[..., Any], spec: Mapping[str, Any], *data: Any, **more: Any) -> Any:
        own = {key: value for key, value in spec.items() if key not in ("init", "weight")}
        try:
            return made(address, make, own, *data, where=address, **more)
        except Exception as error:
            if isinstance(error, ConfigError) or ":" not in spec["name"]:
                raise
            file, line, *_ = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({file}:{line})"
            raise ConfigError(f"{where}: {address}: {spec['name']} cannot be built: {what}") from error

    sides: dict[str, dict[str, Modality]] = {"item": {}, "user": {}}
    for name, entry in config.get("content", {}).items():
        values = torch.ones(1, 1, dtype=torch.int64 if entry.get("ids") else torch.float32)
        sides[entry["side"]][name] = Modality(values, torch.ones(1, dtype=torch.bool))
    more = {"content": Content(sides["item"], sides["user"])} if content else {}
    needs: frozenset[str] = frozenset()
    trained, named, compared = set(), {RANK}, False
    with isolated(0, "rehearsal"):
        encoder: Encoder = built("encoder", registry.encoders.build, config["encoder"], 1, 1, **more)
        heads = {
            name: built(f"heads.{name}", build_head, spec, encoder.dim, encoder.layout)
            for name, spec in config["heads"].items()
        }
        for role, spec in config["objectives"].items():
            objective = built(f"objectives.{role}", registry.objectives.build, spec)
            needs |= objective.needs
            compared |= objective.compares_sides and spec["weight"] > 0
            named.add(used := getattr(objective, "head", RANK))
            if objective.task == RANK and spec["weight"] and not (objective.of_parameters or objective.of_vectors):
                trained.add(used)
    for part in encoder.modules():
        if isinstance(part, Hybrid) and not (part.dropout or part.shrinkage or (compared and part.user_tower is None)):
            raise ConfigError(
                f"{where}: encoder: hybrid would not learn from content: with dropout 0 and shrinkage 0, all that have "
                "interactions have their graph vectors; set one of the two, or add an objective such as clcrec, which "
                "trains the content of items, if there is none of users"
            )
    if "sharing" in config:
        made("sharing", encoder.layout.refuse_weights, "sharing", "an expert")
    for name, head in heads.items():
        if name not in trained and any(True for _ in head.parameters()):
            raise ConfigError(
                f"{where}: heads.{name}: {config['heads'][name]['name']} has weights, and no objective has "
                f"`head: {name}` and trains them"
                + (": the catalogue would be ranked by random ones" if name == RANK else "; take it out")
            )
        if name not in named:
            raise ConfigError(f"{where}: heads.{name} does nothing here: no objective has `head: {name}`; take it out")
    made("train.wide", wide_optimizer, nn.ModuleDict({"encoder": encoder, "heads": nn.ModuleDict(heads)}), train)
    if isinstance(encoder, SequenceEncoder):
        made("sequences", sequence_options, encoder, config["sequences"], needs)
    return encoder
