"""Terms (words and tags) and how often each occurs in a row."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from jaxtyping import Int
from scipy import sparse

from recgraph.data.features import Kind
from recgraph.errors import DataError

SEPARATOR = "|"
"""Separates the tags of a text cell, as in MovieLens."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, Kana and Han, which put no spaces between words."""

_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u065f\u0900-\u0dff"
"""Marks within words that `\\w` leaves out: accents, Hebrew and Arabic points, vowel signs of India's scripts."""

_PAIRED = re.compile(f"[{_UNSPACED}]")
_WORD = re.compile(rf"[{_UNSPACED}]+|(?:[^\W_{_UNSPACED}]|[{_MARKS}]){{2,}}")


def words(text: str) -> list[str]:
    """The words of a text, in lower case; single letters are left out.

    In scripts without spaces between words, each pair of neighbouring characters counts as a word.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    matches: list[str] = _WORD.findall(folded)
    if not _PAIRED.search(folded):  # most texts
        return matches
    found: list[str] = []
    for match in matches:
        if _PAIRED.match(match):
            found += [match[at : at + 2] for at in range(max(1, len(match) - 1))]
        else:
            found.append(match)
    return found


def texts(column: pl.Series, where: str) -> list[str]:
    """The texts of a column, "" where one is missing.

    Raises:
        DataError: the column does not hold text.
    """
    if column.dtype not in (pl.String, pl.Null):
        raise DataError(f"{where}: column {column.name!r}: expected text, got {column.dtype}")
    return [text or "" for text in column.to_list()]


def cells(frame: pl.DataFrame, kinds: Mapping[str, Kind], where: str) -> list[list[str]]:
    """The terms of each row: the words of its texts, or its tags as "column=tag".

    Raises:
        DataError: a column cannot hold text or tags.
    """
    rows: list[list[str]] = [[] for _ in range(len(frame))]
    for column, kind in kinds.items():
        values = frame[column]
        if kind == "text":
            for row, text in zip(rows, texts(values, where), strict=True):
                row += words(text)
            continue
        if kind == "numeric":  # a numeric column with `ids`
            values = values.cast(pl.Float64).cast(pl.String)
        if kind == "multi_hot" and values.dtype == pl.String:
            values = values.str.split(SEPARATOR)
        if values.dtype.is_float() or (values.dtype.is_nested() and not isinstance(values.dtype, pl.List)):
            raise DataError(f"{where}: column {column!r}: expected tags, got {values.dtype}")
        for row, tags in zip(rows, values.to_list(), strict=True):
            several = tags if isinstance(tags, list) else [tags]
            row += [f"{column}={str(tag).strip()}" for tag in several if tag is not None and str(tag).strip()]
    return rows


@dataclass(frozen=True)
class Terms:
    """A vocabulary of terms.

    Attributes:
        names: the terms, sorted.
    """

    names: tuple[str, ...]

    @classmethod
    def learn(cls, rows: Sequence[Iterable[str]], min_rows: int, max_rows: float) -> tuple[Terms, sparse.csr_matrix]:
        """The terms that are in `min_rows` to `max_rows` rows, and their counts in each row."""
        frequency = Counter(term for row in rows for term in set(row))
        kept = cls(tuple(sorted(term for term, count in frequency.items() if min_rows <= count <= max_rows)))
        return kept, kept.count(rows)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def places(self, rows: Sequence[Iterable[str]]) -> Int[np.ndarray, "found 2"]:
        """(Row, index in `names`) of each occurrence of a known term, in order."""
        found = [(row, self._index[term]) for row, terms in enumerate(rows) for term in terms if term in self._index]
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def count(self, rows: Sequence[Iterable[str]]) -> sparse.csr_matrix:
        """How often each term occurs in each row [rows, terms]; unknown terms are ignored."""
        pairs = self.places(rows)
        counts = sparse.csr_matrix((np.ones(len(pairs)), pairs.T), (len(rows), len(self.names)))
        counts.sum_duplicates()
        return counts
