"""Runs with labels, from a file to their figures: nothing held out is learned from, and what is saved predicts the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console

from recgraph.data.features import Attributes, Features
from recgraph.data.label_settings import LabelSettings
from recgraph.data.labels import held_out
from recgraph.data.labels import labels_of as make
from recgraph.errors import ConfigError
from recgraph.evaluation.prediction import Predictions, measure
from recgraph.experiments import task as module
from recgraph.experiments.experiment import Run, plan
from recgraph.experiments.fitting import labels_of
from recgraph.experiments.labelling import gates, read_predictions, write_predictions
from recgraph.experiments.running import Settings, execute
from recgraph.experiments.task import Task
from recgraph.experiments.toy import ToyTask
from recgraph.models.model import Model
from recgraph.reporting.cells import Finished
from recgraph.reporting.label_tables import label_grids

FILE = """
datasets: [ml-100k]
seeds: [0]
base:
  split: random_by_user
  labels:
    gender: {of: user, feature: gender}
    genres: {of: item, feature: genres}
    liked: {of: interaction, feature: rating, around: 3}
    stars: {of: interaction, feature: rating}
  encoder: {name: lightgcn, dim: 8, num_layers: 2}
  objectives:
    rank: bpr
    gender: {name: label, of: gender, weight: 0.5}
    genres: {name: label, of: genres, weight: 0.5, hidden: [6]}
    liked: {name: label, of: liked}
  train: {lr: 0.02, batch_size: 256, max_epochs: 8, patience: 8, validate_every: 4, monitor: ndcg@10}
  evaluate: {metrics: [recall@10, ndcg@10]}
rows:
  all: {}
  probes: {objectives.gender.probe: true, objectives.genres.probe: true, objectives.liked.probe: true}
  none: {objectives.gender: null, objectives.genres: null, objectives.liked: null}
  ple: {sharing: {name: ple, levels: 2, hidden: 8}, balance: pcgrad}
  stars: {objectives.liked: {name: label, of: stars}, refit: true}
