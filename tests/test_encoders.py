"""Every registered encoder: equals a naive reference, has no dead parameter, is deterministic, equivariant, learns.

Encoders are found by scanning the registry. A new one fails here until `REFERENCES` has a naive version of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import references
import references_fields
import references_sequence
import torch
import torch.nn.functional as F
from cases import checkerboard, graph_of, random_content, random_interactions
from test_trainer import NoWaiting
from torch import Tensor, nn

from recgraph import registry
from recgraph.data.interactions import Interactions
from recgraph.encoders import GAT, NGCF, ContentEncoder, Encoder, Fields, Hybrid, LightGCN, SequenceEncoder
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.heads import Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import BPR, Objectives
from recgraph.random import isolated, torch_generator
from recgraph.sampling.batches import Batches
from recgraph.sampling.negatives import Uniform
from recgraph.sampling.sequences import SequenceBatches
from recgraph.types import Content, Inputs, Modality

NAMES = list(registry.encoders.components())
OF_TABLES = [name for name in NAMES if registry.encoders.find(name).reads <= {"graph", "perturb"}]
OF_STD = [name for name in NAMES if "std" in registry.options(registry.encoders.find(name))]

Reference = Callable[[Encoder, Interactions], tuple[Tensor, Tensor]]


def lightgcn(encoder: LightGCN, table: Interactions) -> tuple[Tensor, Tensor]:
    graph = graph_of(table)
    edges = list(zip(graph.users.tolist(), graph.items.tolist(), strict=True))
    return references.lightgcn(encoder.users.weight, encoder.items.weight, edges, encoder.num_layers)


def ngcf(encoder: NGCF, table: Interactions) -> tuple[Tensor, Tensor]:
    graph = graph_of(table)
    edges = list(zip(graph.users.tolist(), graph.items.tolist(), strict=True))
    weights = [(one.weight, two.weight) for one, two in zip(encoder.sums, encoder.products, strict=True)]
    return references.ngcf(encoder.users.weight, encoder.items.weight, edges, weights)


def gat(encoder: GAT, table: Interactions) -> tuple[Tensor, Tensor]:
    graph = graph_of(table)
    edges = list(zip(graph.users.tolist(), graph.items.tolist(), strict=True))
    relations = [(relation.weight, relation.bias) for relation in (encoder.to_users, encoder.to_items)]
    return references.gat(encoder.users.weight, encoder.items.weight, edges, relations, encoder.num_layers)[:2]


def content(encoder: ContentEncoder, table: Interactions) -> tuple[Tensor, Tensor]:
    return encoder.user_tower.weight, references.content_tower(encoder.item_tower, content_for(graph_of(table)).items)


def fields(encoder: Fields, table: Interactions) -> tuple[Tensor, Tensor]:
    sides = (encoder.users, table.num_users, {}), (encoder.items, table.num_items, content_for(graph_of(table)).items)
    made = [
        torch.stack([torch.cat(references_fields.fields(tables, row, modalities, {})) for row in range(rows)])
        for tables, rows, modalities in sides
    ]
    width = max(vectors.shape[1] for vectors in made)
    users, items = (F.pad(vectors, (0, width - vectors.shape[1])) for vectors in made)
    return users, items


def hybrid(encoder: Hybrid, table: Interactions) -> tuple[Tensor, Tensor]:
    users, known = lightgcn(encoder.graph, table)
    graph = graph_of(table)
    made = references.content_tower(encoder.item_tower, content_for(graph).items)
    return users, references.hybrid(known, made, graph.items.tolist(), encoder.shrinkage)


def sequential(query: Callable[[Encoder, list[int]], list[Tensor]]) -> Reference:
    """From a function of one history to the queries of all users."""

    def reference(encoder: Encoder, table: Interactions) -> tuple[Tensor, Tensor]:
        owners = table.user_indices
        queries = [query(encoder, table.item_indices[owners == user].tolist())[-1] for user in range(table.num_users)]
        return torch.stack(queries), encoder.items.weight

    return reference


REFERENCES: dict[str, Reference] = {
    "content": content,
    "fields": fields,
    "hybrid": hybrid,
    "embedding": lambda encoder, table: (encoder.users.weight, encoder.items.weight),
    "gat": gat,
    "lightgcn": lightgcn,
    "ngcf": ngcf,
    "attentive": sequential(references_sequence.attentive),
    "gru4rec": sequential(references_sequence.gru4rec),
    "bert4rec": sequential(references_sequence.bert4rec),
    "pooling": sequential(references_sequence.pooling),
    "sasrec": sequential(references_sequence.sasrec),
}
"""Encoder -> (vectors of all users, vectors of all items) by loops and dense matrices."""


@pytest.fixture
def table() -> Interactions:
    return random_interactions(num_users=13)  # as is the number of items, no width of any parameter


def spec_of(name: str, dim: int) -> dict[str, object]:
    if name == "hybrid":  # shrinkage: so that a warm item shows its content too
        return {"name": name, "graph": {"name": "lightgcn", "dim": dim}, "shrinkage": 2.0, "hidden": 8}
    return {"name": name, "dim": dim, **({"wide": False, "std": 0.1} if name == "fields" else {})}


def content_for(graph: BipartiteGraph) -> Content:
    found = random_content(graph.num_users, graph.num_items)
    return Content({name: Modality(values.double(), present) for name, (values, present) in found.items.items()})


def build(name: str, table: Interactions, *, dim: int = 4, **options: object) -> Encoder:
    more = {"content": content_for(graph_of(table))} if "content" in registry.encoders.find(name).reads else {}
    with isolated(0, "modules"):
        spec = {**spec_of(name, dim), **options}
        return registry.encoders.build(spec, table.num_users, table.num_items, **more).double()


def inputs_for(table: Interactions, users: list[int]) -> Inputs:
    graph, rows = graph_of(table), torch.tensor(users)
    return Inputs(rows, table.histories.last(rows, 50), graph, content=content_for(graph))


@pytest.mark.parametrize("name", NAMES)
def test_equals_a_naive_reference(name: str, table: Interactions) -> None:
    encoder = build(name, table).eval()
    users, items = REFERENCES[name](encoder, table)
    encoding = encoder(inputs_for(table, [3, 0, 3]))
    torch.testing.assert_close(encoding.query, users[[3, 0, 3]])
    torch.testing.assert_close(encoding.items, items)


@pytest.mark.parametrize("name", OF_TABLES)
def test_ego_holds_the_rows_of_the_tables(name: str, table: Interactions) -> None:
    encoder = build(name, table)
    ego = encoder(inputs_for(table, [3, 0, 3])).ego
    assert torch.equal(ego.query, encoder.users.weight[[3, 0, 3]])
    assert torch.equal(ego.items, encoder.items.weight)


@pytest.mark.parametrize("std", [0.02, 0.5])
@pytest.mark.parametrize("name", OF_STD)
def test_tables_start_with_the_standard_deviation_that_is_asked_for(name: str, std: float) -> None:
    encoder = build(name, random_interactions(1000, 1000, density=0.01), dim=64, std=std)
    tables = [part.weight for part in encoder.modules() if isinstance(part, nn.Embedding) and len(part.weight) == 1000]
    assert tables
    assert [one.std().item() for one in tables] == pytest.approx([std] * len(tables), rel=0.02)


def test_ngcf_starts_xavier_uniform(table: Interactions) -> None:
    for weight in build("ngcf", table, dim=64).parameters():
        assert weight.abs().max().item() == pytest.approx((6 / sum(weight.shape)) ** 0.5, rel=0.02)


def test_ngcf_drops_messages_in_training_alone(table: Interactions) -> None:
    encoder, inputs = build("ngcf", table, dim=64, num_layers=1, message_dropout=0.3), inputs_for(table, [0])
    with isolated(0, "dropout"):
        dropped = encoder(inputs).items == 0
    assert dropped[:, 64:].double().mean() == pytest.approx(0.3, abs=0.06)  # four standard deviations of 832 values
    assert not dropped[:, :64].any()
    assert (encoder.eval()(inputs).items != 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_gradient(name: str, table: Interactions) -> None:
    encoder = build(name, table)
    encoding = encoder(inputs_for(table, list(range(table.num_users))))
    # The second term: zeros of a shorter query would hide columns of the items.
    (encoding.query @ encoding.items.T + encoding.items.square().sum(-1)).square().sum().backward()
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
        encoder = build(name, table).to(dtype)
        encoding = encoder(replace(inputs, content=Content(modalities)))
        assert encoding.query.shape == (3, encoder.dim)
        assert encoding.items.shape == (table.num_items, encoder.dim)
        assert encoding.query.dtype == encoding.items.dtype == dtype
        assert encoding.ego.items.shape == (table.num_items, 4)
        assert (encoding.sides is not None) == encoder.two_sided


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
    history = table.histories.last(users, 50)
    moved_history = torch.where(history > 0, new_item[history - 1] + 1, 0)
    content = content_for(graph)
    old_item = torch.argsort(new_item)
    moved_content = Content({name: Modality(*(part[old_item] for part in one)) for name, one in content.items.items()})
    one = encoder(Inputs(users, history, graph, content=content))
    two = relabelled(Inputs(new_user[users], moved_history, moved_graph, content=moved_content))
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
    shift = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)  # not the same in all, which LN would undo
    one, two = encoder(inputs), encoder(replace(inputs, perturb=lambda hidden: hidden + shift))
    # Of every row: layer 0, which nothing perturbs, may stand beside the others.
    assert (one.query - two.query).abs().amax(-1).min() > 1e-3
    assert (one.items - two.items).abs().amax(-1).min() > 1e-3


class AsOnCuda(NoWaiting):
    """Sparse products there take no bfloat16, and `embedding_bag` is what stands for them here."""

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if "embedding_bag" in str(op) and "backward" not in str(op):
            assert args[0].dtype == torch.float32
        return super().__torch_dispatch__(op, types, args, kwargs)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_pass_waits_for_no_gpu_and_can_be_in_bfloat16(name: str, bf16: bool, table: Interactions) -> None:
    encoder, inputs = build(name, table, dim=16).float(), inputs_for(table, list(range(table.num_users)))
    inputs = replace(inputs, content=random_content(table.num_users, table.num_items))
    exact = encoder.eval()(inputs)
    with AsOnCuda(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        encoding = encoder(inputs)
        (encoding.query @ encoding.items.T).square().sum().backward()
    for found, expected in ((encoding.query, exact.query), (encoding.items, exact.items)):
        error = (found - expected).norm() / expected.norm()
        assert error < (0.02 if bf16 else 1e-6)
    assert all(parameter.grad.dtype == torch.float32 for parameter in encoder.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_learns_the_checkerboard(name: str) -> None:
    split = checkerboard()
    graph = graph_of(split.train)
    with isolated(0, "modules"):
        kind = registry.encoders.find(name)
        certain = {"dropout": 0.0} if "dropout" in registry.options(kind) else {}  # with it, 60 epochs are few for GRUs
        content = Content({"parity": Modality(torch.eye(2).repeat(15, 1), torch.ones(30, dtype=torch.bool))})
        more = {"content": content} if "content" in kind.reads else {}
        encoder = registry.encoders.build(spec_of(name, 16) | certain, 30, 30, **more)
    recommender = Recommender(encoder, {"rank": Dot(encoder.dim)}, graph=graph, **more)
    objectives = Objectives({"rank": (1.0, BPR())})
    # norms behind the blocks, and no warm-up: at .02 half of all seeds never leave the start
    optimizer = torch.optim.Adam(recommender.parameters(), lr=0.005 if name == "bert4rec" else 0.02)
    kind, size = (SequenceBatches, 8) if isinstance(encoder, SequenceEncoder) else (Batches, 128)
    batches = kind(
        *(split.train, size, torch_generator(0, "order"), torch_generator(0, "negatives")),
        graph=graph,
        sampler=Uniform(split.train),
        **({"targets": "masked"} if "every" not in getattr(encoder, "targets", {"every"}) else {}),
        **more,
    )
    recommender.observe(split.train)
    for _ in range(60):
        for batch in batches:
            optimizer.zero_grad()
            objectives(recommender, batch)[0].backward()
            optimizer.step()
    with torch.no_grad():
        scores = recommender.eval().scorer()(torch.arange(30))
    scores[torch.from_numpy(split.train.csr().toarray() > 0)] = -torch.inf
    hit = (scores.argmax(1) == torch.arange(30)).float().mean().item()
    assert hit > 0.5  # chance is 1/16; a loop without zero_grad, or a shifted index, stays near it


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_of_everybody_whoever_asks(name: str, table: Interactions) -> None:
    found = build(name, table).eval()(replace(inputs_for(table, [1, 2]), every_layer=True)).layers
    for users, items in found or ():
        assert (len(users), len(items)) == (table.num_users, table.num_items)


def test_lightgcn_without_a_graph_says_what_to_give(table: Interactions) -> None:
    with pytest.raises(TypeError, match=r"got NoneType: make a graph with BipartiteGraph\.from_edges"):
        build("lightgcn", table)(Inputs(torch.tensor([0])))


def test_lightgcn_without_layers_is_matrix_factorisation(table: Interactions) -> None:
    encoder = build("lightgcn", table, num_layers=0)
    encoding = encoder(inputs_for(table, [4]))
    torch.testing.assert_close(encoding.query, encoder.users.weight[[4]])
    torch.testing.assert_close(encoding.items, encoder.items.weight)
