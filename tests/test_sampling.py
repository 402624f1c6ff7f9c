"""Negatives are never training positives, are drawn evenly, and epochs hold every row once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import interactions, random_interactions
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import chisquare

from recgraph import registry
from recgraph.errors import ConfigError, DataError
from recgraph.numerics.alias import alias_table
from recgraph.random import torch_generator
from recgraph.sampling.batches import Batches
from recgraph.sampling.negatives import InBatch, Popularity, Sampler, Uniform, Warm


@given(seed=st.integers(0, 1000), density=st.floats(0.05, 0.9), num=st.integers(1, 4))
def test_a_negative_is_never_a_training_positive(seed: int, density: float, num: int) -> None:
    table = random_interactions(density=density, seed=seed)
    liked = table.csr().toarray() > 0
    if liked.all(axis=1).any():
        return
    users = torch.from_numpy(table.user_indices)
    drawn = Uniform(table, num=num).sample(users, users, torch_generator(seed, "negatives"))
    assert drawn.shape == (len(users), num)
    assert drawn.min() >= 0
    assert drawn.max() < table.num_items
    assert not liked[users.numpy()[:, None], drawn.numpy()].any()


def test_negatives_are_uniform_over_what_the_user_has_not() -> None:
    table = random_interactions(num_users=3, num_items=20)
    free = np.flatnonzero(table.csr().toarray()[1] == 0)
    users = torch.full((20_000,), 1)
    drawn = Uniform(table).sample(users, users, torch_generator(0, "negatives")).numpy().ravel()
    counts = np.bincount(drawn, minlength=20)[free]
    expected = 20_000 / len(free)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    # mean len-1, sd sqrt(2 (len-1)); five sd never happen by chance, and a sampler that shifts a hit by one is at 100s
    assert chi2 < len(free) - 1 + 5 * np.sqrt(2 * (len(free) - 1))


def test_a_user_who_has_everything_is_an_error_not_an_endless_loop() -> None:
    table = interactions(np.array([[10, 1], [10, 2], [20, 1]]))
    with pytest.raises(DataError, match="user 10 has every item"):
        Uniform(table)


def test_num_must_be_positive() -> None:
    with pytest.raises(ConfigError, match=r"negatives\.num: .*greater than 0"):
        registry.samplers.check({"name": "uniform", "num": 0}, "negatives")


def make_batches(batch_size: int = 10, seed: int = 0) -> Batches:
    table = random_interactions()
    order, sampling = torch_generator(seed, "order"), torch_generator(seed, "negatives")
    return Batches(table, batch_size, order, sampling, sampler=Uniform(table))


def rows_of(batches: Batches) -> list[tuple[int, int]]:
    return [pair for b in batches for pair in zip(b.inputs.users.tolist(), b.items.tolist(), strict=True)]


@given(batch_size=st.integers(1, 100))
def test_an_epoch_holds_every_interaction_once(batch_size: int) -> None:
    batches = make_batches(batch_size)
    rows = rows_of(batches)
    expected = zip(batches.train.user_indices.tolist(), batches.train.item_indices.tolist(), strict=True)
    assert sorted(rows) == sorted(expected)
    assert len(batches) == sum(1 for _ in batches)


def test_users_are_drawn_evenly_and_of_each_its_interactions() -> None:
    """Users who have anything, that is, as often as those who have much; both tested at once, by a chi-square."""
    table = random_interactions()
    made = replace(make_batches(97), draw_by="user")
    drawn = Counter(pair for _ in range(400) for pair in rows_of(made))
    assert sum(drawn.values()) == 400 * len(table)
    degrees = Counter(table.user_indices.tolist())
    pairs = list(zip(table.user_indices.tolist(), table.item_indices.tolist(), strict=True))
    assert set(drawn) == set(pairs)
    assert len(set(degrees.values())) > 3
    expected = [400 * len(table) / len(degrees) / degrees[user] for user, _ in pairs]
    assert chisquare([drawn[pair] for pair in pairs], expected).pvalue > 1e-3
    assert rows_of(replace(make_batches(97), draw_by="user")) == rows_of(replace(make_batches(5), draw_by="user"))


def test_order_depends_on_seed_and_epoch_only() -> None:
    first, again, other = make_batches(seed=0), make_batches(seed=0), make_batches(seed=1)
    epoch1, epoch2 = rows_of(first), rows_of(first)
    assert epoch1 != epoch2
    assert [rows_of(again), rows_of(again)] == [epoch1, epoch2]
    assert rows_of(other) != epoch1


def test_epochs_of_the_same_order_have_other_negatives() -> None:
    made, drawn = make_batches(), []
    for _ in range(2):
        made.order.manual_seed(0)
        drawn.append(torch.cat([batch.negatives for batch in made]))
    assert not torch.equal(*drawn)


def test_an_epoch_leaves_the_generator_of_views_as_it_is() -> None:
    made = replace(make_batches(), views=torch_generator(0, "views"))
    state = made.views.get_state()
    list(made)
    assert torch.equal(made.views.get_state(), state)


def test_the_number_of_negatives_does_not_move_the_order() -> None:
    more = make_batches()
    more = Batches(more.train, 10, more.order, more.sampling, sampler=Uniform(more.train, num=5))
    assert rows_of(more) == rows_of(make_batches())


def test_fields_that_nobody_reads_are_not_built() -> None:
    made = make_batches()
    batch = next(iter(Batches(made.train, 10, made.order, made.sampling)))
    assert batch.negatives is None
    assert batch.inputs.graph is None
    assert batch.generator is None
    assert batch.distinct is None


def test_batches_know_their_distinct_users_and_items() -> None:
    made = replace(make_batches(), distinct=True, views=torch_generator(0, "views"))
    for batch in made:
        users, items = batch.inputs.users.tolist(), batch.items.tolist()
        assert batch.distinct.rows.tolist() == [users.index(user) for user in sorted(set(users))]
        assert batch.distinct.items.tolist() == sorted(set(items))
        assert batch.generator is made.views


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40).filter(lambda weights: sum(weights) > 0.01))
@example([0.5221014615273706] * 5)  # each probability times five is rounded to less than 1
def test_an_alias_table_holds_exactly_the_distribution(weights: list[float]) -> None:
    probabilities = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    keep, alias = alias_table(probabilities)
    # An item is drawn when its own cell is drawn and kept, or when a cell that is not kept leads to it.
    reached = keep.double().index_add(0, alias, 1 - keep.double()) / len(weights)
    torch.testing.assert_close(reached, probabilities, rtol=0, atol=1e-6)
    assert 0 <= keep.min() <= keep.max() <= 1
    assert (keep[probabilities == 0] == 0).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_popularity_draws_by_a_power_of_the_count(alpha: float) -> None:
    table = random_interactions(num_users=30, num_items=20)
    counts = np.bincount(table.item_indices, minlength=20)
    expected = 50_000 * counts**alpha / (counts**alpha).sum()
    drawn = Popularity(table, alpha=alpha).draw(50_000, torch_generator(0, "negatives")).numpy()
    chi2 = ((np.bincount(drawn, minlength=20) - expected) ** 2 / expected).sum()
    assert chi2 < 19 + 5 * np.sqrt(2 * 19)  # mean 19, sd √38


def test_popularity_never_draws_a_positive_of_the_row() -> None:
    table = random_interactions()
    liked = table.csr().toarray() > 0
    users = torch.from_numpy(table.user_indices).repeat(50)
    drawn = Popularity(table, num=2).sample(users, users, torch_generator(0, "negatives"))
    assert not liked[users.numpy()[:, None], drawn.numpy()].any()


def test_popularity_refuses_a_user_for_whom_only_items_of_no_chance_are_left() -> None:
    table = interactions(np.array([[10, 1], [10, 2], [20, 1], [20, 3]]))
    without_third = table.select(np.array([True, True, True, False]))
    assert without_third.num_items == 3
    Uniform(without_third)
    with pytest.raises(DataError, match="user 10 has every item"):
        Popularity(without_third)


def test_warm_draws_evenly_among_the_items_of_training() -> None:
    table = random_interactions(num_users=30, num_items=20)
    train = table.select(table.item_indices > 4)
    drawn = Warm(train).draw(50_000, torch_generator(0, "negatives")).numpy()
    counts, expected = np.bincount(drawn, minlength=20), 50_000 / 15
    assert not counts[:5].any()
    assert ((counts[5:] - expected) ** 2 / expected).sum() < 14 + 5 * np.sqrt(2 * 14)  # mean 14, sd √28
    users = torch.from_numpy(train.user_indices)
    assert not (train.csr().toarray() > 0)[
        users.numpy()[:, None], Warm(train, num=3).sample(users, users, torch_generator(0, "n")).numpy()
    ].any()


@pytest.mark.parametrize("make", [Uniform, Popularity, Warm])
def test_rows_share_sets_evenly(make: type[Sampler]) -> None:
    table = random_interactions()
    users = torch.arange(10)
    sample = lambda rows: make(table, num=5, shared_by=rows).sample(users, users, torch_generator(0, "n"))  # noqa: E731
    assert [sample(rows).shape for rows in (3, 10, 100)] == [(4, 5), (1, 5), (1, 5)]


@pytest.mark.parametrize("size", [2, 3, 7, 40])
def test_in_batch_can_keep_what_the_user_likes_but_not_the_row_itself(size: int) -> None:
    table = random_interactions()
    users, items = torch.from_numpy(table.user_indices)[:23], torch.from_numpy(table.item_indices)[:23]
    sampler = InBatch(table, shared_by=size, keep_positives=True)
    sets = sampler.sample(users, items, torch_generator(0, "negatives"))
    found, row = sampler.hits(users, sets), 0
    assert len(found) == len(sets)
    for kept, hits in zip(sets, found, strict=True):
        for number, place in enumerate(hits.tolist()):
            assert place // len(kept) == number
            assert kept[place % len(kept)] == items[row]
            row += 1
    assert row == 23
    masked = InBatch(table, shared_by=size).hits(users, sets)
    assert sum(map(len, masked)) > 23
    for own, all_of_them in zip(found, masked, strict=True):
        assert set(own.tolist()) <= set(all_of_them.tolist())


def test_a_row_by_itself_has_no_other_rows_for_negatives() -> None:
    with pytest.raises(ConfigError, match="InBatch: shared_by is 1; expected an integer of at least 2"):
        InBatch(random_interactions(), shared_by=1)


def test_in_batch_sets_are_the_items_of_the_rows_that_share_them() -> None:
    table = random_interactions()
    items = torch.tensor([3, 1, 4, 1, 5, 9, 2])
    sets = InBatch(table, shared_by=3).sample(items, items, torch_generator(0, "n"))
    assert sets.tolist() == [[3, 1, 4], [1, 5, 9], [2, 3, 1]]


@pytest.mark.parametrize(
    "sampler", [{"name": "uniform", "num": 4, "shared_by": 5}, {"name": "in_batch", "shared_by": 5}]
)
def test_batches_with_shared_sets_say_which_are_positives(sampler: dict) -> None:
    table = random_interactions()
    liked = table.csr().toarray() > 0
    drawer = registry.samplers.build(sampler, table)
    batches = Batches(table, 20, torch_generator(0, "order"), torch_generator(0, "negatives"), sampler=drawer)
    for batch in batches:
        assert batch.hits is not None
        users = batch.inputs.users.split(-(-len(batch.items) // len(batch.negatives)))
        for mine, items, hits in zip(users, batch.negatives, batch.hits, strict=True):
            marked = np.zeros((len(mine), len(items)), dtype=bool)
            marked.ravel()[hits.numpy()] = True
            assert (marked == liked[mine.numpy()[:, None], items.numpy()]).all()


def test_rows_do_not_depend_on_how_an_epoch_is_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(make_batches())
    monkeypatch.setattr("recgraph.sampling.batches.BLOCK", 25)
    assert rows_of(make_batches()) == rows


@pytest.mark.parametrize(("bound", "most"), [(60, 60), (7, 30), (10**6, 10**6)])
def test_how_many_negatives_are_drawn_at_once_is_bounded(
    bound: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whole batches, of 10 rows with 3 negatives each here."""
    counts: list[int] = []
    draw = Uniform.draw
    monkeypatch.setattr("recgraph.sampling.batches.BLOCK_NEGATIVES", bound)
    monkeypatch.setattr(Uniform, "draw", lambda self, count, *rest: counts.append(count) or draw(self, count, *rest))
    batches = make_batches()
    batches = replace(batches, sampler=Uniform(batches.train, num=3))
    assert sum(len(batch.items) for batch in batches) == len(batches.train)
    assert max(counts) == min(most, 3 * len(batches.train))
