"""Datasets by name: fetch the files of a card, prepare them, check the result, cache it as parquet."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from recgraph import files
from recgraph.data.cards import Card, CardForm, data_root, find
from recgraph.data.features import Attributes, Features, kinds, load_attributes
from recgraph.data.fetch import fetch
from recgraph.data.interactions import PARTS, Interactions, Vocabulary
from recgraph.data.prepare import count_duplicates, prepare
from recgraph.data.splits import Split
from recgraph.errors import DataError
from recgraph.random import numpy_generator
from recgraph.registry import splits

logger = logging.getLogger(__name__)

CACHE_VERSION = 2
"""Part of the cache key; raise it when a change of the preparation code changes its results."""

TABLES = ("interactions", "users", "items", "candidates")
HASHES = "hashes.json"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset ready for use.

    Attributes:
        card: its card.
        form: the form it was read from.
        interactions: prepared interactions.
        features: attributes of users and items.
        candidates: indices `user` and `item` (UInt32) of stored candidates, in file order; empty if there are none.
        folder: where the prepared tables are cached.
    """

    card: Card
    form: str
    interactions: Interactions
    features: Features
    candidates: pl.DataFrame
    folder: Path

    def split(self, spec: str | Mapping[str, Any] | None = None, *, seed: int) -> Split:
        """Split the interactions; an official split also gets the stored candidates, if any, plus its test items.

        Args:
            spec: a split's name, or a mapping with `name` and options; None for the card's default. Options that
                are not given are taken from the card if it lists the split.
            seed: the split draws from its own random stream of this seed.

        Raises:
            ConfigError: no such split or option.
            DataError: the split does not suit the data, or leaves a part empty.
        """
        given = dict(spec) if isinstance(spec, Mapping) else {"name": spec or self.card.default_split}
        options = self.card.splits.get(str(given.get("name")), {})
        generator = numpy_generator(seed, "split")
        try:
            made: Split = splits.build({**options, **given}, self.interactions, generator, where="split")
        except DataError as error:
            raise DataError(f"dataset {self.card.name}: {error}") from error
        if not self.card.has_candidates(made.name):
            return made
        pairs = (
            pl.concat([self.candidates, made.test.frame.select("user", "item")]).unique().to_numpy().astype(np.int64)
        )
        shape = (self.interactions.num_users, self.interactions.num_items)
        return replace(made, candidates=sparse.csr_matrix((np.ones(len(pairs), bool), pairs.T), shape))


def load(name: str, *, root: Path | None = None) -> Dataset:
    """Load a dataset, from the cache if its card and files are unchanged since it was prepared.

    Args:
        name: of a card.
        root: data root; see `recgraph.data.cards`.

    Raises:
        ConfigError: no card has that name.
        DataError: the files cannot be obtained, are bad, or do not match the card; or the cache cannot be written.
    """
    root = data_root() if root is None else root
    card = find(name, root)
    fetched = fetch(name, card.forms, root)
    form = card.forms[fetched.form]
    hashes = {file: hash_file(fetched.folder / file) for file in sorted(form.files)}
    content = [CACHE_VERSION, card.model_dump(mode="json"), fetched.form, hashes]
    folder = root / "cache" / f"{name}-{files.digest(content, 16)}"
    tables = _read_cache(folder)
    if tables is None:
        interactions, features, candidates = build(card, fetched.form, fetched.folder)
        frames = (interactions.frame, features.users.frame, features.items.frame, candidates)
        _write_cache(folder, dict(zip(TABLES, frames, strict=True)))
    else:
        frame, users, items, candidates = (tables[name] for name in TABLES)
        interactions = Interactions(frame, Vocabulary(users["id"]), Vocabulary(items["id"]))
        features = Features(
            Attributes(users, kinds("user", form.features)), Attributes(items, kinds("item", form.features))
        )
    return Dataset(card, fetched.form, interactions, features, candidates, folder)


def build(card: Card, form: str, folder: Path) -> tuple[Interactions, Features, pl.DataFrame]:
    """Read and prepare a dataset from the raw files in `folder`, and check it against the card.

    Raises:
        DataError: a file is bad, or counts or fingerprint differ from the card's.
    """
    source = card.forms[form]
    tables = []
    for table in source.interactions:
        frame = table.read.read(folder / table.file)
        tables.append(frame if table.part is None else frame.with_columns(part=pl.lit(table.part)))
    try:
        raw = Interactions.from_frame(pl.concat(tables))
        interactions = prepare(raw, **card.preparation.model_dump())
    except DataError as error:
        raise DataError(f"dataset {card.name} in {folder}: {error}") from error
    found = {"duplicates": count_duplicates(raw), "fingerprint": interactions.fingerprint, **counts(interactions)}
    expected = card.expected.model_dump(exclude_none=True)
    wrong = [
        f"{found.get(key, 0)} {key}, expected {value}" for key, value in expected.items() if found.get(key, 0) != value
    ]
    if wrong:
        raise DataError(f"dataset {card.name} in {folder} is not what its card says: {'; '.join(wrong)}")
    users = load_attributes("user", interactions.users, source.features, folder)
    items = load_attributes("item", interactions.items, source.features, folder)
    return interactions, Features(users, items), _read_candidates(source, folder, interactions)


