"""One modality: from columns of one kind to a vector for each row, by a function that is fitted on some of the rows.

Text and tags become TF-IDF, which a truncated SVD makes dense (latent semantic analysis: Deerwester et al., "Indexing
by latent semantic analysis", JASIS 1990), or text a sum of its words' vectors (`words.py`), or what a language model
makes of it (`sentences.py`); numbers are standardised; vectors that are ready, such as a language model's, are centred.
All but numbers are then brought to length 1. A row without anything to go by is masked: no text, no known word, no
number, a vector of zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float
from pydantic import ConfigDict, Field, PositiveInt, model_validator
from scipy import sparse

from recgraph.data.features import Kind, Side
from recgraph.data.sentences import SENTENCE, check_same, sentence_vectors
from recgraph.data.terms import Terms, cells, texts
from recgraph.data.text_settings import TextSettings
from recgraph.data.vectors import matrix
from recgraph.data.words import without_common, word_vectors
from recgraph.errors import ConfigError, DataError, suggest
from recgraph.types import Modality

Group = Literal["text", "tags", "numbers", "vectors"]
GROUPS: Mapping[Kind, Group] = {
    "text": "text",
    "categorical": "tags",
    "multi_hot": "tags",
    "numeric": "numbers",
    "vector": "vectors",
}
"""Kind of a column -> what is done with it; the columns of a modality share one."""

TINY = 1e-6
"""A row shorter than this has nothing to go by: rounding errors of an SVD are below it."""

ROUNDING = 1e-12
"""A spread below this share of the largest number is the rounding error of a constant, which is divided by 1."""


class ModalitySettings(TextSettings):
    """An entry of the `content:` block of an experiment file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: Side = "item"
    """Whose columns they are."""
    columns: tuple[str, ...] = ()
    """Features of the dataset's card, all of text, all of tags (categorical and multi_hot), all numeric, or vectors."""
    file: str | None = None
    """In place of columns: ready vectors. A parquet file with the columns `id` and `vector`, or an .npy matrix beside a
    parquet file of the same name with its `id`s, as `recgraph export` writes them. Relative to the data root."""
    dim: PositiveInt = 300
    """Of text and tags: width after the SVD (300 in DropoutNet's CiteULike). Fewer terms than that stay as they are."""
    min_count: PositiveInt = 2
    """Of text and tags: rows that a term must be in."""
    max_share: float = Field(default=0.5, gt=0, le=1)
    """Of text: share of the rows above which a word is no content (a stop word, in whatever language)."""
    ids: bool = False
    """Of one column of tags or numbers: ids of its values in place of a vector, for the encoder `fields`. A value that
    too few rows with training interactions have is none."""

    @model_validator(mode="after")
    def _of_one_column(self) -> ModalitySettings:
        if self.ids and len(self.columns) != 1:
            raise ValueError("ids are of one column's values: name the column")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> ModalitySettings:
        if bool(self.columns) == (self.file is not None):
            raise ValueError("expected either `columns` or `file`")
        return self


@dataclass(frozen=True, eq=False)
class FittedModality:
    """What makes the vectors of one modality, for rows that are yet to come as well.

    Attributes:
        settings: its entry.
        kinds: column -> kind.
        terms: words or tags, in the order of `arrays["idf"]`; empty for numbers and vectors.
        arrays: "idf" and, of an SVD, "components" [dim, terms]; or "mean" and "scale".
    """

    settings: ModalitySettings
    kinds: Mapping[str, Kind]
    terms: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]

    @property
    def group(self) -> Group:
        """What its columns are."""
        return _group(self.settings, self.kinds)

    @property
    def width(self) -> int:
        """Length of its vectors."""
        return len(self.arrays["components"] if "components" in self.arrays else next(iter(self.arrays.values())))

    def transform(self, frame: pl.DataFrame, where: str) -> Modality:
        """The vectors of the rows of `frame`.

        Raises:
            ConfigError: a column is missing.
            DataError: a value is of a wrong kind, not finite, or a vector of another width.
        """
        if self.settings.ids:
            return _ids(_raw(frame, self.kinds, where, Terms(self.terms), None))
        if self.settings.by == "sentences":
            check_same(self.arrays["probe"], str(self.settings.model), where)
            raw = _sentences(self.settings, frame, self.kinds, where)
            return _unit(raw - self.arrays["mean"], ~np.isnan(raw).any(1))
        raw = _raw(frame, self.kinds, where, Terms(self.terms), self.width)
        if self.group in ("text", "tags"):
            assert sparse.issparse(raw)
            values = _project(_tfidf(raw, self.arrays["idf"]), self.arrays.get("components"))
            return _unit(values, np.diff(raw.indptr) > 0)
        known = ~np.isnan(raw)
        centred = np.where(known, raw - self.arrays["mean"], 0) / self.arrays["scale"]
        if self.group == "numbers":
            return Modality(torch.from_numpy(centred.astype(np.float32)), torch.from_numpy(known.any(1)))
        return _unit(centred, known.all(1))


