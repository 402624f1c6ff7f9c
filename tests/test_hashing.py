"""Pairs of ids land where a hash in Python's own integers puts them, and evenly."""

from __future__ import annotations

import pytest
import references_fields
import torch

from recgraph.numerics.hashing import pairs


def test_buckets_equal_those_of_unsigned_integers() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(1, 2**31, (50, 3), generator=generator)
    other = torch.randint(1, 2**31, (50, 2), generator=generator)
    expected = [
        [references_fields.bucket(a, b, 1009) + 1 for a in left for b in right]
        for left, right in zip(one.tolist(), other.tolist(), strict=True)
    ]
    assert pairs(one, other, 1009).tolist() == expected


def test_some_buckets_are_pinned() -> None:
    """A saved model's weights would belong to other pairs."""
    assert pairs(torch.tensor([1, 2]), torch.tensor([1, 7]), 100_000).tolist() == [62614, 37462, 60891, 74066]


def test_none_with_anything_is_none() -> None:
    found = pairs(torch.tensor([[0, 5]]), torch.tensor([[3, 0], [4, 4]]), 10)
    assert found.shape == (2, 4)
    assert (found == 0).tolist() == [[True, True, False, True], [True, True, False, False]]


@pytest.mark.parametrize(("rows", "columns"), [(200, 500), (1, 100_000), (100_000, 1)])
def test_pairs_spread_as_evenly_as_chance(rows: int, columns: int) -> None:
    found = pairs(torch.arange(1, rows + 1).unsqueeze(-1), torch.arange(1, columns + 1), 1000)
    counts = torch.bincount(found.flatten() - 1, minlength=1000).double()
    statistic = ((counts - 100) ** 2 / 100).sum().item()
    assert 800 < statistic < 1200  # χ² of 999 degrees of freedom: 999 ± 45


def test_the_order_of_a_pair_matters() -> None:
    ids = torch.arange(1, 100)
    assert (
        pairs(ids[:, None], ids[:, None].flip(0), 10**6) == pairs(ids[:, None].flip(0), ids[:, None], 10**6)
    ).sum() <= 2
