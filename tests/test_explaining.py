"""Explanations say what the model does: weights are those it used, contributions add up, titles belong to items."""

from __future__ import annotations

import math
from typing import Any

import pytest
import references
import references_sequence
import torch
from cases import graph_of, random_content, random_interactions
from torch import Tensor, nn

from recgraph import registry
from recgraph.data.interactions import Interactions
from recgraph.encoders import SASRec
from recgraph.encoders.transformer import Attention, causal
from recgraph.errors import ConfigError, DataError
from recgraph.explaining.explanation import explain
from recgraph.explaining.panels import Bars, Grid
from recgraph.graph.links import Links
from recgraph.heads import Head
from recgraph.models.model import catalogue_of
from recgraph.models.recommender import Recommender
from recgraph.random import isolated

LENGTH = 4


def build(encoder: dict[str, Any], head: Any = "dot") -> tuple[Recommender, Interactions]:
    table = random_interactions()
    spec = {"encoder": {"dim": 6, **encoder}, "heads": {"rank": head}}
    if encoder["name"] == "hybrid":
        del spec["encoder"]["dim"]
    content = random_content(12, 17) if encoder["name"] in ("content", "hybrid", "fields") else None
    with isolated(0, "modules"):
        model = Recommender.build(12, 17, spec, graph_of(table), content).eval()
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    model.catalogue = catalogue_of(table, [table], [f"Film {item}" for item in table.items.ids])
    model.observe(table)
    return model, table


def history(table: Interactions, user: int, length: int = LENGTH) -> list[int]:
    """By the table itself: rows are in order of time."""
    return table.item_indices[table.user_indices == user].tolist()[-length:]


def titled(table: Interactions, items: list[int]) -> list[str]:
    return [f"Film {table.items.ids[item]}" for item in items]


@pytest.mark.parametrize("name", ["attentive", "pooling"])
@pytest.mark.parametrize("head", ["dot", "cosine", "gmf", {"name": "cosine", "popularity": 0.3}])
@pytest.mark.parametrize("user", ["history", "sum"])
def test_contributions_of_a_pooled_history_add_up_to_the_score(name: str, head: Any, user: str) -> None:
    model, table = build({"name": name, "max_length": LENGTH, "user": user}, head)
    item = int(table.items.ids[5])
    found = explain(model, table.users.ids[3], item)
    *weights, parts = found.panels
    assert isinstance(parts, Bars)
    assert list(parts.names) == titled(table, history(table, 3))
    if name == "attentive":
        assert list(weights[0].names) == list(parts.names)
        assert sum(weights[0].values) == pytest.approx(1, abs=1e-6)
    with torch.no_grad():
        score = model.scorer()(torch.tensor([3]))[0, 5].item()
    assert found.score == parts.total == pytest.approx(score, abs=1e-6)
    # Parts and rest, each by itself: with a rest that is a difference, any parts add up.
    vectors = model.encoder.items.weight.detach()
    own = torch.zeros(6) if user == "history" else model.encoder.users.weight[3].detach()
    read = getattr(references_sequence, name)(model.encoder, history(table, 3))[-1].detach()
    steps = vectors[history(table, 3)]
    shares = torch.tensor(weights[0].values if weights else [1 / len(steps)] * len(steps))
    torch.testing.assert_close(shares @ steps, read)
    times, constant, rest = vectors[5], 0.0, {}
    if head == "gmf":
        output = model.head("rank").output
        times, constant = times * output.weight[0].detach(), output.bias.item()
    elif head != "dot":
        times = times / ((read + own).norm() * times.norm())
    if user == "sum" or head == "gmf":
        rest["the user's own vector and the head's constant"] = (own @ times).item() + constant
    if isinstance(head, dict):
        rest["how popular the item is"] = 0.3 * math.log(1 + (table.item_indices == 5).sum())
    assert parts.values == pytest.approx((shares * (steps @ times)).tolist(), abs=1e-6)
    assert (parts.rest or {}) == pytest.approx(rest, abs=1e-5)
    assert sum(parts.values) + sum(rest.values()) == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("head", ["dot", "gmf", {"name": "cosine", "popularity": 0.3}])
