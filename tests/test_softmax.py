"""Sampled softmax and BSL equal loops, with gradients, at any temperature and with shared sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import references_objectives as naive
import torch
import torch.nn.functional as F
from cases import random_interactions
from torch import Tensor

from recgraph.encoders import Embedding, SASRec
from recgraph.errors import ConfigError
from recgraph.heads import MLP, Cosine, Dot, Head
from recgraph.models.recommender import Recommender
from recgraph.objectives import BCE, BSL, CCL, GBCE, Objective, Softmax, rows
from recgraph.objectives.softmax import cross_entropy, log_sum_exp
from recgraph.random import isolated
from recgraph.registry import objectives
from recgraph.sampling.positives import Positives
from recgraph.types import Batch, Inputs

TABLE = random_interactions()
NUM = 5
LOSSES: dict[str, tuple[Objective, naive.RowLoss]] = {
    "softmax": (Softmax(temperature=0.7), naive.softmax(0.7)),
    "softmax at a low temperature": (Softmax(temperature=0.05), naive.softmax(0.05)),
    "bsl": (BSL(temperature=0.3, exponent=1.2), naive.bsl(0.3, 1.2)),
    "bsl below 1": (BSL(temperature=0.3, exponent=0.84), naive.bsl(0.3, 0.84)),
    "ccl": (CCL(margin=0.2, negative_weight=30.0), naive.ccl(0.2, 30.0)),
    "gbce": (GBCE(calibration=0.75), naive.gbce(0.75, NUM, TABLE.num_items)),
    "gbce as bce": (GBCE(calibration=0.0), naive.gbce(0.0, NUM, TABLE.num_items)),
    "bce": (BCE(), naive.bce),
    "gbce in full": (GBCE(calibration=1.0), naive.gbce(1.0, NUM, TABLE.num_items)),
}
"""What the tests of all ranking objectives run over, here rather than in three files."""


def setting(head: type[Head], num: int = NUM) -> tuple[Recommender, Batch]:
    with isolated(0, "test"):
        recommender = Recommender(Embedding(TABLE.num_users, TABLE.num_items, dim=4, std=0.8), {"rank": head(4)})
    generator = torch.Generator().manual_seed(0)
    users, items = torch.from_numpy(TABLE.user_indices), torch.from_numpy(TABLE.item_indices)
    negatives = torch.randint(TABLE.num_items, (len(users), num), generator=generator)
    mask = torch.rand(len(users), generator=generator) < 0.7
    return recommender.double(), Batch(Inputs(users), items, negatives, mask=mask)


def shared(batch: Batch) -> Batch:
    """The batch with four sets, of which the last three have hits; a user of the first likes all of it."""
    favourite = TABLE.csr()[int(batch.inputs.users[0])].indices
    first = torch.from_numpy(favourite[torch.arange(NUM).numpy() % len(favourite)]).long()
    sets = torch.stack([first, *torch.tensor([[0, 3, 3, 9, 12], [5, 16, 1, 2, 0], [2, 8, 9, 10, 4]])])
    return replace(batch, negatives=sets, hits=tuple(Positives(TABLE).hits(batch.inputs.users, sets)))


def counted(batch: Batch) -> list[list[int]]:
    """For each row the negatives that count, found without `hits`."""
    if batch.hits is None:
        return batch.negatives.tolist()
    liked, run = TABLE.csr().toarray() > 0, -(-len(batch.items) // len(batch.negatives))
    return [
        [item for item in batch.negatives[row // run].tolist() if not liked[user, item]]
        for row, user in enumerate(batch.inputs.users.tolist())
    ]


def with_gradients(recommender: Recommender, loss: Tensor) -> tuple[Tensor, ...]:
    return loss.detach(), *torch.autograd.grad(loss, list(recommender.parameters()))


def both(objective: Objective, recommender: Recommender, batch: Batch) -> tuple[Tensor, ...]:
    return with_gradients(recommender, objective(recommender, batch, recommender.encoder(batch.inputs)))


def expected(loss: naive.RowLoss, recommender: Recommender, batch: Batch) -> tuple[Tensor, ...]:
    users, items = recommender.encoder.users.weight, recommender.encoder.items.weight
    cosine = isinstance(recommender.heads["rank"], Cosine)
    scores = naive.cosines(users, items) if cosine else users @ items.T
    some = torch.arange(len(batch.items))[batch.mask].tolist()
    value = naive.mean_over_rows(loss, scores[batch.inputs.users], batch.items.tolist(), counted(batch), some)
    return with_gradients(recommender, value)


def heads_of(name: str) -> list[type[Head]]:
    return [Cosine] if name == "ccl" else [Dot, Cosine]  # the paper's 1 - s⁺ is for cosines


CASES = [(name, head) for name in LOSSES for head in heads_of(name)]


@pytest.mark.parametrize("share", [lambda batch: batch, shared], ids=["own", "shared"])
@pytest.mark.parametrize(("name", "head"), CASES)
def test_loss_and_gradient_equal_a_loop(name: str, head: type[Head], share: Callable[[Batch], Batch]) -> None:
    objective, reference = LOSSES[name]
    recommender, batch = setting(head)
    batch = share(batch)
    found = both(objective, recommender, batch)
    # torch takes softplus(x) for x above 20, which is out by 2e-9.
    torch.testing.assert_close(found, expected(reference, recommender, batch), rtol=1e-8, atol=1e-8)


def test_the_shared_batch_has_a_row_of_nothing_but_hits() -> None:
    _, batch = setting(Dot)
    assert not counted(shared(batch))[0]
    assert any(0 < len(row) < NUM for row in counted(shared(batch)))


@pytest.mark.parametrize("share", [lambda batch: batch, shared], ids=["own", "shared"])
@pytest.mark.parametrize(("name", "head"), CASES)
def test_chunks_change_nothing(
    name: str, head: type[Head], share: Callable[[Batch], Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, _ = LOSSES[name]
    recommender, batch = setting(head)
    batch = share(batch)
    whole = both(objective, recommender, batch)
    monkeypatch.setattr(rows, "CHUNK_FLOATS", 7 * (1 + NUM) * 4)
    torch.testing.assert_close(both(objective, recommender, batch), whole, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("loss", "own"), [("cross_entropy", False), ("softmax", False), ("softmax", True)])
def test_what_layers_over_pairs_keep_stays_within_a_chunk(
    loss: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the whole catalogue, of a shared set and of each row's own; each with the gradient of one piece."""
    _, batch = setting(Dot)
    batch = batch if own or loss == "cross_entropy" else shared(batch)
    with isolated(0, "test"):
        encoder, head = Embedding(TABLE.num_users, TABLE.num_items, dim=4, std=0.8), MLP(4, hidden=(6, 5))
    recommender, objective = Recommender(encoder, {"rank": head}).double(), objectives.build(loss)
    whole, kept, match = both(objective, recommender, batch), [], MLP.match

    def watched(self: MLP, query: Tensor, items: Tensor) -> Tensor:
        found = match(self, query, items)
        kept.append(found.numel() * (6 + 5))
        return found

    monkeypatch.setattr(MLP, "match", watched)
    monkeypatch.setattr(rows, "CHUNK_FLOATS", 900)
    torch.testing.assert_close(both(objective, recommender, batch), whole, rtol=1e-9, atol=1e-11)
    assert max(kept) <= 900


