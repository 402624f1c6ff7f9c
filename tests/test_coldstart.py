"""Cold items from file to recommendation: they are recommended well, and nothing of who took them leaks into a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from rich.console import Console

from recgraph import cli
from recgraph.cli.common import read_newcomers
from recgraph.data import datasets
from recgraph.data.interactions import Interactions
from recgraph.data.splits import Split
from recgraph.errors import ConfigError, DataError
from recgraph.experiments.experiment import Run, plan
from recgraph.experiments.fitting import BLEND_WEIGHTS, fit
from recgraph.experiments.running import Settings, execute
from recgraph.experiments.task import Task
from recgraph.models.blend import Blend
from recgraph.models.model import Model
from recgraph.models.recommender import Recommender
from recgraph.random import torch_generator
from recgraph.registry import samplers

CPU = torch.device("cpu")
KINDS = ("space", "love", "crime", "music")
FILE = """
datasets: [films]
seeds: [0]
base:
  split: {name: warm_and_cold, cold: 0.3}
  content:
    text: {columns: [plot], dim: 20, max_share: 1.0}
    tags: {columns: [genres]}
    year: {columns: [year]}
  encoder: {name: hybrid, graph: {name: lightgcn, dim: 8, num_layers: 2}, hidden: 0, dropout: 0.5}
  heads: {rank: cosine}
  objectives: {rank: {name: softmax, temperature: 0.2}}
  negatives: {name: in_batch, shared_by: 64}
  train: {lr: 0.02, batch_size: 128, max_epochs: 20, patience: 20, validate_every: 5, monitor: "ndcg@5:harmonic"}
  evaluate: {metrics: [ndcg@5, "ndcg@5:cold", "ndcg@5:warm", "ndcg@5:harmonic", cold_share@5]}
rows:
  popularity: {baseline: popularity}
  content_knn: {baseline: content_knn}
  ials_content: {baseline: {name: ials_content, dim: 8}}
  content: {encoder: {name: content, dim: 8, hidden: 0}}
  CLCRec:
    encoder.graph: {name: embedding, dim: 8}
    encoder.dropout: 0.0
    heads: {rank: dot}
    objectives: {rank: {name: clcrec}}
  contrast: {objectives.align: {name: content_contrast, weight: 0.1}}
  each layer: {objectives.align: {name: content_contrast, weight: 0.1, layers: each}}
  neighbours: {objectives.near: {name: content_neighbours, weight: 0.1, neighbours: 5}}
  linked:
    encoder.shrinkage: 2.0
    relations: {alike: {content: text, neighbours: 3}}
  graph:
    encoder: {name: lightgcn, dim: 8, num_layers: 2, first_layer: 1}
    relations: {alike: {content: tags, neighbours: 3}}
  init: {encoder.init: {name: ials, dim: 8, epochs: 2}}
  blend:
    encoder: {name: lightgcn, dim: 8}
    blend: {baseline: content_knn, weight: 0.5}
  hybrid: {}
