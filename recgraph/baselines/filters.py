"""Shared code of graph filters, which score items by filtering the user's row of the interaction matrix R.

Nothing is trained. With the normalised matrix R̃ = Dᵤ^-a R Dᵢ^(a-1), the item graph P = R̃ᵀR̃ is a low-pass filter.
Models differ in the polynomial of P and in what they add to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.baselines.base import Baseline
from recgraph.data.interactions import Interactions
from recgraph.graph.sparse import SparseRows, dense_product, transpose
from recgraph.graph.spectrum import right_singular_vectors

FLOATS = 2**24
"""Floats of the item graph, and of a product that has a row per user: 64 MB."""


class GraphFilter(Baseline):
    """A baseline that keeps the users' histories and scores by filtering them.

    What was learned is in non-persistent buffers. They are saved as extra tensors, since their sizes depend on data.
    """

    starts: Tensor
    history: Tensor

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items)
        self.register_buffer("starts", torch.zeros(num_users + 1, dtype=torch.int32), persistent=False)
        self.register_buffer("history", torch.zeros(0, dtype=torch.int32), persistent=False)

    def fit(self, train: Interactions) -> None:
        """Keep the history of each user; repeated pairs count once."""
        matrix = train.csr()
        self.starts, self.history = (torch.from_numpy(array).int() for array in (matrix.indptr, matrix.indices))

    def extra_tensors(self) -> dict[str, Tensor]:
        """The non-persistent buffers by name."""
        return {name: value for name, value in self.named_buffers() if name in self._non_persistent_buffers_set}

    @classmethod
    def rebuild(cls, num_users: int, num_items: int, options: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """See `Model.rebuild`."""
        model = cls(num_users, num_items, **options)
        for name, value in tensors.items():
            setattr(model, name, value)
        return model

    def item_scale(self, exponent: float) -> Float[Tensor, "items"]:
        """Each item's number of interactions to the power of `exponent`; 0 for items without interactions."""
        degrees = torch.bincount(self.history, minlength=self.num_items).float()
        return torch.where(degrees > 0, degrees**exponent, 0)

    def normalised(self, user_exponent: float = 0.5) -> tuple[SparseRows, SparseRows]:
        """R̃ = Dᵤ^-a R Dᵢ^(a-1) with a row per user, and its transpose.

        Args:
            user_exponent: a; ½ is the symmetric normalisation.
        """
        counts = self.starts.diff()
        users = torch.repeat_interleave(counts)
        values = counts.float()[users] ** -user_exponent * self.item_scale(user_exponent - 1)[self.history]
        by_user = SparseRows(self.starts, self.history, values)
        return by_user, transpose(by_user, self.num_items)

    def item_graph(self) -> Callable[[Float[Tensor, "items batch"]], Float[Tensor, "items batch"]]:
        """The product P x, as a function of x: with P itself where that is small, else R̃ᵀ(R̃ x) for some columns at a
        time, since R̃ x has a row per user."""
        by_user, by_item = self.normalised()
        if self.num_items**2 <= FLOATS:
            graph = dense_product(by_item.csr(self.num_users), by_user.csr(self.num_items))
            return lambda columns: graph @ columns
        width = max(1, FLOATS // self.num_users)

        def product(columns: Float[Tensor, "items batch"]) -> Float[Tensor, "items batch"]:
            parts = [by_item @ (by_user @ part.contiguous()) for part in columns.split(width, 1)]
            return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

        return product

    def rows(self, users: Int[Tensor, "batch"]) -> SparseRows:
        """The rows of R of some users."""
        ones = torch.ones(1, device=self.device).expand(len(self.history))
        return SparseRows(self.starts, self.history, ones).select(users)

    def columns(self, users: Int[Tensor, "batch"]) -> Float[Tensor, "items batch"]:
        """The rows of R of some users as dense columns, which sparse products are fast with."""
        rows = self.rows(users)
        dense = torch.zeros(self.num_items, len(users), device=users.device)
        dense[rows.columns.long(), torch.repeat_interleave(rows.starts.diff())] = 1
        return dense


class IdealFilter(GraphFilter):
    """A graph filter that also passes the leading singular vectors of R̃.

    Args:
        factors: number of singular vectors of the ideal filter; all of them if the rank is lower.
        ideal_weight: weight of that filter; with 0, `fit` decomposes nothing.
    """

    vectors: Tensor
    """Vᵀ, [factors, items], orthonormal rows."""

    def __init__(self, num_users: int, num_items: int, *, factors: int, ideal_weight: float) -> None:
        super().__init__(num_users, num_items)
        self.factors, self.ideal_weight = factors, ideal_weight
        self.register_buffer("vectors", torch.zeros(0, num_items), persistent=False)

    def fit(self, train: Interactions) -> None:
        """Keep the histories and decompose the normalised matrix."""
        super().fit(train)
        if self.ideal_weight:
            self.vectors = right_singular_vectors(*self.normalised(), self.factors)

    def ideal(self) -> Callable[[Int[Tensor, "batch"]], Tensor]:
        """The ideal low-pass filter r Dᵢ^-½ V Vᵀ Dᵢ^½, as a function from users [batch] to columns [items, batch]."""
        inward = (self.vectors * self.item_scale(-0.5)).T.contiguous()
        outward = (self.vectors * self.item_scale(0.5)).T.contiguous()
        return lambda users: outward @ (self.rows(users) @ inward).T