def fit_modality(
    settings: ModalitySettings,
    frame: pl.DataFrame,
    kinds: Mapping[str, Kind],
    known: Bool[np.ndarray, "rows"],
    where: str,
) -> FittedModality:
    """Fit one modality on the rows where `known` is True; the others may hold anything.

    Args:
        settings: its entry.
        frame: columns of its side, aligned with the vocabulary.
        kinds: kind of each column.
        known: rows that have training interactions.
        where: address of the entry, for messages.

    Raises:
        ConfigError: no such column, or columns of different kinds.
        DataError: a value is wrong, or known rows have no term in common.
    """
    own = own_kinds(settings, kinds, where)
    rows = frame.filter(pl.Series(known))
    group = _group(settings, own)
    if settings.by == "sentences":
        raw = _sentences(settings, rows, own, where)
        if np.isnan(raw).all():
            raise DataError(f"{where}: no row with training interactions has a text in {', '.join(own)}")
        (probe,) = sentence_vectors([SENTENCE], str(settings.model), where)
        return FittedModality(settings, own, (), {"mean": np.nanmean(raw, 0), "probe": probe})
    if group in ("text", "tags"):
        limit = settings.max_share * len(rows) if group == "text" else len(rows)
        listed = cells(rows, own, where)
        terms, counts = Terms.learn(listed, settings.min_count, limit)
        if not terms.names:
            raise DataError(
                f"{where}: no term of {', '.join(own)} is in at least {settings.min_count} of the {len(rows)} rows "
                f"with training interactions and in at most {limit:g}"
            )
        if settings.ids:
            return FittedModality(settings, own, terms.names, {})
        n, frequency = counts.shape[0], np.diff(counts.tocsc().indptr)
        arrays = {"idf": (np.log((1 + n) / (1 + frequency)) + 1).astype(np.float32)}
        if settings.by == "words":
            places, size = terms.places(listed), len(terms.names)
            vectors = word_vectors(places, size, window=settings.window, shift=settings.shift, dim=settings.dim)
            vectors = without_common(vectors, _tfidf(counts, arrays["idf"]) @ vectors)
            if not _unit(_tfidf(counts, arrays["idf"]) @ vectors, np.ones(len(rows), bool)).present.any():
                raise DataError(
                    f"{where}: which words of {', '.join(own)} stand near each other tells no texts apart: expected "
                    "pairs that meet more often than by chance, not everywhere the same"
                )
            arrays["components"] = np.ascontiguousarray(vectors.T, np.float32)
            return FittedModality(settings, own, terms.names, arrays)
        dim = min(settings.dim, len(rows) - 1)
        if 1 <= dim < len(terms.names):
            from sklearn.decomposition import TruncatedSVD  # slow to import

            svd = TruncatedSVD(dim, random_state=0).fit(_tfidf(counts, arrays["idf"]))
            arrays["components"] = np.ascontiguousarray(svd.components_, np.float32)
        return FittedModality(settings, own, terms.names, arrays)
    raw = _raw(rows, own, where, None, None)
    known_values = ~np.isnan(raw)
    count = known_values.sum(0)
    if not count.all():
        raise DataError(f"{where}: a column of {', '.join(own)} has no value in any row with training interactions")
    mean = np.where(known_values, raw, 0).sum(0) / count
    scale = np.ones_like(mean)
    if group == "numbers":
        spread = np.sqrt((np.where(known_values, raw - mean, 0) ** 2).sum(0) / count)
        scale = np.where(spread > ROUNDING * np.nanmax(np.abs(raw), axis=0), spread, 1)
    return FittedModality(settings, own, (), {"mean": mean, "scale": scale})  # float64: a time has ten digits