def test_paths_of_a_graph_with_links_add_up_too(head: Any) -> None:
    model, table = build({"name": "lightgcn", "layer_weights": [0.4, 0.3, 0.2, 0.1]}, head)
    pairs = set(zip(table.user_indices.tolist(), table.item_indices.tolist(), strict=True))
    item = next(item for item in range(17) if (3, item) not in pairs)
    friends = Links.of(torch.tensor([3, 3, 1]), torch.tensor([1, 7, 2]), torch.tensor([1.0, 2.0, 0.5]), 12)
    alike = Links.of(torch.tensor([item, 0]), torch.tensor([(item + 1) % 17, 16]), torch.tensor([1.5, 1.0]), 17)
    model.graph = graph_of(table).linked(friends, alike)
    with torch.no_grad():
        score = model.scorer()(torch.tensor([3]))[0, item].item()
    for panel in explain(model, table.users.ids[3], int(table.items.ids[item])).panels:
        assert sum(panel.values) + sum(panel.rest.values()) == pytest.approx(score, abs=1e-5)
        assert panel.total == pytest.approx(score, abs=1e-5)
        assert any("links" in name for name in panel.rest)


@pytest.mark.parametrize("encoder", [{"name": "lightgcn"}, {"name": "gat", "num_heads": 2}])
def test_paths_of_a_graph_add_up_to_the_score_and_are_paths(encoder: dict[str, Any]) -> None:
    model, table = build(encoder)
    pairs = set(zip(table.user_indices.tolist(), table.item_indices.tolist(), strict=True))
    item = next(item for item in range(17) if (3, item) not in pairs)
    found = explain(model, table.users.ids[3], int(table.items.ids[item]))
    with torch.no_grad():
        score = model.scorer()(torch.tensor([3]))[0, item].item()
    assert found.score == pytest.approx(score, abs=1e-5)
    because, paths = found.panels
    assert set(because.names) == set(titled(table, history(table, 3, 99)))
    expected = {
        (f"Film {table.items.ids[j]}", f" → user {table.users.ids[v]}")
        for v, j in pairs
        if (3, j) in pairs and (v, item) in pairs
    }
    assert set(zip(paths.names, paths.tails, strict=True)) == expected
    for panel in (because, paths):
        assert sum(panel.values) + sum(panel.rest.values()) == pytest.approx(score, abs=1e-5)
        assert panel.total == pytest.approx(score, abs=1e-5)


def test_attention_is_that_of_loops() -> None:
    model, table = build({"name": "sasrec", "max_length": LENGTH, "num_heads": 2, "num_blocks": 2})
    found = explain(model, table.users.ids[3])
    (panel,) = found.panels
    assert isinstance(panel, Grid)
    assert list(panel.names) == titled(table, history(table, 3))
    assert panel.columns == ["block 1 head 1", "block 1 head 2", "block 2 head 1", "block 2 head 2"]
    values = torch.tensor(panel.values)
    torch.testing.assert_close(values.sum(0), torch.ones(4))
    encoder = model.encoder
    assert isinstance(encoder, SASRec)
    steps = [encoder.items.weight[i] * encoder.scale for i in history(table, 3)]
    steps = [step + place for step, place in zip(steps, encoder.positions[-len(steps) :], strict=True)]
    block = encoder.blocks[0]
    query = references_sequence.linear(block.attention.query, references_sequence.normed(block.first, steps[-1]))
    for head in range(2):
        mine = slice(3 * head, 3 * head + 3)
        keys = [references_sequence.linear(block.attention.key_value, step)[:6][mine] for step in steps]
        powers = torch.stack([torch.exp(query[mine] @ key / 3**0.5) for key in keys])
        torch.testing.assert_close(values[:, head], (powers / powers.sum()).detach())


def test_attention_beside_a_filter_says_how_much_it_counts() -> None:
    spec = {"name": "sasrec", "max_length": LENGTH, "num_heads": 2, "norm": "post", "frequency": 0.7, "low_pass": 2}
    for given, said in ((spec, True), ({**spec, "frequency": 0.0}, False)):
        model, table = build(given)
        (panel,) = explain(model, table.users.ids[3]).panels
        assert panel.note.endswith("it counts 30% of a block, a filter of frequencies the rest") == said


