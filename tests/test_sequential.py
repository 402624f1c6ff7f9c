"""What encoders of histories share: every step, padding, no look ahead; vectors from elsewhere, and of users."""

from __future__ import annotations

from typing import Any

import pytest
import references
import references_sequence
import torch
from cases import graph_of, random_interactions
from torch import Tensor

from recgraph import registry
from recgraph.encoders import LightGCN, SequenceEncoder
from recgraph.errors import ConfigError
from recgraph.experiments.compatibility import reads_of
from recgraph.heads import Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import BPR, Objectives
from recgraph.random import isolated, torch_generator
from recgraph.sampling.negatives import Uniform
from recgraph.sampling.sequences import SequenceBatches
from recgraph.types import MASK, Inputs

NAMES = ["attentive", "gru4rec", "pooling", "sasrec"]
HISTORY = [[0, 0, 3, 5, 1], [2, 2, 9, 11, 4], [0, 0, 0, 0, 8]]
GRAPH = {"items": {"name": "lightgcn", "dim": 4, "num_layers": 2, "std": 0.5}}


def build(name: str, **options: Any) -> SequenceEncoder:
    with isolated(0, "modules"):
        spec = {"name": name, "dim": 4, "max_length": 7, "std": 0.5, **options}
        encoder = registry.encoders.build(spec, 12, 17).double()
        for parameter in encoder.parameters():  # no neutral values, which a mistake could hide behind
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter)
    return encoder.eval()


def queries(encoder: SequenceEncoder, history: list[list[int]]) -> Tensor:
    """The query at every step, [batch, length, dim]."""
    steps = torch.tensor(history)
    graph = graph_of(random_interactions())
    inputs = Inputs(torch.arange(len(steps)), steps, graph, positions=torch.arange(steps.numel()))
    return encoder(inputs).query.view(*steps.shape, -1)


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in NAMES), ("gru4rec", {"num_layers": 2})])
def test_the_query_at_each_step_equals_loops(name: str, options: dict[str, Any]) -> None:
    encoder = build(name, **options)
    for row, vectors in zip(HISTORY, queries(encoder, HISTORY), strict=True):
        items = [item - 1 for item in row if item]
        expected = torch.stack(getattr(references_sequence, name)(encoder, items))
        torch.testing.assert_close(vectors[-len(items) :], expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_never_sees_a_later_one(name: str) -> None:
    encoder = build(name)
    before, after = queries(encoder, [[0, 5, 1, 7, 2]]), queries(encoder, [[0, 5, 1, 9, 2]])
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=0)
    assert ((before - after)[:, 3:].abs() > 1e-9).any(-1).all()


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing_and_nothing_but_padding_is_finite(name: str) -> None:
    encoder = build(name)
    one = queries(encoder, [[3, 5]])
    for width in (1, 5):
        torch.testing.assert_close(queries(encoder, [[0] * width + [3, 5]])[:, width:], one)
    encoder.train()
    query = queries(encoder, [[0, 0, 0], [0, 0, 4]])
    assert query.isfinite().all()
    query.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_a_hidden_item_is_a_step_of_no_vector_and_no_padding(name: str) -> None:
    encoder = build(name)
    hidden = queries(encoder, [[3, MASK, 5]])[:, -1]
    with torch.no_grad():
        encoder.items.weight[10] = 0
    torch.testing.assert_close(hidden, queries(encoder, [[3, 11, 5]])[:, -1])
    assert not torch.allclose(hidden, queries(encoder, [[0, 3, 5]])[:, -1])


@pytest.mark.parametrize("name", NAMES)
def test_vectors_of_a_graph_are_read_and_compared_with(name: str) -> None:
    encoder, table = build(name, **GRAPH), random_interactions()
    assert encoder.reads == {"history", "graph", "perturb"}
    assert not any(key.startswith("items.") for key in encoder.state_dict())
    edges = list(zip(table.user_indices.tolist(), table.item_indices.tolist(), strict=True))
    _, items = references.lightgcn(encoder.source.users.weight, encoder.source.items.weight, edges, 2)
    encoding = encoder(Inputs(torch.tensor([1]), torch.tensor([[3, 5]]), graph_of(table)))
    torch.testing.assert_close(encoding.items, items)
    assert encoding.ego.items is encoder.source.items.weight
    plain = build(name)
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if not k.startswith("source")}, strict=False)
    with torch.no_grad():
        plain.items.weight.copy_(items)
    torch.testing.assert_close(encoding.query, queries(plain, [[3, 5]])[:, -1])


