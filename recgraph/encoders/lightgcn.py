"""LightGCN: the mean of embeddings smoothed 0, 1, …, L times over the user-item graph.

He et al., "LightGCN: Simplifying and powering graph convolution network for recommendation", SIGIR 2020,
https://arxiv.org/abs/2002.02126 (equations 3 to 5, with the layer weights αₖ = 1/(L+1) of section 3.1.2).
"""

from __future__ import annotations

from recgraph.encoders.base import Encoder, embedding_table, lookup
from recgraph.errors import ConfigError
from recgraph.graph.backends import Backend
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.graph.low_rank import LowRankGraph
from recgraph.graph.propagate import GraphPerLayer, layer_sum, layers
from recgraph.registry import encoders
from recgraph.types import Ego, Encoding, Inputs, NonNegativeInt, PositiveFloat, PositiveInt, identity


@encoders.register("lightgcn")
class LightGCN(Encoder):
    """Averages embeddings over the layers of a parameter-free graph convolution.

    With E⁰ the stacked user and item tables and Â = D^-½ A D^-½ the normalised adjacency:

        E = (E⁰ + Â E⁰ + … + Âᴸ E⁰) / (L + 1)

    Only E⁰ is learned. Regularise E⁰ (`ego_l2`), not E: regularising the propagated rows is the best-known reason for
    reproductions that fall short of the paper.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors (64 in the paper).
        num_layers: L, the number of propagations (3 in most of the paper's tables).
        first_layer: where the mean begins: 0 in the paper; 1 leaves E⁰ out, as SimGCL and XSimGCL do.
        std: standard deviation of the initial E⁰ (0.1 in the authors' PyTorch code).
        backend: library that multiplies by Â; all agree, "torch" is the fastest.
    """

    reads = frozenset({"graph"})

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: PositiveInt = 64,
        num_layers: NonNegativeInt = 3,
        first_layer: NonNegativeInt = 0,
        std: PositiveFloat = 0.1,
        backend: Backend = "torch",
    ) -> None:
        super().__init__(num_users, num_items, dim=dim)
        if first_layer > num_layers:
            raise ConfigError(f"first_layer is {first_layer}; expected no more than num_layers, which is {num_layers}")
        self.num_layers, self.first_layer, self.backend = num_layers, first_layer, backend
        self.users = embedding_table(num_users, dim, std)
        self.items = embedding_table(num_items, dim, std)

    def forward(self, inputs: Inputs) -> Encoding:
        """Propagate over the whole graph, then pick the rows of `inputs.users`.

        Raises:
            TypeError: `inputs.graph` is missing or is another library's graph.
        """
        graph = inputs.graph
        if not isinstance(graph, BipartiteGraph | LowRankGraph | GraphPerLayer):
            raise TypeError(
                f"LightGCN reads a BipartiteGraph, got {type(graph).__name__}: make one with "
                "BipartiteGraph.from_edges, recgraph.graph.from_pyg or recgraph.graph.from_dgl"
            )
        users, items = self.users.weight, self.items.weight
        ego = Ego(lookup(users, inputs.users), items)
        first, count = self.first_layer, self.num_layers + 1 - self.first_layer
        plain = inputs.perturb is identity and not inputs.every_layer
        if plain and not isinstance(graph, GraphPerLayer):
            weights = [0.0] * first + [1 / count] * count
            users, items = layer_sum(graph, users, items, weights, backend=self.backend)
            return Encoding(lookup(users, inputs.users), items, ego)
        every = layers(graph, users, items, self.num_layers, backend=self.backend, perturb=inputs.perturb)
        users, items = (sum(side[first + 1 :], side[first]) / count for side in zip(*every, strict=True))
        return Encoding(lookup(users, inputs.users), items, ego, every if inputs.every_layer else None)