def test_weights_of_attention_are_what_its_output_is_made_of() -> None:
    with isolated(0, "modules"):
        attention = Attention(6, 2, 0.0, project=False).double().eval()
    steps = torch.randn(2, 5, 6, dtype=torch.float64)
    mask = causal(torch.tensor([[0, 0, 3, 1, 2], [4, 5, 6, 7, 8]]))
    weights = attention.weights(steps, steps, mask)
    value = attention.key_value(steps)[..., 6:].unflatten(-1, (2, 3)).transpose(1, 2)
    made = (weights @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(steps, steps, mask), made)


def test_nothing_is_kept_that_nobody_asked_for() -> None:
    model, table = build({"name": "sasrec", "max_length": LENGTH})
    explain(model, table.users.ids[3])
    assert not any(part._forward_hooks for part in model.modules())


def test_bert4rec_looks_at_the_history_from_behind_it() -> None:
    model, table = build({"name": "bert4rec", "max_length": LENGTH})
    (panel,) = explain(model, table.users.ids[3]).panels
    assert list(panel.names) == [*titled(table, history(table, 3)), "(what comes next)"]
    torch.testing.assert_close(torch.tensor(panel.values).sum(0), torch.ones(4))


def test_without_a_history_only_bert4rec_has_a_step_to_look_at() -> None:
    for name in ("sasrec", "bert4rec"):
        model, table = build({"name": name, "max_length": LENGTH, "num_heads": 2})
        model.observe(table.select(table.user_indices != 3))
        if name == "sasrec":
            with pytest.raises(ConfigError, match="attention over histories that are not empty"):
                explain(model, table.users.ids[3], int(table.items.ids[5]))
        else:
            (panel,) = explain(model, table.users.ids[3], int(table.items.ids[5])).panels
            assert list(panel.names) == ["(what comes next)"]
            torch.testing.assert_close(torch.tensor(panel.values), torch.ones(1, 4))


def test_din_weighs_the_history_anew_for_each_item() -> None:
    model, table = build({"name": "pooling", "max_length": LENGTH}, "din")
    head, vectors = model.head("rank"), model.encoder.items.weight
    parts = head.from_item, head.from_step, head.from_difference, head.from_product
    layers = [(layer.weight, layer.bias) for layer in head.attention if isinstance(layer, nn.Linear)]
    layers = [(torch.cat([part.weight for part in parts], 1), head.from_item.bias), *layers]
    for item in (5, 6):
        panel = explain(model, table.users.ids[3], int(table.items.ids[item])).panels[-1]
        assert list(panel.names) == titled(table, history(table, 3))
        expected = references.din_weights(list(vectors[history(table, 3)]), vectors[item], layers, softmax=True)
        assert panel.values == pytest.approx([weight.item() for weight in expected], abs=1e-6)


def test_a_user_without_history_has_none_to_weigh() -> None:
    model, table = build({"name": "pooling", "max_length": LENGTH}, "din")
    model.observe(table.select(table.user_indices != 3))
    found = explain(model, table.users.ids[3], int(table.items.ids[5]))
    assert [(list(panel.names), list(panel.values)) for panel in found.panels] == [([], [])]


class Gated(Head):
    """A head with weights of its own."""

    def match(self, query: Tensor, items: Tensor) -> Tensor:
        return (query * items).sum(-1)

    def weights(self, query: Tensor, items: Tensor) -> dict[str, Tensor]:
        return {"expert": torch.tensor([[0.25, 0.75]])}


def test_weights_of_any_head_are_shown() -> None:
    model, table = build({"name": "embedding"})
    model.heads = nn.ModuleDict({"rank": Gated(6)})
    (panel,) = explain(model, table.users.ids[3]).panels
    assert (list(panel.names), list(panel.values)) == (["expert 1", "expert 2"], [0.25, 0.75])


