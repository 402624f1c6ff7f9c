"""Read files of several formats into polars frames with raw ids; a bad row is an error that names file, line and text.

A format is a pydantic model, which validates a card's YAML, with a `read` method. `FileFormat` is the union of all
formats, discriminated by the field `format`; to add a format, add its class there.

For speed, polars parses large files, and whole columns are checked; only if something is wrong does a slow pass go
through the rows to name the first bad one. Files are read whole: memory peaks at three to four times their size.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from recgraph.data.formats import ColumnType, Format, NamedFormat, bad_line, clean, dtype, first_line, problem
from recgraph.data.lists import Adjacency, Counts, JsonLines, JsonLists, Lines, Negatives
from recgraph.errors import ConfigError, DataError, suggest

_MARK = "\x1f"  # ASCII's unit separator; replaces separators longer than one byte, which polars does not accept


class Table(NamedFormat):
    """Rows of fields with a separator: csv, tsv, `|`, `::`.

    Attributes:
        columns: with a header, the columns to read; without one, all columns of the file in order.
        separator: one or more characters; by default "," for csv and a tab for tsv.
        header: whether the first line names the columns.
        quote: the quote character; by default none, because titles and reviews contain stray quotes.
    """

    format: Literal["csv", "tsv"]
    separator: str | None = Field(default=None, min_length=1)
    header: bool = True
    quote: str | None = Field(default=None, pattern="^[!-~]$")

    @model_validator(mode="after")
    def _names_need_a_header(self) -> Table:
        if self.names and not self.header:
            raise ValueError("names: without a header, columns are taken in order")
        return self

    def parse(self, path: Path, text: bytes) -> pl.DataFrame:
        separator = mark = self.separator or {"csv": ",", "tsv": "\t"}[self.format]
        if len(separator.encode()) > 1:
            if _MARK.encode() in text:
                raise DataError(f"{path}: cannot be split at {separator!r}, for it holds the character {_MARK!r}")
            mark = _MARK
            text = text.replace(separator.encode(), mark.encode())
        fields = next(self._rows(path, text, mark))[2] if self.header else list(self.columns)
        places = {name: _place(path, fields, self.names.get(name, name)) for name in self.columns}
        if self.header and b"\n" not in text:
            return pl.DataFrame()  # releases of polars differ on empty input

        fault = "polars and the row by row reader disagree"
        source, widths = self._requoted(path, text, mark) if self.quote else (text, None)
        given = {name: f"column_{places[name] + 1}" for name in self.wanted}  # polars insists on these names
        schema: dict[str, Any] = {f"column_{place + 1}": pl.String for place in range(len(fields))}
        schema |= {given[name]: dtype(kind) for name, kind in self.wanted.items()}
        try:
            frame = pl.read_csv(
                source,
                has_header=False,
                skip_rows=int(self.header),
                separator=mark,
                quote_char=self.quote,
                schema=schema,
                columns=list(given.values()),
            ).select(pl.col(column).alias(name) for name, column in given.items())
            # Polars refuses longer rows, but pads shorter ones.
            height, marks = frame.height + self.header, len(fields) - 1
            rectangular = (widths == {len(fields): height}) if widths else text.count(mark.encode()) == height * marks
            if rectangular and clean(frame, self.wanted):
                if mark != separator:  # inside quotes, it is text
                    frame = frame.with_columns(pl.col(pl.String).str.replace_all(mark, separator, literal=True))
                plain = [name for name, kind in self.wanted.items() if kind == "str"]
                return frame.with_columns(pl.col(name).fill_null("") for name in plain)
        except pl.exceptions.PolarsError as error:
            fault = str(error)
        for number, line, row in self._rows(path, text, mark):
            wrong = None if len(row) == len(fields) else f"expected {len(fields)} fields, found {len(row)}"
            for name, kind in self.columns.items() if number > self.header else ():
                wrong = wrong or problem(name, kind, row[places[name]])
            if wrong:
                raise bad_line(path, number, wrong, line.replace(mark, separator))
        raise DataError(f"{path}: cannot be read: {fault}")

    def _rows(self, path: Path, text: bytes, mark: str) -> Iterator[tuple[int, str, list[str]]]:
        """Line number, text and fields of every row, parsed without polars and thus slowly."""
        lines = (line.decode() for line in io.BytesIO(text))
        if self.quote is None:
            for number, line in enumerate(lines, 1):
                line = line.removesuffix("\n").removesuffix("\r")
                yield number, line, line.split(mark)
            return
        reader = csv.reader(lines, delimiter=mark, quotechar=self.quote, strict=True)
        before = csv.field_size_limit(sys.maxsize)  # a long review is no fault
        try:
            for row in reader:
                yield reader.line_num, mark.join(row), row
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: {error}") from None
        finally:
            csv.field_size_limit(before)

    def _requoted(self, path: Path, text: bytes, mark: str) -> tuple[bytes, Counter[int]]:
        """The text with quotes around whole fields only, and how many rows have how many fields.

        Polars takes a quote inside a field for an opening one, and loses the rows up to the next quote.
        """
        rows, widths = io.TextIOWrapper(io.BytesIO(), "utf-8", newline=""), Counter[int]()
        writer = csv.writer(rows, delimiter=mark, quotechar=self.quote, lineterminator="\n")
        for _, _, row in self._rows(path, text, mark):
            writer.writerow(row)
            widths[len(row)] += 1
        return rows.detach().getvalue(), widths


class RecBole(NamedFormat):
    """RecBole's atomic files: tab-separated, with a header such as `user_id:token`, `rating:float`, `class:token_seq`.

    Attributes:
        columns: the columns to read; by default all under their own names, float as float and everything else as str.
    """

    format: Literal["recbole"]
    columns: dict[str, ColumnType] = Field(default={})

    def parse(self, path: Path, text: bytes) -> pl.DataFrame:
        header = first_line(text)
        types: dict[str, str] = {}
        for field in header.split("\t"):
            name, _, kind = field.rpartition(":")
            if not name or kind not in ("token", "token_seq", "float", "float_seq"):
                expected = "a name with :token, :token_seq, :float or :float_seq"
                raise bad_line(path, 1, f"{field!r} is not {expected}", header)
            types[name] = kind
        columns = self.columns or {name: "float" if types[name] == "float" else "str" for name in types}
        names = {}
        for name in columns:
            field = list(types)[_place(path, list(types), self.names.get(name, name))]
            names[name] = f"{field}:{types[field]}"
        return Table(format="tsv", columns=columns, names=names).parse(path, text)


FileFormat = Annotated[
    Table | RecBole | Adjacency | Negatives | Counts | Lines | JsonLines | JsonLists, Field(discriminator="format")
]
"""The format of a file as in a card: `{format: tsv, header: false, columns: {user: int, item: int}}`."""

_ADAPTER: TypeAdapter[Format] = TypeAdapter(FileFormat)


def read(path: Path, format: str, **options: Any) -> pl.DataFrame:
    """Read `path` in the named format; `options` are the fields of the format's class.

    Raises:
        ConfigError: no such format or option.
        DataError: see `Format.read`.
    """
    try:
        layout = _ADAPTER.validate_python({"format": format, **options})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"format {format!r}: {'.'.join(map(str, first['loc'][1:]))}: {first['msg']}") from None
    return layout.read(path)


def _place(path: Path, fields: list[str], name: str) -> int:
    """Position of a column in the file."""
    if name not in fields:
        raise DataError(f"{path}: no column {name!r} in the header. {suggest(name, fields)}")
    if fields.count(name) > 1:
        raise DataError(f"{path}: two columns are called {name!r} in the header")
    return fields.index(name)
