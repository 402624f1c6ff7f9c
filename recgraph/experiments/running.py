"""Executes one run, from configuration to result: load, split, build, train, rank, save."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from safetensors import SafetensorError

from recgraph.data.clicks import clicks_of
from recgraph.environment import environment, peak_memory, reset_peak_memory
from recgraph.errors import ConfigError, DataError, TrainingError
from recgraph.evaluation.metrics import tells_cold
from recgraph.experiments.convergence import curve, reached
from recgraph.experiments.experiment import Run
from recgraph.experiments.finished import (
    ATTRIBUTES,
    Result,
    config_of,
    is_current,
    read_result,
    take_over,
)
from recgraph.experiments.fitting import LAST, fit, labels_of, predicted, refit, sources_of
from recgraph.experiments.labelling import figures, guesses, write_predictions
from recgraph.experiments.task import Task
from recgraph.files import locked, write_json, write_yaml
from recgraph.models.blend import Blend
from recgraph.models.model import Model, catalogue_of
from recgraph.models.recommender import Recommender
from recgraph.registry import packages
from recgraph.training.trackers import JsonLines, ProgressBar, Tracker
from recgraph.training.weights_biases import WeightsAndBiases

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How runs are executed; not part of their configurations.

    Attributes:
        device: where tensors live.
        any_code: accept results of other code.
        track: mirror runs to Weights & Biases, into the run's folder (offline) or to a server.
    """

    device: torch.device
    any_code: bool = False
    track: Literal["none", "offline", "online"] = "none"


def execute(run: Run, root: Path, *, settings: Settings, console: Console, task: Task | None = None) -> Result:
    """Execute a run, or resume it, and return its result; a finished run is only read.

    The test set is ranked once, at the end, with the parameters that were best on validation (and at each validation
    with `evaluate.parity`). A result of other data or other code is moved aside, and the run is executed anew.

    Args:
        run: the run to execute.
        root: folder of all runs.
        settings: how to execute it.
        console: where progress is drawn.
        task: the run's dataset and split, if already loaded.

    Raises:
        RecgraphError: an error that the user can fix.
    """
    folder = run.folder(root)
    if task is None:
        task = Task.load(run.dataset, run.config["split"], settings.device, clicks=clicks_of(run.config))
    with locked(folder):
        if (folder / "result.json").is_file():
            result = read_result(folder)
            if is_current(result, task, run.config, any_code=settings.any_code):
                if settings.track != "none":
                    logger.warning("%s: was finished before, and is not mirrored again", folder)
                if result["row"] != run.row:  # renamed: folders of "no L2" and "no_L2" are the same
                    write_json(folder / "result.json", result := result | {"row": run.row})
                return result
            _move_aside(folder)
        trackers: list[Tracker] = [JsonLines(folder / "metrics.jsonl")]
        if "baseline" not in run.config:
            title = f"{run.row} · {run.dataset} · seed {run.seed}"
            trackers.append(ProgressBar(title, run.config["train"]["monitor"], console))
        if settings.track != "none":
            trackers.append(WeightsAndBiases(run, folder, mode=settings.track))
        for here, one in {folder: run, **{place: source for _, source, place in sources_of(run, folder)}}.items():
            if not (here / LAST).exists():
                take_over(one, root, here, task)
        try:
            result = _execute(run, task, folder, trackers)
            for tracker in trackers:
                tracker.result(result)
            return result
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"{folder}: a file of the run cannot be read or written: {error}") from error
        finally:
            for tracker in trackers:
                tracker.close()