def _read_candidates(form: CardForm, folder: Path, interactions: Interactions) -> pl.DataFrame:
    """The candidates of a form, as in `Dataset`."""
    if form.candidates is None:
        return pl.DataFrame(schema={"user": pl.UInt32, "item": pl.UInt32})
    path = folder / form.candidates.file
    frame = form.candidates.read.read(path)
    each = np.unique(frame.group_by("user").len()["len"].to_numpy())
    if len(each) > 1:  # the name of a sampled metric states one number for all users
        raise DataError(f"{path}: users have from {each[0]} to {each[-1]} candidates; expected as many for each")
    columns = {}
    for name, vocabulary in (("user", interactions.users), ("item", interactions.items)):
        try:
            columns[name] = vocabulary.encode(frame[name]).astype(np.uint32)
        except DataError as error:
            raise DataError(f"{path}: {name}: {error}") from None
    tested = interactions.user_indices[interactions.frame["part"].to_numpy() == "test"]
    if len(lacking := np.setdiff1d(tested, columns["user"])):
        user = interactions.users.series[int(lacking[0])]
        raise DataError(f"{path}: {len(lacking)} users of the test part have no candidates, such as {user!r}")
    return pl.DataFrame(columns)


def counts(interactions: Interactions) -> dict[str, int]:
    """Numbers of users, items and interactions; for an official split also rows by part and test ids not in train."""
    found = {"users": interactions.num_users, "items": interactions.num_items, "interactions": len(interactions)}
    if "part" in interactions.frame.columns:
        part = interactions.frame["part"].to_numpy()
        rows = {name: part == name for name in PARTS}
        found |= {name: int(mask.sum()) for name, mask in rows.items()}
        for side, indices in (("users", interactions.user_indices), ("items", interactions.item_indices)):
            found[f"test_only_{side}"] = len(np.setdiff1d(indices[rows["test"]], indices[rows["train"]]))
    return found


def info(name: str, *, root: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """What `recgraph data info` prints; fetches and prepares the dataset first if necessary.

    Returns:
        Plain values: the card's texts, form, counts, density to six digits, quantiles of rows per user and per item,
        columns, features, rows and fingerprint of the default split at `seed`, fingerprint of all interactions, cache
        folder.
    """
    dataset = load(name, root=root)
    card, interactions = dataset.card, dataset.interactions
    split = dataset.split(seed=seed)
    density = len(interactions) / (interactions.num_users * interactions.num_items)
    features = {"user": dict(dataset.features.users.kinds), "item": dict(dataset.features.items.kinds)}
    return {
        **card.model_dump(include={"name", "title", "source", "paper", "licence", "notes"}),
        "form": dataset.form,
        "counts": counts(interactions),
        "density": float(f"{density:.6g}"),
        "rows per user": _quantiles(interactions.user_indices),
        "rows per item": _quantiles(interactions.item_indices),
        "columns": interactions.frame.columns,
        "features": {side: kinds for side, kinds in features.items() if kinds},
        "split": {
            "name": split.name,
            "seed": seed,
            **{part: len(getattr(split, part)) for part in PARTS},
            "fingerprint": split.fingerprint,
        },
        "fingerprint": interactions.fingerprint,
        "cache": str(dataset.folder),
    }


def _quantiles(indices: np.ndarray) -> dict[str, float]:
    """Quantiles of the number of rows per index."""
    names = ("min", "25%", "median", "75%", "max")
    values = np.quantile(np.bincount(indices), (0, 0.25, 0.5, 0.75, 1))
    return dict(zip(names, values.tolist(), strict=True))


def _write_cache(folder: Path, tables: Mapping[str, pl.DataFrame]) -> None:
    """Write the tables, then their hashes: the cache is read only if these exist and match.

    Raises:
        DataError: the disk is full or not writable; the folder is removed.
    """
    hashes = {}
    try:
        for name, table in tables.items():
            buffer = io.BytesIO()
            table.write_parquet(buffer)
            with files.replacing(folder / f"{name}.parquet") as temporary:
                temporary.write_bytes(buffer.getbuffer())
            hashes[name] = hash_file(folder / f"{name}.parquet")
        files.write_json(folder / HASHES, hashes)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        remedy = "make room, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise DataError(
            f"cannot write the prepared data to {folder}: {error.strerror or error}; "
            f"{remedy}name another folder in RECGRAPH_DATA"
        ) from error


def _read_cache(folder: Path) -> dict[str, pl.DataFrame] | None:
    """The cached tables, or None if they are missing, incomplete or damaged."""
    if not (folder / HASHES).exists():
        return None
    try:
        hashes = json.loads((folder / HASHES).read_text(encoding="utf-8"))
        if all(hash_file(folder / f"{name}.parquet") == hashes[name] for name in TABLES):
            return {name: pl.read_parquet(folder / f"{name}.parquet", glob=False) for name in TABLES}
    except (OSError, ValueError, KeyError):
        pass
    logger.warning("prepared data in %s is damaged; preparing it again", folder)
    return None


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
