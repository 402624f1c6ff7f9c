"""One run from configuration to result: load, split, build, train, rank, save."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from safetensors import SafetensorError

from recgraph import registry
from recgraph.baselines.base import Baseline
from recgraph.data import datasets
from recgraph.data.splits import Split
from recgraph.environment import environment, keep_freed_memory, peak_memory, reset_peak_memory
from recgraph.errors import DataError, TrainingError
from recgraph.evaluation.ranking import Evaluation, evaluate
from recgraph.experiment import Run
from recgraph.files import locked, write_json, write_text
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.model import Model, catalogue_of
from recgraph.objectives.base import Objectives
from recgraph.random import isolated, torch_generator
from recgraph.recommender import Recommender
from recgraph.sampling import Batches
from recgraph.training.trackers import JsonLines, ProgressBar
from recgraph.training.trainer import Progress, Trainer, TrainSettings

logger = logging.getLogger(__name__)

Result = dict[str, Any]
"""The content of `result.json`."""


class Task:
    """A dataset, split, and the matrices that ranking on it needs.

    Args:
        dataset: name of the dataset.
        split: the resolved `split:` block of a configuration.
        device: where models are.
    """

    def __init__(self, dataset: str, split: dict[str, Any], device: torch.device) -> None:
        keep_freed_memory()
        loaded = datasets.load(dataset)
        self.split: Split = loaded.split(_without(split, "seed"), seed=split["seed"])
        if not len(self.split.validation):
            raise DataError(
                f"dataset {dataset}: the validation part of split {self.split.name} is empty; it must choose the epoch"
            )
        items = loaded.features.items.frame
        self.titles = items["title"].to_list() if "title" in items.columns else None
        self.device = device
        self._train = self.split.train.csr()

    @cached_property
    def _validation(self) -> Any:
        return self.split.validation.csr()

    def validate(self, model: Model, metrics: Sequence[str]) -> Evaluation:
        """Rank for the users with validation items; training positives are masked."""
        return self._rank(model, metrics, self._validation, self._train)

    def test(self, model: Model, metrics: Sequence[str]) -> Evaluation:
        """Rank for the users with test items; training and validation positives are masked."""
        return self._rank(model, metrics, self.split.test.csr(), self._train + self._validation)

    def _rank(self, model: Model, metrics: Sequence[str], relevant: Any, seen: Any) -> Evaluation:
        with torch.no_grad():
            return evaluate(
                model.eval().scorer(),
                test=relevant,
                seen=seen,
                metrics=metrics,
                popularity=self._train.sum(axis=0).A1,
                device=self.device,
                chunk=4096 if self.device.type == "cuda" else None,  # a GPU needs many rows at once to be busy
            )


def execute(run: Run, root: Path, *, device: torch.device, console: Console) -> Result:
    """Do a run, or what is left of it, and return its result; a finished one is only read.

    The test set is ranked once, at the end, with the parameters that were best on validation.

    Args:
        run: what to do.
        root: folder of all runs.
        device: where tensors live.
        console: where progress is drawn.

    Raises:
        RecgraphError: something went wrong that the user can mend.
    """
    folder = run.folder(root)
    task = Task(run.dataset, run.config["split"], device)
    with locked(folder):
        if (folder / "result.json").is_file():
            return _read_result(folder, task.split.fingerprint)
        try:
            return _execute(run, task, folder, console)
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"{folder}: cannot write the run: {error}") from error


def _execute(run: Run, task: Task, folder: Path, console: Console) -> Result:
    reset_peak_memory()
    write_text(folder / "config.yaml", yaml.safe_dump(_plain(run.config), sort_keys=False, allow_unicode=True))
    machine = _environment(folder, task.device)
    write_json(folder / "env.json", machine)
    device = task.device
    with isolated(run.seed, "modules", device):
        model, progress = _fit(run, task, folder, console)
    model.catalogue = catalogue_of(task.split.train, [task.split.train, task.split.validation], task.titles)
    model.save(folder)
    names = run.config["evaluate"]["metrics"]
    validation, test = task.validate(model, names), task.test(model, names)
    test.write(folder / "per_user.parquet")
    result = {
        "table": run.table,
        "row": run.row,
        "dataset": run.dataset,
        "seed": run.seed,
        "config_hash": run.config_hash,
        "split": task.split.name,
        "data_fingerprint": task.split.fingerprint,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "stopped": progress.stopped,
        "train_seconds": round(progress.seconds, 2),
        "eval_seconds": round(test.seconds, 2),
        "peak_memory_mib": peak_memory(),
        "device": str(device),
        "commit": machine["commit"],
        "dirty": True if "earlier" in machine else machine["dirty"],
        "test_users": test.num_users,
        "skipped_users": test.num_skipped,
        "validation": validation.summary,
        "test": test.summary,
    }
    write_json(folder / "result.json", result)
    return result


def reevaluate(folder: Path, metrics: Sequence[str], device: torch.device) -> list[tuple[str, float, float]]:
    """Rank again with a saved model on its own dataset and split.

    Returns:
        (metric, value on validation, value on test) for each of `metrics`; of none, for what the run measured.

    Raises:
        DataError: `folder` holds no finished run, or its dataset is no longer the same.
    """
    if not (folder / "result.json").is_file():
        raise DataError(f"{folder}: no result.json here; expected the folder of a finished run")
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    dataset = json.loads((folder / "result.json").read_text(encoding="utf-8"))["dataset"]
    task = Task(dataset, config["split"], device)
    _read_result(folder, task.split.fingerprint)
    model = Model.load(folder, device=device)
    names = metrics or config["evaluate"]["metrics"]
    validation, test = task.validate(model, names).summary, task.test(model, names).summary
    return [(name, validation[name], test[name]) for name in names]


def _environment(folder: Path, device: torch.device) -> dict[str, Any]:
    """What this process is; and, under `earlier`, what began the run, if that was other code or other packages."""
    now = environment(device)
    if (folder / "checkpoint").exists() and (folder / "env.json").is_file():
        before = json.loads((folder / "env.json").read_text(encoding="utf-8"))
        same = ("commit", "dirty", "packages", "threads", "device")
        if "earlier" in before or any(before[key] != now[key] for key in same):
            logger.warning("%s: resumed with other code, packages or hardware than it began with", folder)
            now["earlier"] = before.get("earlier", before)
    return now


def _read_result(folder: Path, fingerprint: str) -> Result:
    """A finished run's result, which must be on the data at hand."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if result["data_fingerprint"] != fingerprint:
        raise DataError(
            f"{folder}: was run on other data (fingerprint {result['data_fingerprint'][:10]}, now {fingerprint[:10]}); "
            "move the folder away to run again"
        )
    return result


