"""Runs end to end on a toy dataset: honest, reproducible, resumable after SIGKILL, complete."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from rich.console import Console
from sklearn.metrics import ndcg_score

from recgraph import environment, registry
from recgraph.baselines.base import Baseline
from recgraph.data import datasets
from recgraph.data.importing import import_file
from recgraph.data.interactions import Interactions
from recgraph.data.splits import Split
from recgraph.errors import DataError, RecgraphError, TrainingError
from recgraph.experiments.experiment import Run, plan
from recgraph.experiments.fitting import fit
from recgraph.experiments.running import Settings, execute, reevaluate
from recgraph.experiments.task import Task
from recgraph.files import locked
from recgraph.models.model import Model

CPU = torch.device("cpu")
TIMES = ("seconds", "elapsed", "seconds_to_95", "seconds_to_99", "train_seconds", "eval_seconds", "peak_memory_mib")


def run_all(toy: Path, root: Path, **selection: object) -> list[tuple[Run, dict]]:
    return [(run, execute(run, root, settings=Settings(CPU), console=Console())) for run in plan(toy, **selection)]


def timeless(text: str) -> list[dict]:
    """JSON lines without what legitimately differs from run to run."""
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in text.splitlines()]


def outcome(folder: Path) -> dict[str, object]:
    """Everything a run ends with, to the bit."""
    return {
        "result": timeless(json.dumps(json.loads((folder / "result.json").read_text()))),
        "metrics": timeless((folder / "metrics.jsonl").read_text()),
        "per_user": (folder / "per_user.parquet").read_bytes(),
        "model": (folder / "model.safetensors").read_bytes(),
    }


def test_models_beat_popularity_and_leave_a_complete_folder(toy: Path) -> None:
    results = {run.row: (run, result) for run, result in run_all(toy, Path("runs"), seeds=[0])}
    scores = {row: result["test"]["ndcg@10"] for row, (_, result) in results.items()}
    assert scores["LightGCN"] > scores["popularity"] + 0.1
    assert scores["BPR-MF"] > scores["popularity"]
    run, result = results["LightGCN"]
    assert sorted(path.name for path in run.folder(Path("runs")).iterdir()) == [
        ".lock", "checkpoint", "config.yaml", "env.json", "items.parquet", "metrics.jsonl", "model.json", "model.safetensors",
        "per_user.parquet", "result.json", "split.json", "users.parquet",
    ]  # fmt: skip
    assert result["test_users"] + result["skipped_users"] == 60
    assert result["diagnostics"]["item_effective_rank"] > 1
    assert "diagnostics" not in results["popularity"][1]
    machine = json.loads((run.folder(Path("runs")) / "env.json").read_text())
    assert machine["packages"]["torch"] == torch.__version__
    assert machine["threads"] == torch.get_num_threads()


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(toy: Path) -> None:
    one, two = (run_all(toy, Path(root), rows=["LightGCN"]) for root in ("one", "two"))
    outcomes = [outcome(run.folder(Path("one"))) for run, _ in one]
    assert outcomes == [outcome(run.folder(Path("two"))) for run, _ in two]
    assert outcomes[0]["model"] != outcomes[1]["model"]
    assert one[0][1]["data_fingerprint"] == one[1][1]["data_fingerprint"]  # seeds share one split


def test_a_finished_run_is_not_run_again(toy: Path) -> None:
    ((run, first),) = run_all(toy, Path("runs"), rows=["BPR-MF"], seeds=[0])
    stamp = (run.folder(Path("runs")) / "model.safetensors").stat().st_mtime_ns
    ((_, second),) = run_all(toy, Path("runs"), rows=["BPR-MF"], seeds=[0])
    assert second == first
    assert (run.folder(Path("runs")) / "model.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("what", ["data_fingerprint", "code"])
def test_a_run_finished_on_other_data_or_by_other_code_is_moved_aside_and_done_anew(toy: Path, what: str) -> None:
    ((run, result),) = run_all(toy, Path("runs"), rows=["popularity"], seeds=[0])
    folder = run.folder(Path("runs"))
    (folder / "result.json").write_text(json.dumps({**result, what: "0" * 64}))
    settings = Settings(CPU, any_code=True)
    taken = execute(run, Path("runs"), settings=settings, console=Console())
    assert (taken[what] == "0" * 64) == (what == "code")  # other code's result will do if asked for, other data's never
    ((_, again),) = run_all(toy, Path("runs"), rows=["popularity"], seeds=[0])
    assert again["test"] == result["test"]
    assert again[what] == result[what]
    old = json.loads((folder.parent / "seed-0.old-1" / "result.json").read_text())
    assert old[what] == "0" * 64


def test_a_move_that_is_cut_off_leaves_nothing_to_be_resumed(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((run, result),) = run_all(toy, Path("runs"), rows=["BPR-MF"], seeds=[0])
    folder = run.folder(Path("runs"))
    (folder / "result.json").write_text(json.dumps({**result, "code": "0" * 64}))
    rename = Path.rename

    def dies(path: Path, target: Path) -> Path:
        if path.name == "result.json":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", dies)
        run_all(toy, Path("runs"), rows=["BPR-MF"], seeds=[0])
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "result.json"]
    ((_, again),) = run_all(toy, Path("runs"), rows=["BPR-MF"], seeds=[0])
    assert again["epochs"] == len((folder / "metrics.jsonl").read_text().splitlines())


@pytest.mark.parametrize("package", [False, True])
def test_a_change_in_another_packages_component_has_its_runs_done_anew(
    toy: Path, package: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"lab_{package}"
    file = Path(f"elsewhere/{name}/parts.py" if package else f"elsewhere/{name}.py")
    file.parent.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(file.parent.parent if package else file.parent))
    text = "from recgraph.objectives import BPR\n\nclass Mine(BPR):\n    pass\n"
    file.write_text(text)
    objective = f"{name}.parts:Mine" if package else f"{name}:Mine"
    overrides = {
        "objectives": {"rank": objective},
        "train.max_epochs": 1,
        "train.patience": 1,
        "train.validate_every": 1,
    }

    def code() -> tuple[str, bool]:
        """The code of the result, and whether it has just been made."""
        environment.code_digest.cache_clear()  # as in another process
        before = set(Path("runs").rglob("*.old-*"))
        ((_, result),) = run_all(toy, Path("runs"), rows=["BPR-MF"], seeds=[0], overrides=overrides)
        return result["code"], set(Path("runs").rglob("*.old-*")) != before

    (first, _), (again, anew) = code(), code()
    assert first == again
    assert not anew
    assert first.startswith(f"{environment.code_digest()}+")
    file.write_text(text + "# changed\n")
    other, anew = code()
    assert other != first
    assert anew


def test_names_of_other_packages_are_found_wherever_they_stand() -> None:
    config = {
        "encoder": {"name": "hybrid", "graph": {"name": "lab.graphs.new:Mine", "dim": 4}},
        "objectives": {"rank": {"name": "bpr"}, "ssl": {"name": "b:C", "view": {"name": "a:V"}}},
        "negatives": {"name": "recgraph.sampling.negatives:Uniform"},
        "list": [{"name": "in_list:L"}],
        "title": "x:y",
    }
    assert registry.packages(config) == ("a", "b", "in_list", "lab")


def test_a_component_that_another_package_has_registered_is_of_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_elsewhere", {})
    mine = type("Mine", (Baseline,), {"__module__": "lab.parts"})
    try:
        registry.baselines.register("of the lab")(mine)
        assert registry.packages({"baseline": {"name": "of the lab"}}) == ("lab",)
        assert registry.packages({"baseline": {"name": "ease"}}) == ()
    finally:
        registry.baselines._components.pop("of the lab")


def test_the_code_of_a_script_and_of_a_notebook_has_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(**module: Any) -> str:
        environment.code_digest.cache_clear()
        monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=None, **module))
        return environment.code_digest(("__main__",))

    script = tmp_path / "mine.py"
    script.write_text("1")
    first = digest(__file__=str(script))
    script.write_text("2")
    assert digest(__file__=str(script)) != first
    assert digest()  # a notebook's cells are in no file
    environment.code_digest.cache_clear()


def test_refit_uses_validation_rows_for_as_many_epochs(toy: Path) -> None:
    (plain,) = plan(toy, rows=["LightGCN"], seeds=[0])
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0], overrides={"refit": True})
    one, two = (execute(each, Path("runs"), settings=Settings(CPU), console=Console()) for each in (plain, run))
    assert two["validation"] == one["validation"]  # of the first fit
    assert two["test"] != one["test"]
    lines = (run.folder(Path("runs")) / "refit.jsonl").read_text().splitlines()
    assert len(lines) == one["best_epoch"] == two["best_epoch"]
    for name, validation, test in reevaluate(run.folder(Path("runs")), ["map@5", *one["validation"]], CPU):
        assert validation == one["validation"].get(name)  # the model itself has learned those rows
        assert test == two["test"].get(name, test)
    graph = Model.load(run.folder(Path("runs"))).graph
    task = Task.load("toy", run.config["split"], CPU)
    assert graph.num_edges == len(task.train) + len(task.validation)
    (popularity,) = plan(toy, rows=["popularity"], seeds=[0], overrides={"refit": True})
    execute(popularity, Path("runs"), settings=Settings(CPU), console=Console())
    counts = Model.load(popularity.folder(Path("runs"))).counts
    assert counts.sum() == len(task.train) + len(task.validation)


def test_parity_figures_stand_beside_the_honest_ones_and_choose_nothing(toy: Path) -> None:
    (plain,) = plan(toy, rows=["LightGCN"], seeds=[0])
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0], overrides={"evaluate.parity": True})
    one, two = (execute(each, Path("runs"), settings=Settings(CPU), console=Console()) for each in (plain, run))
    for key in ("best_epoch", "epochs", "validation", "test"):
        assert one[key] == two[key]
    assert "parity" not in one
    monitor = run.config["train"]["monitor"]
    assert two["parity"][monitor] >= two["test"][monitor]
    assert 0 < two["parity_epoch"] <= two["epochs"]


def test_a_sealed_task_does_not_show_its_test_part(toy: Path) -> None:
    (run,) = plan(toy, rows=["popularity"], seeds=[0])
    task = Task.load("toy", run.config["split"], CPU, sealed=True)
    model, _ = fit(run, task, Path("runs"), [])
    assert task.validate(model, ["ndcg@10"]).num_users > 0
    with pytest.raises(DataError, match="the test part is sealed"):
        task.test(model, ["ndcg@10"])
    assert not any(
        isinstance(value, Interactions | Split) and value is not task.train and value is not task.validation
        for value in vars(task).values()
    )


def test_test_metrics_are_those_of_an_independent_ranking(toy: Path) -> None:
    ((run, result),) = run_all(toy, Path("runs"), rows=["LightGCN"], seeds=[0])
    folder = run.folder(Path("runs"))
    split = datasets.load("toy").split("random_by_user", seed=0)
    train, validation, test = (part.csr().toarray() for part in (split.train, split.validation, split.test))
    with torch.no_grad():
        scores = Model.load(folder).scorer()(torch.arange(60)).double().numpy()
    scores[(train + validation) > 0] = -1e9  # both are masked at test time
    users = test.sum(axis=1) > 0
    assert result["test"]["ndcg@10"] == pytest.approx(ndcg_score(test[users], scores[users], k=10), abs=1e-6)
    per_user = pl.read_parquet(folder / "per_user.parquet")
    assert per_user["user"].to_list() == users.nonzero()[0].tolist()
    assert per_user["ndcg@10"].mean() == pytest.approx(result["test"]["ndcg@10"])


def test_validation_picks_the_epoch_and_its_figures_are_in_the_curve(toy: Path) -> None:
    ((run, result),) = run_all(toy, Path("runs"), rows=["LightGCN"], seeds=[0])
    lines = [json.loads(line) for line in (run.folder(Path("runs")) / "metrics.jsonl").read_text().splitlines()]
    curve = {line["epoch"]: line["validation"] for line in lines if "validation" in line}
    assert max(curve, key=lambda epoch: curve[epoch]["ndcg@10"]) == result["best_epoch"]
    assert curve[result["best_epoch"]] == pytest.approx(result["validation"])
    assert not any("test" in line for line in lines)


def test_a_result_says_how_fast_it_was_learned(toy: Path) -> None:
    ((run, result),) = run_all(toy, Path("runs"), rows=["LightGCN"], seeds=[0])
    lines = [json.loads(line) for line in (run.folder(Path("runs")) / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["elapsed"] == pytest.approx(sum(line["seconds"] for line in lines), abs=0.01)
    curve = [(line["epoch"], line["validation"]["ndcg@10"]) for line in lines if "validation" in line]
    best = max(value for _, value in curve)
    for share in (95, 99):
        assert result[f"epochs_to_{share}"] == next(epoch for epoch, value in curve if value >= share / 100 * best)


def test_a_warm_start_is_where_training_begins(toy: Path) -> None:
    init = {"name": "ials", "epochs": 2}
    short = {"train.max_epochs": 1, "train.patience": 1, "train.validate_every": 1, "train.lr": 1e-9}
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0], overrides={"encoder.init": init, **short})
    execute(run, Path("runs"), settings=Settings(CPU), console=Console())
    items = Model.load(run.folder(Path("runs"))).encoder.items.weight.detach()
    table = Task.load("toy", run.config["split"], CPU).train
    model = registry.baselines.build({**init, "dim": items.shape[1]}, table.num_users, table.num_items)
    model.fit(table)
    expected = model.items * (items.norm() / model.items.norm())
    torch.testing.assert_close(items, expected, rtol=1e-4, atol=1e-5)


class Loose(Baseline):
    """It keeps what it learns where it would not be saved."""

    def fit(self, train: Interactions) -> None:
        self.counts = torch.from_numpy(train.item_indices).bincount(minlength=self.num_items)


def test_a_baseline_that_could_not_be_saved_is_refused(toy: Path) -> None:
    (run,) = plan(toy, rows=["popularity"], seeds=[0], overrides={"baseline": "test_running:Loose"})
    with pytest.raises(TrainingError, match=r"Loose\.counts would not be saved with the model: make it a buffer"):
        execute(run, Path("runs"), settings=Settings(CPU), console=Console(quiet=True))


def test_the_test_part_is_read_once_and_only_after_training(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("validate", "test"):
        real = getattr(Task, name)
        monkeypatch.setattr(Task, name, lambda *a, _real=real, _name=name, **k: calls.append(_name) or _real(*a, **k))
    run_all(toy, Path("runs"), rows=["BPR-MF"], seeds=[0])
    assert calls.count("test") == 1
    assert calls[-1] == "test"
    assert len(calls) > 2


def test_evaluating_again_gives_the_same_figures_and_new_metrics(toy: Path) -> None:
    ((run, result),) = run_all(toy, Path("runs"), rows=["LightGCN"], seeds=[0])
    folder = run.folder(Path("runs"))
    again = {name: test for name, _, test in reevaluate(folder, [], CPU)}
    assert again == result["test"]
    ((name, validation, test),) = reevaluate(folder, ["map@5"], CPU)
    assert name == "map@5"
    assert 0 < test <= 1
    assert 0 < validation <= 1
    with pytest.raises(DataError, match="expected the folder of a finished run"):
        reevaluate(folder.parent, [], CPU)


VIEWS = {
    "edges": {"name": "view_contrast", "weight": 0.1, "view": {"name": "edge_drop", "rate": 0.2}, "against": "all"},
    "noise": {"name": "layer_contrast", "weight": 0.1, "view": "noise"},
}


@pytest.mark.parametrize("ssl", VIEWS)
def test_a_killed_run_with_views_ends_as_if_it_had_not_been(
    toy: Path, ssl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0], overrides={"objectives.ssl": VIEWS[ssl]})
    execute(run, Path("whole"), settings=Settings(CPU), console=Console())
    calls, real = [], Task.validate

    def dies(self: Task, *arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Task, "validate", dies)
        execute(run, Path("cut"), settings=Settings(CPU), console=Console())
    assert (run.folder(Path("cut")) / "checkpoint" / "last.pt").exists()
    execute(run, Path("cut"), settings=Settings(CPU), console=Console())
    assert outcome(run.folder(Path("cut"))) == outcome(run.folder(Path("whole")))


@pytest.mark.slow
def test_sigkill_at_random_moments_changes_no_figure(toy: Path) -> None:
    def start(root: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "recgraph", "train", str(toy), "--rows", "LightGCN", "--seeds", "0"]
        settings = ["train.max_epochs=200", "train.patience=200", "--runs", root]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*command, *settings], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def files(root: str) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in Path(root).rglob("*.jsonl")}

    def wait_for(process: subprocess.Popen[bytes]) -> None:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()

    wait_for(start("whole"))
    rng, kills = random.Random(0), 0
    for _ in range(4):
        before, process = files("cut"), start("cut")
        while process.poll() is None and files("cut") == before:  # training (re)starts with this file
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.5))
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills >= 2
    wait_for(start("cut"))
    (whole,), (cut,) = (list(Path(root).rglob("seed-0")) for root in ("whole", "cut"))
    assert outcome(cut) == outcome(whole)
    assert sorted(path.name for path in cut.rglob("*")) == sorted(path.name for path in whole.rglob("*"))


def interrupt(toy: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that dies after training, when its result is about to be measured."""
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Task, "test", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        execute(run, root, settings=Settings(CPU), console=Console())
    return run


