"""What wandb itself writes, read back: configuration, curves, summary; resuming, and going on without a network."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from recgraph.errors import ConfigError
from recgraph.experiments.experiment import Run, plan
from recgraph.experiments.running import fit
from recgraph.experiments.task import Task
from recgraph.training.trackers import JsonLines, Record, Tracker
from recgraph.training.weights_biases import WeightsAndBiases, log_table
from recgraph.tuning.search import searches
from recgraph.tuning.studies import Options
from recgraph.tuning.trials import tune

pytest.importorskip("wandb")
CPU = torch.device("cpu")
RESULT = {
    "table": "toy", "row": "LightGCN", "dataset": "toy", "seed": 0, "config_hash": "0123456789", "best_epoch": 4,
    "data_fingerprint": "f" * 64, "train_seconds": 1.25, "device": "cpu", "commit": "abc", "peak_memory_mib": None,
    "validation": {"ndcg@10": 0.25}, "test": {"ndcg@10": 0.5, "recall@10": 0.125},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _own_process_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """wandb reads its variables once a process; none may lead to the home folder or to a key."""
    import wandb

    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name)))
        patch.setenv("NETRC", str(tmp_path_factory.mktemp("netrc") / "none"))
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.setenv("WANDB_MODE", "disabled")  # what the user asks recgraph for goes before
        wandb.teardown()
        yield
        wandb.teardown()


def records(folder: Path) -> list[Any]:
    """What the only log below `folder` holds; wandb's process ends it a moment after the run."""
    for _ in range(100):
        (path,) = (folder / "wandb").glob("*run-*/run-*.wandb")
        found = parse(path.read_bytes())
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} never ended")


def parse(data: bytes) -> list[Any]:
    """The protocol buffers in a LevelDB log: blocks of 32 KiB, records cut to fit them, the last perhaps torn.

    Format: https://github.com/google/leveldb/blob/main/doc/log_format.md, after seven bytes of wandb's own.
    """
    from wandb.proto import wandb_internal_pb2

    position, part, found = 7, b"", []
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # no room for a header: padding
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += 7 + length
        if position > len(data):
            break
        part += data[position - length : position]
        if kind in (1, 4):  # whole, or the last piece
            found.append(wandb_internal_pb2.Record.FromString(part))
            part = b""
    return found


def of(folder: Path, kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records(folder) if record.WhichOneof("record_type") == kind]


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def curves(folder: Path) -> dict[int, dict[str, float]]:
    """Step -> what was logged, but for wandb's own columns; a step may come once only."""
    steps = [(history.step.num, values(history.item)) for history in of(folder, "history")]
    assert len(dict(steps)) == len(steps)
    return {step: {key: value for key, value in row.items() if key[0] != "_"} for step, row in steps}


def summary(folder: Path) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for update in of(folder, "summary"):
        merged |= values(update.update)
    return merged


def logged(folder: Path) -> dict[int, dict[str, float]]:
    """What the curves should be, from the file that recgraph writes itself."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {
        line["epoch"]: {"epoch_seconds": line["seconds"]}
        | {f"loss/{role}": value for role, value in line["losses"].items()}
        | {f"validation/{metric}": value for metric, value in line.get("validation", {}).items()}
        for line in lines
    }


class Dies(Tracker):
    """Interrupts training once an epoch is done."""

    def __init__(self, at: int) -> None:
        self.at = at

    def epoch(self, record: Record) -> None:
        if record["epoch"] == self.at:
            raise KeyboardInterrupt


def train(run: Run, folder: Path, *others: Tracker, **options: Any) -> torch.Tensor:
    """Train with tracking; returns the model's scores."""
    task = Task.load(run.dataset, run.config["split"], CPU)
    folder.mkdir(parents=True, exist_ok=True)
    tracker = WeightsAndBiases(run, folder, **options)
    try:
        model, _ = fit(run, task, folder, [JsonLines(folder / "metrics.jsonl"), tracker, *others])
        tracker.result(RESULT)
    finally:
        tracker.close()
    with torch.no_grad():
        return model.eval().scorer()(torch.arange(60))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What recgraph warns of."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("recgraph")]