@pytest.mark.parametrize("scale", [1e4, -1e4])
@pytest.mark.parametrize("all_hits", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_rows_are_finite_at_huge_scores_and_without_negatives(
    name: str, dtype: torch.dtype, all_hits: bool, scale: float
) -> None:
    objective, _ = LOSSES[name]
    positives = torch.tensor([[scale], [-scale]], dtype=dtype, requires_grad=True)
    negatives = torch.tensor([[-scale, 0.0, scale]], dtype=dtype).repeat(2, 1).requires_grad_()
    hits = torch.arange(6) if all_hits else torch.tensor([0, 5])
    values = objective.row_losses(positives, negatives, hits, 50)
    values.sum().backward()
    for tensor in (values, positives.grad, negatives.grad):
        assert tensor.isfinite().all()
    assert (negatives.grad.view(-1)[hits] == 0).all()


@pytest.mark.parametrize("temperature", [1e-6, 1e6])
def test_extreme_temperatures_give_their_limits(temperature: float) -> None:
    positives, negatives = torch.tensor([[0.5]]), torch.tensor([[0.2, 0.9, -0.3]])
    value = temperature * Softmax(temperature=temperature).row_losses(positives, negatives, None, 50)
    if temperature < 1:
        assert value.item() == pytest.approx(0.9 - 0.5)  # τ ln Σ exp(s/τ) tends to the largest score
    else:
        assert (value / temperature).item() == pytest.approx(math.log(4))  # all are alike


def test_softmax_with_one_negative_at_temperature_1_is_bpr() -> None:
    recommender, batch = setting(Dot, num=1)
    bpr = objectives.build("bpr")
    torch.testing.assert_close(both(Softmax(temperature=1.0), recommender, batch), both(bpr, recommender, batch))


def test_softmax_over_all_other_items_is_cross_entropy() -> None:
    recommender, batch = setting(Dot)
    every = torch.arange(TABLE.num_items).expand(len(batch.items), -1)
    others = every[every != batch.items.unsqueeze(1)].view(len(batch.items), -1)
    scores = recommender.score(recommender.encoder(batch.inputs))
    full = torch.nn.functional.cross_entropy(scores[batch.mask] / 0.4, batch.items[batch.mask])
    found = both(Softmax(temperature=0.4), recommender, replace(batch, negatives=others))
    torch.testing.assert_close(found, with_gradients(recommender, full))


def check_bsl_by_user(recommender: Recommender, batch: Batch, users: list[int], scores: Tensor) -> None:
    """BSL by user equals a loop over the rows, of these users and with these scores of all items."""
    some = range(len(batch.items)) if batch.mask is None else torch.arange(len(batch.items))[batch.mask].tolist()
    items, negatives = batch.items.tolist(), batch.negatives.tolist()
    total = torch.zeros((), dtype=torch.float64)
    for row in some:
        mine = [torch.exp(scores[other, items[other]] / 0.2) for other in some if users[other] == users[row]]
        below = sum(torch.exp(scores[row, item] / 0.2) for item in negatives[row]) / NUM
        total = total - torch.log(sum(mine) / len(mine) / below**1.1)
    found = both(BSL(temperature=0.2, exponent=1.1, by_user=True), recommender, batch)
    torch.testing.assert_close(found, with_gradients(recommender, total / len(some)), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("masked", [False, True])
def test_bsl_by_user_takes_the_mean_over_the_positives_of_the_user(masked: bool) -> None:
    recommender, batch = setting(Cosine)
    batch = batch if masked else replace(batch, mask=None)
    scores = naive.cosines(recommender.encoder.users.weight, recommender.encoder.items.weight)
    check_bsl_by_user(recommender, batch, batch.inputs.users.tolist(), scores[batch.inputs.users])


def test_bsl_by_user_of_steps_takes_the_mean_over_all_steps_of_the_user() -> None:
    with isolated(0, "test"):
        recommender = Recommender(SASRec(6, 17, dim=4, std=0.8), {"rank": Cosine(4)}).double().eval()
    history = torch.tensor([[0, 1, 2], [4, 5, 6], [0, 0, 7]])
    inputs = Inputs(torch.tensor([3, 5, 3]), history, positions=torch.tensor([1, 2, 3, 4, 5, 8]))
    items, encoding = torch.tensor([1, 8, 4, 5, 9, 2]), recommender.encoder(inputs)
    batch = Batch(inputs, items, (items[:, None] + torch.arange(1, 1 + NUM)) % 17)
    check_bsl_by_user(recommender, batch, [3, 3, 5, 5, 5, 3], naive.cosines(encoding.query, encoding.items))


def test_bsl_with_two_temperatures_is_the_papers_loss() -> None:
    """-τ₁ ln E⁺ exp(s/τ₁) + τ₂ ln E⁻ exp(s/τ₂), over τ₂: a user's mean once for each of its rows."""
    recommender, batch = setting(Cosine)
    batch = replace(batch, mask=None)
    scores = naive.cosines(recommender.encoder.users.weight, recommender.encoder.items.weight)
    users, items, negatives = batch.inputs.users.tolist(), batch.items.tolist(), batch.negatives.tolist()
    one, two, total = 0.5, 0.2, torch.zeros((), dtype=torch.float64)
    for user, row in zip(users, negatives, strict=True):
        mine = [torch.exp(scores[user, item] / one) for other, item in zip(users, items, strict=True) if other == user]
        below = sum(torch.exp(scores[user, item] / two) for item in row) / NUM
        total = total - one * torch.log(sum(mine) / len(mine)) + two * torch.log(below)
    found = both(BSL(temperature=two, positive_temperature=one, by_user=True), recommender, batch)
    torch.testing.assert_close(found, with_gradients(recommender, total / two / len(users)), rtol=1e-9, atol=1e-10)
    with pytest.raises(ConfigError, match="positive_temperature is of the mean over a user's positives"):
        BSL(positive_temperature=0.5)


def test_bsl_by_user_is_finite_at_huge_scores_and_without_valid_rows() -> None:
    recommender, batch = setting(Dot)
    with torch.no_grad():
        recommender.encoder.users.weight.mul_(1e4)
    objective = BSL(by_user=True)
    assert all(tensor.isfinite().all() for tensor in both(objective, recommender, batch))
    nobody = replace(batch, mask=torch.zeros_like(batch.mask))
    assert both(objective, recommender, nobody)[0] == 0


def test_another_head_may_be_trained_than_ranks() -> None:
    recommender, batch = setting(Cosine)
    two = Recommender(recommender.encoder, {"rank": Dot(4), "cosine": Cosine(4)})
    torch.testing.assert_close(both(Softmax(head="cosine"), two, batch), both(Softmax(), recommender, batch))


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "softmax", "temperature": 0},
        {"name": "bsl", "exponent": -1},
        {"name": "ccl", "margin": 1.5},
        {"name": "gbce", "calibration": 1.1},
        {"name": "direct_au", "gamma": -1},
    ],
)
def test_options_out_of_range_are_refused(spec: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=list(spec)[1]):
        objectives.build(spec)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_cross_entropy_is_torchs(temperature: float, scale: float) -> None:
    torch.manual_seed(0)
    values = (torch.randn(2, 3, 50, dtype=torch.float64) * scale).requires_grad_()
    targets, weights = torch.randint(50, (2, 3)), torch.rand(2, 3, dtype=torch.float64)
    found = cross_entropy(values, targets, temperature)
    (found * weights).sum().backward()
    mine, values.grad = values.grad, None
    flat = F.cross_entropy((values / temperature).flatten(0, 1), targets.flatten(), reduction="none")
    (flat * weights.flatten()).sum().backward()
    torch.testing.assert_close(found, flat.view(2, 3))
    torch.testing.assert_close(mine, values.grad)


