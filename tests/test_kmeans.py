"""k-means against loops, scikit-learn, and what must hold of it."""

from __future__ import annotations

import pytest
import references_contrast
import torch
from sklearn.cluster import KMeans

from recgraph.objectives import rows
from recgraph.objectives.kmeans import chosen, kmeans


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vectors(count: int = 60, dim: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, dim, generator=generator(1), dtype=dtype) + 2


@pytest.mark.parametrize("chunk", [None, 20])
@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_it_equals_a_loop(iterations: int, chunk: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if chunk is not None:
        monkeypatch.setattr(rows, "CHUNK_FLOATS", chunk)  # four vectors at a time
    given = vectors()
    start = chosen(given, 5, generator())
    found = kmeans(given, start, iterations)
    centroids, places = references_contrast.kmeans(given.tolist(), start.tolist(), iterations)
    torch.testing.assert_close(found.centroids, torch.tensor(centroids, dtype=torch.float64))
    assert found.places.tolist() == places


def test_it_comes_to_where_scikit_learn_comes_to() -> None:
    given = vectors(500, 8)
    start = chosen(given, 12, generator())
    found = kmeans(given, start, 100)
    other = KMeans(12, init=start.numpy(), n_init=1, max_iter=100, tol=0).fit(given.numpy())
    torch.testing.assert_close(found.centroids, torch.from_numpy(other.cluster_centers_))
    assert found.places.tolist() == other.labels_.tolist()


def test_a_centroid_without_vectors_stays_where_it_is() -> None:
    given = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0]])
    start = torch.tensor([[0.0, 0.0], [99.0, 99.0], [10.0, 1.0]])
    found = kmeans(given, start, 3)
    torch.testing.assert_close(found.centroids, torch.tensor([[0.5, 0.0], [99.0, 99.0], [10.0, 0.0]]))
    assert found.places.tolist() == [0, 0, 2]


def test_a_centroid_that_loses_its_vectors_stays_where_it_was_last() -> None:
    chance = generator(285)
    given, start = (torch.randn(count, 1, generator=chance, dtype=torch.float64) * 3 for count in (6, 3))
    found = kmeans(given, start, 4)
    centroids, places = references_contrast.kmeans(given.tolist(), start.tolist(), 4)
    torch.testing.assert_close(found.centroids, torch.tensor(centroids, dtype=torch.float64))
    assert found.places.tolist() == places
    (empty,) = {0, 1, 2} - set(places)
    assert found.centroids[empty] != start[empty]


def test_starts_are_different_vectors_and_depend_on_the_generator_alone() -> None:
    given = vectors()
    start = chosen(given, 60, generator())
    assert torch.equal(start.sort(0).values, given.sort(0).values)
    assert torch.equal(chosen(given, 7, generator(3)), chosen(given, 7, generator(3)))
    assert not torch.equal(chosen(given, 7, generator(3)), chosen(given, 7, generator(4)))


def test_autocast_does_not_reach_it() -> None:
    given = vectors(dtype=torch.float32)
    start = chosen(given, 5, generator())
    expected = kmeans(given, start, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = kmeans(given, start, 4)
    assert torch.equal(found.centroids, expected.centroids)
    assert torch.equal(found.places, expected.places)
