"""Neighbourhood models: similarities of items by the users they share, or of users by the items they share.

A similarity matrix has an entry for each pair with any overlap: too many to store, and mostly noise. Only the nearest
neighbours of each item or user are kept; ties are broken in favour of the lower index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.baselines.linear import LinearModel, SparseWeights, binary
from recgraph.data.interactions import Interactions
from recgraph.graph.sparse import SparseRows, dense_product, transpose
from recgraph.models.model import Scorer
from recgraph.registry import baselines
from recgraph.types import NonNegativeFloat, PositiveInt

CHUNK = 2**22
"""Numbers in a chunk of a similarity matrix: 16 MB, see `evaluation.ranking.CHUNK_SCORES`."""

Similarity = Callable[[Float[Tensor, "chunk columns"], Int[Tensor, "chunk"]], Float[Tensor, "chunk columns"]]
"""(overlaps of a chunk of rows with all rows, indices of the chunk's rows) -> similarities; may work in place."""


@baselines.register("item_knn")
class ItemKNN(SparseWeights):
    """Scores an item by its similarity to the items of the user's history.

    The similarity of items with n and m users, c of them in common, is c / (√(n m) + shrinkage): the cosine of their
    columns of R, shrunk towards 0 where data are few. By default each history item votes for its nearest neighbours,
    with weights that sum to 1, so that all items of the history count equally (Deshpande and Karypis, 2004,
    https://doi.org/10.1145/963770.963776). Which form of `nearest_of` is better depends on the data.

    Fitting Gowalla takes 4 seconds on two cores.

    Args:
        neighbours: number of neighbours of each item. The BARS benchmark found 100 for the cosine on Gowalla.
        shrinkage: added to the denominator, 0 or more. 100 is the default of Dacrema et al., 2019,
            https://arxiv.org/abs/1907.06902, who search up to 1000.
        normalise: divide an item's similarities by their sum. Otherwise popular history items count more: recall@20 on
            the tail of Gowalla's lists is then .156 instead of .173, and without shrinkage .125 instead of .132.
        nearest_of: whose nearest neighbours are kept: those of each item of the history, or of each candidate, whose
            score is then a sum over those of its neighbours that the user has (Sarwar et al., 2001,
            https://doi.org/10.1145/371920.372071; with `normalise: false` it is the ItemKNN of Dacrema et al.).
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        neighbours: PositiveInt = 100,
        shrinkage: NonNegativeFloat = 100.0,
        normalise: bool = True,
        nearest_of: Literal["history", "candidate"] = "history",
    ) -> None:
        super().__init__(num_users, num_items)
        self.neighbours, self.shrinkage = neighbours, shrinkage
        self.normalise, self.nearest_of = normalise, nearest_of

    def fit(self, train: Interactions) -> None:
        """Keep the histories and find each item's neighbours."""
        super().fit(train)
        by_user, by_item = binary(train)
        near = nearest(by_item, by_user, cosine(by_item, self.shrinkage), self.neighbours)
        if self.nearest_of == "candidate":  # the similarity is symmetric
            near = transpose(near, self.num_items)
        self.weights = normalised(near) if self.normalise else near


@baselines.register("user_knn")
class UserKNN(LinearModel):
    """Scores an item by the summed similarities of the user's nearest neighbours who have it.

    The similarity is that of `ItemKNN`, between users instead of items (Herlocker et al., 1999,
    https://doi.org/10.1145/312624.312682, for ratings). Each item that two users share contributes equally to their
    similarity, and explanations of a score attribute it to these items.

    Fitting compares all pairs of users: 4 seconds for Gowalla's 29,858 on two cores, which is hours for a million.

    Args:
        neighbours: number of neighbours of each user. Anelli et al., 2023, https://arxiv.org/abs/2308.00404, found 146
            with the cosine for each of Gowalla, Yelp2018 and Amazon-Book.
        shrinkage: added to the denominator, 0 or more.
        nearest_of: whose nearest neighbours are kept: those of the user scored, or those of each neighbour, so that a
            user hears all who count this user among their nearest. The latter wants more neighbours, leaves nobody
            without influence, and is the UserKNN of Dacrema et al., 2019, https://arxiv.org/abs/1907.06902.
    """

    near_starts: Tensor
    near_columns: Tensor
    near_values: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        neighbours: PositiveInt = 146,
        shrinkage: NonNegativeFloat = 0.0,
        nearest_of: Literal["user", "neighbour"] = "user",
    ) -> None:
        super().__init__(num_users, num_items)
        self.neighbours, self.shrinkage, self.nearest_of = neighbours, shrinkage, nearest_of
        self.register_buffer("near_starts", torch.zeros(num_users + 1, dtype=torch.int32), persistent=False)
        self.register_buffer("near_columns", torch.zeros(0, dtype=torch.int32), persistent=False)
        self.register_buffer("near_values", torch.zeros(0), persistent=False)

    def fit(self, train: Interactions) -> None:
        """Keep the histories and find each user's neighbours."""
        super().fit(train)
        by_user, by_item = binary(train)
        near = nearest(by_user, by_item, cosine(by_user, self.shrinkage), self.neighbours)
        if self.nearest_of == "neighbour":
            near = transpose(near, self.num_users)
        self.near_starts, self.near_columns, self.near_values = near

    def scorer(self) -> Scorer:
        """See `Model.scorer`."""
        ones = torch.ones_like(self.history, dtype=torch.float32)
        matrix = SparseRows(self.starts, self.history, ones).csr(self.num_items)
        return lambda users: dense_product(self._near(users).csr(self.num_users), matrix)

    def contributions(self, user: int, item: int) -> Float[Tensor, "history"]:
        """See `LinearModel.contributions`."""
        index = torch.tensor([user], device=self.device)
        near = self._near(index)
        theirs = self.columns(near.columns.long())
        shared = theirs[self.rows(index).columns.long()]
        return shared @ (theirs[item] * near.values / shared.sum(0))

    def _near(self, users: Int[Tensor, "batch"]) -> SparseRows:
        return SparseRows(self.near_starts, self.near_columns, self.near_values).select(users)


