"""The same propagation through PyG and DGL, and conversion of graphs to and from their formats.

Both libraries are imported only on use. They serve for checks and for exchanging graphs; the fast path is
`recgraph.graph.propagate`. The dgl wheels on PyPI run on the CPU only.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from recgraph.errors import ConfigError, DataError, suggest
from recgraph.graph.bipartite import BipartiteGraph

if TYPE_CHECKING:
    from dgl import DGLGraph
    from torch_geometric.data import HeteroData
    from torch_geometric.nn import SimpleConv

Backend = Literal["torch", "pyg", "dgl"]
Step = Callable[[BipartiteGraph, Tensor, Tensor], tuple[Tensor, Tensor]]
Relation = tuple[str, str, str]
"""An edge type: the users' node type, a name, the items' node type."""

RATES: Relation = ("user", "rates", "item")
RATED: Relation = ("item", "rev_rates", "user")  # as PyG's ToUndirected names a reversed relation


def to_pyg(graph: BipartiteGraph) -> HeteroData:
    """A `HeteroData` with node types user and item, and edges ("user", "rates", "item") and their reverse.

    Raises:
        DataError: the graph has weights or links, which would be lost.
    """
    from torch_geometric.data import HeteroData

    _check_plain(graph)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = graph.num_users, graph.num_items
    data[RATES].edge_index = torch.stack([graph.users, graph.items])
    data[RATED].edge_index = torch.stack([graph.items, graph.users])
    return data


def from_pyg(data: HeteroData, relation: Relation | None = None) -> BipartiteGraph:
    """The graph of one relation of a `HeteroData`; attributes of nodes and edges are left out.

    Args:
        relation: the relation whose edges to take; by default the only one from "user" to "item".

    Raises:
        DataError: there is no such relation, or more than one; the size of a node type is unknown; an edge is out of
            range or repeated.
    """
    relation = _relation(data.edge_types, relation)
    nodes = data.num_nodes_dict
    for kind in (relation[0], relation[2]):
        if nodes.get(kind) is None:
            raise DataError(f"{relation}: the number of {kind!r} nodes is unknown; set data[{kind!r}].num_nodes")
    users, items = data[relation].edge_index
    return BipartiteGraph.from_edges(users, items, nodes[relation[0]], nodes[relation[2]])


def to_dgl(graph: BipartiteGraph) -> DGLGraph:
    """A DGL heterograph with node types user and item, and edges ("user", "rates", "item") and their reverse.

    Raises:
        ConfigError: dgl is not installed.
        DataError: the graph has weights or links, which would be lost.
    """
    _check_plain(graph)
    return _heterograph(graph)


def _check_plain(graph: BipartiteGraph) -> None:
    if graph.weights is not None or graph.has_links:
        raise DataError(f"{graph}: its {'links' if graph.has_links else 'weights'} would be lost; give one without")


def _heterograph(graph: BipartiteGraph) -> DGLGraph:
    return _dgl().heterograph(
        {RATES: (graph.users, graph.items), RATED: (graph.items, graph.users)},
        {"user": graph.num_users, "item": graph.num_items},
    )


def from_dgl(heterograph: DGLGraph, relation: Relation | None = None) -> BipartiteGraph:
    """The graph of one relation of a DGL heterograph; arguments and errors as in `from_pyg`."""
    relation = _relation(heterograph.canonical_etypes, relation)
    users, items = heterograph.edges(etype=relation)
    return BipartiteGraph.from_edges(
        users, items, heterograph.num_nodes(relation[0]), heterograph.num_nodes(relation[2])
    )


def find(backend: str) -> Step:
    """The function (graph, users, items) -> (users', items') that multiplies by Â through a library.

    Raises:
        ConfigError: no backend has this name.
    """
    steps: dict[str, Step] = {"pyg": _pyg_step, "dgl": _dgl_step}
    if backend not in steps:
        raise ConfigError(f"no graph backend {backend!r}. {suggest(backend, ['torch', *steps])}")
    return steps[backend]


def _pyg_step(graph: BipartiteGraph, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    edges, (to_users, to_items) = torch.stack([graph.users, graph.items]), _edge_weights(graph, users)
    convolve = _pyg_sum()
    return convolve((items, users), edges.flip(0), to_users), convolve((users, items), edges, to_items)


@functools.cache
def _pyg_sum() -> SimpleConv:
    """PyG's edge-weighted sum over neighbours. It has no parameters, so one instance serves all."""
    from torch_geometric.nn import SimpleConv

    return SimpleConv(aggr="sum")


def _dgl_step(graph: BipartiteGraph, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    multiply_sum = _dgl().ops.u_mul_e_sum  # update_all(u_mul_e, sum), without storing vectors in the graph
    if graph not in _dgl_graphs:
        _dgl_graphs[graph] = _heterograph(graph)
    heterograph = _dgl_graphs[graph]
    to_users, to_items = (weights.unsqueeze(1) for weights in _edge_weights(graph, users))
    return multiply_sum(heterograph[RATED], items, to_users), multiply_sum(heterograph[RATES], users, to_items)


_dgl_graphs: WeakKeyDictionary[BipartiteGraph, Any] = WeakKeyDictionary()
"""DGL sorts a graph's edges on first use, at a third of the cost of a product; kept as long as the graph."""


def _dgl() -> Any:
    os.environ.setdefault("DGLBACKEND", "pytorch")  # else the import prints, and writes ~/.dgl/config.json
    try:
        import dgl
    except (ImportError, OSError) as error:  # OSError: compiled for another torch
        raise ConfigError(f"graph backend 'dgl' needs dgl: pip install 'recgraph[dgl]' ({error})") from error
    return dgl


def _edge_weights(graph: BipartiteGraph, like: Tensor) -> tuple[Tensor, Tensor]:
    """Values of Â from items to users and from users to items, both in the order of the graph's edges."""
    operator, transposed = graph.operators_in(like.dtype)
    return operator.user_item.values(), transposed.user_item.values()


def _relation(known: Iterable[Relation], asked: Relation | None) -> Relation:
    """The relation asked for, or the only one from "user" to "item"."""
    found = [kind for kind in known if (kind == asked if asked else kind[::2] == ("user", "item"))]
    if len(found) == 1:
        return found[0]
    wanted = f"relation {asked}" if asked else "relation from 'user' to 'item'"
    raise DataError(
        f"{'more than one' if found else 'no'} {wanted}; choose with relation=(users, name, items) from: "
        f"{', '.join(map(str, known)) or 'none'}"
    )