def test_an_interrupted_run_is_not_resumed_on_other_data(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = interrupt(toy, Path("runs"), monkeypatch)
    swapped = toy.with_suffix(".csv").read_text().replace("u1,", "u!,").replace("u2,", "u1,").replace("u!,", "u2,")
    toy.with_suffix(".csv").write_text(swapped)  # the same counts, other rows
    Path("data/toy.yaml").unlink()
    shutil.rmtree("data/raw/toy")
    import_file(toy.with_suffix(".csv"), user="who", item="what", time="when")
    with pytest.raises(TrainingError, match="a run on other data was interrupted here"):
        execute(run, Path("runs"), settings=Settings(CPU), console=Console())


def test_a_run_resumed_by_other_code_says_so(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = interrupt(toy, Path("runs"), monkeypatch)
    path = run.folder(Path("runs")) / "env.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "code": "another"}))
    result = execute(run, Path("runs"), settings=Settings(CPU), console=Console())
    assert result["dirty"]
    assert result["code"] == "mixed"
    assert json.loads(path.read_text())["earlier"]["code"] == "another"


def test_a_run_resumed_with_other_threads_is_of_its_code(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = interrupt(toy, Path("runs"), monkeypatch)
    path = run.folder(Path("runs")) / "env.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({**before, "threads": 99}))
    result = execute(run, Path("runs"), settings=Settings(CPU), console=Console())
    assert (result["code"], result["dirty"]) == (before["code"], before["dirty"])
    assert json.loads(path.read_text())["earlier"]["threads"] == 99


def test_leftovers_of_a_killed_write_are_cleared_away(toy: Path) -> None:
    (run,) = plan(toy, rows=["BPR-MF"], seeds=[0])
    leftover = run.folder(Path("runs")) / "checkpoint" / ".last.pt.123.tmp"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    execute(run, Path("runs"), settings=Settings(CPU), console=Console())
    assert not leftover.exists()


def test_two_processes_do_not_share_a_run(toy: Path) -> None:
    (run,) = plan(toy, rows=["BPR-MF"], seeds=[0])
    with locked(run.folder(Path("runs"))), pytest.raises(RecgraphError, match="another process is at work here"):
        execute(run, Path("runs"), settings=Settings(CPU), console=Console())


def test_a_disk_that_fills_is_explained(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Model, "save", full)
    (run,) = plan(toy, rows=["BPR-MF"], seeds=[0])
    with pytest.raises(TrainingError, match=r"cannot be read or written: .*No space left"):
        execute(run, Path("runs"), settings=Settings(CPU), console=Console())


def test_a_split_without_validation_is_refused(toy: Path) -> None:
    (run,) = plan(
        toy, rows=["popularity"], seeds=[0], overrides={"split": {"name": "random_by_user", "ratios": [9, 0, 1]}}
    )
    with pytest.raises(DataError, match="dataset toy: the validation part of split random_by_user is empty"):
        execute(run, Path("runs"), settings=Settings(CPU), console=Console())


def test_what_the_digest_of_the_code_leaves_out_exists() -> None:
    folder = Path(environment.__file__).parent
    assert all((folder / place).exists() for place in environment.OUTSIDE)


def test_peak_memory_is_not_that_of_what_ran_before() -> None:
    """Freed memory is kept for what is allocated next, and would count for the next row of a table."""
    code = """
import torch
from recgraph.environment import keep_freed_memory, peak_memory, reset_peak_memory
keep_freed_memory()
before = [torch.ones(2**20) for _ in range(256)]  # 1 GB
del before
high = peak_memory()
reset_peak_memory()
print(high, peak_memory())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    high, low = map(int, done.stdout.split())
    assert high > 1100
    assert low < 700