"""


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 users like films of their own kind, of 60; a plot and a genre say what kind, as far as they are there."""
    rng = np.random.default_rng(0)
    liked = rng.random((60, 60)) < np.where(np.arange(60)[:, None] % 4 == np.arange(60) % 4, 0.7, 0.05)
    raw = tmp_path / "data" / "raw" / "films"
    raw.mkdir(parents=True)
    rows = [f"u{user},{100 + item}" for user, item in rng.permutation(np.argwhere(liked))]
    (raw / "likes.csv").write_text("user,item\n" + "\n".join(rows) + "\n")
    lines = ["item\ttitle\tgenres\tyear\tplot"]
    for item in range(60):
        kind = KINDS[item % 4]
        plot = "" if item % 7 == 3 else f"a {kind} story of {kind} and tale{item % 5}"
        genres = "" if item % 7 == 5 else kind
        lines.append(f"{100 + item}\tFilm {item}\t{genres}\t{1990 + item % 3}\t{plot}")
    (raw / "films.tsv").write_text("\n".join(lines) + "\n")
    columns = {"item": "int", "title": "str", "genres": "str", "year": "int", "plot": "str"}
    features = {
        "title": {"kind": "text"},
        "genres": {"kind": "multi_hot", "separator": "|"},
        "year": {"kind": "numeric"},
        "plot": {"kind": "text"},
    }
    card = {
        "name": "films",
        "title": "Films",
        "licence": "ours",
        "forms": {
            "files": {
                "files": {"likes.csv": {}, "films.tsv": {}},
                "interactions": [
                    {"file": "likes.csv", "read": {"format": "csv", "columns": {"user": "str", "item": "int"}}}
                ],
                "features": [
                    {"file": "films.tsv", "read": {"format": "tsv", "columns": columns}, "features": features}
                ],
            }
        },
        "splits": {"warm_and_cold": {}},
        "expected": {"users": 60, "items": 60, "interactions": len(rows)},
    }
    (tmp_path / "data" / "films.yaml").write_text(yaml.safe_dump(card))
    monkeypatch.setenv("RECGRAPH_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("RECGRAPH_MIRROR", raising=False)
    (tmp_path / "films.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "films.yaml"


def run_of(file: Path, row: str, **changes: Any) -> Run:
    (run,) = plan(file, rows=[row], overrides=changes)
    return run


def test_cold_items_of_validation_are_not_trained_on_and_called_cold(films: Path) -> None:
    for row in ("hybrid", "content_knn"):
        with pytest.raises(ConfigError, match=r"refit: the cold items of validation would be trained on, and .*:"):
            run_of(films, row, refit=True)
    run_of(films, "hybrid", refit=True, evaluate={"metrics": ["ndcg@10"]}, **{"train.monitor": "ndcg@10"})


def test_the_weight_of_a_blend_is_the_best_in_the_scope_that_is_monitored(films: Path) -> None:
    run = run_of(films, "blend", **{"blend.weight": None, "train.monitor": "ndcg@5:cold"})
    model, _ = fit(run, task := Task.load("films", run.config["split"], CPU), films.parent, [])
    assert isinstance(model, Blend)
    chosen, found = model.weight, {}
    for model.weight in BLEND_WEIGHTS:
        found[model.weight] = task.validate(model, ["ndcg@5", "ndcg@5:cold"]).summary
    best = {name: max(found, key=lambda weight: found[weight][name]) for name in ("ndcg@5", "ndcg@5:cold")}
    assert chosen == best["ndcg@5:cold"] != best["ndcg@5"]


def done(file: Path, row: str, **changes: Any) -> tuple[Path, dict[str, Any]]:
    run = run_of(file, row, **changes)
    result = execute(run, Path("runs"), settings=Settings(CPU), console=Console(quiet=True))
    return run.folder(Path("runs")), result


SHORT = {"train.max_epochs": 5, "train.patience": 5}
ROWS = [
    "content_knn",
    "ials_content",
    "content",
    "CLCRec",
    "contrast",
    "each layer",
    "neighbours",
    "linked",
    "graph",
    "hybrid",
]


@pytest.mark.parametrize("row", ROWS)
def test_whoever_knows_content_recommends_cold_items(films: Path, row: str) -> None:
    _, result = done(films, row)
    _, popular = done(films, "popularity")
    assert result["test"]["ndcg@5:cold"] > 0.55  # a random ranking of cold items is near .2
    assert result["test"]["ndcg@5:cold"] > popular["test"]["ndcg@5:cold"] + 0.2
    assert result["test"]["ndcg@5:warm"] > popular["test"]["ndcg@5:warm"] + 0.05
    assert popular["test"]["cold_share@5"] == 0
    assert 0 < result["test"]["cold_share@5"] < 1


def with_other_fans(split: Split, seed: int, side: str = "item") -> Split:
    """The split with the cold interactions of others at random: other fans, and other cold items in each part."""
    rng = np.random.default_rng(seed)
    other = {"item": "user", "user": "item"}[side]
    everybody = np.arange(split.train.num_items if side == "item" else split.train.num_users)
    warm = np.unique(split.train.frame[side].to_numpy())
    moved = everybody.copy()
    moved[~np.isin(everybody, warm)] = rng.permutation(np.setdiff1d(everybody, warm))

    def changed(part: Interactions) -> Interactions:
        own, fans = moved[part.frame[side].to_numpy()], part.frame[other].to_numpy().copy()
        cold = ~np.isin(own, warm)
        fans[cold] = rng.permutation(fans[cold])
        columns = {side: own.astype(np.uint32), other: fans}
        frame = part.frame.with_columns(**{name: pl.Series(name, values) for name, values in columns.items()})
        return Interactions(frame.unique(["user", "item"]), part.users, part.items)

    return Split(split.name, split.train, changed(split.validation), changed(split.test))


@pytest.mark.parametrize("row", ["popularity", *ROWS, "init", "blend"])
def test_cold_interactions_leak_into_nothing(films: Path, row: str, tmp_path: Path) -> None:
    nothing_leaks(films, row, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"objectives.align": "aldi"},
        {"objectives.align": {"name": "aldi", "qualify": 4.0}},
        {"objectives.align": "gar"},
        {"objectives.align": "content_distance"},
        {"encoder.experts": 3},
        {"negatives": {"name": "warm", "num": 5}},
        {
            "split": {"name": "item_cold", "validation": 0.2, "test": 0.2},
            "evaluate": {"metrics": ["ndcg@5"]},
            "train.monitor": "ndcg@5",
        },
    ],
    ids=["aldi", "aldi-qualified", "gar", "content_distance", "experts", "warm", "item_cold"],
)
def test_cold_interactions_leak_into_no_objective_expert_or_split(
    films: Path, changes: dict[str, Any], tmp_path: Path
) -> None:
    nothing_leaks(films, "hybrid", tmp_path, **changes)


