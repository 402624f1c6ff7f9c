"""Walking a batch in chunks changes neither the loss nor its gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cases import graph_of, random_interactions
from test_objectives import build
from torch import Tensor

from recgraph import registry
from recgraph.encoders import LightGCN
from recgraph.heads import Dot, Head
from recgraph.models.recommender import Recommender
from recgraph.objectives import BPR, CrossEntropy, rows
from recgraph.random import isolated
from recgraph.sampling.positives import Positives
from recgraph.types import Batch, Ego, Encoding, Inputs


class Scaled(Head):
    """A head with a parameter, whose gradient has to survive the walk too."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.scale = torch.nn.Parameter(torch.linspace(0.5, 2, dim))

    def match(self, query: Tensor, items: Tensor) -> Tensor:
        return (query * items * self.scale).sum(-1)


def setting(head: Head) -> tuple[Recommender, Batch]:
    table = random_interactions()
    with isolated(0, "test"):
        encoder = LightGCN(table.num_users, table.num_items, dim=4, num_layers=2, std=1.0)
    recommender = Recommender(encoder, {"rank": head}, graph=graph_of(table)).double()
    users, items = torch.from_numpy(table.user_indices), torch.from_numpy(table.item_indices)
    generator = torch.Generator().manual_seed(0)
    negatives = torch.randint(table.num_items, (len(users), 3), generator=generator)
    mask = torch.rand(len(users), generator=generator) < 0.7
    return recommender, Batch(Inputs(users, graph=graph_of(table)), items, negatives, mask=mask)


def loss_and_gradients(name: str, recommender: Recommender, batch: Batch) -> tuple[Tensor, ...]:
    objective = build(name, recommender)
    loss = 3 * objective(recommender, batch, recommender.encoder(objective.inputs(batch.inputs, batch)))
    gradients = torch.autograd.grad(loss, list(recommender.parameters()), allow_unused=True)
    return loss, *(torch.zeros(()) if gradient is None else gradient for gradient in gradients)


