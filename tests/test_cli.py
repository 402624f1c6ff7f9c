"""The command line, as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recgraph import cli, registry
from recgraph.cli.common import read_newcomers
from recgraph.experiments.experiment import plan
from recgraph.files import locked, write_text


@pytest.fixture
def recgraph(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run a command; returns (exit code, output, errors)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "200")
        try:
            cli.main(arguments)
            code = 0
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        return code, *capsys.readouterr()

    return run


def test_train_prints_the_table(recgraph, toy: Path) -> None:
    code, output, _ = recgraph("train", str(toy), "--seeds", "0,1")
    assert code == 0
    assert "| LightGCN" in output
    assert "mean over seeds 0, 1 ± standard deviation" in output
    again = recgraph("train", str(toy), "--seeds", "0,1")[1]
    assert [line for line in again.splitlines() if line.startswith("|")] == [
        line for line in output.splitlines() if line.startswith("|")
    ]


def test_overrides_select_and_change(recgraph, toy: Path) -> None:
    arguments = (
        "train.max_epochs=2",
        "train.patience=2",
        "objectives.l2=null",
        "--rows",
        "LightGCN,BPR-MF",
        "--seeds",
        "3",
    )
    code, output, _ = recgraph("train", str(toy), *arguments)
    assert code == 0
    assert "[2/2]" in output
    assert "| popularity" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("encodr.dim=3", "--rows", "LightGCN"), "no 'encodr' here. Did you mean 'encoder'?"),
        (("encoder.dim", "--rows", "LightGCN"), "encoder.dim: expected PATH=VALUE"),
        (("encoder.dim=3", "encoder.dim=4"), "encoder.dim: given twice, as 3 and as 4"),
        (("seed=3",), "seed: a setting of the command, not of a run: give --seeds"),
        (("objectives.rank=null", "--rows", "LightGCN"), "objectives: l2 alone would learn nothing from the data"),
        (
            ("objectives.rank={name: bpr, weight: 0}", "--rows", "LightGCN"),
            "rank (weight 0), l2 alone would learn nothing",
        ),
        (("--rows", "LightGNC"), "no row 'LightGNC'. Did you mean 'LightGCN'?"),
        (("--datasets", "ml-100"), "no dataset 'ml-100'. Did you mean 'ml-100k'?"),
        (("--device", "gpu"), "--device gpu: cannot be used here"),
        (("--device", "meta"), "--device meta: cannot be used here"),
        (("--seeds", "one"), "--seeds: expected whole numbers separated by commas, got 'one'"),
    ],
)
def test_mistakes_end_in_one_line_and_an_exit_code(recgraph, toy: Path, arguments: tuple, message: str) -> None:
    code, _, errors = recgraph("train", str(toy), *arguments)
    assert code == 1
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["train", "table"])
def test_a_folder_of_runs_that_cannot_be_made_is_one_line_too(recgraph, toy: Path, command: str) -> None:
    Path("taken").write_text("a file")
    code, _, told = recgraph(command, str(toy), "--rows", "popularity", "--seeds", "0", "--runs", "taken")
    assert code == 1
    assert "Traceback" not in told
    assert "error: --runs taken: expected a folder that can be written to: File exists" in told


def test_a_table_that_lacks_a_run_replaces_none_that_has_it(
    recgraph, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("table", str(toy), "--rows", "popularity", "--results", "kept", "--seeds")
    assert recgraph(*arguments, "0")[0] == 0
    before = Path("kept/toy.csv").read_text()
    monkeypatch.setattr("recgraph.baselines.popularity.Popularity.fit", lambda *_: 1 / 0)
    assert recgraph(*arguments, "0,1")[0] == 1
    assert Path("kept/toy.csv").read_text() == Path("runs/toy/toy.csv").read_text() == before
    assert Path("kept/toy.csv").stat().st_mtime_ns < Path("runs/toy/toy.csv").stat().st_mtime_ns


def test_a_run_of_another_process_is_told_by_no_old_error(recgraph, toy: Path) -> None:
    (run,) = plan(toy, rows=["popularity"], seeds=[0])
    folder = run.folder(Path("runs"))
    write_text(folder / "error.txt", "of an earlier attempt")
    with locked(folder):
        code, _, told = recgraph("train", str(toy), "--rows", "popularity", "--seeds", "0")
    assert code == 1
    assert told.endswith("1 of 1 runs failed:\n  popularity · toy · seed 0: another process is at work here\n")


def test_settings_of_some_rows_do_not_stop_the_page(recgraph, toy: Path) -> None:
    code, _, told = recgraph("table", str(toy), "encoder.num_layers=1", "--rows", "LightGCN", "--seeds", "0")
    assert code == 0
    assert all(line.startswith("LightGCN · toy · seed 0 · epoch ") for line in told.splitlines())
    assert Path("runs/toy/part.html").exists()


def test_results_that_cannot_be_written_are_refused_before_anything_runs(recgraph, toy: Path) -> None:
    Path("taken").write_text("a file")
    code, _, told = recgraph("table", str(toy), "--rows", "popularity", "--seeds", "0", "--results", "taken")
    assert (code, told) == (1, "error: --results taken: expected a folder that can be written to: File exists\n")
    assert not list(Path("runs").rglob("*"))


def test_files_that_cannot_be_written_are_one_line(recgraph, toy: Path) -> None:
    recgraph("train", str(toy), "--rows", "LightGCN", "--seeds", "0")
    (folder,) = (str(path.parent) for path in Path("runs").rglob("model.json"))
    Path("taken").write_text("a file")
    Path("folder").mkdir()
    for arguments, message in (
        (("report", str(toy), "--to", "folder"), "folder: Is a directory"),
        (("export", folder, "--to", "taken"), "taken: File exists"),
        (("explain", folder, "--user", "u3", "--to", "taken"), "taken: File exists"),
    ):
        code, _, told = recgraph(*arguments)
        assert (code, told) == (1, f"error: {message}\n")


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_nobody_is_no_number_of_workers(recgraph, toy: Path, more: tuple[str, ...]) -> None:
    code, _, told = recgraph("table", str(toy), "--workers", "0", *more)
    assert (code, told) == (1, "error: --workers: expected a number above 0, got 0\n")


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--smoke",)])
def test_no_command_runs_on_another_device_than_was_asked_for(recgraph, toy: Path, more: tuple[str, ...]) -> None:
    code, _, told = recgraph("table", str(toy), "--device", "cuda:99", *more)
    assert code == 1
    assert told.startswith("error: --device cuda:99: cannot be used here")


def test_evaluate_recommend_and_export(recgraph, toy: Path) -> None:
    recgraph("train", str(toy), "--rows", "LightGCN", "--seeds", "0")
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0])
    folder = str(run.folder(Path("runs")))
    code, output, _ = recgraph("evaluate", folder, "--metrics", "ndcg@10,map@5")
    assert code == 0
    assert "map@5" in output
    code, output, _ = recgraph("recommend", folder, "--user", "u7", "-k", "3")
    assert code == 0
    assert output.count("│ i") == 3
    code, _, errors = recgraph("recommend", folder, "--user", "nobody")
    assert code == 1
    assert "unknown id 'nobody'" in errors
    code, output, errors = recgraph("export", folder)
    assert code == 0
    assert np.load(Path(folder) / "export" / "items.npy").shape == (40, 8)
    assert "inner products" not in output + errors  # they are the scores
    changes = ("train.max_epochs=2", "train.patience=2", "heads.rank=cosine")
    recgraph("train", str(toy), *changes, "--rows", "LightGCN", "--seeds", "0", "--runs", "cosines")
    (made,) = Path("cosines").glob("toy/LightGCN/toy/*/seed-0")
    assert "scores these vectors by its head Cosine, not by inner products" in recgraph("export", str(made))[2]
    (made / "result.json").write_text("{")
    assert "result.json: damaged: " in recgraph("evaluate", str(made))[2]


def test_a_pattern_that_gives_several_runs_is_told_what_sets_them_apart(recgraph, toy: Path) -> None:
    for rate in ("0.01", "0.02"):
        options = (f"train.lr={rate}", "train.max_epochs=1", "train.patience=1", "train.validate_every=1")
        assert recgraph("train", str(toy), "--rows", "LightGCN", "--seeds", "0", *options)[0] == 0
    folders = sorted(str(path.parent) for path in Path("runs").rglob("model.json"))
    code, _, told = recgraph("recommend", *folders, "--user", "3")
    assert code == 1
    assert "these are 2 runs; give one of them" in told
    assert {line.split()[0] for line in told.splitlines()[1:]} == set(folders)
    assert all(f"train.lr: {rate}" in told for rate in ("0.01", "0.02"))
    assert "max_epochs" not in told


def test_rows_and_files_may_have_names_that_look_like_patterns(recgraph, toy: Path) -> None:
    name = "a [b*] [/x] ?"
    toy.write_text(toy.read_text().replace("  BPR-MF:", f"  {name}:") + f"against: {name}\n")
    options = ("--rows", f"{name},popularity", "--seeds", "0")
    code, output, problem = recgraph("table", str(toy), *options)
    assert code == 0, problem
    assert f"differences from {name}" in output
    (folder,) = (str(path.parent) for path in Path("runs").rglob("model.json") if "[" in str(path))
    code, output, problem = recgraph("recommend", folder, "--user", "u7", "-k", "3")
    assert (code, output.count("│ i")) == (0, 3), problem
    code, output, problem = recgraph("table", str(toy), "--dry-run", *options)
    assert f"{name} · toy · seed 0" in output, problem
    frame = pl.DataFrame({"id": ["007"]})
    frame.write_csv("new [1].csv")
    frame.write_parquet("new [1].parquet")
    for suffix in ("csv", "parquet"):
        assert read_newcomers(Path(f"new [1].{suffix}")).equals(frame)


def test_list_shows_every_kind(recgraph, toy: Path) -> None:
    code, output, _ = recgraph("list")
    assert code == 0
    kinds = [kind for kind, value in vars(registry).items() if isinstance(value, registry.Registry)]
    assert len(kinds) == 9
    for kind in kinds:
        for name in (kind, *getattr(registry, kind).components()):
            assert name in output, name
    for name in ("init", "ndcg@K", "coverage@K", "log_loss", ":harmonic", "ml-100k", "toy"):
        assert name in output, name


def test_list_shows_all_of_a_component(recgraph) -> None:
    code, output, _ = recgraph("list", "view_contrast")
    assert code == 0
    for text in (
        "https://arxiv.org/abs/2112.08679",
        "every: how often",
        "one of 'batch', 'all'",
        "a number above 0 or None",
    ):
        assert text in output, text
    both = recgraph("list", "popularity")[1]
    assert "sampler popularity" in both
    assert "baseline popularity" in both
    assert " init " in recgraph("list", "gat")[1]
    assert recgraph("list", "veiw_contrast")[2] == (
        "error: no component 'veiw_contrast'. Did you mean 'view_contrast'?\n"
    )


def test_data_commands(recgraph, toy: Path) -> None:
    code, output, _ = recgraph("data", "info", "toy")
    assert code == 0
    assert "60" in output
    code, output, _ = recgraph("data", "fetch", "toy")
    assert "toy: 60 users, 40 items" in output
    code, _, errors = recgraph("data", "info", "tooy")
    assert code == 1
    assert "no dataset 'tooy'. Did you mean 'toy'?" in errors
    Path("mine.csv").write_text("a,b\n1,2\n1,3\n2,3\n")
    code, _, errors = recgraph("data", "import", "mine.csv", "--user", "a", "--item", "c")
    assert code == 1
    code, output, _ = recgraph("data", "import", "mine.csv", "--user", "a", "--item", "b", "--name", "own")
    assert code == 0
    assert "own.yaml" in output
    assert "own" in recgraph("data", "list")[1]


def test_ctrl_c_says_how_to_go_on(recgraph, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.runs, "do", stop)
    assert recgraph("train", str(toy))[::2] == (130, "stopped; the same command goes on from the last checkpoint\n")
    monkeypatch.setattr(cli.models, "reevaluate", stop)
    assert recgraph("evaluate", "a")[::2] == (130, "stopped\n")


def test_an_unknown_command_suggests(recgraph) -> None:
    code, output, errors = recgraph("trian")
    assert code != 0
    assert "train" in output + errors


def test_explain_says_where_a_score_comes_from(recgraph, toy: Path) -> None:
    toy.write_text(toy.read_text().rstrip() + "\n  ItemKNN: {baseline: item_knn}\n")
    code, output, problem = recgraph("train", str(toy), "--rows", "ItemKNN,popularity", "--seeds", "0")
    assert code == 0, problem
    folders = {path.parts[2]: path.parent for path in Path("runs").rglob("result.json")}
    code, output, _ = recgraph("explain", str(folders["ItemKNN"]), "--user", "u3", "-k", "2")
    assert code == 0
    assert len(list(Path("runs").rglob("explain/user-u3-item-*.json"))) == 1
    assert len(list(Path("runs").rglob("explain/user-u3-item-*.svg"))) == 1
    assert len(list(Path("runs").rglob("explain/user-u3-item-*.png"))) == 1
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    parts = [float(row[2]) for row in rows]
    assert len(parts) == 3  # two items and the others
    assert sum(parts) == pytest.approx(float(output.split("score ")[1].split()[0]), abs=2e-4)
    code, _, problem = recgraph("explain", str(folders["ItemKNN"]), "--user", "u3", "-k", "-1")
    assert (code, problem) == (1, "error: -k: expected a number above 0, got -1\n")
    code, _, problem = recgraph("explain", str(folders["popularity"]), "--user", "u3")
    assert code == 1
    assert "Popularity: nothing to explain a score by" in problem
    for command in (("recommend", "--likes", "i1"), ("export",)):
        code, _, problem = recgraph(command[0], str(folders["popularity"]), *command[1:])
        assert code == 1
        assert "a baseline, which has no vectors and takes no new users or items" in problem


def test_a_table_is_written_in_every_form(toy: Path, recgraph) -> None:
    code, output, _ = recgraph("table", str(toy), "train.max_epochs=2", "--rows", "LightGCN,popularity", "--seeds", "0")
    assert code == 0
    folder = Path("runs") / toy.stem
    for suffix in ("csv", "md", "tex"):
        assert "LightGCN" in (folder / f"{toy.stem}.{suffix}").read_text()
    page = (folder / "part.html").read_text()
    assert page.count("popularity") > 1
    assert "train.max_epochs=2" in page
    assert str(folder / "part.html") in output.replace("\n", "")


def test_a_terminal_without_a_character_gets_another(toy: Path) -> None:
    command = [sys.executable, "-m", "recgraph", "table", str(toy), "--rows", "popularity", "--seeds", "0"]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "popularity ? toy ? seed 0" in done.stdout
    assert (Path("runs") / "toy" / "toy.md").is_file()


def test_more_workers_than_runs_are_no_faster(recgraph, toy: Path) -> None:
    recgraph("train", str(toy), "--rows", "popularity", "--seeds", "0")
    (path,) = Path("runs").rglob("result.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 600}))
    for seeds, workers, minutes in (("0,1", "8", 10), ("0,1,2", "8", 10), ("0,1,2", "1", 20)):
        options = ("--rows", "popularity", "--seeds", seeds, "--workers", workers)
        assert f"About {minutes} minutes." in recgraph("table", str(toy), "--dry-run", *options)[1]