def test_cross_entropy_of_coarse_scores_sums_in_32_bits() -> None:
    values = torch.zeros(1, 20_000, dtype=torch.bfloat16, requires_grad=True)
    found = cross_entropy(values, torch.tensor([7]))
    found.sum().backward()
    assert found.item() == pytest.approx(math.log(20_000), rel=1e-6)
    assert values.grad.dtype == torch.bfloat16
    assert values.grad[0, 7].item() == -1


def test_log_sum_exp_of_coarse_scores_sums_in_32_bits() -> None:
    values = torch.zeros(1, 20_000, dtype=torch.bfloat16, requires_grad=True)
    found = log_sum_exp(values, None, 0.5)
    found.sum().backward()
    assert found.item() == pytest.approx(math.log(20_000), rel=1e-6)
    assert values.grad.dtype == torch.bfloat16


def test_scores_may_lie_in_memory_in_any_order() -> None:
    scores, hits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).T, torch.tensor([1, 5])
    assert not scores.is_contiguous()
    torch.testing.assert_close(log_sum_exp(scores, hits, 0.1), log_sum_exp(scores.contiguous(), hits, 0.1))


def test_masked_negatives_do_not_count() -> None:
    """Not even in a row of nothing else, or beside much lower scores."""
    values = torch.tensor([[5.0, -400.0, -401.0], [1.0, 2.0, 3.0]], requires_grad=True)
    found = log_sum_exp(values, torch.tensor([0, 3, 4, 5]), 1.0)
    found[0].backward()
    assert found[0].item() == pytest.approx(-400 + math.log(1 + math.exp(-1)))
    assert found[1].item() == torch.finfo(torch.float32).min
    torch.testing.assert_close(values.grad, torch.tensor([[0, 0.731059, 0.268941], [0, 0, 0]]))


