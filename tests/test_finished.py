"""A run takes over what a finished one has trained, where training it would give the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cases import count_epochs
from rich.console import Console

from recgraph.errors import ConfigError
from recgraph.experiments.experiment import Run, plan
from recgraph.experiments.finished import begins
from recgraph.experiments.running import Settings, execute, reevaluate
from recgraph.experiments.scheduling import preview

CPU = torch.device("cpu")
SETTINGS = Settings(CPU)


def do(run: Run, root: str = "runs") -> Mapping[str, Any]:
    return execute(run, Path(root), settings=SETTINGS, console=Console(quiet=True))


def planned(toy: Path, row: str = "LightGCN", **changes: Any) -> Run:
    (run,) = plan(toy, rows=[row], seeds=[0], overrides={name.replace("__", "."): new for name, new in changes.items()})
    return run


def written(run: Run, root: str) -> tuple[Any, ...]:
    """What a run has trained, to the bit, and its curve."""
    folder = run.folder(Path(root))
    curve = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = [{key: value for key, value in record.items() if key not in ("seconds", "elapsed")} for record in curve]
    return curve, (folder / "model.safetensors").read_bytes(), (folder / "per_user.parquet").read_bytes()


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("epochs", "best_epoch", "stopped", "validation", "test", "groups"))


@pytest.mark.parametrize(
    ("changes", "refits"),
    [
        ({"evaluate__metrics": ["recall@10", "ndcg@10", "map@5"]}, False),
        ({"evaluate__metrics": ["recall@10", "ndcg@10", "map@5"], "refit": True}, True),
        ({"refit": True}, True),
        ({"blend": {"baseline": "ease"}}, False),
        ({"train__checkpoint_every": 5}, False),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_comes_after_training_trains_nothing_again(
    toy: Path, changes: dict[str, Any], refits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = do(planned(toy))
    trained = count_epochs(monkeypatch)
    run = planned(toy, **changes)
    result = do(run)
    assert len(trained) == (first["best_epoch"] if refits else 0)
    assert result["train_seconds"] >= first["train_seconds"]  # those that it took to train it
    assert (result["code"], result["epochs_to_99"]) == (first["code"], first["epochs_to_99"])
    alone = do(run, "elsewhere")
    assert same(result, alone)
    assert len(trained) > first["best_epoch"]


def test_a_new_metric_is_that_of_the_first_model(toy: Path) -> None:
    first = planned(toy)
    do(first)
    ((_, validation, test),) = reevaluate(first.folder(Path("runs")), ["map@5"], CPU)
    result = do(planned(toy, evaluate__metrics=["map@5", "ndcg@10"]))
    assert (result["validation"]["map@5"], result["test"]["map@5"]) == (validation, test)


def test_a_row_by_another_name_and_in_another_table_is_not_trained_again(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = do(planned(toy))
    tree = yaml.safe_load(toy.read_text())
    other = toy.with_name("other.yaml")
    other.write_text(yaml.safe_dump(tree | {"rows": {"ours": {}}}, sort_keys=False))
    trained = count_epochs(monkeypatch)
    assert same(do(planned(other, "ours")), first)
    assert not trained


@pytest.mark.parametrize("refit", [False, True])
def test_a_longer_run_goes_on_where_a_shorter_one_ended(
    toy: Path, refit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for epochs in (2, 4):  # the longest is taken over
        short = do(planned(toy, train__max_epochs=epochs, train__patience=epochs, refit=refit))
    assert short["stopped"] == "max_epochs"
    long = planned(toy, refit=refit)
    (elsewhere,) = preview([long], Path("runs"), settings=Settings(torch.device("cuda")))
    (cell,) = preview([long], Path("runs"), settings=SETTINGS)
    assert (elsewhere.state, cell.state) == ("to do", "begun")
    trained = count_epochs(monkeypatch)
    result = do(long)
    spared = short["epochs"] + refit * short["best_epoch"]
    assert len(trained) == result["epochs"] + refit * result["best_epoch"] - spared
    assert same(result, do(long, "elsewhere"))
    assert written(long, "runs") == written(long, "elsewhere")


def test_more_patience_goes_on_where_less_gave_up(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"train__lr": 0.3, "train__max_epochs": 40}  # so high that validation falls soon
    less = do(planned(toy, train__patience=4, **options))
    assert less["stopped"] == "patience"
    more = planned(toy, train__patience=10, **options)
    trained = count_epochs(monkeypatch)
    result = do(more)
    assert trained[0] == less["epochs"] + 1
    assert result["epochs"] > less["epochs"]
    assert same(result, do(more, "elsewhere"))


def test_a_preview_says_what_is_only_to_be_evaluated(toy: Path) -> None:
    run = planned(toy)
    do(run)
    cells = preview(
        [planned(toy, evaluate__metrics=["ndcg@10"]), planned(toy, train__lr=0.1)],
        Path("runs"),
        settings=Settings(CPU, any_code=True),
    )
    assert [cell.state for cell in cells] == ["trained", "to do"]
    assert cells[0].seconds == 0


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rate": ({}, {"train__lr": 0.02}),
    "encoder": ({}, {"encoder__num_layers": 3}),
    "objective": ({}, {"objectives__l2__weight": 1e-3}),
    "negatives": ({}, {"negatives": {"name": "uniform", "num": 2}}),
    "split": ({}, {"split__seed": 1}),
    "parity, which ranks for test in training": ({}, {"evaluate__parity": True}),
    "no parity": ({"evaluate__parity": True}, {}),
    "shorter": ({}, {"train__max_epochs": 6, "train__patience": 6}),
    "less patience": ({}, {"train__patience": 4}),
    "a falling rate": ({"train__schedule": "linear"}, {"train__schedule": "linear", "train__max_epochs": 20}),
    "its last epoch is not validated": (
        {"train__max_epochs": 5, "train__patience": 5},
        {"train__max_epochs": 12, "train__patience": 12},
    ),
    "validated at other epochs": ({}, {"train__validate_every": 3}),
    "a baseline": ({"row": "popularity"}, {}),
}


@pytest.mark.parametrize(("one", "other"), CHANGES.values(), ids=CHANGES)
def test_what_would_be_trained_otherwise_is_trained(toy: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = planned(toy, **one).config, planned(toy, **other).config
    result = {"epochs": first["train"]["max_epochs"] if "train" in first else 0}
    assert begins(second, second, {"epochs": second["train"]["max_epochs"]}) == ("evaluate__parity" not in other)
    assert not begins(first, second, result)


ALIKE: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "more patience than epochs": ({"train__patience": 100}, {}, 12),
    "ended before its last epoch": (
        {"train__max_epochs": 41, "train__patience": 4},
        {"train__max_epochs": 50, "train__patience": 4},
        6,
    ),
    "ended before a lower bound": ({"train__max_epochs": 40, "train__patience": 4}, {"train__patience": 4}, 6),
    "a falling rate": ({"train__schedule": "linear"}, {"train__schedule": "linear", "refit": True}, 12),
}


@pytest.mark.parametrize(("one", "other", "epochs"), ALIKE.values(), ids=ALIKE)
def test_what_would_be_trained_alike(toy: Path, one: dict[str, Any], other: dict[str, Any], epochs: int) -> None:
    assert begins(planned(toy, **one).config, planned(toy, **other).config, {"epochs": epochs})


def test_parameters_in_another_order_are_other_parameters(toy: Path) -> None:
    """The optimiser's state in a checkpoint is by position."""
    objectives = {"rank": "bpr", "more": {"name": "bpr", "head": "other"}}
    one = planned(toy, heads={"rank": "mlp", "other": "mlp"}, objectives=objectives)
    other = planned(toy, heads={"other": "mlp", "rank": "mlp"}, objectives=objectives)
    assert one.config == other.config
    assert not begins(one.config, other.config, {"epochs": 12})