@baselines.register("rp3beta")
class RP3Beta(SparseWeights):
    """Scores an item by random walks of three steps: user to item, item to another user, user to item.

    W_ij = d_j^-β Σᵤ d_i^-α dᵤ^-α over the users u of both items, where d counts interactions. α sharpens or flattens
    the transition probabilities, β demotes popular items (Paudel et al., 2017, https://doi.org/10.1145/2955101). The
    largest weights of each row are kept, without the diagonal.

    Fitting Gowalla takes 5 seconds on two cores.

    Args:
        neighbours: weights kept per row of W.
        alpha: α; 1 is the plain random walk.
        beta: β; 0 is the paper's P³α.
        normalise: divide the kept weights of each row by their sum.

    The defaults are those that Anelli et al., 2023, https://arxiv.org/abs/2308.00404, found for Gowalla (README of
    their code).
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        neighbours: PositiveInt = 777,
        alpha: NonNegativeFloat = 0.5664,
        beta: NonNegativeFloat = 0.0011,
        normalise: bool = True,
    ) -> None:
        super().__init__(num_users, num_items)
        self.neighbours, self.alpha, self.beta, self.normalise = neighbours, alpha, beta, normalise

    def fit(self, train: Interactions) -> None:
        """Keep the histories and find each item's largest weights."""
        super().fit(train)
        by_user, by_item = binary(train)
        users, items = (matrix.starts.diff().clamp(min=1).float() for matrix in (by_user, by_item))
        from_item, to_item, from_user = items**-self.alpha, items**-self.beta, users**-self.alpha

        def walks(common: Float[Tensor, "chunk columns"], rows: Int[Tensor, "chunk"]) -> Float[Tensor, "chunk columns"]:
            return common.mul_(to_item).mul_(from_item[rows, None])

        stepped = by_item._replace(values=from_user[by_item.columns.long()])
        near = nearest(stepped, by_user, walks, self.neighbours)
        self.weights = normalised(near) if self.normalise else near


def cosine(matrix: SparseRows, shrinkage: float) -> Similarity:
    """The cosine of binary rows, with `shrinkage` added to its denominator."""
    lengths = matrix.starts.diff().clamp(min=1).float()  # 1 avoids 0 / 0: empty rows overlap with none

    def similarity(
        common: Float[Tensor, "chunk columns"], rows: Int[Tensor, "chunk"]
    ) -> Float[Tensor, "chunk columns"]:
        return common.div_((lengths[rows, None] * lengths).sqrt_().add_(shrinkage))

    return similarity


def nearest(matrix: SparseRows, transposed: SparseRows, similarity: Similarity, count: int) -> SparseRows:
    """The nearest neighbours of each row, among the other rows with a positive similarity.

    Args:
        matrix: A [rows, columns].
        transposed: Bᵀ [columns, rows]; the overlaps of rows are A Bᵀ.
        similarity: turns overlaps into similarities.
        count: number of neighbours of each row; fewer if fewer similarities are positive.

    Returns:
        A matrix [rows, rows] of similarities, without its diagonal.
    """
    size = matrix.num_rows
    right = transposed.csr(size)
    counts, columns, values = [], [], []
    for chunk in torch.arange(size).split(max(1, CHUNK // size)):
        near = similarity(dense_product(matrix.select(chunk).csr(transposed.num_rows), right), chunk)
        near[torch.arange(len(chunk)), chunk] = 0
        row, column = largest(near, count)
        counts.append(torch.bincount(row, minlength=len(chunk)))
        columns.append(column.int())
        values.append(near[row, column])
    return SparseRows(F.pad(torch.cat(counts).cumsum(0), (1, 0)).int(), torch.cat(columns), torch.cat(values))


def normalised(matrix: SparseRows) -> SparseRows:
    """The matrix with each row divided by its sum."""
    rows = torch.repeat_interleave(matrix.starts.diff())
    sums = torch.zeros(matrix.num_rows).index_add(0, rows, matrix.values)
    return matrix._replace(values=matrix.values / sums[rows])


def largest(near: Float[Tensor, "rows width"], count: int) -> tuple[Int[Tensor, "kept"], Int[Tensor, "kept"]]:
    """Rows and columns of the largest positive entries of each row; ties are broken in favour of the lower column."""
    least = near.topk(min(count, near.shape[1]), dim=1).values[:, -1]
    row, column = ((near >= least[:, None]) & (near > 0)).nonzero(as_tuple=True)
    tied = near[row, column] == least[row]
    before = tied.cumsum(0)  # counts this row and those above it
    per_row = torch.zeros(len(near), dtype=torch.int64).index_add(0, row, tied.long())
    room = count - torch.bincount(row[~tied], minlength=len(near))
    kept = ~tied | (before - (per_row.cumsum(0) - per_row)[row] <= room[row])
    return row[kept], column[kept]