def nothing_leaks(films: Path, row: str, tmp_path: Path, side: str = "item", **changes: Any) -> tuple[Split, Model]:
    """A model is the same, whichever interactions of whoever is cold are withheld from it."""
    run = run_of(films, row, **changes)
    if "train" in run.config:  # a fixed epoch, for validation, which has cold interactions, is to choose it
        short = {"train.max_epochs": 2, "train.patience": 2, "train.validate_every": 2}
        run = run_of(films, row, **changes | short)
    loaded = datasets.load("films")
    spec = {key: value for key, value in run.config["split"].items() if key != "seed"}
    split = loaded.split(spec, seed=0)
    models = []
    other = with_other_fans(split, 1, side)
    for number, parts in enumerate((split, other)):
        task = Task(parts, CPU, features=loaded.features)
        models.append(fit(run, task, tmp_path / str(number), [])[0])
    for part in ("validation", "test"):
        mine, others = (set(getattr(one, part).frame[side]) for one in (split, other))
        assert mine != others
    one, two = ({**model.state_dict(), **model.extra_tensors()} for model in models)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    with torch.no_grad():
        scores = [model.eval().scorer()(torch.arange(60)) for model in models]
    assert torch.equal(*scores)
    if side == "user":
        return split, models[0]
    cold = np.setdiff1d(np.arange(60), split.train.item_indices)
    if isinstance(models[0], Recommender) and models[0].graph is not None:
        assert (models[0].graph.item_degrees[cold] == 0).all()
        if links := models[0].graph.item_links:  # of two cold items none, for who is near is asked among warm ones
            both = np.isin(links.rows.numpy(), cold) & np.isin(links.columns.numpy(), cold)
            assert len(links.rows)
            assert not both.any()
    return split, models[0]


def test_the_popularity_that_says_who_is_cold_is_of_training(films: Path) -> None:
    loaded = datasets.load("films")
    split = loaded.split({"name": "warm_and_cold", "cold": 0.3}, seed=0)
    task = Task(split, CPU, features=loaded.features)
    cold = np.setdiff1d(np.arange(60), split.train.item_indices)
    perfect = ForTest(split)
    found = task.test(perfect, ["ndcg@60:cold", "cold_share@5"]).summary
    assert found["ndcg@60:cold"] == pytest.approx(1)  # every item withheld is ranked in that scope, and no other
    assert task.test(ForTest(split, cold), ["cold_share@5"]).summary["cold_share@5"] == pytest.approx(1)


class ForTest(Model):
    """Puts first what is in test, or some items."""

    def __init__(self, split: Split, first: np.ndarray | None = None) -> None:
        super().__init__(split.train.num_users, split.train.num_items)
        scores = torch.zeros(self.num_users, self.num_items)
        if first is None:
            scores[split.test.user_indices, split.test.item_indices] = 1
        else:
            scores[:, first] = 1
        self.register_buffer("scores", scores)

    def scorer(self) -> Any:
        return lambda users: self.scores[users]


