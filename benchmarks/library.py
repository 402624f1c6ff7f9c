"""recgraph as the benchmark uses it: the library's own classes, assembled as in a run."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from recgraph import registry
from recgraph.data import datasets
from recgraph.data.interactions import Interactions
from recgraph.data.splits import Split
from recgraph.environment import keep_freed_memory
from recgraph.experiments.experiment import plan
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objectives
from recgraph.random import isolated, torch_generator
from recgraph.sampling.batches import Batches
from recgraph.training.settings import TrainSettings
from recgraph.training.trackers import Record, Tracker
from recgraph.training.trainer import Trainer
from recgraph.types import Content

RECIPES = Path(__file__).with_name("recipes.yaml")

Parts = tuple[Recommender, Objectives, Batches]
"""The parts that training needs."""


def configuration(row: str, dataset: str = "ml-100k") -> dict[str, Any]:
    """The complete configuration of a row of recipes.yaml; the dataset matters only to rows that read content."""
    return plan(RECIPES, rows=[row], datasets=[dataset])[0].config


def split_of(dataset: datasets.Dataset) -> Split:
    """The card's split; for official splits all training rows are used, without a validation part."""
    spec = {"name": "official", "validation": 0} if dataset.card.default_split == "official" else None
    return dataset.split(spec, seed=0)


def build(config: dict[str, Any], train: Interactions, content: Content | None = None) -> Parts:
    """Build what a run builds from a configuration, in a process that keeps freed memory, as runs do."""
    keep_freed_memory()
    graph = BipartiteGraph.from_edges(train.user_indices, train.item_indices, train.num_users, train.num_items)
    encoder = {key: value for key, value in config["encoder"].items() if key != "init"}
    with isolated(0, "modules"):
        recommender = Recommender.build(
            train.num_users, train.num_items, {**config, "encoder": encoder}, graph, content=content
        )
    objectives = Objectives(
        {
            role: (spec["weight"], registry.objectives.build({k: v for k, v in spec.items() if k != "weight"}))
            for role, spec in config["objectives"].items()
        }
    )
    batches = Batches(
        train=train,
        batch_size=config["train"]["batch_size"],
        order=torch_generator(0, "order"),
        sampling=torch_generator(0, "negatives"),
        graph=recommender.graph,
        sampler=registry.samplers.build(config["negatives"], train) if "negatives" in objectives.needs else None,
        views=torch_generator(0, "views") if "generator" in objectives.needs else None,
        content=content,
        distinct="distinct" in objectives.needs,
    )
    return recommender, objectives, batches


def fit(config: dict[str, Any], parts: Parts, tracker: Tracker) -> None:
    """Train with the library's loop until the tracker raises `Enough`."""
    recommender, objectives, batches = parts
    trainer = Trainer(
        recommender=recommender,
        objectives=objectives,
        batches=batches,
        settings=TrainSettings(**config["train"]),
        validate=dict,  # never called: recipes.yaml never reaches a validation, nor a checkpoint
        generators={"views": batches.views} if batches.views else {},
        checkpoint=Path("checkpoint"),
        trackers=[tracker],
    )
    with suppress(Enough):
        trainer.fit()


class Enough(Exception):  # noqa: N818 - not an error: it ends training once it has been timed
    """Raised by a tracker that has seen enough."""


class Stopwatch(Tracker):
    """Times epochs, or the first steps of one.

    Args:
        epochs: epochs after which training ends.
        steps: steps of the first epoch after which it ends instead; None for whole epochs.

    Attributes:
        moments: start of training and end of each step, by `time.perf_counter`.
        epoch_seconds: seconds of each epoch, by the trainer's own clock.
    """

    def __init__(self, epochs: int = 1, steps: int | None = None) -> None:
        self.epochs, self.steps = epochs, steps
        self.moments: list[float] = []
        self.epoch_seconds: list[float] = []

    def start(self, epoch: int, max_epochs: int, best: float) -> None:
        """Record the start of training."""
        self.moments.append(time.perf_counter())

    def step(self, step: int, steps: int) -> None:
        """Record the end of a step.

        Raises:
            Enough: `steps` steps are done.
        """
        self.moments.append(time.perf_counter())
        if step == self.steps:
            raise Enough

    def epoch(self, record: Record) -> None:
        """Record the seconds of an epoch.

        Raises:
            Enough: `epochs` epochs are done.
        """
        self.epoch_seconds.append(record["seconds"])
        if len(self.epoch_seconds) == self.epochs:
            raise Enough


def step_seconds(stopwatch: Stopwatch) -> float:
    """Median seconds between the ends of successive steps."""
    return float(torch.tensor(stopwatch.moments, dtype=torch.float64).diff()[1:].median())
