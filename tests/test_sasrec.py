"""SASRec equals loops, never looks ahead, does not see padding, and learns an order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import references_sequence
import torch
from torch import Tensor

from recgraph.data.interactions import Interactions
from recgraph.encoders import SASRec
from recgraph.encoders.transformer import LowPass
from recgraph.errors import ConfigError
from recgraph.heads import Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import CrossEntropy, Objectives
from recgraph.random import isolated, torch_generator
from recgraph.sampling.sequences import SequenceBatches
from recgraph.types import Inputs

BSAREC: dict[str, Any] = {"norm": "post", "feed_forward": 4, "activation": "gelu", "frequency": 0.7}
VARIANTS: dict[str, dict[str, Any]] = {
    "query": {},
    "heads": {"num_heads": 2},
    "pre": {"norm": "pre", "num_heads": 2},
    "post": {"norm": "post", "feed_forward": 4, "activation": "gelu"},
    "bsarec": BSAREC,
}


def build(**options: Any) -> SASRec:
    with isolated(0, "modules"):
        encoder = SASRec(9, 11, **{"dim": 6, "max_length": 7, "std": 0.5, **options}).double()
        for name, parameter in encoder.named_parameters():  # no neutral values, which a mistake could hide behind
            if name.endswith("bias") or "norm" in name or "first" in name or "second" in name or "edge" in name:
                torch.nn.init.normal_(parameter, mean=0.5)
    return encoder.eval()


def queries(encoder: SASRec, history: list[list[int]]) -> Tensor:
    """The query at every step, [batch, length, dim]."""
    steps = torch.tensor(history)
    every = torch.arange(steps.numel())
    return encoder(Inputs(torch.arange(len(steps)), steps, positions=every)).query.view(*steps.shape, -1)


HISTORY = [[0, 0, 3, 5, 1], [2, 2, 9, 11, 4], [0, 0, 0, 0, 8]]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_last_query_equals_loops(name: str) -> None:
    encoder = build(**VARIANTS[name])
    found = encoder(Inputs(torch.arange(3), torch.tensor(HISTORY))).query
    for row, vector in zip(HISTORY, found, strict=True):
        expected = references_sequence.sasrec(encoder, [item - 1 for item in row if item])[-1]
        torch.testing.assert_close(vector, expected)


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"bsarec"}))
def test_the_query_at_each_step_equals_loops(name: str) -> None:
    encoder = build(**VARIANTS[name])
    for row, vectors in zip(HISTORY, queries(encoder, HISTORY), strict=True):
        items = [item - 1 for item in row if item]
        torch.testing.assert_close(vectors[-len(items) :], torch.stack(references_sequence.sasrec(encoder, items)))


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"bsarec"}))
def test_a_step_never_sees_a_later_one(name: str) -> None:
    encoder = build(**VARIANTS[name])
    before = queries(encoder, [[3, 5, 1, 7, 2]])
    after = queries(encoder, [[3, 5, 1, 9, 2]])
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=0)
    assert ((before - after)[:, 3:].abs() > 1e-6).any(-1).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_padding_changes_nothing(name: str) -> None:
    encoder = build(**VARIANTS[name])
    for width in (2, 3, 7):
        padded = torch.tensor([[0] * (width - 2) + [3, 5]])
        one = encoder(Inputs(torch.tensor([0]), padded)).query
        torch.testing.assert_close(one, encoder(Inputs(torch.tensor([0]), torch.tensor([[3, 5]]))).query)


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_but_padding_is_finite_and_so_are_gradients(name: str) -> None:
    encoder = build(**VARIANTS[name]).train()
    query = encoder(Inputs(torch.tensor([0, 1]), torch.tensor([[0, 0, 0], [0, 0, 4]]))).query
    assert query.isfinite().all()
    query.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters() if parameter.grad is not None)


def test_the_order_of_a_history_matters() -> None:
    one, two = (queries(build(), [row])[:, -1] for row in ([3, 5, 1], [5, 3, 1]))
    assert not torch.allclose(one, two)


@pytest.mark.parametrize(("length", "num_low"), [(7, 5), (8, 3), (8, 99), (1, 1)])
def test_the_low_pass_is_a_fourier_transform_cut_short(length: int, num_low: int) -> None:
    steps = torch.randn(2, length, 3, dtype=torch.float64)
    spectrum = torch.fft.rfft(steps, dim=1)
    spectrum[:, num_low // 2 + 1 :] = 0
    expected = torch.fft.irfft(spectrum, n=length, dim=1)
    torch.testing.assert_close(LowPass(3, length, num_low, 0.0).low.double() @ steps, expected, rtol=0, atol=1e-5)


def test_a_filter_that_sees_everything_refuses_targets_in_between() -> None:
    with pytest.raises(ValueError, match="only the last can have a target"):
        queries(build(**BSAREC), [[3, 5]])
    assert build(**BSAREC).targets == {"last"}
    assert build().targets == {"every", "last"}


@pytest.mark.parametrize(
    ("options", "message"), [({"num_heads": 4}, "4 heads do not divide"), ({"frequency": 0.5}, "wants norm 'post'")]
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)


@pytest.mark.parametrize("history", [None, torch.ones(1, 8, dtype=torch.long)])
def test_a_missing_or_too_long_history_is_refused(history: Tensor | None) -> None:
    with pytest.raises(ValueError, match="length at most 7"):
        build()(Inputs(torch.tensor([0]), history))


def test_item_dropout_hides_the_same_entries_from_steps_and_candidates_in_training_alone() -> None:
    encoder = build(dropout=0.0, item_dropout=0.5)
    inputs = Inputs(torch.arange(3), torch.tensor(HISTORY))
    torch.testing.assert_close(encoder(inputs).items, encoder.items.weight)
    with isolated(0, "dropout"):
        found = encoder.train()(inputs)
    kept = found.items != 0
    assert 0.2 < kept.float().mean() < 0.8
    torch.testing.assert_close(found.items[kept], 2 * encoder.items.weight[kept])
    with torch.no_grad():
        encoder.items.weight.copy_(found.items)
    torch.testing.assert_close(encoder.eval()(inputs).query, found.query)


def cycle(users: int = 64, items: int = 20, length: int = 8) -> Interactions:
    """Each user goes round from somewhere: after item i comes i + 1, whoever it is."""
    start, step = np.meshgrid(np.arange(users), np.arange(length), indexing="ij")
    return Interactions.from_frame(pl.DataFrame({"user": start.ravel(), "item": ((start + step) % items).ravel()}))


@pytest.mark.parametrize(
    ("name", "targets"), [("query", "every"), ("pre", "every"), ("post", "last"), ("bsarec", "last")]
)
def test_what_comes_next_in_a_cycle_is_learned(name: str, targets: str) -> None:
    table = cycle()
    with isolated(0, "modules"):
        encoder = SASRec(64, 20, dim=16, dropout=0.1, max_length=10, **VARIANTS[name] | {"num_heads": 1})
        recommender = Recommender(encoder, {"rank": Dot(16)})
        objectives = Objectives({"rank": (1.0, CrossEntropy())})
        optimizer = torch.optim.Adam(recommender.parameters(), lr=0.01)
        size = 16 if targets == "every" else 64
        generators = torch_generator(0, "order"), torch_generator(0, "negatives")
        batches = SequenceBatches(table, size, *generators, max_length=10, targets=targets)
        for _ in range(20):
            for batch in batches:
                optimizer.zero_grad()
                objectives(recommender, batch)[0].backward()
                optimizer.step()
    recommender.observe(table)
    with torch.no_grad():
        best = recommender.eval().scorer()(torch.arange(64)).argmax(1)
    hit = (best == (torch.arange(64) + 8) % 20).float().mean()
    assert hit > 0.95  # chance is 1/20; off by one in targets or positions, it is 0


def test_queries_of_many_users_do_not_depend_on_who_is_asked_for_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recgraph.models.recommender.PIECE", 3)
    table = cycle(users=11, items=11)
    table = table.select(np.random.default_rng(0).random(len(table)) < 0.7)
    recommender = Recommender(SASRec(11, 11, dim=6, max_length=7).double(), {"rank": Dot(6)}).eval()
    recommender.observe(table)
    together = recommender.encode_all().query
    for user in range(11):
        history = table.histories.last(torch.tensor([user]), 7)
        torch.testing.assert_close(together[user], recommender.encoder(Inputs(torch.tensor([user]), history)).query[0])
    scores = recommender.scorer()(torch.tensor([4, 1, 4]))
    torch.testing.assert_close(scores, together[[4, 1, 4]] @ recommender.encoder.items.weight.T)


def test_perturbation_reaches_each_block() -> None:
    encoder, calls = build(), []
    inputs = Inputs(torch.tensor([0]), torch.tensor([[3, 5]]))
    encoder(replace(inputs, perturb=lambda hidden: calls.append(hidden.shape) or hidden))
    assert calls == [(11, 6), (1, 2, 6), (1, 1, 6)]  # of the last block, only the last step
    calls.clear()
    encoder(replace(inputs, perturb=lambda hidden: calls.append(hidden.shape) or hidden, positions=torch.tensor([0])))
    assert calls == [(11, 6), (1, 2, 6), (1, 2, 6)]