@pytest.mark.parametrize("dataset", ["citeulike-a-aldi", "citeulike-a-dropoutnet"])
def test_official_splits_with_cold_items_refuse_to_draw_them_too(films: Path, dataset: str) -> None:
    tree = yaml.safe_load(FILE)
    tree["base"] |= {"split": "official", "content": {"tags": {"columns": ["tags"]}}}
    films.write_text(yaml.safe_dump(tree | {"datasets": [dataset], "rows": {"hybrid": {}}}))
    run_of(films, "hybrid")
    with pytest.raises(ConfigError, match="negatives: uniform draws cold items too"):
        run_of(films, "hybrid", negatives="uniform")


def test_no_sampler_but_the_uniform_one_draws_cold_items_and_that_is_refused(films: Path) -> None:
    split = datasets.load("films").split(seed=0)
    cold = np.setdiff1d(np.arange(60), split.train.item_indices)
    users, items = torch.from_numpy(split.train.user_indices), torch.from_numpy(split.train.item_indices)
    several = {"name": "warm", "num": 9}
    for spec, draws in (
        ("in_batch", False),
        ("popularity", False),
        (several, False),
        ({**several, "name": "uniform"}, True),
    ):
        sampler = samplers.build(spec, split.train)
        drawn = sampler.sample(users, items, torch_generator(0, "negatives"))
        assert bool(np.isin(drawn.numpy(), cold).any()) == draws
    with pytest.raises(
        ConfigError, match=r"negatives: uniform draws cold items too.* Take warm, popularity or in_batch"
    ):
        run_of(films, "hybrid", negatives="uniform")
    with pytest.raises(ConfigError, match="negatives: popularity with alpha 0 draws cold items too"):
        run_of(films, "hybrid", negatives={"name": "popularity", "alpha": 0})
    graph = {"encoder": {"name": "lightgcn", "dim": 8}, "negatives": "uniform"}
    alike = {"side": "item", "content": "text"}
    with pytest.raises(ConfigError, match=r"uniform draws cold items too.* would learn that their links are bad"):
        run_of(films, "hybrid", **graph, relations={"alike": alike})
    run_of(films, "hybrid", **graph)
    run_of(films, "hybrid", encoder={"name": "embedding", "dim": 8}, negatives="uniform")
    run_of(films, "hybrid", negatives="uniform", split={"name": "random_by_user"})
    run_of(films, "hybrid", negatives="uniform", split="official")  # of which the card names no cold items
    path = films.parent / "data" / "films.yaml"
    card = yaml.safe_load(path.read_text())
    card["expected"]["test_only_items"] = 2
    path.write_text(yaml.safe_dump(card))
    with pytest.raises(ConfigError, match="negatives: uniform draws cold items too"):
        run_of(films, "hybrid", negatives="uniform", split="official")


