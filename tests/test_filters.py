"""Sparse matrices by rows, and what graph filters keep of the data, against dense versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import random_interactions
from references_filters import ideal, normalised

from recgraph.baselines.filters import GraphFilter, IdealFilter
from recgraph.data.interactions import Interactions


def fitted(table: Interactions) -> GraphFilter:
    model = GraphFilter(table.num_users, table.num_items)
    model.fit(table)
    return model


def with_gaps() -> Interactions:
    """A user and an item without interactions, among others."""
    full = random_interactions()
    return full.select((full.user_indices != 3) & (full.item_indices != 5))


@pytest.mark.parametrize("exponent", [0.5, 0.6, 0.0, 1.0])
def test_normalisation_and_products(exponent: float) -> None:
    table = with_gaps()
    expected = torch.from_numpy(normalised(table.csr().toarray().astype(float), exponent)).float()
    by_user, by_item = fitted(table).normalised(exponent)
    torch.testing.assert_close(by_user.csr(17).to_dense(), expected)
    torch.testing.assert_close(by_item.csr(12).to_dense(), expected.T)
    items, users = torch.randn(17, 5), torch.randn(12, 5)
    torch.testing.assert_close(by_user @ items, expected @ items)
    torch.testing.assert_close(by_item @ users, expected.T @ users)


def test_rows_of_some_users() -> None:
    table = with_gaps()
    users = torch.tensor([7, 3, 0, 7])
    expected = torch.from_numpy(table.csr().toarray())[users]
    model = fitted(table)
    torch.testing.assert_close(model.rows(users).csr(17).to_dense(), expected)
    torch.testing.assert_close(model.columns(users), expected.T)


def test_the_ideal_filter_is_the_dense_one_and_a_projection() -> None:
    table = random_interactions()
    matrix = table.csr().toarray().astype(float)
    model = IdealFilter(12, 17, factors=6, ideal_weight=1.0)
    model.fit(table)
    filtered = model.ideal()(torch.arange(12)).T.numpy()
    np.testing.assert_allclose(filtered, matrix @ ideal(matrix, 6), atol=1e-5)
    # What the filter passed it passes unchanged: applied to its own result, it gives it back.
    np.testing.assert_allclose(filtered @ ideal(matrix, 6), filtered, atol=1e-5)
