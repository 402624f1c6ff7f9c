"""The report on a split: by enumeration, by simulation, by hand, against plain loops, and on real data."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from cases import random_interactions
from hypothesis import given, settings
from hypothesis import strategies as st

from recgraph.data import audit as module
from recgraph.data import datasets
from recgraph.data.audit import audit, lines
from recgraph.data.interactions import PARTS, Interactions
from recgraph.data.splits import Split
from recgraph.random import numpy_generator
from recgraph.registry import splits

Row = tuple[int, int, int, str]


def made(rows: list[Row]) -> Split:
    """A split of (user, item, time, part) in file order; ids are indices where every one below the highest occurs."""
    table = Interactions.from_frame(pl.DataFrame(rows, schema=["user", "item", "time", "part"], orient="row"))
    return split_of(table, table.frame["part"].to_numpy())


def split_of(table: Interactions, parts: np.ndarray) -> Split:
    return Split("given", *(table.select(parts == name) for name in PARTS))


def skewed(num_users: int = 400, num_items: int = 300, seed: int = 0) -> Interactions:
    """Users of 5 to 60 rows; items from popular to rare; rows in random order."""
    rng = np.random.default_rng(seed)
    weight = 1 / np.arange(1, num_items + 1)
    lists = [
        rng.choice(num_items, rng.integers(5, 61), replace=False, p=weight / weight.sum()) for _ in range(num_users)
    ]
    pairs = [(user, item) for user, items in enumerate(lists) for item in items.tolist()]
    return Interactions.from_frame(pl.DataFrame(pairs, schema=["user", "item"], orient="row"))


def test_z_scores_are_those_of_all_random_splits() -> None:
    # Every way to choose 1 of 4, 2 of 3 and 1 of 2 rows is equally likely: what is expected can be counted. The mean
    # square of z over items is then 1 on average; with one rate for all users, instead of each user's own, it is not.
    lists = {0: [0, 1, 2, 3], 1: [0, 1, 4], 2: [0, 4]}
    ways = list(itertools.product(*(itertools.combinations(lists[user], k) for user, k in enumerate((1, 2, 1)))))
    assert len(ways) == 4 * 3 * 2
    counts = np.array([[sum(item in own for own in chosen) for item in range(5)] for chosen in ways])
    squares = (counts - counts.mean(axis=0)) ** 2 / counts.var(axis=0)
    error = np.sqrt(squares.var(axis=0).sum()) / (2 * 5)
    for chosen, expected in zip(ways, np.sqrt(squares.mean(axis=1)), strict=True):
        found = audit(made(with_test(lists, chosen)))["shift"]["test"]
        assert found["items"] == 5
        assert found["sd"] == pytest.approx(expected)
        assert found["error"] == pytest.approx(error)
        assert found["bands"]["head"]["expected"] == pytest.approx(counts[:, 0].mean() / 3)  # item 0 and its three rows


def with_test(lists: dict[int, list[int]], chosen: tuple[tuple[int, ...], ...]) -> list[Row]:
    return [(user, item, 0, "test" if item in chosen[user] else "train") for user, own in lists.items() for item in own]


def test_random_splits_show_no_shift_within_the_stated_error() -> None:
    table = skewed()
    found = [
        audit(splits.build({"name": "random_by_user", "ratios": (7, 1, 2)}, table, np.random.default_rng(seed)))
        for seed in range(100)
    ]
    for part in ("validation", "test"):
        sd, error = (np.array([one["shift"][part][key] for one in found]) for key in ("sd", "error"))
        # Means of 100, hence a tenth of the error of one. A rate of all rows instead of those not in test moves
        # validation's by 2 %, some five errors of one.
        assert np.mean(sd**2) == pytest.approx(1, abs=4 * 2 * error.mean() / 10)
        assert np.std(sd) == pytest.approx(error.mean(), rel=0.3)  # a standard deviation of 100 is good to 7 %
    correlations = [one["shift"]["correlation"] for one in found]
    assert np.mean(correlations) == pytest.approx(0, abs=4 / np.sqrt(300 * 100))
    assert np.std(correlations) == pytest.approx(1 / np.sqrt(300), rel=0.3)


def test_shift_towards_popular_items_is_seen_and_shared() -> None:
    table = skewed()
    popularity = np.bincount(table.item_indices)[table.item_indices]
    key = np.log(popularity) + np.random.default_rng(0).normal(0, 1, len(table))  # each user turns to popular items
    parts = np.full(len(table), "train", dtype=object)
    for user in range(table.num_users):
        own = np.flatnonzero(table.user_indices == user)
        own = own[np.argsort(key[own])]
        parts[own[-(len(own) // 3) :]] = "validation"
        parts[own[-(len(own) // 5) :]] = "test"
    shift = audit(split_of(table, parts))["shift"]
    for part in ("validation", "test"):
        assert shift[part]["sd"] > 1 + 5 * shift[part]["error"]
        for band, favoured in (("head", True), ("tail", False), ("top 100", True), ("others", False)):
            found = shift[part]["bands"][band]
            assert (found["share"] > found["expected"]) == favoured
    assert shift["correlation"] > 0.2


def test_bands_follow_the_popularity_of_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOP", 2)
    # Items with 5, 3, 2, 1 and 1 rows: thirds of 12 begin at 0, 4 and 8, and the items' rows at 0, 5, 8, 10 and 11.
    # Item 1 has the most rows in train, item 0 the most in all.
    popularity = {0: "ttttr", 1: "rrr", 2: "rt", 3: "r", 4: "t"}
    code = {"r": "train", "t": "test"}
    rows = [(user, item, 0, code[part]) for item, own in popularity.items() for user, part in enumerate(own)]
    found = audit(made(rows))["shift"]["test"]["bands"]
    assert {name: (band["items"], band["rows"]) for name, band in found.items()} == {
        "top 2": (2, 8),
        "others": (3, 4),
        "head": (1, 5),
        "mid": (1, 3),
        "tail": (3, 4),
    }
    assert [found[name]["share"] for name in ("top 2", "others", "head", "mid", "tail")] == [0.5, 0.5, 0.8, 0, 0.5]
    # Of users 0 to 4, 2/5, 2/3, 1/2, all and none of the rows are in test; head is a row of each, mid of the first three.
    assert found["head"]["expected"] == pytest.approx((2 / 5 + 2 / 3 + 1 / 2 + 1 + 0) / 5)
    assert found["mid"]["expected"] == pytest.approx((2 / 5 + 2 / 3 + 1 / 2) / 3)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=33), min_size=1, max_size=6))
@settings(max_examples=40)
def test_trend_is_that_of_lists_written_ten_times_as_long(lists: list[list[bool]]) -> None:
    # A list whose every row is written ten times has tenths without remainders.
    rows = sorted((k, user, popular) for user, own in enumerate(lists) for k, popular in enumerate(own))  # interleaved
    frame = pl.DataFrame({"user": [user for _, user, _ in rows], "item": [int(popular) for *_, popular in rows]})
    part = Interactions.from_frame(frame)
    top = np.isin(part.items.ids, [1])
    long = [np.repeat(own, 10).reshape(10, -1) for own in lists]
    assert module._trend(part, top) == pytest.approx(np.concatenate(long, axis=1).mean(axis=1).tolist(), abs=1e-12)


def test_trend_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOP", 1)
    # Item 0 is the most popular. It ends user 0's list of two, and is all of user 1's: the second half of three rows
    # has 1 + 1/2 of its 3/2 rows, the first 1/2.
    rows = [(0, 1, 0, "train"), (1, 0, 0, "train"), (0, 0, 0, "train"), (1, 2, 0, "test")]
    found = audit(made(rows))["trend"]
    assert found["train"] == pytest.approx([1 / 3] * 5 + [1] * 5)
    assert found["validation"] is None
    assert found["test"] == [0] * 10


HAND: list[Row] = [
    (0, 0, 10, "train"),
    (0, 1, 20, "train"),
    (0, 2, 20, "validation"),  # a tie with train
    (0, 3, 30, "test"),  # item 3 first comes to train at 50
    (1, 0, 50, "train"),
    (1, 1, 50, "train"),  # a tie within train
    (1, 3, 50, "train"),
    (1, 4, 40, "test"),  # item 4 is never in train; all three rows of train are later
    (2, 0, 35, "validation"),
    (2, 1, 60, "test"),  # user 2 is never in train
]


def test_sizes_and_unseen_ids_by_hand() -> None:
    found = audit(made(HAND))
    assert found["parts"]["train"] == {
        "rows": 5,
        "share": 0.5,
        "users": 2,
        "items": 3,
        "rows per user": {"min": 2, "25%": 2.25, "median": 2.5, "75%": 2.75, "max": 3},
    }
    assert [found["parts"][name]["rows"] for name in PARTS] == [5, 2, 3]
    assert found["parts"]["validation"]["rows per user"]["min"] == 1  # user 1 has none and is left out
    assert [found["parts"][name]["users"] for name in PARTS] == [2, 2, 3]
    assert found["unseen"] == {
        "validation": {"users": 1, "user rows": 1, "items": 1, "item rows": 1},
        "test": {"users": 1, "user rows": 1, "items": 1, "item rows": 1},
    }
    assert found["overlap"] == 0
    assert found["shift"]["test"]["share per user"] == pytest.approx(
        {"min": 1 / 4, "25%": 1 / 4, "median": 1 / 4, "75%": 3 / 8, "max": 1 / 2}
    )


def test_users_without_rows_have_no_share() -> None:
    # Validation has 1 of 3, none of 3 and the only one of the rows that are not in test; user 3 has test rows only.
    found = audit(made([*HAND, (3, 0, 70, "test")]))["shift"]["validation"]
    assert found["share per user"]["median"] == pytest.approx(1 / 3)


def test_leaks_of_time_by_hand() -> None:
    assert audit(made(HAND))["time"] == {
        "train rows after the first test row": 3 / 5,  # later than 30: user 1's
        "train rows after the user's first test row": 3 / 5,
        "test rows of items not yet in train": 1,
        "items not yet in train": 1,
        "users with ties": 2,
        "users with ties across parts": 1,
        "file order that is order of time": 1.0,  # 10, 20 of user 0 and 50, 50, 50 of user 1
    }
    assert audit(made([(u, i, 9 - t, p) for u, i, t, p in HAND]))["time"]["file order that is order of time"] == 2 / 3


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 5), st.integers(0, 6)),
        st.tuples(st.integers(0, 9), st.sampled_from(PARTS)),
        min_size=4,
    ),
    st.integers(0, 2),
)
@settings(max_examples=60)
def test_leaks_and_unseen_ids_are_those_of_plain_loops(table: dict[Any, Any], scale: int) -> None:
    offset = [0, 2**60, -5][scale]  # beyond what a float64 tells apart: times in nanoseconds are
    rows: list[Row] = [(user, item, time + offset, part) for (user, item), (time, part) in table.items()]
    if {"train", "test"} - {part for *_, part in rows}:
        return
    found = audit(made(rows))
    train, test = ([row for row in rows if row[3] == part] for part in ("train", "test"))
    late = [row for row in train if row[2] > min(time for _, _, time, _ in test)]
    own = [row for row in train if any(other[0] == row[0] and other[2] < row[2] for other in test)]
    early = [
        row
        for row in test
        if (known := [other[2] for other in train if other[1] == row[1]]) and all(time > row[2] for time in known)
    ]
    ties = [(a, b) for a, b in itertools.combinations(rows, 2) if a[0] == b[0] and a[2] == b[2]]
    steps = [
        later >= time
        for user in range(6)
        for part in PARTS
        for times in [[t for u, _, t, p in rows if u == user and p == part]]
        for time, later in itertools.pairwise(times)
    ]
    assert list(found["time"].values()) == [
        len(late) / len(train),
        len(own) / len(train),
        len(early),
        len({item for _, item, *_ in early}),
        len({a[0] for a, _ in ties}),
        len({a[0] for a, b in ties if a[3] != b[3]}),
        sum(steps) / len(steps) if steps else None,
    ]
    for name in ("validation", "test"):
        own_rows = [row for row in rows if row[3] == name]
        for column, side in enumerate(("user", "item")):
            new = [row[column] for row in own_rows if row[column] not in {other[column] for other in train}]
            assert found["unseen"][name][f"{side}s"] == len(set(new))
            assert found["unseen"][name][f"{side} rows"] == len(new)


def test_shared_pairs_are_counted() -> None:
    whole = made(HAND)
    leaky = object.__new__(Split)  # past the check of `Split`, which refuses it
    for name, part in {
        "name": "leaky",
        "train": whole.train.concat(whole.test),
        "validation": whole.validation,
        "test": whole.test,
    }.items():
        object.__setattr__(leaky, name, part)
    assert audit(leaky)["overlap"] == 3


SPECS = [
    {"name": "random_by_user"},
    {"name": "random_by_user", "ratios": [8, 0, 2]},
    {"name": "leave_last_out"},
    {"name": "global_time"},
    {"name": "item_cold"},
    {"name": "user_cold"},
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_any_split_can_be_stored_and_printed(spec: dict[str, Any]) -> None:
    table = random_interactions(30, 40)
    timed = table.frame.with_columns(time=pl.Series(np.arange(len(table)) // 3))
    split = splits.build(spec, Interactions(timed, table.users, table.items), numpy_generator(0, "split"))
    found = audit(split)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    text = "\n".join(lines(found))
    assert f"{len(split.test):,}" in text
    assert "nan" not in text
    shares = [part["share"] for part in found["parts"].values()]
    assert sum(shares) == pytest.approx(1)
    if spec["name"] == "global_time":
        assert found["time"]["train rows after the first test row"] == 0
    if spec["name"] == "leave_last_out":
        assert found["time"]["train rows after the user's first test row"] == 0
    if spec["name"] == "user_cold":  # whole users: there is nothing random within one
        assert found["shift"]["test"]["sd"] is None
    if len(split.validation) == 0:
        assert found["shift"]["validation"] is found["shift"]["correlation"] is found["trend"]["validation"] is None


def test_lines_say_what_was_found() -> None:
    text = "\n".join(lines(audit(made(HAND))))
    for said in (
        "pairs in more than one part: 0",
        "test, not in train: 1 items (in 1 rows), 1 users (in 1 rows)",
        "train rows after the first test row         0.600",
    ):
        assert said in text
    without = made(HAND)
    bare = Split("bare", *(Interactions(p.frame.drop("time"), p.users, p.items) for p in parts_of(without)))
    assert audit(bare)["time"] is None
    assert "time" not in lines(audit(bare))


def parts_of(split: Split) -> tuple[Interactions, Interactions, Interactions]:
    return split.train, split.validation, split.test


@pytest.fixture
def data_root(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty data root, so that nothing comes from an earlier cache."""
    monkeypatch.setenv("RECGRAPH_DATA", str(tmp_path / "data"))


