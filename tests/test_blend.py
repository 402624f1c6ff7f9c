"""A blend is the sum of two standardised models, is saved as one, and has its weight chosen on validation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import graph_of, random_interactions
from rich.console import Console

from recgraph import registry
from recgraph.errors import ConfigError
from recgraph.experiments.experiment import plan
from recgraph.experiments.fitting import BLEND_WEIGHTS
from recgraph.experiments.running import Settings, execute, reevaluate
from recgraph.experiments.task import Task
from recgraph.models.blend import Blend, standardised
from recgraph.models.model import Model, catalogue_of
from recgraph.models.recommender import Recommender

CPU = torch.device("cpu")
LIGHTGCN = {"encoder": {"name": "lightgcn", "dim": 8, "num_layers": 2}, "heads": {"rank": "dot"}}


def blend(weight: float, baseline: str = "gfcf") -> Blend:
    table = random_interactions()
    recommender = Recommender.build(table.num_users, table.num_items, LIGHTGCN, graph_of(table))
    model = registry.baselines.build(baseline, table.num_users, table.num_items)
    model.fit(table)
    blend = Blend(recommender, model, weight=weight)
    blend.catalogue = catalogue_of(table, [table], None)
    return blend.eval()


@torch.no_grad()
@pytest.mark.parametrize("baseline", ["gfcf", "ease", "popularity"])
def test_scores_are_the_sum_by_hand(baseline: str) -> None:
    model = blend(0.3, baseline)
    users = torch.tensor([7, 0, 7])
    expected = np.zeros((3, model.num_items))
    for weight, part in ((0.7, model.recommender), (0.3, model.baseline)):
        scores = part.scorer()(users).double().numpy()
        for row in range(3):
            expected[row] += weight * (scores[row] - np.mean(scores[row])) / np.std(scores[row])
    before = model.baseline.scorer()(users).clone()
    np.testing.assert_allclose(model.scorer()(users).numpy(), expected, atol=1e-5)
    assert torch.equal(model.baseline.scorer()(users), before)  # some baselines hand out their own memory


@torch.no_grad()
@pytest.mark.parametrize(("weight", "part"), [(0.0, "recommender"), (1.0, "baseline")])
def test_at_its_ends_it_ranks_as_one_of_its_parts(weight: float, part: str) -> None:
    model = blend(weight)
    users = torch.arange(model.num_users)
    alone = getattr(model, part).scorer()(users)
    falling = alone.gather(1, model.scorer()(users).argsort(descending=True))
    assert (falling.diff() <= 1e-5).all()  # but for what rounding makes of near ties
    assert torch.equal(falling[:, 0], alone.max(1).values)


@torch.no_grad()
def test_one_with_an_encoder_of_histories_hands_them_on(tmp_path: Path) -> None:
    table = random_interactions()
    spec = {"encoder": {"name": "attentive", "dim": 4}, "heads": {"rank": "cosine"}}
    baseline = registry.baselines.build("popularity", table.num_users, table.num_items)
    baseline.fit(table)
    model = Blend(Recommender.build(table.num_users, table.num_items, spec, None), baseline, weight=0.0).eval()
    model.catalogue = catalogue_of(table, [table], None)
    model.observe(table)
    model.save(tmp_path)
    users = torch.arange(model.num_users)
    alone = model.recommender.score(model.recommender.encode_all())
    torch.testing.assert_close(model.scorer()(users), standardised(alone))
    torch.testing.assert_close(Model.load(tmp_path).scorer()(users), standardised(alone))


def test_a_model_that_says_nothing_adds_nothing() -> None:
    assert torch.equal(standardised(torch.full((2, 1000), 0.1)), torch.zeros(2, 1000))
    assert torch.equal(standardised(torch.zeros(2, 5)), torch.zeros(2, 5))
    tiny = standardised(torch.tensor([[1e-20, 2e-20, 3e-20]]) * 1e5)
    torch.testing.assert_close(tiny, torch.tensor([[-1.2247449, 0.0, 1.2247449]]))


@torch.no_grad()
def test_it_is_saved_as_one_model(tmp_path: Path) -> None:
    model = blend(0.4)
    model.save(tmp_path)
    loaded = Model.load(tmp_path)
    users = torch.arange(model.num_users)
    assert torch.equal(loaded.scorer()(users), model.scorer()(users))
    assert loaded.recommend(3, 5) == model.recommend(3, 5)


def test_the_weight_is_chosen_on_validation_and_kept_for_the_last_fit(toy: Path) -> None:
    overrides = {"blend": {"baseline": "gfcf"}, "refit": True}
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0], overrides=overrides)
    result = execute(run, Path("runs"), settings=Settings(CPU), console=Console())
    found = {}
    for weight in BLEND_WEIGHTS:
        (fixed,) = plan(toy, rows=["LightGCN"], seeds=[0], overrides={**overrides, "blend.weight": weight})
        found[weight] = execute(fixed, Path("runs"), settings=Settings(CPU), console=Console())
    monitor = run.config["train"]["monitor"]
    best = max(found, key=lambda weight: found[weight]["validation"][monitor])
    assert result["blend_weight"] == best
    for part in ("validation", "test"):
        assert result[part] == found[best][part]
    (plain,) = plan(toy, rows=["LightGCN"], seeds=[0])
    alone = execute(plain, Path("runs"), settings=Settings(CPU), console=Console())
    assert found[0.0]["validation"] == pytest.approx(alone["validation"])
    folder = run.folder(Path("runs"))
    model, task = Model.load(folder), Task.load("toy", run.config["split"], CPU)
    assert isinstance(model, Blend)
    assert model.weight == best
    for part in (model.recommender.graph.num_edges, len(model.baseline.history)):
        assert part == len(task.train) + len(task.validation)
    measured = {name: test for name, _, test in reevaluate(folder, [], CPU)}
    assert measured == pytest.approx(result["test"])
    assert json.loads((folder / "model.json").read_text())["options"]["weight"] == best


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"blend": {"baseline": "gfcg"}}, "blend.baseline: no baseline 'gfcg'. Did you mean 'gfcf'"),
        ({"blend": {"baseline": "gfcf", "weight": 1.5}}, "blend.weight: Input should be less than or equal to 1"),
        ({"blend": {"baseline": "gfcf", "wight": 0.5}}, "blend.wight: no such key. Did you mean 'weight'"),
        ({"blend": {"baseline": "gfcf"}, "evaluate.parity": True}, "evaluate.parity measures the encoder of each"),
    ],
)
def test_what_does_not_fit_is_refused(toy: Path, overrides: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(toy, rows=["LightGCN"], overrides=overrides)
    assert message in str(caught.value)


@torch.no_grad()
def test_a_sweep_scores_as_each_weight_would() -> None:
    model, weights = blend(0.5), [0.0, 0.3, 1.0]
    users = torch.tensor([4, 9, 0])
    swept = model.sweep(weights)(users.repeat_interleave(3)).view(3, 3, -1)
    for place, model.weight in enumerate(weights):
        torch.testing.assert_close(swept[:, place], model.scorer()(users))


def test_a_sweep_measures_as_validation_does(toy: Path) -> None:
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0], overrides={"blend": {"baseline": "ease", "weight": 0.3}})
    execute(run, Path("runs"), settings=Settings(CPU), console=Console())
    model, task = Model.load(run.folder(Path("runs"))), Task.load("toy", run.config["split"], CPU, sealed=True)
    found = task.sweep(model, BLEND_WEIGHTS, "ndcg@10")
    for model.weight, value in found.items():
        assert value == pytest.approx(task.validate(model, ["ndcg@10"]).summary["ndcg@10"])
    assert len(set(found.values())) > 3
