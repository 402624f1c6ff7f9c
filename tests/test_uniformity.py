"""DirectAU equals loops over pairs, with gradients, in chunks and under a mask."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import references_objectives as naive
import torch
from cases import random_interactions
from torch import Tensor

from recgraph.encoders import Embedding
from recgraph.heads import Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import DirectAU, rows
from recgraph.objectives.uniformity import uniformity
from recgraph.random import isolated
from recgraph.types import Batch, Inputs


def setting() -> tuple[Recommender, Batch]:
    table = random_interactions()
    with isolated(0, "test"):
        recommender = Recommender(Embedding(table.num_users, table.num_items, dim=4, std=0.8), {"rank": Dot(4)})
    users, items = torch.from_numpy(table.user_indices), torch.from_numpy(table.item_indices)
    mask = torch.rand(len(users), generator=torch.Generator().manual_seed(0)) < 0.7
    return recommender.double(), Batch(Inputs(users), items, mask=mask)


def with_gradients(recommender: Recommender, loss: Tensor) -> tuple[Tensor, ...]:
    return loss.detach(), *torch.autograd.grad(loss, list(recommender.parameters()))


def both(recommender: Recommender, batch: Batch, gamma: float = 1.5) -> tuple[Tensor, ...]:
    objective = DirectAU(gamma=gamma)
    return with_gradients(recommender, objective(recommender, batch, recommender.encoder(batch.inputs)))


@pytest.mark.parametrize("chunk", [None, 10**3])
@pytest.mark.parametrize("masked", [False, True])
def test_loss_and_gradient_equal_a_loop(masked: bool, chunk: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, batch = setting()
    some = batch.mask if masked else torch.ones_like(batch.mask)
    users = list(recommender.encoder.users.weight[batch.inputs.users[some]])
    items = list(recommender.encoder.items.weight[batch.items[some]])
    expected = with_gradients(recommender, naive.direct_au(users, items, 1.5))
    if chunk is not None:
        assert len(users) ** 2 > 2 * chunk, "there should be several chunks"
        monkeypatch.setattr(rows, "CHUNK_FLOATS", chunk)
    found = both(recommender, batch if masked else replace(batch, mask=None))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_uniformity_is_that_of_pdist() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(50, 6, dtype=torch.float64), dim=-1)
    expected = torch.pdist(vectors).pow(2).mul(-2).exp().mean().log()
    torch.testing.assert_close(uniformity(vectors), expected)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_short_numbers_are_summed_in_32_bits(kind: torch.dtype, autocast: bool) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(600, 6), dim=-1).to(kind).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = uniformity(vectors)
    assert found.dtype == torch.float32
    wide = vectors.detach().double().requires_grad_()
    expected = (2 * (2 * wide @ wide.T - 2)).exp().triu(1).sum().div(600 * 599 / 2).log()
    torch.testing.assert_close(found.double(), expected, rtol=2e-4, atol=0)  # summed in 16 bits it is off by 8e-4
    one, two = torch.autograd.grad(found, vectors)[0], torch.autograd.grad(expected, wide)[0]
    assert one.dtype == kind
    torch.testing.assert_close(one.double(), two, rtol=0.05, atol=0.05 * two.abs().max().item())


def test_uniformity_of_opposite_and_of_equal_vectors() -> None:
    one = torch.tensor([[1.0, 0.0]])
    assert uniformity(torch.cat([one, -one])).item() == pytest.approx(-8)  # the lowest there is, with two vectors
    assert uniformity(torch.cat([one, one])).item() == pytest.approx(0)
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert uniformity(square).item() == pytest.approx(math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6))


@pytest.mark.parametrize("valid", [0, 1])
def test_without_a_pair_there_is_alignment_alone(valid: int) -> None:
    recommender, batch = setting()
    mask = torch.arange(len(batch.items)) < valid
    value, *gradients = both(recommender, replace(batch, mask=mask))
    users, items = recommender.encoder.users.weight, recommender.encoder.items.weight
    user, item = naive.unit(users[batch.inputs.users[0]]), naive.unit(items[batch.items[0]])
    torch.testing.assert_close(value, valid * (user - item).square().sum())
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_length_of_vectors_does_not_matter() -> None:
    recommender, batch = setting()
    before = both(recommender, batch)[0]
    with torch.no_grad():
        recommender.encoder.users.weight.mul_(torch.linspace(0.1, 9, 12).unsqueeze(1))
    torch.testing.assert_close(both(recommender, batch)[0], before)


def test_pairs_spread_and_positives_meet() -> None:
    recommender, batch = setting()

    def state() -> tuple[float, float]:
        encoding = recommender.encoder(batch.inputs)
        users = torch.nn.functional.normalize(encoding.query, dim=-1)
        items = torch.nn.functional.normalize(encoding.items[batch.items], dim=-1)
        return (users * items).sum(-1).mean().item(), uniformity(users).item()

    optimizer = torch.optim.SGD(recommender.parameters(), lr=0.5)
    before = state()
    for _ in range(30):
        optimizer.zero_grad()
        DirectAU()(recommender, batch, recommender.encoder(batch.inputs)).backward()
        optimizer.step()
    after = state()
    assert after[0] > before[0] + 0.1
    assert after[1] < before[1]
