"""Splits: pure functions of interactions and a generator, which put every row into exactly one part, in file order.

Validation is always taken from what is not test.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from scipy import sparse

from recgraph.data.interactions import PARTS, Interactions
from recgraph.data.prepare import describe
from recgraph.errors import ConfigError, DataError
from recgraph.registry import splits
from recgraph.types import NonNegativeFloat, PositiveFloat

TRAIN, VALIDATION, TEST = range(3)
Ratios = tuple[float, float, float]
Shares = tuple[PositiveFloat, NonNegativeFloat, PositiveFloat]


@dataclass(frozen=True, eq=False)
class Split:
    """Three parts of one table, which share vocabularies but no (user, item) pair.

    Attributes:
        candidates: users × items, Boolean: the items that sampled metrics rank for test, including the test items; None
            if none are stored.

    Raises:
        DataError: train or test is empty, or two parts share a pair.
    """

    name: str
    train: Interactions
    validation: Interactions
    test: Interactions
    candidates: sparse.csr_matrix | None = None

    def __post_init__(self) -> None:
        parts = dict(zip(PARTS, (self.train, self.validation, self.test), strict=True))
        for part in ("train", "test"):
            if not len(parts[part]):
                raise DataError(f"split {self.name}: the {part} part is empty")
        pairs = [pl.Series(part.pairs).unique() for part in parts.values()]
        together = pl.concat(pairs)
        if together.n_unique() < len(together):
            shared = together.filter(together.is_duplicated())
            where = [part for part, own in zip(PARTS, pairs, strict=True) if shared[0] in own]
            raise DataError(
                f"split {self.name}: {shared.n_unique()} pairs are in more than one part, such as "
                f"{describe(self.train, shared[0])} in {' and '.join(where)}"
            )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the three parts and the candidates; results are comparable only if it is equal."""
        parts = [self.train.fingerprint, self.validation.fingerprint, self.test.fingerprint]
        if self.candidates is not None:
            where = np.stack(self.candidates.sorted_indices().nonzero()).astype("<i8")
            parts.append(hashlib.sha256(where.tobytes()).hexdigest())
        return hashlib.sha256("/".join(parts).encode()).hexdigest()


@splits.register("random_by_user")
def random_by_user(
    interactions: Interactions, generator: np.random.Generator, *, ratios: Shares = (0.8, 0.1, 0.1)
) -> Split:
    """Shuffle each user's rows and cut them by ratios, rounded as RecBole does (see `shares`).

    Args:
        ratios: of train, validation and test; divided by their sum.
    """
    rows, counts = _grouped(interactions, generator.permutation(len(interactions)))
    parts = np.empty(len(rows), np.int8)
    parts[rows] = _in_turn(*shares(counts, _normalised(ratios)))
    return _cut("random_by_user", interactions, parts)


@splits.register("random")
def random(interactions: Interactions, generator: np.random.Generator, *, ratios: Shares = (0.8, 0.1, 0.1)) -> Split:
    """Shuffle all rows, regardless of user, and cut them by ratios, rounded as in `shares`.

    A user may have no row in train. This split suits click prediction, where each row is predicted by itself.

    Args:
        ratios: of train, validation and test; divided by their sum.
    """
    parts = np.empty(len(interactions), np.int8)
    counts = shares(np.array([len(interactions)]), _normalised(ratios))
    parts[generator.permutation(len(interactions))] = _in_turn(*counts)
    return _cut("random", interactions, parts)


@splits.register("leave_last_out")
def leave_last_out(
    interactions: Interactions, generator: np.random.Generator, *, order: Literal["time", "file"] = "time"
) -> Split:
    """Each user's last row is test, and the one before it validation.

    Train has priority, then test: of two rows, one is train and one test; a single row is train.

    Args:
        order: "time" (ties in file order), or "file" to declare that the file is chronological.
    """
    rows = np.arange(len(interactions))
    if order == "time":
        times = _times(interactions, "leave_last_out", ", and `order: file` is not set")
        rows = np.argsort(times.to_numpy(), kind="stable")
    rows, counts = _grouped(interactions, rows)
    validation, test = (counts > 2).astype(int), (counts > 1).astype(int)
    parts = np.empty(len(rows), np.int8)
    parts[rows] = _in_turn(counts - validation - test, validation, test)
    return _cut("leave_last_out", interactions, parts)


