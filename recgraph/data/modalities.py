"""One modality: a function, fitted on some of the rows, that turns columns of one kind into a vector for each row.

Text and tags become TF-IDF vectors, made dense by a truncated SVD (latent semantic analysis: Deerwester et al.,
"Indexing by latent semantic analysis", JASIS 1990). Text can also become a weighted sum of word vectors (`words.py`) or
a language model's vector (`sentences.py`). Numbers are standardised. Ready-made vectors, and those of a language model,
are centred. All vectors but those of numbers are then scaled to length 1. A row without information (no text, no known
word, no number, a vector of zeros) is masked.
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
"""Kind of a column -> how it is processed; all columns of a modality are processed alike."""

TINY = 1e-6
"""A vector shorter than this counts as zero: rounding errors of an SVD are below it."""

ROUNDING = 1e-12
"""A standard deviation below this share of the largest absolute value is the rounding error of a constant; the constant
is divided by 1 instead."""


class ModalitySettings(TextSettings):
    """An entry of the `content:` block of an experiment file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: Side = "item"
    """Whether these are attributes of users or of items."""
    columns: tuple[str, ...] = ()
    """Features of the dataset's card: text only, tags only (categorical and multi_hot), numeric only, or one vector."""
    file: str | None = None
    """Ready-made vectors instead of columns: a parquet file with the columns `id` and `vector`, or an .npy matrix and a
    parquet file of the same name with its `id`s, as `recgraph export` writes them. Relative to the data root."""
    dim: PositiveInt = 300
    """For text and tags: width after the SVD (300 in DropoutNet's CiteULike). No SVD if there are no more terms."""
    min_count: PositiveInt = 2
    """For text and tags: minimum number of rows that contain a term; rarer terms are dropped."""
    max_share: float = Field(default=0.5, gt=0, le=1)
    """For text: words in a larger share of the rows are dropped as stop words, in whatever language."""
    ids: bool = False
    """For one column of tags or numbers: ids of its values instead of a vector, for the encoder `fields`. Values in
    fewer than `min_count` rows with training interactions are dropped."""

    @model_validator(mode="after")
    def _of_one_column(self) -> ModalitySettings:
        if self.ids and len(self.columns) != 1:
            raise ValueError("ids are of one column's values: name the column")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> ModalitySettings:
        if bool(self.columns) == (self.file is not None):
            raise ValueError("expected either `columns` or `file`")
        idle = ("dim", "max_share") if self.ids else ("dim", "min_count", "max_share") if self.file is not None else ()
        for option in idle:
            if getattr(self, option) != type(self).model_fields[option].default:
                what = "`ids`" if self.ids else "vectors of a `file`, which stay as they are"
                raise ValueError(f"`{option}` does nothing with {what}")
        return self


@dataclass(frozen=True, eq=False)
class FittedModality:
    """A modality after fitting, which computes the vectors of any rows, also of those added later.

    Attributes:
        settings: its entry in the `content:` block.
        kinds: column -> kind.
        terms: words, tags or, with `ids`, values; in the order of `arrays["idf"]`. Empty for numbers, vectors and
            sentences.
        arrays: "idf" and, with an SVD or word vectors, "components" [dim, terms]; "mean" and "scale" for numbers and
            vectors; "mean" and "probe", the vector of `SENTENCE`, for sentences; none with `ids`.
    """

    settings: ModalitySettings
    kinds: Mapping[str, Kind]
    terms: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]

    @property
    def group(self) -> Group:
        """How its columns are processed."""
        return _group(self.settings, self.kinds)

    @property
    def width(self) -> int:
        """Width of its vectors."""
        return len(self.arrays["components"] if "components" in self.arrays else next(iter(self.arrays.values())))

    def transform(self, frame: pl.DataFrame, where: str) -> Modality:
        """The vectors of the rows of `frame`.

        Raises:
            ConfigError: a column is missing, or the language model is missing or not the one of training.
            DataError: a value is of a wrong type or not finite, or a vector has another width.
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
        raw -= self.arrays["mean"]  # in place, since ready-made vectors can be large
        raw /= self.arrays["scale"]
        raw[~known] = 0
        if self.group == "numbers":
            return Modality(torch.from_numpy(raw.astype(np.float32)), torch.from_numpy(known.any(1)))
        return _unit(raw, known.all(1))


def fit_modality(
    settings: ModalitySettings,
    frame: pl.DataFrame,
    kinds: Mapping[str, Kind],
    known: Bool[np.ndarray, "rows"],
    where: str,
) -> FittedModality:
    """Fit one modality on the rows where `known` is True; the others have no influence.

    Args:
        settings: its entry.
        frame: columns of its side, aligned with the vocabulary.
        kinds: kind of each column.
        known: True for rows with training interactions.
        where: path of the entry, for messages.

    Raises:
        ConfigError: a column is missing, columns cannot be processed alike, or the language model is missing.
        DataError: a value is invalid, or the known rows have nothing to fit on, such as no frequent enough term.
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
    mean = raw.sum(0, np.float64, where=known_values) / count
    scale = np.ones_like(mean)
    if group == "numbers":
        spread = np.sqrt((np.where(known_values, raw - mean, 0) ** 2).sum(0) / count)
        scale = np.where(spread > ROUNDING * np.nanmax(np.abs(raw), axis=0), spread, 1)
    return FittedModality(settings, own, (), {"mean": mean, "scale": scale})  # float64, since times have ten digits