def test_negatives_are_drawn_by_who_knows_training_alone(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, build, given = datasets.load("films"), samplers.build, []

    def noting(spec: Any, train: Interactions) -> Any:
        given.append(train)
        return build(spec, train)

    monkeypatch.setattr(samplers, "build", noting)
    task = Task(loaded.split({"name": "warm_and_cold", "cold": 0.3}, seed=0), CPU, features=loaded.features)
    fit(run_of(films, "hybrid", **SHORT), task, tmp_path, [])
    assert given == [task.train]


def test_the_pipeline_saw_warm_items_only(films: Path) -> None:
    folder, _ = done(films, "hybrid", **{"train.max_epochs": 5, "train.patience": 5})
    model = Recommender.load(folder)
    split = datasets.load("films").split({"name": "warm_and_cold", "cold": 0.3}, seed=0)
    frame = datasets.load("films").features.items.frame
    warm = frame[np.unique(split.train.item_indices)]
    known = {word for plot in warm["plot"] for word in plot.split() if len(word) > 1}
    counted = {word for word in known if sum(word in plot.split() for plot in warm["plot"]) >= 2}
    assert set(model.pipeline["text"].terms) == counted
    assert model.pipeline["year"].arrays["mean"][0] == pytest.approx(warm["year"].mean())


NEW = pl.DataFrame(
    {
        "id": [901, 902, 903],
        "title": ["Stars", "Hearts", None],
        "genres": ["space", "love", ""],
        "year": [1991, 1990, None],
        "plot": ["a space story of space and tale1", "a love story of love and tale2", "unheard of"],
    }
)


def test_an_item_that_did_not_exist_is_recommended_to_those_who_like_its_kind(films: Path) -> None:
    folder, _ = done(films, "hybrid")
    model = Recommender.load(folder)
    with torch.no_grad():
        before = model.scorer()(torch.arange(60))
        more = model.add_items(NEW)
        after = more.scorer()(torch.arange(60))
        assert model.num_items == 60
        assert model.catalogue.items.ids.tolist() == list(range(100, 160))
    torch.testing.assert_close(after[:, :60], before)
    order = model.catalogue.users.encode([f"u{user}" for user in range(60)])
    scores = after[torch.tensor(order)]  # of user u0, u1, ...
    fans = torch.arange(60) % 4
    # Of 13 of 15 at least, for a few like much that is not of their kind; by chance that would be 1 time in 270.
    assert (scores[fans == 0, 60] > scores[fans == 0, 61]).float().mean() > 0.8
    assert (scores[fans == 1, 61] > scores[fans == 1, 60]).float().mean() > 0.8
    assert after.isfinite().all()
    best = more.recommend("u0", 60)
    assert [one.title for one in best if one.item == 901] == ["Stars"]
    assert any(one.item == 903 and one.title is None for one in best)
    more.save(films.parent / "more")
    again = Model.load(films.parent / "more")
    with torch.no_grad():
        torch.testing.assert_close(again.scorer()(torch.arange(60)), after, rtol=0, atol=0)
    assert (
        len(Recommender.load(films.parent / "more").add_items(NEW.with_columns(pl.col("id") + 10)).catalogue.items)
        == 66
    )


def test_a_new_item_with_a_cold_items_content_has_its_scores(films: Path) -> None:
    for row in ("hybrid", "content", "CLCRec"):
        folder, _ = done(films, row, **{"train.max_epochs": 5, "train.patience": 5})
        model = Recommender.load(folder)
        split = datasets.load("films").split({"name": "warm_and_cold", "cold": 0.3}, seed=0)
        cold = int(np.setdiff1d(np.arange(60), split.train.item_indices)[0])
        twin = datasets.load("films").features.items.frame[[cold]].with_columns(id=pl.lit(999, pl.Int64))
        with torch.no_grad():
            scores = model.add_items(twin).scorer()(torch.arange(60))
        torch.testing.assert_close(scores[:, 60], scores[:, cold])


def test_objectives_that_stack_catalogues_go_with_popularity(films: Path) -> None:
    head = {"name": "cosine", "popularity": 0.3}
    _, result = done(films, "CLCRec", **{"heads.rank": head, "train.max_epochs": 5, "train.patience": 5})
    assert all(0 <= value <= 1 for value in result["test"].values())


def test_a_new_item_is_popular_with_nobody(films: Path) -> None:
    head = {"name": "cosine", "popularity": 0.3}
    model = Recommender.load(
        done(films, "hybrid", **{"heads.rank": head, "train.max_epochs": 5, "train.patience": 5})[0]
    )
    more, users = model.add_items(NEW), torch.arange(60)
    assert more.popularity[:60].any()
    assert not more.popularity[60:].any()
    with torch.no_grad():
        torch.testing.assert_close(more.scorer()(users)[:, :60], model.scorer()(users))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (NEW.with_columns(id=pl.Series([901, 901, 3])), "new items: the id 901 is repeated"),
        (NEW.with_columns(id=pl.Series([901, 101, 102])), "new items: 2 ids are in the catalogue already, such as 101"),
        (NEW.drop("plot"), "new items: text: no column 'plot'"),
        (NEW.drop("id"), "expected a column `id`"),
        (NEW.with_columns(id=pl.Series(["a", "b", "c"])), "is no whole number, as those known are"),
        (NEW.with_columns(year=pl.Series([1.0, float("nan"), 2.0])), "column 'year': the row of id 902 is not finite"),
    ],
)
def test_new_items_that_do_not_fit_are_refused(films: Path, frame: pl.DataFrame, message: str) -> None:
    folder, _ = done(films, "hybrid", **{"train.max_epochs": 5, "train.patience": 5})
    with pytest.raises((ConfigError, DataError), match=message):
        Recommender.load(folder).add_items(frame)


def test_recommend_ranks_new_items_from_a_file(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = done(films, "hybrid")
    NEW.write_csv("new.csv")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["recommend", str(folder), "--user", "u0", "-k", "60", "--items", "new.csv"])
    assert not stopped.value.code
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "901" in line]
    assert "Stars" in line
    assert "new" in line
    NEW.rename({"id": "ids"}).write_csv("bad.csv")
    with pytest.raises(SystemExit):
        cli.main(["recommend", str(folder), "--user", "u0", "--items", "bad.csv"])
    assert "bad.csv: no column 'id'. Did you mean 'ids'?" in capsys.readouterr().err


