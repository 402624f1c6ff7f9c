"""Experiment files: what they mean, and that no mistake in one goes unnoticed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from recgraph.encoders import Embedding, LightGCN
from recgraph.errors import ConfigError
from recgraph.experiments.experiment import Run, plan
from recgraph.experiments.reading import read
from recgraph.objectives import BPR

GOOD = """
source: https://arxiv.org/abs/2002.02126
datasets: [ml-100k]
seeds: [0, 1]
base:
  split: {name: random_by_user, seed: 7}
  encoder: {name: lightgcn, dim: 32}
  objectives:
    rank: bpr
    l2: {name: ego_l2, weight: 1e-4}
  train: {lr: 1e-3, monitor: ndcg@10}
  evaluate: {metrics: [recall@20, ndcg@10]}
rows:
  LightGCN: {}
  one layer: {encoder.num_layers: 1}
  MF: {encoder: {name: embedding}}
  no L2: {objectives.l2: null}
  popularity: {baseline: popularity}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "table.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path, GOOD)


def configs(path: Path, **selection: object) -> dict[str, dict]:
    return {run.row: run.config for run in plan(path, **selection)}


def test_a_row_is_the_base_with_overrides_and_all_defaults(good: Path) -> None:
    rows = configs(good)
    assert rows["LightGCN"]["encoder"] == {
        "name": "lightgcn", "dim": 32, "num_layers": 3, "first_layer": 0, "layer_weights": "mean", "alpha": 0.5,
        "beta": 0.5, "unit_messages": False, "std": 0.1, "backend": "torch", "init": None,
    }  # fmt: skip
    assert rows["one layer"]["encoder"]["num_layers"] == 1
    assert rows["MF"]["encoder"] == {"name": "embedding", "dim": 64, "std": 0.1, "init": None}
    assert set(rows["no L2"]["objectives"]) == {"rank"}
    assert rows["LightGCN"]["objectives"]["rank"] == {"weight": 1.0, "name": "bpr", "head": "rank"}
    assert rows["LightGCN"]["split"] == {"seed": 7, "name": "random_by_user", "ratios": (0.8, 0.1, 0.1)}
    assert set(rows["popularity"]) == {"baseline", "split", "evaluate", "refit"}


def test_numbers_that_yaml_reads_as_text_are_numbers(good: Path) -> None:
    # PyYAML follows YAML 1.1, where 1e-4 without a dot is a string
    config = configs(good)["LightGCN"]
    assert config["objectives"]["l2"]["weight"] == 1e-4
    assert config["train"]["lr"] == 1e-3


def test_runs_are_rows_by_seeds_and_can_be_selected(good: Path) -> None:
    assert len(plan(good)) == 10
    chosen = plan(good, rows=["MF"], seeds=[5])
    assert [(run.row, run.seed) for run in chosen] == [("MF", 5)]


def test_overrides_reach_every_part(good: Path) -> None:
    config = configs(
        good,
        rows=["LightGCN"],
        overrides={"encoder.dim": "16", "train.max_epochs": 3, "objectives.l2": None, "objectives.rank.weight": 2},
    )["LightGCN"]
    assert config["encoder"]["dim"] == 16
    assert config["train"]["max_epochs"] == 3
    assert config["objectives"] == {"rank": {"weight": 2.0, "name": "bpr", "head": "rank"}}


def test_a_number_is_no_boolean_wherever_it_stands(good: Path) -> None:
    for address in ("train.batch_size", "train.lr", "encoder.num_layers", "objectives.rank.weight"):
        with pytest.raises(ConfigError, match=rf"{address.replace('.', '[.]')}: expected a number, got true"):
            plan(good, rows=["LightGCN"], overrides={address: True})


def test_what_is_null_is_as_good_as_left_out(good: Path) -> None:
    whole = plan(good, rows=["LightGCN"])[0].config
    assert plan(good, rows=["LightGCN"], overrides=dict.fromkeys(("labels", "content", "relations")))[0].config == whole
    good.write_text(good.read_text().replace("LightGCN: {}", "LightGCN:"))
    assert plan(good, rows=["LightGCN"])[0].config == whole