@pytest.mark.parametrize(("what", "other"), [("code", "0" * 10), ("data_fingerprint", "0" * 64), ("device", "cuda:0")])
def test_a_run_of_other_code_data_or_devices_is_not_taken_over(
    toy: Path, what: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = planned(toy)
    result = dict(do(first)) | {what: other}
    (first.folder(Path("runs")) / "result.json").write_text(json.dumps(result))
    trained = count_epochs(monkeypatch)
    do(planned(toy, evaluate__metrics=["ndcg@10"]))
    assert trained


def test_a_finished_run_of_a_renamed_row_has_the_new_name(toy: Path) -> None:
    toy.write_text(toy.read_text().replace("rows:", "rows:\n  no way: {}"))
    before = do(planned(toy, "no way"))
    toy.write_text(toy.read_text().replace("no way:", "no_way:"))
    assert do(planned(toy, "no_way")) == {**before, "row": "no_way"}
    (stored,) = Path("runs").rglob("no_way/**/result.json")
    assert json.loads(stored.read_text())["row"] == "no_way"


DAMAGED = {
    "config.yaml": ["{", "", "[1]", "a: 1"],
    "result.json": ["{", "{}", "[]"],
    "metrics.jsonl": ["", "{}", "{"],
    "env.json": ["{"],
    "checkpoint/last.pt": ["", "text"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in DAMAGED.items() for text in [*texts, None]])
def test_another_run_that_is_damaged_is_left_alone(
    toy: Path, name: str, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(toy.with_name("runs"))  # configurations that were read are remembered by their paths
    short = {"train__max_epochs": 2, "train__patience": 2}
    first = planned(toy, **short)
    do(first, root)
    path = first.folder(Path(root)) / name
    path.unlink()
    if text is not None:
        path.write_text(text)
    trained = count_epochs(monkeypatch)
    do(planned(toy, evaluate__metrics=["ndcg@10"], **short), root)
    assert trained == [1, 2]


def test_where_a_training_comes_from_is_on_record(toy: Path) -> None:
    first = planned(toy)
    folder = first.folder(Path("runs"))
    result = dict(do(first)) | {"peak_memory_mib": 10**6}
    (folder / "result.json").write_text(json.dumps(result))
    run = planned(toy, evaluate__metrics=["ndcg@10"])
    assert do(run)["peak_memory_mib"] == 10**6
    machine = json.loads((run.folder(Path("runs")) / "env.json").read_text())
    assert machine["taken_over"]["folder"] == str(folder)
    assert "taken_over" not in json.loads((folder / "env.json").read_text())


def test_of_two_runs_the_one_with_a_second_fit_is_taken_over(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do(planned(toy, refit=True))
    do(planned(toy))
    trained = count_epochs(monkeypatch)
    run = planned(toy, refit=True, evaluate__metrics=["ndcg@10"])
    (cell,) = preview([run], Path("runs"), settings=SETTINGS)
    assert cell.state == "trained"
    do(run)
    assert not trained
    (cell,) = preview([planned(toy, evaluate__metrics=["map@5", "ndcg@10"])], Path("runs"), settings=SETTINGS)
    assert cell.state == "trained"


def test_a_preview_loads_no_data_for_what_is_to_do(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do(planned(toy))
    monkeypatch.setattr("recgraph.experiments.task.Task.load", lambda *_, **__: pytest.fail("loaded"))
    (cell,) = preview([planned(toy, train__lr=0.5)], Path("runs"), settings=SETTINGS)
    assert cell.state == "to do"


def test_taking_over_that_is_cut_off_is_done_again(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do(planned(toy, refit=True))
    run = planned(toy, refit=True, evaluate__metrics=["ndcg@10"])
    copies: list[Path] = []

    def dies(source: Path, target: Path) -> None:
        copies.append(Path(source))
        if source.name == "last.pt":
            raise KeyboardInterrupt  # before anything is written
        Path(target).write_bytes(b"half" if source.name == "refit.pt" else source.read_bytes())

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.copyfile", dies)
        do(run)
    assert [path.name for path in copies][-1] == "last.pt"
    trained = count_epochs(monkeypatch)
    assert math.isfinite(do(run)["test"]["ndcg@10"])
    assert not trained


@pytest.mark.parametrize("metric", ["ndcg@10:cold", "recall@10:warm", "cold_share@10"])
def test_a_refitted_model_is_not_measured_on_items_that_it_has_seen_as_cold(toy: Path, metric: str) -> None:
    run = planned(toy, refit=True)
    do(run)
    with pytest.raises(ConfigError, match=f"was fitted again on validation, whose items {metric} would take for cold"):
        reevaluate(run.folder(Path("runs")), ["ndcg@10", metric], CPU)
