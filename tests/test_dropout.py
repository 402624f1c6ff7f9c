"""Dropout with masks of our own keeps what torch's keeps: a share, at random, with the same expectation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest, chi2

from recgraph.numerics.dropout import Dropout, dropout


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_a_share_is_dropped_and_the_others_are_scaled_up_for_it(rate: float) -> None:
    torch.manual_seed(0)
    values = torch.full((300, 1000), 2.0)
    found = dropout(values, rate)
    dropped = int((found == 0).sum())
    assert binomtest(dropped, values.numel(), rate).pvalue > 1e-4
    torch.testing.assert_close(
        found[found != 0], torch.full((values.numel() - dropped,), 2 / (1 - rate)), rtol=2e-4, atol=0
    )


def test_four_decisions_of_one_draw_are_independent() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(100_000, 4), 0.3) > 0).long()
    counts = torch.bincount(kept @ torch.tensor([8, 4, 2, 1]), minlength=16).double()
    ones = torch.tensor([bin(pattern).count("1") for pattern in range(16)]).double()
    expected = len(kept) * 0.7**ones * 0.3 ** (4 - ones)
    assert chi2.sf(float(((counts - expected) ** 2 / expected).sum()), df=15) > 1e-4


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 7)])
def test_any_shape_and_its_gradient(shape: tuple[int, ...]) -> None:
    values = torch.rand(shape, dtype=torch.float64).add(1).requires_grad_()
    found = dropout(values, 0.5)
    found.sum().backward()
    torch.testing.assert_close(found, values * values.grad)
    assert ((values.grad == 0) | (values.grad == 2)).all()


@pytest.mark.parametrize("rate", [0.0, 1e-9, 1 - 1e-9])
def test_what_16_bits_cannot_tell_is_left_to_torch(rate: float) -> None:
    values = torch.rand(50, 50)
    torch.manual_seed(3)
    found = dropout(values, rate)
    torch.manual_seed(3)
    assert torch.equal(found, F.dropout(values, rate))


def test_in_half_precision_and_another_layout() -> None:
    values = torch.ones(40, 30, dtype=torch.bfloat16).T
    assert set(dropout(values, 0.5).flatten().tolist()) == {0.0, 2.0}


def test_the_module_is_of_training_only_and_of_the_seed() -> None:
    values, module = torch.rand(50, 50), Dropout(0.4)
    torch.manual_seed(3)
    found, other = module(values), module(values)
    torch.manual_seed(3)
    assert torch.equal(module(values), found)
    assert not torch.equal(other, found)
    assert torch.equal(module.eval()(values), values)