def _execute(run: Run, task: Task, folder: Path, trackers: Sequence[Tracker]) -> Result:
    started = time.perf_counter()
    reset_peak_memory()
    write_yaml(folder / "config.yaml", run.config)
    machine = _environment(folder, task.device, run.config)
    write_json(folder / "env.json", machine)
    write_json(folder / "split.json", task.audit)
    names = run.config["evaluate"]["metrics"]
    attributes = task.attributes(run.config)
    model, progress = fit(run, task, folder, trackers)
    validation, told = task.validate(model, names), {"validation": predicted(run, task, model, "validation")}
    seconds = progress.seconds
    if run.config["refit"]:
        model, again = refit(run, task, folder, progress.best_epoch, model)
        seconds += again
    model.catalogue = catalogue_of(task.train, task.had, task.titles)
    model.observe(task.train_and_validation)
    model.save(folder)
    test = task.test(model, names, sampled=run.config["evaluate"]["sampled"])
    test.write(folder / "per_user.parquet")
    told["test"] = predicted(run, task, model, "test")
    result = {
        "table": run.table,
        "row": run.row,
        "dataset": run.dataset,
        "seed": run.seed,
        "config_hash": run.config_hash,
        "split": task.split_name,
        "data_fingerprint": task.fingerprint,
        "code": machine["code"],
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "stopped": progress.stopped,
        "refit": run.config["refit"],
        **reached(curve(folder)),
        "seconds": round(time.perf_counter() - started, 2),
        "train_seconds": round(seconds, 2),
        "eval_seconds": round(test.seconds, 2),
        "peak_memory_mib": max(peak_memory(), machine.get("taken_over", {}).get("peak_memory_mib", 0)),
        "device": str(task.device),
        "commit": machine["commit"],
        "dirty": machine["dirty"],
        "test_users": test.num_users,
        "skipped_users": test.num_skipped,
        "validation": validation.summary,
        "test": test.summary,
        "groups": task.groups(test),
    }
    if attributes is not None:
        result[ATTRIBUTES] = attributes
    if told["test"]:
        write_predictions(folder / "labels.parquet", told["test"])
        result["labels"] = {part: figures(found) for part, found in told.items()}
        result["labels"]["guessed"] = figures(guesses(labels_of(run, task, refit=run.config["refit"]), "test"))
    if progress.parity:
        result |= {"parity_epoch": progress.parity_epoch, "parity": progress.parity}
    if isinstance(model, Blend):
        result["blend_weight"] = model.weight
        model = model.recommender
    if isinstance(model, Recommender) and task.clicks is None:
        result["diagnostics"] = task.diagnose(model)
    write_json(folder / "result.json", result)
    return result


def _move_aside(folder: Path) -> None:
    """Empty a run's folder without losing anything: its content moves to a folder beside it."""
    number = next(n for n in count(1) if not (folder.parent / f"{folder.name}.old-{n}").exists())
    aside = folder.parent / f"{folder.name}.old-{number}"
    aside.mkdir()
    # The result goes last: if this is cut off, the next start goes on here, and resumes nothing of other code.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "result.json"):
        if path.name != ".lock":
            path.rename(aside / path.name)
    logger.warning("%s: was finished on other data or by other code; moved to %s", folder, aside.name)


def reevaluate(folder: Path, metrics: Sequence[str], device: torch.device) -> list[tuple[str, float | None, float]]:
    """Evaluate a saved model again, on its own dataset and split; rankings are of the whole catalogue.

    Returns:
        (metric, value on validation, value on test) for each of `metrics`; if empty, for those of the run. Where the
        model was fitted again, it knows validation: its value is that before the second fit, None if not on record.

    Raises:
        DataError: `folder` has no finished run, or its dataset differs from that of the run.
        ConfigError: a metric tells cold items from warm ones, and the model was fitted again on some of the cold.
    """
    if not (folder / "result.json").is_file():
        raise DataError(f"{folder}: no result.json here; expected the folder of a finished run")
    config = config_of(folder)
    result = read_result(folder)
    task = Task.load(result["dataset"], config["split"], device, clicks=clicks_of(config))
    if result["data_fingerprint"] != task.fingerprint:
        raise DataError(
            f"{folder}: was run on other data (fingerprint {result['data_fingerprint'][:10]}, now "
            f"{task.fingerprint[:10]})"
        )
    names = metrics or config["evaluate"]["metrics"]
    if result["refit"] and (by_kind := [name for name in names if tells_cold(name)]):
        raise ConfigError(f"{folder}: was fitted again on validation, whose items {by_kind[0]} would take for cold")
    model = Model.load(folder, device=device)
    validation = result["validation"] if result["refit"] else task.validate(model, names).summary
    test = task.test(model, names).summary
    return [(name, validation.get(name), test[name]) for name in names]


def _environment(folder: Path, device: torch.device, config: Mapping[str, Any]) -> dict[str, Any]:
    """The current environment; under `earlier`, that in which the run began, if code, packages or hardware differ.

    `taken_over` is kept: the run whose training this one has taken over.

    Work of different code is of none: its digest is "mixed", and it counts as dirty.
    """
    now = environment(device, packages(config))
    if (folder / "checkpoint").exists() and (folder / "env.json").is_file():
        before = json.loads((folder / "env.json").read_text(encoding="utf-8"))
        now |= {"taken_over": before["taken_over"]} if "taken_over" in before else {}
        same = ("code", "packages", "threads", "device")
        if "earlier" in before or any(before[key] != now[key] for key in same):
            logger.warning("%s: resumed with other code, packages or hardware than it began with", folder)
            now["earlier"] = before.get("earlier", before)
            if before["code"] != now["code"]:
                now |= {"code": "mixed", "dirty": True}
    return now
