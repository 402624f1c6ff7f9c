"""What file formats share: column types, checks of fields, errors with file, line and text, the base classes."""

from __future__ import annotations

import codecs
import gzip
import io
import math
import re
import sys
import zlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from recgraph.errors import DataError, suggest

ColumnType = Literal["int", "float", "str", "date", "int?", "float?", "str?", "date?", "skip"]
"""`date` is a date, with or without a time, in ISO 8601, such as 2021-03-01 10:00; the frame has seconds since 1970,
where what names no offset is taken for UTC. `?` allows an empty field (null in the frame); `str` keeps it as ""; `skip`
leaves the column out of the frame."""

IDS = ("user", "item")
"""Columns with these names are ids: never empty, and never negative when they are integers."""

Encoding = Literal["utf-8", "latin-1", "cp1252"]
"""Encodings in which a separator or a line end is one byte that is never part of another character."""

_BLOCK = 2**16  # bytes that are decoded at a time; small enough for a processor's cache

_DTYPES = {"int": pl.Int64, "float": pl.Float64, "str": pl.String, "date": pl.String}
_WORDS = {"int": "an integer", "float": "a number", "str": "a string", "date": "a date such as 2021-03-01 10:00"}
_NUMBERS = {  # as polars reads them, in decimal
    "int": re.compile(r" *[+-]?[0-9]{1,30}"),
    "float": re.compile(r" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
}
_KINDS: dict[str, Any] = {"int": (int,), "float": (int, float), "str": (str,), "date": (str,)}


def dtype(kind: str) -> Any:
    """The polars type of a column as it is parsed; `Format.read` makes seconds of dates."""
    return _DTYPES[kind.rstrip("?")]


def seconds(text: str) -> float | None:
    """Seconds since 1970 of a date in ISO 8601; None if it is not one."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def load_text(path: Path, encoding: str) -> bytes:
    """The text of a file, plain or gzipped, in UTF-8, without byte order mark and trailing line ends.

    Raises:
        DataError: the file is missing, unreadable, empty, a damaged gzip, or not in this encoding.
    """
    try:
        raw = path.read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip, perhaps cut short: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        text = _in_utf8(raw, encoding).rstrip(b"\r\n")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        line = raw.split(b"\n", number)[number - 1].decode("ascii", "backslashreplace")
        raise bad_line(path, number, f"not valid {encoding}; perhaps another encoding", line) from error
    if not text:
        raise DataError(f"{path}: the file is empty")
    return text


def _in_utf8(raw: bytes, encoding: str) -> bytes:
    """`raw` in UTF-8; never a string of all of it, which takes four bytes for each character if there is an emoji."""
    if encoding == "utf-8":
        with suppress(UnicodeDecodeError):  # its place would be counted from the block
            decoder = codecs.getincrementaldecoder(encoding)()
            for start in range(0, len(raw) + 1, _BLOCK):
                decoder.decode(raw[start : start + _BLOCK], start + _BLOCK > len(raw))
            return raw
    return raw.decode(encoding).encode()


def first_line(text: bytes) -> str:
    """The first line, without its end."""
    return io.BytesIO(text).readline().decode().removesuffix("\n").removesuffix("\r")


def bad_line(path: Path, number: int, problem: str, line: str) -> DataError:
    """The error for a bad line; a long line is truncated."""
    return DataError(f"{path}, line {number}: {problem}: {line[:100] + '...' if len(line) > 100 else line!r}")


def clean(frame: pl.DataFrame, columns: Mapping[str, str]) -> bool:
    """Whether `problem` would find nothing in these columns, where empty fields are nulls."""
    for name, kind in columns.items():
        column = frame[name]
        if column.null_count() and not _may_be_empty(name, kind):
            return False
        if kind.startswith("float") and not column.is_finite().all():
            return False
        if name in IDS and kind.startswith("int") and (column < 0).any():
            return False
        if kind.startswith("date") and None in map(seconds, column.drop_nulls()):
            return False
    return True


def problem(name: str, kind: str, field: str) -> str | None:
    """What is wrong with a field, or None."""
    if kind == "skip":
        return None
    if not field:
        return None if _may_be_empty(name, kind) else f"{name} is empty"
    base = kind.rstrip("?")
    if base in ("str", "date"):
        return value_problem(name, kind, field)
    if not _NUMBERS[base].fullmatch(field):
        return _mistyped(name, field, base)
    return value_problem(name, kind, int(field) if base == "int" else float(field))


def value_problem(name: str, kind: str, value: Any) -> str | None:
    """What is wrong with a value that already has a type, as in JSON, or None."""
    base = kind.rstrip("?")
    if value is None:
        return None if kind.endswith("?") else f"{name} is null"
    if not isinstance(value, _KINDS[base]) or isinstance(value, bool):
        return _mistyped(name, value, base)
    if base == "date" and seconds(value) is None:
        return _mistyped(name, value, base)
    if isinstance(value, str):
        return f"{name} is empty" if not value and name in IDS else None
    if isinstance(value, float) and not math.isfinite(value):
        return f"{name} {value} is not finite"
    if base == "int" and name in IDS and value < 0:
        return f"{name} {value} is negative"
    if base == "float" and abs(value) > sys.float_info.max:
        return f"{name} has {len(str(value))} digits: too large for a number"
    if base == "int" and not -(2**63) <= value < 2**63:
        return f"{name} {value} does not fit in 64 bits"
    return None


def _mistyped(name: str, value: Any, base: str) -> str:
    hint = "; for dates, the type is date" if base in ("int", "float") and seconds(str(value)) is not None else ""
    return f"{name} {value!r} is not {_WORDS[base]}{hint}"


def _may_be_empty(name: str, kind: str) -> bool:
    return name not in IDS and (kind.endswith("?") or kind == "str")


class Format(BaseModel):
    """Base class of all formats.

    Attributes:
        columns: name in the frame -> type.
        encoding: of the text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[str, ColumnType] = Field(min_length=1)
    encoding: Encoding = "utf-8"

    def read(self, path: Path) -> pl.DataFrame:
        """Read a whole file, rows in file order; gzip is recognised, and blank lines at the end are ignored.

        Returns:
            The columns in the order of `columns`, as Int64, Float64 (dates too) or String.

        Raises:
            DataError: the file is missing, empty or damaged, or a row is bad (gives its 1-based line and text).
        """
        frame = self.parse(path, load_text(path, self.encoding))
        if frame.is_empty():
            raise DataError(f"{path}: no rows")
        dates = [name for name, kind in self.wanted.items() if kind.startswith("date")]
        return frame.with_columns(
            pl.Series(name, [None if text is None else seconds(text) for text in frame[name]], dtype=pl.Float64)
            for name in dates
        )

    def parse(self, path: Path, text: bytes) -> pl.DataFrame:
        raise NotImplementedError

    @property
    def wanted(self) -> dict[str, str]:
        return {name: kind for name, kind in self.columns.items() if kind != "skip"}


class NamedFormat(Format):
    """Base class of formats whose files name their columns.

    Attributes:
        names: name in the frame -> name in the file, where they differ.
    """

    names: dict[str, str] = Field(default={})

    @model_validator(mode="after")
    def _names_are_columns(self) -> NamedFormat:
        for name in self.names:
            if self.columns and name not in self.columns:
                raise ValueError(f"names: no column {name!r}. {suggest(name, self.columns)}")
        readers: dict[str, str] = {}
        for name in self.columns:
            source = self.names.get(name, name)
            if readers.setdefault(source, name) != name:
                raise ValueError(f"names: {readers[source]!r} and {name!r} are both read from the column {source!r}")
        return self
