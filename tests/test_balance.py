"""Balanced losses: the gradients of the papers' loops, and resumption to the bit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from test_trainer import Killed, make_trainer, on_a_graph, records, run_without_waiting
from torch import Tensor, nn

from recgraph import registry
from recgraph.models.recommender import Recommender
from recgraph.objectives import Objective, Objectives
from recgraph.objectives.balance import Balance, GradNorm, PCGrad, Uncertainty, gradients, gram, projected
from recgraph.random import isolated
from recgraph.types import Batch, Encoding


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def naive_pcgrad(rows: list[Tensor], order: torch.Generator) -> Tensor:
    done = []
    for task, own in enumerate(rows):
        moved = own.clone()
        for other in torch.randperm(len(rows), generator=order).tolist():
            if other != task and (inner := torch.dot(moved, rows[other]).item()) < 0:
                moved = moved - inner / rows[other].norm().item() ** 2 * rows[other]
        done.append(moved)
    return torch.stack(done).sum(0)


@pytest.mark.parametrize("scale", [1, 1e-9])
@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_pcgrad_equals_the_papers_loop(tasks: int, scale: float) -> None:
    rows = list(torch.randn(tasks, 4, generator=generator(), dtype=torch.float64) * scale)
    weights = projected(torch.stack(rows) @ torch.stack(rows).T, generator())
    expected = naive_pcgrad(rows, generator())
    torch.testing.assert_close(weights @ torch.stack(rows) / scale, expected / scale)
    assert not torch.allclose(expected / scale, torch.stack(rows).sum(0) / scale)


def test_pcgrad_leaves_gradients_that_agree_and_those_of_one_task_alone() -> None:
    assert projected(torch.tensor([[1.0, 0.5], [0.5, 2.0]]), generator()).tolist() == [1, 1]
    assert projected(torch.tensor([[0.0, 0.0], [0.0, 2.0]]), generator()).tolist() == [1, 1]  # a gradient of zeros
    shared, own = nn.Parameter(torch.tensor([1.0, 0.0])), nn.Parameter(torch.tensor(3.0))
    one, two = own * shared[0], -2 * shared[0] + shared[1]
    PCGrad(2).backward(torch.stack([one, two]), 7 * shared[1], [shared], generator())
    # (3, 0) and (-2, 1) are opposed: 3 - 6/5 · 2 ..., added by the definition; the rest is 7 of the second.
    first = torch.tensor([3.0, 0.0]) + 6 / 5 * torch.tensor([-2.0, 1.0])
    second = torch.tensor([-2.0, 1.0]) + 6 / 9 * torch.tensor([3.0, 0.0])
    torch.testing.assert_close(shared.grad, first + second + torch.tensor([0.0, 7.0]))
    assert own.grad == 1  # its own task's gradient, as it is


def test_gram_takes_parameters_that_a_task_does_not_reach_for_zeros() -> None:
    a, b = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([3.0]))
    losses = torch.stack([(a**2).sum(), (a * b).sum(), (4 * b).sum()])
    flat = torch.tensor([[2.0, 4.0, 0.0], [3.0, 3.0, 3.0], [0.0, 0.0, 4.0]])
    torch.testing.assert_close(gram(gradients(losses, [a, b]), losses), flat @ flat.T)


def test_uncertainty_minimises_the_papers_loss() -> None:
    shared = nn.Parameter(torch.tensor(2.0))
    balance = Uncertainty(2)
    with torch.no_grad():
        balance.log_variances.copy_(torch.tensor([0.3, -0.2]))
    balance.backward(torch.stack([shared**2, 3 * shared]), 5 * shared, [shared], None)
    sigma2 = [math.exp(0.3), math.exp(-0.2)]
    assert shared.grad.item() == pytest.approx(4 / sigma2[0] + 3 / sigma2[1] + 5, rel=1e-6)
    expected = [0.5 - 4 / sigma2[0], 0.5 - 6 / sigma2[1]]  # of L exp(-s) + s / 2
    assert balance.log_variances.grad.tolist() == pytest.approx(expected, rel=1e-6)
    assert balance.weights().tolist() == pytest.approx([1 / s for s in sigma2])


def test_uncertainty_settles_where_a_factor_is_one_over_twice_the_loss() -> None:
    balance = Uncertainty(2)
    adam = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(500):
        adam.zero_grad()
        balance.backward(torch.tensor([0.25, 5.0]), torch.tensor(0.0), [], None)
        adam.step()
    assert balance.weights().tolist() == pytest.approx([2.0, 0.1], rel=0.01)


def test_gradnorm_equals_the_papers_loop() -> None:
    alpha, lr, num = 1.5, 0.1, 3
    balance = GradNorm(num, alpha=alpha, lr=lr)
    weights, first = [1.0] * num, None
    for step in range(4):
        losses = (torch.rand(num, generator=generator()) + 0.1 * step + torch.arange(num)).double()
        norms = torch.tensor([0.5, 2.0, 0.1 * (step + 1)]).double()
        balance.step(losses.float(), norms.float())
        first = first or losses.tolist()
        ratios = [now / then for now, then in zip(losses.tolist(), first, strict=True)]
        rates = [ratio / (sum(ratios) / num) for ratio in ratios]
        w = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
        sizes = w * norms
        mean = sizes.detach().mean()
        target = mean * torch.tensor(rates).double() ** alpha
        ((sizes - target).abs().sum() / mean).backward()
        moved = (w - lr * w.grad).detach().clamp(min=1e-3)
        weights = (moved * num / moved.sum()).tolist()
        assert balance.weights().tolist() == pytest.approx(weights, rel=1e-4)
    assert sum(weights) == pytest.approx(num)


def test_gradnorm_weights_a_step_with_the_factors_before_it() -> None:
    shared = nn.Parameter(torch.zeros(2))
    balance = GradNorm(2, lr=0.1)
    balance.backward(torch.stack([1 + 10 * shared[0], 1 + shared[1]]), shared.sum() * 0, [shared], None)
    assert shared.grad.tolist() == [10, 1]
    assert balance.weights().tolist() != [1, 1]


def test_gradnorm_brings_gradients_to_one_size() -> None:
    shared = nn.Parameter(torch.zeros(2))
    balance = GradNorm(2, alpha=0.0, lr=0.001)
    for _ in range(1000):
        shared.grad = None
        balance.backward(torch.stack([1 + 10 * shared[0], 1 + shared[1]]), shared.sum() * 0, [shared], None)
    sizes = balance.weights() * torch.tensor([10.0, 1.0])
    assert sizes[0].item() == pytest.approx(sizes[1].item(), rel=0.15)
    torch.testing.assert_close(shared.grad, sizes, rtol=0.15, atol=0)


class Pull(Objective):
    """Pulls all user vectors towards a number."""

    def __init__(self, to: float) -> None:
        super().__init__()
        self.to_, self.own = to, nn.Parameter(torch.tensor(1.0))

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        return (self.own * encoding.query - self.to_).square().mean()


NAMES = sorted(registry.balances.components())


def balanced(folder: Path, name: str, **settings: object):
    trainer = make_trainer(folder, extra={"one": (1.0, Pull(1.0)), "two": (0.5, Pull(-1.0))}, **settings)
    with isolated(0, "balance"):
        balance = registry.balances.build(name, 3)
    terms = {role: (trainer.objectives.weights[role], term) for role, term in trainer.objectives.terms.items()}
    trainer.__dict__["objectives"] = Objectives(terms, balance=balance, balanced=("rank", "one", "two"))
    return trainer


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path: Path, name: str) -> None:
    validations = iter([0.0, 0.0, 0.0])

    def stop(_: Recommender) -> dict[str, float]:
        for value in validations:
            return {"ndcg@20": value}
        raise Killed  # in epoch 4; the checkpoint is of epoch 2

    whole, cut = (
        balanced(tmp_path / "whole", name, checkpoint_every=2),
        balanced(tmp_path / "cut", name, checkpoint_every=2, validate=stop),
    )
    whole.fit()
    with pytest.raises(Killed):
        cut.fit()
    balanced(tmp_path / "cut", name, checkpoint_every=2).fit()
    last, expected = (torch.load(tmp_path / part / "last.pt", weights_only=True) for part in ("cut", "whole"))
    for group in ("recommender", "objectives"):
        assert last[group].keys() == expected[group].keys()
        for key, value in expected[group].items():
            assert torch.equal(last[group][key], value), key
    assert records(tmp_path / "cut")[-1]["losses"] == records(tmp_path / "whole")[-1]["losses"]
    moved = [key for key in expected["objectives"] if key.startswith("balance.")]
    assert moved or name == "pcgrad"


@pytest.mark.parametrize("name", NAMES)
def test_a_balanced_step_never_waits_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    run_without_waiting(balanced(tmp_path, name), monkeypatch, None)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_task_keeps_its_gradient(tmp_path: Path, name: str) -> None:
    trainer = on_a_graph(balanced(tmp_path, name))
    batch, model = next(iter(trainer.batches)), trainer.recommender
    again = Objectives(
        {
            role: (trainer.objectives.weights[role], term)
            for role, term in trainer.objectives.terms.items()
            if role != "l2"
        },
        balance=registry.balances.build(name, 3),
        balanced=("rank", "one", "two"),
    )
    batch.generator.manual_seed(0)
    trainer.objectives.balance = registry.balances.build(name, 3)
    model.zero_grad()
    trainer.objectives.backward(model, batch)
    with_rest = {key: p.grad.clone() for key, p in model.named_parameters()}
    model.zero_grad()
    batch.generator.manual_seed(0)
    again.backward(model, batch)
    without = {key: p.grad.clone() for key, p in model.named_parameters()}
    model.zero_grad()
    l2 = trainer.objectives.terms["l2"](model, batch, model.encoder(batch.inputs))
    (trainer.objectives.weights["l2"] * l2).backward()
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(with_rest[key] - without[key], parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_balance_is_a_module_with_what_it_needs() -> None:
    for name in NAMES:
        assert isinstance(registry.balances.build(name, 2), Balance)
    assert registry.balances.find("pcgrad").needs == {"generator"}
