"""Objectives equal naive loops, stay finite, and raise positives over negatives."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from inspect import signature
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import random_interactions
from test_trainer import NoWaiting
from torch import Tensor

from recgraph import registry
from recgraph.encoders import Embedding
from recgraph.errors import ConfigError
from recgraph.graph import BipartiteGraph
from recgraph.heads import Cosine, Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import BPR, EgoL2, Objective, Objectives, WeightDecay
from recgraph.objectives.base import masked_mean
from recgraph.random import isolated
from recgraph.types import Batch, Distinct, Encoding, Inputs

OF_CONTENT = {"aldi", "clcrec", "content_contrast", "content_distance", "content_neighbours", "gar"}
OF_LABELS = {"label", "log_loss", "squared_error"}
OF_MORE = {"layer_contrast", "same_target_contrast"}
NAMES = sorted(set(registry.objectives.components()) - OF_CONTENT - OF_LABELS - OF_MORE)
"""Those that do with an encoder without layers, histories, content or labels; the others have tests of their own."""


def model_and_batch(num_negatives: int = 3, scale: float = 1.0) -> tuple[Recommender, Batch]:
    with isolated(0, "test"):
        recommender = Recommender(Embedding(5, 7, dim=4, std=scale), {"rank": Dot(4)}).double()
    users = torch.tensor([0, 3, 3, 1])
    graph = BipartiteGraph.from_edges(torch.tensor([0, 3, 3, 1, 2, 1]), torch.tensor([1, 4, 0, 6, 1, 1]), 5, 7)
    negatives = torch.tensor([[5, 6, 0], [1, 2, 2], [6, 0, 1], [4, 4, 5]])[:, :num_negatives]
    return recommender, Batch(Inputs(users, graph=graph), torch.tensor([1, 4, 0, 6]), negatives)


def rows_of(batch: Batch, rows: object) -> Inputs:
    return replace(batch.inputs, users=batch.inputs.users[rows])


SPECS = {"prototype_contrast": {"name": "prototype_contrast", "clusters": 3, "warm_up": 0}}
"""Of those whose defaults are not for five users and seven items."""


def build(name: str, recommender: Recommender) -> Objective:
    """An objective in its first epoch."""
    objective = registry.objectives.build(SPECS.get(name, name))
    objective.begin_epoch(recommender, 1, torch.Generator().manual_seed(0))
    return objective


def value(objective: torch.nn.Module, recommender: Recommender, batch: Batch) -> Tensor:
    return objective(recommender, batch, recommender.encoder(batch.inputs))


@pytest.mark.parametrize("num_negatives", [1, 3])
def test_bpr_equals_a_loop(num_negatives: int) -> None:
    recommender, batch = model_and_batch(num_negatives)
    users, items = (t.weight.tolist() for t in (recommender.encoder.users, recommender.encoder.items))
    dot = lambda u, i: sum(a * b for a, b in zip(users[u], items[i], strict=True))  # noqa: E731
    terms = []
    for u, i, row in zip(batch.inputs.users.tolist(), batch.items.tolist(), batch.negatives.tolist(), strict=True):
        for j in row:
            terms.append(-math.log(1 / (1 + math.exp(-(dot(u, i) - dot(u, j))))))
    assert value(BPR(), recommender, batch).item() == pytest.approx(sum(terms) / len(terms), abs=1e-12)


NO_HITS = (torch.empty(0, dtype=torch.long),)


def test_bpr_with_shared_negatives_equals_the_same_negatives_per_row() -> None:
    recommender, batch = model_and_batch()
    shared = torch.tensor([[2, 5, 3]])
    each = replace(batch, negatives=shared.expand(4, 3))
    one = replace(batch, negatives=shared, hits=NO_HITS)
    torch.testing.assert_close(value(BPR(), recommender, one), value(BPR(), recommender, each))


def test_bpr_leaves_out_shared_negatives_that_the_user_likes() -> None:
    recommender, batch = model_and_batch()
    # Rows 0 and 1 share the first set, rows 2 and 3 the second; row 1 likes 5, row 2 likes 0 and 6.
    sets, hits = torch.tensor([[2, 5], [0, 6]]), (torch.tensor([3]), torch.tensor([0, 1]))
    scores = recommender.score(recommender.encoder(batch.inputs))
    loss = lambda row, item: F.softplus(scores[row, item] - scores[row, batch.items[row]])  # noqa: E731
    rows = [(loss(0, 2) + loss(0, 5)) / 2, loss(1, 2), torch.tensor(0.0), (loss(3, 0) + loss(3, 6)) / 2]
    shared = replace(batch, negatives=sets, hits=hits)
    torch.testing.assert_close(value(BPR(), recommender, shared), torch.stack(rows).mean())


@pytest.mark.parametrize("num_negatives", [1, 3])
def test_ego_l2_is_half_the_squared_norm_of_the_batch_rows_over_the_batch_size(num_negatives: int) -> None:
    recommender, batch = model_and_batch(num_negatives)
    users, items = recommender.encoder.users.weight, recommender.encoder.items.weight
    total = 0.0
    for u, i, row in zip(batch.inputs.users.tolist(), batch.items.tolist(), batch.negatives.tolist(), strict=True):
        for vector in (users[u], items[i], *(items[j] for j in row)):
            total += sum(x * x for x in vector.tolist())
    expected = total / 2 / len(batch.items)  # not the norm, not every parameter, not the propagated rows
    assert value(EgoL2(), recommender, batch).item() == pytest.approx(expected, abs=1e-12)


def test_weight_decay_is_that_of_adam() -> None:
    recommender, batch = model_and_batch()
    other = copy.deepcopy(recommender)
    for model, decay in ((recommender, 0.0), (other, 0.1)):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=decay)
        loss = value(BPR(), model, batch) + (0 if decay else 0.1 * value(WeightDecay(), model, batch))
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(recommender.state_dict(), other.state_dict())


def test_ego_l2_counts_shared_negatives_once_in_the_batch() -> None:
    recommender, batch = model_and_batch()
    shared = torch.tensor([[2, 5, 3]])
    items = recommender.encoder.items.weight
    without = value(EgoL2(), recommender, replace(batch, negatives=None))
    expected = without + items[shared].square().sum() / 2 / 4
    one = replace(batch, negatives=shared, hits=NO_HITS)
    torch.testing.assert_close(value(EgoL2(), recommender, one), expected)


@pytest.mark.parametrize("name", NAMES)
def test_masked_rows_do_not_count_with_shared_negatives_either(name: str) -> None:
    recommender, batch = model_and_batch()
    objective, shared = build(name, recommender), torch.tensor([[2, 5, 3]])
    masked = replace(batch, negatives=shared, hits=NO_HITS, mask=torch.tensor([True, True, False, False]))
    two = Batch(rows_of(batch, [0, 1]), batch.items[:2], shared, NO_HITS)
    torch.testing.assert_close(value(objective, recommender, masked), value(objective, recommender, two))


STRESS = [
    {"name": name, **SPECS.get(name, {}), **options, **more}
    for name in NAMES
    for more in ({}, {"by_user": True}, {"by_user": True, "positive_temperature": 10.0}, {"exponent": 1.3})
    if set(more) <= set(signature(registry.objectives.find(name)).parameters)
    for options in (
        [{"temperature": temperature} for temperature in (0.01, 0.1, 1.0, 10.0)]
        if "temperature" in signature(registry.objectives.find(name)).parameters
        else [{}]
    )
]
"""All of `NAMES`; those with a temperature at four."""


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("spec", STRESS, ids=lambda spec: " ".join(map(str, spec.values())))
def test_value_is_a_finite_scalar_at_huge_scores(spec: dict[str, Any], dtype: torch.dtype, shared: bool) -> None:
    recommender, batch = model_and_batch(scale=70.0)  # scores reach ±1e4
    recommender = recommender.to(dtype)
    if shared:
        batch = replace(batch, negatives=torch.tensor([[2, 5, 3]]), hits=NO_HITS)
    assert recommender.score(recommender.encoder(batch.inputs)).abs().max() > 1e4
    objective = registry.objectives.build(spec)
    objective.begin_epoch(recommender, 1, torch.Generator().manual_seed(0))
    loss = value(objective, recommender, batch)
    assert loss.shape == ()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in recommender.parameters() if p.grad is not None)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_second_step_waits_for_no_gpu(name: str, shared: bool) -> None:
    """The first may find out what the training graph says."""
    recommender, batch = model_and_batch()
    batch = replace(batch, distinct=Distinct.of(batch.inputs.users, batch.items))
    if shared:
        batch = replace(batch, negatives=torch.tensor([[2, 5, 3]]), hits=NO_HITS)
    objective = build(name, recommender)
    value(objective, recommender, batch)
    with NoWaiting():
        value(objective, recommender, batch).backward()


@pytest.mark.parametrize("name", NAMES)
def test_order_of_rows_does_not_matter_and_masked_rows_do_not_count(name: str) -> None:
    recommender, batch = model_and_batch()
    objective = build(name, recommender)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = Batch(rows_of(batch, order), batch.items[order], batch.negatives[order])
    torch.testing.assert_close(value(objective, recommender, shuffled), value(objective, recommender, batch))
    two = Batch(rows_of(batch, [0, 1]), batch.items[:2], batch.negatives[:2])
    masked = replace(batch, mask=torch.tensor([True, True, False, False]))
    torch.testing.assert_close(value(objective, recommender, masked), value(objective, recommender, two))


WITHOUT_RANKS = {"ego_l2", "prototype_contrast", "sequence_contrast", "view_contrast", "weight_decay"}


@pytest.mark.parametrize("name", sorted(set(NAMES) - WITHOUT_RANKS))
def test_ten_steps_raise_positives_over_negatives(name: str) -> None:
    recommender, batch = model_and_batch()
    if name == "ccl":  # its marks are for cosines
        recommender = Recommender(recommender.encoder, {"rank": Cosine(4)})
    objective = build(name, recommender)

    def margin() -> float:
        encoding = recommender.encoder(batch.inputs)
        positive = recommender.score(encoding, batch.items.unsqueeze(-1))
        return (positive - recommender.score(encoding, batch.negatives)).mean().item()

    before, optimizer = margin(), torch.optim.SGD(recommender.parameters(), lr=0.5)
    for _ in range(10):
        optimizer.zero_grad()
        value(objective, recommender, batch).backward()
        optimizer.step()
    assert margin() > before + 0.1


def test_objectives_are_a_weighted_sum_over_one_encoding() -> None:
    recommender, batch = model_and_batch()
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    recommender.encoder.register_forward_hook(count)
    total, parts = Objectives({"rank": (2.0, BPR()), "l2": (0.1, EgoL2())})(recommender, batch)
    assert calls == 1
    torch.testing.assert_close(total, 2.0 * parts[0] + 0.1 * parts[1])
    assert total.requires_grad
    assert not parts.requires_grad


def test_what_does_not_keep_to_its_part_is_named() -> None:
    class Rows(Objective):
        def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
            return recommender.score_pairs(encoding, batch.items)

    class Pair(Embedding):
        def forward(self, inputs: Inputs) -> Any:
            return self.users(inputs.users), self.items.weight

    batch = Batch(Inputs(torch.arange(3)), torch.arange(3), torch.zeros(3, 1, dtype=torch.int64))
    kept = Recommender(Embedding(5, 7, dim=2), {"rank": Dot(2)})
    with pytest.raises(
        ConfigError, match=r"objectives\.mine: gave a tensor of shape \(3,\); expected the mean over rows"
    ):
        Objectives({"rank": (1.0, BPR()), "mine": (1.0, Rows())})(kept, batch)
    with pytest.raises(ConfigError, match="encoder: Pair returned a tuple; expected an Encoding"):
        Objectives({"rank": (1.0, BPR())})(Recommender(Pair(5, 7, dim=2), {"rank": Dot(2)}), batch)


def test_without_negatives_they_are_asked_for() -> None:
    recommender, batch = model_and_batch()
    with pytest.raises(ValueError, match="give Batch `negatives`"):
        value(BPR(), recommender, replace(batch, negatives=None))


def test_no_rows_have_a_mean_of_0() -> None:
    assert masked_mean(torch.zeros(0), None) == 0


def test_random_interactions_have_no_user_with_everything() -> None:
    assert (random_interactions().csr().sum(axis=1) < 17).all()
