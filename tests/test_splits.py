"""Splits: properties that hold for every split, and each against a plain loop."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse

from recgraph.data.interactions import PARTS, Interactions
from recgraph.data.splits import Split, shares
from recgraph.errors import ConfigError, DataError
from recgraph.random import numpy_generator
from recgraph.registry import splits

Pair = tuple[int, str]
PAIRS = st.sets(st.tuples(st.integers(0, 7), st.sampled_from("abcdefghij")), min_size=12, max_size=60)
SPECS: list[dict[str, Any]] = [
    {"name": "random"},
    {"name": "random", "ratios": [2, 1, 1]},
    {"name": "random_by_user"},
    {"name": "random_by_user", "ratios": [3, 1, 2]},
    {"name": "leave_last_out"},
    {"name": "leave_last_out", "order": "file"},
    {"name": "global_time"},
    {"name": "official"},
    {"name": "official", "carve": "random"},
    {"name": "official", "carve": "latest"},
    {"name": "official", "carve": "items", "validation": 0.3},
    {"name": "item_cold"},
    {"name": "user_cold", "validation": 0.2, "test": 0.3},
    {"name": "warm_and_cold"},
    {"name": "warm_and_cold", "side": "user", "cold": 0.4, "ratios": [2, 1, 1]},
]


FEWER = settings(max_examples=40)  # of the 100 by default: every example makes a split


def table(pairs: set[Pair], seed: int, parts: tuple[str, ...] = ("train", "train", "test")) -> Interactions:
    """Pairs in random order with few distinct times and random parts."""
    generator = np.random.default_rng(seed)
    rows = [sorted(pairs)[k] for k in generator.permutation(len(pairs))]
    frame = pl.DataFrame(rows, schema=["user", "item"], orient="row").with_columns(
        time=pl.Series(generator.integers(0, 9, len(rows))),
        part=pl.Series(generator.choice(parts, len(rows))),
        row=pl.arange(len(rows), eager=True),  # an extra column, by which tests recognise rows
    )
    return Interactions.from_frame(frame)


def split(interactions: Interactions, spec: dict[str, Any], seed: int = 0) -> Split:
    try:
        return splits.build(spec, interactions, numpy_generator(seed, "split"))
    except DataError as error:
        assume("is empty" not in str(error))  # tables this small may leave nothing for a part
        raise


def rows(part: Interactions) -> list[int]:
    return part.frame["row"].to_list()


def parts_by_user(made: Split) -> dict[int, dict[str, list[int]]]:
    grouped: dict[int, dict[str, list[int]]] = defaultdict(lambda: {name: [] for name in PARTS})
    for name in PARTS:
        part = getattr(made, name)
        for user, row in zip(part.user_indices.tolist(), rows(part), strict=True):
            grouped[user][name].append(row)
    return grouped


@pytest.mark.parametrize("spec", SPECS, ids=str)
@FEWER
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_every_split_covers_each_row_once_in_file_order(spec: dict[str, Any], pairs: set[Pair], seed: int) -> None:
    interactions = table(pairs, seed)
    made = split(interactions, spec, seed)
    parts = [rows(getattr(made, name)) for name in PARTS]
    assert sorted(itertools.chain(*parts)) == list(range(len(interactions)))
    for part in parts:
        assert part == sorted(part)
    assert made.name == spec["name"]
    for name in PARTS:
        part = getattr(made, name)
        assert (part.users, part.items) == (interactions.users, interactions.items)
        assert part.frame.equals(interactions.frame[rows(part)])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_split_depends_on_the_seed_alone(spec: dict[str, Any]) -> None:
    pairs = {(user, item) for user in range(8) for item in "abcdefghij" if (user * 7 + ord(item)) % 3}
    interactions = table(pairs, 1)
    made = split(interactions, spec, 5)
    assert split(interactions, spec, 5).fingerprint == made.fingerprint
    drawn = len({split(interactions, spec, seed).fingerprint for seed in range(5)}) > 1
    by_chance = spec["name"] in ("random", "random_by_user", "item_cold", "user_cold", "warm_and_cold") or spec.get(
        "carve"
    ) in ("random", "items")
    assert drawn == by_chance
    # Neither other columns nor what the ids are called count: the same rows land in the same part.
    renamed = interactions.frame.select(
        user=pl.Series(interactions.users.ids * 10 + 3).gather(interactions.frame["user"]),
        item=pl.Series(interactions.items.ids).gather(interactions.frame["item"]) + "!",
        time=pl.col("time") * 1000,
        part=pl.col("part"),
        row=pl.col("row"),
        rating=pl.lit(2.0),
    )
    again = split(Interactions.from_frame(renamed), spec, 5)
    for name in PARTS:
        assert rows(getattr(again, name)) == rows(getattr(made, name))


def recbole_counts(total: int, ratios: list[float]) -> list[int]:
    """Counts as RecBole 1.2.1 rounds them: `Dataset._calcu_split_ids`, told from its behaviour."""
    parts = [int(ratio * total) for ratio in ratios]
    parts[0] = total - sum(parts[1:])
    for k in range(len(ratios) - 1, 0, -1):
        if parts[0] > 1 and 0 < ratios[k] * total < 1:
            parts[k] += 1
            parts[0] -= 1
    return parts


@FEWER
@given(st.integers(1, 60), st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.9, 0.1, 0.0), (0.9, 0.0, 0.1)]))
def test_shares_are_rounded_as_recbole_does(total: int, ratios: tuple[float, float, float]) -> None:
    assert [int(part[0]) for part in shares(np.array([total]), ratios)] == recbole_counts(total, list(ratios))


@FEWER
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_random_gives_the_whole_the_ratios(pairs: set[Pair], seed: int) -> None:
    made = split(table(pairs, seed), {"name": "random"}, seed)
    assert [len(getattr(made, name)) for name in PARTS] == recbole_counts(len(pairs), [0.8, 0.1, 0.1])


@FEWER
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_random_by_user_gives_each_user_the_ratios(pairs: set[Pair], seed: int) -> None:
    made = split(table(pairs, seed), {"name": "random_by_user"}, seed)
    for own in parts_by_user(made).values():
        counts = [len(own[name]) for name in PARTS]
        assert counts == recbole_counts(sum(counts), [0.8, 0.1, 0.1])


def test_random_by_user_draws_every_row_equally_often() -> None:
    interactions = table({(0, item) for item in "abcdefghij"}, 0)
    tests = [rows(split(interactions, {"name": "random_by_user"}, seed).test)[0] for seed in range(1000)]
    counts = np.bincount(tests, minlength=10)
    assert counts.min() > 60  # 100 expected, standard deviation 9.5
    assert counts.max() < 140


@pytest.mark.parametrize("order", ["time", "file"])
@FEWER
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_leave_last_out_leaves_the_last_out(order: str, pairs: set[Pair], seed: int) -> None:
    interactions = table(pairs, seed)
    made = split(interactions, {"name": "leave_last_out", "order": order}, seed)
    times = interactions.frame["time"].to_list()
    for own in parts_by_user(made).values():
        ordered = sorted(itertools.chain(*own.values()), key=lambda row: (times[row] if order == "time" else 0, row))
        assert own["test"] == (ordered[-1:] if len(ordered) > 1 else [])
        assert own["validation"] == (ordered[-2:-1] if len(ordered) > 2 else [])


@FEWER
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_global_time_cuts_everybody_at_the_same_moments(pairs: set[Pair], seed: int) -> None:
    interactions = table(pairs, seed)
    made = split(interactions, {"name": "global_time"})
    times = sorted(interactions.frame["time"].to_list())
    cuts = [times[k] for k in np.cumsum(recbole_counts(len(times), [0.8, 0.1, 0.1]))[:2]]
    for name, (low, high) in zip(PARTS, [(-1, cuts[0]), cuts, (cuts[1], 99)], strict=True):
        assert all(low <= time < high for time in getattr(made, name).frame["time"])


def test_global_time_keeps_one_moment_together() -> None:
    frame = pl.DataFrame({"user": range(10), "item": range(10), "time": [5, 1, 1, 1, 1, 1, 5, 5, 5, 7]})
    made = splits.build("global_time", Interactions.from_frame(frame), np.random.default_rng(0))
    assert made.train.users.decode(made.train.user_indices).tolist() == [1, 2, 3, 4, 5]
    assert made.validation.users.decode(made.validation.user_indices).tolist() == [0, 6, 7, 8]
    assert made.test.users.decode(made.test.user_indices).tolist() == [9]


@pytest.mark.parametrize("carve", ["tail", "random"])
@FEWER
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_official_carves_validation_from_train_only(carve: str, pairs: set[Pair], seed: int) -> None:
    interactions = table(pairs, seed)
    part = interactions.frame["part"].to_list()
    made = split(interactions, {"name": "official", "validation": 0.3, "carve": carve}, seed)
    assert rows(made.test) == [row for row, name in enumerate(part) if name == "test"]
    for own in parts_by_user(made).values():
        given_train = sorted(own["train"] + own["validation"])
        count = recbole_counts(len(given_train), [0.7, 0.3])[1] if given_train else 0
        assert len(own["validation"]) == count
        if carve == "tail":
            assert own["validation"] == given_train[len(given_train) - count :]


@pytest.mark.parametrize("share", [0.1, 0.9])
@FEWER
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_official_carves_the_latest_row_of_each_user(share: float, pairs: set[Pair], seed: int) -> None:
    interactions = table(pairs, seed)
    part, time = interactions.frame["part"].to_list(), interactions.frame["time"].to_list()
    made = split(interactions, {"name": "official", "validation": share, "carve": "latest"}, seed)
    assert rows(made.test) == [row for row, name in enumerate(part) if name == "test"]
    for own in parts_by_user(made).values():
        train = own["train"] + own["validation"]
        latest = [max(train, key=lambda row: (time[row], row))] if len(train) > 1 else []
        assert own["validation"] == latest


@FEWER
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_official_carves_whole_items(pairs: set[Pair], seed: int) -> None:
    interactions = table(pairs, seed)
    part, item = (interactions.frame[name].to_list() for name in ("part", "item"))
    made = split(interactions, {"name": "official", "validation": 0.3, "carve": "items"}, seed)
    assert rows(made.test) == [row for row, name in enumerate(part) if name == "test"]
    train, held = ({item[row] for row in rows(one)} for one in (made.train, made.validation))
    assert not train & held
    assert len(held) == recbole_counts(len(train | held), [0.7, 0.3])[1]


@FEWER
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_official_takes_the_validation_part_of_the_files(pairs: set[Pair], seed: int) -> None:
    interactions = table(pairs, seed, PARTS)
    assume("validation" in interactions.frame["part"])
    made = split(interactions, {"name": "official"})
    for name in PARTS:
        assert set(getattr(made, name).frame["part"]) <= {name}


def test_official_carves_a_tenth_off_the_tail_by_default() -> None:
    interactions = table({(user, item) for user in range(8) for item in "abcdefghij"}, 0)
    tail = split(interactions, {"name": "official", "validation": 0.1, "carve": "tail"})
    assert split(interactions, {"name": "official"}).fingerprint == tail.fingerprint


def test_official_without_validation() -> None:
    made = split(
        table({(user, item) for user in range(4) for item in "abcdef"}, 0), {"name": "official", "validation": 0}
    )
    assert len(made.validation) == 0


@pytest.mark.parametrize(("name", "column"), [("item_cold", "item"), ("user_cold", "user")])
@FEWER
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_cold_splits_share_no_item_or_user(name: str, column: str, pairs: set[Pair], seed: int) -> None:
    interactions = table(pairs, seed)
    made = split(interactions, {"name": name, "validation": 0.2, "test": 0.3}, seed)
    held = [set(getattr(made, part).frame[column]) for part in PARTS]
    total = interactions.frame[column].n_unique()
    assert [len(part) for part in held] == recbole_counts(total, [0.5, 0.2, 0.3])
    assert sum(map(len, held)) == total


@pytest.mark.parametrize("side", ["item", "user"])
@given(pairs=PAIRS, seed=st.integers(0, 99))
@FEWER
def test_warm_and_cold_keeps_cold_ones_out_of_train_and_whole(side: str, pairs: set[Pair], seed: int) -> None:
    interactions = table(pairs, seed)
    made = split(interactions, {"name": "warm_and_cold", "side": side, "cold": 0.4, "ratios": [2, 1, 1]}, seed)
    train, validation, test = (set(part.frame[side]) for part in (made.train, made.validation, made.test))
    cold = set(interactions.frame[side]) - train
    assert not (validation & test & cold)  # each cold one is in one part, with all of its rows
    size = interactions.num_items if side == "item" else interactions.num_users
    assert len(cold) == sum(counted[0] for counted in shares(np.array([size]), (0.6, 0.2, 0.2))[1:])
    if side == "item":  # whoever has a warm item keeps one
        warm_rows = interactions.frame.filter(pl.col("item").is_in(list(train)))
        assert set(warm_rows["user"]) == set(made.train.frame["user"])


def test_warm_and_cold_has_the_sizes_of_the_protocol() -> None:
    rng = np.random.default_rng(0)
    pairs = {(int(user), "abcdefghij"[item]) for user in range(200) for item in range(10) if rng.random() < 0.5}
    interactions = table(pairs, 0)
    made = split(interactions, {"name": "warm_and_cold"})
    items = [set(part.frame["item"]) for part in (made.train, made.validation, made.test)]
    assert [len(part - items[0]) for part in items] == [0, 1, 1]
    warm = [
        part.frame.filter(pl.col("item").is_in(list(items[0]))).height
        for part in (made.train, made.validation, made.test)
    ]
    assert warm == pytest.approx([0.8 * sum(warm), 0.1 * sum(warm), 0.1 * sum(warm)], abs=1)
    with pytest.raises(ConfigError, match="cold: expected a share above 0 and below 1, got 0"):
        split(interactions, {"name": "warm_and_cold", "cold": 0.0})


def test_parts_that_share_a_pair_are_refused() -> None:
    frame = pl.DataFrame({"user": [1, 1, 1], "item": [4, 5, 4]})
    with pytest.raises(DataError, match=r"1 pairs .* user 1, item 4 in train and test"):
        splits.build(
            {"name": "leave_last_out", "order": "file"}, Interactions.from_frame(frame), np.random.default_rng(0)
        )


def test_an_empty_part_is_refused() -> None:
    lonely = Interactions.from_frame(pl.DataFrame({"user": [1, 2], "item": [4, 5], "time": [3, 3]}))
    with pytest.raises(DataError, match="the test part is empty"):
        splits.build("random_by_user", lonely, np.random.default_rng(0))
    with pytest.raises(DataError, match="the train part is empty"):
        splits.build("global_time", lonely, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("leave_last_out", "no `time` column, and `order: file` is not set"),
        ("global_time", "no `time` column"),
        ("official", "hold no split"),
    ],
)
def test_splits_say_what_the_data_lacks(spec: str, message: str) -> None:
    bare = Interactions.from_frame(pl.DataFrame({"user": [1, 1], "item": [4, 5]}))
    with pytest.raises(DataError, match=message):
        splits.build(spec, bare, np.random.default_rng(0))


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "random_by_user", "ratios": [0, 1, 1]},
        {"name": "random_by_user", "ratios": [0.8, -0.1, 0.3]},
        {"name": "item_cold", "test": 0.9, "validation": 0.1},
        {"name": "official", "validation": 1.0},
        {"name": "warm_and_cold", "ratios": [0, 1, 1]},
    ],
    ids=str,
)
def test_impossible_shares_are_refused(spec: dict[str, Any]) -> None:
    interactions = table({(user, item) for user in range(4) for item in "abcdef"}, 0)
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.items() if key != "name"}
    with pytest.raises(ConfigError, match="expected train > 0"):
        splits.find(spec["name"])(interactions, np.random.default_rng(0), **options)
    if "ratios" in spec:
        with pytest.raises(ConfigError, match=r"split\.ratios\.[01]: Input should be greater than"):
            splits.check(spec, "split")


def test_only_cold_items_need_no_share_of_warm_rows_for_test() -> None:
    interactions = table({(user, item) for user in range(9) for item in "abcdef"}, 0)
    split = splits.build(
        {"name": "warm_and_cold", "cold": 0.5, "ratios": [0.9, 0.1, 0]}, interactions, np.random.default_rng(0)
    )
    assert not set(split.test.item_indices) & set(split.train.item_indices)
    with pytest.raises(ConfigError, match=r"split\.ratios\.2: Input should be greater than 0"):
        splits.check({"name": "random_by_user", "ratios": [0.9, 0.1, 0]}, "split")


def test_the_fingerprint_tells_parts_apart() -> None:
    interactions = table({(user, item) for user in range(4) for item in "abcdef"}, 0)
    one = split(interactions, {"name": "random_by_user"})
    swapped = Split(one.name, one.train, one.test, one.validation)
    assert one.fingerprint != swapped.fingerprint


def test_the_fingerprint_tells_candidates_apart_in_whatever_order_they_are_stored() -> None:
    interactions = table({(user, item) for user in range(4) for item in "abcdef"}, 0)
    one = split(interactions, {"name": "random_by_user"})
    dense = np.eye(4, 6, dtype=bool)
    dense[2, 5] = True
    tidy = sparse.csr_matrix(dense)
    untidy = tidy.copy()
    untidy.indices[2:4] = untidy.indices[2:4][::-1]
    untidy.has_sorted_indices = False
    made = [replace(one, candidates=each) for each in (tidy, untidy, sparse.csr_matrix(np.eye(4, 6, dtype=bool)))]
    assert made[0].fingerprint == made[1].fingerprint
    assert len({one.fingerprint, *(each.fingerprint for each in made)}) == 3


def test_the_latest_row_needs_times() -> None:
    frame = pl.DataFrame({"user": [1, 1, 1], "item": [4, 5, 6], "part": ["train", "train", "test"]})
    with pytest.raises(DataError, match="split official: the dataset has no `time` column for `carve: latest`"):
        splits.build({"name": "official", "carve": "latest"}, Interactions.from_frame(frame), np.random.default_rng(0))