def own_kinds(settings: ModalitySettings, kinds: Mapping[str, Kind], where: str) -> dict[str, Kind]:
    """The kinds of a modality's columns.

    Raises:
        ConfigError: there is no such column, or they cannot be treated alike.
    """
    columns = settings.columns or tuple(kinds)
    for column in columns:
        if column not in kinds:
            raise ConfigError(
                f"{where}.columns: no feature {column!r} of {settings.side}s in this dataset. {suggest(column, kinds)}"
            )
    own = {column: kinds[column] for column in columns}
    if len({GROUPS[kind] for kind in own.values()}) > 1:
        listed = ", ".join(f"{column} ({kind})" for column, kind in own.items())
        raise ConfigError(f"{where}.columns: a modality takes columns that can be treated alike, got {listed}")
    if settings.ids and own[columns[0]] in ("text", "vector"):
        raise ConfigError(f"{where}.ids: ids are of tags or numbers, and {columns[0]} is of the kind {own[columns[0]]}")
    if len(own) > 1 and "vector" in own.values():
        raise ConfigError(f"{where}.columns: vectors are a modality each, got {', '.join(own)}")
    if settings.by != "tfidf" and set(own.values()) != {"text"}:
        raise ConfigError(f"{where}.by: it is of text, and {columns[0]} is of the kind {own[columns[0]]}; take it out")
    return own


def _sentences(settings: ModalitySettings, frame: pl.DataFrame, kinds: Mapping[str, Kind], where: str) -> np.ndarray:
    """Vectors of the texts of each row, a line for each column; NaN where there is none."""
    _check_columns(frame, kinds, where)
    columns = [texts(frame[column], where) for column in kinds]
    joined = ["\n".join(text for text in row if text.strip()) for row in zip(*columns, strict=True)]
    return sentence_vectors(joined, str(settings.model), where)


def _raw(frame: pl.DataFrame, kinds: Mapping[str, Kind], where: str, terms: Terms | None, width: int | None) -> Any:
    """Counts of known terms (CSR), or numbers with NaN where nothing is known."""
    _check_columns(frame, kinds, where)
    if terms is not None and terms.names:
        return terms.count(cells(frame, kinds, where))
    return matrix(frame, kinds, where, width)


def _check_columns(frame: pl.DataFrame, kinds: Mapping[str, Kind], where: str) -> None:
    for column in kinds:
        if column not in frame.columns:
            raise ConfigError(f"{where}: no column {column!r}. {suggest(column, frame.columns)}")


def _group(settings: ModalitySettings, kinds: Mapping[str, Kind]) -> Group:
    """What is done with the columns; of ids, numbers are tags."""
    return "tags" if settings.ids else GROUPS[next(iter(kinds.values()))]


def _ids(counts: sparse.csr_matrix) -> Modality:
    """The terms of each row, counted from 1, and zeros up to the most that a row has."""
    several = np.diff(counts.indptr)
    values = np.zeros((len(several), max(1, several.max(initial=0))), np.int64)
    values[np.arange(values.shape[1]) < several[:, None]] = counts.indices + 1
    return Modality(torch.from_numpy(values), torch.from_numpy(several > 0))


def _tfidf(counts: sparse.csr_matrix, idf: Float[np.ndarray, "terms"]) -> sparse.csr_matrix:
    """(1 + ln count) · idf, rows of length 1."""
    weighted = counts.astype(np.float32)
    weighted.data = (1 + np.log(weighted.data)) * idf[weighted.indices]
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    weighted.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(weighted.indptr))
    return weighted


def _project(weighted: sparse.csr_matrix, components: Float[np.ndarray, "dim terms"] | None) -> np.ndarray:
    return weighted.toarray() if components is None else np.asarray(weighted @ components.T)


def _unit(values: np.ndarray, known: Bool[np.ndarray, "rows"]) -> Modality:
    """Rows of length 1; those that are not known, or too short to have a direction, are zeros and masked."""
    lengths = np.linalg.norm(values, axis=1)
    known = known & (lengths > TINY)
    scaled = np.where(known[:, None], values, 0) / np.where(known, lengths, 1)[:, None]
    return Modality(torch.from_numpy(scaled.astype(np.float32)), torch.from_numpy(known))
