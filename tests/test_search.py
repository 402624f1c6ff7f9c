"""What may be tried: spaces are checked, drawn by index, and lead to complete configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from recgraph.encoders import Embedding
from recgraph.errors import ConfigError
from recgraph.experiments.experiment import plan
from recgraph.tuning import search
from recgraph.tuning.search import searches


class Mine(Embedding):
    """An encoder of another package."""


SPACE = """
search:
  LightGCN:
    train.lr: {log: [1.0e-3, 1.0e-1]}
    encoder.num_layers: {int: [1, 3]}
    objectives.l2.weight: {uniform: [0.0, 1.0]}
    objectives.l2: [null, {name: ego_l2, weight: 0.5}]
"""


def with_search(toy: Path, text: str) -> Path:
    toy.write_text(toy.read_text() + text)
    return toy


def drawn(toy: Path, fixed: dict[str, Any]) -> dict[str, Any]:
    (search,) = searches(toy)
    study = optuna.create_study()
    study.enqueue_trial(fixed)
    trial = study.ask()
    search.draw(trial)
    return search.overrides(trial.params)


def test_a_trial_draws_each_path_within_its_space_and_lists_by_index(toy: Path) -> None:
    with_search(toy, SPACE.replace("    objectives.l2.weight: {uniform: [0.0, 1.0]}\n", ""))
    assert drawn(toy, {"train.lr": 0.01, "encoder.num_layers": 2, "objectives.l2": 0}) == {
        "train.lr": 0.01,
        "encoder.num_layers": 2,
        "objectives.l2": None,
    }
    assert drawn(toy, {"objectives.l2": 1})["objectives.l2"] == {"name": "ego_l2", "weight": 0.5}
    (search,) = searches(toy)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rates = []
    for _ in range(200):
        trial = study.ask()
        search.draw(trial)
        overrides = search.overrides(trial.params)
        assert 1e-3 <= overrides["train.lr"] <= 1e-1
        assert overrides["encoder.num_layers"] in (1, 2, 3)
        rates.append(overrides["train.lr"])
        study.tell(trial, 0.0)
    assert sum(rate < 1e-2 for rate in rates) == pytest.approx(100, abs=25)  # half below the geometric middle


def test_the_row_with_settings_is_the_run_that_train_would_do(toy: Path) -> None:
    with_search(toy, "search: {LightGCN: {objectives.l2: [null], train.lr: {log: [0.001, 0.1]}}}\n")
    (search,) = searches(toy, seed=1)
    overrides = {"objectives.l2": None, "train.lr": 0.02}
    (run,) = plan(toy, rows=["LightGCN"], seeds=[1], overrides=overrides)
    assert search.at(overrides) == run
    assert search.monitor == "ndcg@10"


def test_a_trial_never_has_parity_figures(toy: Path) -> None:
    toy.write_text(toy.read_text().replace("evaluate: {", "evaluate: {parity: true, "))
    (search,) = searches(with_search(toy, "search: {LightGCN: {train.lr: [0.1]}}\n"))
    assert search.run.config["evaluate"]["parity"] is True
    assert search.at({"train.lr": 0.1}).config["evaluate"]["parity"] is False


def test_a_study_has_another_name_for_another_space_seed_base_data_or_code(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_search(toy, "search: {LightGCN: {train.lr: {log: [0.001, 0.1]}}}\n")
    text = toy.read_text()
    names = []
    for changed in (text, text.replace("0.1]", "0.2]"), text.replace("num_layers: 2", "num_layers: 1"), text):
        toy.write_text(changed)
        names.append(searches(toy)[0].study("a"))
    assert names[0] == names[3]
    others = [searches(toy, seed=1)[0].study("a"), searches(toy)[0].study("b")]
    monkeypatch.setattr(search, "code_digest", lambda packages: "other")
    assert len({*names, *others, searches(toy)[0].study("a")}) == 6


def test_a_study_depends_on_the_code_of_packages_that_only_its_space_names(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(search, "code_digest", lambda packages: asked.append(packages) or "code")
    with_search(toy, "search: {LightGCN: {encoder: [{name: 'test_search:Mine', dim: 4}, 'test_search:Mine']}}\n")
    searches(toy)[0].study("a")
    assert asked == [("test_search",)]
    toy.write_text(toy.read_text().replace("{name: 'test_search:Mine', dim: 4}, ", ""))
    searches(toy)[0].study("a")
    assert asked[1:] == [("test_search",)]


def test_a_baseline_is_tuned_by_a_metric_that_it_is_measured_by(toy: Path) -> None:
    with_search(toy, "search: {popularity: {baseline: [popularity]}}\n")
    assert searches(toy)[0].monitor == "ndcg@10"
    toy.write_text(toy.read_text().replace("monitor: ndcg@10", "monitor: recall@11"))
    with pytest.raises(ConfigError, match=r"train\.monitor: 'recall@11' is not among"):
        searches(toy)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("{LightGCN: {train.monitor: [ndcg@10]}}", "train.monitor cannot be searched"),
        ("{LightGCN: {evaluate.metrics: [[ndcg@10]]}}", "evaluate.metrics cannot be searched"),
        ("{LightGCN: {split.seed: [0, 1]}}", "split.seed cannot be searched"),
        ("{LightGCN: {train.lr: []}}", "a list of values"),
        ("{LightGCN: {train.rl: [0.1]}}", "rl"),
        ("{LightGCN: {encoder.dim: {log: [4, 64]}}}", r"encoder\.dim: .*valid integer.*got 22\."),
        ("{LightGCN: {encoder.num_layers: {uniform: [0, 2]}}}", r"encoder\.num_layers: .*valid integer.*got 1\.2"),
        ("{LightGCN: {}}", r"nothing to try for row 'LightGCN'\. None are known"),
        ("{}", "no `search:` block"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(toy: Path, search: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        searches(with_search(toy, f"search: {search}\n"))


def test_rows_are_selected_by_name(toy: Path) -> None:
    with_search(toy, "search: {LightGCN: {train.lr: [0.1]}, BPR-MF: {train.lr: [0.1]}}\n")
    assert [search.run.row for search in searches(toy)] == ["LightGCN", "BPR-MF"]
    assert [search.run.row for search in searches(toy, rows=["BPR-MF"])] == ["BPR-MF"]
    with pytest.raises(ConfigError, match="Did you mean 'LightGCN'"):
        searches(toy, rows=["LightGNC"])
    with pytest.raises(ConfigError, match="nothing to try for row 'popularity'"):
        searches(toy, rows=["popularity"])
