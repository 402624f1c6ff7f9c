"""Times loading: from a large CSV file to a dataset, split and graph, and the same from the cache."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from synthetic import power_law
from worker import Channel

from recgraph import data
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.random import numpy_generator

NAME = "ten-million"


def generate(path: Path, rows: int) -> dict[str, Any]:
    """Write a CSV of users, items, ratings and times, with 50 rows per user and 100 per item on average."""
    users, items = power_law(rows, rows // 50, rows // 100)
    generator = numpy_generator(0, "columns")
    frame = pl.DataFrame(
        {
            "user_id": users + 1_000_000,
            "item_id": items + 1,
            "rating": generator.integers(1, 6, rows),
            "timestamp": 1_300_000_000 + generator.integers(0, 10**8, rows),
        }
    )
    frame.write_csv(path)
    return {"mib": path.stat().st_size // 2**20, "rows": rows}


def load(path: Path | None) -> dict[str, Any]:
    """Import `path` unless it is None, load, split and build the graph, and return the seconds of each.

    The data root is set by the environment variable RECGRAPH_DATA.
    """
    moments = {"start": time.perf_counter()}
    if path is not None:
        columns = {"user": "user_id", "item": "item_id", "rating": "rating", "time": "timestamp"}
        data.import_file(path, **columns, name=NAME)
        moments["import"] = time.perf_counter()
    dataset = data.load(NAME)
    moments["load"] = time.perf_counter()
    train = dataset.split("random_by_user", seed=0).train
    moments["split"] = time.perf_counter()
    graph = BipartiteGraph.from_edges(train.user_indices, train.item_indices, train.num_users, train.num_items)
    _ = graph.operator
    moments["graph"] = time.perf_counter()
    values = list(moments.values())
    parts = dict(zip(list(moments)[1:], np.diff(values).tolist(), strict=True))
    return {"parts": parts, "seconds": values[-1] - values[0], "edges": graph.num_edges}


def main() -> None:
    """Generate, import, or load from the cache."""
    channel = Channel()
    task = channel.task
    path = Path(task["file"])
    if task["work"] == "generate":
        channel.answer(**generate(path, task["rows"]))
    else:
        channel.answer(**load(path if task["work"] == "import" else None))


main()
