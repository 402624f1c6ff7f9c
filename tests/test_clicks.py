"""Predicting clicks: labels, moments, batches, metrics, and runs from a file to a table."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import references_fields as naive
import torch
import yaml
from cases import interactions
from rich.console import Console
from sklearn.metrics import log_loss, roc_auc_score
from torch.nn import functional

from recgraph.data import datasets
from recgraph.data.clicks import ClickSettings, clicks_of, context_of, labelled
from recgraph.data.interactions import Interactions
from recgraph.data.splits import Split
from recgraph.encoders import Embedding
from recgraph.errors import ConfigError, DataError
from recgraph.evaluation.clicks import judge_clicks
from recgraph.evaluation.metrics import OF_CLICKS, direction
from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Settings, execute, reevaluate
from recgraph.experiments.task import Task
from recgraph.heads import Dot
from recgraph.models.model import Model
from recgraph.models.recommender import Recommender
from recgraph.objectives import LogLoss, Objective, SquaredError
from recgraph.random import torch_generator
from recgraph.reporting import tables
from recgraph.sampling.clicks import ClickBatches
from recgraph.types import Batch, Inputs

CPU = torch.device("cpu")
FILE = """
datasets: [rated]
seeds: [0]
base:
  split: random
  clicks: {positive: 4, drop: [3]}
  content:
    kind: {columns: [kind], ids: true, min_count: 1}
    age: {side: user, columns: [age], ids: true, min_count: 1}
  encoder: {name: fields, dim: 4, std: 0.1, crosses: [[user, kind]], buckets: 500}
  heads: {rank: linear}
  objectives: {click: log_loss}
  train: {lr: 0.05, batch_size: 64, max_epochs: 8, patience: 8, validate_every: 1, monitor: auc}
  evaluate: {metrics: [auc, log_loss]}
rows:
  linear: {}
  no cross: {encoder.crosses: []}
  wide & deep: {heads.rank: {name: wide_deep, hidden: [8]}, encoder.context: [hour, weekday]}
  DCN: {heads.rank: {name: dcn, hidden: [8]}, encoder.crosses: [], encoder.wide: false, objectives.click: squared_error}
