"""The learning rate follows its formula, and the average is the average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_trainer import make_trainer
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from recgraph.models.recommender import Recommender
from recgraph.training.optimization import Average, Optimization, lr_factor
from recgraph.training.settings import TrainSettings

ALL = {"schedule": "cosine", "warmup": 1.5, "average": 2, "max_grad_norm": 0.1}


def rates(folder: Path, **settings: object) -> list[float]:
    """The learning rate of each step of a training."""
    seen: list[float] = []
    handle = register_optimizer_step_pre_hook(lambda adam, *_: seen.append(adam.param_groups[0]["lr"]))
    try:
        make_trainer(folder, lr=0.05, max_epochs=6, **settings).fit()
    finally:
        handle.remove()
    return seen


def test_a_rate_that_is_constant_is_that_of_the_settings(tmp_path: Path) -> None:
    assert set(rates(tmp_path)) == {0.05}


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_rate_rises_and_falls_step_by_step_over_all_epochs(tmp_path: Path, schedule: str) -> None:
    steps = len(make_trainer(tmp_path).batches)
    seen = rates(tmp_path, schedule=schedule, warmup=2)
    assert len(seen) == 6 * steps
    rise = [0.05 * (step + 1) / (2 * steps) for step in range(2 * steps)]
    done = np.arange(4 * steps) / (4 * steps)
    fall = {"linear": 1 - done, "cosine": np.cos(math.pi / 2 * done) ** 2, "constant": np.ones(4 * steps)}[schedule]
    np.testing.assert_allclose(seen, [*rise, *(0.05 * fall)], rtol=1e-12)


def test_the_cosine_is_that_of_torch() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference, factor = CosineAnnealingLR(optimizer, 50), lr_factor("cosine", warmup=0, total=50)
    for step in range(51):
        assert factor(step) == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        reference.step()


def test_a_training_that_ends_early_follows_the_schedule_of_the_whole(tmp_path: Path) -> None:
    whole = rates(tmp_path / "whole", schedule="linear")
    seen: list[float] = []
    handle = register_optimizer_step_pre_hook(lambda adam, *_: seen.append(adam.param_groups[0]["lr"]))
    trainer = make_trainer(tmp_path / "part", max_epochs=6, schedule="linear")
    progress = type(trainer)(**{**vars(trainer), "epochs": 4}).fit()
    handle.remove()
    assert (progress.epoch, progress.stopped) == (4, "max_epochs")
    assert seen == whole[: len(seen)]
    assert len(seen) == len(whole) * 4 // 6


def test_a_warmup_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"warmup \(5\) is not below max_epochs \(5\)"):
        TrainSettings(warmup=5, max_epochs=5)


@pytest.mark.parametrize("window", [0.5, 1, 3, 7.5, 1000])
def test_the_average_is_the_plain_mean_until_its_window_is_full_and_exponential_from_then_on(window: float) -> None:
    module = nn.Linear(3, 2).double()
    average = Average(module, window)
    values = [torch.randn(2, 3, dtype=torch.double) for _ in range(20)]
    for value in values:
        module.weight.data.copy_(value)
        average.update()
    full = int(max(1, window))
    expected = torch.stack(values[:full]).mean(0)
    for value in values[full:]:
        expected = (1 - 1 / max(1, window)) * expected + value / max(1, window)
    torch.testing.assert_close(average.means[0], expected)


def test_with_a_full_window_the_average_is_that_of_torch() -> None:
    module = nn.Linear(3, 2)
    average, reference = Average(module, 10), AveragedModel(module, avg_fn=get_ema_avg_fn(0.9))
    average.num = 10  # as if the window had been filled with the first values
    for _ in range(5):
        module.weight.data.normal_()
        average.update()
        reference.module.weight.data = reference.avg_fn(reference.module.weight.data, module.weight.data, 1)
    torch.testing.assert_close(average.means[0], reference.module.weight.data)


def test_what_is_validated_and_kept_is_the_average_and_training_goes_on_from_the_last_step(tmp_path: Path) -> None:
    steps: list[torch.Tensor] = []
    validated: list[torch.Tensor] = []

    def validate(recommender: Recommender) -> Mapping[str, float]:
        validated.append(recommender.encoder.users.weight.detach().clone())
        return {"ndcg@20": float(len(validated))}

    plain = make_trainer(tmp_path / "plain", max_epochs=3)
    averaging = make_trainer(tmp_path / "average", max_epochs=3, average=100, validate=validate)
    real = Optimization.step

    def step(self: Optimization) -> None:
        real(self)
        if self.average is None:
            steps.append(plain.recommender.encoder.users.weight.detach().clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Optimization, "step", step)
        plain.fit()
    averaging.fit()
    per_epoch = len(plain.batches)
    for epoch, weight in enumerate(validated, start=1):  # the average changes no step
        torch.testing.assert_close(weight, torch.stack(steps[: epoch * per_epoch]).mean(0))
    assert torch.equal(averaging.recommender.encoder.users.weight, validated[-1])
    kept = torch.load(tmp_path / "average" / "last.pt", weights_only=True)
    assert torch.equal(kept["recommender"]["encoder.users.weight"], steps[-1])


def test_an_average_leaves_buffers_as_they_are() -> None:
    module = nn.BatchNorm1d(3)
    average = Average(module, 5)
    module(torch.randn(8, 3))
    average.update()
    statistics = module.running_mean.clone()
    average.swap()
    assert torch.equal(module.running_mean, statistics)


@pytest.mark.parametrize("killed_in", [2, 3, 5])
def test_a_killed_training_goes_on_with_its_rate_and_its_average(tmp_path: Path, killed_in: int) -> None:
    validations = iter(range(killed_in))

    def norm(recommender: Recommender) -> Mapping[str, float]:
        return {"ndcg@20": -recommender.encoder.users.weight.norm().item()}

    def killing(recommender: Recommender) -> Mapping[str, float]:
        next(validations)
        return norm(recommender)

    whole = make_trainer(tmp_path / "whole", validate=norm, checkpoint_every=2, **ALL)
    expected = whole.fit()
    with pytest.raises(StopIteration):
        make_trainer(tmp_path / "cut", validate=killing, checkpoint_every=2, **ALL).fit()
    resumed = make_trainer(tmp_path / "cut", validate=norm, checkpoint_every=2, **ALL)
    actual = resumed.fit()
    assert (actual.best_epoch, actual.best_value) == (expected.best_epoch, expected.best_value)
    one, two = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "cut"))
    for key, value in one["recommender"].items():
        assert torch.equal(value, two["recommender"][key])
    for value, again in zip(
        one["optimization"]["average"]["means"], two["optimization"]["average"]["means"], strict=True
    ):
        assert torch.equal(value, again)
    assert one["optimization"]["schedule"] == two["optimization"]["schedule"]
