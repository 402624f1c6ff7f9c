"""Finished runs: their results, whether these are current, and what they have trained for other runs."""

from __future__ import annotations

import glob
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from recgraph.environment import code_digest
from recgraph.errors import DataError
from recgraph.experiments.experiment import Run
from recgraph.experiments.fitting import LAST, REFIT
from recgraph.experiments.task import Task
from recgraph.files import replacing, undamaged, write_json
from recgraph.registry import packages

logger = logging.getLogger(__name__)

Result = dict[str, Any]
"""The content of `result.json`."""

ATTRIBUTES = "attributes_fingerprint"
"""Key in `result.json` of the fingerprint of the attributes that a run reads; absent if it reads none."""

AFTER = ("evaluate", "refit", "blend")
"""Blocks that are first read after training; but `evaluate.parity` ranks during training."""

LENGTH = ("max_epochs", "patience", "checkpoint_every")
"""Entries of `train:` that say which epoch is the last and which are saved."""


def read_result(folder: Path) -> Result:
    """The result of a finished run.

    Raises:
        DataError: the file is damaged.
    """
    try:
        result: Result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if missing := {"row", "seconds", "test"} - result.keys():
            raise ValueError(f"no {min(missing)!r} in it")
    except (ValueError, AttributeError) as error:
        raise DataError(f"{folder / 'result.json'}: damaged: {error}; delete it to finish the run again") from None
    return result


@cache
def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of a finished run, which does not change."""
    with undamaged(folder / "config.yaml") as path:
        config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        if missing := {"evaluate", "split"} - config.keys():
            raise ValueError(f"no {min(missing)!r} in it")
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


def trained(run: Run, root: Path, task: Callable[[], Task]) -> list[Path]:
    """Folders of finished runs whose training is that of `run` or its beginning, the one that spares most first.

    Training is the same whichever row it is for and whatever is measured, fitted again or blended when it has ended.
    At a constant rate, a shorter training is the beginning of a longer one. They are of the current data and code, and
    of the same kind of device.

    Args:
        run: the run to be trained.
        root: folder of all runs.
        task: returns its task; called only if there is such a run.
    """
    if "baseline" in run.config:
        return []
    found = {}
    for path in root.glob(f"*/*/{glob.escape(run.dataset)}/*/seed-{run.seed}/result.json"):
        folder = path.parent
        try:
            result = read_result(folder)
            if not begins(config_of(folder), run.config, result) or not is_current(result, task(), run.config):
                continue
            if torch.device(result["device"]).type == task().device.type and (folder / LAST).is_file():
                found[folder] = (run.config["refit"] and (folder / REFIT).is_file(), result["epochs"])
        except Exception as error:  # what is wrong there must not stop this run
            logger.warning("%s: is not taken over: %s: %s", folder, type(error).__name__, error)
    return sorted(found, key=lambda folder: found[folder], reverse=True)


def begins(one: Mapping[str, Any], other: Mapping[str, Any], result: Result) -> bool:
    """Whether the training of a finished run is that by another configuration, or the beginning of it.

    Args:
        one: configuration of the finished run.
        other: the other configuration.
        result: result of the finished run.
    """
    if "baseline" in one or _before(one) != _before(other) or one["evaluate"]["parity"] or other["evaluate"]["parity"]:
        return False
    short, long, epochs = one["train"], other["train"], result["epochs"]
    if min(short["patience"], epochs) > long["patience"] or epochs > long["max_epochs"]:
        return False
    # The last epoch is always validated: the longer run must validate there as well.
    alike = long["schedule"] == "constant" and epochs % long["validate_every"] == 0
    return alike or short["max_epochs"] == long["max_epochs"]


def will_spare(working: Run, run: Run) -> bool:
    """Whether `run`, if it begins after `working` has ended, need not train what `working` trains now."""
    if (working.dataset, working.seed) != (run.dataset, run.seed):
        return False
    if "baseline" in working.config or "baseline" in run.config:
        return False
    return begins(working.config, run.config, {"epochs": working.config["train"]["max_epochs"]})


def _before(config: Mapping[str, Any]) -> str:
    """What training depends on but its length, as JSON: parameters are in the order in which a file has their names."""
    found = {block: value for block, value in config.items() if block not in AFTER}
    found["train"] = {name: value for name, value in config["train"].items() if name not in LENGTH}
    if "pretrained" in found:
        sources = {part: source["config"] for part, source in found["pretrained"].items()}
        found["pretrained"] = {
            part: [_before(each), each["train"]["max_epochs"], each["train"]["patience"]]
            for part, each in sources.items()
        }
    return json.dumps(found)


def take_over(run: Run, root: Path, here: Path, task: Task) -> None:
    """Copy the checkpoints and logs of the first intact run that is `trained` alike, `LAST` as the last of them.

    `env.json` is that run's, and names it.
    """
    for there in trained(run, root, lambda: task):
        try:
            environment = _intact(there)
            paths = [there / name for name in ("metrics.jsonl", "refit.jsonl")]
            paths += sorted((there / "checkpoint").rglob("*"), key=lambda path: path == there / LAST)
            for path in filter(Path.is_file, paths):
                with replacing(here / path.relative_to(there)) as temporary:
                    shutil.copyfile(path, temporary)
            write_json(here / "env.json", environment)
        except Exception as error:  # as in `trained`
            logger.warning("%s: is not taken over: %s: %s", there, type(error).__name__, error)
        else:
            logger.warning("%s: takes over what %s has trained", here, there)
            return


def _intact(folder: Path) -> dict[str, Any]:
    """The environment of a finished run, with its folder and peak memory under `taken_over`.

    Raises:
        DataError: the checkpoint or the log ends before the run did; damaged files raise errors of their own.
    """
    result = read_result(folder)
    epochs = torch.load(folder / LAST, map_location="cpu", weights_only=True)["progress"]["epoch"]
    log = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    if epochs != result["epochs"] or log != list(range(1, epochs + 1)):
        raise DataError(f"the run has {result['epochs']} epochs, its checkpoint {epochs} and metrics.jsonl {len(log)}")
    environment: dict[str, Any] = json.loads((folder / "env.json").read_text(encoding="utf-8"))
    source = {"folder": str(folder), "peak_memory_mib": result["peak_memory_mib"]}
    return environment | {"taken_over": source}
