"""Turbo-CF: a polynomial of an item graph whose edges are raised to a power.

Park, Shin and Shin 2024, Turbo-CF: Matrix Decomposition-Free Graph Filtering for Fast Recommendation (arXiv
2404.14243). With R̃ = Dᵤ^-α R Dᵢ^(α-1), the item graph is P̄ = (R̃ᵀR̃)^∘s, each entry to the power of s, and the scores
of a user with the row r of R are r (a₁ P̄ + a₂ P̄² + …).
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
"""Of an entry of P̄ while it is made: a value and indices of 32 and of 64 bits, some held twice for a moment. Gowalla's
42 million entries took 27 each; the bound on their number, 63 million, leaves room for that."""


@baselines.register("turbocf")
class TurboCF(GraphFilter):
    """Filters each user's history by powers of an item graph, without decomposing anything.

    Only the history is kept, and a scorer makes P̄ anew, as a sparse matrix: powers of entries leave no factors. It has
    an entry for each pair of items that share a user (Gowalla: 42 million, made in 0.6 seconds).

    Args:
        alpha: α, exponent of the users' degrees in the normalisation; 1 - α is that of the items'.
        power: s, of each entry of the item graph: below 1 it evens the weights out, above 1 the largest stand out.
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
        """Keep the history.

        Raises:
            DataError: the item graph would not fit into the memory that is free.
        """
        super().fit(train)
        _check_memory(self.starts, self.num_items)

    def scorer(self) -> Scorer:
        """See `Model.scorer`.

        Raises:
            DataError: the item graph would not fit into the memory that is free.
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
        """P̄, with 32-bit indices: with the product's own of 64 bits every product would first convert them."""
        by_user, by_item = self.normalised(self.alpha)
        graph = by_item.csr(self.num_users) @ by_user.csr(self.num_items)
        return SparseRows(graph.crow_indices().int(), graph.col_indices().int(), graph.values().pow_(self.power))


def _check_memory(starts: Int[Tensor, "users+1"], num_items: int) -> None:
    """Refuse what cannot be held; a user of d items contributes d² entries at most."""
    entries = min(num_items**2, int(starts.diff().double().square().sum()))
    check_memory(entries * BYTES, f"turbocf: the item graph has up to {entries:,} entries and needs up to")
