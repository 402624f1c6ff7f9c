"""Graph views: the same encoder run on an altered training graph.

Most come from Wu et al., "Self-supervised graph learning for recommendation" (SGL), SIGIR 2021,
https://arxiv.org/abs/2010.10783, section 3.1. The Â of a view is normalised by the remaining degrees, as in the
authors' code. That code drops an exact number of edges or nodes, and keeps a view for an epoch (`every` of
`view_contrast`); here each is dropped independently, which gives the same expected share.

Links among users or items (`BipartiteGraph.linked`) are never dropped by views that drop edges; views that drop nodes
or are of low rank refuse graphs with links.
"""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool
from torch import Tensor

from recgraph.errors import ConfigError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.graph.low_rank import LowRankGraph
from recgraph.graph.propagate import GraphPerLayer
from recgraph.random import random_integers
from recgraph.registry import views
from recgraph.types import Fraction, Inputs, PositiveInt, View


@views.register("edge_drop")
class EdgeDrop(View):
    """Drops each edge with the same probability (SGL-ED).

    Args:
        rate: expected fraction of edges dropped, in [0, 1); 0.1 is SGL's on Yelp2018 and Amazon-Book.
    """

    changes = frozenset({"graph"})

    def __init__(self, *, rate: Fraction = 0.1) -> None:
        self.rate = rate

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The inputs with fewer edges; `generator` is on the device of the graph."""
        return replace(inputs, graph=_edges_dropped(_graph(inputs), self.rate, generator))


@views.register("random_walk")
class RandomWalk(View):
    """Drops each edge with the same probability, independently for each layer of the encoder (SGL-RW).

    Args:
        rate: expected fraction of edges dropped, in [0, 1).
    """

    changes = frozenset({"graph"})
    leaves = GraphPerLayer

    def __init__(self, *, rate: Fraction = 0.1) -> None:
        self.rate = rate

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The inputs with one graph per layer, drawn as the encoder asks; `generator` is on the device of the graph."""
        graph = _graph(inputs)
        return replace(inputs, graph=GraphPerLayer(lambda: _edges_dropped(graph, self.rate, generator)))


@views.register("node_drop")
class NodeDrop(View):
    """Drops all edges of each user and of each item with the same probability (SGL-ND).

    Layer 0 of a dropped node is not changed: the node merely has no neighbours, and is the neighbour of none.

    Args:
        rate: expected fraction of users, and of items, dropped, in [0, 1). An edge stays with probability (1 - rate)².
    """

    changes = frozenset({"graph"})
    linked = False

    def __init__(self, *, rate: Fraction = 0.1) -> None:
        self.rate = rate

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The inputs with fewer edges; `generator` is on the device of the graph."""
        graph = _graph(inputs)
        if graph.has_links:
            raise ConfigError("node_drop drops nodes of interactions alone: it has no place for relations")
        users = _stays(graph.num_users, self.rate, generator)
        items = _stays(graph.num_items, self.rate, generator)
        stays = users.index_select(0, graph.users) & items.index_select(0, graph.items)
        return replace(inputs, graph=_kept(graph, stays))


@views.register("svd")
class SVD(View):
    """Replaces the graph by its best low-rank approximation: deterministic, with an edge between any two (LightGCL).

    Cai et al., "LightGCL: Simple yet effective graph contrastive learning for recommendation", ICLR 2023,
    https://arxiv.org/abs/2302.08191, section 3.2. `view_contrast` with `anchors: shared` and `against: all` contrasts
    it with the main graph, as LightGCL does. Differences:

    - In LightGCL each layer of the view is computed from the previous layer of the main graph. With converged singular
      vectors, as here, this is the same, since Â_q Âᵏ = Â_qᵏ⁺¹; theirs come from two iterations of a random projection.
    - The paper contrasts layer by layer; here, as in the authors' code, the sums over layers are contrasted.
    - In the authors' code, anchors are the view's and candidates the main graph's; here, as in the paper, roles are
      swapped. That code's similarity, inner products that are clipped to [-5τ, 5τ] for positive pairs, is `similarity:
      dot` and `bound: 5` of `view_contrast`.
    - Their code can drop edges of the main graph at random in training, at a rate of 0 by default.

    Args:
        rank: q, the number of singular vectors kept (5 in LightGCL).
    """

    changes = frozenset({"graph"})
    draws = False
    linked = False
    leaves = LowRankGraph

    def __init__(self, *, rank: PositiveInt = 5) -> None:
        self.rank = rank
        self._known: WeakKeyDictionary[BipartiteGraph, LowRankGraph] = WeakKeyDictionary()

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The inputs with the graph's factors, which are computed once; `generator` is not used."""
        graph = _graph(inputs)
        if graph not in self._known:
            self._known[graph] = LowRankGraph.of(graph, self.rank)
        return replace(inputs, graph=self._known[graph])


def _graph(inputs: Inputs) -> BipartiteGraph:
    """The training graph, which training has built since the encoder reads it."""
    if inputs.graph is None:
        raise ConfigError("the view changes the graph, and the inputs have none: give Inputs a `graph`")
    if not isinstance(inputs.graph, BipartiteGraph):
        raise ConfigError(
            f"an earlier view left a {type(inputs.graph).__name__}, which this one cannot change: let one objective "
            "alone change the graph that all objectives share"
        )
    return inputs.graph


def _edges_dropped(graph: BipartiteGraph, rate: float, generator: torch.Generator) -> BipartiteGraph:
    return _kept(graph, _stays(graph.num_edges, rate, generator))


def _stays(count: int, rate: float, generator: torch.Generator) -> Bool[Tensor, "count"]:
    """True with probability 1 - rate, to 2⁻³²."""
    return random_integers(count, torch.int32, generator) >= min(round(rate * 2**32), 2**32 - 1) - 2**31


def _kept(graph: BipartiteGraph, mask: Bool[Tensor, "edges"]) -> BipartiteGraph:
    """Only edges where `mask` is True: the others get weight 0, so unlike `keep` the host never waits for a GPU."""
    return graph.reweighted(mask.float() if graph.weights is None else graph.weights * mask)
