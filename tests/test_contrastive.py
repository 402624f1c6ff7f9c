"""Contrasts equal loops with their gradients, count each node once, and share what they should share."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import references_contrast
import torch
from cases import graph_of, random_interactions
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recgraph import registry
from recgraph.encoders import Embedding, LightGCN
from recgraph.errors import ConfigError
from recgraph.graph import BipartiteGraph
from recgraph.heads import Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import BPR, LayerContrast, Objective, Objectives, ViewContrast, contrastive, rows
from recgraph.objectives.info_nce import info_nce
from recgraph.objectives.uniformity import uniformity
from recgraph.random import isolated
from recgraph.types import Batch, Distinct, Encoding, Inputs
from recgraph.views import SVD, EdgeDrop, NodeDrop, Noise, RandomWalk
from recgraph.views.hidden import coarse_levels

USERS, ITEMS = [3, 0, 3, 7, 0, 5], [2, 2, 9, 16, 4, 9]
DISTINCT_USERS, DISTINCT_ITEMS = [0, 3, 5, 7], [2, 4, 9, 16]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model_and_batch(**options: object) -> tuple[Recommender, Batch]:
    table = random_interactions()
    with isolated(0, "test"):
        encoder = LightGCN(table.num_users, table.num_items, dim=4, num_layers=2, std=1.0, **options).double()
    inputs = Inputs(torch.tensor(USERS), graph=graph_of(table))
    negatives = torch.tensor([[1], [3], [5], [0], [7], [8]])
    return (
        Recommender(encoder, {"rank": Dot(4)}, graph=inputs.graph),
        Batch(inputs, torch.tensor(ITEMS), negatives, generator=generator()),
    )


def value(objective: Objective, recommender: Recommender, batch: Batch) -> Tensor:
    return objective(recommender, batch, recommender.encoder(objective.inputs(batch.inputs, batch)))


def gradients(loss: Tensor, recommender: Recommender) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, list(recommender.parameters()))


def everybody(recommender: Recommender, inputs: Inputs) -> tuple[Tensor, Tensor]:
    encoding = recommender.encoder(replace(inputs, users=torch.arange(12)))
    return encoding.query, encoding.items


@pytest.mark.parametrize("chunk", [None, 8])
@pytest.mark.parametrize(
    ("temperature", "options"),
    [
        *((temperature, {}) for temperature in (0.05, 0.2, 3.0)),
        (0.2, {"similarity": "dot"}),
        (0.2, {"similarity": "dot", "bound": 5.0}),
        (0.2, {"bound": 2.0}),
    ],
)
def test_info_nce_equals_a_loop_with_its_gradient(
    temperature: float, options: dict[str, Any], chunk: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if chunk is not None:
        monkeypatch.setattr(rows, "CHUNK_FLOATS", chunk)  # one anchor at a time
    anchors = torch.randn(5, 3, dtype=torch.float64, generator=generator(1), requires_grad=True)
    candidates = torch.randn(7, 3, dtype=torch.float64, generator=generator(2), requires_grad=True)
    targets = [6, 0, 3, 3, 1]
    found = info_nce(anchors, candidates, torch.tensor(targets), temperature=temperature, **options)
    dot, bound = options.get("similarity") == "dot", options.get("bound", math.inf)
    expected = references_contrast.info_nce(anchors, candidates, targets, temperature, dot=dot, bound=bound)
    if bound < math.inf:  # some pairs are beyond it, on either side, and some are not
        free = references_contrast.info_nce(anchors, candidates, targets, temperature, dot=dot)
        assert abs(found.item() - free.item()) > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for one, two in zip(*(torch.autograd.grad(v, (anchors, candidates)) for v in (found, expected)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


def test_info_nce_of_one_tensor_with_itself_has_the_gradient_of_both_sides() -> None:
    vectors = torch.randn(5, 3, dtype=torch.float64, generator=generator(1), requires_grad=True)
    found = info_nce(vectors, vectors, torch.arange(5), temperature=0.2)
    expected = references_contrast.info_nce(vectors, vectors, list(range(5)), 0.2)
    (one,), (two,) = (torch.autograd.grad(v, vectors) for v in (found, expected))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_info_nce_refuses_temperatures_not_above_0(temperature: float) -> None:
    with pytest.raises(ConfigError, match=r"info_nce: temperature is .*; expected a number above 0"):
        info_nce(torch.eye(2), torch.eye(2), torch.arange(2), temperature=temperature)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
def test_info_nce_refuses_bounds_not_above_0(bound: float) -> None:
    with pytest.raises(ConfigError, match=r"info_nce: bound is .*; expected a number above 0 or None"):
        info_nce(torch.eye(2), torch.eye(2), torch.arange(2), temperature=0.1, bound=bound)


def test_info_nce_of_as_many_orthogonal_vectors_has_a_closed_form() -> None:
    found = info_nce(torch.eye(6), 5 * torch.eye(6), torch.arange(6), temperature=0.5)
    torch.testing.assert_close(found, torch.log1p(5 * torch.exp(torch.tensor(-2.0))))


def test_a_low_temperature_overflows_nothing() -> None:
    anchors = torch.randn(5, 3, generator=generator(1), requires_grad=True)
    loss = info_nce(anchors, -anchors.detach(), torch.arange(5), temperature=1e-3)  # exp(1000) is no float
    (gradient,) = torch.autograd.grad(loss, anchors)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_short_numbers_are_summed_in_32_bits(kind: torch.dtype, autocast: bool) -> None:
    anchors, candidates = (torch.randn(700, 8, generator=generator(n)).to(kind).requires_grad_() for n in (1, 2))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = info_nce(anchors, candidates, torch.arange(700), temperature=0.3)
    assert found.dtype == torch.float32
    wide = [side.detach().double().requires_grad_() for side in (anchors, candidates)]
    logits = torch.nn.functional.normalize(wide[0], dim=-1) @ torch.nn.functional.normalize(wide[1], dim=-1).T / 0.3
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(700))
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)
    gradients = (torch.autograd.grad(*pair) for pair in ((found, (anchors, candidates)), (expected, wide)))
    for one, two in zip(*gradients, strict=True):
        assert one.dtype == kind
        torch.testing.assert_close(one.double(), two, rtol=0.05, atol=0.05 * two.abs().max().item())


@pytest.mark.parametrize("against", ["batch", "all"])
@pytest.mark.parametrize("view", [EdgeDrop(rate=0.3), Noise(eps=0.5), None])
def test_view_contrast_equals_a_loop_over_two_independent_views(view: object, against: str) -> None:
    recommender, batch = model_and_batch()
    objective = ViewContrast(view=view, against=against, temperature=0.3)
    found = value(objective, recommender, batch)
    chance = generator()
    (users, items), (users2, items2) = (
        everybody(recommender, batch.inputs if view is None else view(batch.inputs, chance)) for _ in range(2)
    )
    if against == "batch":
        users2, items2 = users2[DISTINCT_USERS], items2[DISTINCT_ITEMS]
    targets = ([0, 1, 2, 3], [0, 1, 2, 3]) if against == "batch" else (DISTINCT_USERS, DISTINCT_ITEMS)
    expected = references_contrast.info_nce(users[DISTINCT_USERS], users2, targets[0], 0.3)
    expected = expected + references_contrast.info_nce(items[DISTINCT_ITEMS], items2, targets[1], 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(found, recommender), gradients(expected, recommender), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("layer", [0, 1])
def test_layer_contrast_equals_a_loop_over_one_noisy_pass(layer: int) -> None:
    recommender, batch = model_and_batch(first_layer=1)
    found = value(LayerContrast(view=Noise(eps=0.5), layer=layer, temperature=0.3), recommender, batch)
    graph, encoder, chance = batch.inputs.graph, recommender.encoder, generator()
    edges = list(zip(graph.users.tolist(), graph.items.tolist(), strict=True))
    matrix = references_contrast.adjacency(edges, [True] * len(edges), 12, 17)
    drawn = [references_contrast.middles(coarse_levels(torch.Size([n, 4]), chance)) for _ in range(2) for n in (12, 17)]
    nodes = torch.cat([encoder.users.weight, encoder.items.weight])
    layers = references_contrast.noisy_layers(matrix, nodes, 12, 2, 0.5, drawn)
    final, sides = (layers[1] + layers[2]) / 2, (DISTINCT_USERS, [12 + item for item in DISTINCT_ITEMS])
    expected = sum(references_contrast.info_nce(final[s], layers[layer][s], [0, 1, 2, 3], 0.3) for s in sides)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(found, recommender), gradients(expected, recommender), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("against", ["batch", "all"])
@pytest.mark.parametrize("options", [{}, {"similarity": "dot", "bound": 2.0}])
def test_anchors_of_the_shared_encoding_meet_candidates_of_the_view(against: str, options: dict[str, Any]) -> None:
    recommender, batch = model_and_batch()
    view = EdgeDrop(rate=0.3)
    objective = ViewContrast(view=view, anchors="shared", against=against, temperature=0.3, **options)
    found = value(objective, recommender, batch)
    one, two = everybody(recommender, batch.inputs), everybody(recommender, view(batch.inputs, generator()))
    expected = torch.tensor(0.0, dtype=torch.float64)
    for anchors, candidates, some in zip(one, two, (DISTINCT_USERS, DISTINCT_ITEMS), strict=True):
        targets = [0, 1, 2, 3] if against == "batch" else some
        candidates = candidates[some] if against == "batch" else candidates
        expected = expected + references_contrast.info_nce(
            *(anchors[some], candidates, targets, 0.3), dot=bool(options), bound=options.get("bound", math.inf)
        )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(found, recommender), gradients(expected, recommender), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("against", ["batch", "all"])
@pytest.mark.parametrize(("anchor", "layer"), [(2, 0), (1, 1), (None, 2)])
def test_layer_contrast_of_two_layers_equals_a_loop(anchor: int | None, layer: int, against: str) -> None:
    recommender, batch = model_and_batch()
    objective = LayerContrast(anchor=anchor, layer=layer, against=against, temperature=0.3, item_weight=1.5)
    found = value(objective, recommender, batch)
    graph, encoder = batch.inputs.graph, recommender.encoder
    edges = list(zip(graph.users.tolist(), graph.items.tolist(), strict=True))
    matrix = references_contrast.adjacency(edges, [True] * len(edges), 12, 17)
    layers = [torch.cat([encoder.users.weight, encoder.items.weight])]
    layers += [matrix @ layers[0], matrix @ matrix @ layers[0]]
    one = sum(layers) / 3 if anchor is None else layers[anchor]
    expected = torch.tensor(0.0, dtype=torch.float64)
    for weight, side, some in ((1.0, slice(12), DISTINCT_USERS), (1.5, slice(12, 29), DISTINCT_ITEMS)):
        targets = [0, 1, 2, 3] if against == "batch" else some
        candidates = layers[layer][side][some] if against == "batch" else layers[layer][side]
        expected = expected + weight * references_contrast.info_nce(one[side][some], candidates, targets, 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(found, recommender), gradients(expected, recommender), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("against", ["batch", "all"])
@pytest.mark.parametrize("view", [EdgeDrop(rate=0.4), NodeDrop(rate=0.4), RandomWalk(rate=0.4)])
def test_views_of_an_epoch_are_those_of_its_first_step(view: object, against: str) -> None:
    recommender, batch = model_and_batch()
    objective = ViewContrast(view=view, every="epoch", against=against)
    each_step = ViewContrast(view=view, against=against)
    seen = encodings(recommender)
    for epoch in (1, 2):
        objective.begin_epoch(recommender, epoch, batch.generator)
        state = batch.generator.get_state()
        first, second = (value(objective, recommender, batch) for _ in range(2))
        batch.generator.set_state(state)
        torch.testing.assert_close(first, value(each_step, recommender, batch))
        torch.testing.assert_close(first, second)
    graphs = [inputs.graph for inputs in seen if inputs.graph is not batch.inputs.graph]
    first, second = graphs[:6], graphs[6:]  # two views a step, in two steps and in one whose views are its own
    assert [graph is first[0] for graph in first] == [True, False, True, False, False, False]
    assert [graph is first[1] for graph in first] == [False, True, False, True, False, False]
    assert not set(map(id, first)) & set(map(id, second))


def test_the_operators_of_an_epochs_views_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, batch = model_and_batch()
    recommender.float()
    built = []
    build = BipartiteGraph._built
    monkeypatch.setattr(BipartiteGraph, "_built", lambda self, *how: built.append(self) or build(self, *how))
    objective = ViewContrast(view=EdgeDrop(), every="epoch")
    for epoch in (1, 2, 3):
        objective.begin_epoch(recommender, epoch, batch.generator)
        for _ in range(4):
            value(objective, recommender, batch)
    assert len(built) == 1 + 3 * 2  # that of the training graph, and two an epoch


def test_views_of_an_epoch_want_to_know_where_it_begins_and_a_view_of_the_graph() -> None:
    recommender, batch = model_and_batch()
    with pytest.raises(ValueError, match="call begin_epoch"):
        value(ViewContrast(view=EdgeDrop(), every="epoch"), recommender, batch)
    with pytest.raises(ConfigError, match=r"every 'epoch' keeps views of the graph; Noise changes \['perturb'\]"):
        ViewContrast(view=Noise(), every="epoch")
    with pytest.raises(ConfigError, match="every 'epoch' keeps views of the graph; no view"):
        ViewContrast(every="epoch")


@pytest.mark.parametrize("options", [{}, {"anchors": "shared", "every": "epoch"}])
def test_a_view_that_draws_nothing_is_not_contrasted_with_itself(options: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match="SVD draws nothing, and would be contrasted with itself: set anchors to shared"
    ):
        ViewContrast(view=SVD(rank=2), **options)


CONTRASTS = [
    {"name": "view_contrast"},
    {"name": "view_contrast", "similarity": "dot"},
    {"name": "view_contrast", "similarity": "dot", "bound": 5.0, "view": "edge_drop"},
    {
        "name": "view_contrast",
        "similarity": "dot",
        "bound": 5.0,
        "anchors": "shared",
        "view": {"name": "svd", "rank": 2},
    },
    {"name": "view_contrast", "view": "noise"},
    {"name": "view_contrast", "view": "edge_drop", "against": "all"},
    {"name": "view_contrast", "view": "node_drop"},
    {"name": "view_contrast", "view": {"name": "feature_mask", "rate": 0.5}},
    {"name": "view_contrast", "view": "random_walk", "every": "epoch"},
    {"name": "view_contrast", "view": {"name": "svd", "rank": 2}, "anchors": "shared", "against": "all"},
    {"name": "layer_contrast", "view": "noise"},
    {"name": "layer_contrast", "anchor": 2, "layer": 0, "against": "all"},
    {"name": "prototype_contrast", "clusters": 4, "warm_up": 0},
]


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("spec", CONTRASTS, ids=str)
def test_huge_scores_and_any_temperature_stay_finite(spec: dict, temperature: float) -> None:
    recommender, batch = model_and_batch()
    recommender.float()
    with torch.no_grad():
        for table in recommender.parameters():
            table *= 130  # scores reach ±1e4
        assert recommender.score(recommender.encoder(batch.inputs)).abs().max() > 1e4
        recommender.encoder.users.weight[3] = 0  # a user of the batch without direction
    objective = registry.objectives.build({**spec, "temperature": temperature})
    objective.begin_epoch(recommender, 1, batch.generator)
    loss = value(objective, recommender, batch)
    assert loss.isfinite()
    assert loss >= 0
    assert all(gradient.isfinite().all() for gradient in gradients(loss, recommender))


def test_a_side_of_weight_0_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, batch = model_and_batch()
    computed = []
    compute = contrastive.info_nce
    monkeypatch.setattr(contrastive, "info_nce", lambda *s, **o: computed.append(s) or compute(*s, **o))
    value(ViewContrast(user_weight=0.0), recommender, batch)
    assert len(computed) == 1


@pytest.mark.parametrize("objective", [ViewContrast, LayerContrast])
def test_users_and_items_have_weights_of_their_own(objective: type) -> None:
    recommender, batch = model_and_batch()
    users, items, both, more = (
        value(objective(user_weight=one, item_weight=two), recommender, batch)
        for one, two in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (2.0, 0.5))
    )
    torch.testing.assert_close(both, users + items)
    torch.testing.assert_close(more, 2 * users + 0.5 * items)
    assert min(users, items) > 0.01


@pytest.mark.parametrize(
    "objective",
    [
        ViewContrast(view=Noise()),
        ViewContrast(view=EdgeDrop(), anchors="shared", against="all"),
        LayerContrast(view=Noise()),
        LayerContrast(anchor=2, layer=0, against="all"),
    ],
)
def test_order_repetition_and_masked_rows_do_not_matter(objective: Objective) -> None:
    recommender, batch = model_and_batch()
    expected = value(objective, recommender, batch)
    for order in ([5, 3, 1, 0, 4, 2], [0, 1, 2, 3, 4, 5, 5, 3, 0]):
        other = Batch(Inputs(batch.inputs.users[order], graph=batch.inputs.graph), batch.items[order])
        torch.testing.assert_close(value(objective, recommender, replace(other, generator=generator())), expected)
    few = Batch(Inputs(batch.inputs.users[:3], graph=batch.inputs.graph), batch.items[:3], generator=generator())
    mask = torch.tensor([True, True, True, False, False, False])
    masked = replace(batch, mask=mask, generator=generator())
    torch.testing.assert_close(value(objective, recommender, masked), value(objective, recommender, few))


def test_distinct_finds_the_first_row_of_each_user_and_each_item() -> None:
    assert [part.tolist() for part in Distinct.of(torch.tensor(USERS), torch.tensor(ITEMS))] == [
        [USERS.index(user) for user in DISTINCT_USERS],
        DISTINCT_ITEMS,
    ]
    mask = torch.tensor([False, True, True, True, True, False])
    rows_, items = Distinct.of(torch.tensor(USERS), torch.tensor(ITEMS), mask)
    assert (rows_.tolist(), items.tolist()) == ([1, 2, 3], [2, 4, 9, 16])


def encodings(recommender: Recommender) -> list[Inputs]:
    """What the encoder is given from now on."""
    seen: list[Inputs] = []
    recommender.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    return seen


@pytest.mark.parametrize(
    ("ssl", "passes"),
    [
        (ViewContrast(), 1),
        (ViewContrast(against="all"), 2),
        (ViewContrast(view=Noise()), 3),
        (LayerContrast(view=Noise()), 1),
        (LayerContrast(anchor=2, layer=0, against="all"), 1),
        (ViewContrast(view=SVD(rank=2), anchors="shared", against="all"), 2),
        (ViewContrast(view=EdgeDrop(), anchors="shared"), 2),
    ],
)
def test_passes_of_the_encoder(ssl: Objective, passes: int) -> None:
    recommender, batch = model_and_batch()
    seen = encodings(recommender)
    Objectives({"rank": (1.0, BPR()), "ssl": (0.1, ssl)})(recommender, batch)
    assert len(seen) == passes


def test_ranking_reads_the_noisy_encoding_of_layer_contrast_and_the_clean_one_of_view_contrast() -> None:
    recommender, batch = model_and_batch()
    clean = value(BPR(), recommender, batch)
    for ssl, noisy in ((ViewContrast(view=Noise()), False), (LayerContrast(view=Noise()), True)):
        _, parts = Objectives({"rank": (1.0, BPR()), "ssl": (0.1, ssl)})(recommender, batch)
        assert torch.allclose(parts[0], clean) != noisy


@pytest.mark.parametrize("first", [RandomWalk(), SVD(rank=2)])
def test_two_objectives_cannot_both_change_the_graph_that_all_share(first: object) -> None:
    recommender, batch = model_and_batch()
    both = {"one": (1.0, LayerContrast(view=first)), "two": (1.0, LayerContrast(view=EdgeDrop()))}
    with pytest.raises(ConfigError, match=f"an earlier view left a {first.leaves.__name__}"):
        Objectives(both)(recommender, batch)


def test_what_one_objective_changes_for_all_does_not_reach_the_views_of_another() -> None:
    recommender, batch = model_and_batch()
    seen = encodings(recommender)
    Objectives({"layer": (1.0, LayerContrast(view=Noise())), "ssl": (1.0, ViewContrast(view=EdgeDrop()))})(
        recommender, batch
    )
    assert [inputs.every_layer for inputs in seen] == [True, False, False]
    assert [inputs.perturb is batch.inputs.perturb for inputs in seen] == [False, True, True]


def test_a_view_without_a_generator_says_what_to_give() -> None:
    recommender, batch = model_and_batch()
    with pytest.raises(ValueError, match="ViewContrast draws views: give Batch a `generator`"):
        value(ViewContrast(view=Noise()), recommender, replace(batch, generator=None))


def test_an_encoder_without_the_layer_is_named() -> None:
    recommender, batch = model_and_batch()
    with pytest.raises(ConfigError, match="no layer 3: LightGCN has 3, counted from 0"):
        value(LayerContrast(layer=3), recommender, batch)
    with pytest.raises(ConfigError, match="no layer 5: LightGCN has 3"):
        value(LayerContrast(anchor=5, layer=0), recommender, batch)
    other = Recommender(Embedding(12, 17, dim=4), {"rank": Dot(4)})
    with pytest.raises(ConfigError, match="an encoding of Embedding without layers"):
        value(LayerContrast(), other, batch)


def test_a_file_names_views_within_objectives() -> None:
    spec = {"name": "view_contrast", "temperature": 0.1, "view": {"name": "edge_drop", "rate": 0.25}, "against": "all"}
    objective = registry.objectives.build(spec, where="objectives.ssl")
    assert isinstance(objective.view, EdgeDrop)
    assert (objective.view.rate, objective.temperature, objective.against) == (0.25, 0.1, "all")
    with pytest.raises(ConfigError, match=r"objectives\.ssl\.view\.rat: view 'edge_drop' takes no 'rat'.*rate"):
        registry.objectives.build({**spec, "view": {"name": "edge_drop", "rat": 0.1}}, where="objectives.ssl")
    with pytest.raises(ConfigError, match=r"objectives\.ssl\.against: .*'batch' or 'all'"):
        registry.objectives.build({**spec, "against": "everything"}, where="objectives.ssl")


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

    size = 0

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        result = op(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.size = max(self.size, result.numel())
        return result


def test_memory_stays_bounded_however_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_FLOATS", 4000)
    anchors, candidates = torch.randn(600, 2, requires_grad=True), torch.randn(1000, 2, requires_grad=True)
    with Largest() as largest:
        info_nce(anchors, candidates, torch.arange(600), temperature=0.2).backward()
    assert largest.size == 4000  # whole, 600,000
    with Largest() as largest:
        uniformity(candidates).backward()
    assert largest.size == 4000


def test_16384_rows_against_each_other_stay_within_2_gb() -> None:
    """The whole process, in one that has done nothing else."""
    code = """