def _plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    return json.loads(json.dumps(value))


def _fit(run: Run, task: Task, folder: Path, console: Console) -> tuple[Model, Progress]:
    config, train = run.config, task.split.train
    if "baseline" in config:
        model: Baseline = registry.baselines.build(config["baseline"], train.num_users, train.num_items)
        started = time.perf_counter()
        model.fit(train)
        return model.to(task.device), Progress(seconds=time.perf_counter() - started)
    graph = BipartiteGraph.from_edges(train.user_indices, train.item_indices, train.num_users, train.num_items)
    recommender = Recommender.build(train.num_users, train.num_items, config, graph.to(task.device)).to(task.device)
    objectives = Objectives(
        {
            role: (spec["weight"], registry.objectives.build(_without(spec, "weight"), where=f"objectives.{role}"))
            for role, spec in config["objectives"].items()
        }
    ).to(task.device)
    settings = TrainSettings(**config["train"])
    generators = {name: torch_generator(run.seed, name) for name in ("order", "negatives")}
    batches = Batches(
        train=train,
        batch_size=settings.batch_size,
        order=generators["order"],
        sampling=generators["negatives"],
        graph=recommender.graph,
        sampler=registry.samplers.build(config["negatives"], train) if "negatives" in objectives.needs else None,
        device=task.device,
    )
    trainer = Trainer(
        recommender=recommender,
        objectives=objectives,
        batches=batches,
        settings=settings,
        validate=lambda: task.validate(recommender, config["evaluate"]["metrics"]).summary,
        generators=generators,
        checkpoint=folder / "checkpoint" / "last.pt",
        data=task.split.fingerprint,
        trackers=[
            JsonLines(folder / "metrics.jsonl"),
            ProgressBar(f"{run.row} · {run.dataset} · seed {run.seed}", settings.monitor, console),
        ],
    )
    return recommender, trainer.fit()


def _without(spec: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name != key}
