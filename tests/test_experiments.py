"""Every experiment file in the repository is valid, and every kind of row runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Settings, execute
from recgraph.experiments.toy import ToyTask, smoke

FILES = sorted((Path(__file__).resolve().parent.parent / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_valid(path: Path) -> None:
    runs = plan(path)
    assert len({run.folder(Path()) for run in runs}) == len(runs)


def _kind(value: Any) -> Any:
    """A configuration without its numbers."""
    if isinstance(value, dict):
        return {key: _kind(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_kind(part) for part in value]
    return value if isinstance(value, bool | str | None) else "number"


def _rows() -> list[tuple[Path, str]]:
    """Of rows that only numbers tell apart, the first: those of ablations, and the same model on other data."""
    found: dict[str, tuple[Path, str]] = {}
    for path in FILES:
        for run in plan(path):
            found.setdefault(json.dumps(_kind(run.config), sort_keys=True), (path, run.row))
    return list(dict.fromkeys(found.values()))


ROWS = _rows()


@pytest.mark.parametrize(("path", "row"), ROWS, ids=lambda value: str(getattr(value, "stem", value)))
def test_every_kind_of_row_runs_on_a_toy(path: Path, row: str, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    run = smoke(plan(path, rows=[row], seeds=[0])[0])
    task = ToyTask(cpu, clicks="clicks" in run.config)
    result = execute(run, tmp_path, settings=Settings(cpu), console=Console(), task=task)
    found = {**result["test"], **result.get("labels", {}).get("test", {})}
    assert set(result["test"]) == set(run.config["evaluate"]["metrics"])
    assert "clicks" in run.config or all(0 <= value <= 1 for value in found.values())
    assert result["test"].get("ndcg@20:cold", 1) > 0 or row == "popularity"
    assert json.loads((run.folder(tmp_path) / "result.json").read_text()) == result


def test_options_that_want_more_data_or_epochs_are_made_small_for_a_toy(tmp_path: Path) -> None:
    changes = {
        "objectives.ssl": {"name": "view_contrast", "view": {"name": "svd", "rank": 500}, "anchors": "shared"},
        "objectives.more": {"name": "prototype_contrast", "clusters": 900, "warm_up": 30},
        "train.max_epochs": 60,
    }
    file = next(path for path in FILES if path.name == "ml100k_contrast.yaml")
    run = smoke(plan(file, rows=["LightGCN"], seeds=[0], overrides=changes)[0])
    cpu = torch.device("cpu")
    execute(run, tmp_path, settings=Settings(cpu), console=Console(), task=ToyTask(cpu))
    first, second = (json.loads(line) for line in (run.folder(tmp_path) / "metrics.jsonl").read_text().splitlines())
    assert first["losses"]["more"] == 0 < second["losses"]["more"]
    assert second["losses"]["ssl"] > 0
