"""Numbers and ready-made vectors as matrices, with NaN where they are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from recgraph.data.features import Kind
from recgraph.errors import DataError
from recgraph.files import replacing

LARGEST = float(np.sqrt(np.finfo(np.float32).max))
"""About 1.8e19; the square of a larger number overflows float32. Times in nanoseconds are a tenth of that."""

TOO_LARGE = f"beyond what is computed with; expected numbers from -{LARGEST:.2g} to {LARGEST:.2g}"


def matrix(
    frame: pl.DataFrame, kinds: Mapping[str, Kind], where: str, width: int | None
) -> Float[np.ndarray, "rows width"]:
    """Numeric columns side by side, or one column of vectors; NaN where missing, and for vectors of zeros.

    Args:
        frame: has the columns, and `id` for messages.
        kinds: column -> "numeric" or "vector".
        where: path of the modality's entry, for messages.
        width: of the vectors; None for the most frequent width.

    Raises:
        DataError: a value is not a number, not finite or beyond ±`LARGEST`, a vector has another width, or there are no
            vectors.
    """
    if "vector" not in kinds.values():
        for column in kinds:
            if not (frame[column].dtype.is_numeric() or frame[column].dtype == pl.Null):
                raise DataError(f"{where}: column {column!r}: expected numbers, got {frame[column].dtype}")
        numbers = frame.select(pl.col(column).cast(pl.Float64) for column in kinds)
        for column in kinds:
            address = f"{where}: column {column!r}"
            refuse(frame, ~numbers[column].is_finite().fill_null(True), address, "is not finite")
            refuse(frame, (numbers[column].abs() > LARGEST).fill_null(False), address, f"is {TOO_LARGE}")
        return numbers.with_columns(pl.all().fill_null(np.nan)).to_numpy().astype(np.float64)
    (column,) = kinds
    single = getattr(frame[column].dtype, "inner", None) == pl.Float32  # as most files; float64 takes twice as much
    try:
        vectors = frame[column].cast(pl.List(pl.Float32 if single else pl.Float64))
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{where}: column {column!r}: expected vectors of numbers: {error}") from error
    lengths = vectors.list.len()
    if width is None:
        often = Counter(lengths.drop_nulls().to_list())
        width = max(often, key=lambda length: (often[length], length), default=0)
    if not width:
        raise DataError(f"{where}: column {column!r} holds no vector")
    refuse(frame, (lengths != width).fill_null(False), f"{where}: column {column!r}", f"is not {width} numbers long")
    here = vectors.is_not_null().to_numpy()
    values = vectors.drop_nulls().explode().to_numpy().reshape(-1, width)
    lowest, highest = values.min(1), values.max(1)  # NaN where a number is, so that no copy of `values` is needed
    bad = np.zeros(len(frame), bool)
    bad[here] = ~(np.isfinite(lowest) & np.isfinite(highest))
    refuse(frame, pl.Series(bad), f"{where}: column {column!r}", "holds a number that is missing or not finite")
    bad[here] = (lowest < -LARGEST) | (highest > LARGEST)
    refuse(frame, pl.Series(bad), f"{where}: column {column!r}", f"holds a number {TOO_LARGE}")
    found = np.full((len(frame), width), np.nan, values.dtype)
    found[here] = values
    found[np.flatnonzero(here)[(lowest == 0) & (highest == 0)]] = np.nan
    return found


def read_vectors(path: Path, ids: pl.Series, where: str) -> pl.DataFrame:
    """Vectors from a file, aligned with `ids`: the columns `id` and `vector`, null where the file has none.

    Args:
        path: parquet with `id` and `vector`; or .npy, with the `id`s of its rows in the parquet file of the same name.
        ids: original ids in the order of the vocabulary; other ids in the file are left out.
        where: path of the modality's entry, for messages.

    Raises:
        DataError: a file is missing, damaged or lacks a column; an id is repeated; the ids are of another type, or none
            is known; or the numbers of vectors and ids differ.
    """
    try:
        table = pl.read_parquet(path.with_suffix(".parquet"), glob=False)
        if path.suffix == ".npy" and "id" in table.columns:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
            if values.ndim != 2 or len(values) != len(table):
                raise DataError(
                    f"{path}: expected a matrix of {len(table)} rows, one for each id of "
                    f"{path.with_suffix('.parquet').name}, got the shape {values.shape}"
                )
            values = np.ascontiguousarray(values, np.float32 if values.dtype == np.float32 else np.float64)
            table = table.select("id").with_columns(pl.Series("vector", values))
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}.file: cannot read {path}: {error}") from error
    if missing := {"id", "vector"} - set(table.columns):
        raise DataError(f"{path}: no column {', '.join(sorted(missing))}; expected id and vector, got {table.columns}")
    if table["id"].is_duplicated().any():
        raise DataError(f"{path}: the id {table['id'].filter(table['id'].is_duplicated())[0]!r} is repeated")
    if table["id"].dtype.is_integer():
        table = table.with_columns(pl.col("id").cast(pl.Int64))
    if table["id"].dtype != ids.dtype:
        raise DataError(f"{path}: ids are {table['id'].dtype}, but {ids.dtype} in the interactions")
    aligned = pl.DataFrame({"id": ids}).join(table.select("id", "vector"), on="id", how="left", maintain_order="left")
    if aligned["vector"].null_count() == len(aligned):
        raise DataError(f"{path}: none of its ids, such as {table['id'].head(3).to_list()}, is in the dataset")
    return aligned


def refuse(frame: pl.DataFrame, bad: pl.Series, where: str, problem: str) -> None:
    """Raise a DataError for the first row where `bad` is True."""
    if bad.any():
        row = int(bad.arg_true()[0])
        who = f"the row of id {frame['id'][row]!r}" if "id" in frame.columns else f"row {row + 1}"
        raise DataError(f"{where}: {who} {problem}")


def write_vectors(path: Path, vectors: Float[np.ndarray, "rows dim"], ids: pl.Series) -> list[Path]:
    """Write vectors as an .npy matrix and, with their ids, as a parquet file beside it; returns both paths."""
    written = [path.with_suffix(".npy"), path.with_suffix(".parquet")]
    with replacing(written[0]) as temporary, temporary.open("wb") as file:
        np.save(file, vectors)
    with replacing(written[1]) as temporary:
        pl.DataFrame({"id": ids, "vector": vectors}).write_parquet(temporary)
    return written
