"""FTRL-Proximal equals the paper's loop, and an optimiser of its own trains the wide part alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from test_fields import ITEMS, USERS, build, moments
from torch import nn

from recgraph.errors import ConfigError
from recgraph.models.recommender import Recommender
from recgraph.training.ftrl import FTRL
from recgraph.training.optimization import Optimization
from recgraph.training.settings import TrainSettings
from recgraph.types import Inputs


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.4, 0.0), (0.2, 0.3)])
def test_equals_the_papers_algorithm(l1: float, l2: float) -> None:
    weight = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer, lr, beta = FTRL([weight], 0.1, beta=0.7, l1=l1, l2=l2), 0.1, 0.7
    generator = torch.Generator().manual_seed(0)
    w, z, n = [0.0] * 4, [0.0] * 4, [0.0] * 4
    for step in range(20):
        gradient = torch.randn(4, dtype=torch.float64, generator=generator)
        gradient[step % 4] = 0
        weight.grad = gradient.clone()
        optimizer.step()
        for k, g in enumerate(gradient.tolist()):
            sigma = (math.sqrt(n[k] + g * g) - math.sqrt(n[k])) / lr
            z[k] += g - sigma * w[k]
            n[k] += g * g
            sign = math.copysign(1, z[k])
            w[k] = 0.0 if abs(z[k]) <= l1 else -(z[k] - sign * l1) / ((beta + math.sqrt(n[k])) / lr + l2)
        assert weight.tolist() == pytest.approx(w, abs=1e-12)


def test_l1_leaves_weights_at_exactly_zero() -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = FTRL([weight], 0.5, l1=1.0)
    for _ in range(5):
        weight.grad = torch.tensor([0.15, 0.9])
        optimizer.step()
    assert weight[0] == 0
    assert weight[1] < 0


def step(model: Recommender, optimization: Optimization) -> None:
    optimization.zero_grad()
    users = torch.arange(USERS)
    encoding = model.encoder(Inputs(users, content=model.content, context=moments(USERS)))
    model.score_pairs(encoding, users % ITEMS).square().sum().backward()
    optimization.step()


@pytest.mark.parametrize("name", ["adagrad", "ftrl"])
def test_the_wide_part_has_an_optimiser_of_its_own_which_checkpoints_hold(name: str) -> None:
    settings = TrainSettings(lr=0.01, wide={"optimizer": name, "lr": 0.2})
    model = build("wide_deep")
    others = copy.deepcopy(model)
    optimization = Optimization(model, nn.Module(), settings, 1)
    step(model, optimization)
    resumed = copy.deepcopy(model)
    again = Optimization(resumed, nn.Module(), settings, 1)
    again.load_state_dict(copy.deepcopy(optimization.state_dict()))
    step(model, optimization)
    step(resumed, again)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), resumed.parameters(), strict=True))
    wide = [value for key, value in others.named_parameters() if "wide" in key.split(".")]
    rest = [value for key, value in others.named_parameters() if "wide" not in key.split(".")]
    own = torch.optim.Adagrad(wide, lr=0.2) if name == "adagrad" else FTRL(wide, 0.2)
    both = torch.optim.Adam(rest, lr=0.01), own
    for _ in range(2):
        users = torch.arange(USERS)
        encoding = others.encoder(Inputs(users, content=others.content, context=moments(USERS)))
        for optimizer in both:
            optimizer.zero_grad()
        others.score_pairs(encoding, users % ITEMS).square().sum().backward()
        for optimizer in both:
            optimizer.step()
    torch.testing.assert_close(others.state_dict(), model.state_dict())


def test_a_model_without_a_linear_part_refuses_an_optimiser_for_it() -> None:
    with pytest.raises(ConfigError, match=r"train\.wide: the model has no linear part"):
        Optimization(build("dcn"), nn.Module(), TrainSettings(wide={}), 1)
