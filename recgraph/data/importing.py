"""Import the user's own file as a dataset: `recgraph data import FILE --user C --item C`."""

from __future__ import annotations

import csv
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from pydantic import TypeAdapter

from recgraph import files
from recgraph.data.cards import NAME, Card, data_root, find, names
from recgraph.data.datasets import counts, hash_file
from recgraph.data.formats import Encoding, Format, first_line, load_text
from recgraph.data.interactions import EXACT, Interactions
from recgraph.data.prepare import Duplicates, count_duplicates, prepare
from recgraph.data.readers import FileFormat
from recgraph.errors import ConfigError, DataError, suggest

SEPARATORS = ("\t", "::", ",", ";", "|", " ")
QUOTING = (",", ";")
"""Separators with which quotes enclose fields; with others they are text, unless the whole header is in quotes."""

NOTHING = ("NA", "N/A", "NaN", "nan", "None", "NULL", "Null", "null", r"\N")
"""What other programs write for a missing value, and what is a user or an item if it stands for an id."""

NUMBER = re.compile(r"[+-]?[0-9]+\.?[0-9]*")
HEADER = (
    "Import needs a first line that names the columns; for a file without one, write a card (see datasets/README.md)"
)

logger = logging.getLogger(__name__)

READER: TypeAdapter[Format] = TypeAdapter(FileFormat)