"""
CPU = torch.device("cpu")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.yaml").write_text(FILE)
    return tmp_path / "tasks.yaml"


def run_of(file: Path, row: str, **changes: object) -> Run:
    return plan(file, rows=[row], overrides=changes)[0]


def test_the_toy_has_a_review_in_place_of_any_text() -> None:
    entry = LabelSettings(of="interaction", feature="rating", around=3, text="body")
    found = ToyTask(CPU).labels({"mood": entry.model_dump()}, seed=0)["mood"]
    assert found.text is not None


def do(run: Run, task: Task | None = None, root: str = "runs") -> dict:
    return execute(run, Path(root), settings=Settings(CPU), console=Console(quiet=True), task=task or ToyTask(CPU))


@pytest.mark.parametrize("row", ["all", "ple", "stars"])
def test_a_run_measures_its_labels_and_its_model_predicts_the_same_when_loaded(file: Path, row: str) -> None:
    run, task = run_of(file, row), ToyTask(CPU)
    result = do(run)
    found = result["labels"]
    assert found["test"].keys() == found["validation"].keys() == found["guessed"].keys()
    if row == "all":
        assert found["test"]["gender:auc"] > 0.9  # groups of users and items are what the toy is made of
        assert found["test"]["genres:auc"] > 0.9
        assert found["test"]["liked:auc"] > 0.6
    if row == "stars":
        # In stars, not in standard deviations; a toy is too small to do much better than the mean.
        assert found["test"]["stars:rmse"] == pytest.approx(found["guessed"]["stars:rmse"], rel=0.3)
        mean = task.train_and_validation.frame["rating"].mean()
        away = (task._test.frame["rating"] - mean).to_numpy()
        assert found["guessed"]["stars:rmse"] == pytest.approx((away**2).mean() ** 0.5)
    folder = run.folder(Path("runs"))
    stored = read_predictions(folder / "labels.parquet")
    if row == "stars":
        assert (stored["stars"].targets == task._test.frame["rating"].to_numpy()).all()  # in any fit, so comparable
    again = task.predict(Model.load(folder), labels_of(run, task, refit=run.config["refit"]), "test")
    for name, one in again.items():
        np.testing.assert_allclose(stored[name].outputs, one.outputs, rtol=1e-4, atol=1e-5)
        for metric, value in measure(one).items():
            assert found["test"][f"{name}:{metric}"] == pytest.approx(value, abs=1e-6)
    curve = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    at_best = next(line for line in curve if line["epoch"] == result["best_epoch"])
    for metric, value in found["validation"].items():
        assert at_best["validation"][metric] == pytest.approx(value)


def test_labels_are_made_once_for_all_validations_and_rows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(
        module, "labels_of", lambda entries, *rest, **more: made.extend(entries) or make(entries, *rest, **more)
    )
    task = ToyTask(CPU)
    do(run_of(file, "all"), task)  # validates twice
    assert made == ["gender", "genres", "liked"]
    do(run_of(file, "ple"), task)
    assert len(made) == 3
    do(run_of(file, "stars"), task)  # one of them is another label, and the refit sees those of validation
    assert made[3:] == ["stars", "gender", "genres", "stars"]


def test_probes_leave_ranking_where_it_is_without_them(file: Path) -> None:
    one, two = do(run_of(file, "probes")), do(run_of(file, "none"))
    assert one["test"] == two["test"]
    assert one["validation"] == two["validation"]
    assert "labels" in one
    assert "labels" not in two


def test_labels_and_interactions_of_tomorrow_change_nothing_that_is_learned(file: Path) -> None:
    """The same run where every held-out label and every test interaction is another comes to the same model."""
    run, honest, planted = run_of(file, "all"), ToyTask(CPU), ToyTask(CPU)
    sides = []
    for attributes, side in ((honest._features.users, "user"), (honest._features.items, "item")):
        part = held_out(len(attributes.frame), (0.1, 0.1), 0, side)
        wrong = attributes.frame.with_columns(
            group=pl.when(pl.Series(part == 2)).then((pl.col("group") + 1) % 4).otherwise("group")
        )
        sides.append(Attributes(wrong, attributes.kinds))
    planted._features = Features(*sides)
    test = planted._test.frame
    fewer = test[::2].with_columns(rating=6 - pl.col("rating"))
    planted._test = replace(planted._test, frame=fewer)
    do(run, honest, "honest")
    do(run, planted, "planted")
    states = [Model.load(run.folder(Path(root))).state_dict() for root in ("honest", "planted")]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    said = [read_predictions(run.folder(Path(root)) / "labels.parquet")["gender"] for root in ("honest", "planted")]
    assert (said[0].outputs == said[1].outputs).all()
    assert (said[0].targets != said[1].targets).all()


def test_batches_show_no_label_that_is_held_out(file: Path) -> None:
    run, task = run_of(file, "all"), ToyTask(CPU)
    for name, label in labels_of(run, task).items():
        if label.settings.of == "interaction":
            assert len(label.table) == len(task.train)
            continue
        for part in ("validation", "test"):
            own = label.examples[part]
            assert (label.table[own.users if own.items is None else own.items] == -1).all(), name


def test_predictions_are_read_from_a_folder_with_brackets(tmp_path: Path) -> None:
    seconds = [1_600_000_001.0, 2.0]  # more digits than a float32 has
    seen = Predictions("number", np.array([[0.5], [2.0]]), np.array(seconds))
    write_predictions(tmp_path / "a [b]" / "labels.parquet", {"seen": seen})
    again = read_predictions(tmp_path / "a [b]" / "labels.parquet")["seen"]
    assert again.outputs.ravel().tolist() == [0.5, 2.0]
    assert again.targets.tolist() == seconds


def test_rows_with_other_labels_are_not_compared(tmp_path: Path) -> None:
    outputs, rows = np.random.default_rng(0).normal(size=(40, 1)), {}
    for row, shift in {"one": 0.0, "two": 0.0, "other": 1.0}.items():
        values = Predictions("number", outputs + len(rows), outputs[:, 0] + shift)
        write_predictions(tmp_path / row / "labels.parquet", {"stars": values})
        labels = {"test": {"stars:rmse": float(len(rows))}, "guessed": {"stars:rmse": 1.0}}
        rows[row] = [Finished({"labels": labels, "seed": 0}, tmp_path / row)]
    (grid,) = label_grids(rows, "toy", "one")
    assert [bool(line[1].mark) for line in grid.rows] == [False, False, True, False]
    assert "stars: other labels in other than in one; not compared, and none is best." in grid.notes
    for against in ("one", "other", None):
        (grid,) = label_grids(rows, "toy", against)
        assert not any(line[1].best for line in grid.rows)
    (again,) = (Finished({**one.result, "seed": 1}, one.folder) for one in rows["two"])
    (grid,) = label_grids({"one": rows["one"], "two": [again]}, "toy", "one")
    assert not any(line[1].mark for line in grid.rows)
    assert grid.notes[-1] == "No seed in common with one, and not compared: two."
    del rows["other"]
    (grid,) = label_grids(rows, "toy", None)
    assert [line[1].best for line in grid.rows] == [False, True, False]  # of the guess, one and two
    rows["three"] = rows["two"]
    rows["one"].append(Finished({**rows["two"][0].result, "seed": 1}, tmp_path / "other"))  # of the reference itself
    (grid,) = label_grids(rows, "toy", "one")
    assert not any(line[1].mark for line in grid.rows)


def test_gates_of_users(file: Path) -> None:
    run = run_of(file, "ple")
    do(run)
    model = Model.load(run.folder(Path("runs")))
    found = gates(model, "query", torch.tensor([3, 5]))
    assert set(found) == {"rank", "gender", "liked"}
    for task, (names, weights) in found.items():
        assert weights.shape == (2, len(names))
        assert names[0] == f"{task} 1"
        torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert set(gates(model, "item", torch.tensor([0]))) == {"rank", "genres", "liked"}
    run = run_of(file, "all")
    do(run)
    assert gates(Model.load(run.folder(Path("runs"))), "query", torch.tensor([0])) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives.gender.of": "gendr"}, r"objectives\.gender\.of: no label 'gendr'.*gender"),
        ({"objectives.genres.of": "gender"}, "another objective has the label 'gender' and its head"),
        ({"labels.gender.feature": "sex"}, r"labels\.gender\.feature: no feature 'sex' of users.*gender"),
        ({"labels.liked.text": "review"}, r"labels\.liked\.text: no column 'review'"),
        ({"balance": "kendall"}, "no balance 'kendall'"),
        (
            {"balance": "gradnorm", "objectives.rank": "bsl"},
            r"balance: gradnorm weighs losses by their size, and objectives\.rank, bsl, can fall below 0: take pcgrad",
        ),
        ({"sharing": {"name": "mmoe", "expert": 3}}, "sharing.expert: sharing 'mmoe' takes no 'expert'.*experts"),
        ({"encoder": "sasrec"}, "an encoder of histories has no rows of interactions"),
        (
            {
                "encoder": {"name": "hybrid", "graph": {"name": "lightgcn"}},
                "content.people": {"side": "user", "columns": ["gender"]},
            },
            r"the encoder reads content\.people, in which is 'gender', the label that objectives\.gender is to predict",
        ),
    ],
)
def test_what_does_not_fit_is_refused(file: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_of(file, "all", **changes)


def test_a_balance_wants_two_tasks(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"balance: expected two tasks at least.*\['rank'\]"):
        run_of(file, "probes", balance="uncertainty")


def test_a_loss_that_can_fall_below_0_may_be_balanced_by_what_does_not_weigh_it(file: Path) -> None:
    run = run_of(file, "all", **{"balance": "pcgrad", "objectives.rank": "bsl"})
    do(run)
    lines = (run.folder(Path("runs")) / "metrics.jsonl").read_text().splitlines()
    assert not any("balance" in json.loads(line) for line in lines)


def test_factors_of_a_balance_are_on_record(file: Path) -> None:
    run = run_of(file, "all", balance="gradnorm")
    do(run)
    lines = (run.folder(Path("runs")) / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line)["balance"] for line in lines]
    assert all(set(one) == {"rank", "gender", "genres", "liked"} for one in found)
    assert all(sum(one.values()) == pytest.approx(4) for one in found)
    assert found[0] != found[-1]


def test_histories_predict_labels_of_users_and_items(file: Path) -> None:
    changes = {"encoder": {"name": "gru4rec", "dim": 8}, "objectives.liked": None, "train.max_epochs": 30}
    result = do(run_of(file, "all", **changes))
    assert result["labels"]["test"]["gender:auc"] > 0.6


def test_a_table_has_labels_with_their_differences(file: Path) -> None:
    from recgraph.reporting.rendering import markdown
    from recgraph.reporting.tables import grids, tidy

    runs = [run for run in plan(file, seeds=[0, 1]) if run.row in ("all", "probes", "none")]
    finished = [Finished(do(run), run.folder(Path("runs"))) for run in runs]
    text = markdown(grids(finished, against="probes"))
    assert "ml-100k, labels, test" in text
    assert "most frequent in training" in text
    assert "gender:macro_f1" in text
    assert "paired bootstrap" in text
    frame = tidy([one.result for one in finished])
    (one,) = frame.filter(row="all", seed=1, part="test", group="all")["genres:auc"]
    (result,) = (one.result for one in finished if (one.result["row"], one.result["seed"]) == ("all", 1))
    assert one == result["labels"]["test"]["genres:auc"]
    guesses = frame.filter(group="guessed")
    assert sorted(guesses["seed"]) == [0, 1]  # once, though two rows have it
    assert guesses["gender:accuracy"].to_list() == [
        one.result["labels"]["guessed"]["gender:accuracy"] for one in finished[:2]
    ]
