"""Times sampling on one thread: whole batches of (user, positive, negative), and negatives alone."""

from __future__ import annotations

import statistics
import time
from typing import Any

import library
import numpy as np
import polars as pl
import torch
from worker import Channel

from recgraph import registry
from recgraph.data import datasets
from recgraph.data.interactions import Interactions, Vocabulary
from recgraph.random import numpy_generator, torch_generator
from recgraph.sampling.batches import Batches

BATCH = 16384


def spread(train: Interactions, factor: int) -> Interactions:
    """The same interactions in a catalogue `factor` times as large: each item's rows are spread over `factor` items."""
    offsets = numpy_generator(0, "spread").integers(factor, size=len(train))
    items = (train.item_indices * factor + offsets).astype(np.uint32)
    frame = pl.DataFrame({"user": train.frame["user"], "item": items})
    return Interactions(frame, train.users, Vocabulary(np.arange(train.num_items * factor)))


def rates(train: Interactions, repeats: int) -> dict[str, Any]:
    """Millions of triples per second, median over epochs."""
    sampler = registry.samplers.build("uniform", train)
    sampling = torch_generator(0, "negatives")
    batches = Batches(
        train=train, batch_size=BATCH, order=torch_generator(0, "order"), sampling=sampling, sampler=sampler
    )
    order = torch.randperm(len(train))
    users = torch.from_numpy(train.user_indices)[order].split(BATCH)
    items = torch.from_numpy(train.item_indices)[order].split(BATCH)

    def whole() -> None:
        for _ in batches:
            pass

    def negatives() -> None:
        for chunk in zip(users, items, strict=True):
            sampler.sample(*chunk, sampling)

    found: dict[str, Any] = {"items": train.num_items}
    for work in (whole, negatives):
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
        found[work.__name__] = len(train) / statistics.median(seconds) / 1e6
    return found


def main() -> None:
    """Measure at the dataset's density, and with 10 and 100 times as many items."""
    channel = Channel()
    torch.set_num_threads(1)
    train = library.split_of(datasets.load(channel.task["dataset"])).train
    repeats = channel.task["repeats"]
    channel.answer(batch=BATCH, rates=[rates(spread(train, factor), repeats) for factor in (1, 10, 100)])


main()
