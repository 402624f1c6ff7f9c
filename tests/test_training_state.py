"""What training carries on with after a kill, and where its settings act."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_trainer import Killed, make_trainer, records
from torch import nn

from recgraph import registry
from recgraph.heads import build_head
from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objective
from recgraph.random import isolated
from recgraph.training.optimization import Optimization, wide_optimizer
from recgraph.training.settings import TrainSettings
from recgraph.types import Content


def killed_after(count):
    """Validation that kills the run once it has been asked `count` times."""
    values = iter([0.0] * count)

    def validate(_):
        for value in values:
            return {"ndcg@20": value}
        raise Killed

    return validate


class Dropping(Objective):
    def forward(self, recommender, batch, encoding):
        return F.dropout(encoding.query, 0.5).square().mean()


def test_dropout_goes_on_where_a_killed_run_stopped(tmp_path) -> None:
    def trainer(folder, **more):
        return make_trainer(tmp_path / folder, extra={"drop": (1.0, Dropping())}, checkpoint_every=2, **more)

    whole = trainer("whole")
    with isolated(0, "training"):
        whole.fit()
    with isolated(0, "training"), pytest.raises(Killed):
        trainer("cut", validate=killed_after(3)).fit()
    with isolated(0, "training"):
        trainer("cut").fit()
    one, two = (torch.load(tmp_path / name / "last.pt", weights_only=True)["recommender"] for name in ("whole", "cut"))
    for key in one:
        assert torch.equal(one[key], two[key]), key


def wide_model():
    content = Content({})
    encoder = registry.encoders.build({"name": "fields", "dim": 4}, 5, 7, content=content)
    return Recommender(
        encoder, {"rank": build_head({"name": "wide_deep", "hidden": [4]}, encoder.dim, encoder.layout, where="")}
    )


def test_clipping_is_of_all_parameters_together() -> None:
    model = wide_model()
    step = Optimization(model, nn.Linear(2, 2), TrainSettings(max_grad_norm=0.1, wide={}), 1)
    for p in step.parameters:
        p.grad = torch.ones_like(p)
    step.step()
    assert torch.cat([p.grad.flatten() for p in step.parameters]).norm() <= 0.1001


def test_l1_of_the_settings_reaches_ftrl() -> None:
    assert wide_optimizer(wide_model(), TrainSettings(wide={"l1": 3.0})).param_groups[0]["l1"] == 3.0


def test_of_equal_parities_the_earlier(tmp_path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=3)
    progress = replace(trainer, parity=lambda: {"ndcg@20": 0.5}).fit()
    assert progress.parity_epoch == 1


class Watching(Objective):
    def __init__(self):
        super().__init__()
        self.epochs = []

    def begin_epoch(self, recommender, epoch, generator):
        self.epochs.append(epoch)

    def forward(self, recommender, batch, encoding):
        return encoding.query.sum() * 0


def test_epochs_are_counted_from_1_and_on_after_an_interruption(tmp_path) -> None:
    one, two = Watching(), Watching()
    with pytest.raises(Killed):
        make_trainer(tmp_path, extra={"watch": (1.0, one)}, checkpoint_every=2, validate=killed_after(3)).fit()
    make_trainer(tmp_path, extra={"watch": (1.0, two)}).fit()
    assert (one.epochs, two.epochs) == ([1, 2, 3, 4], [3, 4, 5, 6])


def test_the_window_of_the_average_is_in_epochs() -> None:
    assert Optimization(nn.Linear(2, 2), nn.Linear(2, 2), TrainSettings(average=2.5), 8).average.window == 20


def test_without_validation_the_last_epoch_is_kept(tmp_path) -> None:
    trainer = make_trainer(tmp_path, validate_every=3, max_epochs=9, patience=3)
    progress = replace(trainer, validate=None, epochs=7).fit()
    assert (progress.best_epoch, progress.stopped) == (7, "max_epochs")
    assert not trainer.recommender.training
    assert [sorted(record) for record in records(tmp_path)] == [["elapsed", "epoch", "losses", "seconds"]] * 7
    last = torch.load(trainer.checkpoint, weights_only=True)["recommender"]
    torch.testing.assert_close(trainer.recommender.state_dict(), last, rtol=0, atol=0)