def test_the_hash_is_of_the_complete_configuration(good: Path) -> None:
    by_row = {run.row: run.config_hash for run in plan(good, seeds=[0])}
    assert len(set(by_row.values())) == 5
    explicit = plan(good, rows=["LightGCN"], overrides={"encoder.num_layers": 3})[0]
    assert explicit.config_hash == by_row["LightGCN"]  # naming a default changes nothing
    again = plan(good, rows=["LightGCN"], overrides={"train": {"lr": 1e-3, "monitor": "ndcg@10"}})[0]
    assert again.config_hash == by_row["LightGCN"]  # nor does writing out a block
    assert plan(good, rows=["LightGCN"], seeds=[1])[0].config_hash == by_row["LightGCN"]  # nor does the seed
    changed = plan(good, rows=["LightGCN"], overrides={"train.lr": 2e-3})[0]
    assert changed.config_hash != by_row["LightGCN"]


def test_run_folders_tell_what_is_in_them(good: Path) -> None:
    run = plan(good, rows=["one layer"])[0]
    assert run.folder(Path("runs")) == Path(f"runs/table/one_layer/ml-100k/{run.config_hash}/seed-0")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds:", "seedz:", r"seedz: no such key\. Did you mean 'seeds'\?"),
        ("encoder: {name: lightgcn", "encodr: {name: lightgcn", r"base: encodr: no such key\. Did you mean 'encoder'\?"),
        ("dim: 32", "dims: 32", r"encoder\.dims: .*Did you mean 'dim'\?"),
        ("dim: 32", "dim: wide", r"encoder\.dim: .*integer.*got 'wide'"),
        ("name: lightgcn", "name: lightgnc", r"no encoder 'lightgnc'\. Did you mean 'lightgcn'\?"),
        ("rank: bpr", "rank: brp", r"objectives\.rank: no objective 'brp'\. Did you mean 'bpr'\?"),
        ("rank: bpr", "rank: {name: bpr, head: ranc}", r"objectives\.rank\.head: no head 'ranc'\. Did you mean 'rank'\?"),
        ("weight: 1e-4", "weight: small", r"objectives\.l2\.weight: .*number.*got 'small'"),
        ("lr: 1e-3", "lrr: 1e-3", r"base: train\.lrr: no such key\. Did you mean 'lr'\?"),
        ("lr: 1e-3", "lr: -1", r"base: train\.lr: .*greater than 0.*got -1"),
        ("ndcg@10]", "ndgc@10]", r"no metric 'ndgc'.*Did you mean 'ndcg'\?"),
        ("monitor: ndcg@10", "monitor: ndcg@11", r"train\.monitor: 'ndcg@11' is not among evaluate\.metrics\. Did you mean 'ndcg@10'\?"),
        ("random_by_user", "random_by_users", r"split: no split 'random_by_users'\. Did you mean 'random_by_user'\?"),
        ("seed: 7", "seed: x", r"split\.seed: .*integer.*got 'x'"),
        ("[ml-100k]", "[ml-100]", r"no dataset 'ml-100'\. Did you mean 'ml-100k'\?"),
        ("encoder.num_layers: 1", "encoder.num_layer: 1", r"rows\.one layer: encoder\.num_layer: .*Did you mean 'num_layers'\?"),
        ("encoder.num_layers: 1", "encodr.num_layers: 1", r"rows\.one layer: encodr\.num_layers: no 'encodr' here\. Did you mean 'encoder'\?"),
        ("objectives.l2: null", "objectives.l22: null", r"rows\.no L2: objectives\.l22: no 'l22' here\. Did you mean 'l2'\?"),
        ("objectives.l2: null", "objectives.l22.weight: 0", r"objectives\.l22\.weight: no 'l22' here\. Did you mean 'l2'\?"),
        ("objectives.l2: null", "encoder.dim.x: 0", r"encoder\.dim\.x: 'dim' is 32 and has no parts"),
        ("{baseline: popularity}", "{baseline: popular}", r"baseline: no baseline 'popular'\. Did you mean 'popularity'\?"),
        ("{baseline: popularity}", "{baseline: popularity, encoder.dim: 3}", r"rows\.popularity: encoder\.dim does nothing here"),
        ("{baseline: popularity}", "{encoder: null}", r"rows\.popularity: set either `encoder` or `baseline`"),
        ("weight: 1e-4", "weigth: 1e-4", r"objectives\.l2\.weigth: .*Did you mean 'weight'\?"),
        ("weight: 1e-4", "weight: -1", r"objectives\.l2\.weight: .*got -1"),
        ("weight: 1e-4", "weight: .nan", r"objectives\.l2\.weight: .*finite.*got nan"),
        ("seed: 7", "seed: 3.9", r"split\.seed: .*integer.*got 3\.9"),
        ("monitor: ndcg@10}\n  evaluate: {metrics: [", "monitor: gini@10}\n  evaluate: {metrics: [gini@10, ", r"of 'gini@10', more is not better"),
        ("    rank: bpr\n", "    rank: bpr\n    items: bpr\n", r"'items' cannot name a head or objective"),
        ("{encoder.num_layers: 1}", "{encoder.num_layers: 1, encoder: embedding}", r"encoder\.num_layers is lost, for encoder after it"),
        ("seeds: [0, 1]", "seeds: [0, 0]", r"seeds: .*one stands twice"),
        ("one layer:", "no_L2:", r"the rows 'no_L2' and 'no L2' would share the folder 'no_L2'"),
        ("one layer:", "..:", r"the row name '\.\.' cannot be"),
        ("one layer:", "one, layer:", r"the row name 'one, layer' cannot be listed by commas"),
        ("seeds: [0, 1]", "seeds: []", r"seeds: .*at least 1"),
        ("seeds: [0, 1]", "seeds: [0, 1]\nseeds: [2]", r"'seeds' stands twice"),
        ("    rank: bpr\n", "    rank: bpr\n    rank: bpr\n", r"'rank' stands twice"),
        ("seeds: [0, 1]", "seeds: [0, 1", r"not valid YAML"),
        ("    rank: bpr\n", "    rank: bpr\n    rank: bpr\n", r"'rank' stands twice +in .* line 10, column 5"),
        ("dim: 32", "dim: true", r"encoder\.dim: expected a number, got true"),
        ("seeds: [0, 1]", "seeds: [0, 1]\nmarks: {ml-100k: {ndcg@10: [true]}}", r"marks\.ml-100k\.ndcg@10\.0: expected a number, got true"),
        ("seeds: [0, 1]", "seeds: [0, true]", r"seeds\.1: expected a number, got true"),
        ("seeds: [0, 1]", "seeds: [0, 1]\nmarks: {ml-100k: {ndgc@10: [0.1]}}", "no metric 'ndgc'. Did you mean 'ndcg'"),
        ("{encoder.num_layers: 1}", "{sequences.targets: last}", r"rows\.one layer: sequences does nothing here, for nothing reads it"),
        ("{encoder.num_layers: 1}", "{objectives.rank: direct_au, negatives: warm}", r"rows\.one layer: negatives does nothing here"),
        ("{encoder.num_layers: 1}", "{labels: {sex: {of: user, feature: gender}}}", r"rows\.one layer: labels\.sex does nothing here"),
        ("{encoder.num_layers: 1}", "{content.text: {columns: [title]}}", r"rows\.one layer: content\.text does nothing here"),
        ("seeds: [0, 1]", "seeds: [0, 1]\nsearch: {one layer: {sequences.targets: [last]}}", r"search\.one layer: sequences does nothing"),
        ("base:\n", "base:\n  relations: {}\n  labels: {sex: {of: user, feature: gender}}\n", r"base: labels\.sex does nothing here"),
    ],
)  # fmt: skip
def test_a_mistake_anywhere_is_found_before_anything_runs(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=message):
        plan(write(tmp_path, GOOD.replace(old, new, 1)))


