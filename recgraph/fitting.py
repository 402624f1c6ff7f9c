"""From a configuration to a fitted model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recgraph import registry
from recgraph.baselines.base import Baseline
from recgraph.data.interactions import Interactions
from recgraph.experiment import Run
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.model import Model
from recgraph.objectives.base import Objectives
from recgraph.random import isolated, torch_generator
from recgraph.recommender import Recommender
from recgraph.sampling import Batches
from recgraph.task import Task
from recgraph.training.trackers import JsonLines, Tracker
from recgraph.training.trainer import Progress, Trainer, TrainSettings
from recgraph.warmstart import warm_start

Measure = Callable[[Model], Mapping[str, float]]


def fit(run: Run, task: Task, folder: Path, trackers: Sequence[Tracker]) -> tuple[Model, Progress]:
    """The run's model, fitted on the training part, with the epoch that is best on validation.

    Args:
        run: what to do.
        task: its dataset and split; may be sealed.
        folder: its checkpoint is below `folder`.
        trackers: told about every epoch.
    """
    if "baseline" in run.config:
        return _fit_baseline(run, task, task.train)
    names = run.config["evaluate"]["metrics"]

    def parity(model: Model) -> dict[str, float]:
        return task.test(model, names).summary

    return _train(
        run,
        task,
        task.train,
        TrainSettings(**run.config["train"]),
        folder / "checkpoint" / "last.pt",
        trackers,
        validate=lambda model: task.validate(model, names).summary,
        parity=parity if run.config["evaluate"]["parity"] else None,
    )


def refit(run: Run, task: Task, folder: Path, epochs: int) -> tuple[Model, float]:
    """The run's model, fitted on train and validation for a number of epochs; and the seconds."""
    if "baseline" in run.config:
        model, progress = _fit_baseline(run, task, task.train_and_validation)
        return model, progress.seconds
    settings = run.config["train"] | {"max_epochs": epochs, "patience": epochs, "validate_every": epochs}
    model, progress = _train(
        run,
        task,
        task.train_and_validation,
        TrainSettings(**settings),
        folder / "checkpoint" / "refit.pt",
        [JsonLines(folder / "refit.jsonl")],
        validate=lambda _: {settings["monitor"]: 0.0},  # the last epoch is the one to keep
    )
    return model, progress.seconds


def _fit_baseline(run: Run, task: Task, train: Interactions) -> tuple[Model, Progress]:
    with isolated(run.seed, "modules", task.device):
        model: Baseline = registry.baselines.build(run.config["baseline"], train.num_users, train.num_items)
        started = time.perf_counter()
        if "content" in run.config:
            model.content = task.content(run.config["content"], train)[0]
        model.fit(train)
        return model.to(task.device), Progress(seconds=time.perf_counter() - started)


def _train(
    run: Run,
    task: Task,
    train: Interactions,
    settings: TrainSettings,
    checkpoint: Path,
    trackers: Sequence[Tracker],
    *,
    validate: Measure,
    parity: Measure | None = None,
) -> tuple[Model, Progress]:
    """Build everything that a configuration names, and train it."""
    config, device = run.config, task.device
    with isolated(run.seed, "modules", device):
        graph = BipartiteGraph.from_edges(train.user_indices, train.item_indices, train.num_users, train.num_items)
        encoder = config["encoder"]
        parts = config | {"encoder": _without(encoder, "init")}
        content = task.content(config["content"], train) if "content" in config else (None, None)
        sizes = train.num_users, train.num_items
        recommender = Recommender.build(*sizes, parts, graph.to(device), *content).to(device)
        started = time.perf_counter()
        if encoder["init"] is not None and not checkpoint.exists():
            warm_start(getattr(recommender.encoder, "graph", recommender.encoder), encoder["init"], train)
        spent = time.perf_counter() - started
        objectives = Objectives(
            {
                role: (spec["weight"], registry.objectives.build(_without(spec, "weight"), where=f"objectives.{role}"))
                for role, spec in config["objectives"].items()
            }
        ).to(device)
        generators = {name: torch_generator(run.seed, name) for name in ("order", "negatives")}
        if "generator" in objectives.needs:
            # On the device: views draw a number or more for each edge or vector, which would take longer to copy.
            generators["views"] = torch_generator(run.seed, "views", device)
        batches = Batches(
            train=train,
            batch_size=settings.batch_size,
            order=generators["order"],
            sampling=generators["negatives"],
            graph=recommender.graph,
            sampler=registry.samplers.build(config["negatives"], train) if "negatives" in objectives.needs else None,
            device=device,
            views=generators.get("views"),
            distinct="distinct" in objectives.needs,
            content=recommender.content and recommender.content.to(device),
        )
        trainer = Trainer(
            recommender=recommender,
            objectives=objectives,
            batches=batches,
            settings=settings,
            validate=lambda: validate(recommender),
            parity=None if parity is None else lambda: parity(recommender),
            generators=generators,
            checkpoint=checkpoint,
            data=task.fingerprint,
            trackers=trackers,
            spent=spent,
        )
        return recommender, trainer.fit()


def _without(spec: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name != key}