@pytest.mark.parametrize("sharing", [{"name": "mmoe", "experts": 3}, {"name": "ple", "levels": 1}])
def test_experts_are_shown_by_task_and_paths_that_no_longer_add_up_are_not(sharing: dict[str, Any]) -> None:
    table = random_interactions()
    label = {"of": "user", "kind": "classes", "width": 2}
    spec = {"encoder": {"name": "lightgcn", "dim": 6}, "heads": {"rank": "dot"}, "sharing": sharing}
    with isolated(0, "modules"):
        model = Recommender.build(12, 17, {**spec, "label_heads": {"gender": label}}, graph_of(table)).eval()
    model.catalogue = catalogue_of(table, [table], None)
    user = int(table.users.ids[0])
    found = explain(model, user)
    assert [panel.title for panel in found.panels] == ["Experts for the user", "Experts for the item"]
    of_user, of_item = found.panels
    assert isinstance(of_user, Grid)
    assert isinstance(of_item, Grid)
    assert set(of_user.columns) == {"rank", "gender"}
    assert list(of_item.columns) == ["rank"]  # a label of users reads no items
    vectors = model.encode_all(None).query[:1]
    gates = model.sharing.gates("query", vectors)
    for column, task in enumerate(of_user.columns):
        shown = {name: row[column] for name, row in zip(of_user.names, of_user.values, strict=True) if row[column]}
        names = model.sharing.expert_names("query", task)
        assert shown == pytest.approx(dict(zip(names, gates[task][0].tolist(), strict=True)))
        assert sum(shown.values()) == pytest.approx(1)
    seen = torch.from_numpy(table.csr().toarray()[0] > 0)
    scores = model.scorer()(torch.tensor([0]))[0].masked_fill(seen, float("-inf"))  # the best of what is new
    assert found.score == pytest.approx(scores.max().item(), abs=1e-5)


def test_shares_of_modalities() -> None:
    model, table = build({"name": "hybrid", "graph": {"name": "lightgcn", "dim": 6}, "shrinkage": 2.0})
    for item in (0, 1):  # the second has neither modality
        modalities, both = explain(model, table.users.ids[3], int(table.items.ids[item])).panels
        assert list(modalities.names) == ["text", "tags"]
        assert sum(modalities.values) == pytest.approx(1 - item, abs=1e-6)
        degree = int((table.item_indices == item).sum())
        assert both.values[0] == pytest.approx(degree / (degree + 2))


def test_links_count_for_what_is_known_of_an_item() -> None:
    model, table = build({"name": "hybrid", "graph": {"name": "lightgcn", "dim": 6}, "shrinkage": 2.0})
    cold, user = 4, table.users.ids[3]
    kept = table.select(table.item_indices != cold)
    links = Links.of(torch.tensor([cold, cold]), torch.tensor([0, 1]), torch.tensor([1.0, 1.24]), 17)
    model.graph = graph_of(kept).linked(None, links)
    both = explain(model, user, int(table.items.ids[cold])).panels[-1]
    assert list(both.names) == ["interactions and links", "content"]
    assert both.note == "0 interactions in training, and links that weigh 2.24"
    inputs = model.inputs_of()
    with torch.no_grad():  # what the encoder itself makes of it
        encoding = model.encoder(inputs)
        known, content = (side[cold] for side in encoding.sides)
        mixed = both.values[0] * known + both.values[1] * content
    torch.testing.assert_close(encoding.items[cold], mixed)
    assert both.values[0] == pytest.approx(2.24 / 4.24)


def test_linear_baselines_keep_their_sum() -> None:
    table = random_interactions()
    model = registry.baselines.build("item_knn", 12, 17)
    model.fit(table)
    model.catalogue = catalogue_of(table, [table], None)
    found = explain(model, table.users.ids[3])
    (panel,) = found.panels
    assert sum(panel.values) == pytest.approx(panel.total)
    assert set(panel.names) == {str(table.items.ids[item]) for item in history(table, 3, 99)}


@pytest.mark.parametrize(
    ("encoder", "head", "message"),
    [
        ({"name": "embedding"}, "dot", "Embedding with Dot: nothing to explain"),
        ({"name": "lightgcn"}, "neumf", "LightGCN with NeuMF: nothing to explain"),
        ({"name": "ngcf"}, "dot", "NGCF with Dot: nothing to explain"),
    ],
)
def test_what_has_no_parts_says_so(encoder: dict[str, Any], head: str, message: str) -> None:
    model, table = build(encoder, head)
    with pytest.raises(ConfigError, match=message):
        explain(model, table.users.ids[3])


def test_an_item_at_no_moment_has_no_score_to_explain() -> None:
    model, table = build({"name": "fields", "wide": False, "context": ["hour"]})
    with pytest.raises(ConfigError, match="Fields reads the moment of a row"):
        explain(model, table.users.ids[3], int(table.items.ids[5]))


def test_unknown_users_and_items_are_refused() -> None:
    model, table = build({"name": "lightgcn"})
    with pytest.raises(DataError):
        explain(model, 99)
    with pytest.raises(DataError):
        explain(model, table.users.ids[3], 99)
