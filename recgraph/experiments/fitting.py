"""Fits models from configurations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import issparse
from torch import Tensor

from recgraph import registry
from recgraph.baselines.base import Baseline
from recgraph.data.interactions import Interactions
from recgraph.data.labels import LabelData, Part
from recgraph.errors import TrainingError
from recgraph.evaluation.metrics import scope
from recgraph.evaluation.prediction import Predictions
from recgraph.experiments.batching import batches_of
from recgraph.experiments.compatibility import reads_of
from recgraph.experiments.experiment import Run
from recgraph.experiments.labelling import figures, heads_of
from recgraph.experiments.pretraining import begin
from recgraph.experiments.task import Task
from recgraph.experiments.tasks import tasks_of
from recgraph.experiments.warmstart import warm_start
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.models.blend import Blend
from recgraph.models.model import Model
from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objectives
from recgraph.random import isolated, torch_generator
from recgraph.training.settings import TrainSettings
from recgraph.training.trackers import JsonLines, Tracker
from recgraph.training.trainer import Progress, Trainer

Measure = Callable[[Model], Mapping[str, float]]
Pretrained = dict[str, tuple[Model, Progress]]
"""Part -> the model that initialises it, and the progress of its training."""

LAST, REFIT = Path("checkpoint/last.pt"), Path("checkpoint/refit.pt")
"""Checkpoints of the first and of the second fit, below the folder of a run."""

BLEND_WEIGHTS = tuple(number / 10 for number in range(11))
"""Weights tried if a blend's weight is chosen on validation, from the encoder alone to the baseline alone."""


def fit(run: Run, task: Task, folder: Path, trackers: Sequence[Tracker]) -> tuple[Model, Progress]:
    """Fit the run's model on the training part, with the epoch that is best on validation.

    Args:
        run: the run.
        task: its dataset and split; may be sealed.
        folder: folder of the run, which contains the checkpoint.
        trackers: notified of every epoch.
    """
    if "baseline" in run.config:
        return _fit_baseline(run, run.config["baseline"], task, task.train)

    def pretrain() -> Pretrained:
        return {part: fit(source, task, place, _lines(place)) for part, source, place in sources_of(run, folder)}

    names = run.config["evaluate"]["metrics"]

    def validate(model: Model) -> dict[str, float]:
        return task.validate(model, names).summary | figures(predicted(run, task, model, "validation"))

    def parity(model: Model) -> dict[str, float]:
        found = task.test(model, names).summary
        model.observe(task.train)  # undo what `test` has let the model observe
        return found

    model, progress = _train(
        run,
        task,
        task.train,
        folder / LAST,
        trackers,
        pretrain=pretrain,
        validate=validate,
        parity=parity if run.config["evaluate"]["parity"] else None,
    )
    if run.config["blend"] is None:
        return model, progress
    blend, seconds = _blend(run, task, task.train, model, run.config["blend"]["weight"])
    return blend, replace(progress, seconds=progress.seconds + seconds)


def refit(run: Run, task: Task, folder: Path, epochs: int, fitted: Model) -> tuple[Model, float]:
    """Fit the run's model on train and validation for a fixed number of epochs; also returns the seconds.

    Args:
        run, task, folder: as in `fit`.
        epochs: the epoch that was best on validation. The learning-rate schedule still ends at `max_epochs`.
        fitted: the model that `fit` returned; a blend's weight is taken from it.
    """
    train = task.train_and_validation
    if "baseline" in run.config:
        model, progress = _fit_baseline(run, run.config["baseline"], task, train)
        return model, progress.seconds

    def pretrain() -> Pretrained:
        again: Pretrained = {}
        for part, source, place in sources_of(run, folder):
            fitted_source, progress = fit(source, task, place, _lines(place))  # already trained, so only restored
            model, seconds = refit(source, task, place, progress.best_epoch, fitted_source)
            again[part] = model, Progress(seconds=seconds)
        return again

    model, progress = _train(
        run,
        task,
        train,
        folder / REFIT,
        [JsonLines(folder / "refit.jsonl")],
        pretrain=pretrain,
        epochs=epochs,
    )
    if not isinstance(fitted, Blend):
        return model, progress.seconds
    blend, seconds = _blend(run, task, train, model, fitted.weight)
    return blend, progress.seconds + seconds


def _fit_baseline(run: Run, spec: dict[str, Any], task: Task, train: Interactions) -> tuple[Model, Progress]:
    with isolated(run.seed, "modules", task.device):
        model: Baseline = registry.baselines.build(spec, train.num_users, train.num_items)
        started = time.perf_counter()
        if "content" in run.config:
            model.content = task.content(run.config["content"], train)[0]
        model.fit(train)
        held = vars(model).items()
        if kept := [name for name, value in held if isinstance(value, Tensor | np.ndarray) or issparse(value)]:
            raise TrainingError(
                f"{type(model).__name__}.{kept[0]} would not be saved with the model: make it a buffer, by "
                "`register_buffer` in `__init__`"
            )
        return model.to(task.device), Progress(seconds=time.perf_counter() - started)


