"""Prepare a raw table for training: pure functions from Interactions to Interactions.

Each keeps rows in file order, and drops ids without rows from the vocabularies.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from recgraph.data.interactions import Interactions, Vocabulary
from recgraph.errors import DataError

Duplicates = Literal["error", "first", "last"]


def prepare(
    interactions: Interactions,
    *,
    duplicates: Duplicates = "error",
    threshold: float | None = None,
    user_core: int = 1,
    item_core: int = 1,
) -> Interactions:
    """Deduplicate, then keep ratings of at least `threshold`, then reduce to the k-core.

    Deduplication comes first, so that only the rating it keeps decides whether a pair is a positive.
    """
    interactions = deduplicate(interactions, duplicates)
    if threshold is not None:
        interactions = binarise(interactions, threshold)
    return k_core(interactions, user_core, item_core)


def count_duplicates(interactions: Interactions) -> int:
    """Number of rows whose (user, item) pair has an earlier row."""
    return len(interactions) - pl.Series(interactions.pairs).n_unique()


def deduplicate(interactions: Interactions, policy: Duplicates) -> Interactions:
    """Keep the "first" or "last" row, in file order, of each (user, item) pair; "error" allows no repeated pair.

    Raises:
        DataError: the policy is "error" and a pair is repeated; or, whatever the policy, a pair is in two parts of an
            official split, since dropping one of them would hide a leak.
    """
    if not (repeated := count_duplicates(interactions)):
        return interactions
    pairs = pl.Series("pair", interactions.pairs)
    if "part" in interactions.frame.columns:
        parts = pl.DataFrame([pairs, interactions.frame["part"]]).unique()["pair"]
        if parts.n_unique() < len(parts):
            leaked = parts.filter(parts.is_duplicated()).unique().sort()
            raise DataError(
                f"{len(leaked)} pairs are in more than one part of the official split, "
                f"such as {describe(interactions, leaked[0])}"
            )
    if policy == "error":
        pair = pairs.filter(pairs.is_duplicated())[0]
        raise DataError(
            f"{repeated} rows repeat a (user, item) pair, such as {describe(interactions, pair)}; "
            "say which to keep: `--duplicates first` (or last) in an import, `duplicates: first` (or last) in a card"
        )
    kept = pairs.is_first_distinct() if policy == "first" else pairs.is_last_distinct()
    return interactions.select(kept.to_numpy())


def binarise(interactions: Interactions, threshold: float) -> Interactions:
    """Keep the rows whose rating is at least `threshold`.

    Raises:
        DataError: there is no rating column, or no row is left.
    """
    if "rating" not in interactions.frame.columns:
        raise DataError("a rating threshold needs a `rating` column")
    return _compact(interactions, interactions.frame["rating"].to_numpy() >= threshold)


def k_core(interactions: Interactions, user_min: int, item_min: int) -> Interactions:
    """The largest set of rows in which each user has at least `user_min` rows and each item at least `item_min`.

    Dropping an item may push a user below the limit, and vice versa, hence the loop until nothing changes.

    Raises:
        DataError: no row is left.
    """
    rows = np.arange(len(interactions))
    users, items = interactions.user_indices, interactions.item_indices
    while True:
        enough = (np.bincount(users)[users] >= user_min) & (np.bincount(items)[items] >= item_min)
        if enough.all():
            return _compact(interactions, rows)
        rows, users, items = rows[enough], users[enough], items[enough]


def describe(interactions: Interactions, pair: int) -> str:
    """A (user, item) pair, coded as in `Interactions.pairs`, by its original ids."""
    user, item = divmod(pair, interactions.num_items)
    return f"user {interactions.users.series[user]!r}, item {interactions.items.series[item]!r}"


def _compact(interactions: Interactions, rows: np.ndarray) -> Interactions:
    """Select rows and drop ids without any."""
    kept = interactions.select(rows)
    if not len(kept):
        raise DataError("no interaction is left after preparation: lower the threshold or the core")
    users, user_column = _renumber(interactions.users, kept.user_indices)
    items, item_column = _renumber(interactions.items, kept.item_indices)
    frame = kept.frame.with_columns(pl.Series("user", user_column), pl.Series("item", item_column))
    return Interactions(frame, users, items)


def _renumber(vocabulary: Vocabulary, indices: np.ndarray) -> tuple[Vocabulary, np.ndarray]:
    present = np.bincount(indices, minlength=len(vocabulary)) > 0
    renumbered = (np.cumsum(present) - 1)[indices].astype(np.uint32)
    return Vocabulary(vocabulary.series.filter(pl.Series(present))), renumbered