def test_new_is_marked_whatever_a_file_writes_an_id_like(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = done(films, "hybrid", **SHORT)
    Path("new.csv").write_text("id,title,genres,year,plot\n0901,Stars,space,1991,\n 902,Hearts,love,1990,\n")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["recommend", str(folder), "--user", "u0", "-k", "60", "--items", "new.csv"])
    assert not stopped.value.code
    marked = [line for line in capsys.readouterr().out.splitlines() if "new" in line]
    assert len(marked) == 2
    assert all(any(title in line for line in marked) for title in ("Stars", "Hearts"))


@pytest.fixture
def with_vectors(films: Path) -> Recommender:
    """A hybrid that reads a text, and vectors of a file that says what kind a film is; of the first film, zeros."""
    vectors = torch.eye(4)[torch.arange(60) % 4].tolist()
    vectors[0] = [0.0] * 4
    table = pl.DataFrame({"id": range(100, 160), "vector": vectors})
    table.write_parquet(films.parent / "data" / "films.parquet")
    content = {"text": {"columns": ["plot"], "dim": 20, "max_share": 1.0}, "vec": {"file": "films.parquet"}}
    folder, _ = done(films, "hybrid", content=content)
    return Recommender.load(folder)


def test_new_items_bring_the_vectors_of_a_modality_from_a_file(with_vectors: Recommender) -> None:
    model = with_vectors
    assert not model.content.items["vec"].present[0]
    space, love = torch.eye(4)[:2].tolist()
    new = pl.DataFrame({"id": [901, 902, 903], "plot": [None] * 3, "vec": [space, love, [0.0] * 4]})
    more = model.add_items(new)
    assert more.content.items["vec"].present[-3:].tolist() == [True, True, False]  # of zeros nothing is known
    torch.testing.assert_close(more.content.items["vec"].values[60], model.content.items["vec"].values[4])
    with torch.no_grad():
        scores = more.scorer()(torch.tensor(model.catalogue.users.encode([f"u{user}" for user in range(60)])))
    assert scores.isfinite().all()
    fans = torch.arange(60) % 4
    assert (scores[fans == 0, 60] > scores[fans == 0, 61]).float().mean() > 0.8
    assert (scores[fans == 1, 61] > scores[fans == 1, 60]).float().mean() > 0.8
    new.with_columns(vec=pl.col("vec").list.eval(pl.element().cast(pl.String)).list.join(" | ")).write_csv("new.csv")
    from_csv = model.add_items(read_newcomers(Path("new.csv")))
    assert torch.equal(from_csv.content.items["vec"].values, more.content.items["vec"].values)
    array = new.with_columns(vec=pl.col("vec").list.to_array(4))
    assert torch.equal(model.add_items(array).content.items["vec"].values, more.content.items["vec"].values)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"vec": [[1.0, float("nan"), 0.0, 0.0]]},
            "vec: column 'vec': the row of id 901 holds a number that is missing",
        ),
        ({"vec": [[1.0, None, 0.0, 0.0]]}, "vec: column 'vec': the row of id 901 holds a number that is missing"),
        ({"vec": ["1|x|0|0"]}, "vec: column 'vec': the row of id 901 holds a number that is missing"),
        ({"vec": [[1e200, 0.0, 0.0, 0.0]]}, "vec: column 'vec': the row of id 901 holds a number beyond"),
        ({"vec": [[1.0, 0.0]]}, "vec: column 'vec': the row of id 901 is not 4 numbers long"),
        ({"vec": [3.5]}, "vec: column 'vec': "),
        ({"vec": [[0.0] * 4], "title": [["A", "B"]]}, r"column 'title': expected text, got List\(String\)"),
        ({}, "vec: no column 'vec'"),
    ],
)
def test_bad_vectors_of_new_items_are_named(with_vectors: Recommender, columns: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=f"new items: {message}"):
        with_vectors.add_items(pl.DataFrame({"id": [901], "plot": ["a space story"], **columns}))


