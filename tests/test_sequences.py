"""Epochs hold each target once, with exactly what came before it; negatives, hits and order are as for pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from cases import random_interactions
from hypothesis import given
from hypothesis import strategies as st

from recgraph.data.interactions import Interactions
from recgraph.errors import DataError
from recgraph.random import torch_generator
from recgraph.sampling.negatives import Sampler, Uniform
from recgraph.sampling.positives import Positives
from recgraph.sampling.sequences import SequenceBatches, hits_of_runs
from recgraph.types import Batch


def make(table: Interactions | None = None, batch_size: int = 3, seed: int = 0, **options: Any) -> SequenceBatches:
    table = random_interactions(num_users=40, density=0.4) if table is None else table
    order, sampling = torch_generator(seed, "order"), torch_generator(seed, "negatives")
    return SequenceBatches(table, batch_size, order, sampling, **options)


def test_users_of_one_item_have_no_sequence() -> None:
    table = Interactions.from_frame(pl.DataFrame({"user": [1, 2, 3], "item": [1, 1, 2]}))
    with pytest.raises(DataError, match="no user has two training interactions"):
        list(make(table))


def targets_of(batch: Batch) -> list[tuple[int, tuple[int, ...], int]]:
    """(user, what was read, what is to be predicted) of each row of a batch."""
    history, width = batch.inputs.history, batch.inputs.history.shape[1]
    found = []
    for row, item in enumerate(batch.items.tolist()):
        place = row * width + width - 1 if batch.inputs.positions is None else int(batch.inputs.positions[row])
        read = history[place // width, : place % width + 1].tolist()
        found.append((int(batch.users[row]), tuple(item - 1 for item in read if item), item))
    return found


def expected(table: Interactions, max_length: int, *, every: bool) -> list[tuple[int, tuple[int, ...], int]]:
    own: dict[int, list[int]] = {}
    for user, item in zip(table.user_indices.tolist(), table.item_indices.tolist(), strict=True):
        own.setdefault(user, []).append(item)
    rows = []
    for user, items in own.items():
        start = max(0, len(items) - 1 - max_length) if every else 0
        for place in range(start + 1, len(items)):
            before = items[start:place] if every else items[:place][-max_length:]
            rows.append((user, tuple(before), items[place]))
    return rows


@pytest.mark.parametrize("targets", ["every", "last"])
@given(batch_size=st.integers(1, 60), max_length=st.integers(1, 12), seed=st.integers(0, 50))
def test_an_epoch_holds_each_target_once_with_what_came_before_it(
    targets: str, batch_size: int, max_length: int, seed: int
) -> None:
    table = random_interactions(density=0.4, seed=seed)
    batches = make(table, batch_size, seed, max_length=max_length, targets=targets)
    made = list(batches)
    assert len(made) == len(batches)
    found = [row for batch in made for row in targets_of(batch)]
    assert Counter(found) == Counter(expected(table, max_length, every=targets == "every"))


def skewed() -> Interactions:
    """300 users of 2 to 40 items, most of them few."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(40, 2 + rng.geometric(0.2, size=300))
    users = np.repeat(np.arange(300), lengths)
    items = np.concatenate([rng.permutation(60)[:length] for length in lengths])
    return Interactions.from_frame(pl.DataFrame({"user": users, "item": items}))


def test_batches_are_padded_to_their_longest_and_hardly_at_all() -> None:
    batches = list(make(skewed(), 10))
    for batch in batches:
        assert (batch.inputs.history != 0).any(0).all(), "a column of nothing but padding"
    slots = sum(batch.inputs.history.numel() for batch in batches)
    used = sum(len(batch.items) for batch in batches)
    assert slots < 1.25 * used  # unsorted, twice as many and more


def test_every_target_counts_the_same_wherever_its_batch() -> None:
    sizes = [len(batch.items) for batch in make(skewed(), 30)]
    assert max(sizes) < 1.35 * min(sizes)  # with as many sequences each, ten times
    rows = [len(batch.items) for batch in make(skewed(), 30, targets="last")]
    assert max(rows) == 30
    assert min(rows) >= 15  # a last block is shared out evenly