def test_against_the_batch_softmax_learns_everything_but_popularity() -> None:
    """Scores of τ ln p(item | user) - τ ln popularity are where its gradient is 0: `cosine`'s `popularity: τ` undoes it.

    The rows are all interactions of a table of counts, and its items as often as they are in it the negatives.
    """
    counts, temperature = torch.tensor([[6, 1, 2, 3], [1, 5, 1, 1], [9, 4, 2, 1]]), 0.3
    users, items = ((part := counts.nonzero())[:, side].repeat_interleave(counts[tuple(part.T)]) for side in (0, 1))
    popularity, wanted = counts.sum(0).double(), (counts / counts.sum(1, keepdim=True)).double().log()
    batch = Batch(Inputs(users), items, items.unsqueeze(0), hits=(torch.empty(0, dtype=torch.long),))
    for share, still in ((1, True), (0, False), (2, False)):
        encoder = Embedding(3, 4, dim=4).double()
        with torch.no_grad():
            encoder.items.weight.copy_(torch.eye(4))
            encoder.users.weight.copy_(temperature * (wanted - share * popularity.log()))
        recommender = Recommender(encoder, {"rank": Dot(4)})
        BSL(temperature=temperature)(recommender, batch, encoder(batch.inputs)).backward()
        assert torch.allclose(encoder.users.weight.grad, torch.zeros(3, 4, dtype=torch.float64)) == still
