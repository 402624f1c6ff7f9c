"""recgraph's worker: epochs of a row of recipes.yaml, full ranking, fits of baselines; and the data for the peers."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import library
import numpy as np
import polars as pl
import torch
from library import Parts
from worker import Channel, import_optimisers, versions

from recgraph import registry
from recgraph.data import datasets
from recgraph.data.cards import data_root
from recgraph.data.fetch import fetch
from recgraph.data.interactions import Interactions
from recgraph.data.splits import Split
from recgraph.evaluation.ranking import evaluate
from recgraph.experiments.experiment import plan
from recgraph.experiments.fitting import fit as fit_run
from recgraph.experiments.task import Task
from recgraph.training.trackers import Record, Tracker

PACKAGES = ["recgraph", "torch", "numpy", "scipy", "polars"]


class Answering(Tracker):
    """Lets the trainer run an epoch for each "go", or some steps whose time is scaled to the epoch."""

    def __init__(self, channel: Channel, loaded: Callable[[], dict[str, Any]]) -> None:
        self.channel, self.loaded = channel, loaded
        self.steps: int | None = channel.task.get("steps")

    def start(self, epoch: int, max_epochs: int, best: float) -> None:
        """Answer that everything is loaded, and wait for the first "go"."""
        self.channel.answer(**self.loaded())
        self.channel.wait()
        self.started = time.perf_counter()

    def step(self, step: int, steps: int) -> None:
        """If the task limits the steps, answer after that many, and wait."""
        if self.steps and step % self.steps == 0:
            seconds = time.perf_counter() - self.started
            self.channel.answer(seconds=seconds * steps / self.steps, steps=self.steps, of=steps)
            self.channel.wait()
            self.started = time.perf_counter()

    def epoch(self, record: Record) -> None:
        """Answer, and wait for the next "go"."""
        self.channel.answer(seconds=record["seconds"])
        self.channel.wait()


def load(name: str) -> tuple[datasets.Dataset, Callable[[], dict[str, Any]]]:
    """Load a dataset, and return it with a function to call when all preparations are done.

    The function returns the seconds that they took with loading from the raw files (as the first time) and from the
    cache, and the versions of packages.
    """
    datasets.load(name)  # fetch, and fill the cache
    started = time.perf_counter()
    card = datasets.find(name, data_root())
    fetched = fetch(name, card.forms, data_root())
    datasets.build(card, fetched.form, fetched.folder)
    raw = time.perf_counter()
    dataset = datasets.load(name)
    cached = time.perf_counter()

    def loaded() -> dict[str, Any]:
        built = time.perf_counter() - cached
        seconds = {"load_seconds": raw - started + built, "cached_seconds": cached - raw + built}
        return {**seconds, "packages": versions(PACKAGES)}

    return dataset, loaded


def ready(channel: Channel) -> tuple[Split, Parts, dict[str, Any]]:
    """Load a dataset and build the task's model; return the split, the parts, and the answer that this is done."""
    dataset, loaded = load(channel.task["dataset"])
    split = library.split_of(dataset)
    parts = library.build(library.configuration(channel.task["model"]), split.train)
    return split, parts, loaded()


def train(channel: Channel) -> None:
    """Answer with the seconds of each epoch."""
    _, parts, loaded = ready(channel)
    library.fit(library.configuration(channel.task["model"]), parts, Answering(channel, lambda: loaded))


def run(channel: Channel) -> None:
    """Like `train`, for rows with more than a graph encoder, which the library assembles as in `recgraph train`."""
    name = channel.task["dataset"]
    row = plan(library.RECIPES, rows=[channel.task["model"]], datasets=[name])[0]
    _, loaded = load(name)
    task = Task.load(name, row.config["split"], torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        fit_run(row, task, Path(folder), [Answering(channel, loaded)])


def rank(channel: Channel) -> None:
    """Answer with the seconds of propagation, full ranking for all test users, and metrics."""
    split, (recommender, _, _), loaded = ready(channel)
    test, seen = split.test.csr(), split.train.csr() + split.validation.csr()
    channel.answer(**loaded)
    while True:
        channel.wait()
        started = time.perf_counter()
        with torch.no_grad():
            found = evaluate(recommender.eval().scorer(), test=test, seen=seen, metrics=["recall@20", "ndcg@20"])
        channel.answer(seconds=time.perf_counter() - started, metrics=found.summary)


def fit(channel: Channel) -> None:
    """Answer with the seconds that a baseline takes to fit."""
    spec = channel.task["baseline"]
    channel.task["model"] = "lightgcn"  # only for the split; the model is not used
    split, _, loaded = ready(channel)
    channel.answer(**loaded)
    while True:
        channel.wait()
        started = time.perf_counter()
        registry.baselines.build(spec, split.train.num_users, split.train.num_items).fit(split.train)
        channel.answer(seconds=time.perf_counter() - started)


def dump(name: str, folder: Path) -> None:
    """Write the split and the vectors of an untrained LightGCN for the peers.

    Files in `folder`:
    - `train.npy` and `test.npy`: index pairs; `sizes.json`: sizes of the catalogues and the train part;
    - `pairs/`: RecBole's atomic files of each part, with indices as tokens, and of all parts together, with the
      position in the user's rows as the time;
    - `ego_users.npy`, `ego_items.npy`, `users.npy`, `items.npy`: the vectors before and after propagation.
    """
    split = library.split_of(datasets.load(name))
    (folder / "pairs").mkdir(parents=True)
    np.save(folder / "train.npy", _pairs(split.train))
    np.save(folder / "test.npy", _pairs(split.test))
    sizes = {"users": split.train.num_users, "items": split.train.num_items, "rows": len(split.train)}
    (folder / "sizes.json").write_text(json.dumps(sizes), encoding="utf-8")
    # RecBole needs a validation file, which is not timed. Test rows replace an empty part, as they mask no other items.
    valid = split.validation if len(split.validation) else split.test
    for part, table in (("train", split.train), ("valid", valid), ("test", split.test)):
        frame = pl.DataFrame(_pairs(table), schema=["user_id:token", "item_id:token"])
        frame.write_csv(folder / "pairs" / f"pairs.{part}.inter", separator="\t")
    every = np.concatenate([_pairs(table) for table in (split.train, split.validation, split.test)])
    pl.DataFrame(every, schema=["user_id:token", "item_id:token"]).with_columns(
        pl.int_range(pl.len()).over("user_id:token").alias("timestamp:float")
    ).write_csv(folder / "pairs" / "pairs.inter", separator="\t")
    recommender, _, _ = library.build(library.configuration("lightgcn"), split.train)
    with torch.no_grad():
        encoding = recommender.eval().encode_all()
    for file, vectors in (
        ("ego_users", encoding.ego.query),
        ("ego_items", encoding.ego.items),
        ("users", encoding.query),
        ("items", encoding.items),
    ):
        assert vectors is not None
        np.save(folder / f"{file}.npy", vectors.detach().numpy())


def _pairs(table: Interactions) -> np.ndarray:
    return np.stack([table.user_indices, table.item_indices], axis=1)


def dump_for_peers(channel: Channel) -> None:
    """See `dump`."""
    dump(channel.task["dataset"], Path(channel.task["folder"]) / channel.task["dataset"])
    channel.answer()


WORK = {"train": train, "run": run, "rank": rank, "fit": fit, "dump": dump_for_peers}

if __name__ == "__main__":
    import_optimisers()
    channel = Channel()
    WORK[channel.task["work"]](channel)