def test_a_text_in_a_script_that_training_never_saw_is_masked(films: Path) -> None:
    folder, _ = done(films, "hybrid", **SHORT)
    strange = pl.DataFrame(
        {"id": [901, 902], "genres": ["映画", None], "year": [None] * 2, "plot": ["千と千尋の神隠し", "Привет мир"]}
    )
    more = Recommender.load(folder).add_items(strange)
    for values, present in more.content.items.values():
        assert not present[-2:].any()
        assert not values[-2:].any()
    with torch.no_grad():
        scores = more.scorer()(torch.arange(60))
    assert scores.isfinite().all()
    assert torch.equal(scores[:, 60], scores[:, 61])  # both are taken for average


def test_a_csv_is_read_as_what_the_model_was_trained_on(films: Path) -> None:
    folder, _ = done(films, "hybrid", **SHORT)
    model = Recommender.load(folder)
    NEW.write_csv("new.csv")
    one, two = (model.add_items(frame) for frame in (NEW, read_newcomers(Path("new.csv"))))
    with torch.no_grad():
        assert torch.equal(one.scorer()(torch.arange(60)), two.scorer()(torch.arange(60)))
    assert two.catalogue.items.ids.tolist() == one.catalogue.items.ids.tolist()
    Path("digits.csv").write_text("id,title,genres,year,plot\n901,007,007, 1991 ,1984\n902,,,,\n")
    frame = read_newcomers(Path("digits.csv"))
    assert frame["genres"].to_list() == ["007", None]  # a tag, and no number
    found = model.add_items(frame)  # of known things, the year alone
    assert found.catalogue.titles[-2:] == ["007", None]
    assert [one.present[-2:].tolist() for one in found.content.items.values()] == [[False] * 2] * 2 + [[True, False]]
    for text, message in (
        ("id,genres,year,plot\n901,,soon,\n", "new items: year: column 'year': the row of id '901' is not a number"),
        ("id,genres,year,plot\n901,,nan,\n", "column 'year': the row of id '901' is not finite"),
        ("id,genres,year,plot\n901,,,\n,,,\n", "new items: row 2 has no `id`"),
        ("id,genres,year,plot\n9.5,,,\n", "is no whole number, as those known are"),
        ("id,genres,year,plot\n", "new items: expected a column `id` and a row each, got 0"),
        ("", "bad.csv: cannot be read as csv"),
    ):
        Path("bad.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            model.add_items(read_newcomers(Path("bad.csv")))


def test_a_model_without_content_takes_no_new_items(films: Path) -> None:
    spec = {"encoder": {"name": "embedding", "dim": 8}}
    folder, _ = done(films, "hybrid", **spec, **{"train.max_epochs": 5, "train.patience": 5})
    with pytest.raises(ConfigError, match="Embedding reads no content of items: it cannot tell new ones apart"):
        Recommender.load(folder).add_items(NEW)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"content": {"text": {"columns": ["plott"]}}}, "content.text.columns: no feature 'plott' of items"),
        ({"content": {"text": {"colums": ["plot"]}}}, "content.text.colums: no such key. Did you mean 'columns'?"),
        ({"content": {"keys": {"columns": ["plot"]}}}, "content: 'keys' cannot name a modality"),
        ({"content": {"training": {"columns": ["plot"]}}}, "content: 'training' cannot name a modality"),
        ({"content": {"a.b": {"columns": ["plot"]}}}, "content: 'a.b' cannot name a modality"),
        ({"content": {"": {"columns": ["plot"]}}}, "content: '' cannot name a modality"),
        ({"objectives": {"rank": "aldi"}, "sharing": "mmoe"}, "sharing: aldi scores an encoder's two vectors"),
        ({"objectives": {"rank": "gar"}, "sharing": "mmoe"}, "sharing: gar scores an encoder's two vectors"),
        (
            {"content": {}, "encoder": {"name": "lightgcn", "dim": 8}, "blend": {"baseline": "content_knn"}},
            "blend.baseline content_knn reads content: give a block `content:`",
        ),
        ({"encoder.init": "ials_content"}, "encoder.init: 'ials_content' has no vectors to start with"),
        ({"content": {}}, "hybrid reads content: give a block `content:`"),
        ({"train.monitor": "ndcg@5:cool"}, "train.monitor: 'ndcg@5:cool' is not among"),
    ],
)
def test_mistakes_in_a_file_are_explained(films: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(films, rows=["hybrid"], overrides=changes)


def test_content_is_no_part_of_a_row_that_does_not_read_it(films: Path) -> None:
    assert "content" not in run_of(films, "popularity").config
    assert "content" in run_of(films, "hybrid").config
