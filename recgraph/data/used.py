"""Which attributes of users and items a run reads, and a fingerprint of their values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from recgraph.data.features import Features
from recgraph.data.interactions import column_bytes
from recgraph.data.vectors import matrix, read_vectors


def attributes_fingerprint(config: Mapping[str, Any], features: Features, root: Path) -> str | None:
    """SHA-256 (hex) of the columns, files and language models that a configuration names; None if it names none.

    The split's fingerprint leaves attributes out, since rows of a table are compared whatever attributes they read.

    Args:
        config: of a run; its `content:`, `relations:` and `labels:` name attributes.
        features: attributes of both sides.
        root: data root, to which the paths of vector files are relative.

    Raises:
        DataError: a file cannot be read, or does not hold vectors.
    """
    frames = {"user": features.users.frame, "item": features.items.frame}
    columns, files, models = set(), set(), set()
    for name, entry in config.get("content", {}).items():
        columns |= {(entry["side"], column) for column in entry["columns"]}
        models.add(entry.get("model"))
        if entry["file"] is not None:
            files.add((name, entry["side"], entry["file"]))
    relations, labels = config.get("relations", {}).values(), config.get("labels", {}).values()
    columns |= {(entry["side"], entry["column"]) for entry in relations if entry["column"] is not None}
    columns |= {(entry["of"], entry["feature"]) for entry in labels if entry["of"] in frames}
    models |= {entry.get("text_model") for entry in labels}
    folders = [Path(model) for model in sorted(models - {None}) if Path(model).is_dir()]  # names are of fixed weights
    # Columns that the dataset lacks are refused elsewhere, with the path of their entry.
    known = [(side, name) for side, name in sorted(columns) if name in frames[side].columns]
    if not (known or files or folders):
        return None
    hasher = hashlib.sha256()
    for side, name in known:
        hasher.update(f"{side};".encode())
        for chunk in _chunks(frames[side][name]):
            hasher.update(chunk)
    for name, side, file in sorted(files):
        where = f"content.{name}"
        vectors = matrix(read_vectors(root / file, frames[side]["id"], where), {"vector": "vector"}, where, None)
        hasher.update(f"{side}/{name}/{vectors.shape[1]};".encode())
        hasher.update(vectors.astype("<f8").data)
    for folder in folders:
        for path in sorted(filter(Path.is_file, folder.rglob("*"))):
            hasher.update(f"{path.relative_to(folder)};".encode() + _hashed(path, path.stat().st_mtime_ns))
    return hasher.hexdigest()


@cache
def _hashed(path: Path, changed: int) -> bytes:
    """SHA-256 of a file, read once as long as it does not change: a language model has hundreds of megabytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _chunks(column: pl.Series) -> Iterator[bytes | memoryview]:
    """A column as bytes; for lists, their lengths and then their values."""
    for part in (column.list.len(), column.explode()) if isinstance(column.dtype, pl.List) else (column,):
        known = part.cast(pl.Int64) if part.dtype == pl.Null else part
        yield from column_bytes(known, "<i8" if known.dtype.is_integer() else "<f8")
