"""iALS against one linear system a row, and what must hold of alternating least squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cases import checkerboard, interactions, random_interactions
from references_filters import ials_half, ials_loss

from recgraph import registry
from recgraph.baselines import ials as module
from recgraph.baselines.ials import IALS
from recgraph.errors import ConfigError, DataError
from recgraph.evaluation.ranking import evaluate
from recgraph.models.model import Model, catalogue_of
from recgraph.random import torch_generator

SETTINGS = [
    {"dim": 4, "l2": 0.1, "unobserved_weight": 0.3, "frequency_exponent": 1.0},
    {"dim": 16, "l2": 0.02, "unobserved_weight": 0.1, "frequency_exponent": 0.5},
    {"dim": 3, "l2": 0.5, "unobserved_weight": 0.0, "frequency_exponent": 0.0},
]
"""Rows have about 5 entries: dim 3 solves most of them for the vector, dim 16 for a weight of each entry."""


def naive(model: IALS) -> tuple[float, float, float]:
    return model.l2, model.unobserved_weight, model.frequency_exponent


@pytest.mark.parametrize("chunk", [1, 100, 2**22])
@pytest.mark.parametrize("settings", SETTINGS)
def test_half_an_epoch_solves_each_row(settings: dict, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    history = random_interactions().csr().tolil()
    history[2], history[5] = 0, 0
    history[2, 7] = 1  # degrees of 1 and 0
    history = history.tocsr()
    model = IALS(12, 17, **settings)
    table = torch.randn(17, model.dim, generator=torch.Generator().manual_seed(0))
    expected = ials_half(history.toarray().astype(float), table.double().numpy(), *naive(model))
    np.testing.assert_allclose(model._solve(history, table).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_fit_solves_for_users_and_items_in_turn_and_once_more_for_users(settings: dict) -> None:
    table = random_interactions()
    matrix = table.csr().toarray().astype(float)
    model = IALS(12, 17, **settings, epochs=2, stdev=0.5)
    model.fit(table)
    drawn = torch.randn(17, model.dim, generator=torch_generator(0, "ials")) * 0.5 / model.dim**0.5
    items = drawn.double().numpy()
    for _ in range(2):
        users = ials_half(matrix, items, *naive(model))
        items = ials_half(matrix.T, users, *naive(model))
    users = ials_half(matrix, items, *naive(model))
    np.testing.assert_allclose(model.users.numpy(), users, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.items.numpy(), items, rtol=1e-3, atol=1e-4)


def test_the_loss_never_rises_and_ends_where_its_gradient_is_zero() -> None:
    table = random_interactions()
    matrix = table.csr().toarray().astype(float)
    losses = []
    for epochs in (1, 2, 3, 5, 10, 2000):
        model = IALS(12, 17, **SETTINGS[0], epochs=epochs)
        model.fit(table)
        losses.append(ials_loss(matrix, model.users.double().numpy(), model.items.double().numpy(), *naive(model)))
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 1.01 * losses[-1]

    users, items = (tensor.double().requires_grad_() for tensor in (model.users, model.items))
    target = torch.from_numpy(matrix)
    scores = users @ items.T
    loss = (target * (scores - 1) ** 2).sum() + 0.3 * (scores**2).sum()
    loss = loss + 0.1 * ((target.sum(1) + 0.3 * 17) * (users**2).sum(1)).sum()
    loss = loss + 0.1 * ((target.sum(0) + 0.3 * 12) * (items**2).sum(1)).sum()
    assert loss.item() == pytest.approx(losses[-1])
    gradients = torch.autograd.grad(loss, (users, items))
    assert users.detach().abs().max() > 0.1  # not the saddle point at zero
    for gradient in gradients:
        assert gradient.abs().max() < 1e-3


def test_users_and_items_without_interactions_are_zero() -> None:
    full = random_interactions()
    table = full.select((full.user_indices != 3) & (full.item_indices != 5))
    model = IALS(12, 17, dim=4, epochs=2)
    model.fit(table)
    assert not model.users[3].any()
    assert not model.items[5].any()
    assert model.users[4].any()


def test_repeated_interactions_count_once() -> None:
    pairs = np.array([[0, 0], [0, 1], [1, 1], [1, 2], [2, 0]])
    once, twice = (IALS(3, 3, dim=2, epochs=3) for _ in range(2))
    once.fit(interactions(pairs))
    twice.fit(interactions(np.concatenate([pairs, pairs])))
    torch.testing.assert_close(once.items, twice.items)


def test_a_loss_without_a_penalty_is_refused() -> None:
    table = random_interactions(num_users=9, num_items=8, density=1.0)  # all users become the same, and all items
    model = IALS(9, 8, dim=16, l2=1e-12, unobserved_weight=0.0)
    with pytest.raises(DataError, match="l2 and unobserved_weight are too small"):
        model.fit(table)


def test_the_seed_decides_the_start_and_nothing_global_does() -> None:
    table = random_interactions()
    state = torch.get_rng_state()
    first, again, other = (IALS(12, 17, dim=3, epochs=1, seed=seed) for seed in (0, 0, 1))
    for model in (first, again, other):
        model.fit(table)
    assert torch.equal(first.items, again.items)
    assert not torch.allclose(first.items, other.items)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_learns_the_checkerboard() -> None:
    split = checkerboard()
    model = IALS(30, 30, dim=4)
    model.fit(split.train)
    result = evaluate(model.scorer(), test=split.test.csr(), seen=split.train.csr(), metrics=["recall@1"])
    assert result.summary["recall@1"] == 1


def test_it_is_the_same_after_loading(tmp_path: Path) -> None:
    table = random_interactions()
    model = IALS(12, 17, **SETTINGS[1], epochs=3)
    model.fit(table)
    model.catalogue = catalogue_of(table, [table], None)
    model.save(tmp_path)
    loaded = Model.load(tmp_path)
    assert loaded.options() == model.options()
    users = torch.arange(12)
    torch.testing.assert_close(loaded.scorer()(users), model.scorer()(users), rtol=0, atol=0)


@pytest.mark.parametrize(("option", "value"), [("dim", 0), ("l2", 0), ("unobserved_weight", -1), ("epochs", 0)])
def test_options_out_of_range_are_errors(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"baseline\.{option}"):
        registry.baselines.build({"name": "ials", option: value}, 12, 17)