def own_kinds(settings: ModalitySettings, kinds: Mapping[str, Kind], where: str) -> dict[str, Kind]:
    """The kinds of a modality's columns.

    Raises:
        ConfigError: a column is missing, or the columns cannot be processed alike or as the settings ask.
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
    """Sentence vectors of each row's texts, joined with a line for each column; NaN for rows without text."""
    _check_columns(frame, kinds, where)
    columns = [texts(frame[column], where) for column in kinds]
    joined = ["\n".join(text for text in row if text.strip()) for row in zip(*columns, strict=True)]
    return sentence_vectors(joined, str(settings.model), where)


def _raw(frame: pl.DataFrame, kinds: Mapping[str, Kind], where: str, terms: Terms | None, width: int | None) -> Any:
    """Counts of known terms (CSR), or numbers with NaN where they are missing."""
    _check_columns(frame, kinds, where)
    if terms is not None and terms.names:
        return terms.count(cells(frame, kinds, where))
    return matrix(frame, kinds, where, width)


def _check_columns(frame: pl.DataFrame, kinds: Mapping[str, Kind], where: str) -> None:
    for column in kinds:
        if column not in frame.columns:
            raise ConfigError(f"{where}: no column {column!r}. {suggest(column, frame.columns)}")


def _group(settings: ModalitySettings, kinds: Mapping[str, Kind]) -> Group:
    """How the columns are processed; with `ids`, numbers count as tags."""
    return "tags" if settings.ids else GROUPS[next(iter(kinds.values()))]


def _ids(counts: sparse.csr_matrix) -> Modality:
    """The ids of each row's terms, counted from 1 and padded with zeros to the longest row."""
    several = np.diff(counts.indptr)
    values = np.zeros((len(several), max(1, several.max(initial=0))), np.int64)
    values[np.arange(values.shape[1]) < several[:, None]] = counts.indices + 1
    return Modality(torch.from_numpy(values), torch.from_numpy(several > 0))


def _tfidf(counts: sparse.csr_matrix, idf: Float[np.ndarray, "terms"]) -> sparse.csr_matrix:
    """(1 + ln count) · idf, rows scaled to length 1."""
    weighted = counts.astype(np.float32)
    weighted.data = (1 + np.log(weighted.data)) * idf[weighted.indices]
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    weighted.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(weighted.indptr))
    return weighted


def _project(weighted: sparse.csr_matrix, components: Float[np.ndarray, "dim terms"] | None) -> np.ndarray:
    return weighted.toarray() if components is None else np.asarray(weighted @ components.T)


def _unit(values: np.ndarray, known: Bool[np.ndarray, "rows"]) -> Modality:
    """Rows scaled to length 1; unknown rows, and those too short to have a direction, become zeros and are masked."""
    lengths = np.linalg.norm(values, axis=1)
    known = known & (lengths > TINY)
    scaled = values / np.where(known, lengths, 1)[:, None]
    scaled[~known] = 0
    return Modality(torch.from_numpy(scaled.astype(np.float32, copy=False)), torch.from_numpy(known))