def test_a_table_has_rows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rows: .*at least 1"):
        plan(write(tmp_path, yaml.safe_dump(yaml.safe_load(GOOD) | {"rows": {}})))


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"rows": ["LightGNC"]}, r"no row 'LightGNC'\. Did you mean 'LightGCN'\?"),
        ({"datasets": ["ml-100"]}, r"no dataset 'ml-100'\. Did you mean 'ml-100k'\?"),
        ({"rows": ["MF"], "overrides": {"encoder.dims": 3}}, r"encoder\.dims: .*Did you mean 'dim'\?"),
        (
            {"rows": ["popularity"], "overrides": {"encoder.dim": 3}},
            r"rows\.popularity: encoder\.dim does nothing here",
        ),
        (
            {"rows": ["MF"], "overrides": {"objectives.rank": "direct_au", "negatives.num": 4}},
            r"table\.yaml: negatives does nothing here",
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_found_too(good: Path, selection: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(good, **selection)


def test_what_only_some_rows_read_may_stand_in_base_or_on_the_command_line(tmp_path: Path) -> None:
    some = GOOD.replace("base:\n", "base:\n  negatives: warm\n  sequences: {targets: last}\n")
    histories = "{encoder: {name: sasrec, dim: 8}, objectives.l2: null, objectives.rank: cross_entropy}"
    assert "one layer: {encoder.num_layers: 1}" in GOOD
    path = write(tmp_path, some.replace("one layer: {encoder.num_layers: 1}", f"one layer: {histories}"))
    assert configs(path)["one layer"]["sequences"] == {"targets": "last"}
    changed = configs(path, overrides={"sequences.targets": "every", "negatives.num": 3})
    assert changed["one layer"]["sequences"] == {"targets": "every"}
    assert changed["LightGCN"]["negatives"]["num"] == 3


def test_what_a_change_on_the_command_line_reads_may_stand_in_base(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("base:\n", "base:\n  sequences: {targets: last}\n"))
    sasrec = {"encoder": {"name": "sasrec", "dim": 8}, "objectives": {"rank": "bpr"}}
    (run,) = plan(path, rows=["LightGCN"], seeds=[0], overrides=sasrec)
    assert run.config["sequences"] == {"targets": "last"}
    with pytest.raises(ConfigError, match="base: sequences does nothing here"):
        plan(path)


def test_a_row_may_be_another_with_a_change(tmp_path: Path) -> None:
    rows = "one layer: &row {encoder.num_layers: 1, train.lr: 0.5}\n  slow: {<<: *row, train.lr: 0.25}"
    assert "one layer: {encoder.num_layers: 1}" in GOOD
    path = write(tmp_path, GOOD.replace("one layer: {encoder.num_layers: 1}", rows))
    (run,) = plan(path, rows=["slow"], seeds=[0])
    assert run.config["encoder"]["num_layers"] == 1
    assert run.config["train"]["lr"] == 0.25
    with pytest.raises(ConfigError, match=r"'train\.lr' stands twice"):
        plan(write(tmp_path, path.read_text().replace("train.lr: 0.25", "train.lr: 0.25, train.lr: 2")))


def test_what_is_merged_may_itself_be_merged_and_changed(tmp_path: Path) -> None:
    rows = "one layer: {objectives.l2: &r {<<: &q {name: ego_l2, weight: 1}, weight: 2}}\n  more: {objectives.l2: {<<: *r, weight: 3}}"
    path = write(tmp_path, GOOD.replace("one layer: {encoder.num_layers: 1}", rows))
    assert [configs(path)[row]["objectives"]["l2"]["weight"] for row in ("one layer", "more")] == [2, 3]


def test_overrides_of_training_leave_baselines_in_the_table_as_they_are(good: Path) -> None:
    before, after = configs(good), configs(good, overrides={"train.max_epochs": 3})
    assert after["LightGCN"]["train"]["max_epochs"] == 3
    assert after["popularity"] == before["popularity"]


def test_a_split_that_the_card_gives_can_be_changed_in_part(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("  split: {name: random_by_user, seed: 7}\n", ""))
    split = configs(path, overrides={"split.seed": 3})["LightGCN"]["split"]
    assert (split["name"], split["seed"]) == ("random_by_user", 3)


def test_a_part_that_reads_what_nobody_builds_is_refused(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LightGCN, "reads", frozenset({"weather"}))
    with pytest.raises(ConfigError, match=r"encoder lightgcn reads \['weather'\], which nobody builds"):
        plan(good)


def test_a_file_that_is_not_text_or_holds_nothing_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("source: Amélie".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        plan(path)
    path.write_text("")
    with pytest.raises(ConfigError, match="expected keys such as datasets"):
        plan(path)


def test_a_missing_file_suggests_the_nearest(good: Path) -> None:
    with pytest.raises(ConfigError, match=r"no experiment file .*tabel\.yaml\. Did you mean '.*table\.yaml'\?"):
        plan(good.with_name("tabel.yaml"))
    with pytest.raises(ConfigError, match="is a folder"):
        plan(good.parent)


def test_a_run_is_a_value() -> None:
    run = Run("t", "r", "d", 0, {"a": 1})
    assert run.config_hash == Run("other", "r", "d", 1, {"a": 1}).config_hash


def test_a_warm_start_is_a_baseline_with_vectors_as_wide_as_the_encoder(good: Path) -> None:
    (run,) = plan(good, rows=["LightGCN"], seeds=[0], overrides={"encoder.init": {"name": "ials", "epochs": 3}})
    assert run.config["encoder"]["init"]["dim"] == run.config["encoder"]["dim"]
    assert run.config["encoder"]["init"]["epochs"] == 3
    for init, message in (
        ("popularity", "encoder.init: 'popularity' has no vectors to start with; these have: ials"),
        ({"name": "ials", "epoch": 3}, "encoder.init.epoch: baseline 'ials' takes no 'epoch'. Did you mean 'epochs'"),
    ):
        with pytest.raises(ConfigError, match=message):
            plan(good, rows=["LightGCN"], overrides={"encoder.init": init})


class Wide(Embedding):
    """An encoder of a fixed width."""

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items, dim=80)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"name": "sasrec", "dim": 8}, "encoder.init: SASRec has no user and item tables to start warm"),
        ({"name": "embedding", "dim": 8}, "encoder.init: vectors of width 16 do not fit tables of width 8"),
        ({"name": "test_experiment:Wide"}, ""),
    ],
)
def test_a_warm_start_that_does_not_fit_is_refused_before_anything_runs(
    good: Path, encoder: dict[str, Any], message: str
) -> None:
    overrides = {"encoder": encoder | {"init": {"name": "ials", "dim": 16}}, "objectives.l2": None}
    if message:
        with pytest.raises(ConfigError, match=message):
            plan(good, rows=["LightGCN"], overrides=overrides)
    else:
        assert plan(good, rows=["LightGCN"], overrides=overrides)
        assert plan(good, rows=["LightGCN"], overrides={"encoder": encoder | {"init": "ials"}})  # of its own width


