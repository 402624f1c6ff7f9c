"""NGCF: graph convolution with weights, activation and element-wise products, its layers concatenated.

Wang et al., "Neural graph collaborative filtering", SIGIR 2019, https://arxiv.org/abs/1905.08108, section 2.2, in
matrix form. LightGCN is what remains without weights and activation.

As in the authors' code (https://github.com/xiangwang1223/neural_graph_collaborative_filtering), not the paper: layers
from 1 on are normalised to length 1 before concatenation, and dropout acts on a layer rather than on messages before
the sum. As in the paper, not that code: one activation around both terms, no biases, and symmetric normalisation. Node
dropout is a view of the graph (`node_drop`), not part of the encoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from recgraph.encoders.base import Encoder, graph_of, lookup
from recgraph.graph.propagate import neighbour_sum
from recgraph.numerics.dropout import Dropout
from recgraph.numerics.matmul import Linear, unit
from recgraph.registry import encoders
from recgraph.types import Ego, Encoding, Fraction, Inputs, NonNegativeInt, PositiveInt

SLOPE = 0.2
"""Of LeakyReLU below 0: TensorFlow's default, which the authors' code leaves as it is."""


@encoders.register("ngcf")
class NGCF(Encoder):
    """Concatenates the layers of a graph convolution, all but layer 0 normalised to length 1.

    With E⁰ the stacked user and item tables and Â = D^-½ A D^-½ the normalised adjacency:

        Eˡ⁺¹ = LeakyReLU( (Â + 1) Eˡ W₁ˡ + (Â Eˡ ⊙ Eˡ) W₂ˡ ),   E = E⁰ ‖ E¹/|E¹| ‖ … ‖ Eᴸ/|Eᴸ|

    The returned vectors are (L + 1) times as wide as the argument `dim`; `Encoder.dim` holds their width.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of a layer (64 in the authors' settings).
        num_layers: L, the number of propagations (3 there).
        message_dropout: fraction of a layer's values that are set to 0 in training, in [0, 1) (0.1 there).
    """

    reads = frozenset({"graph", "perturb"})
    linked = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: PositiveInt = 64,
        num_layers: NonNegativeInt = 3,
        message_dropout: Fraction = 0.1,
    ) -> None:
        super().__init__(num_users, num_items, dim=(num_layers + 1) * dim)
        self.users, self.items = nn.Embedding(num_users, dim), nn.Embedding(num_items, dim)
        self.sums = nn.ModuleList(Linear(dim, dim, bias=False) for _ in range(num_layers))
        self.products = nn.ModuleList(Linear(dim, dim, bias=False) for _ in range(num_layers))
        self.dropout = Dropout(message_dropout)
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight)  # all of them, tables included, as in the authors' code

    def forward(self, inputs: Inputs) -> Encoding:
        """Propagate over the whole graph, then pick the rows of `inputs.users`.

        Raises:
            TypeError: `inputs.graph` is missing or is another library's graph.
        """
        graph = graph_of(inputs, self)
        sides = [self.users.weight, self.items.weight]
        query = lookup(sides[0], inputs.users)
        users, items = [query], [sides[1]]
        for sums, products in zip(self.sums, self.products, strict=True):
            near = neighbour_sum(graph, sides[0], sides[1])
            mixed = [sums(others + own) + products(others * own) for own, others in zip(sides, near, strict=True)]
            # Under autocast their type is one that sparse products do not support.
            sides = [inputs.perturb(self.dropout(F.leaky_relu(side, SLOPE)).to(query)) for side in mixed]
            users.append(unit(lookup(sides[0], inputs.users)))
            items.append(unit(sides[1]))
        return Encoding(torch.cat(users, -1), torch.cat(items, -1), Ego(query, items[0]))
