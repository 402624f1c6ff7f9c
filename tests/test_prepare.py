"""Preparation against plain loops."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recgraph.data.interactions import Interactions
from recgraph.data.prepare import binarise, count_duplicates, deduplicate, k_core, prepare
from recgraph.errors import DataError

Row = tuple[int, str, float]
ROWS = st.lists(
    st.tuples(st.integers(10, 16), st.sampled_from("abcdef"), st.sampled_from([1.0, 3.0, 5.0])),
    min_size=1,
    max_size=40,
)


def table(rows: list[Row]) -> Interactions:
    return Interactions.from_frame(pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row"))


def rows_of(interactions: Interactions) -> list[Row]:
    users = interactions.users.decode(interactions.user_indices).tolist()
    items = interactions.items.decode(interactions.item_indices).tolist()
    return list(zip(users, items, interactions.frame["rating"].to_list(), strict=True))


def assert_compact(interactions: Interactions) -> None:
    assert interactions.users.ids.tolist() == sorted({user for user, _, _ in rows_of(interactions)})
    assert interactions.items.ids.tolist() == sorted({item for _, item, _ in rows_of(interactions)})


@given(ROWS)
def test_deduplicate_keeps_the_first_or_last_row_in_file_order(rows: list[Row]) -> None:
    first: list[Row] = []
    for row in rows:
        if row[:2] not in [kept[:2] for kept in first]:
            first.append(row)
    last: list[Row] = []
    for row in reversed(rows):
        if row[:2] not in [kept[:2] for kept in last]:
            last.insert(0, row)
    interactions = table(rows)
    assert count_duplicates(interactions) == len(rows) - len(first)
    assert rows_of(deduplicate(interactions, "first")) == first
    assert rows_of(deduplicate(interactions, "last")) == last


def test_duplicates_are_an_error_unless_a_policy_is_chosen() -> None:
    rows = [(1, "a", 1.0), (2, "b", 2.0), (2, "b", 3.0), (2, "b", 4.0)]
    assert rows_of(deduplicate(table(rows[:2]), "error")) == rows[:2]
    with pytest.raises(DataError, match=r"2 rows repeat .* user 2, item 'b'; .*`duplicates: first`"):
        deduplicate(table(rows), "error")


@pytest.mark.parametrize("policy", ["error", "first", "last"])
def test_a_pair_in_train_and_test_is_an_error_under_every_policy(policy: str) -> None:
    frame = pl.DataFrame({"user": [1, 1, 2], "item": [5, 6, 5], "part": ["train", "test", "train"]})
    leak = pl.DataFrame({"user": [1], "item": [5], "part": ["test"]})
    assert len(deduplicate(Interactions.from_frame(frame), policy)) == 3  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"1 pairs are in more than one part .* user 1, item 5"):
        deduplicate(Interactions.from_frame(pl.concat([frame, leak])), policy)  # type: ignore[arg-type]


@given(ROWS)
def test_binarise_keeps_ratings_of_at_least_the_threshold(rows: list[Row]) -> None:
    wanted = [row for row in rows if row[2] >= 3]
    if not wanted:
        with pytest.raises(DataError, match="no interaction is left"):
            binarise(table(rows), 3)
        return
    kept = binarise(table(rows), 3)
    assert rows_of(kept) == wanted
    assert_compact(kept)


def test_binarise_needs_ratings() -> None:
    with pytest.raises(DataError, match="needs a `rating` column"):
        binarise(Interactions.from_frame(pl.DataFrame({"user": [1], "item": [1]})), 3)


@given(ROWS, st.integers(1, 4), st.integers(1, 4))
def test_k_core_is_the_fixed_point_of_dropping_rows(rows: list[Row], user_min: int, item_min: int) -> None:
    wanted = rows
    while True:
        users, items = Counter(row[0] for row in wanted), Counter(row[1] for row in wanted)
        kept = [row for row in wanted if users[row[0]] >= user_min and items[row[1]] >= item_min]
        if kept == wanted:
            break
        wanted = kept
    if not wanted:
        with pytest.raises(DataError, match="no interaction is left"):
            k_core(table(rows), user_min, item_min)
        return
    core = k_core(table(rows), user_min, item_min)
    assert rows_of(core) == wanted
    assert_compact(core)


def test_k_core_needs_more_than_one_round() -> None:
    """Each round undoes one link of a chain: user k has items k and k + 1; only the first item has one user."""
    rows = [(user, f"{item:02}", 1.0) for user in range(12) for item in (user, user + 1)]
    square = [(user, item, 1.0) for user in (20, 21) for item in ("x", "y")]
    assert rows_of(k_core(table(rows + square), 2, 2)) == square


def test_the_policy_decides_which_rating_meets_the_threshold() -> None:
    rows = [(1, "a", 5.0), (1, "a", 1.0), (2, "a", 4.0)]
    assert rows_of(prepare(table(rows), duplicates="last", threshold=3)) == [(2, "a", 4.0)]
    assert rows_of(prepare(table(rows), duplicates="first", threshold=3)) == [(1, "a", 5.0), (2, "a", 4.0)]
    with pytest.raises(DataError, match="no interaction is left"):
        prepare(table(rows), duplicates="first", threshold=3, user_core=2)


def test_input_is_left_alone() -> None:
    interactions = table([(1, "a", 5.0), (1, "a", 1.0), (2, "b", 4.0)])
    before = interactions.fingerprint
    prepare(interactions, duplicates="last", threshold=2)
    assert Interactions(interactions.frame, interactions.users, interactions.items).fingerprint == before
    np.testing.assert_array_equal(interactions.users.ids, [1, 2])
