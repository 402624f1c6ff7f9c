"""PyG and DGL against the dense reference, and graphs to and from them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from references import lightgcn, propagation
from torch import Tensor

from recgraph.errors import ConfigError, DataError
from recgraph.graph import (
    BipartiteGraph,
    Links,
    from_dgl,
    from_pyg,
    layer_mean,
    layer_sum,
    neighbour_sum,
    to_dgl,
    to_pyg,
)

# Both libraries compile helpers with torch.jit.script when imported.

BACKENDS = ["torch", "pyg", pytest.param("dgl", marks=pytest.mark.dgl)]


@pytest.fixture
def dgl():
    os.environ.setdefault("DGLBACKEND", "pytorch")
    return pytest.importorskip("dgl")


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "dgl":
        request.getfixturevalue("dgl")
    return request.param


@pytest.fixture
def graph() -> BipartiteGraph:
    """User 4 and item 0 have no edges."""
    present = torch.rand(5, 6, generator=torch.Generator().manual_seed(0)) < 0.6
    present[4], present[:, 0] = False, False
    return BipartiteGraph.from_edges(*present.nonzero().unbind(1), 5, 6)


def tables(graph: BipartiteGraph, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = graph.num_users, graph.num_items
    users, items = (torch.randn(rows, 3, generator=generator, dtype=dtype) for rows in sizes)
    return users.requires_grad_(), items.requires_grad_()


def same_graph(ours: BipartiteGraph, theirs: BipartiteGraph) -> bool:
    sizes = (ours.num_users, ours.num_items) == (theirs.num_users, theirs.num_items)
    return sizes and all(torch.equal(getattr(ours, n), getattr(theirs, n)) for n in ("users", "items", "by_item"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_backends_equal_the_dense_reference(backend, graph, dtype):
    users, items = tables(graph, dtype)
    edges = list(zip(graph.users.tolist(), graph.items.tolist(), strict=True))
    for ours, theirs in (
        (neighbour_sum(graph, users, items, backend=backend), propagation(users, items, edges)),
        (layer_mean(graph, users, items, 3, backend=backend), lightgcn(users, items, edges, 3)),
        (layer_mean(graph, users, items, 0, backend=backend), (users, items)),
    ):
        gradients = [torch.autograd.grad(u.sin().sum() + i.square().sum(), (users, items)) for u, i in (ours, theirs)]
        for mine, reference in zip((*ours, *gradients[0]), (*theirs, *gradients[1]), strict=True):
            assert mine.dtype == dtype
            torch.testing.assert_close(mine.double(), reference.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS[1:], indirect=True)
def test_backends_agree_on_an_operator_that_is_not_symmetric(backend, graph):
    users, items = tables(graph, torch.float64)
    other = graph.normalised(0.6, -0.1)
    results = [layer_mean(other, users, items, 3, backend=name) for name in (backend, "torch")]
    gradients = [torch.autograd.grad(u.sin().sum() + i.square().sum(), (users, items)) for u, i in results]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_backends_see_the_kept_edges_only(backend, graph):
    users, items = tables(graph)
    neighbour_sum(graph, users, items, backend=backend)  # fills whatever the backend caches for the whole graph
    fewer = graph.keep(torch.arange(graph.num_edges) % 3 > 0)
    ours, expected = neighbour_sum(fewer, users, items, backend=backend), neighbour_sum(fewer, users, items)
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_backends_accept_a_graph_without_edges(backend):
    none = torch.zeros(0, dtype=torch.int64)
    empty = BipartiteGraph.from_edges(none, none, 2, 3)
    users, items = neighbour_sum(empty, torch.ones(2, 4), torch.ones(3, 4), backend=backend)
    assert torch.equal(users, torch.zeros(2, 4))
    assert torch.equal(items, torch.zeros(3, 4))


def test_unknown_backend_names_the_nearest(graph):
    with pytest.raises(ConfigError, match=r"no graph backend 'pygg'\. Did you mean 'pyg'\?"):
        layer_sum(graph, *tables(graph), [1.0], backend="pygg")


def test_pyg_round_trip(graph):
    data = to_pyg(graph)
    data.validate()
    assert data.num_nodes_dict == {"user": 5, "item": 6}
    assert torch.equal(data["user", "rates", "item"].edge_index, data["item", "rev_rates", "user"].edge_index.flip(0))
    assert same_graph(from_pyg(data), graph)


def test_pyg_relation_by_name(graph):
    """As PyG's own MovieLens names it, with edges in any order."""
    from torch_geometric.data import HeteroData

    shuffled = torch.randperm(graph.num_edges, generator=torch.Generator().manual_seed(2))
    data = HeteroData()
    data["user"].num_nodes, data["movie"].x = 5, torch.zeros(6, 2)
    data["user", "rates", "movie"].edge_index = torch.stack([graph.users, graph.items])[:, shuffled]
    relation = ("user", "rates", "movie")
    assert same_graph(from_pyg(data, relation), graph)
    with pytest.raises(DataError, match=r"no relation from 'user' to 'item'; .*\('user', 'rates', 'movie'\)"):
        from_pyg(data)
    with pytest.raises(DataError, match=r"no relation \('user', 'likes', 'movie'\); .* from: \('user', 'rates'"):
        from_pyg(data, ("user", "likes", "movie"))


