"""Turns tables of users and items that are added after training into ids, content and histories for a recommender."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import torch
from jaxtyping import Int
from torch import Tensor

from recgraph.data.content import Pipeline, joined
from recgraph.data.features import Kind
from recgraph.data.histories import Histories
from recgraph.data.interactions import Vocabulary
from recgraph.data.terms import SEPARATOR
from recgraph.data.vectors import refuse
from recgraph.errors import ConfigError, DataError
from recgraph.types import Modality


def new_ids(frame: pl.DataFrame, known: Vocabulary, where: str) -> Vocabulary:
    """The column `id`, in the type of the known ids.

    Raises:
        DataError: there is no such column or no row, or an id is missing, repeated, already known or of another type.
    """
    if "id" not in frame.columns or frame.is_empty():
        raise DataError(f"{where}: expected a column `id` and a row each, got {len(frame)} of {frame.columns}")
    column = frame["id"]
    if column.dtype.is_integer() and known.series.dtype == pl.String:
        column = column.cast(pl.String)
    if column.dtype == pl.String and known.series.dtype == pl.Int64:
        numbers = column.str.strip_chars().cast(pl.Int64, strict=False)
        if (odd := numbers.is_null() & column.is_not_null()).any():
            row = int(odd.arg_true()[0])
            raise DataError(f"{where}: row {row + 1}: the id {column[row]!r} is no whole number, as those known are")
        column = numbers
    if column.null_count():
        raise DataError(f"{where}: row {int(column.is_null().arg_max() or 0) + 1} has no `id`")
    try:
        ids = Vocabulary(column)
    except DataError as error:
        raise DataError(f"{where}: {str(error).removeprefix('vocabulary: ')}") from None
    if ids.series.dtype != known.series.dtype:
        raise DataError(f"{where}: ids are {ids.series.dtype}, but {known.series.dtype} in the model")
    if there := sorted(set(ids.series) & set(known.series)):
        raise DataError(f"{where}: {len(there)} ids are in the catalogue already, such as {there[0]!r}")
    return ids


def titles_of(frame: pl.DataFrame, where: str) -> list[str | None] | None:
    """The column `title` as text; None if there is none.

    Raises:
        DataError: the column holds lists or other nested values.
    """
    if "title" not in frame.columns:
        return None
    if frame["title"].dtype.is_nested():
        raise DataError(f"{where}: column 'title': expected text, got {frame['title'].dtype}")
    return frame["title"].cast(pl.String).to_list()


def free_id(known: Vocabulary) -> int | str:
    """An unused id, for a newcomer without one."""
    if known.series.dtype == pl.Int64:
        return int(known.series.max()) + 1  # type: ignore[arg-type]  # a whole number
    return max(known.series, key=len) + "+"


def appended(known: Mapping[str, Modality], pipeline: Pipeline, frame: pl.DataFrame, where: str) -> dict[str, Modality]:
    """Modalities with rows for newcomers appended, computed by the functions fitted in training.

    Raises:
        ConfigError: a column is missing.
        DataError: a value is invalid.
    """
    made = {}
    for name, old in known.items():
        own = _with_numbers(frame, pipeline[name].kinds, f"{where}: {name}")
        new = pipeline[name].transform(own, f"{where}: {name}")
        made[name] = joined(old, new)
    return made


def _with_numbers(frame: pl.DataFrame, kinds: Mapping[str, Kind], where: str) -> pl.DataFrame:
    """Convert text columns of numbers and vectors, as read from csv, to numbers; `|` separates those of a vector."""
    for column, kind in kinds.items():
        if kind not in ("numeric", "vector") or column not in frame.columns or frame[column].dtype != pl.String:
            continue
        text = frame[column].str.strip_chars().replace("", None)
        if kind == "numeric":
            made = text.cast(pl.Float64, strict=False)
            refuse(frame, made.is_null() & text.is_not_null(), f"{where}: column {column!r}", "is not a number")
        else:
            numbers = pl.element().str.strip_chars().cast(pl.Float64, strict=False)
            made = text.str.split(SEPARATOR).list.eval(numbers)  # a non-number becomes null, which is refused later
        frame = frame.with_columns(made)
    return frame


def with_rows(state: Mapping[str, Tensor], larger: Mapping[str, Tensor], sizes: tuple[int, int]) -> dict[str, Tensor]:
    """A model's parameters for a larger catalogue, with zeros in the added rows: untrained free vectors.

    Args:
        state: of the model.
        larger: of one like it for the larger catalogue.
        sizes: numbers of users and of items that the model knows.

    Raises:
        ConfigError: a tensor that grows has not a row for each user or for each item, so that newcomers' rows may not
            be its last, as in one table of users and items.
    """
    made = {}
    for name, value in larger.items():
        old = state[name]
        more = 0 if value.shape == old.shape else len(value) - len(old)
        if more and len(old) not in sizes:
            raise ConfigError(
                f"{name} has {len(old)} rows, of {sizes[0]} users and {sizes[1]} items: expected a row for each user "
                "or for each item, to which those of newcomers are added; keep users and items in tables of their own"
            )
        made[name] = torch.cat([old, old.new_zeros(more, *old.shape[1:])]) if more else old
    return made


def had(frame: pl.DataFrame, items: Vocabulary, where: str) -> tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]:
    """The items of newcomers: the column `items` as (row of the frame, item index), in the order given.

    A cell is a list of ids, or text separated by `|`; it may be empty. Without the column, there are no pairs.

    Raises:
        DataError: an id is unknown.
    """
    if "items" not in frame.columns:
        return torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    column = pl.col("items")
    if isinstance(frame["items"].dtype, pl.Array):
        column = column.arr.to_list()
    elif frame["items"].dtype != pl.List:
        column = column.cast(pl.String).str.split(SEPARATOR)
    listed = frame.select(column, row=pl.arange(len(frame))).explode("items").drop_nulls()
    if listed["items"].dtype == pl.String:
        listed = listed.with_columns(pl.col("items").str.strip_chars()).filter(pl.col("items") != "")
    try:
        found = items.encode(listed["items"])
    except DataError:
        for (row,), own in listed.group_by("row", maintain_order=True):
            try:
                items.encode(own["items"])
            except DataError as error:
                raise DataError(f"{where}: row {row + 1}: items: {error}") from None
        raise
    pairs = listed.select("row", item=pl.Series(found)).unique(maintain_order=True)  # "7" and "07" may be one id
    return torch.tensor(pairs["row"].to_list()).long(), torch.tensor(pairs["item"].to_list()).long()


def continued(histories: Histories, rows: Int[Tensor, "pairs"], items: Int[Tensor, "pairs"], count: int) -> Histories:
    """Histories with those of newcomers appended.

    Args:
        histories: of the known users.
        rows, items: the newcomers' items, in order; rows count from 0.
        count: number of newcomers, with or without a history.
    """
    order = torch.argsort(rows, stable=True)
    ends = torch.bincount(rows, minlength=count).cumsum(0) + len(histories.items)
    return Histories(torch.cat([histories.items, items[order] + 1]), torch.cat([histories.starts, ends]))