against: linear
"""


@pytest.fixture
def rated(toy: Path) -> Path:
    """60 users rate items of four kinds 5 if theirs, else 1; some 3; a dataset with attributes and times."""
    rng, root = np.random.default_rng(0), Path("data")
    pairs = rng.permutation(np.argwhere(rng.random((60, 40)) < 0.6))
    rating = np.where(pairs[:, 0] % 4 == pairs[:, 1] % 4, 5, 1)
    rating[rng.random(len(pairs)) < 0.1] = 3
    rows = [f"{u},{i},{r},{1_000_000_000 + 5000 * n}" for n, ((u, i), r) in enumerate(zip(pairs, rating, strict=True))]
    folder = root / "raw" / "rated"
    folder.mkdir(parents=True)
    (folder / "ratings.csv").write_text("user,item,rating,time\n" + "\n".join(rows) + "\n")
    (folder / "items.csv").write_text("item,kind\n" + "".join(f"{i},k{i % 4}\n" for i in range(40)))
    (folder / "users.csv").write_text("user,age\n" + "".join(f"{u},{u % 3}\n" for u in range(60)))
    users, items = len(np.unique(pairs[:, 0])), len(np.unique(pairs[:, 1]))
    card: dict[str, Any] = {"name": "rated", "title": "Rated", "licence": "own", "splits": {"random": {}}}
    layout = {"user": "int", "item": "int", "rating": "float", "time": "int"}
    card["forms"] = {
        "own": {
            "files": {"ratings.csv": {}, "items.csv": {}, "users.csv": {}},
            "interactions": [{"file": "ratings.csv", "read": {"format": "csv", "columns": layout}}],
            "features": [
                {
                    "file": f"{side}s.csv",
                    "read": {"format": "csv", "columns": {side: "int", name: kind}},
                    "features": {name: {"kind": "categorical"}},
                }
                for side, name, kind in (("item", "kind", "str"), ("user", "age", "int"))
            ],
        }
    }
    card["expected"] = {"users": users, "items": items, "interactions": len(pairs)}
    (root / "rated.yaml").write_text(yaml.safe_dump(card))
    path = toy.parent / "rated.yaml"
    path.write_text(FILE)
    return path


def run(path: Path, row: str, root: str = "runs", **changes: Any) -> tuple[Path, dict[str, Any]]:
    (one,) = plan(path, rows=[row], overrides=changes)
    result = execute(one, Path(root), settings=Settings(CPU), console=Console(quiet=True))
    return one.folder(Path(root)), result


def table(ratings: list[float], **columns: list[Any]) -> Interactions:
    made = interactions(np.array([[n, n % 3] for n in range(len(ratings))]))
    return Interactions(
        made.frame.with_columns(rating=pl.Series(ratings, dtype=pl.Float64), **columns), made.users, made.items
    )


def test_labels_are_of_the_ratings_that_are_kept() -> None:
    parts = table([5, 3, 4, 1]), table([2, 3, 3, 4.5]), table([1, 5, 3, 3])
    pairs = [p.frame.with_columns(item=pl.Series([k] * 4, dtype=pl.UInt32)) for k, p in enumerate(parts)]
    whole = Split("random", *(Interactions(f, p.users, p.items) for f, p in zip(pairs, parts, strict=True)))
    found = labelled(whole, ClickSettings(positive=4, drop=(3,)))
    assert [part.frame["label"].to_list() for part in (found.train, found.validation, found.test)] == [
        [1, 1, 0],
        [0, 1],
        [0, 1],
    ]
    assert found.train.user_indices.tolist() == [0, 2, 3]
    assert found.fingerprint != labelled(whole, ClickSettings(positive=4.2, drop=(3,))).fingerprint
    with pytest.raises(DataError, match="the train part has 4 rows and not both labels"):
        labelled(whole, ClickSettings(positive=9))
    with pytest.raises(DataError, match=r"clicks\.column: no column 'ratin'\. Did you mean 'rating'"):
        labelled(whole, ClickSettings(column="ratin"))
    with pytest.raises(DataError, match=r"clicks\.drop: no row has rating 2\.5"):
        labelled(whole, ClickSettings(drop=(2.5, 3)))
    for unknown in (None, float("nan")):  # polars holds NaN to be more than any number
        frame = whole.test.frame.with_columns(rating=pl.Series([1, 5, unknown, 3], dtype=pl.Float64))
        test = Interactions(frame, whole.test.users, whole.test.items)
        with pytest.raises(DataError, match=r"clicks\.column: 1 of the 4 rows of the test part have no 'rating'"):
            labelled(replace(whole, test=test), ClickSettings())


def test_moments_are_those_of_the_calendar() -> None:
    times = [0, 3599, 3600, 86_399, 86_400, 978_300_760, 1_456_704_000, 1_700_000_000]
    found = context_of(table([1.0] * len(times), time=pl.Series(times)))
    dates = [datetime.datetime.fromtimestamp(time, datetime.UTC) for time in times]
    assert found.tolist() == [[date.hour, date.weekday()] for date in dates]
    with pytest.raises(DataError, match="no column `time`"):
        context_of(table([1.0]))
    for wrong in (1_609_459_200_000, -1):
        with pytest.raises(DataError, match=f"seconds since 1970, which {wrong} in the column `time`"):
            context_of(table([1.0, 2.0], time=pl.Series([1_609_459_200, wrong])))


def test_an_epoch_is_every_row_once_with_its_own_label_and_moment() -> None:
    count = 50
    rows = table([float(n % 6) for n in range(count)], time=pl.Series([n * 3600 for n in range(count)]))
    rows = Interactions(rows.frame.with_columns(label=(pl.col("rating") > 3).cast(pl.Int8)), rows.users, rows.items)
    batches = ClickBatches(rows, 7, torch_generator(0, "order"), torch_generator(0, "negatives"), context=True)
    seen = []
    for batch in batches:
        assert len(batch.items) <= 7
        for user, item, label, moment in zip(
            batch.users.tolist(),
            batch.items.tolist(),
            batch.labels["click"].tolist(),
            batch.inputs.context.tolist(),
            strict=True,
        ):
            assert (item, label, moment[0]) == (user % 3, float(user % 6 > 3), user % 24)
            seen.append(user)
        assert batch.negatives is None
    assert sorted(seen) == list(range(count))
    assert seen != list(range(count))
    assert [b.users.tolist() for b in batches] != [b.users.tolist() for b in batches]
    assert len(batches) == 8


def test_metrics_equal_scikit_learn_and_loops() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=300).round(1) * 3  # with ties
    labels = (generator.random(300) < 1 / (1 + np.exp(-scores))).astype(float)
    for metric, other, loop in (
        ("auc", roc_auc_score(labels, scores), naive.auc(scores, labels)),
        ("log_loss", log_loss(labels, 1 / (1 + np.exp(-scores))), naive.log_loss(scores, labels)),
    ):
        assert OF_CLICKS[metric](scores, labels) == pytest.approx(other, abs=1e-12)
        assert OF_CLICKS[metric](scores, labels) == pytest.approx(loop, abs=1e-12)
    assert OF_CLICKS["log_loss"](np.array([1e4, -1e4]), np.array([0.0, 1.0])) == 1e4
    assert (direction("auc"), direction("log_loss"), direction("ndcg@10"), direction("gini@10")) == (1, -1, 1, 0)


def test_a_users_own_figures_are_over_the_users_rows() -> None:
    users, labels = np.array([4, 0, 4, 0, 4, 2]), np.array([1.0, 0, 0, 1, 1, 1])
    scores = np.array([0.5, 0.2, 1.0, -3.0, 2.0, 0.0])
    found = judge_clicks(scores, labels, users, ["auc", "log_loss"], num_users=6, started=0.0)
    assert (found.users.tolist(), found.num_skipped) == ([0, 2, 4], 3)
    own = [(scores[users == user], labels[users == user]) for user in (0, 2, 4)]
    assert found.per_user["log_loss"] == pytest.approx([naive.log_loss(*rows) for rows in own])
    assert found.per_user["auc"] == pytest.approx([0.0, np.nan, 0.5], nan_ok=True)
    assert found.summary["auc"] == pytest.approx(naive.auc(scores, labels))  # over all rows, not the mean of users'
    with pytest.raises(DataError, match="scores of 1 rows are NaN"):
        judge_clicks(np.array([np.nan, 1.0]), np.array([1.0, 0.0]), users[:2], ["auc"], num_users=6, started=0.0)


def test_the_figures_of_many_users_are_those_of_loops_over_them() -> None:
    generator = np.random.default_rng(1)
    users, labels = generator.integers(0, 90, 300), generator.integers(0, 2, 300).astype(float)
    scores = generator.normal(size=300).round(1)  # with ties, and users who have one row or one label
    found = judge_clicks(scores, labels, users, ["auc", "log_loss"], num_users=90, started=0.0)
    own = [(scores[users == user], labels[users == user]) for user in np.unique(users)]
    expected = [naive.auc(*rows) if 0 < rows[1].mean() < 1 else np.nan for rows in own]
    assert found.per_user["auc"] == pytest.approx(expected, nan_ok=True)
    assert found.per_user["log_loss"] == pytest.approx([naive.log_loss(*rows) for rows in own])
    assert 0 < np.isnan(found.per_user["auc"]).sum() < len(own)


@pytest.mark.parametrize(
    ("objective", "loss"),
    [
        (LogLoss(), functional.binary_cross_entropy),
        (SquaredError(), functional.mse_loss),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_objectives_are_means_of_losses_of_probabilities(objective: Objective, loss: Any, masked: bool) -> None:
    recommender = Recommender(Embedding(5, 7, dim=4, std=1.0), {"rank": Dot(4)}).double()
    users, items, labels = torch.tensor([0, 3, 3]), torch.tensor([1, 4, 0]), torch.tensor([1.0, 0.0, 1.0])
    mask = torch.tensor([True, False, True]) if masked else None
    batch = Batch(Inputs(users), items, labels={"click": labels}, mask=mask)
    found = objective(recommender, batch, recommender.encoder(batch.inputs))
    chance = (recommender.encoder.users.weight[users] * recommender.encoder.items.weight[items]).sum(1).sigmoid()
    kept = slice(None) if mask is None else mask
    torch.testing.assert_close(found, loss(chance[kept], labels.double()[kept]))


@pytest.mark.parametrize("objective", [LogLoss(), SquaredError()])
def test_sums_are_of_float32_where_scores_are_coarser(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = Recommender(Embedding(5, 7, dim=4), {"rank": Dot(4)})
    scores = torch.linspace(-1, 1, 4096).to(torch.bfloat16)
    monkeypatch.setattr(recommender, "score_pairs", lambda *_, **__: scores)
    batch = Batch(Inputs(torch.zeros(4096).long()), torch.zeros(4096).long(), labels={"click": torch.zeros(4096)})
    expected = objective.row_losses(scores.double(), torch.zeros(4096).double()).mean()
    found = objective(recommender, batch, recommender.encoder(batch.inputs))
    torch.testing.assert_close(found, expected.float())


def test_losses_are_finite_at_huge_scores() -> None:
    scores, labels = torch.tensor([1e4, -1e4], requires_grad=True), torch.tensor([0.0, 1.0])
    for objective in (LogLoss(), SquaredError()):
        losses = objective.row_losses(scores, labels)
        assert losses.isfinite().all()
        assert torch.autograd.grad(losses.sum(), scores)[0].isfinite().all()


def test_rows_learn_are_saved_and_make_a_table(rated: Path) -> None:
    runs = {row: run(rated, row) for row in ("linear", "no cross", "wide & deep", "DCN")}
    assert runs["linear"][1]["test"]["auc"] > 0.9  # a user's weight for a kind is what the ratings are made of
    assert runs["no cross"][1]["test"]["auc"] < 0.7
    for folder, result in runs.values():
        again = {name: (one, other) for name, one, other in reevaluate(folder, [], CPU)}
        assert again == {name: (result["validation"][name], result["test"][name]) for name in ("auc", "log_loss")}
        assert set(pl.read_parquet(folder / "per_user.parquet").columns) == {"user", "auc", "log_loss"}
        assert result["groups"] == {}
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert result["best_epoch"] == max(lines, key=lambda line: line["validation"]["auc"])["epoch"]
    finished = [tables.Finished(result, folder) for folder, result in runs.values()]
    grid, differences, *_ = tables.grids(finished, against="linear")
    losses = {row[0].text: (float(row[2].text), row[2].best) for row in grid.rows}
    assert min(losses, key=lambda row: losses[row][0]) == next(row for row in losses if losses[row][1])
    assert "predicted" in grid.notes[1]
    assert "not over all rows" in differences.notes[1]
    assert tables.tidy([one.result for one in finished])["log_loss"].count() == 2 * len(runs)  # validation and test


def test_a_head_that_reads_popularity_says_the_same_when_asked_again(rated: Path) -> None:
    """Validation goes by training's popularity, also of a model that knows all."""
    head = {"name": "cosine", "popularity": 0.5}
    changes = {"encoder": {"name": "embedding", "dim": 4}, "heads.rank": head, "train.max_epochs": 2}
    (asked,) = plan(rated, rows=["linear"], overrides={**changes, "train.patience": 2})
    result = execute(asked, Path("runs"), settings=Settings(CPU), console=Console(quiet=True))
    again = {name: (one, other) for name, one, other in reevaluate(asked.folder(Path("runs")), [], CPU)}
    assert again == {name: (result["validation"][name], result["test"][name]) for name in again}


