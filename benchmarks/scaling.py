"""Time and memory of a training step on a power-law graph with a given number of edges, and of building its parts.

The model is LightGCN with BPR, or a hybrid with a content vector of 300 numbers for each item.
"""

from __future__ import annotations

import time

import library
import numpy as np
import polars as pl
import torch
from synthetic import power_law
from worker import Channel

from recgraph.data.interactions import Interactions, Vocabulary
from recgraph.environment import peak_memory, reset_peak_memory
from recgraph.random import torch_generator
from recgraph.types import Content, Modality

DEGREE = 25
"""Average number of edges per user and per item; Gowalla has 27 and 20."""

WIDTH = 300
"""Width of an item's content vector, as in the cold-start papers on CiteULike-a."""


def table(num_edges: int) -> Interactions:
    """The graph as interactions."""
    size = num_edges // DEGREE
    users, items = power_law(num_edges, size, size)
    frame = pl.DataFrame({"user": users.astype(np.uint32), "item": items.astype(np.uint32)})
    ids = Vocabulary(np.arange(size))
    return Interactions(frame, ids, ids)


def content(num_items: int) -> Content:
    """A random vector for each item."""
    values = torch.randn(num_items, WIDTH, generator=torch_generator(0, "content"))
    return Content({"tags": Modality(values, torch.ones(num_items, dtype=torch.bool))})


def main() -> None:
    """Measure one size."""
    channel = Channel()
    edges, steps = channel.task["edges"], channel.task["steps"]
    config = library.configuration(channel.task["row"], "citeulike-a")
    train = table(edges)
    known = content(train.num_items) if config.get("content") else None
    reset_peak_memory()
    started = time.perf_counter()
    parts = library.build(config, train, known)
    built, build_peak = time.perf_counter() - started, peak_memory()
    reset_peak_memory()
    stopwatch = library.Stopwatch(steps=steps)
    library.fit(config, parts, stopwatch)
    channel.answer(
        edges=edges,
        nodes=train.num_users + train.num_items,
        batch=config["train"]["batch_size"],
        build_seconds=built,
        build_peak_mib=build_peak,
        first_step=stopwatch.moments[1] - stopwatch.moments[0],
        step=library.step_seconds(stopwatch),
        step_peak_mib=peak_memory(),
    )


main()
