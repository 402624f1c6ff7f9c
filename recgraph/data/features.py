"""Attributes of users and items, aligned with the vocabularies, and how a card defines them from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, model_validator

from recgraph.data.interactions import Vocabulary
from recgraph.data.readers import FileFormat
from recgraph.errors import DataError, suggest

Side = Literal["user", "item"]
Kind = Literal["categorical", "multi_hot", "numeric", "text", "vector"]
"""Column types: categorical is Int64 or String, multi_hot a sorted list of those, numeric Float64, text String, vector
a list of Float64. A missing value is null, or an empty list for multi_hot."""


@dataclass(frozen=True, eq=False)
class Attributes:
    """Features of the users, or of the items.

    Attributes:
        frame: row i belongs to index i of the vocabulary; column `id` holds the original id, the others the features.
        kinds: feature -> kind.
    """

    frame: pl.DataFrame
    kinds: Mapping[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Features:
    """Features of both sides; a side without features has only its ids."""

    users: Attributes
    items: Attributes

    def title(self, item: int) -> str:
        """Title of an item, given by index, or its original id if it has no title."""
        row = self.items.frame.row(item, named=True)
        return str(row.get("title") or row["id"])


class Feature(BaseModel):
    """How to make one feature from the columns of a file.

    Attributes:
        kind: see `Kind`.
        column: column of the file; None if it has the feature's name.
        pattern: regular expression; the value becomes its first group, or null where it does not match.
        separator: splits a cell's text into the values of a multi_hot feature or a vector. Without it (and without
            `flags`), a multi_hot feature collects one value from each row of an id.
        flags: instead, columns of 0 and 1; the values of a multi_hot feature are the names of those that are 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    column: str | None = None
    pattern: str | None = None
    separator: str | None = None
    flags: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_kind(self) -> Feature:
        if self.flags and self.kind != "multi_hot":
            raise ValueError("`flags` are for the kind multi_hot")
        if self.flags and (self.column or self.pattern or self.separator):
            raise ValueError("`column`, `pattern` and `separator` do nothing beside `flags`")
        if self.separator and self.kind not in ("multi_hot", "vector"):
            raise ValueError("`separator` is for the kinds multi_hot and vector")
        if self.kind == "vector" and not self.separator:
            raise ValueError("a vector needs the `separator` of its numbers")
        return self


class FeatureFile(BaseModel):
    """A file of attributes of users or items, whose ids are in its column `user` or `item`.

    Attributes:
        file: name among the form's files.
        read: its format.
        features: name -> how to make it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    read: FileFormat
    features: dict[str, Feature]

    @model_validator(mode="after")
    def _has_columns(self) -> FeatureFile:
        columns = self.read.columns
        if ("user" in columns) == ("item" in columns):
            raise ValueError(f"{self.file}: expected a column `user` or a column `item`, got {sorted(columns)}")
        for name, feature in self.features.items():
            if name in ("id", "index"):
                raise ValueError(f"{self.file}: no feature can be called {name!r}")
            for column in feature.flags or (feature.column or name,):
                if column not in columns:
                    raise ValueError(
                        f"{self.file}: feature {name!r} needs a column {column!r}. {suggest(column, columns)}"
                    )
        return self


def load_attributes(side: Side, vocabulary: Vocabulary, files: Sequence[FeatureFile], folder: Path) -> Attributes:
    """Read the features of one side and align them with its vocabulary; ids without interactions are dropped.

    Raises:
        DataError: a file is bad, an id is repeated or not of the type of the interactions' ids, none of them is among
            these, or a value does not fit its kind.
    """
    index = pl.arange(len(vocabulary), eager=True).alias("index")
    frame = pl.DataFrame([index, vocabulary.series.alias("id")])
    for source in files:
        if side not in source.read.columns:
            continue
        path = folder / source.file
        table = source.read.read(path).rename({side: "id"})
        if table["id"].dtype != vocabulary.series.dtype:
            raise DataError(
                f"{path}: {side} ids are {table['id'].dtype}, but {vocabulary.series.dtype} in the interactions"
            )
        if len(table) and table.select("id").join(frame.select("id"), on="id", how="semi").is_empty():
            raise DataError(
                f"{path}: none of its {side} ids, such as {table['id'][0]!r}, is in the interactions, with ids such as "
                f"{vocabulary.series[0]!r}"
            )
        for name, feature in source.features.items():
            made = _make(table, name, feature, f"{path}: feature {name!r}")
            frame = frame.join(made, on="id", how="left")
    of_kind = kinds(side, files)
    empty_lists = [pl.col(name).fill_null([]) for name, kind in of_kind.items() if kind == "multi_hot"]
    return Attributes(frame.with_columns(empty_lists).sort("index").drop("index"), of_kind)


def kinds(side: Side, files: Sequence[FeatureFile]) -> dict[str, Kind]:
    """Feature -> kind, for the features of one side."""
    own = (source.features for source in files if side in source.read.columns)
    return {name: feature.kind for features in own for name, feature in features.items()}


def _make(table: pl.DataFrame, name: str, feature: Feature, where: str) -> pl.DataFrame:
    """One feature as a frame with the columns `id` (unique) and `name`."""
    one_per_row = feature.kind == "multi_hot" and not (feature.flags or feature.separator)
    if not one_per_row and table["id"].is_duplicated().any():
        repeated = table["id"].filter(table["id"].is_duplicated())[0]
        raise DataError(f"{where}: the id {repeated!r} is repeated")
    column = feature.column or name
    text = not feature.flags and table.schema[column] == pl.String
    try:
        for flag in feature.flags:
            if (odd := ~table[flag].cast(pl.Float64).is_in([0.0, 1.0]).fill_null(True)).any():
                one = table.filter(odd)
                raise DataError(f"{where}: id {one['id'][0]!r} has {flag} {one[flag][0]!r}; expected 0 or 1")
        made = table.select("id", _values(feature, column, text).alias(name))
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{where}: a value does not fit the kind {feature.kind}: {error}") from error
    if feature.kind == "numeric" and not (finite := made[name].is_finite().fill_null(True)).all():
        one = made.filter(~finite)
        raise DataError(f"{where}: id {one['id'][0]!r} has {one[name][0]}; expected a finite number or nothing")
    return made.group_by("id").agg(pl.col(name).drop_nulls().unique().sort()) if one_per_row else made


def _values(feature: Feature, column: str, text: bool) -> pl.Expr:
    if feature.flags:
        present = [pl.when(pl.col(flag).cast(pl.Boolean)).then(pl.lit(flag)) for flag in feature.flags]
        return pl.concat_list(present).list.drop_nulls().list.sort()
    value = pl.col(column)
    if feature.pattern is not None:
        value = value.str.extract(feature.pattern)
    if feature.separator is not None:
        value = value.str.split(feature.separator)
    if feature.kind == "numeric":
        return value.cast(pl.Float64)
    if feature.kind == "vector":
        return value.list.eval(pl.element().cast(pl.Float64))
    if feature.separator is not None:
        stripped = value.list.eval(pl.element().str.strip_chars())
        return stripped.list.eval(pl.element().filter(pl.element() != "")).list.unique().list.sort()
    if text and feature.kind in ("categorical", "multi_hot"):  # an empty cell is no class
        return value.str.strip_chars().replace("", None)
    return value