NAMES = sorted(
    set(registry.objectives.components())
    - {"same_target_contrast", "clcrec", "content_contrast", "content_neighbours", "aldi", "gar", "content_distance"}
    - {"label", "log_loss", "squared_error"}
)
"""Without those that want histories, content or labels, which have tests of their own."""


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("make", [Dot, Scaled])
@pytest.mark.parametrize("name", NAMES)
def test_chunks_of_rows_give_the_unchunked_loss_and_gradient(
    name: str, make: type[Head], masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender, batch = setting(make(4))
    batch = batch if masked else replace(batch, mask=None)
    whole = loss_and_gradients(name, recommender, batch)
    monkeypatch.setattr(rows, "CHUNK_FLOATS", 7 * 16)  # 7 rows of 4 vectors
    sizes = [len(part.items) for _, part in batch.parts(7)]
    assert len(sizes) > 3
    assert sizes[-1] < 7, "the last chunk should be short"
    torch.testing.assert_close(loss_and_gradients(name, recommender, batch), whole, rtol=1e-12, atol=1e-14)


WITHIN_BATCH = {"direct_au", "layer_contrast", "prototype_contrast", "sequence_contrast", "view_contrast"}
"""Objectives that compare rows of a batch with each other, or count a node of it once."""


@pytest.mark.parametrize("name", sorted(set(NAMES) - WITHIN_BATCH))
def test_each_shared_set_serves_its_own_rows(name: str) -> None:
    recommender, batch = setting(Dot(4))
    table = random_interactions()
    sets = torch.tensor([[0, 3, 3], [5, 16, 1], [2, 8, 9], [4, 4, 7]])
    hits = tuple(Positives(table).hits(batch.inputs.users, sets))
    found = loss_and_gradients(name, recommender, replace(batch, negatives=sets, hits=hits))
    run = -(-len(batch.items) // len(sets))
    parts = []
    for number in range(len(sets)):
        some = slice(number * run, (number + 1) * run)
        one = Batch(
            Inputs(batch.inputs.users[some], graph=batch.inputs.graph),
            batch.items[some],
            sets[number : number + 1],
            hits[number : number + 1],
            mask=batch.mask[some],
        )
        share = batch.mask[some].sum().double() / batch.mask.sum()
        values = loss_and_gradients(name, recommender, one)
        # A shared set of a regulariser counts once for its rows, however many these are.
        parts.append([share * value for value in values])
    expected = tuple(sum(column) for column in zip(*parts, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_a_chunk_has_no_more_rows_than_its_width_allows() -> None:
    recommender, batch = setting(Dot(4))
    longest = 0

    def losses(part: Batch, encoding: object) -> Tensor:
        nonlocal longest
        longest = max(longest, len(encoding.query), len(part.negatives))
        return encoding.query.sum(-1)

    encoding = recommender.encoder(batch.inputs)
    rows.mean_over_rows(losses, batch, encoding, width=rows.CHUNK_FLOATS // 5)
    assert longest == 5


def test_tables_that_a_loss_does_not_read_cost_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_FLOATS", 100)
    recommender, batch = setting(Dot(4))
    made = recommender.encoder(batch.inputs)
    query, items, *ego = (part.detach().requires_grad_() for part in (made.query, made.items, *made.ego))
    loss = registry.objectives.build("bpr")(recommender, batch, Encoding(query, items, Ego(*ego)))
    assert all(found is not None for found in torch.autograd.grad(loss, (query, items), retain_graph=True))
    assert torch.autograd.grad(loss, ego, allow_unused=True) == (None, None)


def test_without_gradients_the_value_is_the_same() -> None:
    recommender, batch = setting(Dot(4))
    objective = registry.objectives.build("bpr")
    with torch.no_grad():
        encoding = recommender.encoder(batch.inputs)
        expected = objective(recommender, batch, encoding)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows, "CHUNK_FLOATS", 100)
            torch.testing.assert_close(objective(recommender, batch, encoding), expected)


def test_many_chunks_are_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 a sum of hundreds of shares stops growing: of 800 chunks, the loss was a third of what it is."""
    recommender, _ = setting(Dot(4))
    draw, num_rows = torch.Generator().manual_seed(0), 5000
    query, items = (torch.randn(size, 4, generator=draw).bfloat16() for size in (num_rows, recommender.num_items))
    encoding = Encoding(query.requires_grad_(), items.requires_grad_(), Ego(None, items))
    drawn = torch.randint(recommender.num_items, (num_rows, 2), generator=draw)
    batch, found = Batch(Inputs(torch.zeros(num_rows, dtype=torch.long)), drawn[:, 0], drawn[:, 1:]), []
    for size in (2**23, 2**6):
        monkeypatch.setattr(rows, "CHUNK_FLOATS", size)
        loss = BPR()(recommender, batch, encoding)
        found.append((loss, *torch.autograd.grad(loss, (encoding.query, encoding.items))))
    assert found[1][0].item() == pytest.approx(found[0][0].item(), rel=1e-3)
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() < 0.01 * one.norm()


def test_a_long_history_makes_chunks_of_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    spec = {
        "encoder": {"name": "sasrec", "dim": 8, "max_length": 40},
        "heads": {"rank": {"name": "din", "attention": [6], "hidden": [6]}},
    }
    recommender = Recommender.build(5, 30, spec, None)
    history = torch.randint(1, 31, (12, 40), generator=generator)
    inputs = Inputs(torch.zeros(12, dtype=torch.long), history=history, positions=torch.arange(12 * 40))
    items = torch.randint(30, (480,), generator=generator)
    batch = Batch(inputs, items, torch.randint(30, (480, 1), generator=generator))
    longest, score = [], recommender.score
    monkeypatch.setattr(
        recommender,
        "score",
        lambda encoding, *rest, **more: longest.append(len(encoding.query)) or score(encoding, *rest, **more),
    )
    monkeypatch.setattr(rows, "CHUNK_FLOATS", 10_000)
    for objective in (BPR(), CrossEntropy()):
        longest.clear()
        objective(recommender, batch, recommender.encoder(inputs))
        assert max(longest) <= 10_000 / (40 * (8 + 1 + 8 + 6 + 1))  # a history, and what the head makes of it


def test_sets_of_another_objective_do_not_decide_about_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, batch = setting(Dot(4))
    shared = replace(batch, negatives=batch.negatives[:1], hits=(torch.zeros(0, dtype=torch.long),))
    monkeypatch.setattr(rows, "CHUNK_FLOATS", 5 * recommender.num_items)
    sizes, score = [], recommender.score
    monkeypatch.setattr(
        recommender,
        "score",
        lambda encoding, *rest, **more: sizes.append(len(encoding.query)) or score(encoding, *rest, **more),
    )
    found = [CrossEntropy()(recommender, one, recommender.encoder(one.inputs)) for one in (batch, shared)]
    assert max(sizes) == 5
    assert found[0] == found[1]
