"""Who gets which vector: warm items the graph's, cold ones their content's, of one length; and how that trains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import graph_of, random_content, random_interactions

from recgraph import registry
from recgraph.encoders import Hybrid
from recgraph.encoders.tower import Experts, Tower
from recgraph.errors import ConfigError
from recgraph.graph import Links
from recgraph.random import isolated
from recgraph.types import Content, Encoding, Inputs, Modality

TABLE = random_interactions()
COLD = [2, 9]
TRAIN = TABLE.select(~torch.isin(torch.from_numpy(TABLE.item_indices), torch.tensor(COLD)).numpy())
GRAPH = graph_of(TRAIN)
WARM = [item for item in range(TABLE.num_items) if item not in COLD]


def built(users: bool = False, **options: Any) -> tuple[Hybrid, Inputs]:
    content = random_content(TABLE.num_users, TABLE.num_items, users=users)
    spec = {"name": "hybrid", "graph": {"name": "lightgcn", "dim": 4}, **options}
    with isolated(0, "modules"):
        encoder = registry.encoders.build(spec, TABLE.num_users, TABLE.num_items, content=content)
    return encoder.eval(), Inputs(torch.tensor([3, 0, 3]), graph=GRAPH, content=content)


def test_warm_items_have_the_graphs_vectors_and_cold_ones_their_contents() -> None:
    encoder, inputs = built()
    found, plain = encoder(inputs), encoder.graph(inputs)
    assert torch.equal(found.items[WARM], plain.items[WARM])
    assert torch.equal(found.query, plain.query)
    assert torch.equal(found.items[COLD], found.sides.content[COLD])
    towers = encoder.item_tower(inputs.content.items)
    torch.testing.assert_close(torch.cosine_similarity(found.items[COLD], towers[COLD]), torch.ones(2))
    assert torch.equal(found.sides.collaborative, plain.items)


def test_cold_items_are_as_long_as_warm_ones_in_the_mean_without_shortening_them() -> None:
    encoder, inputs = built()
    found = encoder(inputs)
    mean = found.items[WARM].norm(dim=1).mean()
    torch.testing.assert_close(found.items[COLD].norm(dim=1), mean.expand(2))
    found.sides.content.square().sum().backward()
    assert encoder.graph.items.weight.grad is None or not encoder.graph.items.weight.grad.any()


def test_nothing_of_a_cold_item_but_its_content_counts() -> None:
    encoder, inputs = built()
    before = encoder(inputs).items
    with torch.no_grad():
        encoder.graph.items.weight[COLD] = 100.0  # of the rows that nobody trained
    assert torch.equal(encoder(inputs).items, before)


def test_dropout_shows_warm_items_as_cold_ones_in_training_only() -> None:
    encoder, inputs = built(dropout=0.5)
    plain = encoder(inputs)
    assert torch.equal(plain.items[WARM], plain.sides.collaborative[WARM])
    encoder.train()
    shown = []
    with isolated(0, "test"):
        for _ in range(200):
            found = encoder(inputs)
            by_content = (found.items == found.sides.content).all(1)
            assert torch.equal(found.items[~by_content], found.sides.collaborative[~by_content])
            shown.append(by_content)
    rates = torch.stack(shown).float().mean(0)
    assert (rates[COLD] == 1).all()
    assert rates[WARM].mean() == pytest.approx(0.5, abs=0.03)


def test_users_with_content_are_mixed_as_items_are() -> None:
    train = TRAIN.select(TRAIN.user_indices != 3)
    encoder, inputs = built(users=True)
    inputs = replace(inputs, graph=graph_of(train))
    found, plain = encoder(inputs), encoder.graph(inputs)
    torch.testing.assert_close(found.query[1], plain.query[1])
    tower = encoder.user_tower(inputs.content.users)[3]
    torch.testing.assert_close(torch.cosine_similarity(found.query[0], tower, dim=0), torch.tensor(1.0))
    everybody = encoder(replace(inputs, users=torch.arange(TABLE.num_users)))
    torch.testing.assert_close(found.query, everybody.query[[3, 0, 3]])
    assert torch.equal(found.ego.query, encoder.graph.users.weight[[3, 0, 3]])


@pytest.mark.parametrize("name", ["hybrid", "content"])
def test_users_may_be_the_only_ones_with_content(name: str) -> None:
    """A user nobody knows is what the attributes say; items keep vectors of their own."""
    inputs = built(users=True)[1]
    content = Content({}, inputs.content.users)
    spec = {"name": name} | ({"graph": {"name": "lightgcn", "dim": 4}} if name == "hybrid" else {"dim": 4})
    with isolated(0, "modules"):
        encoder = registry.encoders.build(spec, TABLE.num_users, TABLE.num_items, content=content).eval()
    inputs = replace(inputs, content=content, graph=graph_of(TRAIN.select(TRAIN.user_indices != 3)))
    found = encoder(inputs)
    torch.testing.assert_close(
        torch.cosine_similarity(found.query[0], encoder.user_tower(content.users)[3], dim=0), torch.tensor(1.0)
    )
    own = encoder.graph(inputs).items if name == "hybrid" else encoder.item_tower.weight
    assert torch.equal(found.items, own)
    assert found.sides is None


def test_layers_are_handed_on() -> None:
    for users in (False, True):
        encoder, inputs = built(users=users)
        found = encoder(replace(inputs, every_layer=True))
        assert [len(users) for users, _ in found.layers] == [TABLE.num_users] * 4


def test_attention_weights_are_of_what_is_there() -> None:
    encoder, inputs = built()
    weights = torch.stack(list(encoder.item_tower.weights(inputs.content.items).values()), 1)
    present = torch.stack([one.present for one in inputs.content.items.values()], 1)
    assert (weights[~present] == 0).all()
    torch.testing.assert_close(weights.sum(1), present.any(1).float())
    assert (weights[present.all(1)].min(1).values > 0).all()


def test_who_has_no_content_is_average_and_one_modality_needs_no_attention() -> None:
    content = Content({"text": random_content(3, 8).items["text"]})
    tower = Tower(content.items, dim=4, hidden=0, dropout=0.0)
    assert tower.attend is None
    found, present = tower(content.items), content.items["text"].present
    torch.testing.assert_close(found[~present], found[present].mean(0).expand((~present).sum(), 4))
    nobody = {"text": Modality(torch.zeros(8, 6), torch.zeros(8, dtype=torch.bool))}
    assert tower(nobody).tolist() == [[0.0] * 4] * 8


def test_a_tower_tells_single_numbers_apart() -> None:
    """LayerNorm over one number is 0 whatever it is."""
    years = Modality(torch.tensor([[-1.0], [0.5], [2.0]]), torch.ones(3, dtype=torch.bool))
    vectors = Tower({"year": years}, dim=4, hidden=0, dropout=0.0)({"year": years})
    torch.testing.assert_close(vectors[2] - vectors[1], vectors[1] - vectors[0])
    assert (vectors[1] - vectors[0]).norm() > 0


def test_absent_values_do_not_matter() -> None:
    encoder, inputs = built()
    values, present = inputs.content.items["text"]
    junk = Modality(torch.where(present[:, None], values, 7.0), present)
    other = replace(inputs, content=Content({**inputs.content.items, "text": junk}))
    assert torch.equal(encoder(other).items, encoder(inputs).items)


def test_what_does_not_fit_is_explained() -> None:
    encoder, inputs = built()
    with pytest.raises(TypeError, match=r"reads `Inputs.content`, and there is none"):
        encoder(replace(inputs, content=None))
    with pytest.raises(TypeError, match="reads a BipartiteGraph, got NoneType"):
        encoder(replace(inputs, graph=None))
    with pytest.raises(ConfigError, match=r"hybrid.graph: no encoder 'lightgnc'. Did you mean 'lightgcn'\?"):
        registry.encoders.check({"name": "hybrid", "graph": "lightgnc"}, "hybrid")
    with pytest.raises(ConfigError, match=r"hybrid.graph: Field required"):
        registry.encoders.check("hybrid", "hybrid")
    with pytest.raises(ConfigError, match=r"hybrid.graph.num_layers: .* greater than or equal to 0"):
        registry.encoders.check({"name": "hybrid", "graph": {"name": "lightgcn", "num_layers": -1}}, "hybrid")
    with pytest.raises(ConfigError, match="no modality is given; add one of items or of users"):
        registry.encoders.build({"name": "content"}, 3, 4, content=Content({}))


def test_a_hybrid_of_factorisation_needs_no_propagation() -> None:
    encoder, inputs = built(graph={"name": "embedding", "dim": 4})
    found: Encoding = encoder(inputs)
    assert torch.equal(found.items[WARM], encoder.graph.items.weight[WARM])


def test_experts_are_summed_as_their_gates_say() -> None:
    encoder, inputs = built(experts=3, hidden=5)
    norm, experts = encoder.item_tower.towers["text"]
    assert isinstance(experts, Experts)
    values = inputs.content.items["text"].values
    expected = torch.zeros(len(values), 4)
    for row, vector in enumerate(norm(values)):
        for number, network in enumerate(experts.networks):
            gate = torch.tanh(experts.gate.weight[number] @ vector + experts.gate.bias[number])
            expected[row] += gate * network(vector)
    torch.testing.assert_close(experts(norm(values)), expected)
    assert len({tuple(network[0].weight.flatten().tolist()) for network in experts.networks}) == 3
    assert encoder(inputs).items.isfinite().all()


def test_a_link_counts_as_much_as_its_weight_when_vectors_are_mixed() -> None:
    encoder, inputs = built(shrinkage=1.5)
    links = Links.of(torch.tensor([2]), torch.tensor([5]), torch.tensor([0.5]), TABLE.num_items)
    graph = GRAPH.linked(items=links)
    found = encoder(replace(inputs, graph=graph))
    known, content = found.sides
    degrees = graph.item_degrees.float()
    degrees[[2, 5]] += 0.5
    share = (degrees / (degrees + 1.5))[:, None]
    torch.testing.assert_close(found.items, share * known + (1 - share) * content)
    assert torch.equal(found.items[9], content[9])  # the other cold item has no link


def test_modalities_may_weigh_alike() -> None:
    encoder, inputs = built(fusion="mean", hidden=0)
    tower, modalities = encoder.item_tower, inputs.content.items
    found = tower(modalities)
    for row in range(TABLE.num_items):
        there = [tower.towers[name](values[row]) for name, (values, present) in modalities.items() if present[row]]
        if there:
            torch.testing.assert_close(found[row], torch.stack(there).mean(0))
    assert tower.attend is None
