"""UltraGCN's objective against a loop over rows; where its graph comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import references_objectives as naive
import torch
from cases import graph_of
from test_softmax import TABLE, both, counted, setting, shared, with_gradients

from recgraph.heads import GMF, MLP, Dot, Head
from recgraph.objectives import UltraGCN, rows
from recgraph.types import Batch

GRAPH = graph_of(TABLE)
LIKED = [row.indices.tolist() for row in TABLE.csr()]


@pytest.mark.parametrize("chunk", [10, 2**23])
@pytest.mark.parametrize("share", [lambda batch: batch, shared], ids=["own", "shared"])
@pytest.mark.parametrize("weights", [(1e-6, 1.0, 1e-6, 1.0), (0.3, 0.0, 0.5, 0.2), (0.0, 2.0, 1.0, 0.0)])
def test_equals_a_loop(
    weights: tuple[float, ...], share: Callable[[Batch], Batch], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "CHUNK_FLOATS", chunk)
    recommender, batch = setting(Dot)
    batch = share(replace(batch, inputs=replace(batch.inputs, graph=GRAPH)))
    # All items are neighbours, or else ties decide which: test_cooccurrence has fewer.
    options = {"negative_weight": 7.0, "item_weight": 0.4, "num_neighbours": TABLE.num_items}
    objective = UltraGCN(**dict(zip(("w1", "w2", "w3", "w4"), weights, strict=True)), **options, l2=0.01)
    users, items = recommender.encoder.users.weight, recommender.encoder.items.weight
    some = batch.mask.nonzero().flatten().tolist()
    listed = [(int(batch.inputs.users[row]), int(batch.items[row]), counted(batch)[row]) for row in some]
    expected = naive.ultragcn(users @ items.T, listed, LIKED, weights, **options)
    expected = expected + 0.01 * (users.square().sum() + items.square().sum()) / 2
    found = both(objective, recommender, batch)
    # Weights of the graph are float32.
    torch.testing.assert_close(found, with_gradients(recommender, expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", [GMF, MLP])
def test_l2_leaves_the_parameters_of_the_head_alone(head: type[Head]) -> None:
    recommender, batch = setting(head)
    batch = replace(batch, inputs=replace(batch.inputs, graph=GRAPH))
    size = len(list(recommender.heads.parameters()))
    without, found = (both(UltraGCN(l2=l2), recommender, batch)[-size:] for l2 in (0.0, 1.0))
    torch.testing.assert_close(found, without)


def test_what_the_graph_says_is_found_once_a_graph() -> None:
    objective = UltraGCN()
    first = objective.constraints(GRAPH)
    assert objective.constraints(GRAPH) is first
    assert objective.constraints(GRAPH.keep(GRAPH.users > 0)) is not first
    assert first.near is not None
    assert UltraGCN(item_weight=0.0).constraints(GRAPH).near is None  # seconds on Gowalla


def test_a_batch_without_a_graph_is_refused() -> None:
    recommender, batch = setting(Dot)
    with pytest.raises(TypeError, match="UltraGCN reads a BipartiteGraph, got NoneType"):
        both(UltraGCN(), recommender, batch)
