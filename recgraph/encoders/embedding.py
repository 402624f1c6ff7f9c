"""Matrix factorisation: one free vector per user and per item.

Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems", IEEE Computer 42(8), 2009. With
the `bpr` objective it is BPR-MF: Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009.
"""

from __future__ import annotations

from recgraph.encoders.base import Encoder, embedding_table, lookup
from recgraph.registry import encoders
from recgraph.types import Ego, Encoding, Inputs, PositiveFloat, PositiveInt


@encoders.register("embedding")
class Embedding(Encoder):
    """Looks up a vector per user and per item.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors.
        std: standard deviation of the initial values. LightGCN's authors use 0.1 in their PyTorch code, both for this
            model and for LightGCN.
    """

    reads = frozenset({"perturb"})

    def __init__(self, num_users: int, num_items: int, *, dim: PositiveInt = 64, std: PositiveFloat = 0.1) -> None:
        super().__init__(num_users, num_items, dim=dim)
        self.users = embedding_table(num_users, dim, std)
        self.items = embedding_table(num_items, dim, std)

    def forward(self, inputs: Inputs) -> Encoding:
        """Rows of the tables; `inputs.perturb` acts on both."""
        query, items = lookup(self.users.weight, inputs.users), self.items.weight
        return Encoding(inputs.perturb(query), inputs.perturb(items), Ego(query, items))
