"""What linear models share: a score is a sum over the user's history, and so explains itself.

The scores of a user with the row r of the interaction matrix R are r W, where W [items, items] says how much having one
item speaks for another. Models differ in how they find W, and in whether they keep it sparse, dense or in factors.
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
    """What one item of a user's history adds to a score: its original id, its title (or None) and the addend."""

    item: Any
    title: str | None
    contribution: float


class LinearModel(GraphFilter):
    """A baseline whose score is a sum over the user's history, which it keeps."""

    def contributions(self, user: int, item: int) -> Float[Tensor, "history"]:
        """What each item of the user's history, in the order that it is kept in, adds to the score of `item`."""
        raise NotImplementedError

    def explain(self, user: Any, item: Any) -> list[Contribution]:
        """Why the user is recommended the item: "because you liked ...".

        Args:
            user, item: original ids.

        Returns:
            The user's history with what each item of it adds to the score, largest first; the sum is the score.

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
        """W: a row for each item of a history, a column for each item that is scored."""
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
    """R by users, and its transpose, by items; each pair counts once."""
    matrix = train.csr()
    by_user, by_item = (
        SparseRows(*(torch.from_numpy(array) for array in (rows.indptr, rows.indices, rows.data)))
        for rows in (matrix, matrix.T.tocsr())
    )
    return by_user, by_item
