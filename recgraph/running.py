"""One run from configuration to result: load, split, build, train, rank, save."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from recgraph import registry
from recgraph.baselines.base import Baseline
from recgraph.data import datasets
from recgraph.data.splits import Split
from recgraph.environment import environment, peak_memory
from recgraph.errors import DataError
from recgraph.evaluation.ranking import Evaluation, evaluate
from recgraph.experiment import Run
from recgraph.files import write_json, write_text
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.model import Model, catalogue_of
from recgraph.objectives.base import Objectives
from recgraph.random import isolated, torch_generator
from recgraph.recommender import Recommender
from recgraph.sampling import Batches
from recgraph.training.trackers import JsonLines, ProgressBar
from recgraph.training.trainer import Progress, Trainer, TrainSettings

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
        loaded = datasets.load(dataset)
        self.split: Split = loaded.split(_without(split, "seed"), seed=split["seed"])
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
    task = _task(run.dataset, json.dumps(run.config["split"]), device)
    if (folder / "result.json").is_file():
        return _read_result(folder, task.split.fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", yaml.safe_dump(_plain(run.config), sort_keys=False, allow_unicode=True))
    machine = environment(device)
    write_json(folder / "env.json", machine)
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
        "dirty": machine["dirty"],
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


@lru_cache(maxsize=1)  # the rows and seeds of a table share one split
def _task(dataset: str, split: str, device: torch.device) -> Task:
    return Task(dataset, json.loads(split), device)


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
        trackers=[
            JsonLines(folder / "metrics.jsonl"),
            ProgressBar(f"{run.row} · {run.dataset} · seed {run.seed}", settings.monitor, console),
        ],
    )
    return recommender, trainer.fit()


def _without(spec: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name != key}
