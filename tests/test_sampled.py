"""Sampled metrics from the card to the table: under their own name, or not at all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from rich.console import Console

from recgraph.data.datasets import load
from recgraph.errors import ConfigError, DataError
from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Settings, execute, reevaluate
from recgraph.experiments.task import Task
from recgraph.reporting.rendering import markdown
from recgraph.reporting.tables import Finished, grids

CPU = torch.device("cpu")
NUM_USERS, NUM_ITEMS, NEGATIVES = 30, 40, 9
TABLE = """
datasets: [oneout]
seeds: [0]
base:
  encoder: {name: embedding, dim: 8}
  objectives: {rank: bpr}
  train: {lr: 0.02, batch_size: 128, max_epochs: 4, patience: 4, validate_every: 2, monitor: ndcg@10}
  evaluate: {metrics: [hit@3, ndcg@10], sampled: true}
rows:
  popularity: {baseline: popularity}
  BPR-MF: {}
against: BPR-MF
"""


def card(**changes: Any) -> dict[str, Any]:
    read = {"format": "csv", "header": False, "columns": {"user": "int", "item": "int", "time": "int"}}
    form = {
        "files": {"train.csv": {}, "test.csv": {}, "test.negative": {}},
        "interactions": [{"file": f"{part}.csv", "part": part, "read": read} for part in ("train", "test")],
        "candidates": {"file": "test.negative", "read": {"format": "negatives"}},
        **changes,
    }
    return {
        "name": "oneout",
        "title": "One left out",
        "licence": "none",
        "forms": {"only": form},
        "splits": {"official": {"carve": "latest"}, "random_by_user": {}},
        "expected": {
            "users": NUM_USERS,
            "items": NUM_ITEMS,
            "interactions": NUM_USERS * 11,
            "train": NUM_USERS * 10,
            "test": NUM_USERS,
        },
    }


@pytest.fixture
def oneout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment file on a dataset as NCF's: user u has 10 + 1 items; one negative of user 0 is the test item."""
    monkeypatch.delenv("RECGRAPH_MIRROR", raising=False)
    monkeypatch.setenv("RECGRAPH_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "data" / "raw" / "oneout"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines: dict[str, list[str]] = {"train.csv": [], "test.csv": [], "test.negative": []}
    for user in range(NUM_USERS):
        first = [user, (user + 10) % NUM_ITEMS]  # so that every item is in train
        own = [*first, *rng.permutation([item for item in range(NUM_ITEMS) if item not in first]).tolist()]
        lines["train.csv"] += [
            f"{user},{item},{time}" for item, time in zip(own[:10], rng.permutation(10), strict=True)
        ]
        lines["test.csv"].append(f"{user},{own[10]},99")
        negatives = [own[10] if user == 0 else own[11], *own[12 : 11 + NEGATIVES]]
        lines["test.negative"].append("\t".join(map(str, [f"({user},{own[10]})", *negatives])))
    for name, rows in lines.items():
        (raw / name).write_text("\n".join(rows) + "\n")
    (tmp_path / "data" / "oneout.yaml").write_text(yaml.safe_dump(card(), sort_keys=False))
    (tmp_path / "oneout.yaml").write_text(TABLE)
    return tmp_path / "oneout.yaml"


def rewrite(name: str, old: str, new: str) -> None:
    path = Path("data/raw/oneout") / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def drop(name: str, line: int) -> None:
    path = Path("data/raw/oneout") / name
    path.write_text("".join(text for row, text in enumerate(path.read_text().splitlines(True)) if row != line))


def test_the_official_split_has_the_candidates_of_the_file_and_the_test_items(oneout: Path) -> None:
    for _ in range(2):  # the second time from the cache
        dataset = load("oneout")
        split = dataset.split(seed=0)
        found = {user: set(split.candidates[[user]].indices.tolist()) for user in range(NUM_USERS)}
        for line in Path("data/raw/oneout/test.negative").read_text().splitlines():
            head, *negatives = line.split("\t")
            user, item = map(int, head.strip("()").split(","))  # ids are indices here
            assert found[user] == {item, *map(int, negatives)}
            assert len(found[user]) == NEGATIVES + (user > 0)
    assert dataset.split("random_by_user", seed=0).candidates is None
    assert dataset.split({"name": "official", "carve": "random"}, seed=0).candidates is not None


def test_a_file_of_negatives_alone_gets_the_test_items(oneout: Path) -> None:
    expected = load("oneout").split(seed=0)
    path = Path("data/raw/oneout/test.negative")
    path.write_text(re.sub(r"^\((\d+),\d+\)", r"\1", path.read_text(), flags=re.MULTILINE))
    changed = card(candidates={"file": "test.negative", "read": {"format": "adjacency"}})
    Path("data/oneout.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    assert load("oneout").split(seed=0).fingerprint == expected.fingerprint


def test_candidates_are_part_of_the_fingerprint(oneout: Path) -> None:
    one = load("oneout").split(seed=0)
    line = Path("data/raw/oneout/test.negative").read_text().splitlines()[3]
    used = set(one.candidates[[3]].indices.tolist()) | set(one.train.csr()[[3]].indices.tolist())
    used |= set(one.validation.csr()[[3]].indices.tolist())
    other = next(item for item in range(NUM_ITEMS) if item not in used)
    rewrite("test.negative", line, "\t".join([*line.split("\t")[:-1], str(other)]))
    two = load("oneout").split(seed=0)
    assert two.test.fingerprint == one.test.fingerprint
    assert two.fingerprint != one.fingerprint
    assert load("oneout").split(seed=0).fingerprint == two.fingerprint


def test_validation_is_the_latest_row_of_each_user(oneout: Path) -> None:
    split = load("oneout").split(seed=0)
    latest = pl.concat([split.train.frame, split.validation.frame]).group_by("user").agg(pl.col("time").max())
    assert latest["time"].to_list() == [9] * NUM_USERS
    assert split.validation.frame["time"].to_list() == [9] * NUM_USERS


def test_a_run_reports_sampled_figures_under_their_own_names_only(oneout: Path) -> None:
    finished = []
    for run in plan(oneout):
        result = execute(run, Path("runs"), settings=Settings(CPU), console=Console())
        assert list(result["test"]) == ["hit@3:sampled-9", "ndcg@10:sampled-9"]
        assert list(result["validation"]) == ["hit@3", "ndcg@10"]
        folder = run.folder(Path("runs"))
        assert pl.read_parquet(folder / "per_user.parquet").columns == ["user", *result["test"]]
        assert json.loads((folder / "result.json").read_text()) == result
        assert {name for group in result["groups"].values() for name in group} == set(result["test"])
        again = {name: test for name, _, test in reevaluate(folder, [], CPU)}
        assert list(again) == ["hit@3", "ndcg@10"]  # of the whole catalogue, where hits are fewer
        assert again["hit@3"] < result["test"]["hit@3:sampled-9"]
        finished.append(Finished(result, folder))
    text = markdown(grids(finished, against="BPR-MF"))
    assert "hit@3:sampled-9" in text
    assert "Only stored candidates ranked, a user's test items among 9 sampled negatives" in text
    assert "Whole catalogue ranked" not in text
    assert "hit: 1 if any of the top K is relevant" in text


def test_sampled_and_full_figures_share_no_table(oneout: Path) -> None:
    runs = [
        *plan(oneout, rows=["popularity"]),
        *plan(oneout, rows=["popularity"], overrides={"evaluate.sampled": False}),
    ]
    results = [execute(run, Path("runs"), settings=Settings(CPU), console=Console()) for run in runs]
    sampled, full = grids([Finished(result, Path()) for result in results if result.pop("groups")])
    assert "Only stored candidates ranked" in " ".join(sampled.notes)
    assert "Whole catalogue ranked" in " ".join(full.notes)


def test_popularity_is_ranked_as_a_loop_ranks_it(oneout: Path) -> None:
    (run,) = plan(oneout, rows=["popularity"])
    result = execute(run, Path("runs"), settings=Settings(CPU), console=Console())
    split = load("oneout").split(seed=0)
    counts = np.bincount(split.train.item_indices, minlength=NUM_ITEMS)
    hits = 0
    for user, wanted in zip(split.test.user_indices, split.test.item_indices, strict=True):
        others = [item for item in split.candidates[[user]].indices if item != wanted]
        hits += sum((-counts[item], item) < (-counts[wanted], wanted) for item in others) < 3
    assert result["test"]["hit@3:sampled-9"] == pytest.approx(hits / NUM_USERS)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"split": "random_by_user"}, "evaluate.sampled: dataset 'oneout' has no stored candidates for its split 'random_by_user'; "
         "those with candidates for their official split: ncf-ml-1m, oneout"),
        ({"evaluate.parity": True}, "parity picks the epoch by full rankings"),
        ({"evaluate.metrics": ["hit@10:sampled-99"]}, "give plain names and set `sampled: true`"),
    ],
)  # fmt: skip
def test_what_cannot_be_sampled_is_refused_before_anything_runs(oneout: Path, overrides: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(oneout, overrides=overrides)
    assert message in str(error.value)


def test_a_dataset_without_candidates_is_named(oneout: Path) -> None:
    with pytest.raises(ConfigError, match=r"rows\.popularity: evaluate\.sampled: dataset 'ml-100k' has no stored"):
        plan(oneout, datasets=["ml-100k"], rows=["popularity"])


def test_a_task_draws_no_candidates_and_shows_none_when_sealed(oneout: Path) -> None:
    (run,) = plan(oneout, rows=["popularity"])
    execute(run, Path("runs"), settings=Settings(CPU), console=Console())
    sealed = Task.load("oneout", run.config["split"], CPU, sealed=True)
    assert sealed._candidates is None  # they hold the test items
    bare = Task.load("oneout", {"name": "random_by_user", "seed": 0}, CPU)
    with pytest.raises(DataError, match="split random_by_user has no stored candidates, and none are drawn"):
        bare.test(None, ["hit@3"], sampled=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda: rewrite("test.negative", "(5,", "5,"), r"test\.negative, line 6: expected \(user,item\) and then items"),
        (lambda: rewrite("test.negative", "\n", "\t39\n"), "test.negative: users have from 10 to 11 candidates; expected as many"),
        (lambda: rewrite("test.negative", "(5,", "(55,"), "test.negative: user: unknown id 55"),
        (lambda: drop("test.negative", 5), "test.negative: 1 users of the test part have no candidates, such as 5"),
    ],
)  # fmt: skip
def test_bad_candidates_are_refused_with_their_file(oneout: Path, damage: Any, message: str) -> None:
    damage()
    with pytest.raises(DataError, match=message):
        load("oneout")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": {"file": "test.negatives", "read": {"format": "negatives"}}}, "Did you mean 'test.negative'?"),
        ({"candidates": {"file": "test.negative", "read": {"format": "negatives", "columns": {"user": "int", "tag": "int"}}}},
         "expected the columns user and item, got user, tag"),
    ],
)  # fmt: skip
def test_cards_with_impossible_candidates_are_refused(oneout: Path, changes: Any, message: str) -> None:
    Path("data/oneout.yaml").write_text(yaml.safe_dump(card(**changes), sort_keys=False))
    with pytest.raises(DataError) as error:
        load("oneout")
    assert message in str(error.value)


def test_forms_agree_on_candidates_and_have_a_test_part(oneout: Path) -> None:
    tree = card()
    tree["forms"]["other"] = {key: value for key, value in tree["forms"]["only"].items() if key != "candidates"}
    Path("data/oneout.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.raises(DataError, match="give `candidates` for all or for none"):
        load("oneout")
    tree = card()
    for table in tree["forms"]["only"]["interactions"]:
        table["part"] = None
    Path("data/oneout.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.raises(DataError, match="they belong to the test part of an official split"):
        load("oneout")
