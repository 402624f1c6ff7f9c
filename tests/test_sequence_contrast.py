"""Contrast of sequences equals a loop, draws what it should, and keeps in line with the batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import random_interactions
from torch import Tensor

from recgraph.encoders import SASRec
from recgraph.heads import Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import SameTargetContrast, SequenceContrast
from recgraph.objectives.sequence_contrast import by_length, nt_xent
from recgraph.random import isolated, torch_generator
from recgraph.sampling.sequences import SequenceBatches
from recgraph.types import Batch, Inputs
from recgraph.views import CropMaskReorder


def loop(one: Tensor, two: Tensor, temperature: float, *, cosine: bool) -> Tensor:
    vectors = [*one, *two]
    size = lambda x: (x * x).sum().sqrt() if cosine else 1.0  # noqa: E731
    alike = lambda x, y: (x * y).sum() / size(x) / size(y) / temperature  # noqa: E731
    half, total = len(one), torch.zeros(())
    for number, mine in enumerate(vectors):
        other = vectors[(number + half) % (2 * half)]
        below = sum(alike(mine, c).exp() for place, c in enumerate(vectors) if place != number)
        total = total - (alike(mine, other).exp() / below).log()
    return total / (2 * half)


def equal(found: Tensor, expected: Tensor, leaves: Iterable[Tensor]) -> None:
    """Assert that two losses, and their gradients for some leaves, are equal."""
    inputs = list(leaves)
    gradients = [torch.autograd.grad(loss, inputs, retain_graph=True) for loss in (found, expected)]
    torch.testing.assert_close([found, *gradients[0]], [expected, *gradients[1]])


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_equals_a_loop(rows: int, similarity: Any) -> None:
    both = torch.randn(2, rows, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one, two = (vectors.clone().requires_grad_() for vectors in both)
    found = nt_xent(one, two, temperature=0.7, similarity=similarity)
    equal(found, loop(one, two, 0.7, cosine=similarity == "cosine"), [one, two])


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_finite_at_huge_scores(dtype: torch.dtype, similarity: Any, temperature: float) -> None:
    both = 100 * torch.randn(2, 5, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))
    both[0, 0] = -both[1, 0]
    both[1, 4] = 0  # a vector without direction
    assert (both[0] @ both[1].T).abs().max() > 1e4
    one, two = (vectors.clone().requires_grad_() for vectors in both)
    loss = nt_xent(one, two, temperature=temperature, similarity=similarity)
    loss.backward()
    assert all(value.isfinite().all() for value in (loss, one.grad, two.grad))


def test_no_rows_have_no_contrast() -> None:
    nothing = torch.zeros(0, 4, requires_grad=True)
    assert nt_xent(nothing, nothing, temperature=1.0, similarity="dot") == 0


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = torch.randn(2, 9, 4, dtype=torch.float64, requires_grad=True)
    whole = nt_xent(one, two, temperature=1.0, similarity="dot")
    monkeypatch.setattr("recgraph.objectives.rows.CHUNK_FLOATS", 5 * 18)
    parts = nt_xent(one, two, temperature=1.0, similarity="dot")
    equal(parts, whole, [one, two])


def setting(targets: Any, **options: Any) -> tuple[Recommender, Batch]:
    table = random_interactions(num_users=40, density=0.4)
    with isolated(0, "modules"):
        encoder = SASRec(40, 17, dim=4, std=0.5, dropout=0.5, max_length=8)
    generators = torch_generator(0, "order"), torch_generator(0, "negatives")
    batches = SequenceBatches(
        table, 12, *generators, targets=targets, max_length=8, views=torch_generator(0, "views"), **options
    )
    return Recommender(encoder, {"rank": Dot(4)}).double(), next(iter(batches))


@pytest.mark.parametrize("targets", ["every", "last"])
def test_without_a_view_dropout_makes_the_difference(targets: str) -> None:
    recommender, batch = setting(targets)
    calls: list[Tensor] = []
    recommender.encoder.register_forward_hook(lambda _, inputs, encoding: calls.append(encoding.query))
    encoding = recommender.encoder(batch.inputs)
    found = SequenceContrast()(recommender, batch, encoding)
    # The ranking's own encoding is one of the two where its queries are those after the last step.
    assert len(calls) == (2 if targets == "last" else 3)
    one, two = calls[-2:]
    assert one.shape == two.shape == (len(batch.inputs.users), 4)
    assert not torch.allclose(one, two)
    equal(found, loop(one, two, 1.0, cosine=False), recommender.parameters())


def test_views_are_drawn_twice() -> None:
    recommender, batch = setting("every")
    recommender.eval()
    state = batch.generator.get_state()
    encoding = recommender.encoder(batch.inputs)
    found = SequenceContrast(view=CropMaskReorder(), temperature=0.5)(recommender, batch, encoding)
    inputs = replace(batch.inputs, positions=None)
    batch.generator.set_state(state)
    one, two = (recommender.encoder(CropMaskReorder()(inputs, batch.generator)).query for _ in range(2))
    assert not torch.allclose(one, two)
    equal(found, loop(one, two, 0.5, cosine=False), recommender.parameters())


def test_partners_are_other_histories_before_the_same_item() -> None:
    table = random_interactions(num_users=40, density=0.4)
    own: dict[int, list[tuple[int, ...]]] = {}
    for user in range(40):
        items = table.item_indices[table.user_indices == user].tolist()
        for place in range(1, len(items)):
            own.setdefault(items[place], []).append(tuple(items[:place][-8:]))
    met: dict[int, set[tuple[int, ...]]] = {}
    generators = torch_generator(0, "order"), torch_generator(0, "negatives")
    batches = SequenceBatches(table, 12, *generators, targets="last", max_length=8, partners=True)
    for _ in range(30):
        for batch in batches:
            for item, mine, other in zip(batch.items.tolist(), batch.inputs.history, batch.partners, strict=True):
                mine, other = (tuple(i - 1 for i in row.tolist() if i) for row in (mine, other))
                assert other in own[item]
                assert other != mine or own[item].count(mine) > 1 or len(own[item]) == 1
                met.setdefault(item, set()).add(other)
    assert met == {item: set(histories) for item, histories in own.items()}


def test_who_has_no_partner_is_its_own() -> None:
    table = random_interactions(num_users=2, num_items=17)
    generators = torch_generator(0, "order"), torch_generator(0, "negatives")
    for batch in SequenceBatches(table, 1, *generators, targets="last", partners=True):
        assert batch.partners.shape[0] == 1


def test_same_target_contrast_is_between_a_history_and_its_partner() -> None:
    recommender, batch = setting("last", partners=True)
    recommender.eval()
    encoding = recommender.encoder(batch.inputs)
    found = SameTargetContrast(temperature=2.0)(recommender, batch, encoding)
    other = recommender.encoder(Inputs(batch.inputs.users, batch.partners)).query
    equal(found, loop(encoding.query, other, 2.0, cosine=False), recommender.parameters())


@pytest.mark.parametrize("user", ["history", "sum"])
def test_partners_are_encoded_in_their_order_whatever_their_lengths(user: str) -> None:
    with isolated(0, "modules"):
        encoder = SASRec(6, 17, dim=4, std=0.5, max_length=8, user=user).eval()
    rows = [[0, 0, 0, 0, 0, 1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 11], [0] * 7 + [5], [0] * 8, [0, 0, 0, 7, 6, 5, 4, 3]]
    for count in (1, 3, 5):
        inputs = Inputs(torch.arange(count), torch.tensor(rows[:count]))
        torch.testing.assert_close(by_length(encoder, inputs), encoder(inputs).query)
