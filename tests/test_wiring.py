"""Every part of a run is given what it should be: the right rows, masks, seeds, settings and titles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from rich.console import Console
from sklearn.metrics import ndcg_score
from test_trainer import Killed, make_trainer, records
from torch import Tensor, nn

from recgraph.data import datasets
from recgraph.data.importing import import_file
from recgraph.data.interactions import Interactions
from recgraph.data.splits import Split
from recgraph.encoders import LightGCN
from recgraph.errors import DataError
from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Settings, execute, reevaluate
from recgraph.models.model import Model
from recgraph.models.recommender import Recommender
from recgraph.objectives import Objective, Objectives
from recgraph.random import isolated
from recgraph.sampling.negatives import Uniform
from recgraph.training.trainer import Trainer

Pairs = set[tuple[int, int]]
CPU = torch.device("cpu")
BRIEF = {"train.max_epochs": 2, "train.patience": 2}
ONE_STEP = {"train.max_epochs": 1, "train.batch_size": 10_000, "train.validate_every": 1}
FROZEN = {"train.lr": 1e-12}
"""A learning rate that leaves parameters as they were initialised, up to rounding."""


def train(
    file: Path, *, root: str = "runs", row: str = "LightGCN", seed: int = 0, dataset: str = "toy", **changes: Any
) -> tuple[Path, dict[str, Any]]:
    """Do one run; returns its folder and result."""
    (run,) = plan(file, rows=[row], seeds=[seed], datasets=[dataset], overrides=changes)
    result = execute(run, Path(root), settings=Settings(CPU), console=Console(quiet=True))
    return run.folder(Path(root)), result


def pairs(table: Interactions) -> Pairs:
    return pairs_of(table.user_indices, table.item_indices)


def pairs_of(users: Any, items: Any) -> Pairs:
    return set(zip(users.tolist(), items.tolist(), strict=True))


def parameters(folder: Path) -> Tensor:
    """All parameters of a saved model, one after the other."""
    return torch.cat([value.flatten() for value in Model.load(folder).state_dict().values()])


@pytest.fixture
def split(toy: Path) -> Split:
    """The split that the runs of `toy` share."""
    return datasets.load("toy").split("random_by_user", seed=0)


def test_the_graph_holds_the_training_pairs_and_no_others(
    toy: Path, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    forward = LightGCN.forward
    monkeypatch.setattr(LightGCN, "forward", lambda self, inputs: read.append(inputs.graph) or forward(self, inputs))
    folder, _ = train(toy, **BRIEF)
    loaded = Recommender.load(folder)
    for graph in {id(graph): graph for graph in [*read, loaded.graph]}.values():
        assert pairs_of(graph.users, graph.items) == pairs(split.train)
        assert (graph.num_users, graph.num_items) == (60, 40)
    assert len(read) > 2


def test_validation_metrics_are_those_of_an_independent_ranking_with_only_train_masked(toy: Path, split: Split) -> None:
    folder, result = train(toy)
    with torch.no_grad():
        scores = Model.load(folder).scorer()(torch.arange(60)).double().numpy()
    scores[split.train.csr().toarray() > 0] = -1e9
    relevant = split.validation.csr().toarray()
    users = relevant.sum(axis=1) > 0
    assert result["validation"]["ndcg@10"] == pytest.approx(ndcg_score(relevant[users], scores[users], k=10), abs=1e-6)


def test_popularity_of_what_is_recommended_counts_training_interactions(toy: Path, split: Split) -> None:
    changes = {"evaluate.metrics": ["popularity@40"]}
    _, result = train(toy, row="popularity", **changes)
    # A list of 40 is the catalogue without what is masked.
    counts = split.train.csr().toarray().sum(axis=0)
    masked = (split.train.csr() + split.validation.csr()).toarray() > 0
    listed = (~masked)[split.test.csr().toarray().sum(axis=1) > 0].sum(axis=0)
    assert result["test"]["popularity@40"] == pytest.approx((listed @ counts) / listed.sum())


def test_negatives_may_be_held_out_positives_but_never_training_ones(
    toy: Path, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: Pairs = set()
    sample = Uniform.sample

    def watched(self: Uniform, users: Tensor, items: Tensor, generator: torch.Generator) -> Tensor:
        negatives = sample(self, users, items, generator)
        drawn.update(pairs_of(users.repeat_interleave(self.num), negatives.flatten()))
        return negatives

    monkeypatch.setattr(Uniform, "sample", watched)
    train(toy)
    assert not drawn & pairs(split.train)
    for part in (split.validation, split.test):
        assert len(drawn & pairs(part)) > len(part) / 2  # of every cell, about nine tenths are drawn in twelve epochs


@pytest.mark.parametrize("row", ["LightGCN", "popularity"])
def test_train_and_validation_are_never_recommended_and_all_else_is(toy: Path, split: Split, row: str) -> None:
    folder, _ = train(toy, row=row, **({} if row == "popularity" else BRIEF))
    model = Model.load(folder)
    seen = pairs(split.train) | pairs(split.validation)
    assert pairs_of(model.catalogue.seen_users, model.catalogue.seen_items) == seen
    for user in range(60):
        ids = [item.item for item in model.recommend(split.train.users.ids[user], 40)]
        offered = split.train.items.encode(ids).tolist()
        assert sorted(offered) == [item for item in range(40) if (user, item) not in seen]


def add_titles(name: str, titles: str) -> None:
    """A dataset that is `toy` with a file of item attributes."""
    root = Path("data")
    card = yaml.safe_load((root / "toy.yaml").read_text())
    (form,) = card["forms"].values()
    form["files"]["items.csv"] = {}
    layout = {"format": "csv", "columns": {"item": "str", "title": "str"}}
    form["features"] = [{"file": "items.csv", "read": layout, "features": {"title": {"kind": "text"}}}]
    (root / f"{name}.yaml").write_text(yaml.safe_dump({**card, "name": name}))
    (root / "raw" / name).mkdir()
    (root / "raw" / name / "toy.csv").write_text((root / "raw" / "toy" / "toy.csv").read_text())
    (root / "raw" / name / "items.csv").write_text("item,title\n" + titles)


@pytest.mark.parametrize("row", ["BPR-MF", "popularity"])
def test_titles_belong_to_their_items(toy: Path, row: str) -> None:
    order = np.random.default_rng(1).permutation(40)  # neither the file's order nor that of the vocabulary
    add_titles("titled", "".join(f"i{item},Film number {item}\n" for item in order))
    folder, _ = train(toy, row=row, dataset="titled", **({} if row == "popularity" else BRIEF))
    offered = [item for user in range(60) for item in Model.load(folder).recommend(f"u{user}", 40)]
    assert {item.item for item in offered} == {f"i{item}" for item in range(40)}
    assert all(item.title == item.item.replace("i", "Film number ") for item in offered)


def test_an_item_without_title_takes_no_other_item_its_title(toy: Path) -> None:
    add_titles("partly-titled", "".join(f"i{item},Film number {item}\n" for item in range(40) if item != 7))
    folder, _ = train(toy, row="popularity", dataset="partly-titled")
    offered = {item.item: item.title for user in range(60) for item in Model.load(folder).recommend(f"u{user}", 40)}
    assert len(offered) == 40
    assert offered.pop("i7") is None
    assert offered == {item: item.replace("i", "Film number ") for item in offered}


def test_order_negatives_and_parameters_each_depend_on_the_seed(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first: dict[str, tuple[list[int], Tensor]] = {}
    sample = Uniform.sample

    def watched(self: Uniform, users: Tensor, items: Tensor, generator: torch.Generator) -> Tensor:
        first.setdefault(root, (users.tolist(), generator.get_state()))
        return sample(self, users, items, generator)

    monkeypatch.setattr(Uniform, "sample", watched)
    initial = {}
    for root, seed in {"one": 0, "again": 0, "other": 1}.items():
        folder, _ = train(toy, root=root, seed=seed, **ONE_STEP, **FROZEN)
        initial[root] = parameters(folder)
    assert first["one"][0] == first["again"][0]
    assert first["one"][0] != first["other"][0]
    assert torch.equal(first["one"][1], first["again"][1])
    assert not torch.equal(first["one"][1], first["other"][1])
    assert torch.equal(initial["one"], initial["again"])
    assert not torch.allclose(initial["one"], initial["other"], atol=1e-3)


@pytest.mark.parametrize("rate", [0.003, 0.03])
def test_the_first_step_is_as_long_as_the_learning_rate(toy: Path, rate: float) -> None:
    initial, _ = train(toy, **ONE_STEP, **FROZEN)
    stepped, _ = train(toy, **ONE_STEP, **{"train.lr": rate})
    longest = (parameters(stepped) - parameters(initial)).abs().max().item()
    assert longest == pytest.approx(rate, rel=1e-3)  # Adam's first step is lr · g / (|g| + ε)


@pytest.mark.parametrize("size", [100, 333])
def test_batches_have_the_size_that_was_asked_for(
    toy: Path, split: Split, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    forward = Objectives.forward
    monkeypatch.setattr(
        Objectives, "forward", lambda self, model, batch: sizes.append(len(batch.items)) or forward(self, model, batch)
    )
    train(toy, **{**ONE_STEP, "train.batch_size": size})
    whole, rest = divmod(len(split.train), size)
    assert rest
    assert sizes == [size] * whole + [rest]


def test_the_weight_of_an_objective_counts(toy: Path) -> None:
    light, _ = train(toy, **{"objectives.l2.weight": 0.0})
    heavy, _ = train(toy, **{"objectives.l2.weight": 100.0})
    assert parameters(heavy).norm() < parameters(light).norm() / 2


def test_evaluating_again_on_other_data_is_refused(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = train(toy, **BRIEF)
    lines = (tmp_path / "toy.csv").read_text().splitlines(keepends=True)
    (tmp_path / "toy.csv").write_text("".join(lines[:-1]))
    monkeypatch.setenv("RECGRAPH_DATA", str(tmp_path / "newer"))
    import_file(tmp_path / "toy.csv", user="who", item="what", time="when")
    with pytest.raises(DataError, match="other data"):
        reevaluate(folder, [], CPU)


def test_the_time_of_a_run_is_that_of_its_epochs(toy: Path) -> None:
    folder, result = train(toy)
    seconds = [json.loads(line)["seconds"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(seconds) == 12
    assert result["train_seconds"] == pytest.approx(sum(seconds), abs=0.01)


def fall(recommender: Recommender) -> Mapping[str, float]:
    """A validation whose value changes with every step."""
    return {"ndcg@20": -recommender.encoder.users.weight.norm().item()}


def dies_at(validation: int) -> Any:
    """The same, until a power cut in its n-th call."""
    calls = iter(range(1, 1000))

    def validate(recommender: Recommender) -> Mapping[str, float]:
        if next(calls) == validation:
            raise Killed
        return fall(recommender)

    return validate


class Noisy(Objective):
    """Owns a parameter, drops out (from torch's own generator), and notes in which mode it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, recommender: Recommender, batch: object, encoding: object) -> Tensor:
        self.modes.append((recommender.training, self.training))
        kept = F.dropout(recommender.encoder.users.weight, 0.5, self.training)
        return (self.scale * kept).square().mean() + (self.scale - 1).square()


def noisy(folder: Path, validate: Any = fall) -> tuple[Trainer, Noisy]:
    """A trainer, and an objective of it that brings chance and a parameter of its own."""
    own = Noisy()
    return make_trainer(folder, validate=validate, extra={"noisy": (1.0, own)}, checkpoint_every=2), own


def test_parameters_of_an_objective_are_trained(tmp_path: Path) -> None:
    trainer, own = noisy(tmp_path)
    trainer.fit()
    assert abs(own.scale.item() - 2.0) > 0.1


def test_a_killed_run_goes_on_with_dropout_and_the_objectives_parameters_where_it_was(tmp_path: Path) -> None:
    whole, whole_own = noisy(tmp_path / "whole")
    with isolated(0, "modules"):
        whole.fit()
    cut, _ = noisy(tmp_path / "cut", dies_at(4))
    with isolated(0, "modules"), pytest.raises(Killed):
        cut.fit()
    resumed, resumed_own = noisy(tmp_path / "cut")
    with isolated(0, "modules"):
        resumed.fit()
    assert torch.equal(resumed_own.scale, whole_own.scale)
    for key, value in whole.recommender.state_dict().items():
        assert torch.equal(value, resumed.recommender.state_dict()[key]), key
    assert [r["losses"] for r in records(tmp_path / "cut")] == [r["losses"] for r in records(tmp_path / "whole")]


def test_steps_are_in_training_mode_and_validations_in_evaluation_mode(tmp_path: Path) -> None:
    modes = []

    def validate(recommender: Recommender) -> Mapping[str, float]:
        modes.append((recommender.training, torch.is_grad_enabled()))
        return {"ndcg@20": 0.0}

    trainer, own = noisy(tmp_path, validate)
    trainer.recommender.eval()
    trainer.fit()
    assert set(own.modes) == {(True, True)}
    assert set(modes) == {(False, False)}
    assert len(modes) == 6


def test_seconds_are_those_before_and_after_a_kill(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        make_trainer(tmp_path, validate=dies_at(4), checkpoint_every=2).fit()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert 0 < state["progress"]["seconds"] < 100
    state["progress"]["seconds"] += 1000.0
    torch.save(state, tmp_path / "last.pt")
    progress = make_trainer(tmp_path, validate=fall, checkpoint_every=2).fit()
    assert 1000 < progress.seconds < 1100


class Counting(Objective):
    """Its value at step n is n."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, recommender: Recommender, batch: object, encoding: object) -> Tensor:
        self.steps += 1
        return recommender.encoder.users.weight.sum() * 0 + self.steps


def test_a_logged_loss_is_the_unweighted_mean_over_the_batches_of_its_epoch(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, extra={"counting": (7.0, Counting())}, max_epochs=2, patience=2)
    trainer.fit()
    steps = len(trainer.batches)
    assert steps > 2
    assert [r["losses"]["counting"] for r in records(tmp_path)] == pytest.approx([(steps + 1) / 2, (3 * steps + 1) / 2])
