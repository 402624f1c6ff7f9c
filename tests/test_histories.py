"""Histories are each user's items in order of time, and never hold what is yet to come."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import torch
from cases import random_interactions
from hypothesis import given
from hypothesis import strategies as st

from recgraph.data.histories import Histories
from recgraph.data.interactions import Interactions


def table(users: list[int], items: list[int], times: list[float] | None = None) -> Interactions:
    columns = {"user": users, "item": items} | ({} if times is None else {"time": times})
    return Interactions.from_frame(pl.DataFrame(columns))


def lists(histories: Histories) -> list[list[int]]:
    bounds = histories.starts.tolist()
    return [histories.items[a:b].tolist() for a, b in itertools.pairwise(bounds)]


def test_items_are_in_file_order_without_times_and_stored_as_one_more() -> None:
    assert lists(Histories.of(table([1, 0, 1, 1], [2, 0, 0, 1]))) == [[1], [3, 1, 2]]


def test_items_are_in_order_of_time_and_ties_in_file_order() -> None:
    made = table([0, 0, 0, 0, 1], [3, 2, 1, 0, 2], [5, 2, 5, 1, 9])
    assert lists(Histories.of(made)) == [[1, 3, 4, 2], [3]]


def test_the_last_items_are_padded_on_the_left_to_the_longest_of_the_batch_and_cut() -> None:
    histories = Histories.of(table([0, 1, 1, 1, 2, 2], [0, 0, 1, 2, 2, 0]))
    assert histories.last(torch.tensor([2, 0]), 50).tolist() == [[3, 1], [0, 1]]
    assert histories.last(torch.tensor([1, 0]), 2).tolist() == [[2, 3], [0, 1]]


def test_who_has_nothing_has_a_step_of_padding() -> None:
    made = table([0, 0, 1], [0, 1, 2])
    histories = Histories.of(made.select(np.array([True, True, False])))
    assert histories.last(torch.tensor([1]), 5).tolist() == [[0]]
    assert histories.last(torch.tensor([1, 0]), 5).tolist() == [[0, 0], [1, 2]]
    nothing = Histories.of(made.select(np.array([False, False, False])))
    assert nothing.last(torch.tensor([0]), 5).tolist() == [[0]]


@given(seed=st.integers(0, 100), max_length=st.integers(1, 9))
def test_equals_a_loop(seed: int, max_length: int) -> None:
    made = random_interactions(seed=seed)
    users = torch.tensor([3, 0, 11, 3])
    found = made.histories.last(users, max_length)
    rows = list(zip(made.user_indices.tolist(), made.item_indices.tolist(), strict=True))
    expected = [[item + 1 for user, item in rows if user == wanted][-max_length:] for wanted in users.tolist()]
    assert found.shape[1] == max(map(len, expected))
    assert [[item for item in row if item] for row in found.tolist()] == expected
    assert all(
        row[: found.shape[1] - len(own)] == [0] * (found.shape[1] - len(own))
        for row, own in zip(found.tolist(), expected, strict=True)
    )
