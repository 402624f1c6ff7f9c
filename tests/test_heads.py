"""Heads score aligned vectors and whole catalogues alike."""

from __future__ import annotations

import pytest
import torch

from recgraph import registry
from recgraph.heads import Dot


def test_dot_equals_a_loop() -> None:
    query, items = torch.randn(3, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    expected = [[sum(a * b for a, b in zip(q, i, strict=True)) for i in items.tolist()] for q in query.tolist()]
    torch.testing.assert_close(Dot(4).all_pairs(query, items), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("name", list(registry.heads.components()))
@pytest.mark.parametrize("batch", [(), (3,), (3, 2)])
def test_a_catalogue_is_scored_like_its_pairs(name: str, batch: tuple[int, ...]) -> None:
    head = registry.heads.build(name, 4).double()
    query, items = torch.randn(*batch, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    every = head.all_pairs(query, items)
    assert every.shape == (*batch, 5)
    for item in range(5):
        torch.testing.assert_close(every[..., item], head(query, items[item].expand_as(query)))