@splits.register("global_time")
def global_time(
    interactions: Interactions, generator: np.random.Generator, *, ratios: Shares = (0.8, 0.1, 0.1)
) -> Split:
    """Cut all users' rows at the same two points in time; rows of equal time stay together, in the later part.

    Args:
        ratios: of train, validation and test rows, up to ties; divided by their sum.
    """
    not_later = _times(interactions, "global_time").rank("max").to_numpy()
    train, validation, _ = shares(np.array([len(interactions)]), _normalised(ratios))
    parts = (not_later > train).astype(np.int8) + (not_later > train + validation)
    return _cut("global_time", interactions, parts)


@splits.register("official")
def official(
    interactions: Interactions,
    generator: np.random.Generator,
    *,
    validation: float = 0.1,
    carve: Literal["tail", "random", "latest", "items"] = "tail",
) -> Split:
    """The files' own split; if they have no validation part, it is taken from train, never from test.

    Args:
        validation: share of each user's train rows to take as validation, in [0, 1), rounded as in `shares`; unused if
            the files have a validation part.
        carve: which train rows to take. "tail" takes the last rows of each user in file order, "random" random rows.
            Files in order of time with test last, such as Gowalla's, need "tail": a random part ranks models
            differently from test. "latest" takes each user's last row by time (ties in file order), whatever the share,
            but not a user's only row; it suits files that leave one out for test. "items" takes all rows of that share
            of train's items, drawn at random; it suits files whose test items are new, since these are then new too.
    """
    if "part" not in interactions.frame.columns:
        raise DataError("split official: the files of this dataset hold no split")
    codes = [TRAIN, VALIDATION, TEST]
    parts = interactions.frame["part"].replace_strict(list(PARTS), codes, return_dtype=pl.Int8).to_numpy().copy()
    if validation and not (parts == VALIDATION).any():
        rows = np.flatnonzero(parts == TRAIN)
        if carve == "items":
            items, place = np.unique(interactions.item_indices[rows], return_inverse=True)
            parts[rows] = _draw(len(items), generator, validation, 0)[place]
            return _cut("official", interactions, parts)
        if carve == "random":
            rows = generator.permutation(rows)
        elif carve == "latest":
            rows = rows[
                np.argsort(_times(interactions, "official", " for `carve: latest`").to_numpy()[rows], kind="stable")
            ]
        rows, counts = _grouped(interactions, rows)
        sizes = shares(counts, _normalised((1 - validation, validation, 0)))
        if carve == "latest":
            one = (counts > 1).astype(int)
            sizes = counts - one, one, np.zeros_like(one)
        parts[rows] = _in_turn(*sizes)
    return _cut("official", interactions, parts)


@splits.register("item_cold")
def item_cold(
    interactions: Interactions, generator: np.random.Generator, *, validation: float = 0.1, test: float = 0.1
) -> Split:
    """Items of validation and test are new: none of their rows is in another part.

    Args:
        validation: share of the items, in [0, 1).
        test: share of the items, in (0, 1).
    """
    parts = _draw(interactions.num_items, generator, validation, test)
    return _cut("item_cold", interactions, parts[interactions.item_indices])


@splits.register("user_cold")
def user_cold(
    interactions: Interactions, generator: np.random.Generator, *, validation: float = 0.1, test: float = 0.1
) -> Split:
    """Users of validation and test are new: none of their rows is in another part.

    Args:
        validation: share of the users, in [0, 1).
        test: share of the users, in (0, 1).
    """
    parts = _draw(interactions.num_users, generator, validation, test)
    return _cut("user_cold", interactions, parts[interactions.user_indices])


