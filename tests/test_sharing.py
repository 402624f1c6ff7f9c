"""Experts equal loops over experts and tasks, and every task goes through them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from cases import LABELLED as BATCH
from cases import random_interactions
from cases import with_label_heads as recommender
from torch import Tensor

from recgraph import registry
from recgraph.encoders import Embedding
from recgraph.heads import Dot
from recgraph.heads.labels import LabelHead
from recgraph.models.recommender import Recommender
from recgraph.models.sharing import PLE, Experts, MMoE
from recgraph.objectives import BPR, Label, Objectives
from recgraph.random import isolated
from recgraph.types import Inputs, Past

TASKS = ["rank", "sex"], ["rank", "genre"]


def softmax(row: list[float]) -> list[float]:
    return [math.exp(x) / sum(map(math.exp, row)) for x in row]


def naive_expert(experts: Experts, number: int, x: list[float]) -> list[float]:
    w, b, v, c = (
        part[number].tolist() for part in (experts.first, experts.first_bias, experts.second, experts.second_bias)
    )
    hidden = [max(0.0, sum(x[d] * w[d][h] for d in range(len(x))) + b[h]) for h in range(len(b))]
    return [sum(hidden[h] * v[h][d] for h in range(len(hidden))) + c[d] for d in range(len(c))]


def naive_mixture(gate: Tensor, x: list[float], made: list[list[float]]) -> tuple[list[float], list[float]]:
    weights = softmax([sum(w * one for w, one in zip(row, x, strict=True)) for row in gate.tolist()])
    return [sum(g * one[d] for g, one in zip(weights, made, strict=True)) for d in range(len(x))], weights


def build(kind: type, **options: object):
    with isolated(0, "test"):
        return kind(3, *TASKS, hidden=5, **options).double()


X = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.0, -0.3]], dtype=torch.float64)


@pytest.mark.parametrize("residual", [False, True])
def test_mmoe_equals_a_loop(residual: bool) -> None:
    sharing = build(MMoE, experts=4, residual=residual)
    side = sharing.sides["query"]
    found, gates = sharing("query", X), sharing.gates("query", X)
    assert set(found) == {"rank", "sex"}  # genres are no business of users
    for task in found:
        for row, x in enumerate(X.tolist()):
            made = [naive_expert(side.experts, number, x) for number in range(4)]
            mixture, weights = naive_mixture(side.gates[task].weight, x, made)
            expected = [one + residual * own for one, own in zip(mixture, x, strict=True)]
            assert found[task][row].tolist() == pytest.approx(expected, abs=1e-12)
            assert gates[task][row].tolist() == pytest.approx(weights, abs=1e-12)
    assert sharing.expert_names("query", "sex") == ("shared 1", "shared 2", "shared 3", "shared 4")
    with pytest.raises(KeyError, match="no task 'genre' reads the side 'query'"):
        sharing.expert_names("query", "genre")


@pytest.mark.parametrize("own", [0, 2])
def test_ple_of_two_levels_equals_a_loop(own: int) -> None:
    sharing = build(PLE, shared=3, own=own, levels=2, residual=False)
    first, second = sharing.sides["item"].levels
    found, gates = sharing("item", X), sharing.gates("item", X)
    for row, x in enumerate(X.tolist()):
        shared = [naive_expert(first.shared, n, x) for n in range(3)]
        mine = {task: [naive_expert(first.own[task], n, x) for n in range(own)] for task in ("rank", "genre")}
        below = {task: naive_mixture(first.gates[task].weight, x, mine[task] + shared)[0] for task in mine}
        every = mine["rank"] + mine["genre"] + shared
        common, _ = naive_mixture(first.shared_gate.weight, x, every)
        for task in mine:
            made = [naive_expert(second.own[task], n, below[task]) for n in range(own)]
            made += [naive_expert(second.shared, n, common) for n in range(3)]
            expected, weights = naive_mixture(second.gates[task].weight, below[task], made)
            assert found[task][row].tolist() == pytest.approx(expected, abs=1e-12)
            assert gates[task][row].tolist() == pytest.approx(weights, abs=1e-12)
    assert second.shared_gate is None
    names = sharing.expert_names("item", "genre")
    assert names == (*(f"genre {n + 1}" for n in range(own)), "shared 1", "shared 2", "shared 3")


@pytest.mark.parametrize("name", sorted(registry.sharings.components()))
def test_every_parameter_learns_and_every_task_goes_through_its_own_gate(name: str) -> None:
    model = recommender({"name": name, "hidden": 6})
    terms = {"rank": (1.0, BPR()), **{task: (1.0, Label(of=task)) for task in ("sex", "genre", "liked")}}
    Objectives(terms).backward(model, BATCH)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key
    assert set(model.sharing.tasks["query"]) == {"rank", "sex", "liked"}
    assert set(model.sharing.tasks["item"]) == {"rank", "genre", "liked"}
    for task in ("rank", "sex"):
        model.zero_grad()
        objective = BPR() if task == "rank" else Label(of="sex")
        Objectives({"it": (1.0, objective)}).backward(model, BATCH)
        last = model.sharing.sides["query"]
        gates = last.gates if name == "mmoe" else last.levels[-1].gates
        for other, gate in gates.items():
            assert (gate.weight.grad is not None and gate.weight.grad.any()) == (other == task)


def test_ranking_scores_what_its_experts_made() -> None:
    model = recommender({"name": "mmoe", "experts": 3}).eval()
    with torch.no_grad():
        users, items = model.encoder.users.weight, model.encoder.items.weight
        expected = model.sharing("query", users)["rank"] @ model.sharing("item", items)["rank"].T
        torch.testing.assert_close(model.scorer()(torch.arange(5)), expected)
        torch.testing.assert_close(model.score(model.encode_all()), expected)
        pairs = torch.arange(5).repeat_interleave(7), torch.arange(7).repeat(5)
        torch.testing.assert_close(model.predict(*pairs).view(5, 7), expected)
        assert not torch.allclose(expected, users @ items.T)
        for_sex = model.encode_all("sex")
        torch.testing.assert_close(for_sex.query, model.sharing("query", users)["sex"])
        torch.testing.assert_close(for_sex.items, items)  # which that task does not read


def test_training_ranks_with_what_validation_ranks_with() -> None:
    model = recommender({"name": "mmoe", "experts": 3})
    _, (loss,) = Objectives({"rank": (1.0, BPR())})(model, BATCH)
    with torch.no_grad():
        scores = model.eval().scorer()(BATCH.users)
    ahead = scores.gather(1, BATCH.items[:, None]) - scores.gather(1, BATCH.negatives)
    torch.testing.assert_close(loss, torch.nn.functional.softplus(-ahead).mean())


@pytest.mark.parametrize("encoder", ["attentive", "pooling"])
def test_target_attention_ranks_with_the_vectors_that_it_learns_from(encoder: str) -> None:
    """Its steps are items too, and have gone through the experts."""
    table = random_interactions()
    spec = {"encoder": {"name": encoder, "dim": 6}, "heads": {"rank": "din"}, "sharing": {"name": "mmoe", "experts": 3}}
    with isolated(0, "modules"):
        model = Recommender.build(12, 17, spec, None).double().eval()
    model.observe(table)
    users, items = torch.arange(12).repeat_interleave(17), torch.arange(17).repeat(12)
    inputs = Inputs(users, history=table.histories.last(users, model.encoder.max_length))
    encoding = model.encoder(inputs)
    learned = model.shares(replace(encoding, past=Past(inputs.history)))["rank"]
    with torch.no_grad():
        expected = model.score(learned, items[:, None])[:, 0]
        torch.testing.assert_close(model.scorer()(torch.arange(12)).flatten(), expected)
        torch.testing.assert_close(model.score_pairs(learned, items), expected)


def test_hard_sharing_hands_all_tasks_the_same_vectors() -> None:
    model = recommender(None)
    encoding = model.encoder(BATCH.inputs)
    assert model.shares(encoding) == {}
    assert model.encode_all("sex").query is not None
    assert [id(p) for p in model.shared_parameters()] == [id(p) for p in model.encoder.parameters()]


def test_contrast_reads_the_encoders_own_vectors() -> None:
    for name, objective in registry.objectives.components().items():
        contrast = name.endswith(("_contrast", "_neighbours"))
        assert (objective.task is None) == contrast, name


def test_experts_begin_as_wide_as_a_linear_layer() -> None:
    with isolated(0, "test"):
        experts = Experts(64, 8, 16)
    assert experts.first.abs().max() <= 1 / 8
    assert experts.second.std().item() == pytest.approx(1 / 4 / 3**0.5, rel=0.05)
    assert experts(torch.zeros(2, 3, 64)).shape == (2, 3, 8, 64)


def test_a_recommender_without_labels_has_what_it_had() -> None:
    with isolated(0, "test"):
        one = Recommender(Embedding(5, 7, dim=4), {"rank": Dot(4)})
    assert list(one.state_dict()) == ["encoder.users.weight", "encoder.items.weight"]
    assert isinstance(LabelHead(4, of="user", kind="number", width=1), torch.nn.Module)
    assert replace(BATCH, labels={}).labels == {}
