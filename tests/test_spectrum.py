"""Singular vectors by block Lanczos, against a dense decomposition and where Krylov spaces come to an end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from recgraph.graph import spectrum
from recgraph.graph.sparse import SparseRows
from recgraph.graph.spectrum import right_singular_vectors


def as_rows(matrix: np.ndarray) -> SparseRows:
    csr = sparse.csr_matrix(matrix)
    return SparseRows(*(torch.from_numpy(part) for part in (csr.indptr, csr.indices, csr.data.astype(np.float32))))


def found(matrix: np.ndarray, count: int) -> np.ndarray:
    return right_singular_vectors(as_rows(matrix), as_rows(matrix.T), count).double().numpy()


def sparse_matrix(num_rows: int, num_columns: int, density: float = 0.05, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((num_rows, num_columns)) * (rng.random((num_rows, num_columns)) < density)


@pytest.fixture(params=["dense", "Lanczos"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Lanczos":
        monkeypatch.setattr(spectrum, "SMALL", 0)
        monkeypatch.setattr(spectrum, "BLOCK", 8)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("shape", [(150, 220), (220, 150)])
def test_the_space_is_that_of_the_dense_decomposition(shape: tuple[int, int]) -> None:
    matrix = sparse_matrix(*shape)
    vectors = found(matrix, 20)
    _, values, expected = np.linalg.svd(matrix)
    assert vectors.shape == (20, shape[1])
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(20), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(matrix @ vectors.T, axis=0), values[:20], rtol=1e-4)  # largest first
    # The space, not the vectors: signs are free, and so are vectors of equal values. The gap after it bounds the error.
    distance = np.abs(vectors.T @ vectors - expected[:20].T @ expected[:20]).max()
    assert distance < 10 * spectrum.TOLERANCE * values[0] ** 2 / (values[19] ** 2 - values[20] ** 2)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("rank", "count"), [(5, 10), (30, 25), (60, 25)])
def test_a_matrix_of_low_rank(rank: int, count: int) -> None:
    """Its Krylov space is exhausted before it has grown to the size that is looked for."""
    rng = np.random.default_rng(1)
    left, right = rng.standard_normal((150, rank)), rng.standard_normal((rank, 200))
    matrix = left @ right
    vectors = found(matrix, count)
    expected = np.linalg.svd(matrix)[2][: min(rank, count)]
    assert len(vectors) == min(rank, count)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=1e-3)
    assert np.linalg.norm(matrix @ vectors.T) == pytest.approx(np.linalg.norm(matrix @ expected.T), rel=1e-4)


def test_a_matrix_of_zeros_has_none() -> None:
    assert found(np.zeros((6, 4)), 3).shape == (0, 4)


def test_as_many_as_wanted_of_a_matrix_that_is_smaller() -> None:
    matrix = sparse_matrix(12, 17, 0.5)
    assert found(matrix, 100).shape == (12, 17)


@pytest.mark.parametrize("components", [30, 100])
def test_each_component_of_a_graph_has_its_own_largest_value(components: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A normalised graph has the singular value 1 once a component, more often than a block of eight has vectors."""
    monkeypatch.setattr(spectrum, "SMALL", 0)
    monkeypatch.setattr(spectrum, "BLOCK", 8)
    rng = np.random.default_rng(2)
    parts = [rng.random((8, 6)) < 0.5 for _ in range(components)]
    for part in parts:
        part[:, 0] = part[0] = True
    graph = sparse.block_diag(parts).toarray().astype(float)
    graph /= np.sqrt(graph.sum(1, keepdims=True) * graph.sum(0))
    expected = np.linalg.svd(graph)[1][:60]
    assert (expected > 1 - 1e-6).sum() == min(components, 60)
    np.testing.assert_allclose(np.linalg.norm(graph @ found(graph, 60).T, axis=0), expected, atol=1e-3)
