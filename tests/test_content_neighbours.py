"""Contrast with neighbours in content equals a loop; neighbours are warm, and drawn evenly; nothing waits for a GPU."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import graph_of, random_content, random_interactions
from test_clcrec import cosine, minus_log_share, with_gradients
from test_trainer import NoWaiting
from torch import Tensor

from recgraph import registry
from recgraph.encoders import Embedding
from recgraph.errors import ConfigError
from recgraph.experiments.experiment import plan
from recgraph.heads import Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import ContentNeighbours, Objectives, rows
from recgraph.objectives.content_neighbours import padded
from recgraph.random import isolated, torch_generator
from recgraph.types import Batch, Content, Distinct, Inputs, Modality

TABLE = random_interactions()
COLD = [2, 9]
TRAIN = TABLE.select(~torch.isin(torch.from_numpy(TABLE.item_indices), torch.tensor(COLD)).numpy())
LIKE_NONE = 1
"""The item without content, see `random_content`."""


def setting(dtype: torch.dtype = torch.float64) -> tuple[Recommender, Batch]:
    raw = random_content(TABLE.num_users, TABLE.num_items)
    content = Content({name: Modality(values.to(dtype), present) for name, (values, present) in raw.items.items()})
    spec = {"name": "hybrid", "graph": {"name": "lightgcn", "dim": 4, "std": 0.8}, "hidden": 8}
    with isolated(0, "test"):
        encoder = registry.encoders.build(spec, TABLE.num_users, TABLE.num_items, content=content)
    users, items = torch.from_numpy(TRAIN.user_indices), torch.from_numpy(TRAIN.item_indices)
    mask = (torch.rand(len(users), generator=torch.Generator().manual_seed(0)) < 0.3) | (items == LIKE_NONE)
    inputs = Inputs(users, graph=graph_of(TRAIN), content=content)
    return Recommender(encoder, {"rank": Dot(4)}).to(dtype), Batch(inputs, items, mask=mask)


def value(objective: ContentNeighbours, recommender: Recommender, batch: Batch) -> Tensor:
    fresh = replace(batch, generator=torch_generator(0, "views"))
    return objective(recommender, fresh, recommender.encoder(batch.inputs))


def naive_neighbours(content: Content, count: int) -> list[list[int]]:
    """Those of each item, by index: the cosine of what is side by side is the mean over the modalities it has."""
    found = []
    for item in range(TABLE.num_items):
        near = {}
        for other in sorted(set(range(TABLE.num_items)) - {item, *COLD}):
            parts = [
                cosine(values[item], values[other]).item()
                for values, present in content.items.values()
                if present[item] and present[other]
            ]
            lengths = [sum(bool(m.present[one]) for m in content.items.values()) for one in (item, other)]
            near[other] = sum(parts) / math.sqrt(lengths[0] * lengths[1]) if all(lengths) else 0.0
        best = sorted(near, key=lambda other: -near[other])[:count]
        found.append(sorted(other for other in best if near[other] > 1e-12))
    return found


def naive(recommender: Recommender, batch: Batch, temperature: float, count: int) -> Tensor:
    """By items, with neighbours drawn as the objective draws them."""
    vectors, near = recommender.encoder(batch.inputs).items, naive_neighbours(batch.inputs.content, count)
    some = sorted(set(batch.items[batch.mask].tolist()))
    chances = torch.rand(len(some), generator=torch_generator(0, "views"))
    terms = []
    for item, chance in zip(some, chances.tolist(), strict=True):
        if not near[item]:
            continue
        drawn = near[item][int(chance * len(near[item]))]
        others = [cosine(vectors[item], vectors[j]) / temperature for j in some if j not in (item, *near[item])]
        terms.append(minus_log_share(cosine(vectors[item], vectors[drawn]) / temperature, others))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("count", [1, 3, 100])
@pytest.mark.parametrize("chunk", [2**23, 30])
def test_it_equals_a_loop(count: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_FLOATS", chunk)
    recommender, batch = setting()
    assert LIKE_NONE in batch.items[batch.mask]
    objective = ContentNeighbours(temperature=0.4, neighbours=count)
    found = with_gradients(recommender, value(objective, recommender, batch))
    expected = with_gradients(recommender, naive(recommender, batch, 0.4, count))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_neighbours_are_warm_and_places_that_are_left_hold_the_item_itself() -> None:
    _, batch = setting()
    found = padded(batch.inputs.content, batch.inputs.graph.item_degrees > 0, 4)
    expected = naive_neighbours(batch.inputs.content, 4)
    assert not set(COLD) & {other for near in expected for other in near}
    assert found.counts.tolist() == [len(near) for near in expected]
    assert found.items.tolist() == [near + [item] * (4 - len(near)) for item, near in enumerate(expected)]


def test_neighbours_are_drawn_evenly() -> None:
    recommender, batch = setting()
    objective, item = ContentNeighbours(neighbours=3), int(TRAIN.item_indices[0])
    batch = replace(batch, mask=batch.items == item, generator=torch_generator(0, "views"))
    batch = replace(batch, mask=batch.mask | (batch.items == 16))  # an item alone has nothing to be compared with
    encoding, counts = recommender.encoder(batch.inputs), Counter()
    for _ in range(600):
        counts[round(objective(recommender, batch, encoding).item(), 9)] += 1
    assert 3 <= len(counts) <= 9  # a neighbour of each of the two
    assert min(counts.values()) > 600 / len(counts) * 0.6


def test_order_of_rows_and_masked_rows_do_not_matter() -> None:
    recommender, batch = setting()
    objective = ContentNeighbours()
    expected = value(objective, recommender, batch)
    order = torch.randperm(len(batch.items), generator=torch.Generator().manual_seed(0))
    inputs = replace(batch.inputs, users=batch.inputs.users[order])
    shuffled = replace(batch, inputs=inputs, items=batch.items[order], mask=batch.mask[order])
    torch.testing.assert_close(value(objective, recommender, shuffled), expected)
    valid = replace(batch.inputs, users=batch.inputs.users[batch.mask])
    torch.testing.assert_close(value(objective, recommender, Batch(valid, batch.items[batch.mask])), expected)


def test_a_second_step_waits_for_no_gpu() -> None:
    recommender, batch = setting(torch.float32)
    batch = replace(batch, distinct=Distinct.of(batch.inputs.users, batch.items, batch.mask))
    objective = ContentNeighbours()
    fresh = replace(batch, generator=torch_generator(0, "views"))
    encoding = recommender.encoder(batch.inputs)
    objective(recommender, fresh, encoding)
    with NoWaiting():
        objective(recommender, fresh, encoding).backward()


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_it_is_finite_at_any_temperature_and_length(temperature: float, scale: float) -> None:
    recommender, batch = setting(torch.float32)
    with torch.no_grad():
        for parameter in recommender.encoder.graph.parameters():
            parameter *= scale
    loss = value(ContentNeighbours(temperature=temperature), recommender, batch)
    loss.backward()
    assert loss.isfinite()
    assert 0 <= loss <= 2 / temperature + math.log(TABLE.num_items)
    assert all(one.grad is None or one.grad.isfinite().all() for one in recommender.parameters())


def test_an_item_whose_neighbours_are_all_the_batch_has_costs_nothing() -> None:
    recommender, batch = setting()
    item = int(TRAIN.item_indices[0])
    loss = value(ContentNeighbours(), recommender, replace(batch, mask=batch.items == item))
    found = torch.autograd.grad(loss, list(recommender.parameters()), allow_unused=True)
    assert loss == 0
    assert not any(one is not None and one.any() for one in found)


def test_training_brings_neighbours_together() -> None:
    recommender, batch = setting(torch.float32)
    near = naive_neighbours(batch.inputs.content, 3)
    pairs = torch.tensor([(item, other) for item, some in enumerate(near) for other in some if item not in COLD])

    def lead() -> float:
        """How much nearer neighbours are than items are in the mean."""
        vectors = torch.nn.functional.normalize(recommender.encoder(batch.inputs).items, dim=1)
        return ((vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(1).mean() - (vectors @ vectors.T).mean()).item()

    objectives = Objectives({"near": (1.0, ContentNeighbours(neighbours=3))})
    batch = replace(batch, mask=None, generator=torch_generator(0, "views"))
    optimizer = torch.optim.Adam(recommender.parameters(), lr=0.02)
    before = lead()
    for _ in range(60):
        optimizer.zero_grad()
        objectives(recommender, batch)[0].backward()
        optimizer.step()
    assert before < 0.25
    assert lead() > before + 0.3


def test_it_says_what_it_lacks() -> None:
    _, batch = setting()
    bare = Recommender(Embedding(TABLE.num_users, TABLE.num_items, dim=4), {"rank": Dot(4)})
    inputs = replace(batch.inputs, content=None)
    with pytest.raises(ConfigError, match="compares items by content, and Embedding is given none of items"):
        value(ContentNeighbours(), bare, replace(batch, inputs=inputs))
    with pytest.raises(ValueError, match="give Batch a `generator`"):
        ContentNeighbours()(bare, batch, bare.encoder(batch.inputs))
    with pytest.raises(TypeError, match="ContentNeighbours reads a BipartiteGraph, got NoneType"):
        value(ContentNeighbours(), bare, replace(batch, inputs=replace(batch.inputs, graph=None)))


@pytest.mark.parametrize(
    ("encoder", "refused"),
    [("lightgcn", "compares items by content, which encoder lightgcn does not read"), ("content", None)],
)
def test_files_may_name_it_beside_encoders_that_read_content(tmp_path: Path, encoder: str, refused: str | None) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(f"""
datasets: [ml-100k]
seeds: [0]
base:
  content: {{genres: {{columns: [genres]}}}}
  encoder: {encoder}
  heads: {{rank: dot}}
  objectives: {{rank: bpr, near: {{name: content_neighbours, weight: 0.1}}}}
  negatives: warm
  train: {{lr: 0.01, batch_size: 128, max_epochs: 1, patience: 1, validate_every: 1, monitor: ndcg@5}}
  evaluate: {{metrics: [ndcg@5]}}
rows: {{one: {{}}}}
""")
    if refused:
        with pytest.raises(ConfigError, match=refused):
            plan(path)
    else:
        assert plan(path)[0].config["objectives"]["near"]["neighbours"] == 10


def test_autocast_finds_the_same_neighbours() -> None:
    content = random_content(3, 400)
    with torch.autocast("cpu", torch.bfloat16):
        found = padded(content, torch.ones(400, dtype=torch.bool), 10)
    assert torch.equal(found.items, padded(content, torch.ones(400, dtype=torch.bool), 10).items)
