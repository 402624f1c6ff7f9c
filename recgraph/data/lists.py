"""Formats with a list or an object on each line."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field, model_validator

from recgraph.data.formats import ColumnType, Format, NamedFormat, bad_line, clean, dtype, problem, value_problem
from recgraph.errors import DataError, suggest


class _Pairs(Format):
    """Base class of formats that pair one value with each value of a list.

    Attributes:
        columns: two names and types: of the one value, and of the list's values.
    """

    columns: dict[str, ColumnType] = Field(default={"user": "int", "item": "int"})

    @model_validator(mode="after")
    def _two_columns(self) -> _Pairs:
        if len(self.columns) != 2 or not set(self.columns.values()) <= {"int", "float", "str"}:
            raise ValueError("columns: expected two of type int, float or str")
        return self

    def _pairs(self, path: Path, lines: list[str], first: int | None) -> pl.DataFrame:
        """Pair the first word of each line with each of its other words.

        With `first`, pair the line's number instead, counted from `first`; the first word is then the count of the
        others.
        """
        (left, kind), (right, other) = self.columns.items()
        words = pl.Series(lines, dtype=pl.String).str.extract_all(r"\S+")
        heads, right_count = words.list.first(), True
        if first is not None:
            right_count = (heads.cast(pl.Int64, strict=False) + 1).eq_missing(words.list.len().cast(pl.Int64)).all()
            heads = pl.Series(range(first, first + len(lines)), dtype=pl.Int64)
        frame = pl.DataFrame({left: heads.cast(dtype(kind), strict=False), right: words.list.slice(1)})
        pairs = frame.filter(pl.col(right).list.len() > 0).explode(right)
        pairs = pairs.with_columns(pl.col(right).cast(dtype(other), strict=False))
        if right_count and clean(frame, {left: kind}) and clean(pairs, {right: other}):
            return pairs
        for number, line in enumerate(lines, 1):
            head, *rest = line.split() or [""]
            wrong = problem(left, kind, head) if first is None else None
            if first is not None and head != str(len(rest)):
                wrong = f"the count is {head!r}, but {len(rest)} follow"
            for word in rest:
                wrong = wrong or problem(right, other, word)
            if wrong:
                raise bad_line(path, number, wrong, line)
        raise DataError(f"{path}: cannot be read as {self}")


class Adjacency(_Pairs):
    """A line per user: `user item item ...`, split at white space; a user without items is valid and yields no row."""

    format: Literal["adjacency"]

    def parse(self, path: Path, text: bytes) -> pl.DataFrame:
        return self._pairs(path, text.decode().split("\n"), None)


class Negatives(_Pairs):
    """A line per user: `(user,item) item item ...`, a test item and sampled negatives (NCF's test.negative).

    The user is paired with the test item first, then with each negative.
    """

    format: Literal["negatives"]

    def parse(self, path: Path, text: bytes) -> pl.DataFrame:
        lines = text.decode().split("\n")
        heads = [re.match(r"\(([^\s(),]+),([^\s(),]+)\)(?=\s)", line) for line in lines]
        if None in heads:
            number = heads.index(None)
            raise bad_line(path, number + 1, "expected (user,item) and then items", lines[number])
        pairs = [f"{head[1]} {head[2]}{line[head.end() :]}" for head, line in zip(heads, lines, strict=True) if head]
        return self._pairs(path, pairs, None)


class Counts(_Pairs):
    """A line per user: `count item item ...`; the user id is the line's number (citeulike's users.dat).

    Attributes:
        first: number of the first line.
    """

    format: Literal["counts"]
    first: int = Field(default=0, ge=0)

    def parse(self, path: Path, text: bytes) -> pl.DataFrame:
        return self._pairs(path, text.decode().split("\n"), self.first)


class Lines(Format):
    """A text per line, possibly empty; its id is the line's number (citeulike's tags.dat).

    Attributes:
        columns: two names and types: of the line's number (int) and of the text (str).
        first: number of the first line.
    """

    format: Literal["lines"]
    first: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _a_number_and_a_text(self) -> Lines:
        if list(self.columns.values()) != ["int", "str"]:
            raise ValueError("columns: expected two, of types int and str")
        return self

    def parse(self, path: Path, text: bytes) -> pl.DataFrame:
        lines = [line.decode().removesuffix("\r") for line in text.split(b"\n")]
        numbers = range(self.first, self.first + len(lines))
        return pl.DataFrame(dict(zip(self.columns, (numbers, lines), strict=True)))


class JsonLines(NamedFormat):
    """A JSON object per line. A missing key, or null, is an error unless the column's type ends in `?`."""

    format: Literal["jsonl"]

    def parse(self, path: Path, text: bytes) -> pl.DataFrame:
        values: dict[str, list[Any]] = {name: [] for name in self.wanted}
        for number, encoded in enumerate(io.BytesIO(text), 1):
            line = encoded.decode().removesuffix("\n")
            record = _json(path, number, line)
            for name, kind in self.wanted.items():
                key = self.names.get(name, name)
                if key not in record and not kind.endswith("?"):
                    raise bad_line(path, number, f"no key {key!r}. {suggest(key, record)}", line)
                if wrong := value_problem(name, kind, record.get(key)):
                    raise bad_line(path, number, wrong, line)
                values[name].append(record.get(key))
        return pl.DataFrame(values, schema={name: dtype(kind) for name, kind in self.wanted.items()})


class JsonLists(_Pairs):
    """One JSON object `{"item": [attribute, ...], ...}`; a row per pair (S3-Rec's item2attributes)."""

    format: Literal["json_lists"]

    def parse(self, path: Path, text: bytes) -> pl.DataFrame:
        (left, kind), (right, other) = self.columns.items()
        heads, others = [], []
        for key, values in _json(path, 1, text.decode()).items():
            wrong = problem(left, kind, key) or (None if isinstance(values, list) else "expected a list")
            for value in values if not wrong else ():
                wrong = wrong or value_problem(right, other, value)
            if wrong:
                raise DataError(f"{path}, key {key!r}: {wrong}: {str(values)[:100]}")
            heads += [key] * len(values)
            others += values
        keys = pl.Series(heads, dtype=pl.String).cast(dtype(kind))
        return pl.DataFrame({left: keys, right: pl.Series(others, dtype=dtype(other))})


def _json(path: Path, number: int, text: str) -> dict[str, Any]:
    """The JSON object in `text`, which starts at line `number`."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        line = text.split("\n")[error.lineno - 1]
        raise bad_line(path, number + error.lineno - 1, f"malformed JSON ({error.msg})", line) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; lists within lists
        raise bad_line(path, number, f"JSON that cannot be read ({error})", text) from None
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise bad_line(path, number, f"{error.object[error.start]!r} is half of a character", text) from None
    if not isinstance(value, dict):
        raise bad_line(path, number, "expected a JSON object", text)
    return value
