"""Sampled softmax that is corrected for how negatives are drawn estimates the softmax over all items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_softmax import NUM, TABLE, both, counted, setting, shared, with_gradients
from torch import Tensor

from recgraph.errors import ConfigError
from recgraph.heads import Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import Objectives, Softmax, rows
from recgraph.random import torch_generator
from recgraph.sampling.batches import Batches
from recgraph.sampling.negatives import InBatch, Popularity, Sampler, Uniform
from recgraph.sampling.positives import Positives
from recgraph.types import Batch

LIKED = torch.from_numpy(TABLE.csr().toarray() > 0)
USERS, ITEMS = torch.from_numpy(TABLE.user_indices), torch.from_numpy(TABLE.item_indices)


def full_softmax(recommender: Recommender, batch: Batch) -> tuple[Tensor, ...]:
    """-ln of the positive's share among itself and all items that the row's user does not like."""
    scores = recommender.score(recommender.encoder(batch.inputs)) / 0.4
    left_out = LIKED[batch.inputs.users].clone()
    left_out[torch.arange(len(left_out)), batch.items] = False
    scores = scores.masked_fill(left_out, -torch.inf)
    return with_gradients(recommender, F.cross_entropy(scores[batch.mask], batch.items[batch.mask]))


@pytest.mark.parametrize("sets", [1, 3])
def test_a_set_in_proportion_to_its_probabilities_gives_the_full_softmax(
    sets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each item as often as its probability says, so that the estimate is what it is in the mean."""
    recommender, batch = setting(Dot)
    often = torch.arange(1, TABLE.num_items + 1)
    drawn = torch.repeat_interleave(often).expand(sets, -1)
    log_q = (often.double() / often.sum()).log()[drawn]
    hits = tuple(Positives(TABLE).hits(batch.inputs.users, drawn))
    monkeypatch.setattr(rows, "CHUNK_FLOATS", 10)
    found = both(
        Softmax(temperature=0.4, logq=True), recommender, replace(batch, negatives=drawn, hits=hits, log_q=log_q)
    )
    torch.testing.assert_close(found, full_softmax(recommender, batch))


@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("share", [lambda batch: batch, shared], ids=["own", "shared"])
def test_equals_a_loop(share: Callable[[Batch], Batch], chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, batch = setting(Dot)
    batch = share(batch)
    batch = replace(batch, log_q=-torch.rand(batch.negatives.shape, generator=torch_generator(0, "q")).double() * 5)
    monkeypatch.setattr(rows, "CHUNK_FLOATS", chunk * (1 + NUM) * 4)
    scores = recommender.score(recommender.encoder(batch.inputs)) / 0.4
    run, losses = -(-len(batch.items) // len(batch.negatives)), []
    for row in batch.mask.nonzero().flatten().tolist():
        mine, below = row // run, scores[row, batch.items[row]].exp()
        for item, log_q in zip(batch.negatives[mine].tolist(), batch.log_q[mine].tolist(), strict=True):
            if item in counted(batch)[row]:
                below = below + scores[row, item].exp() / (NUM * torch.tensor(log_q).double().exp())
        losses.append(-torch.log(scores[row, batch.items[row]].exp() / below))
    expected = with_gradients(recommender, torch.stack(losses).mean())
    found = both(Softmax(temperature=0.4, logq=True), recommender, batch)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sampler", [Uniform(TABLE, num=4), Popularity(TABLE, num=4, alpha=1.0)])
def test_probabilities_of_own_sets_are_those_that_are_drawn(sampler: Sampler) -> None:
    """They sum to 1 over what the user does not like, and are how often items come."""
    user, free = 4, (~LIKED[4]).nonzero().flatten()
    everything = sampler.log_q(torch.full((1,), user), free[None]).exp()
    assert everything.sum().item() == pytest.approx(1)
    many = sampler.sample(torch.full((50_000,), user), ITEMS[:1].expand(50_000), torch_generator(0, "negatives"))
    often = torch.bincount(many.flatten(), minlength=TABLE.num_items)[free] / many.numel()
    torch.testing.assert_close(often, everything[0], rtol=0, atol=5 * 0.5 / many.numel() ** 0.5)


@pytest.mark.parametrize("sampler", [Popularity(TABLE, num=4, alpha=1.0, shared_by=10), InBatch(TABLE, shared_by=10)])
def test_probabilities_of_shared_sets_are_shares_of_training(sampler: Sampler) -> None:
    share = torch.bincount(ITEMS, minlength=TABLE.num_items) / len(ITEMS)
    negatives = sampler.sample(USERS, ITEMS, torch_generator(0, "negatives"))
    torch.testing.assert_close(sampler.log_q(USERS, negatives).exp(), share[negatives])


@pytest.mark.parametrize(
    "sampler", [Uniform(TABLE, num=3), Popularity(TABLE, num=3, shared_by=5), InBatch(TABLE, shared_by=5)]
)
def test_batches_carry_what_the_objective_needs(sampler: Sampler) -> None:
    assert "log_q" in Objectives({"rank": (1.0, Softmax(logq=True))}).needs
    assert "log_q" not in Softmax().needs
    order = torch_generator(0, "order"), torch_generator(0, "negatives")
    for batch in Batches(TABLE, 20, *order, sampler=sampler, log_q=True):
        assert batch.log_q.shape == batch.negatives.shape
        torch.testing.assert_close(batch.log_q, sampler.log_q(batch.inputs.users, batch.negatives))
    assert next(iter(Batches(TABLE, 20, *order, sampler=sampler))).log_q is None


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_finite_at_huge_scores(dtype: torch.dtype, temperature: float) -> None:
    _, batch = setting(Dot)
    part = replace(batch, log_q=torch.tensor([[-40.0, 0.0, -1e-3]]), hits=(torch.tensor([1, 3, 4, 5]),))
    positives = torch.tensor([[1e4], [-1e4]], dtype=dtype, requires_grad=True)
    negatives = torch.tensor([[-1e4, 0.0, 1e4]], dtype=dtype).repeat(2, 1).requires_grad_()
    values = Softmax(logq=True, temperature=temperature).part_losses(positives, negatives, part, 50)
    values.sum().backward()
    assert all(tensor.isfinite().all() for tensor in (values, positives.grad, negatives.grad))


def test_what_is_not_known_is_refused() -> None:
    recommender, batch = setting(Dot)
    with pytest.raises(ValueError, match="give Batch a `log_q`"):
        both(Softmax(logq=True), recommender, batch)
    with pytest.raises(ConfigError, match="Sampler has no `probabilities`"):
        Sampler(TABLE, num=1, shared_by=None).log_q(USERS, ITEMS[:, None])
