"""A tiny task, on which any row can quickly be tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from recgraph import registry
from recgraph.data.clicks import ClickSettings
from recgraph.data.content import Pipeline
from recgraph.data.features import Attributes, Features
from recgraph.data.interactions import Interactions
from recgraph.data.labels import LabelData
from recgraph.experiments.task import Task
from recgraph.graph.links import Links
from recgraph.random import numpy_generator
from recgraph.types import Content

if TYPE_CHECKING:
    from recgraph.experiments.experiment import Run


SMALL = {"clusters": 8, "rank": 8, "warm_up": 1}
"""The largest values, on a toy, of options of objectives and views that are limited by the data or the epochs."""


class ToyTask(Task):
    """60 users and 40 items in four groups; users mostly like items of their own group, and some items are cold.

    Columns that a row names are replaced: those of content and labels by the group or, for interactions, the rating;
    those of relations by friends of the same group.

    Args:
        device: where to train and rank.
        clicks: predict whether user and item are in the same group.
    """

    def __init__(self, device: torch.device, *, clicks: bool = False) -> None:
        generator = numpy_generator(0, "toy")
        same_group = np.arange(60)[:, None] % 4 == np.arange(40) % 4
        liked = np.argwhere(generator.random((60, 40)) < np.where(same_group, 0.7, 0.05))
        own = same_group[*liked.T]
        praise = np.array(["fine clear sound", "warm full sound", "deep rich sound", "loud bright sound"])
        review = np.where(own, praise[liked[:, 0] % 4], "poor dull sound")
        told = {"rating": np.where(own, 5.0, 1.0), "review": review}
        moments = {"time": np.arange(len(liked)) * 3600}
        table = Interactions.from_frame(pl.DataFrame({"user": liked[:, 0], "item": liked[:, 1], **told, **moments}))
        groups = (table.users.series, table.items.series)
        features = (
            Attributes(
                pl.DataFrame({"id": ids, "group": ids % 4, "friends": pl.Series([[one + 4, one + 8] for one in ids])}),
                {"group": "categorical", "friends": "multi_hot"},
            )
            for ids in groups
        )
        split = registry.splits.build("warm_and_cold", table, generator)
        super().__init__(split, device, features=Features(*features), clicks=ClickSettings() if clicks else None)

    def attributes(self, config: Mapping[str, Any]) -> None:
        """None: columns and files that a configuration names are not read."""

    def content(self, settings: Mapping[str, Any], train: Interactions) -> tuple[Content, Pipeline]:
        """Replace every modality by the group."""
        return super().content(
            {
                name: {"columns": ("group",), "side": one["side"], "ids": one.get("ids", False)}
                for name, one in settings.items()
            },
            train,
        )

    def labels(self, settings: Mapping[str, Any], *, seed: int, refit: bool = False) -> dict[str, LabelData]:
        """Replace labels of users and items by the group, of interactions by the rating, and texts by the review."""
        groups = {"feature": "group", "bands": (), "around": None, "unknown": ()}
        changed = {}
        for name, one in settings.items():
            split = one.get("bands") or one.get("around") is not None
            stars = {"feature": "rating", "bands": (), "around": 3.0 if split else None}
            text = {"text": "review"} if one.get("text") else {}
            changed[name] = {**one, **(stars if one["of"] == "interaction" else groups), **text}
        return super().labels(changed, seed=seed, refit=refit)

    def links(
        self, settings: Mapping[str, Any], train: Interactions, content: Content | None
    ) -> tuple[Links | None, Links | None]:
        """Replace every column of links by the friends."""
        changed = {
            name: one if one["column"] is None else {**one, "column": "friends"} for name, one in settings.items()
        }
        return super().links(changed, train, content)


def smoke(run: Run) -> Run:
    """The same run for a toy: at most two epochs, `SMALL` options, and the catalogue ranked for want of candidates."""
    config = run.config | {"evaluate": run.config["evaluate"] | {"sampled": False}}
    if "baseline" in config:
        return replace(run, config=config)
    short = {"max_epochs": 2, "patience": 2, "validate_every": 1, "warmup": min(1, config["train"]["warmup"])}
    config |= {"train": config["train"] | short, "objectives": _small(config["objectives"])}
    if run.sources:
        config["pretrained"] = {
            part: {"row": source.row, "config": smoke(source).config} for part, source in run.sources.items()
        }
    return replace(run, config=config)


def _small(spec: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of a configuration, and those within it, with options that suit more data or more epochs made small."""
    return {
        key: _small(value) if isinstance(value, Mapping) else min(value, SMALL[key]) if key in SMALL else value
        for key, value in spec.items()
    }