def test_the_test_figure_is_that_of_scikit_learn_over_the_rows_of_test(rated: Path) -> None:
    folder, result = run(rated, "wide & deep")
    split = datasets.load("rated").split("random", seed=0)
    rows = split.test.frame.filter(pl.col("rating") != 3)
    users, items = (torch.from_numpy(rows[side].to_numpy().astype(np.int64)) for side in ("user", "item"))
    with torch.no_grad():
        model = Recommender.load(folder)
        scores = model.predict(users, items, context_of(Interactions(rows, split.test.users, split.test.items))).numpy()
    labels = rows["rating"].to_numpy() >= 4
    assert result["test"]["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert result["test"]["log_loss"] == pytest.approx(
        log_loss(labels, 1 / (1 + np.exp(-scores.astype(float)))), abs=1e-6
    )


def test_no_row_of_validation_or_test_reaches_a_parameter(rated: Path) -> None:
    one, _ = run(rated, "wide & deep", **{"train.patience": 8, "train.max_epochs": 1})
    split = datasets.load("rated").split("random", seed=0)
    held = {tuple(pair) for part in (split.validation, split.test) for pair in part.frame.select("user", "item").rows()}
    path = Path("data/raw/rated/ratings.csv")
    frame = pl.read_csv(path)
    ids = zip(split.train.users.encode(frame["user"]), split.train.items.encode(frame["item"]), strict=True)
    turned = [6 - r if (u, i) in held else r for (u, i), r in zip(ids, frame["rating"].to_list(), strict=True)]
    frame.with_columns(rating=pl.Series(turned)).write_csv(path)
    two, _ = run(rated, "wide & deep", "others", **{"train.patience": 8, "train.max_epochs": 1})
    before, after = Model.load(one).state_dict(), Model.load(two).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_refit_and_the_catalogue_work_with_a_model_of_clicks(rated: Path) -> None:
    folder, result = run(rated, "linear", refit=True)
    assert result["refit"]
    model = Model.load(folder)
    best = model.recommend(7, 5)
    assert all(int(item.item) % 4 == 7 % 4 for item in best)
    pairs = Task.load(
        "rated", {"name": "random", "seed": 0}, CPU
    ).train_and_validation  # with the rows that are dropped
    assert (pairs.frame["rating"] == 3).any()
    assert model.catalogue.seen_users.tolist() == pairs.user_indices.tolist()
    assert model.catalogue.seen_items.tolist() == pairs.item_indices.tolist()