def test_a_gate_mixes_table_and_graph() -> None:
    encoder, table = build("attentive", **GRAPH, item_table=True), random_interactions()
    inputs = Inputs(torch.tensor([1]), torch.tensor([[3, 5]]), graph_of(table))
    graph, own = encoder.source(inputs).items, encoder.items.weight
    gate = encoder.item_gate.weight
    expected = []
    for one, two in zip(own, graph, strict=True):
        share = 1 / (1 + torch.exp(-(gate.weight @ torch.cat([one, two]) + gate.bias)))
        expected.append(share * one + (1 - share) * two)
    torch.testing.assert_close(encoder(inputs).items, torch.stack(expected))


@pytest.mark.parametrize("options", [{}, GRAPH], ids=["table", "graph"])
@pytest.mark.parametrize("user", ["sum", "gate"])
def test_queries_hold_the_users_own_vector(user: str, options: dict[str, Any]) -> None:
    plain, fused, graph = build("attentive"), build("attentive", **options, user=user), graph_of(random_interactions())
    users, history = torch.tensor([4, 1]), torch.tensor([[2, 3, 5], [0, 0, 8]])
    inputs = Inputs(users, history, graph, positions=torch.tensor([2, 5, 1]))
    own = fused.users.weight[users] if not options else fused.source(Inputs(users, graph=graph)).query
    with torch.no_grad():
        plain.load_state_dict(fused.state_dict() | {"items.weight": fused.catalogue(inputs).items}, strict=False)
    read, rows = plain(inputs).query, own[[0, 1, 0]]  # flat places 2 and 1 are of the first row
    expected = read + rows if user == "sum" else fused.user_gate(read, rows)
    torch.testing.assert_close(fused(inputs).query, expected)


@pytest.mark.parametrize("name", NAMES)
def test_all_parts_together_train_and_rank_everybody(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recgraph.models.recommender.PIECE", 5)
    table = random_interactions()
    with isolated(0, "modules"):
        encoder = build(name, **GRAPH, item_table=True, user="gate").float()
        recommender = Recommender(encoder, {"rank": Dot(4)}, graph=graph_of(table))
        batches = SequenceBatches(
            *(table, 4, torch_generator(0, "order"), torch_generator(0, "negatives")),
            graph=recommender.graph,
            sampler=Uniform(table),
            max_length=7,
        )
        recommender.train()
        for batch in batches:
            Objectives({"rank": (1.0, BPR())})(recommender, batch)[0].backward()
    # In the longest pieces of the history alone, "distance" and positions have rows that nobody reaches.
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in recommender.parameters())
    recommender.eval().observe(table)
    with torch.no_grad():
        scores = recommender.scorer()(torch.tensor([7, 2]))
        for row, user in zip(scores, (7, 2), strict=True):
            history = table.histories.last(torch.tensor([user]), 7)
            encoding = encoder(Inputs(torch.tensor([user]), history, recommender.graph))
            torch.testing.assert_close(row, encoding.items @ encoding.query[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"items": {"name": "lightgcn", "dim": 8}}, "expected an encoder of dim 4 that reads no histories"),
        ({"items": {"name": "gru4rec", "dim": 4}}, "reads no histories, got a GRU4Rec"),
        ({"item_table": True}, "there is nothing to mix the table with"),
        ({"items": {"name": "lightgcm"}}, r"items: no encoder 'lightgcm'. Did you mean 'lightgcn'"),
        ({"items": {"name": "lightgcn", "layers": 2}}, r"items\.layers: encoder 'lightgcn' takes no 'layers'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("sasrec", **options)


def test_an_encoder_reads_what_the_one_within_it_reads() -> None:
    spec = registry.encoders.check({"name": "sasrec", **GRAPH}, "encoder")
    assert reads_of(spec) == {"history", "graph", "perturb"}
    assert spec["items"]["std"] == 0.5
    assert reads_of(registry.encoders.check("sasrec", "encoder")) == {"history", "perturb"}
    assert reads_of(registry.encoders.check("lightgcn", "encoder")) == LightGCN.reads