import torch
from recgraph.environment import peak_memory
from recgraph.objectives.info_nce import info_nce
anchors, candidates = (torch.randn(16384, 64, requires_grad=True) for _ in range(2))
info_nce(anchors, candidates, torch.arange(16384), temperature=0.2).backward()
print(peak_memory())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2 * 2**10  # logits, shares and their product whole would be 3 GB


def test_what_no_batch_holds_costs_nothing() -> None:
    anchors, candidates = torch.zeros(0, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    found = info_nce(anchors, candidates, torch.zeros(0, dtype=torch.int64), temperature=0.2)
    assert found.item() == 0
    assert torch.equal(torch.autograd.grad(found, candidates)[0], torch.zeros(5, 3))


def test_gradients_made_with_the_value_refuse_to_be_differentiated() -> None:
    vectors = torch.randn(5, 3, generator=generator(1), requires_grad=True)
    for loss in (info_nce(vectors, vectors, torch.arange(5), temperature=0.2), uniformity(vectors)):
        with pytest.raises(RuntimeError, match="cannot be differentiated again"):
            torch.autograd.grad(loss, vectors, create_graph=True)


def test_contrast_pulls_views_together_and_pushes_nodes_apart() -> None:
    recommender, batch = model_and_batch()
    optimizer = torch.optim.Adam(recommender.parameters(), lr=0.05)

    def similarity(encoding: Encoding) -> float:
        vectors = torch.nn.functional.normalize(encoding.items[DISTINCT_ITEMS], dim=-1)
        return (vectors @ vectors.T).triu(1).sum().item()

    before = similarity(recommender.encoder(batch.inputs))
    for _ in range(30):
        optimizer.zero_grad()
        value(ViewContrast(view=EdgeDrop(rate=0.2)), recommender, batch).backward()
        optimizer.step()
    assert similarity(recommender.encoder(batch.inputs)) < before - 0.5