def test_pyg_faults_are_named(graph):
    from torch_geometric.data import HeteroData

    two = to_pyg(graph)
    two["user", "views", "item"].edge_index = two["user", "rates", "item"].edge_index
    with pytest.raises(DataError, match=r"more than one relation from 'user' to 'item'; .*\('user', 'views', 'item'\)"):
        from_pyg(two)
    assert same_graph(from_pyg(two, ("user", "views", "item")), graph)
    unsized = HeteroData()
    unsized["user", "rates", "item"].edge_index = torch.tensor([[0], [0]])
    unsized["user"].num_nodes = 1
    with pytest.raises(DataError, match=r"the number of 'item' nodes is unknown; set data\['item'\]\.num_nodes"):
        from_pyg(unsized)
    repeated = to_pyg(graph)
    repeated["user", "rates", "item"].edge_index = torch.tensor([[0, 0], [1, 1]])
    with pytest.raises(DataError, match=r"edge 1 \(user 0, item 1\) repeats"):
        from_pyg(repeated)
    with pytest.raises(DataError, match=r"no relation from 'user' to 'item'; .* from: none"):
        from_pyg(HeteroData())


@pytest.mark.dgl
def test_dgl_round_trip(graph, dgl):
    theirs = to_dgl(graph)
    assert {kind: theirs.num_nodes(kind) for kind in theirs.ntypes} == {"user": 5, "item": 6}
    assert set(theirs.canonical_etypes) == {("user", "rates", "item"), ("item", "rev_rates", "user")}
    assert same_graph(from_dgl(theirs), graph)


@pytest.mark.dgl
def test_dgl_relation_by_name(graph, dgl):
    theirs = dgl.heterograph(
        {("reader", "buys", "book"): (graph.users.int(), graph.items.int())}, {"reader": 5, "book": 6}
    )
    assert same_graph(from_dgl(theirs, ("reader", "buys", "book")), graph)
    with pytest.raises(DataError, match=r"no relation from 'user' to 'item'; .*\('reader', 'buys', 'book'\)"):
        from_dgl(theirs)
    with pytest.raises(DataError, match=r"no relation from 'user' to 'item'; .*\('_N', '_E', '_N'\)"):
        from_dgl(dgl.graph(([0], [1])))


def test_missing_dgl_is_a_clear_error(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "dgl", None)  # what Python does for a module that cannot be imported
    for use in (lambda: to_dgl(graph), lambda: layer_mean(graph, *tables(graph), 1, backend="dgl")):
        with pytest.raises(ConfigError, match=r"backend 'dgl' needs dgl: pip install 'recgraph\[dgl\]'"):
            use()


def run_python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints, on either stream."""
    inherited = {name: value for name, value in os.environ.items() if name != "DGLBACKEND"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout


def test_importing_the_graph_package_loads_no_graph_library():
    heavy = ("dgl", "torch_geometric", "polars", "pydantic", "wandb")
    assert run_python(f"import sys, recgraph.graph; print([m for m in {heavy} if m in sys.modules])") == "[]\n"


@pytest.mark.dgl
def test_dgl_is_loaded_silently_and_leaves_no_file(dgl, tmp_path):
    code = (
        "import torch; from recgraph.graph import BipartiteGraph, to_dgl;"
        "to_dgl(BipartiteGraph.from_edges(torch.tensor([0]), torch.tensor([0]), 1, 1))"
    )
    assert run_python(code, HOME=str(tmp_path)) == ""
    assert list(tmp_path.iterdir()) == []


def test_what_a_conversion_would_lose_is_refused(graph):
    weighted = graph.reweighted(torch.ones(graph.num_edges))
    links = Links.of(torch.tensor([0]), torch.tensor([1]), torch.ones(1), graph.num_items)
    for convert in (to_pyg, to_dgl):
        with pytest.raises(DataError, match="its weights would be lost"):
            convert(weighted)
        with pytest.raises(DataError, match="its links would be lost"):
            convert(graph.linked(items=links))