@pytest.mark.usefixtures("data_root")
def test_gowalla_is_shifted_and_a_tail_sees_it() -> None:
    dataset = datasets.load("gowalla")
    found = audit(splits.build("official", dataset.interactions, numpy_generator(0, "split")))  # no option given
    assert found["parts"]["test"]["rows"] == 217242
    test, validation = found["shift"]["test"], found["shift"]["validation"]
    # Measured on these files. One rate for all users, instead of each user's own, gives 1.338.
    assert test["sd"] == pytest.approx(1.326, abs=5e-4)
    assert test["error"] == pytest.approx(0.0035, abs=5e-5)
    assert test["bands"]["top 100"]["share"] == pytest.approx(0.282, abs=5e-4)
    assert test["bands"]["top 100"]["expected"] == pytest.approx(0.213, abs=5e-4)
    assert test["bands"]["others"]["share"] == pytest.approx(0.207, abs=5e-4)
    assert validation["sd"] == pytest.approx(1.056, abs=5e-4)
    assert found["shift"]["correlation"] == pytest.approx(0.192, abs=5e-4)
    trend = found["trend"]
    assert [trend["train"][0], trend["train"][4], trend["train"][9]] == pytest.approx([0.048, 0.054, 0.065], abs=5e-4)
    assert trend["validation"][0] > trend["train"][9]
    assert [trend["test"][0], trend["test"][9]] == pytest.approx([0.074, 0.093], abs=5e-4)
    # What is carved at random looks like the rest of train, and unlike test.
    drawn = dataset.split({"name": "official", "carve": "random"}, seed=0)
    shift = audit(drawn)["shift"]
    assert shift["validation"]["sd"] == pytest.approx(1, abs=4 * shift["validation"]["error"])
    assert shift["correlation"] == pytest.approx(0, abs=0.02)  # 4 / sqrt(40,981 items)


@pytest.mark.usefixtures("data_root")
def test_lastfm_is_not_shifted() -> None:
    shift = audit(datasets.load("lastfm").split(seed=0))["shift"]
    for part in ("validation", "test"):
        assert shift[part]["sd"] == pytest.approx(1, abs=3 * shift[part]["error"])