def _blend(run: Run, task: Task, train: Interactions, model: Model, weight: float | None) -> tuple[Blend, float]:
    """Blend a trained model and a baseline, at the given weight or the best on validation; also returns the seconds."""
    started = time.perf_counter()
    baseline, _ = _fit_baseline(run, run.config["blend"]["baseline"], task, train)
    blend = Blend(model, baseline, weight=0.0 if weight is None else weight)
    if weight is None:
        monitor = run.config["train"]["monitor"]
        if scope(monitor) is None:
            values = task.sweep(blend, BLEND_WEIGHTS, monitor)
        else:  # each scope is ranked for itself
            tried = {weight: Blend(model, baseline, weight=weight) for weight in BLEND_WEIGHTS}
            values = {weight: task.validate(one, [monitor]).summary[monitor] for weight, one in tried.items()}
        blend.weight = max(values, key=lambda weight: values[weight])  # among ties, the closest to the encoder
    return blend, time.perf_counter() - started


def _train(
    run: Run,
    task: Task,
    train: Interactions,
    checkpoint: Path,
    trackers: Sequence[Tracker],
    *,
    pretrain: Callable[[], Pretrained],
    validate: Measure | None = None,
    parity: Measure | None = None,
    epochs: int | None = None,
) -> tuple[Model, Progress]:
    """Build all components of a configuration, and train them."""
    config, device = run.config, task.device
    with isolated(run.seed, "modules", device):
        graph = BipartiteGraph.from_edges(train.user_indices, train.item_indices, train.num_users, train.num_items)
        graph = graph.to(device)
        encoder = config["encoder"]
        parts = config | {"encoder": _without(encoder, "init")}
        content = task.content(config["content"], train) if "content" in config else (None, None)
        if "relations" in config:
            users, items = task.links(config["relations"], train, content[0])
            graph = graph.linked(*(links and links.to(device) for links in (users, items)))
        if "content" not in reads_of(encoder):  # it was built for relations alone
            content = (None, None)
        sizes = train.num_users, train.num_items
        if labels := labels_of(run, task, refit=train is not task.train):
            parts["label_heads"] = heads_of(labels, config["objectives"])
        recommender = Recommender.build(*sizes, parts, graph, *content).to(device)
        recommender.observe(train)
        started = time.perf_counter()
        if encoder["init"] is not None and not checkpoint.exists():
            warm_start(recommender.encoder, encoder["init"], train)
        spent = time.perf_counter() - started
        if run.sources and not checkpoint.exists():
            found = pretrain()
            begin(recommender, {part: model for part, (model, _) in found.items()})
            spent += sum(progress.seconds for _, progress in found.values())
        objectives = Objectives(
            {
                role: (spec["weight"], registry.objectives.build(_without(spec, "weight"), where=f"objectives.{role}"))
                for role, spec in config["objectives"].items()
            },
            **_balance(config),
        ).to(device)
        generators = {name: torch_generator(run.seed, name) for name in ("order", "negatives")}
        if "generator" in objectives.needs:
            # On the device: views draw at least one number per edge or vector, which would take longer to copy.
            generators["views"] = torch_generator(run.seed, "views", device)
        batches = batches_of(
            config,
            train,
            recommender,
            objectives,
            generators=generators,
            graph=graph,
            labels={name: label.to(device) for name, label in labels.items()},
            device=device,
        )
        trainer = Trainer(
            recommender=recommender,
            objectives=objectives,
            batches=batches,
            settings=TrainSettings(**config["train"]),
            validate=None if validate is None else lambda: validate(recommender),
            parity=None if parity is None else lambda: parity(recommender),
            generators=generators,
            checkpoint=checkpoint,
            data=task.trained_on(config),
            trackers=trackers,
            spent=spent,
            epochs=epochs,
        )
        return recommender, trainer.fit()


def sources_of(run: Run, folder: Path) -> list[tuple[str, Run, Path]]:
    """Each pretrained part of a run, with the run that trains it and its folder below the run's own.

    `refit` trains these again: a model that has seen validation must not initialise one whose epoch validation chooses.
    """
    found = []
    for part, source in run.sources.items():
        evaluate = source.config["evaluate"] | {"parity": False}  # it would rank on test, and affects nothing
        quiet = replace(source, config=source.config | {"evaluate": evaluate, "blend": None})
        found.append((part, quiet, folder / "checkpoint" / part))
    return found


def _lines(folder: Path) -> list[Tracker]:
    return [JsonLines(folder / "metrics.jsonl")]


def predicted(run: Run, task: Task, model: Model, part: Part) -> dict[str, Predictions]:
    """The model's predictions for the labels of a part; empty if the run has none.

    For test, the model is the one of the second fit if the run has one: its units and texts are of both parts.
    """
    if isinstance(model, Blend):
        model = model.recommender
    if not isinstance(model, Recommender) or "labels" not in run.config:
        return {}
    return task.predict(model, labels_of(run, task, refit=part == "test" and run.config["refit"]), part)


def labels_of(run: Run, task: Task, *, refit: bool = False) -> dict[str, LabelData]:
    """The labels of a run; with `refit`, training also sees those of validation."""
    return task.labels(run.config.get("labels", {}), seed=run.config["split"]["seed"], refit=refit)


def _balance(config: Mapping[str, Any]) -> dict[str, Any]:
    """The balance of the losses of tasks, and the roles that it balances."""
    if "balance" not in config:
        return {}
    tasks = tasks_of(config["objectives"])
    return {"balance": registry.balances.build(config["balance"], len(tasks), where="balance"), "balanced": tasks}


def _without(spec: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name != key}
