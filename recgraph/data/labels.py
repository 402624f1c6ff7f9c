"""Labels of users, items and interactions, as targets of auxiliary tasks, and which of them a model may learn from.

Held-out rows are drawn once for users and once for items, from the seed of the split. So with equal shares, a user held
out for one label is held out for all, and no label of a user helps to guess another. Labels of interactions follow the
parts of the split. A missing label is masked, never filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from recgraph.data.features import Features, Side
from recgraph.data.interactions import Interactions
from recgraph.data.label_settings import LabelSettings
from recgraph.data.modalities import ROUNDING, FittedModality, ModalitySettings, fit_modality
from recgraph.errors import ConfigError, DataError, suggest
from recgraph.random import numpy_generator
from recgraph.types import LabelKind

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")

MISSING = -1
"""Replaces a class that is unknown or hidden; for tags and numbers, NaN does."""


class Examples(NamedTuple):
    """The rows that a label is evaluated on in one part: only those whose label is known.

    Attributes:
        users: user of each row; None for labels of items.
        items: item of each row; None for labels of users.
        values: labels, as in `LabelData.table`, but numbers as they are.
        text: vectors of the rows' text, if the label is predicted from it.
    """

    users: Int[Tensor, "rows"] | None
    items: Int[Tensor, "rows"] | None
    values: Int[Tensor, "rows"] | Float[Tensor, "rows *tags"] | Float64[Tensor, "rows"]
    text: Float[Tensor, "rows width"] | None = None


@dataclass(frozen=True, eq=False)
class LabelData:
    """One label of a dataset.

    Attributes:
        settings: its entry in the `labels:` block.
        kind: one of several classes, any number of tags, or a number.
        names: of the classes or tags; empty for a number.
        table: what training sees, a row for each user, each item, or each training interaction: a class index
            (`MISSING` where masked), or 0 or 1 for each tag, or the standardised number (NaN where masked).
        examples: part -> the rows to evaluate on, for "train" as well.
        text: vectors of the training interactions' text, if the label is predicted from it.
        mean, scale: for a number, over the values that training sees: value = mean + scale · standardised value.
    """

    settings: LabelSettings
    kind: LabelKind
    names: tuple[str, ...]
    table: Int[Tensor, "rows"] | Float[Tensor, "rows *tags"]
    examples: Mapping[Part, Examples]
    text: Float[Tensor, "rows width"] | None = None
    mean: float = 0.0
    scale: float = 1.0

    @property
    def width(self) -> int:
        """Number of outputs that predict it."""
        return len(self.names) or 1

    @property
    def learned(self) -> Int[Tensor, "rows"] | Float[Tensor, "rows *tags"]:
        """The rows of `table` that are not masked."""
        first = self.table if self.table.dim() == 1 else self.table[:, 0]
        return self.table[first != MISSING if self.kind == "classes" else ~first.isnan()]

    @property
    def class_weights(self) -> Float[Tensor, "classes"] | Float[Tensor, "tags 2"] | None:
        """Weight in the loss of each class, or of the absence and the presence of each tag; None if all are equal.

        Number of training rows / (rows of the class · number of classes), as scikit-learn's `class_weight="balanced"`.
        A class without rows has weight 0 and is not counted.
        """
        if self.settings.class_weight is None:
            return None
        if self.kind == "classes":
            counts = torch.bincount(self.learned, minlength=self.width).double()
        else:
            present = self.learned.double()
            counts = torch.stack([(1 - present).sum(0), present.sum(0)], 1)
        there = counts > 0
        weights = counts.sum(-1, keepdim=True) / (there.sum(-1, keepdim=True) * counts)
        return torch.where(there, weights, 0.0).float()

    def to(self, device: torch.device) -> LabelData:
        """A copy whose `table` and `text` are on `device`."""
        text = None if self.text is None else self.text.to(device)
        return replace(self, table=self.table.to(device), text=text)


def labels_of(
    settings: Mapping[str, LabelSettings],
    features: Features | None,
    parts: Mapping[Part, Interactions],
    *,
    seed: int,
    learn: Iterable[Part] = ("train",),
) -> dict[str, LabelData]:
    """The labels of a dataset.

    Args:
        settings: the `labels:` block.
        features: of users and items.
        parts: of the interactions; without "test", the result contains no test label.
        seed: of the split.
        learn: the parts that training sees.

    Raises:
        ConfigError: an entry does not fit the dataset.
        DataError: a part has no labels to evaluate, or there are no features.
    """
    made = {}
    for name, entry in settings.items():
        where = f"labels.{name}"
        if entry.of == "interaction":
            label = _of_interactions(entry, parts, set(learn), where)
        elif features is None:
            raise DataError(f"{where}: this task has no features of users or items")
        else:
            label = _of_side(entry, entry.of, features, parts, seed, set(learn), where)
        for part, examples in label.examples.items():
            _check_measurable(label, examples, f"{where}: the {part} part")
        made[name] = label
    return made


def _of_side(
    entry: LabelSettings,
    side: Side,
    features: Features,
    parts: Mapping[Part, Interactions],
    seed: int,
    learn: set[Part],
    where: str,
) -> LabelData:
    attributes = features.users if side == "user" else features.items
    if entry.feature not in attributes.kinds:
        raise ConfigError(f"{where}.feature: no {entry.feature!r}. {suggest(entry.feature, attributes.kinds)}")
    kind = entry.kind(attributes.kinds[entry.feature], where)
    values, names = _values(entry, kind, attributes.frame[entry.feature], where)
    part = held_out(len(values), entry.holdout, seed, side)
    rows = {name: part == number for number, name in enumerate(PARTS) if name in parts}
    return _assemble(entry, kind, names, values, rows, learn, side)


def held_out(rows: int, holdout: tuple[float, float], seed: int, side: str) -> Int[np.ndarray, "rows"]:
    """The part of each row: 0 train, 1 validation, 2 test; given seed and side, it depends on the shares alone."""
    place = np.empty(rows, np.int64)
    place[numpy_generator(seed, f"labels/{side}").permutation(rows)] = np.arange(rows)
    # Taken from both ends of one permutation, so that changing the share of one leaves the other as it is.
    validation, test = (round(share * rows) for share in holdout)
    return np.where(place < test, 2, np.where(place >= rows - validation, 1, 0))


def _of_interactions(
    entry: LabelSettings, parts: Mapping[Part, Interactions], learn: set[Part], where: str
) -> LabelData:
    for column in (entry.feature, *([entry.text] if entry.text else [])):
        if column not in parts["train"].frame.columns:
            raise ConfigError(f"{where}: no column {column!r}. {suggest(column, parts['train'].frame.columns)}")
    kind = entry.kind("numeric", where)
    frame = pl.concat([parts[part].frame for part in PARTS if part in parts])
    values, names = _values(entry, kind, frame[entry.feature], where)
    number = np.repeat(range(len(parts)), [len(parts[part]) for part in PARTS if part in parts])
    rows = {name: number == place for place, name in enumerate(part for part in PARTS if part in parts)}
    seen = np.isin(number, [place for place, name in enumerate(rows) if name in learn])
    text = None
    if entry.text is not None:
        vectors = _fit_text(entry, frame, seen, where).transform(frame, where)
        text = vectors.values
    users, items = (frame[side].to_numpy().astype(np.int64) for side in ("user", "item"))
    label = _assemble(entry, kind, names, values, rows, learn, "interaction", users, items, text)
    shown = torch.from_numpy(seen)  # the table has only the rows that are trained on, in their order
    return replace(label, table=label.table[shown], text=None if text is None else text[shown])


def _fit_text(entry: LabelSettings, frame: pl.DataFrame, seen: np.ndarray, where: str) -> FittedModality:
    assert entry.text is not None
    width: dict[str, Any] = {} if entry.text_by == "sentences" else {"dim": entry.text_dim}
    settings = ModalitySettings(columns=(entry.text,), by=entry.text_by, model=entry.text_model, **width)
    return fit_modality(settings, frame, {entry.text: "text"}, seen, f"{where}.text")


def _assemble(
    entry: LabelSettings,
    kind: LabelKind,
    names: tuple[str, ...],
    values: np.ndarray,
    rows: Mapping[Part, Bool[np.ndarray, "rows"]],
    learn: set[Part],
    of: str,
    users: np.ndarray | None = None,
    items: np.ndarray | None = None,
    text: Tensor | None = None,
) -> LabelData:
    """A label from its values and the part of each row, with the table that training sees."""
    index = np.arange(len(values))
    users = index if of == "user" else users
    items = index if of == "item" else items
    known = values != MISSING if kind == "classes" else ~np.isnan(values if values.ndim == 1 else values[:, 0])
    seen = known & np.any([rows[part] for part in learn], axis=0)
    examples = {}
    for part, inside in rows.items():
        some = torch.from_numpy(np.flatnonzero(inside & known))
        of_user, of_item = (None if side is None else torch.from_numpy(side)[some] for side in (users, items))
        examples[part] = Examples(
            of_user, of_item, torch.from_numpy(values)[some], None if text is None else text[some]
        )
    mean, scale, table = 0.0, 1.0, values.copy()
    if kind == "number":
        mean, spread = float(values[seen].mean()), float(values[seen].std())
        scale = spread if spread > ROUNDING * np.abs(values[seen]).max(initial=0) else 1.0
        table = ((values - mean) / scale).astype(np.float32)
    table[~seen] = MISSING if kind == "classes" else np.nan
    return LabelData(entry, kind, names, torch.from_numpy(table), examples, mean=mean, scale=scale)


def _values(entry: LabelSettings, kind: LabelKind, column: pl.Series, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values as in `LabelData.table`, but not standardised and with no part hidden; and names of classes or tags."""
    if kind == "number":
        return column.cast(pl.Float64).to_numpy().astype(np.float64), ()
    names: tuple[str, ...]
    if entry.bands or entry.around is not None:
        numbers = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        if entry.around is not None:
            classes = np.where(numbers > entry.around, 1, 0)
            masked = np.isnan(numbers) | (numbers == entry.around)
            names = (f"below {entry.around:g}", f"above {entry.around:g}")
        else:
            classes, masked = np.searchsorted(entry.bands, numbers, side="right"), np.isnan(numbers)
            names = (f"below {entry.bands[0]:g}", *(f"from {band:g}" for band in entry.bands))
        return np.where(masked, MISSING, classes).astype(np.int64), names
    lists = [value if isinstance(value, list) else [] if value is None else [value] for value in column.to_list()]
    for value in entry.unknown:
        if not any(value in map(str, values) for values in lists):
            known = sorted({str(one) for values in lists for one in values})
            raise ConfigError(f"{where}.unknown: nothing is {value!r} in {entry.feature!r}. {suggest(value, known)}")
    told = [[str(value) for value in values if str(value) not in entry.unknown] for values in lists]
    names = tuple(sorted({value for values in told for value in values}))
    if not names:
        raise DataError(f"{where}: {entry.feature!r} has no value that is known")
    place = {name: number for number, name in enumerate(names)}
    if kind == "classes":
        return np.array([place[values[0]] if values else MISSING for values in told], np.int64), names
    tags = np.zeros((len(told), len(names)), np.float32)
    for row, values in enumerate(told):
        tags[row, [place[value] for value in values]] = 1
        if not values:
            tags[row] = np.nan
    return tags, names


def _check_measurable(label: LabelData, examples: Examples, where: str) -> None:
    values = examples.values
    if not len(values):
        raise DataError(f"{where} has no row whose label {label.settings.feature!r} is known")
    if label.kind == "classes" and len(values.unique()) < 2:
        raise DataError(f"{where} has one class of {label.settings.feature!r} only: nothing can be told apart")
    if label.kind == "tags" and not ((values > 0).any(0) & (values == 0).any(0)).any():
        raise DataError(f"{where} has no tag of {label.settings.feature!r} that some rows have and others have not")
