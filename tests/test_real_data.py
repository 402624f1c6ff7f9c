"""Quality and scale on real data, which `RECGRAPH_MIRROR` must name."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch
from rich.console import Console

from recgraph.data import datasets
from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Result, Settings, execute
from recgraph.models.recommender import Recommender

ROOT = Path(__file__).resolve().parent.parent


def run(path: Path, root: Path, row: str, **changes: object) -> Result:
    overrides = {f"train.{key}": value for key, value in changes.items()}
    (planned,) = plan(path, rows=[row], seeds=[0], overrides=overrides)
    return execute(planned, root, settings=Settings(torch.device("cpu")), console=Console())


@pytest.fixture
def data_root(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root, so that nothing comes from an earlier cache."""
    monkeypatch.setenv("RECGRAPH_DATA", str(tmp_path / "data"))
    return tmp_path


@pytest.mark.slow
def test_lightgcn_learns_movielens(data_root: Path) -> None:
    short = {"max_epochs": 30, "patience": 30, "validate_every": 10}
    ml100k = ROOT / "experiments" / "ml100k.yaml"
    popularity = run(ml100k, data_root, "popularity")["test"]["ndcg@10"]
    lightgcn = run(ml100k, data_root, "LightGCN", **short)["test"]["ndcg@10"]
    # Popularity is a count: .1469 in experiments/results/ml100k.csv. LightGCN after these 30 epochs measured .278;
    # without zero_grad .226, and with positives off by one item .178.
    assert popularity == pytest.approx(0.1469, abs=1e-4)
    assert lightgcn > 0.26


def test_popularity_under_the_protocol_of_ncf_is_as_published(data_root: Path) -> None:
    result = run(ROOT / "experiments" / "ncf_ml1m.yaml", data_root, "popularity")
    assert (result["test_users"], result["skipped_users"]) == (6040, 0)
    # .4533 and .2542 in Dacrema et al., see the file; the measured .45348 is one user in 6,040 more, by a tie. Counts are of
    # train and validation together. Of the whole catalogue popularity reaches hit@10 .041.
    assert result["test"]["hit@10:sampled-99"] == pytest.approx(0.4533, abs=2.5e-4)
    assert result["test"]["ndcg@10:sampled-99"] == pytest.approx(0.2542, abs=1e-4)


@pytest.mark.slow
def test_an_epoch_of_gowalla_trains_and_evaluates(data_root: Path) -> None:
    path = data_root / "gowalla.yaml"
    path.write_text(
        "datasets: [gowalla]\nseeds: [0]\n"
        "base:\n  encoder: {name: lightgcn, dim: 64, num_layers: 3}\n"
        "  objectives: {rank: bpr, l2: {name: ego_l2, weight: 1.0e-4}}\n"
        "  train: {lr: 1.0e-3, batch_size: 16384, max_epochs: 1, patience: 1, validate_every: 1, monitor: ndcg@20}\n"
        "  evaluate: {metrics: [recall@20, ndcg@20]}\n"
        "rows: {LightGCN: {}}\n"
    )
    result = run(path, data_root, "LightGCN")
    card = datasets.load("gowalla").card.expected
    assert (card.users, card.items, card.train, card.test) == (29858, 40981, 810128, 217242)
    assert result["test_users"] == 29858
    # One epoch gets past popularity's .0416, measured on this split.
    assert result["test"]["recall@20"] > 0.0416


@pytest.mark.slow
def test_a_made_up_star_wars_is_for_the_fans_of_the_series(mirror: Path, tmp_path: Path) -> None:
    (planned,) = plan(ROOT / "experiments" / "new_films.yaml")
    execute(planned, tmp_path, settings=Settings(torch.device("cpu")), console=Console())
    known = Recommender.load(planned.folder(tmp_path))
    model = known.add_items(pl.read_csv(ROOT / "scripts" / "new_films.csv"))
    series = known.catalogue.items.encode([50, 172, 181]).tolist()
    seen = torch.zeros(known.num_users, known.num_items, dtype=torch.bool)
    seen[known.catalogue.seen_users, known.catalogue.seen_items] = True
    had = seen[:, series].sum(1)
    # Whoever has had hundreds of films has had these three as well; to be a fan, they are a twentieth of it or more.
    fans, others = (had == 3) & (seen.sum(1) <= 60), had == 0
    with torch.no_grad():
        scores = model.scorer()(torch.arange(model.num_users))
    new = scores[:, known.num_items :]
    first = (new.argmax(1) == 0).float()
    # Rank among all 1,682 films, as a share of them.
    place = (scores > new[:, :1]).float().mean(1)
    assert first[fans].mean() > 0.5  # of ten films; a tenth by chance
    assert place[fans].median() < 0.1
    assert place[fans].median() < place[others].median() / 2
    somebody = model.add_users(pl.DataFrame({"id": [10_000], "items": [[50, 172, 181]]}))
    assert somebody.recommend(10_000, 1)[0].item == 90001
    best = [one.item for one in model.recommend(int(known.catalogue.users.series[int(fans.nonzero()[0])]), 1692)]
    assert best.index(90001) < best.index(90005)  # before the waltz
