"""Many runs: one that fails does not stop the others, workers give the same figures, a killed table goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Settings
from recgraph.experiments.scheduling import do, preview
from recgraph.files import locked, write_text

SETTINGS = Settings(torch.device("cpu"))
BROKEN = """
from recgraph.baselines.popularity import Popularity

class Broken(Popularity):
    def fit(self, train):
        raise ZeroDivisionError("on purpose\\nand on two lines")

class Killed(Popularity):
    def fit(self, train):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)

class Quits(Popularity):
    def fit(self, train):
        import os
        os._exit(3)
"""


@pytest.fixture
def broken(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy table with a row that raises, and two whose process ends."""
    Path("broken.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    rows = '  broken: {baseline: "broken:Broken"}\n  killed: {baseline: "broken:Killed"}\n  quits: {baseline: "broken:Quits"}\n'
    toy.write_text(toy.read_text().rstrip() + "\n" + rows)
    return toy


@pytest.mark.parametrize("workers", [1, 2])
def test_one_run_that_fails_does_not_stop_the_others(broken: Path, workers: int) -> None:
    names = ["broken", "popularity"] if workers == 1 else ["killed", "quits", "broken", "popularity"]
    runs = plan(broken, rows=names, seeds=[0])
    for run in runs:
        write_text(run.folder(Path("runs")) / "error.txt", "of an earlier attempt")
    seen: list[str] = []
    outcomes = do(
        runs,
        Path("runs"),
        settings=SETTINGS,
        console=Console(),
        workers=workers,
        report=lambda one: seen.append(one.run.row),
    )
    found = {one.run.row: one for one in outcomes}
    assert sorted(seen) == sorted(names)
    assert found["broken"].result is None
    assert found["broken"].error == "ZeroDivisionError: on purpose\nand on two lines"
    assert "on purpose" in (found["broken"].folder / "error.txt").read_text()
    assert found["popularity"].result is not None
    if workers > 1:
        assert "killed by SIGKILL" in found["killed"].error
        assert "ended with code 3" in found["quits"].error


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_written_to_a_run_that_another_process_executes(toy: Path, workers: int) -> None:
    runs = plan(toy, rows=["popularity"], seeds=[0])
    with locked(runs[0].folder(Path("runs"))):
        (found,) = do(runs, Path("runs"), settings=SETTINGS, console=Console(), workers=workers)
    assert (found.result, found.error) == (None, "another process is at work here")
    assert [path.name for path in found.folder.iterdir()] == [".lock"]


def test_workers_give_the_figures_of_one_process(toy: Path) -> None:
    runs = plan(toy, rows=["popularity", "LightGCN"])
    one, two = (
        do(runs, Path(root), settings=SETTINGS, console=Console(), workers=workers)
        for root, workers in (("one", 1), ("two", 2))
    )
    assert [a.run for a in one] == [b.run for b in two]
    for a, b in zip(one, two, strict=True):
        assert a.result["test"] == pytest.approx(b.result["test"], abs=0.02)  # other threads, other rounding


TWINS = """
datasets: [toy]
seeds: [0]
base:
  encoder: {name: embedding, dim: 4}
  heads: {rank: gmf}
  objectives: {rank: bce}
  train: {lr: 0.01, batch_size: 256, max_epochs: 12, patience: 12, monitor: ndcg@10}
  evaluate: {metrics: [ndcg@10]}
rows:
  GMF: {}
  blended: {blend: {baseline: popularity}}
  NeuMF: {encoder.dim: 8, heads.rank: {name: neumf, gmf_dim: 4, hidden: [4, 4]}, pretrained: {gmf: GMF, mlp: MLP}}
  popularity: {baseline: popularity}
  MLP: {heads.rank: {name: mlp, hidden: [4, 4]}}
"""


def test_workers_do_not_train_the_same_at_once(toy: Path) -> None:
    """What has the same to train waits until the first has ended; meanwhile a worker does what comes later."""
    toy.write_text(TWINS)
    seen: list[str] = []
    outcomes = do(
        plan(toy, rows=["GMF", "blended", "NeuMF", "popularity"]),
        Path("runs"),
        settings=SETTINGS,
        console=Console(),
        workers=2,
        report=lambda one: seen.append(one.run.row),
    )
    assert [one.error for one in outcomes] == [""] * 4
    assert set(seen[:2]) == {"popularity", "GMF"}
    first, blended, neumf, _ = (one.folder for one in outcomes)
    for place in (blended, neumf / "checkpoint" / "gmf"):
        assert json.loads((place / "env.json").read_text())["taken_over"]["folder"] == str(first)


def test_a_preview_knows_what_is_done_and_how_long_the_rest_will_take(toy: Path) -> None:
    runs = plan(toy, rows=["popularity", "BPR-MF"], seeds=[0, 1])
    cells = preview(runs, Path("runs"), settings=SETTINGS)
    assert {(cell.state, cell.seconds) for cell in cells} == {("to do", None)}
    (done,) = do([run for run in runs if run.row == "BPR-MF"][:1], Path("runs"), settings=SETTINGS, console=Console())
    cells = {(cell.run.row, cell.run.seed): cell for cell in preview(runs, Path("runs"), settings=SETTINGS)}
    assert cells["BPR-MF", 0].state == "done"
    assert (cells["BPR-MF", 1].state, cells["BPR-MF", 1].seconds) == ("to do", done.result["seconds"])
    assert cells["popularity", 0].seconds is None
    path = done.folder / "result.json"
    path.write_text(json.dumps({**done.result, "code": "old"}))
    states = [cell.state for cell in preview(runs, Path("runs"), settings=SETTINGS) if cell.run == done.run]
    assert states == ["stale"]
    states = [
        cell.state
        for cell in preview(runs, Path("runs"), settings=Settings(SETTINGS.device, any_code=True))
        if cell.run == done.run
    ]
    assert states == ["done"]


@pytest.mark.slow
def test_workers_die_with_a_killed_table_and_the_table_goes_on(toy: Path) -> None:
    def start(root: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "recgraph", "table", str(toy), "train.max_epochs=100", "train.patience=100"]
        options = ["--rows", "LightGCN", "--workers", "2", "--runs", root, "--results", f"results-{root}"]
        return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)

    def figures(root: str) -> list[str]:
        lines = Path(f"results-{root}/toy.csv").read_text().splitlines()
        return [line.split(",")[:9] for line in lines]

    def epochs() -> int:
        return sum(len(path.read_text().splitlines()) for path in Path("cut").rglob("metrics.jsonl"))

    assert start("whole").wait(300) == 0
    for _ in range(2):
        before, cut = epochs(), start("cut")
        deadline = time.monotonic() + 60
        while epochs() <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        cut.kill()
        assert cut.wait() == -signal.SIGKILL  # it was at work, not done
        time.sleep(1)  # the workers notice
    assert start("cut").wait(300) == 0
    assert figures("cut") == figures("whole")