def rows_of(batches: SequenceBatches) -> list[list[tuple[int, tuple[int, ...], int]]]:
    return [targets_of(batch) for batch in batches]


def test_order_depends_on_seed_and_epoch_only_and_an_epoch_can_be_taken_up_again() -> None:
    first, again, other = make(), make(), make(seed=1)
    epoch = rows_of(first)
    state = first.order.get_state()
    second = rows_of(first)
    assert epoch != second
    assert [rows_of(again), rows_of(again)] == [epoch, second]
    assert rows_of(other) != epoch
    resumed = make(seed=7)
    resumed.order.set_state(state)
    assert rows_of(resumed) == second


def test_negatives_do_not_move_the_order() -> None:
    table = random_interactions(num_users=40, density=0.4)
    assert rows_of(make(table, sampler=Uniform(table, num=5))) == rows_of(make(table))


@pytest.mark.parametrize("targets", ["every", "last"])
def test_a_negative_of_a_row_is_none_of_its_users_items(targets: str) -> None:
    table = random_interactions(num_users=40, density=0.4)
    liked = table.csr().toarray() > 0
    for batch in make(table, targets=targets, sampler=Uniform(table, num=4)):
        assert batch.negatives.shape == (len(batch.items), 4)
        assert batch.hits is None
        assert not liked[batch.users.numpy()[:, None], batch.negatives.numpy()].any()


def test_negatives_come_with_their_probabilities() -> None:
    table = random_interactions(num_users=40, density=0.4)
    for sampler in (Uniform(table, num=4), Uniform(table, num=4, shared_by=7)):
        assert all(batch.log_q is None for batch in make(table, sampler=sampler))
        for batch in make(table, sampler=sampler, log_q=True):
            torch.testing.assert_close(batch.log_q, sampler.log_q(batch.users, batch.negatives))


@pytest.mark.parametrize("shared_by", [7, 10_000])
@pytest.mark.parametrize("targets", ["every", "last"])
def test_shared_sets_say_which_are_positives_of_each_row(targets: str, shared_by: int) -> None:
    table = random_interactions(num_users=40, density=0.4)
    liked = table.csr().toarray() > 0
    sampler: Sampler = Uniform(table, num=9, shared_by=shared_by)
    for batch in make(table, 10, targets=targets, sampler=sampler):
        assert len(batch.negatives) == -(-len(batch.items) // shared_by)
        parts = batch.users.split(-(-len(batch.users) // len(batch.negatives)))
        for users, items, hits in zip(parts, batch.negatives, batch.hits, strict=True):
            marked = np.zeros((len(users), 9), dtype=bool)
            marked.ravel()[hits.numpy()] = True
            assert (marked == liked[users.numpy()[:, None], items.numpy()]).all()


@pytest.mark.parametrize("hits_of", [Positives.hits, hits_of_runs])
def test_hits_are_of_every_row_where_users_repeat(hits_of: Callable[..., list[torch.Tensor]]) -> None:
    table = random_interactions()
    liked = set(zip(table.user_indices.tolist(), table.item_indices.tolist(), strict=True))
    users, sets = torch.tensor([3, 3, 3, 1, 1, 0, 3]), torch.tensor([[0, 3, 3, 8], [5, 16, 1, 2]])
    for part, items, hits in zip(users.split(4), sets, hits_of(Positives(table), users, sets), strict=True):
        pairs = enumerate((user, item) for user in part.tolist() for item in items.tolist())
        assert sorted(hits.tolist()) == [place for place, pair in pairs if pair in liked]
        assert len(hits)


def test_users_and_items_are_distinct_in_distinct() -> None:
    batch = next(iter(make(distinct=True)))
    users = batch.inputs.users.tolist()
    assert sorted(users[row] for row in batch.distinct.rows.tolist()) == sorted(set(users))
    assert batch.distinct.items.tolist() == sorted(set(batch.items.tolist()))


def test_parts_of_a_batch_know_the_users_of_their_rows() -> None:
    batch = next(iter(make()))
    found = torch.cat([part.users for _, part in batch.parts(4)])
    assert found.tolist() == batch.users.tolist()
