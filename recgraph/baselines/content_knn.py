"""Content-based baselines, which can score cold items without training an encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from recgraph.baselines.ials import IALS
from recgraph.baselines.linear import SparseWeights
from recgraph.baselines.neighbours import CHUNK, largest, normalised
from recgraph.data.interactions import Interactions
from recgraph.errors import ConfigError
from recgraph.graph.sparse import SparseRows, transpose
from recgraph.registry import baselines
from recgraph.types import Content, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@baselines.register("content_knn")
class ContentKNN(SparseWeights):
    """Scores an item by its content similarity to the items of the user's history.

    The similarity is the cosine of the concatenated modality vectors, each first scaled to length 1. A modality of one
    number thus keeps only whether it is above average. The neighbours of an item, warm or cold, are the most similar
    warm items. Its score is the sum of its similarities to those neighbours that are in the user's history.

    Args:
        neighbours: number of neighbours of each item.
        normalise: divide an item's similarities by their sum, so that items with many close neighbours do not rank
            first for everyone.
    """

    reads = frozenset({"content"})

    def __init__(
        self, num_users: int, num_items: int, *, neighbours: PositiveInt = 100, normalise: bool = True
    ) -> None:
        super().__init__(num_users, num_items)
        self.neighbours, self.normalise = neighbours, normalise

    def fit(self, train: Interactions) -> None:
        """Keep the histories and find each item's neighbours."""
        super().fit(train)
        near = nearest_warm(self.content, warm_items(train), self.neighbours)
        self.weights = transpose(normalised(near) if self.normalise else near, self.num_items)


@baselines.register("ials_content")
class ContentIALS(IALS):
    """iALS in which a cold item gets the similarity-weighted mean vector of the warm items nearest to it in content.

    Warm items keep their own vectors. A cold item without content, or similar to none, gets a zero vector.

    Args:
        dim, l2, unobserved_weight, frequency_exponent, epochs, stdev, seed: see `IALS`.
        neighbours: number of neighbours of each cold item; ColdRec's KNN has 5.
    """

    reads = frozenset({"content"})

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: PositiveInt = 64,
        l2: PositiveFloat = 0.003,
        unobserved_weight: NonNegativeFloat = 0.1,
        frequency_exponent: NonNegativeFloat = 1.0,
        epochs: PositiveInt = 16,
        stdev: PositiveFloat = 0.1,
        seed: NonNegativeInt = 0,
        neighbours: PositiveInt = 5,
    ) -> None:
        super().__init__(
            num_users,
            num_items,
            dim=dim,
            l2=l2,
            unobserved_weight=unobserved_weight,
            frequency_exponent=frequency_exponent,
            epochs=epochs,
            stdev=stdev,
            seed=seed,
        )
        self.neighbours = neighbours

    def fit(self, train: Interactions) -> None:
        """Fit iALS, then set the vectors of cold items."""
        super().fit(train)
        warm = warm_items(train)
        means = normalised(nearest_warm(self.content, warm, self.neighbours)) @ self.items
        self.items[~warm] = means[~warm]


def nearest_warm(content: Content | None, warm: Bool[Tensor, "items"], count: int) -> SparseRows:
    """The warm items most similar to each item in content, the item itself excluded.

    Args:
        content: modalities of all items.
        warm: which items may be neighbours.
        count: number of neighbours of each item; fewer if fewer have a cosine above 0.

    Returns:
        A matrix [items, items] of cosines. Ties are broken in favour of the lower index.

    Raises:
        ConfigError: items have no content, or a modality holds ids instead of vectors.
    """
    if content is None or not content.items:
        raise ConfigError("a baseline by content: set `content`, with a modality of items at least, before `fit`")
    for name, modality in content.items.items():
        if not modality.values.is_floating_point():
            raise ConfigError(f"content.{name}: likeness is of vectors: leave out `ids: true`")
    vectors = stacked(content)
    size, known = len(vectors), warm.nonzero().squeeze(1)
    candidates = vectors[known].T
    counts, columns, values = [], [], []
    for chunk in torch.arange(size).split(max(1, CHUNK // size)):
        near = vectors[chunk] @ candidates
        near[chunk[:, None] == known] = 0
        row, column = largest(near, count)
        counts.append(torch.bincount(row, minlength=len(chunk)))
        columns.append(known[column].int())
        values.append(near[row, column])
    return SparseRows(F.pad(torch.cat(counts).cumsum(0), (1, 0)).int(), torch.cat(columns), torch.cat(values))


def stacked(content: Content) -> Float[Tensor, "items width"]:
    """The concatenation of the items' modality vectors, each scaled to length 1, and then the whole as well."""
    return F.normalize(torch.cat([F.normalize(values, dim=1) for values, _ in content.items.values()], 1), dim=1)


def warm_items(train: Interactions) -> Bool[Tensor, "items"]:
    """Which items have training interactions."""
    return torch.bincount(torch.from_numpy(train.item_indices), minlength=train.num_items) > 0
