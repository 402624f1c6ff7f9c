"""Attention over the neighbours of users and items: LightGCN with KGAT's attention in place of degree normalisation.

The attention follows Wang et al., "KGAT: knowledge graph attention network for recommendation", KDD 2019,
https://arxiv.org/abs/1905.07854, section 3.2, on a graph with the relations "user rates item" and its reverse. The
logit of a neighbour b for a node a is (W b) · tanh(W a + r), where W and r belong to the relation; it is computed once,
from the vectors of layer 0, for all layers. Like GATv2 (Brody, Alon and Yahav, "How attentive are graph attention
networks?", ICLR 2022, https://arxiv.org/abs/2105.14491) and unlike GAT, it can rank the same neighbours differently for
different nodes; unlike GATv2, it is an inner product, which needs no vector for each edge.

Aggregation is LightGCN's: no weight matrices, no activation, and the mean of all layers. KGAT alternates between its
attention and a loss on the knowledge graph; here attention is trained jointly with everything else. Multiple heads are
not in KGAT: each has its share of the columns, as in GAT (Veličković et al., ICLR 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.encoders.base import Encoder, embedding_table, graph_of, lookup
from recgraph.errors import ConfigError
from recgraph.graph.attention import edge_dots, edge_softmax, sum_to_items, sum_to_users
from recgraph.numerics.matmul import Linear
from recgraph.registry import encoders
from recgraph.types import Ego, Encoding, Inputs, NonNegativeInt, PositiveFloat, PositiveInt


class Attention(NamedTuple):
    """Holds attention weights from 0 to 1, in the order of the graph's edges.

    Attributes:
        to_users: weight of each edge's item for its user; they sum to 1 over the edges of a user.
        to_items: weight of each edge's user for its item; they sum to 1 over the edges of an item.
    """

    to_users: Float[Tensor, "heads edges"]
    to_items: Float[Tensor, "heads edges"]


@encoders.register("gat")
class GAT(Encoder):
    """Averages embeddings over the layers of a graph convolution whose weights come from attention.

        eᵤˡ⁺¹ = Σᵢ aᵤᵢ eᵢˡ over the items i of user u, aᵤᵢ = softmaxᵢ( (W eᵢ⁰) · tanh(W eᵤ⁰ + r) )

    and the same for items, with another W and r; E = (E⁰ + … + Eᴸ) / (L + 1).

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors.
        num_layers: L, the number of propagations.
        num_heads: attention heads, each over dim / num_heads columns; 1 in KGAT.
        std: standard deviation of the initial E⁰, as in LightGCN.

    Raises:
        ConfigError: `dim` is not a multiple of `num_heads`.
    """

    reads = frozenset({"graph", "perturb"})

    layered = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: PositiveInt = 64,
        num_layers: NonNegativeInt = 3,
        num_heads: PositiveInt = 1,
        std: PositiveFloat = 0.1,
    ) -> None:
        super().__init__(num_users, num_items, dim=dim)
        if dim % num_heads:
            raise ConfigError(f"num_heads is {num_heads}; expected a divisor of dim, which is {dim}")
        self.num_layers, self.width = num_layers, dim // num_heads
        self.users = embedding_table(num_users, dim, std)
        self.items = embedding_table(num_items, dim, std)
        self.to_users, self.to_items = Linear(dim, dim), Linear(dim, dim)
        for relation in (self.to_users, self.to_items):
            nn.init.xavier_uniform_(relation.weight)
            nn.init.zeros_(relation.bias)

    def attention(self, inputs: Inputs) -> Attention:
        """The attention weights used by `forward`, for all edges of `inputs.graph`.

        Raises:
            TypeError: `inputs.graph` is missing or is another library's graph.
        """
        graph = graph_of(inputs, self)
        users, items = self.users.weight, self.items.weight
        by_users = _pairs(self.to_users, users, items, self.width)
        by_items = _pairs(self.to_items, items, users, self.width)
        return Attention(
            torch.stack([edge_softmax(graph, edge_dots(graph, *pair), "items") for pair in by_users]),
            torch.stack([edge_softmax(graph, edge_dots(graph, *reversed(pair)), "users") for pair in by_items]),
        )

    def forward(self, inputs: Inputs) -> Encoding:
        """Propagate over the whole graph, then pick the rows of `inputs.users`.

        Raises:
            TypeError: `inputs.graph` is missing or is another library's graph.
        """
        graph, (to_users, to_items) = graph_of(inputs, self), self.attention(inputs)
        every = [(self.users.weight, self.items.weight)]
        for _ in range(self.num_layers):
            of_users, of_items = (side.split(self.width, -1) for side in every[-1])
            users = [sum_to_users(graph, *pair) for pair in zip(to_users, of_items, strict=True)]
            items = [sum_to_items(graph, *pair) for pair in zip(to_items, of_users, strict=True)]
            every.append((inputs.perturb(torch.cat(users, -1)), inputs.perturb(torch.cat(items, -1))))
        mean_users, mean_items = (sum(side[1:], side[0]) / len(every) for side in zip(*every, strict=True))
        shown = every if inputs.every_layer else None
        ego = Ego(lookup(self.users.weight, inputs.users), self.items.weight)
        return Encoding(lookup(mean_users, inputs.users), mean_items, ego, shown)


def _pairs(relation: nn.Linear, nodes: Tensor, neighbours: Tensor, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For each head, tanh(W a + r) of all nodes a and W b of all possible neighbours b."""
    asked, told = relation(nodes).tanh(), F.linear(neighbours, relation.weight)
    # Under autocast their type is one that sparse products do not support.
    return zip(asked.to(nodes).split(width, -1), told.to(nodes).split(width, -1), strict=True)