def test_a_run_is_mirrored_whole(toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import wandb

    (run,) = plan(toy, rows=["LightGCN"], seeds=[0])
    train(run, Path("run"), project="mine")
    (record,) = of(Path("run"), "run")
    assert (record.project, record.run_group, record.display_name) == ("mine", "toy", "LightGCN/toy/0")
    assert record.run_id == Path("run/wandb/id").read_text().strip()
    config = values(record.config.update)
    assert config["encoder.dim"] == 8
    assert config["objectives.l2.weight"] == 1e-4
    assert config["objectives.rank.name"] == "bpr"
    assert config["evaluate.metrics"] == ["recall@10", "ndcg@10", "coverage@10"]
    assert (config["row"], config["dataset"], config["seed"]) == ("LightGCN", "toy", 0)
    assert curves(Path("run")) == logged(Path("run"))
    assert [step for step, row in curves(Path("run")).items() if "validation/ndcg@10" in row] == [2, 4, 6, 8, 10, 12]
    ended = summary(Path("run"))
    assert ended.items() >= {
        "test/ndcg@10": 0.5, "test/recall@10": 0.125, "validation/ndcg@10": 0.25, "best_epoch": 4, "commit": "abc",
        "train_seconds": 1.25, "device": "cpu", "config_hash": "0123456789", "data_fingerprint": "f" * 64,
    }.items()  # fmt: skip
    (exit_,) = of(Path("run"), "exit")
    assert exit_.exit_code == 0
    assert not list(Path().glob("wandb*"))
    assert wandb.run is None
    assert capfd.readouterr() == ("", "")


def test_a_resumed_run_goes_on_under_its_id_and_tells_every_epoch_once(toy: Path) -> None:
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0])
    with pytest.raises(KeyboardInterrupt):
        train(run, Path("run"), Dies(7))  # the checkpoint is of epoch 6
    (before,), (exit_,) = of(Path("run"), "run"), of(Path("run"), "exit")
    assert exit_.exit_code == 1
    assert list(curves(Path("run"))) == list(range(1, 8))
    train(run, Path("run"))
    (after,) = of(Path("run"), "run")
    assert after.run_id == before.run_id
    assert list(curves(Path("run"))) == list(range(1, 13))
    assert curves(Path("run")) == logged(Path("run"))


def test_epochs_of_another_run_do_not_continue_what_the_server_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("recgraph.training.weights_biases._open", lambda *options: asked.append(options[3]))
    for epoch in (0, 3):
        WeightsAndBiases(Run("t", "row", "data", 0, {}), tmp_path / "own").start(epoch, 9, 0.0)
    WeightsAndBiases(Run("t", "row", "data", 0, {}), tmp_path / "taken over").start(3, 9, 0.0)
    assert asked == [None, "allow", None]


def test_a_pruned_trial_has_not_failed(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.write_text(toy.read_text() + "search: {LightGCN: {train.lr: [0.01]}}\n")
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda _: True)
    tune(searches(toy), Options(Path("runs"), CPU, trials=1, track="offline"))
    (folder,) = Path("runs").rglob("trial-0")
    assert list(curves(folder)) == [1, 2]  # to the first validation
    assert summary(folder)["state"] == "pruned"
    (exit_,) = of(folder, "exit")
    assert exit_.exit_code == 0


def test_runs_one_after_another_are_runs_of_their_own(toy: Path) -> None:
    runs = [
        *plan(toy, rows=["LightGCN"]),
        *plan(toy, rows=["LightGCN"], seeds=[0], overrides={"encoder.dim": 4}),
        *plan(toy, rows=["popularity"], seeds=[0]),
    ]
    for number, run in enumerate(runs):
        train(run, Path(f"run{number}"))
    started = [of(Path(f"run{number}"), "run")[0] for number in range(len(runs))]
    assert len({record.run_id for record in started}) == len(runs) == 4
    assert [values(record.config.update).get("encoder.dim") for record in started] == [8, 8, 4, None]
    assert curves(Path("run3")) == {}  # a baseline has no epochs
    assert summary(Path("run3"))["test/ndcg@10"] == 0.5


def test_tracking_changes_no_figure(toy: Path) -> None:
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0])
    model, _ = fit(run, Task.load("toy", run.config["split"], CPU), Path("bare"), [])
    with torch.no_grad():
        bare = model.eval().scorer()(torch.arange(60))
    assert torch.equal(train(run, Path("tracked")), bare)


def test_the_final_table_is_an_artifact_of_its_own_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    csv = tmp_path / "results.csv"
    csv.write_text("row,value\nLightGCN,0.5\n")
    log_table("ml-100k: all", csv, tmp_path / "table")
    (record,), (artifact,) = of(tmp_path / "table", "run"), of(tmp_path / "table", "artifact")
    assert (record.run_group, record.job_type, record.display_name) == ("ml-100k: all", "table", "ml-100k: all")
    assert (artifact.type, artifact.name) == ("table", "table-ml-100k--all")
    (entry,) = artifact.manifest.contents
    assert entry.path == "results.csv"
    assert entry.size == csv.stat().st_size
    assert warnings(caplog) == []