class Careless(BPR):
    """An objective whose needs are one string."""

    needs = "negatives"  # type: ignore[assignment]


def test_what_parts_read_and_need_are_sets(good: Path) -> None:
    with pytest.raises(ConfigError, match=r"objectives\.rank needs 'negatives': expected a set"):
        plan(good, rows=["LightGCN"], overrides={"objectives.rank": "test_experiment:Careless"})


def test_an_ablation_makes_rows_of_its_base(good: Path) -> None:
    text = good.read_text()
    rows = text.index("rows:")
    good.write_text(
        text[:rows]
        + "rows: {LightGCN: {}}\n"
        + "ablate:\n  one_at_a_time: {encoder.num_layers: [1, 2], objectives.l2: [null]}\n"
        + "  grid: {encoder.dim: [8, 16], negatives: [{name: uniform, num: 4}, popularity]}\n"
    )
    runs = {run.row: run.config for run in plan(good, seeds=[0])}
    assert list(runs) == [
        "LightGCN", "encoder.num_layers=1", "encoder.num_layers=2", "objectives.l2=null",
        "encoder.dim=8 negatives=uniform num=4", "encoder.dim=8 negatives=popularity",
        "encoder.dim=16 negatives=uniform num=4", "encoder.dim=16 negatives=popularity",
    ]  # fmt: skip
    assert runs["encoder.num_layers=2"]["encoder"]["num_layers"] == 2
    assert "l2" not in runs["objectives.l2=null"]["objectives"]
    assert runs["encoder.dim=8 negatives=uniform num=4"]["negatives"]["num"] == 4
    assert read(good).against == "LightGCN"
    with pytest.raises(ConfigError, match=r"overrides: the row 'encoder\.num_layers=1' is the same as 'LightGCN'"):
        plan(good, overrides={"encoder.num_layers": 4})
    layers = runs["LightGCN"]["encoder"]["num_layers"]
    good.write_text(good.read_text().replace("num_layers: [1, 2]", f"num_layers: [1, {layers}]"))
    with pytest.raises(ConfigError, match=f"ablate: the row 'encoder.num_layers={layers}' is the same as 'LightGCN'"):
        plan(good)
    good.write_text(good.read_text().replace(f"num_layers: [1, {layers}]", "num_layers: [1, 1]"))
    with pytest.raises(ConfigError, match="ablate: two rows have the same values"):
        plan(good)
    good.write_text(good.read_text().replace("num_layers: [1, 1]", "num_layers: [1]") + "against: LightGNC\n")
    with pytest.raises(ConfigError, match="against: with `ablate`, rows are compared with 'LightGCN'"):
        plan(good)
    good.write_text(good.read_text().replace("{LightGCN: {}}", "{LightGCN: {}, other: {}}"))
    with pytest.raises(ConfigError, match="with `ablate` there is one row"):
        plan(good)


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("against: LightGNC", "against: no row 'LightGNC'. Did you mean 'LightGCN'"),
        (
            "published: {ml-100k: {LightGNC: {source: x, metrics: {ndcg@10: 0.1}}}}",
            "published.ml-100k: no row 'LightGNC'",
        ),
        ("published: {ml-100k: {LightGCN: {source: x, metrics: {ndgc@10: 0.1}}}}", "no metric 'ndgc'"),
        (
            "published: {ml-100k: {LightGCN: {metrics: {ndcg@10: 0.1}}}}",
            "published.ml-100k.LightGCN.source: Field required",
        ),
        (
            "published: {ml-100k: {LightGCN: {source: x, metrics: {ndcg@10: 0}}}}",
            "published.ml-100k.LightGCN.metrics.ndcg@10: Input should be greater than 0, got 0",
        ),
        (
            "published: {ml-100k: {LightGCN: {source: x, metrics: {ndcg@10: 28.1}}}}",
            "published.ml-100k.LightGCN.metrics: ndcg@10 is 28.1; expected at most 1: 28.1% is 0.281",
        ),
        (
            "marks: {ml-100k: {gini@10: [0.1]}}",
            "marks: of gini@10 more is not better, so that training does not rise to a mark",
        ),
        ("marks: {ml-100k: {ndcg@20: [0.1]}}", "marks.ml-100k: no row measures 'ndcg@20'. Did you mean 'ndcg@10'?"),
        (
            "marks: {ml-100k: {ndcg@10: [0.1, 28.1]}}",
            "marks: ndcg@10 is 28.1; expected at most 1: 28.1% is 0.281",
        ),
        (
            "published: {ml-100: {LightGCN: {source: x, metrics: {ndcg@10: 0.1}}}}",
            "published: 'ml-100' is not among `datasets`: ml-100k",
        ),
        ("marks: {ml-1m: {ndcg@10: [0.1]}}", "marks: 'ml-1m' is not among `datasets`: ml-100k"),
        (
            "published: {ml-100k: {LightGCN: {source: x, metrics: {ndcg@20: 0.1}}}}",
            "published.ml-100k.LightGCN.metrics: the row does not measure 'ndcg@20'. Did you mean 'ndcg@10'",
        ),
        (
            "published: {ml-100k: {popularity: {source: x, metrics: {ndcg@10:sampled-99: 0.1}}}}",
            "popularity.metrics: the row does not measure 'ndcg@10:sampled-99'. Did you mean 'ndcg@10'",
        ),
        ("search: {LightGNC: {train.lr: [0.1]}}", "search: no row 'LightGNC'"),
        ("search: {LightGCN: {train.rl: [0.1]}}", "train.rl: no such key. Did you mean 'lr'"),
        ("search: {LightGCN: {train.lr: {log: [0.1, 0.01]}}}", "a lower and a higher bound"),
        ("search: {LightGCN: {train.lr: {lgo: [0.01, 0.1]}}}", "expected values, or one of uniform, log, int with two"),
        (
            "published: {ml-100k: {LightGCN: {sorce: x, metrics: {ndcg@10: 0.1}}}}",
            "sorce: no such key. Did you mean 'source'",
        ),
        ("ablate: {one_at_atime: {encoder.dim: [1]}}", "one_at_atime: no such key. Did you mean 'one_at_a_time'"),
    ],
)
def test_what_surrounds_the_rows_is_checked_before_anything_runs(good: Path, addition: str, message: str) -> None:
    good.write_text(good.read_text().rstrip() + "\n" + addition + "\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        plan(good)


def test_a_view_must_change_what_the_encoder_reads(good: Path) -> None:
    contrast = {"name": "view_contrast", "view": {"name": "edge_drop", "rate": 0.1}}
    plan(good, rows=["LightGCN"], overrides={"objectives.ssl": contrast})
    with pytest.raises(
        ConfigError, match=r"objectives.ssl.view: edge_drop changes \['graph'\], which embedding does not"
    ):
        plan(good, rows=["MF"], overrides={"objectives.ssl": contrast})
    plan(good, rows=["MF"], overrides={"objectives.ssl": {"name": "view_contrast", "view": "noise"}})


@pytest.mark.parametrize(("inner", "view"), [("lightgcn", "edge_drop"), ("embedding", "noise")])
def test_a_hybrid_has_the_edges_of_its_graph_encoder_and_hidden_layers_of_its_own(
    good: Path, inner: str, view: str
) -> None:
    changes = {
        "encoder": {"name": "hybrid", "graph": {"name": inner, "dim": 8}, "dropout": 0.5},
        "content": {"genres": {"columns": ["genres"]}},
        "objectives.ssl": {"name": "view_contrast", "view": view},
    }
    assert plan(good, rows=["LightGCN"], overrides=changes)


def test_a_view_must_leave_a_graph_that_its_reader_can_read_be_it_within_another(good: Path) -> None:
    def changes(reader: str, view: str) -> dict[str, Any]:
        nested = {"name": "sasrec", "dim": 8, "items": {"name": reader, "dim": 8}}
        return {"encoder": nested, "objectives.ssl": {"name": "view_contrast", "view": view, "anchors": "shared"}}

    plan(good, rows=["LightGCN"], overrides=changes("lightgcn", "svd"))
    plan(good, rows=["LightGCN"], overrides=changes("gat", "edge_drop"))
    with pytest.raises(ConfigError, match=r"svd leaves a LowRankGraph, which sasrec cannot read"):
        plan(good, rows=["LightGCN"], overrides=changes("gat", "svd"))
    with pytest.raises(ConfigError, match=r"edge_drop changes \['graph'\], which sasrec does not read"):
        plan(good, rows=["LightGCN"], overrides=changes("embedding", "edge_drop"))
