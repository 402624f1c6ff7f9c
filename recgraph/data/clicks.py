"""Click prediction: a label for each interaction, and its time as context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from recgraph.data.interactions import Interactions
from recgraph.data.splits import Split
from recgraph.errors import DataError, suggest

LABEL = "label"
"""Column of a labelled part: 1 for a click, 0 for none."""

LATEST = 2**33
"""Times from here on, in the year 2242, are not seconds."""


class ClickSettings(BaseModel):
    """The `clicks:` block of an experiment file: models predict the label of each row instead of ranking items."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str = "rating"
    """Column of the interactions that the label is computed from."""
    positive: float = 4.0
    """The label is 1 where the column is at least this, else 0 (4 in RecBole's settings for MovieLens-1M)."""
    drop: tuple[float, ...] = ()
    """Rows with these values are dropped from all parts (3 in those settings: neither liked nor disliked)."""


def clicks_of(config: Mapping[str, Any]) -> ClickSettings | None:
    """The `clicks:` block of a run's configuration; None if the run ranks items."""
    return ClickSettings(**config["clicks"]) if "clicks" in config else None


def labelled(split: Split, settings: ClickSettings) -> Split:
    """The split with a column `label` in each part, without the rows to drop.

    Raises:
        DataError: the column is missing or not numeric, a row has no value in it, none a value to drop, or a part lacks
            one of the labels.
    """
    parts: dict[str, Any] = {}
    unseen = set(settings.drop)
    for name in ("train", "validation", "test"):
        table: Interactions = getattr(split, name)
        if settings.column not in table.frame.columns:
            raise DataError(
                f"clicks.column: no column {settings.column!r}. {suggest(settings.column, table.frame.columns)}"
            )
        values = table.frame[settings.column]
        if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
            raise DataError(f"clicks.column: labels are made of numbers, and {settings.column!r} holds {values.dtype}")
        values = values.cast(pl.Float64)
        if unknown := int((values.is_null() | values.is_nan()).sum()):
            raise DataError(
                f"clicks.column: {unknown} of the {len(values)} rows of the {name} part have no {settings.column!r}, "
                "and are neither clicks nor none"
            )
        keep = ~values.is_in(list(settings.drop))
        unseen -= set(values.filter(~keep))
        kept = table.select(keep.to_numpy())
        label = (values.filter(keep) >= settings.positive).cast(pl.Int8)
        if label.n_unique() < 2:
            raise DataError(f"clicks: the {name} part has {len(kept)} rows and not both labels: nothing to predict")
        parts[name] = Interactions(kept.frame.with_columns(label.alias(LABEL)), table.users, table.items)
    if unseen:
        raise DataError(f"clicks.drop: no row has {settings.column} {min(unseen):g}")
    return replace(split, **parts, candidates=None)


def outcomes(table: Interactions) -> np.ndarray:
    """Label of each row of a labelled part, 0.0 or 1.0."""
    return table.frame[LABEL].to_numpy().astype(np.float64)


def context_of(table: Interactions) -> Int[Tensor, "rows moments"]:
    """Hour and weekday of each row in UTC, as in `Inputs.context`; times must be seconds since 1970.

    Raises:
        DataError: the interactions have no column `time`, or times that are not seconds, such as milliseconds.
    """
    if "time" not in table.frame.columns:
        raise DataError("the interactions have no column `time`, which the hour and the weekday are read from")
    seconds = table.frame["time"].to_numpy()
    if (wrong := (seconds < 0) | (seconds >= LATEST)).any():
        raise DataError(
            "the hour and the weekday are read from seconds since 1970, which "
            f"{seconds[wrong][0]} in the column `time` does not look like: divide milliseconds by 1000"
        )
    hours = seconds.astype(np.int64) // 3600
    # 1 January 1970 was a Thursday, which is day 3 if Monday is 0.
    return torch.from_numpy(np.stack([hours % 24, (hours // 24 + 3) % 7], 1))
