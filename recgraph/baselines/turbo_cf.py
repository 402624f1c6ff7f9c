"""Turbo-CF: a polynomial filter of an item graph whose edge weights are raised to a power.

Park, Shin and Shin, "Turbo-CF: matrix decomposition-free graph filtering for fast recommendation", 2024,
https://arxiv.org/abs/2404.14243. With R̃ = Dᵤ^-α R Dᵢ^(α-1), the item graph is P̄ = (R̃ᵀR̃)^∘s, each entry to the power of
s. A user with the row r of R has the scores r (a₁ P̄ + a₂ P̄² + …).
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from recgraph.baselines.filters import GraphFilter
from recgraph.data.interactions import Interactions
from recgraph.environment import check_memory
from recgraph.errors import ConfigError
from recgraph.graph.sparse import SparseRows, dense_product
from recgraph.models.model import Scorer
from recgraph.registry import baselines
from recgraph.types import PositiveFloat

BYTES = 24
"""Memory per entry of P̄ while it is computed: a value and indices of 32 and of 64 bits, some briefly held twice.
Gowalla's 42 million entries took 27 bytes each; the bound on their number, 63 million, leaves room for that."""


@baselines.register("turbocf")
class TurboCF(GraphFilter):
    """Filters each user's history by powers of an item graph, without a matrix decomposition.

    Only the histories are stored. Each scorer computes P̄ again as a sparse matrix, since elementwise powers do not
    factorise. P̄ has an entry for each pair of items that share a user (Gowalla: 42 million, computed in 0.6 seconds).

    Args:
        alpha: α, exponent of the users' degrees in the normalisation; that of the items' is 1 - α.
        power: s, exponent of each entry of the item graph; below 1 it flattens the weights, above 1 it sharpens them.
        coefficients: a₁, a₂ and so on. (1,) is the authors' first filter, (2, -1) their second.

    The defaults are the authors' for Gowalla (their README).
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        alpha: float = 0.6,
        power: PositiveFloat = 0.7,
        coefficients: tuple[float, ...] = (1.0,),
    ) -> None:
        super().__init__(num_users, num_items)
        if not coefficients:
            raise ConfigError("coefficients: expected at least one, such as [1.0], got none")
        self.alpha, self.power, self.coefficients = alpha, power, tuple(coefficients)

    def fit(self, train: Interactions) -> None:
        """Keep the histories.

        Raises:
            DataError: the item graph would not fit into free memory.
        """
        super().fit(train)
        _check_memory(self.starts, self.num_items)

    def scorer(self) -> Scorer:
        """See `Model.scorer`.

        Raises:
            DataError: the item graph would not fit into free memory.
        """
        _check_memory(self.starts, self.num_items)
        graph = self._item_graph()
        rows = graph.csr(self.num_items)

        def scores(users: Int[Tensor, "batch"]) -> Float[Tensor, "batch items"]:
            term = dense_product(self.rows(users).csr(self.num_items), rows)
            total = self.coefficients[0] * term
            for coefficient in self.coefficients[1:]:
                term = (graph @ term.T.contiguous()).T  # the graph is symmetric
                total = total + coefficient * term
            return total

        return scores

    def _item_graph(self) -> SparseRows:
        """P̄ with 32-bit indices, since each product would first convert the 64-bit indices of a sparse product."""
        by_user, by_item = self.normalised(self.alpha)
        graph = by_item.csr(self.num_users) @ by_user.csr(self.num_items)
        return SparseRows(graph.crow_indices().int(), graph.col_indices().int(), graph.values().pow_(self.power))


def _check_memory(starts: Int[Tensor, "users+1"], num_items: int) -> None:
    """Refuse an item graph that does not fit into memory. A user with d items contributes at most d² entries."""
    entries = min(num_items**2, int(starts.diff().double().square().sum()))
    check_memory(entries * BYTES, f"turbocf: the item graph has up to {entries:,} entries and needs up to")
