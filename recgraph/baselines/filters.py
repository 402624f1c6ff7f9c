"""What graph filters share: a user's score of the items is their row of the interaction matrix R, filtered.

Nothing is trained. With the normalised matrix R̃ = Dᵤ^-a R Dᵢ^(a-1), the item graph P = R̃ᵀR̃ is a low-pass filter;
models differ in the polynomial of P, and in what they add. A product with P is two sparse ones, R̃ᵀ(R̃ x).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.baselines.base import Baseline
from recgraph.data.interactions import Interactions
from recgraph.graph.sparse import SparseRows
from recgraph.graph.spectrum import right_singular_vectors


class GraphFilter(Baseline):
    """A baseline that filters the user's history, which it keeps.

    Buffers that are not persistent hold what was learned. Their sizes come from data: they are saved as extra tensors.
    """

    starts: Tensor
    history: Tensor

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items)
        self.register_buffer("starts", torch.zeros(num_users + 1, dtype=torch.int32), persistent=False)
        self.register_buffer("history", torch.zeros(0, dtype=torch.int32), persistent=False)

    def fit(self, train: Interactions) -> None:
        """Keep the history of each user; each pair counts once."""
        matrix = train.csr()
        self.starts, self.history = (torch.from_numpy(array).int() for array in (matrix.indptr, matrix.indices))

    def extra_tensors(self) -> dict[str, Tensor]:
        """The buffers that are not persistent, by name."""
        return {name: value for name, value in self.named_buffers() if name in self._non_persistent_buffers_set}

    @classmethod
    def rebuild(cls, num_users: int, num_items: int, options: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """See `Model.rebuild`."""
        model = cls(num_users, num_items, **options)
        for name, value in tensors.items():
            setattr(model, name, value)
        return model

    def item_scale(self, exponent: float) -> Float[Tensor, "items"]:
        """Interactions of each item to the power of `exponent`; 0 for an item without."""
        degrees = torch.bincount(self.history, minlength=self.num_items).float()
        return torch.where(degrees > 0, degrees**exponent, 0)

    def normalised(self, user_exponent: float = 0.5) -> tuple[SparseRows, SparseRows]:
        """R̃ = Dᵤ^-a R Dᵢ^(a-1), by users, and its transpose, by items.

        Args:
            user_exponent: a; ½ is the symmetric normalisation.
        """
        counts = self.starts.diff()
        users = torch.repeat_interleave(counts)
        values = counts.float()[users] ** -user_exponent * self.item_scale(user_exponent - 1)[self.history]
        by_item = torch.argsort(self.history, stable=True)
        per_item = torch.bincount(self.history, minlength=self.num_items).cumsum(0).int()
        item_starts = F.pad(per_item, (1, 0))
        by_user = SparseRows(self.starts, self.history, values)
        return by_user, SparseRows(item_starts, users[by_item].int(), values[by_item])

    def rows(self, users: Int[Tensor, "batch"]) -> SparseRows:
        """R of some users."""
        ones = torch.ones(1, device=self.device).expand(len(self.history))
        return SparseRows(self.starts, self.history, ones).select(users)

    def columns(self, users: Int[Tensor, "batch"]) -> Float[Tensor, "items batch"]:
        """R of some users, transposed and dense: what sparse products are fast with."""
        rows = self.rows(users)
        dense = torch.zeros(self.num_items, len(users), device=users.device)
        dense[rows.columns.long(), torch.repeat_interleave(rows.starts.diff())] = 1
        return dense


class IdealFilter(GraphFilter):
    """A graph filter that also passes the leading singular vectors of R̃.

    Args:
        factors: singular vectors that the ideal filter passes; all, where the rank is lower.
        ideal_weight: of that filter; with 0 nothing is decomposed.
    """

    vectors: Tensor
    """Vᵀ, [factors, items], orthonormal rows."""

    def __init__(self, num_users: int, num_items: int, *, factors: int, ideal_weight: float) -> None:
        super().__init__(num_users, num_items)
        self.factors, self.ideal_weight = factors, ideal_weight
        self.register_buffer("vectors", torch.zeros(0, num_items), persistent=False)

    def fit(self, train: Interactions) -> None:
        """Keep the history and decompose the normalised matrix."""
        super().fit(train)
        if self.ideal_weight:
            self.vectors = right_singular_vectors(*self.normalised(), self.factors)

    def ideal(self) -> Callable[[Int[Tensor, "batch"]], Tensor]:
        """The ideal low-pass filter r Dᵢ^-½ V Vᵀ Dᵢ^½, as a function from users [batch] to columns [items, batch]."""
        inward = (self.vectors * self.item_scale(-0.5)).T.contiguous()
        outward = (self.vectors * self.item_scale(0.5)).T.contiguous()
        return lambda users: outward @ (self.rows(users) @ inward).T
