"""Tuning on a toy: the best settings reproduce, nothing is lost or done twice, and the test part stays shut."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from optuna.trial import FrozenTrial
from rich.console import Console

from recgraph.baselines.popularity import Popularity
from recgraph.cli import main
from recgraph.data.datasets import Dataset
from recgraph.data.interactions import Interactions
from recgraph.errors import ConfigError, DataError
from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Settings, execute
from recgraph.experiments.task import Task
from recgraph.training.trackers import JsonLines
from recgraph.tuning import trials as tuning
from recgraph.tuning.search import Search, searches
from recgraph.tuning.studies import Options

CPU = torch.device("cpu")
SEARCH = """
search:
  LightGCN:
    train.lr: {log: [1.0e-3, 1.0e-1]}
    encoder.num_layers: [1, 2]
    objectives.l2: [null, {name: ego_l2, weight: 1.0e-3}]
  popularity:
    baseline: [popularity]
"""


@pytest.fixture
def file(toy: Path) -> Path:
    toy.write_text(toy.read_text() + SEARCH)
    return toy


def options(**changes: Any) -> Options:
    return replace(Options(Path("runs"), CPU, trials=4), **changes)


def history(root: str, row: str = "LightGCN") -> list[dict[str, str]]:
    return list(csv.DictReader(Path(root, "toy", row, "toy", "tuning.csv").read_text().splitlines()))


def timeless(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_the_best_settings_reproduce_their_score_to_the_bit(file: Path) -> None:
    found = searches(file, rows=["LightGCN"])
    ((summary,), ended) = tuning.tune(found, options(trials=5))
    assert not ended
    best = yaml.safe_load(Path("runs/toy/LightGCN/toy/best.yaml").read_text())
    assert best["score"] == max(float(row["value"]) for row in history("runs") if row["state"] == "complete")
    assert best["trials"] == summary.states
    (run,) = plan(file, rows=["LightGCN"], seeds=[0], overrides=best["overrides"])
    result = execute(run, Path("again"), settings=Settings(CPU), console=Console())
    assert result["validation"] == best["validation"]
    assert result["validation"]["ndcg@10"] == best["score"]
    assert result["data_fingerprint"] == best["data_fingerprint"]
    folder = next(Path("runs").rglob(f"trial-{best['trial']}"))
    record = json.loads((folder / "validation.json").read_text())
    assert record["config_hash"] == run.config_hash
    assert (record["overrides"], record["metrics"]) == (best["overrides"], best["validation"])
    assert not (folder / "checkpoint").exists()


def test_the_printed_command_trains_the_best(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["tune", str(file), "--trials", "2", "--rows", "LightGCN"])
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if line.startswith("OMP_NUM_THREADS=")]
    done = subprocess.run(
        line.replace("recgraph", f"{sys.executable} -m recgraph", 1), shell=True, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (result,) = [json.loads(path.read_text()) for path in Path("runs").rglob("result.json")]
    best = yaml.safe_load(Path("runs/toy/LightGCN/toy/best.yaml").read_text())
    assert result["validation"] == best["validation"]


def test_the_command_names_the_device_where_it_is_not_the_default(file: Path) -> None:
    for device, words in (("cpu:0", ["--device", "cpu:0"]), ("cpu", [])):
        changes = options(root=Path(device), device=torch.device(device), trials=1)
        ((summary,), _) = tuning.tune(searches(file, rows=["popularity"]), changes)
        command = summary.command(Path(device))
        assert command[command.index("--runs") + 2 :] == words


def test_the_database_is_in_the_folder_of_the_row_whatever_its_name(file: Path) -> None:
    file.write_text(file.read_text().replace("LightGCN:", '"a?b%20c":'))
    tuning.tune(searches(file, rows=["a?b%20c"]), options(trials=1))
    assert [path.name for path in Path("runs/toy").rglob("tuning.db")] == ["tuning.db"]
    assert not [path for path in Path("runs/toy").iterdir() if not path.is_dir()]


def test_a_search_goes_on_where_it_was_and_is_extended(file: Path) -> None:
    found = searches(file, rows=["LightGCN"])
    tuning.tune(found, options(root=Path("whole"), trials=5, prune=False))
    for trials in (2, 2, 5):
        tuning.tune(found, options(root=Path("cut"), trials=trials, prune=False))
        assert len(history("cut")) == trials
    assert timeless(history("cut")) == timeless(history("whole"))
    rates = [row["train.lr"] for row in history("whole")]
    assert len(set(rates)) == 5  # a sampler that begins anew with its seed would draw the first again


def test_an_interrupted_trial_goes_on_from_its_checkpoint(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = searches(file, rows=["LightGCN"])
    tuning.tune(found, options(root=Path("whole"), prune=False))
    real, epochs = JsonLines.epoch, []

    def interrupted(self: JsonLines, record: dict[str, Any]) -> None:
        real(self, record)
        epochs.append(record["epoch"])
        if len(epochs) == 12 + 7:  # in the second trial, an epoch after its checkpoint
            raise KeyboardInterrupt

    monkeypatch.setattr(JsonLines, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(found, options(root=Path("cut"), prune=False))
    tuning.tune(found, options(root=Path("cut"), prune=False))
    assert len(epochs) == 4 * 12 + 1  # of four trials with twelve epochs, only the one after the checkpoint came again
    assert timeless(history("cut")) == timeless(history("whole"))


@pytest.mark.parametrize("chosen", [1, 2])
def test_a_trial_interrupted_while_it_chooses_chooses_the_same(
    file: Path, monkeypatch: pytest.MonkeyPatch, chosen: int
) -> None:
    found = searches(file, rows=["LightGCN"])
    tuning.tune(found, options(root=Path("whole"), prune=False))
    real, choices = optuna.Trial.suggest_categorical, 0

    def interrupted(self: optuna.Trial, name: str, values: Any) -> Any:
        nonlocal choices
        choices += 1
        if choices == 2 + chosen:  # in the second trial: two are lists, after a range
            raise KeyboardInterrupt
        return real(self, name, values)

    monkeypatch.setattr(optuna.Trial, "suggest_categorical", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(found, options(root=Path("cut"), prune=False))
    tuning.tune(found, options(root=Path("cut"), prune=False))
    assert timeless(history("cut")) == timeless(history("whole"))


def test_a_changed_space_starts_a_new_study_with_folders_of_its_own(file: Path) -> None:
    tuning.tune(searches(file, rows=["LightGCN"]), options(trials=2))
    file.write_text(file.read_text().replace("1.0e-1]", "2.0e-2]"))
    tuning.tune(searches(file, rows=["LightGCN"]), options(trials=3))
    assert len(history("runs")) == 3
    assert len(list(Path("runs").rglob("trial-0"))) == 2


def test_folders_that_outlive_their_database_are_not_resumed_from(file: Path) -> None:
    found = searches(file, rows=["LightGCN"])
    tuning.tune(found, options(trials=1))
    first = history("runs")
    Path("runs/toy/LightGCN/toy/tuning.db").unlink()
    (Path(next(Path("runs").rglob("trial-0"))) / "checkpoint").mkdir()
    (Path(next(Path("runs").rglob("trial-0"))) / "checkpoint" / "last.pt").write_text("of another study")
    tuning.tune(found, options(trials=1))
    assert timeless(history("runs")) == timeless(first)


def test_a_baseline_is_judged_by_the_metric_of_the_file(file: Path) -> None:
    ((summary,), _) = tuning.tune(searches(file, rows=["popularity"]), options(trials=1))
    (run,) = plan(file, rows=["popularity"], seeds=[0])
    result = execute(run, Path("again"), settings=Settings(CPU), console=Console())
    assert summary.best is not None
    assert summary.best.value == result["validation"]["ndcg@10"]


def test_the_test_part_cannot_be_looked_at(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Shut(Interactions):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"somebody looked at {name} of the test part")

    tuning.tune(searches(file), options(root=Path("open")))
    real_split, real_load, sealed = Dataset.split, Task.load, []

    def split(*arguments: Any, **options: Any) -> Any:
        whole = real_split(*arguments, **options)
        assert whole.fingerprint
        object.__setattr__(whole, "test", object.__new__(Shut))
        return whole

    def load(*arguments: Any, **options: Any) -> Task:
        task = real_load(*arguments, **options)
        sealed.append(task)
        return task

    monkeypatch.setattr(Dataset, "split", split)
    monkeypatch.setattr(Task, "load", load)
    file.write_text(file.read_text().replace("evaluate: {", "evaluate: {parity: true, "))
    tuning.tune(searches(file), options(root=Path("shut")))
    for row in ("LightGCN", "popularity"):
        assert timeless(history("shut", row)) == timeless(history("open", row))
        assert "complete" in {one["state"] for one in history("shut", row)}
    assert sealed
    for task in sealed:
        with pytest.raises(DataError, match="sealed"):
            _ = task._test_matrix


def test_a_trial_below_the_median_is_pruned_and_its_curve_kept(file: Path) -> None:
    text = file.read_text().replace("patience: 12", "patience: 4").replace("max_epochs: 12", "max_epochs: 30")
    file.write_text(text.replace("train.lr: {log: [1.0e-3, 1.0e-1]}", "train.lr: {log: [1.0e-7, 1.0e-1]}"))
    ((summary,), _) = tuning.tune(searches(file, rows=["LightGCN"]), options(trials=14))
    assert summary.states.get("pruned", 0) > 0
    values = {row["trial"]: row for row in history("runs")}
    for trial in summary.trials:
        if trial.state.name == "PRUNED":
            folder = next(Path("runs").rglob(f"trial-{trial.number}"))
            lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            assert lines[-1]["validation"]["ndcg@10"] == float(values[str(trial.number)]["value"])
            assert lines[-1]["epoch"] >= 4
            assert not (folder / "validation.json").exists()
    ((whole,), _) = tuning.tune(searches(file, rows=["LightGCN"]), options(trials=14, prune=False, root=Path("all")))
    assert whole.states == {"complete": 14}


def test_a_trial_that_fails_counts_and_stops_no_other(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("scaled.py").write_text(
        "from recgraph.baselines.popularity import Popularity\n"
        "class Scaled(Popularity):\n"
        "    def __init__(self, num_users, num_items, *, by: int = 1):\n"
        "        super().__init__(num_users, num_items)\n"
        "        self.by = by\n"
        "    def fit(self, train):\n"
        "        if self.by == 2: raise ZeroDivisionError('on purpose')\n"
        "        super().fit(train)\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    text = file.read_text().replace("popularity: {baseline: popularity}", 'popularity: {baseline: "scaled:Scaled"}')
    file.write_text(text.replace("baseline: [popularity]", "baseline.by: [1, 2]"))
    ((summary,), _) = tuning.tune(searches(file, rows=["popularity"]), options(trials=6))
    assert sorted(summary.states) == ["complete", "fail"]
    assert len(summary.trials) == 6
    for row, trial in zip(history("runs", "popularity"), summary.trials, strict=True):
        assert (row["baseline.by"] == "2") == (row["state"] == "fail")
        if row["state"] == "fail":
            assert trial.user_attrs["error"] == "ZeroDivisionError: on purpose"
            assert "on purpose" in (next(Path("runs").rglob(f"trial-{trial.number}")) / "error.txt").read_text()


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_a_trial_without_memory_is_not_over(file: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def fit(*_: Any) -> None:
        if where == "cuda":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        torch.empty(2**50)

    found = searches(file, rows=["popularity"])
    with monkeypatch.context() as patch:
        patch.setattr(Popularity, "fit", fit)
        with pytest.raises(RuntimeError, match="memory"):
            tuning.tune(found, options(trials=1))
    ((summary,), _) = tuning.tune(found, options(trials=1))
    assert summary.states == {"complete": 1}


def test_a_search_ends_when_nothing_but_failures_comes(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tuning, "FAILURES", 3)
    fits: list[bool] = []
    real = Popularity.fit

    def fit(self: Popularity, train: Interactions) -> None:
        fits.append(len(fits) % 3 == 2)  # the third works, and the sixth
        if len(fits) > 6 or not fits[-1]:
            raise ZeroDivisionError(f"in fit {len(fits)}")
        real(self, train)

    monkeypatch.setattr(Popularity, "fit", fit)
    ((summary,), _) = tuning.tune(searches(file, rows=["popularity"]), options(trials=None, seconds=2.0))
    assert [trial.state.name for trial in summary.trials] == ["FAIL", "FAIL", "COMPLETE"] * 2 + ["FAIL"] * 3
    assert "ended, for 3 trials in a row failed, the last with: ZeroDivisionError: in fit 9" in caplog.text


def test_the_best_of_another_study_goes_with_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuning.tune(searches(file, rows=["popularity"]), options(trials=1))
    best = Path("runs/toy/popularity/toy/best.yaml")
    assert best.exists()
    file.write_text(file.read_text().replace("baseline: [popularity]", "baseline: [{name: slim, l1: 1.0, l2: 1.0}]"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recgraph.baselines.slim.SLIM.fit", lambda *_: 1 / 0)
        tuning.tune(searches(file, rows=["popularity"]), options(trials=1))
    assert not best.exists()


def test_seconds_are_a_budget_too(file: Path) -> None:
    found = searches(file, rows=["LightGCN"])
    ((summary,), _) = tuning.tune(found, options(trials=None, seconds=0.5))
    *before, _ = summary.trials
    assert summary.seconds >= 0.5 > sum(trial.user_attrs["seconds"] for trial in before)
    ((again,), _) = tuning.tune(found, options(trials=None, seconds=0.5))
    assert len(again.trials) == len(summary.trials)
    with pytest.raises(ConfigError, match="a number of trials, a number of seconds, or both"):
        tuning.tune(found, options(trials=None))


def note(search: Search, trial: FrozenTrial) -> None:
    with Path("done.txt").open("a") as file:
        file.write(f"{search.run.row} {trial.number} {os.getpid()}\n")


@pytest.mark.slow
def test_workers_share_each_study(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}")
    summaries, ended = tuning.tune(searches(file), options(trials=6), workers=2, report=note)
    assert not ended
    lines = [line.split() for line in Path("done.txt").read_text().splitlines()]
    for summary in summaries:
        assert [trial.number for trial in summary.trials] == list(range(6))
        assert "running" not in summary.states
        done = sorted(int(number) for row, number, _ in lines if row == summary.search.run.row)
        assert done == list(range(6))
    assert len({pid for *_, pid in lines}) == 2


@pytest.mark.slow
def test_of_two_processes_one_is_killed_and_no_trial_is_lost_or_done_twice(file: Path) -> None:
    file.write_text(file.read_text().replace("max_epochs: 12, patience: 12", "max_epochs: 80, patience: 80"))

    def start(root: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "recgraph", "tune", str(file), "--trials", "6", "--no-prune", "--runs", root]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [*command, "--rows", "LightGCN"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def numbers(text: str) -> list[int]:
        return [int(line.partition("trial ")[2].split(":")[0]) for line in text.splitlines() if ": complete" in line]

    whole = start("whole")
    text, problems = whole.communicate(timeout=300)
    assert whole.returncode == 0, problems
    assert numbers(text) == list(range(6))

    killed, other = start("cut"), start("cut")
    assert killed.stdout is not None
    before = killed.stdout.readline()
    time.sleep(0.2)  # well into its next trial, which takes longer
    os.kill(killed.pid, signal.SIGKILL)
    before += killed.communicate()[0]
    restarted = start("cut")
    texts = [process.communicate(timeout=300) for process in (other, restarted)]
    assert [process.returncode for process in (other, restarted)] == [0, 0], texts
    assert sorted(numbers(before) + numbers(texts[0][0]) + numbers(texts[1][0])) == list(range(6))
    # The first ten trials of TPE are drawn at random, each from a stream of its own: who does them changes nothing.
    assert timeless(history("cut")) == timeless(history("whole"))
    for number in range(6):
        folders = [next(Path(root).rglob(f"trial-{number}")) for root in ("whole", "cut")]
        one, two = (
            [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in folders
        )
        assert [line["epoch"] for line in two] == list(range(1, 81))
        assert [line["losses"] for line in one] == [line["losses"] for line in two]


def test_each_trial_is_a_run_of_its_own_at_weights_and_biases(file: Path) -> None:
    pytest.importorskip("wandb")
    tuning.tune(searches(file, rows=["LightGCN"]), options(trials=2, prune=False, track="offline"))
    ids = {path.read_text() for path in Path("runs").rglob("trial-*/wandb/id")}
    assert len(ids) == 2
    assert len(list(Path("runs").rglob("trial-*/wandb/offline-run-*"))) == 2
