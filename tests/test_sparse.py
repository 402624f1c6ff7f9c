"""Sparse rows against the dense matrices that they stand for."""

from __future__ import annotations

import numpy as np
import torch
from cases import random_interactions
from scipy import sparse

from recgraph.baselines.linear import binary
from recgraph.graph.sparse import SparseRows, dense_product, transpose


def rows_of(matrix: sparse.csr_matrix) -> SparseRows:
    return SparseRows(*(torch.from_numpy(array) for array in (matrix.indptr, matrix.indices, matrix.data)))


def test_sparse_rows_are_chosen_transposed_and_multiplied_as_dense_ones_are() -> None:
    rng = np.random.default_rng(0)
    dense = (rng.random((9, 7)) * (rng.random((9, 7)) < 0.3)).astype(np.float32)
    dense[[0, 8]] = 0
    rows = rows_of(sparse.csr_matrix(dense))
    expected = torch.from_numpy(dense)
    chosen = torch.tensor([8, 2, 2, 0, 5])
    torch.testing.assert_close(rows.select(chosen).csr(7).to_dense(), expected[chosen])
    torch.testing.assert_close(rows.select(chosen[:0]).csr(7).to_dense(), expected[:0])
    torch.testing.assert_close(transpose(rows, 7).csr(9).to_dense(), expected.T)
    product = dense_product(rows.csr(7), transpose(rows, 7).csr(9))
    torch.testing.assert_close(product, expected @ expected.T)


def test_the_matrix_by_users_and_by_items() -> None:
    train = random_interactions()
    by_user, by_item = binary(train.concat(train))
    expected = torch.zeros(12, 17)
    for user, item in zip(train.user_indices, train.item_indices, strict=True):
        expected[user, item] = 1
    torch.testing.assert_close(by_user.csr(17).to_dense(), expected)
    torch.testing.assert_close(by_item.csr(12).to_dense(), expected.T)