@splits.register("warm_and_cold")
def warm_and_cold(
    interactions: Interactions,
    generator: np.random.Generator,
    *,
    side: Literal["item", "user"] = "item",
    cold: float = 0.2,
    ratios: tuple[PositiveFloat, NonNegativeFloat, NonNegativeFloat] = (0.8, 0.1, 0.1),
) -> Split:
    """Cold and warm items: validation and test contain all rows of the cold items and some rows of the warm ones.

    Items are drawn to be warm or cold. All rows of one half of the cold items are validation, those of the other half
    test. The rows of warm items are shuffled and cut by ratios, except that each warm item, and each user with a warm
    item, keeps a row in train: an item is cold if and only if it has no row in train. This is the protocol of GAR (Chen
    et al., SIGIR 2022) and ALDI (Huang et al., SIGIR 2023), with its own random draws.

    A metric such as ndcg@20:cold ranks cold items alone. No metric measures cold users alone; `user_cold` does.

    Args:
        side: "user" for cold users instead of items. Items that only cold users had are cold as well.
        cold: share of the items, or users, that are cold, in (0, 1).
        ratios: of train, validation and test rows of the warm ones; divided by their sum.
    """
    if not 0 < cold < 1:
        raise ConfigError(f"split warm_and_cold: cold: expected a share above 0 and below 1, got {cold}")
    own, other = interactions.item_indices, interactions.user_indices
    if side == "user":
        own, other = other, own
    size = interactions.num_items if side == "item" else interactions.num_users
    parts = _draw(size, generator, cold / 2, cold / 2)[own].astype(np.int8)
    warm = generator.permutation(np.flatnonzero(parts == TRAIN))
    stays = np.zeros(len(warm), bool)
    for indices in (own, other):
        stays[np.unique(indices[warm], return_index=True)[1]] = True
    counts = np.concatenate(shares(np.array([len(warm)]), _normalised(ratios)))
    of_warm = np.repeat([TRAIN, VALIDATION, TEST], counts)
    of_warm[: stays.sum()] = TRAIN
    parts[np.concatenate([warm[stays], warm[~stays]])] = of_warm
    return _cut("warm_and_cold", interactions, parts)


def shares(counts: np.ndarray, ratios: Ratios) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of train, validation and test rows for `counts` rows, rounded as RecBole does.

    Validation and test get the floor of their share, train the rest. Then, test before validation, a part whose share
    is above 0 but below 1 row gets one row from train, as long as train keeps one.
    """
    validation, test = np.floor(counts * ratios[1]).astype(int), np.floor(counts * ratios[2]).astype(int)
    for part, ratio in ((test, ratios[2]), (validation, ratios[1])):
        part += (ratio > 0) & (counts * ratio < 1) & (counts - validation - test > 1)
    return counts - validation - test, validation, test


def _grouped(interactions: Interactions, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`rows` grouped by user, users ascending, in the same order within each user; and each user's number of rows."""
    users = interactions.user_indices[rows]
    # A stable argsort, done as a sort of keys that include the position: numpy's sort is ten times as fast as argsort.
    grouped = np.sort((users << 32) + np.arange(len(rows))) & (2**32 - 1)
    return rows[grouped], np.bincount(users, minlength=interactions.num_users)


def _in_turn(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Parts of grouped rows: each user's first rows are train, the next validation, the last test, by these numbers."""
    pattern = np.tile(np.array([TRAIN, VALIDATION, TEST], np.int8), len(train))
    return np.repeat(pattern, np.stack([train, validation, test], axis=1).ravel())


def _draw(size: int, generator: np.random.Generator, validation: float, test: float) -> np.ndarray:
    """A part for each of `size` users or items, drawn at random in the given shares."""
    counts = shares(np.array([size]), _normalised((1 - validation - test, validation, test)))
    return generator.permutation(np.repeat([TRAIN, VALIDATION, TEST], np.concatenate(counts)))


def _times(interactions: Interactions, name: str, otherwise: str = "") -> pl.Series:
    if "time" not in interactions.frame.columns:
        raise DataError(f"split {name}: the dataset has no `time` column{otherwise}")
    return interactions.frame["time"]


def _normalised(ratios: Ratios) -> Ratios:
    train, validation, test = ratios
    if not (train > 0 and validation >= 0 and test >= 0):
        raise ConfigError(f"shares of a split: expected train > 0, others >= 0, got {ratios}")
    total = sum(ratios)
    return train / total, validation / total, test / total


def _cut(name: str, interactions: Interactions, parts: np.ndarray) -> Split:
    """The split that puts row k into part `parts[k]`."""
    train, validation, test = (interactions.select(parts == part) for part in (TRAIN, VALIDATION, TEST))
    return Split(name, train, validation, test)