def import_file(
    path: Path,
    *,
    user: str,
    item: str,
    time: str | None = None,
    rating: str | None = None,
    name: str | None = None,
    separator: str | None = None,
    encoding: Encoding = "utf-8",
    duplicates: Duplicates = "error",
    root: Path | None = None,
) -> Path:
    """Copy a file of interactions into the data root and write a card for it, so that it can be loaded by name.

    Args:
        path: csv or tsv with a header, or JSON lines; plain or gzipped.
        user: column of user ids: whole numbers, or any text.
        item: column of item ids.
        time: column of times: numbers that increase with time, in any unit, or dates in ISO 8601.
        rating: column of ratings: numbers. Every row counts as a positive unless a `threshold` is set in the card.
        name: of the dataset; by default the file's.
        separator: between columns; None to detect it from the header.
        encoding: of the text.
        duplicates: which row of a repeated (user, item) pair to keep; see `recgraph.data.prepare`.
        root: data root; see `recgraph.data.cards`.

    Returns:
        The card, `<root>/<name>.yaml`, meant to be edited. The file is copied to `<root>/raw/<name>/`, so the dataset
        does not depend on the original.

    Raises:
        ConfigError: the name is taken or invalid, or a column is given twice.
        DataError: the file is bad, lacks a column, or cannot be copied.
    """
    root = data_root() if root is None else root
    if "\\" in path.name:
        raise ConfigError(f"{path}: a card cannot name a file whose name has a backslash; rename it")
    name = name or re.sub(r"[^a-z0-9._-]+", "-", path.name.lower().partition(".")[0]).strip("-._")
    if not re.match(NAME, name):
        raise ConfigError(
            f"dataset name: expected lower-case letters, digits and . _ -, got {name!r}: choose one with --name"
        )
    if name in names(root):
        undo = "" if find(name, root).source else f", or delete {root / f'{name}.yaml'} and {root / 'raw' / name}"
        raise ConfigError(f"there is a dataset called {name!r} already; choose another one with --name{undo}")

    given = {"user": user, "item": item, "time": time, "rating": rating}
    columns = {key: column for key, column in given.items() if column}
    for column in columns.values():
        if len(roles := [key for key in columns if columns[key] == column]) > 1:
            raise ConfigError(f"column {column!r} is given for {' and '.join(roles)}")
    layout = _layout(path, columns, separator, encoding)
    frame = READER.validate_python(layout).read(path)
    for side in ("user", "item"):
        ids = frame[side].unique()
        if ids.dtype == pl.String and (same := len(ids) - ids.str.strip_chars().n_unique()):
            logger.warning("%s: %d ids of %r differ from others by spaces alone, and count as others", path, same, side)
        if ids.dtype == pl.String and (lost := sorted(set(ids) & set(NOTHING))):
            rows = int(frame[side].is_in(lost).sum())
            logger.warning("%s: the %s of %d rows is %s, which counts as an id", path, side, rows, " or ".join(lost))
    try:
        raw = Interactions.from_frame(frame)
        found = counts(prepare(raw, duplicates=duplicates)) | {"duplicates": count_duplicates(raw)}
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    suitable = [
        "random_by_user",
        *(["leave_last_out", "global_time"] if time else []),
        "item_cold",
        "user_cold",
        "warm_and_cold",
    ]
    card = Card.model_validate(
        {
            "name": name,
            "title": path.name,
            "licence": "not stated",
            "forms": {
                "file": {
                    "files": {path.name: {"sha256": hash_file(path)}},
                    "interactions": [{"file": path.name, "read": layout}],
                }
            },
            "preparation": {"duplicates": duplicates},
            "splits": {split: {} for split in suitable},
            "expected": found,
        }
    )
    text = yaml.safe_dump(card.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    try:
        with files.replacing(root / "raw" / name / path.name) as temporary:
            shutil.copyfile(path, temporary)
        files.write_text(root / f"{name}.yaml", text)
    except OSError as error:
        raise DataError(f"cannot write to {root}: {error.strerror or error}") from error
    return root / f"{name}.yaml"


def _layout(path: Path, columns: dict[str, str], separator: str | None, encoding: Encoding) -> dict[str, Any]:
    """The file's format as written in a card, detected from the header and the values.

    Args:
        columns: name in the table -> name in the file.
    """
    separator = None if separator is None else separator.replace(r"\t", "\t")  # as typed in a shell
    text = _load(path, encoding)
    header = first_line(text)
    names = {name: column for name, column in columns.items() if name != column}
    if re.match(rb'\s*\[\s*[\[{"]', text):
        raise DataError(f"{path}: a JSON array; expected JSON lines, which are an object on each line, without commas")
    if header.startswith("{"):
        first = _first_object(path, header)
        for column in columns.values():
            if column not in first:
                raise DataError(f"{path}, line 1: no key {column!r}. {suggest(column, first)}")
        types = {name: "int" if isinstance(first[columns[name]], int) else "str" for name in ("user", "item")}
        types |= {name: "float" for name in columns if name not in types}
        if "time" in columns:
            time = first[columns["time"]]  # later ones may have a fraction even if the first has none
            whole = isinstance(time, int) and time > EXACT
            types["time"] = "date" if isinstance(time, str) else "int" if whole else "float"
        return {"format": "jsonl", "encoding": encoding, "columns": types, "names": names}

    quoted = b'"' in text
    headers = {mark: _fields(header, mark, quoted) for mark in ([separator] if separator else SEPARATORS)}
    mark = max(headers, key=lambda mark: (len(set(columns.values()) & set(headers[mark])), len(headers[mark])))
    for column in columns.values():
        if column not in headers[mark]:
            raise DataError(f"{path}: no column {column!r} in the header. {suggest(column, headers[mark])} {HEADER}")
    for side in ("user", "item"):
        if NUMBER.fullmatch(columns[side]):
            raise DataError(f"{path}: the first line looks like data, with {columns[side]!r} as the {side}. {HEADER}")
    layout = {
        "format": "csv",
        "encoding": encoding,
        "separator": mark,
        "columns": dict.fromkeys(columns, "str"),
        "names": names,
    }
    if quoted and _encloses(header, mark):
        layout["quote"] = '"'
    del text  # before the file is read again
    frame = READER.validate_python(layout).read(path)
    return {**layout, "columns": {name: _type(frame[name]) for name in columns}}


def _load(path: Path, encoding: Encoding) -> bytes:
    """The text of the file, in UTF-8.

    Raises:
        DataError: see `load_text`; or the file is not text but an archive, a spreadsheet or the like.
    """
    try:
        text = load_text(path, encoding)
        binary = b"\0" in text
    except DataError as error:
        if not isinstance(cause := error.__cause__, UnicodeDecodeError):
            raise
        if not (binary := b"\0" in cause.object):
            raise DataError(f"{error}. Name the encoding, as in `--encoding latin-1`") from None
    if binary:
        raise DataError(
            f"{path}: not text, for it holds zero bytes, as archives, spreadsheets and UTF-16 do; "
            "unpack it, or save it as csv in UTF-8"
        )
    return text


def _type(column: pl.Series) -> str:
    """The narrowest type of a column read as text.

    An id such as 007 stays text: as a number it would be 7. Negative numbers count as integers, so that reading them
    as ids fails.
    """
    whole = r"^(0|-?[1-9][0-9]{0,17})$"
    if column.name == "time" and column.head(1).cast(pl.Float64, strict=False).has_nulls():
        return "date"  # or neither, which reading refuses
    if column.name == "time":  # nanoseconds are whole numbers that have too many digits for a float
        return "float" if column.cast(pl.Int64, strict=False).has_nulls() else "int"
    if column.name == "rating":
        return "float"
    return "int" if column.str.contains(whole).all() else "str"


def _fields(header: str, mark: str, quoted: bool) -> list[str]:
    return next(csv.reader([header], delimiter=mark)) if quoted and _encloses(header, mark) else header.split(mark)


def _encloses(header: str, mark: str) -> bool:
    """Whether quotes enclose fields, as in R's tables of any separator."""
    enclosed = all(len(field) > 1 and field[0] == field[-1] == '"' for field in header.split(mark))
    return mark in QUOTING or (len(mark) == 1 and enclosed)


def _first_object(path: Path, line: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line 1: not a JSON object on one line: {error}") from None
