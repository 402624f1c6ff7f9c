"""The interactions table against plain Python."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recgraph.data.interactions import Interactions, Vocabulary
from recgraph.errors import DataError

FRAME = pl.DataFrame(
    {
        "user": [30, 4, 30, 100],
        "item": ["b", "a", "é", "b"],
        "time": [3, 1, 2, 2],
        "rating": [5, 1, 2, 3],
        "review": ["good", "", None, "naïve"],
    }
)


def test_ids_are_sorted_by_value_and_rows_keep_their_order() -> None:
    table = Interactions.from_frame(FRAME)
    assert table.users.ids.tolist() == [4, 30, 100]  # as text, 100 would come first
    assert table.items.ids.tolist() == ["a", "b", "é"]
    assert table.user_indices.tolist() == [1, 0, 1, 2]
    assert table.item_indices.tolist() == [1, 0, 2, 1]
    assert table.user_indices.dtype == table.users.ids.dtype == np.int64
    assert table.frame["review"].to_list() == FRAME["review"].to_list()
    assert (len(table), table.num_users, table.num_items) == (4, 3, 3)


@given(st.lists(st.tuples(st.integers(0, 9), st.text("ab0é", max_size=2)), min_size=1, max_size=30))
def test_indices_lead_back_to_the_ids(pairs: list[tuple[int, str]]) -> None:
    users, items = map(list, zip(*pairs, strict=True))
    table = Interactions.from_frame(pl.DataFrame({"user": users, "item": items}))
    assert table.users.ids.tolist() == sorted(set(users))
    assert table.items.ids.tolist() == sorted(set(items))
    assert table.users.decode(table.user_indices).tolist() == users
    assert table.items.decode(table.item_indices).tolist() == items
    dense = np.zeros((table.num_users, table.num_items))
    for user, item in pairs:
        dense[sorted(set(users)).index(user), sorted(set(items)).index(item)] = 1
    matrix = table.csr()
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix.toarray(), dense)


def test_vocabulary_takes_ids_typed_as_text_and_names_what_it_does_not_know() -> None:
    numbers, words = Vocabulary(np.array([7, 3, 12])), Vocabulary(np.array(["b", "12"], dtype=object))
    assert numbers.encode(["12", "7"]).tolist() == numbers.encode(np.array([12, 7])).tolist() == [2, 0]
    assert words.encode([12]).tolist() == words.encode(np.array(["12"])).tolist() == [1]
    assert numbers.encode([]).tolist() == []
    with pytest.raises(DataError, match="unknown id 8 "):
        numbers.encode([7, 8, 9])
    with pytest.raises(DataError, match="unknown id 'x'"):
        numbers.encode(["x"])
    with pytest.raises(DataError, match=r"integers or text, got Float64, such as 7\.5"):
        numbers.encode([7.5])
    with pytest.raises(DataError, match="ids: ids must be all integers or all text"):
        Vocabulary([1, 2]).encode([1, "a"])
    with pytest.raises(DataError, match="row 1: expected a whole number of at most 64 bits"):
        Vocabulary([1, 2]).encode([2**63])
    with pytest.raises(DataError, match="'a' is repeated"):
        Vocabulary(["a", "b", "a"])


def test_select_takes_masks_and_row_numbers() -> None:
    table = Interactions.from_frame(FRAME)
    by_mask = table.select(np.array([True, False, False, True]))
    by_number = table.select(np.array([0, 3]))
    assert by_mask.frame.equals(by_number.frame)
    assert by_mask.frame["review"].to_list() == ["good", "naïve"]
    assert (by_mask.num_users, by_mask.users) == (3, table.users)
    assert table.select(np.array([3, 0])).user_indices.tolist() == [2, 1]
    assert len(table.select(np.array([], dtype=int))) == 0


def test_fingerprint_is_of_the_content_only() -> None:
    table = Interactions.from_frame(FRAME)
    same = FRAME.select(
        pl.col("review"),
        pl.col("rating").cast(pl.Float32),
        pl.col("time").cast(pl.Float64),
        pl.col("item").cast(pl.Categorical).cast(pl.String),
        pl.col("user").cast(pl.UInt16),
    )
    assert Interactions.from_frame(same).fingerprint == table.fingerprint
    chunked = pl.concat([FRAME[:1], FRAME[1:]], rechunk=False)
    assert Interactions.from_frame(chunked).fingerprint == table.fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        FRAME[::-1],
        FRAME[:3],
        FRAME.drop("time"),
        FRAME.rename({"review": "summary"}),
        FRAME.with_columns(user=pl.col("user") + 1),
        FRAME.with_columns(user=pl.col("user").cast(pl.String)),
        FRAME.with_columns(item=pl.col("item").replace("é", "e")),
        FRAME.with_columns(review=pl.col("review").fill_null("")),
        FRAME.with_columns(review=pl.Series(["goo", "d", None, "naïve"])),
        FRAME.with_columns(rating=pl.Series([5, 1, 2, 4])),
        FRAME.rename({"time": "rating", "rating": "time"}),
    ],
)
def test_fingerprint_changes_with_any_change(changed: pl.DataFrame) -> None:
    assert Interactions.from_frame(changed).fingerprint != Interactions.from_frame(FRAME).fingerprint


def test_fingerprint_of_a_known_table_is_pinned() -> None:
    """It is written into cards and results, so that neither a release of polars nor of recgraph may move it."""
    assert Interactions.from_frame(FRAME).fingerprint == (
        "a15ab8ab68dc47e35ce520a5c7e02ab542e5bf1ac78eea351d31d72ae4958a31"
    )


def test_times_that_are_whole_are_integers_and_others_stay() -> None:
    whole = Interactions.from_frame(FRAME.with_columns(pl.col("time").cast(pl.Float64)))
    broken = Interactions.from_frame(FRAME.with_columns(time=pl.Series([0.5, 1.0, 2.0, 3.0])))
    assert (whole.frame["time"].dtype, broken.frame["time"].dtype) == (pl.Int64, pl.Float64)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.rename({"item": "itme"}), "no column 'item'. Did you mean 'itme'?"),
        (FRAME[:0], "no rows"),
        (FRAME.with_columns(user=pl.Series([1, 2, None, 4])), "'user', row 3: expected an id, got None"),
        (FRAME.with_columns(user=pl.Series([1.0, 2.5, 3.0, 4.0])), "'user': ids must be integers or text"),
        (FRAME.with_columns(rating=pl.Series([1.0, 2.0, float("nan"), 4.0])), "'rating', row 3: expected a finite"),
        (FRAME.with_columns(time=pl.Series([None, 2, 3, 4])), "'time', row 1: expected a finite number, got None"),
        (FRAME.with_columns(time=pl.Series(["1", "2", "3", "x"])), "'time' must be numeric"),
        (FRAME.with_columns(part=pl.Series(["train", "test", "valid", "test"])), "row 3: expected one of"),
        (FRAME.with_columns(review=pl.Series([[1], [2], [3], [4]])), "'review' has the type List"),
    ],
)
def test_bad_tables_are_refused_with_the_row(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError) as error:
        Interactions.from_frame(frame)
    assert message in str(error.value)


@pytest.mark.slow
def test_ten_million_rows_take_seconds() -> None:
    generator = np.random.default_rng(0)
    size = 10_000_000
    frame = pl.DataFrame({"user": generator.integers(0, 300_000, size), "item": generator.integers(0, 100_000, size)})
    start = time.process_time()
    _ = Interactions.from_frame(frame).fingerprint
    assert time.process_time() - start < 10  # of both cores; a loop over rows takes minutes


def test_fingerprint_tells_large_numbers_apart_where_some_are_missing() -> None:
    one, other = (
        Interactions.from_frame(pl.DataFrame({"user": [1, 1], "item": [1, 2], "other": [2**60 + a, None]}))
        for a in (0, 1)
    )
    assert one.fingerprint != other.fingerprint


def test_fingerprint_tells_times_in_nanoseconds_apart() -> None:
    one, other = (
        Interactions.from_frame(pl.DataFrame({"user": [1, 1], "item": [1, 2], "time": [2**53 + a, 2**53 + 1 - a]}))
        for a in (0, 1)
    )
    assert one.fingerprint != other.fingerprint
