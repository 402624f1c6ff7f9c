"""Looking up training positives equals looking at each pair."""

from __future__ import annotations

import pytest
import torch
from cases import random_interactions
from hypothesis import given
from hypothesis import strategies as st

from recgraph.data.interactions import Interactions
from recgraph.sampling import positives
from recgraph.sampling.positives import Positives


def pairs_of(table: Interactions) -> set[tuple[int, int]]:
    return set(zip(table.user_indices.tolist(), table.item_indices.tolist(), strict=True))


@given(seed=st.integers(0, 1000), density=st.floats(0.02, 0.9))
def test_among_finds_every_positive_and_nothing_else(seed: int, density: float) -> None:
    table = random_interactions(density=density, seed=seed)
    users = torch.arange(table.num_users).repeat_interleave(table.num_items)
    items = torch.arange(table.num_items).repeat(table.num_users)
    found = Positives(table).among(users, items).tolist()
    liked = pairs_of(table)
    assert found == [n for n, pair in enumerate(zip(users.tolist(), items.tolist(), strict=True)) if pair in liked]


def test_the_filter_only_spares_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_interactions()
    users, items = torch.randint(12, (500,)), torch.randint(17, (500,))
    expected = Positives(table).among(users, items)
    monkeypatch.setattr(positives, "SLOTS", 1)  # a filter so full that it holds back little
    assert torch.equal(Positives(table).among(users, items), expected)


@given(seed=st.integers(0, 1000), num_sets=st.integers(1, 5), num=st.integers(1, 30))
def test_hits_are_the_positives_of_the_rows_in_their_own_set(seed: int, num_sets: int, num: int) -> None:
    table = random_interactions(seed=seed)
    liked = pairs_of(table)
    generator = torch.Generator().manual_seed(seed)
    users = torch.randint(table.num_users, (11,), generator=generator)
    sets = torch.randint(table.num_items, (num_sets, num), generator=generator)  # items repeat
    run = -(-len(users) // num_sets)
    if run * (num_sets - 1) >= len(users):
        return  # not a number of sets that rows can be shared out to
    for number, found in enumerate(Positives(table).hits(users, sets)):
        mine = users[number * run : (number + 1) * run].tolist()
        expected = [
            row * num + column
            for row, user in enumerate(mine)
            for column, item in enumerate(sets[number].tolist())
            if (user, item) in liked
        ]
        assert sorted(found.tolist()) == expected
