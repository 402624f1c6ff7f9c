"""Every registered encoder: equals a naive reference, has no dead parameter, is deterministic, equivariant, learns.

Encoders are found by scanning the registry. A new one fails here until `REFERENCES` has a naive version of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import references
import torch
from cases import checkerboard, graph_of, random_content, random_interactions
from torch import Tensor

from recgraph import registry
from recgraph.data.interactions import Interactions
from recgraph.encoders import ContentEncoder, Encoder, Hybrid, LightGCN
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.heads import Dot
from recgraph.objectives import BPR, Objectives
from recgraph.random import isolated, torch_generator
from recgraph.recommender import Recommender
from recgraph.sampling import Batches, Uniform
from recgraph.types import Content, Inputs, Modality

NAMES = list(registry.encoders.components())


def lightgcn(encoder: LightGCN, graph: BipartiteGraph) -> tuple[Tensor, Tensor]:
    edges = list(zip(graph.users.tolist(), graph.items.tolist(), strict=True))
    return references.lightgcn(encoder.users.weight, encoder.items.weight, edges, encoder.num_layers)


def content(encoder: ContentEncoder, graph: BipartiteGraph) -> tuple[Tensor, Tensor]:
    return encoder.users.weight, references.tower(encoder.item_tower, content_for(graph).items)


def hybrid(encoder: Hybrid, graph: BipartiteGraph) -> tuple[Tensor, Tensor]:
    users, known = lightgcn(encoder.graph, graph)
    made = references.tower(encoder.item_tower, content_for(graph).items)
    return users, references.hybrid(known, made, graph.items.tolist(), encoder.shrinkage)


REFERENCES: dict[str, Callable[[Encoder, BipartiteGraph], tuple[Tensor, Tensor]]] = {
    "content": content,
    "hybrid": hybrid,
    "embedding": lambda encoder, graph: (encoder.users.weight, encoder.items.weight),
    "lightgcn": lightgcn,
}
"""Encoder -> (vectors of all users, vectors of all items) by loops and dense matrices."""


@pytest.fixture
def table() -> Interactions:
    return random_interactions()


def spec_of(name: str, dim: int) -> dict[str, object]:
    if name == "hybrid":  # shrinkage: so that a warm item shows its content too
        return {"name": name, "graph": {"name": "lightgcn", "dim": dim}, "shrinkage": 2.0, "hidden": 8}
    return {"name": name, "dim": dim}


def content_for(graph: BipartiteGraph) -> Content:
    found = random_content(graph.num_users, graph.num_items)
    return Content({name: Modality(values.double(), present) for name, (values, present) in found.items.items()})


def build(name: str, table: Interactions, **options: object) -> Encoder:
    more = {"content": content_for(graph_of(table))} if "content" in registry.encoders.find(name).reads else {}
    with isolated(0, "modules"):
        spec = {**spec_of(name, 4), **options}
        return registry.encoders.build(spec, table.num_users, table.num_items, **more).double()


def inputs_for(table: Interactions, users: list[int]) -> Inputs:
    graph = graph_of(table)
    return Inputs(torch.tensor(users), graph=graph, content=content_for(graph))


@pytest.mark.parametrize("name", NAMES)
def test_equals_a_naive_reference(name: str, table: Interactions) -> None:
    encoder = build(name, table).eval()
    users, items = REFERENCES[name](encoder, graph_of(table))
    encoding = encoder(inputs_for(table, [3, 0, 3]))
    torch.testing.assert_close(encoding.query, users[[3, 0, 3]])
    torch.testing.assert_close(encoding.items, items)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_gradient(name: str, table: Interactions) -> None:
    encoder = build(name, table)
    encoding = encoder(inputs_for(table, list(range(table.num_users))))
    (encoding.query @ encoding.items.T).square().sum().backward()
    for parameter, value in encoder.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_dtype(name: str, table: Interactions) -> None:
    for dtype in (torch.float32, torch.float64):
        inputs = inputs_for(table, [1, 2, 1])
        modalities = {
            name: Modality(values.to(dtype), present) for name, (values, present) in inputs.content.items.items()
        }
        encoding = build(name, table).to(dtype)(replace(inputs, content=Content(modalities)))
        assert encoding.query.shape == (3, 4)
        assert encoding.items.shape == (table.num_items, 4)
        assert encoding.query.dtype == encoding.items.dtype == dtype
        assert encoding.ego.items.shape == encoding.items.shape


@pytest.mark.parametrize("name", NAMES)
def test_eval_is_deterministic(name: str, table: Interactions) -> None:
    encoder = build(name, table).eval()
    one, two = encoder(inputs_for(table, [1, 2])), encoder(inputs_for(table, [1, 2]))
    assert torch.equal(one.query, two.query)
    assert torch.equal(one.items, two.items)


@pytest.mark.parametrize("name", NAMES)
def test_relabelling_users_and_items_permutes_the_output(name: str, table: Interactions) -> None:
    encoder = build(name, table).eval()
    new_user, new_item = torch.randperm(table.num_users), torch.randperm(table.num_items)  # of each old index
    relabelled = build(name, table).eval()
    for key, value in encoder.state_dict().items():
        moved = value.clone()
        for size, new in ((table.num_users, new_user), (table.num_items, new_item)):
            if value.dim() and len(value) == size:
                moved[new] = value
        relabelled.state_dict()[key].copy_(moved)
    graph = graph_of(table)
    moved_graph = BipartiteGraph.from_edges(
        new_user[graph.users], new_item[graph.items], table.num_users, table.num_items
    )
    users = torch.tensor([0, 5, 2])
    content = content_for(graph)
    old_item = torch.argsort(new_item)
    moved_content = Content({name: Modality(*(part[old_item] for part in one)) for name, one in content.items.items()})
    one = encoder(Inputs(users, graph=graph, content=content))
    two = relabelled(Inputs(new_user[users], graph=moved_graph, content=moved_content))
    torch.testing.assert_close(two.query, one.query)
    torch.testing.assert_close(two.items[new_item], one.items)


@pytest.mark.parametrize("name", NAMES)
def test_a_view_of_strength_zero_is_the_identity(name: str, table: Interactions) -> None:
    encoder = build(name, table).eval()
    inputs = inputs_for(table, [1, 2])
    unchanged = replace(
        inputs,
        graph=inputs.graph.keep(torch.ones(inputs.graph.num_edges, dtype=torch.bool)),
        perturb=lambda hidden: hidden + 0 * hidden,
    )
    one, two = encoder(inputs), encoder(unchanged)
    torch.testing.assert_close(one.query, two.query)
    torch.testing.assert_close(one.items, two.items)


@pytest.mark.parametrize("name", NAMES)
def test_the_perturbation_reaches_query_and_items(name: str, table: Interactions) -> None:
    encoder = build(name, table).eval()
    inputs = inputs_for(table, [1, 2])
    one, two = encoder(inputs), encoder(replace(inputs, perturb=lambda hidden: hidden + 1))
    assert (one.query - two.query).abs().min() > 1e-3
    assert (one.items - two.items).abs().min() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_learns_the_checkerboard(name: str) -> None:
    split = checkerboard()
    graph = graph_of(split.train)
    with isolated(0, "modules"):
        content = Content({"parity": Modality(torch.eye(2).repeat(15, 1), torch.ones(30, dtype=torch.bool))})
        more = {"content": content} if "content" in registry.encoders.find(name).reads else {}
        encoder = registry.encoders.build(spec_of(name, 16), 30, 30, **more)
    recommender = Recommender(encoder, {"rank": Dot(16)}, graph=graph, **more)
    objectives = Objectives({"rank": (1.0, BPR())})
    optimizer = torch.optim.Adam(recommender.parameters(), lr=0.02)
    batches = Batches(
        *(split.train, 128, torch_generator(0, "order"), torch_generator(0, "negatives")),
        graph=graph,
        sampler=Uniform(split.train),
        **more,
    )
    for _ in range(60):
        for batch in batches:
            optimizer.zero_grad()
            objectives(recommender, batch)[0].backward()
            optimizer.step()
    with torch.no_grad():
        scores = recommender.scorer()(torch.arange(30))
    scores[torch.from_numpy(split.train.csr().toarray() > 0)] = -torch.inf
    hit = (scores.argmax(1) == torch.arange(30)).float().mean().item()
    assert hit > 0.5  # chance is 1/16; a loop without zero_grad, or a shifted index, stays near it


def test_lightgcn_without_a_graph_says_what_to_give(table: Interactions) -> None:
    with pytest.raises(TypeError, match=r"got NoneType: make one with BipartiteGraph\.from_edges"):
        build("lightgcn", table)(Inputs(torch.tensor([0])))


def test_lightgcn_without_layers_is_matrix_factorisation(table: Interactions) -> None:
    encoder = build("lightgcn", table, num_layers=0)
    encoding = encoder(inputs_for(table, [4]))
    torch.testing.assert_close(encoding.query, encoder.users.weight[[4]])
    torch.testing.assert_close(encoding.items, encoder.items.weight)
