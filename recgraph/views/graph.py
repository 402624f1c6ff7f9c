"""Views of the training graph: the same encoder on a graph from which something was dropped.

Wu et al., "Self-supervised graph learning for recommendation" (SGL), SIGIR 2021, https://arxiv.org/abs/2010.10783,
section 3.1. Â of a view is normalised by the degrees that are left, as in the authors' code. That drops an exact number
of edges or nodes and keeps a view for an epoch; here each is dropped independently, which is the same share in the
mean, and a view is drawn for a step. Their third view, which drops other edges in each layer (random walk), needs a
graph a layer, which `Inputs` does not have.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from recgraph.registry import views
from recgraph.types import Fraction, Inputs, View


@views.register("edge_drop")
class EdgeDrop(View):
    """Drops each edge with the same probability (SGL-ED).

    Args:
        rate: fraction of edges dropped in the mean, in [0, 1); 0.1 is SGL's on Yelp2018 and Amazon-Book.
    """

    changes = frozenset({"graph"})

    def __init__(self, *, rate: Fraction = 0.1) -> None:
        self.rate = rate

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The inputs with fewer edges; `generator` is on the device of the graph."""
        assert inputs.graph is not None  # a view's `changes` are read by the encoder, so they are built
        return _kept(inputs, _stays(inputs.graph.num_edges, self.rate, generator))


@views.register("node_drop")
class NodeDrop(View):
    """Drops all edges of each user and of each item with the same probability (SGL-ND).

    Layer 0 of a dropped node is not touched: it has no neighbours, and is nobody's.

    Args:
        rate: fraction of users, and of items, dropped in the mean, in [0, 1). An edge stays with (1 - rate)².
    """

    changes = frozenset({"graph"})

    def __init__(self, *, rate: Fraction = 0.1) -> None:
        self.rate = rate

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The inputs with fewer edges; `generator` is on the device of the graph."""
        graph = inputs.graph
        assert graph is not None
        users = _stays(graph.num_users, self.rate, generator)
        items = _stays(graph.num_items, self.rate, generator)
        return _kept(inputs, users.index_select(0, graph.users) & items.index_select(0, graph.items))


def _stays(count: int, rate: float, generator: torch.Generator) -> Bool[Tensor, "count"]:
    return torch.rand(count, generator=generator, device=generator.device) >= rate


def _kept(inputs: Inputs, mask: Bool[Tensor, "edges"]) -> Inputs:
    """Only edges where `mask` is True: the others get weight 0, which unlike `keep` has no host wait for a GPU."""
    graph = inputs.graph
    assert graph is not None
    weights = mask.float() if graph.weights is None else graph.weights * mask
    return replace(inputs, graph=graph.reweighted(weights))
