"""k-means in torch: on the vectors' device, in bounded memory, with the same result for the same start."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.objectives import rows


class Clusters(NamedTuple):
    """Centroids and the cluster of each vector.

    Attributes:
        centroids: one a cluster.
        places: the number of the centroid nearest to each vector.
    """

    centroids: Float[Tensor, "clusters dim"]
    places: Int[Tensor, "rows"]

    def to(self, device: torch.device) -> Clusters:
        """The same on `device`."""
        return Clusters(self.centroids.to(device), self.places.to(device))


@torch.no_grad()
def kmeans(vectors: Float[Tensor, "rows dim"], start: Float[Tensor, "clusters dim"], iterations: int) -> Clusters:
    """Lloyd's algorithm. A centroid that is nearest to no vector stays where it is.

    Args:
        vectors: what is clustered.
        start: the first centroids: some of the vectors, see `chosen`, or the result of an earlier call.
        iterations: how often vectors are assigned to centroids, and centroids moved to the mean of their vectors.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        centroids = start
        for _ in range(iterations):
            centroids = _means(vectors, _nearest(vectors, centroids), centroids)
        return Clusters(centroids, _nearest(vectors, centroids))


def chosen(vectors: Float[Tensor, "rows dim"], count: int, generator: torch.Generator) -> Float[Tensor, "count dim"]:
    """`count` different rows, drawn uniformly."""
    return vectors[torch.randperm(len(vectors), generator=generator, device=generator.device)[:count]]


def _nearest(vectors: Float[Tensor, "rows dim"], centroids: Float[Tensor, "clusters dim"]) -> Int[Tensor, "rows"]:
    """The nearest centroid of each vector; of equally near ones, either."""
    halves = centroids.square().sum(1) / 2  # ‖v - c‖² = ‖v‖² - 2 (v·c - ‖c‖²/2)
    chunk = max(1, rows.CHUNK_FLOATS // len(centroids))
    return torch.cat([torch.addmm(halves, part, centroids.T, beta=-1).argmax(1) for part in vectors.split(chunk)])


def _means(
    vectors: Float[Tensor, "rows dim"], places: Int[Tensor, "rows"], before: Float[Tensor, "clusters dim"]
) -> Float[Tensor, "clusters dim"]:
    """Means of the vectors of each cluster, summed in the order of the rows, so that they are reproducible."""
    places, order = places.sort(stable=True)
    starts = torch.searchsorted(places, torch.arange(len(before) + 1, device=places.device))
    means = F.embedding_bag(order, vectors, starts, mode="mean", include_last_offset=True)
    return torch.where((starts.diff() > 0).unsqueeze(1), means, before)
