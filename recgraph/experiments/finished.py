"""Finished runs: their results, whether these are current, and what they have trained for other runs."""

from __future__ import annotations

import glob
import json
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from recgraph.environment import code_digest
from recgraph.errors import DataError
from recgraph.experiments.experiment import Run
from recgraph.experiments.task import Task
from recgraph.files import replacing
from recgraph.registry import packages

Result = dict[str, Any]
"""The content of `result.json`."""

ATTRIBUTES = "attributes_fingerprint"
"""Key in `result.json` of the fingerprint of the attributes that a run reads; absent if it reads none."""

AFTER = ("evaluate", "refit", "blend")
"""Blocks that are first read after training; but `evaluate.parity` ranks during training."""

LAST = Path("checkpoint/last.pt")
"""Path of the checkpoint of training, below the folder of a run."""

LENGTH = ("max_epochs", "patience", "checkpoint_every")
"""Entries of `train:` that say which epoch is the last and which are saved."""


def read_result(folder: Path) -> Result:
    """The result of a finished run.

    Raises:
        DataError: the file is damaged.
    """
    try:
        result: Result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{folder / 'result.json'}: damaged: {error}; delete it to finish the run again") from None
    return result


@cache
def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of a finished run, which does not change."""
    config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return config


def is_current(result: Result, task: Task, config: Mapping[str, Any], *, any_code: bool = False) -> bool:
    """Whether a result comes from the current data and the current code, that of other packages' components included.

    Args:
        result: result of a run.
        task: the current data.
        config: configuration of the run, which names the attributes to compare.
        any_code: accept other code, including code that did not record the attributes it read.
    """
    same_code = any_code or result["code"] == code_digest(packages(config))
    if result["data_fingerprint"] != task.fingerprint or not same_code:
        return False
    return ATTRIBUTES not in result or bool(result[ATTRIBUTES] == task.attributes(config))


def trained(run: Run, root: Path, task: Task, *, any_code: bool) -> Path | None:
    """The folder of a current, finished run whose training is that of `run` or its beginning; the longest if several.

    Training is the same whichever row it is for and whatever is measured, fitted again or blended when it has ended.
    At a constant rate, a shorter training is the beginning of a longer one.
    """
    if "baseline" in run.config:
        return None
    found = {}
    for path in root.glob(f"*/*/{glob.escape(run.dataset)}/*/seed-{run.seed}/result.json"):
        try:
            if not begins(config_of(path.parent), plain(run.config)):
                continue
            result = read_result(path.parent)
        except (OSError, yaml.YAMLError, DataError):  # what is wrong there concerns the row that it is of
            continue
        if (path.parent / LAST).is_file() and is_current(result, task, run.config, any_code=any_code):
            found[path.parent] = result["epochs"]
    return max(found, key=lambda folder: found[folder], default=None)


def begins(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether training by configuration `one` is that by `other`, or the beginning of it."""
    if "baseline" in one or _before(one) != _before(other) or one["evaluate"]["parity"] or other["evaluate"]["parity"]:
        return False
    short, long = one["train"], other["train"]
    if any(short.get(name) != long.get(name) for name in {*short, *long}.difference(LENGTH)):
        return False
    if short["patience"] > long["patience"] or short["max_epochs"] > long["max_epochs"]:
        return False
    # The last epoch is always validated: the longer run must validate there as well.
    goes_on = long["schedule"] == "constant" and short["max_epochs"] % short["validate_every"] == 0
    return goes_on or short["max_epochs"] == long["max_epochs"]


def _before(config: Mapping[str, Any]) -> dict[str, Any]:
    """What training depends on, but for `train`."""
    found = {block: value for block, value in config.items() if block not in (*AFTER, "train")}
    if "pretrained" in found:
        sources = {part: source["config"] for part, source in found["pretrained"].items()}
        found["pretrained"] = {part: _before(each) | {"train": each["train"]} for part, each in sources.items()}
    return found


def take_over(there: Path, here: Path) -> None:
    """Copy the checkpoints, logs and environment of a finished run; `LAST` is last, a sign that nothing is missing."""
    logs = [there / name for name in ("env.json", "metrics.jsonl", "refit.jsonl")]
    paths = [path for path in (*logs, *(there / "checkpoint").rglob("*")) if path.is_file()]
    for path in sorted(paths, key=lambda path: path == there / LAST):
        with replacing(here / path.relative_to(there)) as temporary:
            shutil.copyfile(path, temporary)


def plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    return json.loads(json.dumps(value))