def test_without_wandb_the_error_names_the_extra(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0])
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"needs wandb: pip install 'recgraph\[wandb\]'"):
        WeightsAndBiases(run, Path("run"))


def test_what_breaks_in_wandb_does_not_break_the_run(toy: Path, caplog: pytest.LogCaptureFixture) -> None:
    import wandb

    class Breaks(Tracker):
        def epoch(self, record: Record) -> None:
            if record["epoch"] == 3:
                wandb.teardown()  # the service is gone, as when it is killed

    (run,) = plan(toy, rows=["LightGCN"], seeds=[0])
    train(run, Path("run"), Breaks())
    assert len(logged(Path("run"))) == 12
    (warning,) = warnings(caplog)
    assert warning.startswith("run: Weights & Biases failed, the run goes on untracked: ")


ONLINE = """
import logging, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from recgraph.experiments.experiment import Run
from recgraph.training.weights_biases import WeightsAndBiases

logging.basicConfig(format="%(message)s")
for name, seed, mode in [("off0", 2, "offline"), ("off1", 3, "offline"), ("run0", 0, "online"), ("run1", 1, "online")]:
    tracker = WeightsAndBiases(Run("table", "row", "data", seed, {}), Path(name), mode=mode)
    started = time.perf_counter()
    tracker.start(0, 1, 0.0)
    tracker.epoch({"epoch": 1, "seconds": 0.5, "losses": {"rank": 0.25}})
    tracker.result({"test": {"ndcg@20": 0.5}})
    print(time.perf_counter() - started)
print(time.perf_counter(), flush=True)
"""


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def strict_server() -> Iterator[str]:
    """Answers everything with 401."""
    code = (
        "import http.server as h\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        self.rfile.read(int(self.headers['content-length'] or 0))\n"
        "        self.send_error(401)\n"
        "    do_GET = do_POST\n"
        "server = h.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
        "print(server.server_address[1], flush=True)\n"
        "server.serve_forever()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.terminate()


def online(folder: Path, url: str, key: str = "") -> tuple[list[float], list[str]]:
    """Seconds that two runs took longer than one that is offline from the start, and the lines on stderr.

    All in one fresh process, where a run before them has started wandb's own: a busy machine slows both down.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment = {**kept, "WANDB_BASE_URL": url, "HOME": str(folder), "NETRC": str(folder / "none")}
    done = subprocess.run(
        [sys.executable, "-c", ONLINE],
        env={**environment, **({"WANDB_API_KEY": key} if key else {})},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    _, offline, *seconds, over = map(float, done.stdout.splitlines())
    assert time.perf_counter() - over < 10  # an end that waits for nothing; the clock is the system's
    for seed in (0, 1):
        assert curves(folder / f"run{seed}") == {1: {"epoch_seconds": 0.5, "loss/rank": 0.25}}
        assert summary(folder / f"run{seed}")["test/ndcg@20"] == 0.5
    return [each - offline for each in seconds], done.stderr.splitlines()


def test_online_without_a_key_falls_back_at_once(tmp_path: Path, strict_server: str) -> None:
    seconds, lines = online(tmp_path, strict_server)
    assert max(seconds) < 3
    assert len(lines) == 2
    assert f"offline, for there is no key for {strict_server}" in lines[0]


def test_online_without_a_network_falls_back_at_once(tmp_path: Path) -> None:
    seconds, lines = online(tmp_path, "http://127.0.0.1:9", "0" * 40)
    assert max(seconds) < 3
    assert len(lines) == 2
    assert "offline, for http://127.0.0.1:9 cannot be reached" in lines[0]


def test_online_with_a_key_that_is_refused_falls_back(tmp_path: Path, strict_server: str) -> None:
    seconds, lines = online(tmp_path, strict_server, "0" * 40)
    assert max(seconds) < 5
    assert "Weights & Biases is offline, for CommError" in lines[0]


def test_online_at_a_server_that_hangs_falls_back_in_seconds(tmp_path: Path, silent_server: str) -> None:
    seconds, lines = online(tmp_path, silent_server, "0" * 40)
    assert max(seconds) < 6
    assert f"{silent_server} cannot be reached" in lines[0]
