"""The interactions table, with users and items as indices, and the vocabularies that map indices to original ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from recgraph.data.histories import Histories
from recgraph.errors import DataError, suggest

PARTS = ("train", "validation", "test")
"""Values of the `part` column, which only official splits have."""

EXACT = 2**53
"""Up to here float64 has every integer."""


class Vocabulary:
    """Original ids in index order: the id of index i is `ids[i]`.

    Args:
        ids: distinct integers or strings.

    Raises:
        DataError: an id is missing or repeated, or is neither an integer nor a string.
    """

    def __init__(self, ids: Any) -> None:
        self.series = _as_ids(_series(ids, "vocabulary"), "vocabulary")
        if self.series.n_unique() < len(self.series):
            repeated = self.series.filter(self.series.is_duplicated())[0]
            raise DataError(f"vocabulary: the id {repeated!r} is repeated")

    def __len__(self) -> int:
        return len(self.series)

    @cached_property
    def ids(self) -> np.ndarray:
        """Int64 array, or object array of str."""
        return self.series.to_numpy()

    def encode(self, values: Any) -> np.ndarray:
        """Indices (int64) of ids; text is matched to integer ids by value, and vice versa.

        Raises:
            DataError: an id is unknown; names the first.
        """
        asked = _as_ids(_series(values, "ids"), "ids")
        index = pl.arange(len(self), dtype=pl.Int64, eager=True)
        found = asked.cast(self.series.dtype, strict=False).replace_strict(
            self.series, index, default=None, return_dtype=pl.Int64
        )
        if found.null_count():
            unknown = asked.filter(found.is_null())
            sample = self.series.head(3).to_list()
            raise DataError(f"unknown id {unknown[0]!r} ({len(unknown)} in all); known are such as {sample}")
        return found.to_numpy()

    def decode(self, indices: Any) -> np.ndarray:
        """Ids of indices."""
        return self.ids[indices]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Interactions in file order.

    Attributes:
        frame: one row per interaction: `user` and `item` (UInt32 indices); if the data has them, `time` (Int64 or
            Float64, in any unit that increases with time), `rating` (Float64) and, for official splits, `part` (train,
            validation or test); and any further columns of numbers, Booleans or text.
        users: original user ids.
        items: original item ids.
    """

    frame: pl.DataFrame
    users: Vocabulary
    items: Vocabulary

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> Interactions:
        """Index a table of raw ids, with sorted vocabularies: integers by value, text by code point.

        Args:
            frame: `user` and `item` (integers or text), and the optional columns of `Interactions`.

        Raises:
            DataError: a column is missing or of a wrong type, or a value is missing or not finite (names its row).
        """
        for name in ("user", "item"):
            if name not in frame.columns:
                raise DataError(f"interactions: no column {name!r}. {suggest(name, frame.columns)}")
        if frame.is_empty():
            raise DataError("interactions: the table has no rows")
        vocabularies, columns = {}, []
        for column in frame.iter_columns():
            if column.name in ("user", "item"):
                ids = _as_ids(column, f"interactions: column {column.name!r}")
                vocabularies[column.name] = vocabulary = Vocabulary(ids.unique().sort())
                column = pl.Series(column.name, vocabulary.encode(ids).astype(np.uint32))
            elif column.name in ("time", "rating"):
                column = _as_numbers(column)
            elif column.name == "part":
                _check_parts(column)
            elif not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean)):
                raise DataError(f"interactions: column {column.name!r} has the type {column.dtype}")
            columns.append(column)
        return cls(pl.DataFrame(columns), vocabularies["user"], vocabularies["item"])

    def __len__(self) -> int:
        return self.frame.height

    @property
    def num_users(self) -> int:
        """Size of the user vocabulary, which may exceed the number of users with rows here."""
        return len(self.users)

    @property
    def num_items(self) -> int:
        """Size of the item vocabulary, which may exceed the number of items with rows here."""
        return len(self.items)

    @cached_property
    def user_indices(self) -> np.ndarray:
        """User of each row, int64."""
        return self.frame["user"].to_numpy().astype(np.int64)

    @cached_property
    def item_indices(self) -> np.ndarray:
        """Item of each row, int64."""
        return self.frame["item"].to_numpy().astype(np.int64)

    @cached_property
    def histories(self) -> Histories:
        """Each user's items in order of time."""
        return Histories.of(self)

    @property
    def pairs(self) -> np.ndarray:
        """One int64 per row that identifies its (user, item) pair: `user * num_items + item`."""
        return self.user_indices * self.num_items + self.item_indices

    def csr(self) -> sparse.csr_matrix:
        """Users × items, float32, 1 where there is at least one interaction."""
        shape = (self.num_users, self.num_items)
        ones = np.ones(len(self), np.float32)
        matrix = sparse.csr_matrix((ones, (self.user_indices, self.item_indices)), shape)  # sums duplicates
        matrix.data[:] = 1
        return matrix

    def select(self, rows: np.ndarray) -> Interactions:
        """The given rows (Boolean mask, or row numbers) with the same vocabularies."""
        rows = np.asarray(rows)
        kept = self.frame.filter(pl.Series(rows)) if rows.dtype == bool else self.frame[rows]
        return Interactions(kept, self.users, self.items)

    def concat(self, other: Interactions) -> Interactions:
        """These rows followed by those of `other`, which must have the same vocabularies."""
        return Interactions(pl.concat([self.frame, other.frame]), self.users, self.items)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of ids, column names and values in row order, whatever file or cache they came from.

        Numbers are hashed as float64 and columns in alphabetical order: 3 equals 3.0, and columns may be in any order.
        Integers beyond ±2⁵³, such as times in nanoseconds, are hashed as such in addition.
        """
        hasher = hashlib.sha256()
        columns = [(self.frame[name], "<f8") for name in sorted(self.frame.columns)]
        for column, number in ((self.users.series, "<i8"), (self.items.series, "<i8"), *columns):
            for chunk in column_bytes(column, number):
                hasher.update(chunk)
        for column, _ in columns:
            ends: Any = (column.min() or 0, column.max() or 0) if column.dtype.is_integer() else (0, 0)
            if max(-ends[0], ends[1]) > EXACT:
                for chunk in column_bytes(column, "<i8"):
                    hasher.update(chunk)
        return hasher.hexdigest()


def _series(ids: Any, where: str) -> pl.Series:
    try:
        return pl.Series("id", ids)
    except (TypeError, OverflowError) as error:
        raise DataError(f"{where}: ids must be all integers or all text: {str(error).splitlines()[0]}") from error


def _as_ids(column: pl.Series, where: str) -> pl.Series:
    """Ids as Int64 or String; a missing one is refused."""
    if column.dtype.is_integer():
        column = _whole(column, where)
    elif column.dtype != pl.String and len(column):
        raise DataError(f"{where}: ids must be integers or text, got {column.dtype}, such as {column[0]!r}")
    _refuse(column.is_null(), column, where, "an id")
    return column


def _as_numbers(column: pl.Series) -> pl.Series:
    """A time or rating column as finite numbers; times become Int64 if all are whole."""
    where = f"interactions: column {column.name!r}"
    if not column.dtype.is_numeric():
        raise DataError(f"{where} must be numeric, got {column.dtype}")
    _refuse(~column.cast(pl.Float64).is_finite().fill_null(False), column, where, "a finite number")
    if column.name == "rating":
        return column.cast(pl.Float64)
    return _whole(column, where) if column.dtype.is_integer() or (column == column.round()).all() else column


def _whole(column: pl.Series, where: str) -> pl.Series:
    """Whole numbers as Int64."""
    whole = column.cast(pl.Int64, strict=False)
    _refuse(
        whole.is_null() & column.is_not_null(), column, where, "a whole number of at most 64 bits, one for the sign"
    )
    return whole


def _check_parts(column: pl.Series) -> None:
    if column.dtype != pl.String:
        raise DataError(f"interactions: column 'part' must be text, got {column.dtype}")
    _refuse(~column.is_in(PARTS).fill_null(False), column, "interactions: column 'part'", f"one of {PARTS}")


def _refuse(bad: pl.Series, column: pl.Series, where: str, expected: str) -> None:
    """Raise a DataError for the first row where `bad` is True."""
    if bad.any():
        row = bad.arg_true()[0]
        raise DataError(f"{where}, row {row + 1}: expected {expected}, got {column[row]!r}")


def column_bytes(column: pl.Series, number: str) -> Iterator[bytes | memoryview]:
    """A column as bytes that depend on its name and values; `number` is the numpy type in which numbers are written."""
    text = column.dtype == pl.String
    yield f"{column.name}/{'text' if text else number}/{len(column)}/{column.null_count()};".encode()
    if column.null_count():
        yield column.is_null().to_numpy().data
        column = column.fill_null("" if text else 0)
    if text:
        yield column.str.len_bytes().to_numpy().astype("<u4").data
        for start in range(0, len(column), 1_000_000):  # bounds the memory of joining
            yield "".join(column[start : start + 1_000_000].to_list()).encode()
    else:
        yield (column.to_numpy().astype(number) + 0).data  # + 0 turns -0.0 into 0.0
