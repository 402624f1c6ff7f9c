"""LightGCN: the mean of embeddings smoothed 0, 1, …, L times over the user-item graph; and its later variants.

He et al., "LightGCN: Simplifying and powering graph convolution network for recommendation", SIGIR 2020,
https://arxiv.org/abs/2002.02126 (section 3.1; layer weights of section 3.1.2).

LightGCN++: Lee, Kim and Shin, "Revisiting LightGCN: unexpected inflexibility, inconsistency, and a remedy towards
improved recommendation", RecSys 2024, https://doi.org/10.1145/3640457.3688176, as in the authors' code
(https://github.com/geon0325/LightGCNpp): `unit_messages: true`, `alpha: 0.6`, `beta: -0.1` and `layer_weights: 0.2`,
which their README recommends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from recgraph.encoders.base import Encoder, embedding_table, graph_of, lookup
from recgraph.errors import ConfigError
from recgraph.graph.backends import Backend
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.graph.low_rank import LowRankGraph
from recgraph.graph.propagate import GraphPerLayer, layer_sum, layers
from recgraph.registry import encoders
from recgraph.types import Ego, Encoding, Inputs, NonNegativeInt, PositiveFloat, PositiveInt, identity


@encoders.register("lightgcn")
class LightGCN(Encoder):
    """A weighted sum of layers of a parameter-free graph convolution, by default their mean.

    With E⁰ the stacked user and item tables and Â = D^-α A D^-β the normalised adjacency:

        E = w₀ E⁰ + w₁ Â E⁰ + … + w_L Âᴸ E⁰,   w = 1 / (L + 1) and α = β = ½ in LightGCN

    Only E⁰ is learned. Regularise E⁰ (`ego_l2`), not E: regularising the propagated rows is the best-known reason why
    reproductions fall short of the paper. A residual connection is also a choice of weights: for (1 + Â)ᴸ E⁰, w are
    binomial coefficients.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors (64 in the paper).
        num_layers: L, the number of propagations (3 in most of the paper's tables).
        first_layer: first layer of the sum: 0 in the paper; 1 leaves E⁰ out, as SimGCL and XSimGCL do.
        layer_weights: weights of the layers from `first_layer` on. "mean"; a list with one weight per layer; a number γ
            in [0, 1], the weight of layer 0, while the others share 1 - γ evenly (LightGCN++); or "learned", free
            parameters that start at the mean (Chien et al., "Adaptive universal generalized PageRank graph neural
            network", ICLR 2021, https://arxiv.org/abs/2006.07988).
        alpha: α, the exponent of the degree of the receiving node.
        beta: β, the exponent of the degrees of its neighbours; below 0, popular neighbours weigh more.
        unit_messages: scale the vectors of neighbours to length 1 before they are summed (LightGCN++).
        std: standard deviation of the initial E⁰ (0.1 in both papers' PyTorch code).
        backend: library that multiplies by Â; results agree, "torch" is the fastest.

    Raises:
        ConfigError: the weights do not match the number of layers, or are out of range.
    """

    reads = frozenset({"graph", "perturb"})
    graphs = (BipartiteGraph, LowRankGraph, GraphPerLayer)
    linked = True
    layered = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: PositiveInt = 64,
        num_layers: NonNegativeInt = 3,
        first_layer: NonNegativeInt = 0,
        layer_weights: Literal["mean", "learned"] | float | Sequence[float] = "mean",
        alpha: float = 0.5,
        beta: float = 0.5,
        unit_messages: bool = False,
        std: PositiveFloat = 0.1,
        backend: Backend = "torch",
    ) -> None:
        super().__init__(num_users, num_items, dim=dim)
        if first_layer > num_layers:
            raise ConfigError(f"first_layer is {first_layer}; expected no more than num_layers, which is {num_layers}")
        self.num_layers, self.backend = num_layers, backend
        self.alpha, self.beta, self.unit_messages = alpha, beta, unit_messages
        self.first_layer = first_layer
        self.layer_weights: list[float] | nn.Parameter = _weights(layer_weights, first_layer, num_layers)
        if layer_weights == "learned":
            self.layer_weights = nn.Parameter(torch.tensor(self.layer_weights))
        self.users = embedding_table(num_users, dim, std)
        self.items = embedding_table(num_items, dim, std)

    def forward(self, inputs: Inputs) -> Encoding:
        """Propagate over the whole graph, then pick the rows of `inputs.users`.

        Raises:
            TypeError: `inputs.graph` is missing or is another library's graph.
        """
        graph = graph_of(inputs, self).normalised(self.alpha, self.beta)
        users, items = self.users.weight, self.items.weight
        ego = Ego(lookup(users, inputs.users), items)
        first, own = self.first_layer, self.layer_weights
        weights = [0.0] * first + own if isinstance(own, list) else F.pad(own, (first, 0))
        linear = inputs.perturb is identity and not self.unit_messages and not isinstance(graph, GraphPerLayer)
        if linear and isinstance(weights, list) and not inputs.every_layer:
            users, items = layer_sum(graph, users, items, weights, backend=self.backend)
            return Encoding(lookup(users, inputs.users), items, ego)
        (users, items), every = layers(
            *(graph, users, items, weights),
            backend=self.backend,
            perturb=inputs.perturb,
            unit_messages=self.unit_messages,
        )
        return Encoding(lookup(users, inputs.users), items, ego, every if inputs.every_layer else None)


def _weights(given: str | float | Sequence[float], first: int, last: int) -> list[float]:
    """A weight for each layer from `first` to `last`."""
    count = last - first + 1
    if isinstance(given, str):
        return [1 / count] * count
    if isinstance(given, Sequence):
        if len(given) != count:
            raise ConfigError(f"layer_weights has {len(given)} numbers; expected {count}, for layers {first} to {last}")
        return [float(weight) for weight in given]
    if first or not last or not 0 <= given <= 1:
        raise ConfigError(
            f"layer_weights is {given}, the weight of layer 0; expected a number from 0 to 1, first_layer 0 and "
            f"num_layers 1 or more, got {first} and {last}"
        )
    return [given] + [(1 - given) / last] * last
