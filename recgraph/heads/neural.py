"""Heads with layers over pairs.

He et al., "Neural collaborative filtering", WWW 2017, https://arxiv.org/abs/1708.05031, sections 3.3 and 3.4. The
sigmoid at the end is part of the objective (`bce`), as for any head.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.errors import ConfigError
from recgraph.heads.base import Head
from recgraph.heads.layers import Widths, lecun_uniform, room, xavier_uniform
from recgraph.heads.products import GMF
from recgraph.numerics.dropout import dropout
from recgraph.numerics.matmul import Linear
from recgraph.registry import heads
from recgraph.types import PositiveInt

CHUNK_FLOATS = 2**18
"""Floats of the widest layer in a chunk of pairs on a CPU: 1 MB, the second-level cache of the core that was measured.
Half and twice as many took the same time within 10%; an eighth and 16 times as many took 10% to 20% longer."""


@heads.register("mlp")
class MLP(Head):
    """A tower of layers over [query; item]: h·φ(W_L … φ(W₁ [query; item] + b₁) …) + b, with φ = ReLU.

    The first layer is W₁ [query; item] = W_q query + W_i item: the halves are computed once per query and once per
    item, and a pair costs only what follows their sum.

    Args:
        dim: width of query and item vectors, or a pair of widths if they differ.
        dropout: fraction of the inputs of each layer, except the output layer, that is zeroed in training.
        hidden: widths of the layers, the first of which sees both vectors. The authors halve: [dim, dim / 2, …].
    """

    def __init__(self, dim: int | tuple[int, int], dropout: float = 0.0, *, hidden: Widths = (64, 32)) -> None:
        query_dim, item_dim = (dim, dim) if isinstance(dim, int) else dim
        super().__init__(query_dim)
        first, self.dropout = hidden[0], dropout
        self.query_layer = xavier_uniform(Linear(query_dim, first), fan_in=query_dim + item_dim)
        self.item_layer = xavier_uniform(Linear(item_dim, first, bias=False), fan_in=query_dim + item_dim)
        self.layers = nn.ModuleList(xavier_uniform(Linear(wide, narrow)) for wide, narrow in pairwise(hidden))
        self.output = lecun_uniform(nn.Linear(hidden[-1], 1))
        self.widest, self.pair_floats = max(hidden), sum(hidden)
        if dropout:  # what is left of the inputs of the inner layers, and what they are multiplied with
            self.pair_floats += 2 * sum(hidden[:-1])

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Tensor:
        """The query's half of the first layer, including the bias."""
        return self.query_layer(self._drop(query))

    def prepare_items(self, items: Float[Tensor, "*batch dim"]) -> Tensor:
        """The item's half of the first layer."""
        return self.item_layer(self._drop(items))

    def match(self, query: Float[Tensor, "*#batch width"], items: Float[Tensor, "*#batch width"]) -> Tensor:
        """The rest of the tower, over the sum of the halves."""
        hidden = (query + items).relu_()
        for layer in self.layers:
            hidden = layer(self._drop(hidden)).relu_()
        return self.output(hidden).squeeze(-1)

    def match_all(self, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items width"]) -> Tensor:
        """Chunk by chunk over queries and items, so that all pairs are never in memory at once."""
        return in_chunks(self, query, items, self.widest)

    def _drop(self, values: Tensor) -> Tensor:
        return dropout(values, self.dropout) if self.training else values


@heads.register("neumf")
class NeuMF(Head):
    """Neural matrix factorisation: the sum of `gmf` and `mlp`, each on columns of its own.

    The paper has separate embedding tables and one output layer over both. That is equivalent to one table whose first
    columns are GMF's and whose others are the MLP's, and a sum of two outputs.

    Args:
        dim: width of query and item vectors.
        gmf_dim: number of GMF's columns; the MLP has the others. None for half of them.
        hidden: widths of the MLP's layers.

    Raises:
        ConfigError: no column is left for one of the two.
    """

    def __init__(self, dim: int, *, gmf_dim: PositiveInt | None = None, hidden: Widths = (64, 32)) -> None:
        super().__init__(dim)
        gmf_dim = dim // 2 if gmf_dim is None else gmf_dim
        if not 0 < gmf_dim < dim:
            raise ConfigError(
                f"head neumf: gmf_dim is {gmf_dim}, of an encoder of dim {dim}: expected 1 to {dim - 1}, for GMF and "
                "the MLP share the encoder's columns"
            )
        self.gmf, self.mlp = GMF(gmf_dim), MLP(dim - gmf_dim, hidden=hidden)
        self.columns = [gmf_dim, dim - gmf_dim]
        self.widths = [gmf_dim, hidden[0]]
        self.pair_floats = self.gmf.pair_floats + self.mlp.pair_floats

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Tensor:
        """Both sides, beside each other."""
        one, other = query.split(self.columns, -1)
        return torch.cat([self.gmf.prepare_query(one), self.mlp.prepare_query(other)], -1)

    def prepare_items(self, items: Float[Tensor, "*batch dim"]) -> Tensor:
        """Both sides, beside each other."""
        one, other = items.split(self.columns, -1)
        return torch.cat([self.gmf.prepare_items(one), self.mlp.prepare_items(other)], -1)

    def match(self, query: Float[Tensor, "*#batch width"], items: Float[Tensor, "*#batch width"]) -> Tensor:
        """The sum of both."""
        query_parts, item_parts = query.split(self.widths, -1), items.split(self.widths, -1)
        return self.gmf.match(query_parts[0], item_parts[0]) + self.mlp.match(query_parts[1], item_parts[1])

    def forward(self, query: Float[Tensor, "*#batch dim"], items: Float[Tensor, "*#batch dim"]) -> Tensor:
        """The sum of both, without concatenating their prepared sides, which would take a tenth of a step."""
        query_parts, item_parts = query.split(self.columns, -1), items.split(self.columns, -1)
        return self.gmf(query_parts[0], item_parts[0]) + self.mlp(query_parts[1], item_parts[1])

    def match_all(self, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items width"]) -> Tensor:
        """A matrix product for GMF, and the MLP in chunks."""
        query_parts, item_parts = query.split(self.widths, -1), items.split(self.widths, -1)
        return self.gmf.match_all(query_parts[0], item_parts[0]) + self.mlp.match_all(query_parts[1], item_parts[1])


def in_chunks(
    head: Head, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items wide"], floats: int
) -> Tensor:
    """`match_all` by calling `match` on some queries and some items at a time.

    Args:
        head, query, items: as in `match_all`.
        floats: how many `match` holds in memory at once per pair, such as the width of its widest layer.
    """
    flat = query.reshape(-1, query.shape[-1])
    num_items = max(1, room(query, CHUNK_FLOATS) // floats)
    num_queries = max(1, num_items // max(1, len(items)))
    rows = [
        torch.cat([head.match(some.unsqueeze(-2), part) for part in items.split(num_items)], -1)
        for some in flat.split(num_queries)
    ]
    return torch.cat(rows).view(*query.shape[:-1], len(items))