def test_a_model_of_moments_ranks_nothing_and_has_no_metrics_of_rankings(rated: Path) -> None:
    folder, _ = run(rated, "wide & deep")
    model = Model.load(folder)
    for ask in (lambda: model.recommend(7, 5), lambda: model.export(folder), lambda: model.scorer()):
        with pytest.raises(ConfigError, match=r"Fields reads the moment of a row: .* leave out encoder.context"):
            ask()
    with pytest.raises(ConfigError, match=r"'ndcg@10' is not of clicks, of which there are auc, log_loss"):
        reevaluate(folder, ["auc", "ndcg@10"], CPU)


def test_a_ranking_by_fields_needs_no_clicks(rated: Path) -> None:
    changes = {
        "clicks": None,
        "objectives.click": "bce",
        "evaluate.metrics": ["ndcg@10"],
        "train.monitor": "ndcg@10",
        "split": "random_by_user",
    }
    for row in ("linear", "wide & deep"):
        more = {"encoder.context": []} if row == "wide & deep" else {}
        _, result = run(rated, row, **changes, **more)
        assert 0 <= result["test"]["ndcg@10"] <= 1


def test_a_sealed_task_predicts_validation_alone(rated: Path) -> None:
    (one,) = plan(rated, rows=["linear"])
    folder, result = run(rated, "linear")
    task = Task.load("rated", one.config["split"], CPU, sealed=True, clicks=clicks_of(one.config))
    model = Model.load(folder)
    assert task.validate(model, ["auc"]).summary["auc"] == result["validation"]["auc"]
    with pytest.raises(DataError, match="the test part is sealed"):
        task.test(model, ["auc"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate.metrics": ["auc", "ndcg@10"]}, "evaluate.metrics: of clicks there are auc, log_loss"),
        ({"train.monitor": "log_loss"}, "train.monitor: of 'log_loss', more is not better"),
        ({"clicks": None}, "evaluate.metrics: auc is of clicks: give a block `clicks:`"),
        ({"objectives.click": "bpr"}, "takes every row for a positive"),
        ({"objectives.au": "direct_au"}, "takes every row for a positive"),
        ({"encoder": {"name": "lightgcn"}}, "encoder lightgcn reads graph, which holds the rows whose labels"),
        ({"encoder": {"name": "sasrec"}}, "encoder sasrec reads history"),
        ({"evaluate.sampled": True}, "evaluate.sampled: it ranks"),
        ({"train.draw_by": "user"}, "train.draw_by: 'user' draws single interactions, and rows are labelled here"),
        ({"sharing": "mmoe"}, "sharing: it is between tasks, and with `clicks:` there is one"),
        ({"balance": "gradnorm"}, "balance: it is between tasks"),
        ({"blend": {"baseline": "bspm"}}, "blend: it ranks"),
        ({"clicks.column": "ratin"}, "have no column 'ratin'. Did you mean 'rating'"),
        ({"clicks.positve": 3}, "no such key|no 'positve'"),
        ({"objectives.ssl": {"name": "view_contrast", "view": "noise"}}, "compares vectors, and encoder fields gives"),
        *(
            ({"encoder.wide": False, "encoder.context": ["hour"], "objectives.ssl": ssl}, "which depend on a moment")
            for ssl in ("prototype_contrast", {"name": "view_contrast", "against": "all"})
        ),
    ],
)
def test_what_does_not_go_with_clicks_is_refused_at_once(rated: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(rated, rows=["linear"], overrides=changes)


def test_a_baseline_ranks_and_a_ranking_has_no_moment(rated: Path) -> None:
    for text, message in (
        (FILE.replace("  linear: {}", "  linear: {}\n  popular: {baseline: popularity}"), "baseline: it ranks"),
        (
            FILE.replace("  clicks: {positive: 4, drop: [3]}\n", "")
            .replace("log_loss}\n", "bce}\n")
            .replace("auc, bce", "x"),
            "is of clicks|only a click to predict has a moment",
        ),
    ):
        rated.write_text(text)
        with pytest.raises(ConfigError, match=message):
            plan(rated)
