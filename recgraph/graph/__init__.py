"""Graphs of users and items, and propagation over them."""

from recgraph.graph.backends import from_dgl, from_pyg, to_dgl, to_pyg
from recgraph.graph.bipartite import BipartiteGraph, Operator
from recgraph.graph.links import Links
from recgraph.graph.low_rank import LowRankGraph
from recgraph.graph.propagate import GraphPerLayer, layer_mean, layer_sum, layers, neighbour_sum

__all__ = [
    "BipartiteGraph",
    "GraphPerLayer",
    "Links",
    "LowRankGraph",
    "Operator",
    "from_dgl",
    "from_pyg",
    "layer_mean",
    "layer_sum",
    "layers",
    "neighbour_sum",
    "to_dgl",
    "to_pyg",
]
