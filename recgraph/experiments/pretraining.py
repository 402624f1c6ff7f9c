"""Initialises NeuMF from a trained GMF and a trained MLP.

He et al., "Neural collaborative filtering", WWW 2017, https://arxiv.org/abs/1708.05031, section 3.4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from recgraph import registry
from recgraph.encoders.base import Encoder
from recgraph.errors import ConfigError, suggest
from recgraph.heads import GMF, MLP, NeuMF
from recgraph.models.model import Model
from recgraph.models.recommender import Recommender

PARTS = {"gmf": GMF, "mlp": MLP}
"""Part of NeuMF -> its head, in the order of their columns."""

SHARE = 0.5
"""α in the paper: the factor of each part's output weights."""


def sources(
    config: Mapping[str, Any], rows: Iterable[str], resolved: Callable[[str], dict[str, Any]], where: str
) -> dict[str, dict[str, Any]]:
    """The rows that initialise a run: part -> its `row` and resolved `config`.

    Args:
        config: the resolved configuration of the run; under `pretrained` it has part -> row.
        rows: all rows of the file.
        resolved: row -> its resolved configuration.
        where: the run's row, for messages.

    Raises:
        ConfigError: a row does not exist, or cannot initialise a part of NeuMF.
    """
    named = config["pretrained"]
    for part, row in named.items():
        if row not in rows:
            raise ConfigError(f"{where}: pretrained.{part}: no row {row!r}. {suggest(row, rows)}")
    found = {part: {"row": row, "config": resolved(row)} for part, row in named.items()}
    _check(config, {part: source["config"] for part, source in found.items()}, where)
    return found


def _check(config: Mapping[str, Any], sources: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Reject rows that do not match the parts of the run's NeuMF."""
    head = _head(config, f"{where}: heads.rank")
    if not isinstance(head, NeuMF) or set(sources) != set(PARTS):
        raise ConfigError(
            f"{where}: pretrained: the head neumf begins with rows for {' and '.join(PARTS)}; the head here is "
            f"{config['heads']['rank']['name']}, with rows for {', '.join(sources)}"
        )
    for part, kind in PARTS.items():
        source, address = sources[part], f"{where}: pretrained.{part}"
        if "heads" not in source or source.get("pretrained"):
            raise ConfigError(f"{address}: expected a row that is trained from random values")
        if _encoder(source) != _encoder(config):
            raise ConfigError(
                f"{address}: its encoder is {_encoder(source)}, here {_encoder(config)}; they may differ in dim and "
                "init only"
            )
        ours, theirs = getattr(head, part), _head(source, f"{address}: heads.rank")
        if type(theirs) is not kind or _shapes(theirs) != _shapes(ours):
            raise ConfigError(
                f"{address}: expected a row with head {part} whose widths are {_shapes(ours)}, got head "
                f"{source['heads']['rank']['name']} with {_shapes(theirs)}"
            )


def check_tables(encoder: Encoder, where: str) -> None:
    """Check that an encoder's only parameters are a table of users and a table of items.

    Raises:
        ConfigError: it has more, or less, than `encoder.users` and `encoder.items`.
    """
    if set(encoder.state_dict()) != {"users.weight", "items.weight"}:
        raise ConfigError(
            f"{where}: pretrained: {type(encoder).__name__} has {', '.join(encoder.state_dict())}; columns can only be "
            "put together where the parameters are users.weight and items.weight"
        )


@torch.no_grad()
def begin(recommender: Recommender, models: Mapping[str, Model]) -> None:
    """Copy trained models into NeuMF: each fills its columns of both tables and its part of the head.

    Output weights and biases are halved, so that the initial scores are the mean of both models' scores.

    Args:
        recommender: on any device; its encoder has passed `check_tables`; changed in place.
        models: part -> model, of the widths that `sources` has checked.
    """
    head = recommender.heads["rank"]
    start = 0
    for part in PARTS:
        model, own = models[part], getattr(head, part)
        assert isinstance(model, Recommender)  # `sources` rejects anything else
        own.load_state_dict(model.heads["rank"].state_dict())
        for value in own.output.parameters():
            value.mul_(SHARE)
        for name in ("users", "items"):
            ours, theirs = getattr(recommender.encoder, name), getattr(model.encoder, name)
            ours.weight[:, start : start + own.dim] = theirs.weight.to(ours.weight)
        start += own.dim


def _head(config: Mapping[str, Any], where: str) -> nn.Module:
    if "dim" not in config["encoder"]:
        raise ConfigError(f"{where}: of a width that {config['encoder']['name']} does not take as an option `dim`")
    with torch.device("meta"):  # only for shapes: without memory or random draws
        head: nn.Module = registry.heads.build(config["heads"]["rank"], config["encoder"]["dim"], where=where)
        return head


def _encoder(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config["encoder"].items() if key not in ("dim", "init")}


def _shapes(head: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in head.state_dict().items() if name.endswith("weight")}
