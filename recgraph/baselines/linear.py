"""Shared code of linear models, whose scores are sums over the user's history and can be explained exactly.

A user with the row r of the interaction matrix R has the scores r W, where W [items, items] weighs one item in the
score of another. Models differ in how they compute W, and in whether they store it sparse, dense or factorised.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from recgraph.baselines.filters import GraphFilter
from recgraph.data.interactions import Interactions
from recgraph.graph.sparse import SparseRows, dense_product
from recgraph.models.model import Scorer


class Contribution(NamedTuple):
    """The contribution of one history item to a score: the item's original id, its title (or None) and the addend."""

    item: Any
    title: str | None
    contribution: float


class LinearModel(GraphFilter):
    """A baseline whose scores are sums over the user's history."""

    def contributions(self, user: int, item: int) -> Float[Tensor, "history"]:
        """The contribution of each item of the user's history, in stored order, to the score of `item`."""
        raise NotImplementedError

    def explain(self, user: Any, item: Any) -> list[Contribution]:
        """Explain the score of an item for a user: "because you liked ...".

        Args:
            user, item: original ids.

        Returns:
            The contribution of each item of the user's history, largest first; they sum to the score.

        Raises:
            DataError: the user or the item is unknown, or the model has no catalogue.
        """
        catalogue = self._known()
        index = int(catalogue.users.encode([user])[0])
        added = self.contributions(index, int(catalogue.items.encode([item])[0])).cpu()
        history = self.rows(torch.tensor([index], device=self.device)).columns.cpu()
        values, order = added.sort(descending=True, stable=True)
        items = history[order].tolist()
        titles = catalogue.titles or [None] * self.num_items
        return [
            Contribution(id_, titles[item], value)
            for id_, item, value in zip(catalogue.items.decode(items).tolist(), items, values.tolist(), strict=True)
        ]


class SparseWeights(LinearModel):
    """A linear model whose W is sparse."""

    weight_starts: Tensor
    weight_columns: Tensor
    weight_values: Tensor

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items)
        self.register_buffer("weight_starts", torch.zeros(num_items + 1, dtype=torch.int32), persistent=False)
        self.register_buffer("weight_columns", torch.zeros(0, dtype=torch.int32), persistent=False)
        self.register_buffer("weight_values", torch.zeros(0), persistent=False)

    @property
    def weights(self) -> SparseRows:
        """W, with a row per history item and a column per scored item."""
        return SparseRows(self.weight_starts, self.weight_columns, self.weight_values)

    @weights.setter
    def weights(self, weights: SparseRows) -> None:
        self.weight_starts, self.weight_columns, self.weight_values = weights

    def scorer(self) -> Scorer:
        """See `Model.scorer`."""
        weights = self.weights.csr(self.num_items)
        return lambda users: dense_product(self.rows(users).csr(self.num_items), weights)

    def contributions(self, user: int, item: int) -> Float[Tensor, "history"]:
        """See `LinearModel.contributions`."""
        history = self.rows(torch.tensor([user], device=self.device)).columns
        rows = self.weights.select(history.long())
        added = torch.where(rows.columns == item, rows.values, 0)
        return added.new_zeros(len(history)).index_add(0, torch.repeat_interleave(rows.starts.diff()), added)


def binary(train: Interactions) -> tuple[SparseRows, SparseRows]:
    """R with a row per user, and its transpose; repeated pairs count once."""
    matrix = train.csr()
    by_user, by_item = (
        SparseRows(*(torch.from_numpy(array) for array in (rows.indptr, rows.indices, rows.data)))
        for rows in (matrix, matrix.T.tocsr())
    )
    return by_user, by_item
