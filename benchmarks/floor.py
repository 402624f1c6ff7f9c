"""The library's time relative to that of its matrix products alone, both measured in this process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import library
import torch
from worker import Channel

from recgraph.data import datasets
from recgraph.data.splits import Split
from recgraph.evaluation.ranking import evaluate
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.models.recommender import Recommender

CHUNKS = (32, 64, 128, 256, 512, 1024, 2048)
"""Users per matrix product; the fastest of these counts."""


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Median seconds, after one untimed repeat."""
    found = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found[1:])


def product(graph: BipartiteGraph, dim: int, repeats: int) -> dict[str, float]:
    """Seconds per multiplication by the normalised adjacency, which is two half-graph products, in four ways."""
    left, right = graph.operator.user_item, graph.operator.item_user
    users, items = torch.randn(graph.num_users, dim), torch.randn(graph.num_items, dim)
    user_sums, item_sums = torch.empty_like(users), torch.empty_like(items)

    def mm() -> None:
        torch.mm(left, items)
        torch.mm(right, users)

    def addmm() -> None:
        torch.addmm(users, left, items, beta=0)
        torch.addmm(items, right, users, beta=0)

    def addmm_out() -> None:
        torch.addmm(users, left, items, beta=0, out=user_sums)
        torch.addmm(items, right, users, beta=0, out=item_sums)

    def embedding_bag() -> None:
        for half, vectors in ((left, items), (right, users)):
            torch.embedding_bag(
                vectors,
                half.col_indices(),
                half.crow_indices(),
                per_sample_weights=half.values(),
                include_last_offset=True,
                mode=0,
            )

    return {way.__name__: seconds_of(way, repeats) for way in (mm, addmm, addmm_out, embedding_bag)}


def step(row: str, split: Split, epochs: int) -> dict[str, Any]:
    """Seconds of a training step and, measured alone, of its 2 L products, making the batch and dense Adam."""
    config = library.configuration(row)
    recommender, objectives, batches = library.build(config, split.train)
    layers, dim = config["encoder"]["num_layers"], config["encoder"]["dim"]
    assert recommender.graph is not None
    repeats = max(10, min(200, 10**8 // recommender.graph.num_edges // dim * 10))
    before = product(recommender.graph, dim, repeats)
    stopwatch = library.Stopwatch(epochs=epochs)
    library.fit(config, (recommender, objectives, batches), stopwatch)
    after = product(recommender.graph, dim, repeats)
    started = time.perf_counter()
    for _ in batches:
        pass
    alone = time.perf_counter() - started
    for parameter in recommender.parameters():
        parameter.grad = torch.randn_like(parameter)
    adam = torch.optim.Adam(recommender.parameters(), fused=True)
    best = min(before, key=lambda way: before[way] + after[way])
    counted = stopwatch.epoch_seconds[1:] or stopwatch.epoch_seconds  # the first epoch warms up
    found = {
        "batch": config["train"]["batch_size"],
        "step": statistics.median(counted) / len(batches),
        "product": (before[best] + after[best]) / 2,
        "way": best,
        "products": 2 * layers,
        "batches": alone / len(batches),
        "adam": seconds_of(adam.step, repeats),
        "ways": {way: [before[way], after[way]] for way in before},
        "epochs": counted,
    }
    return found | {"ratio": found["step"] / (found["products"] * found["product"])}


@torch.no_grad()
def ranking(split: Split, repeats: int) -> dict[str, Any]:
    """Seconds of `evaluate` for all test users, and of the matrix products of their vectors with all items'."""
    recommender: Recommender = library.build(library.configuration("lightgcn"), split.train)[0].eval()
    test, seen = split.test.csr(), split.train.csr() + split.validation.csr()
    encoding = recommender.encode_all()
    query, catalogue = encoding.query[torch.from_numpy(test.getnnz(axis=1)).nonzero().squeeze(1)], encoding.items.T

    def bare(chunk: int) -> None:
        scores = torch.empty(chunk, catalogue.shape[1])
        for rows in query.split(chunk):
            torch.mm(rows, catalogue, out=scores[: len(rows)])

    def ranked() -> None:
        evaluate(recommender.scorer(), test=test, seen=seen, metrics=["recall@20", "ndcg@20"])

    products = {chunk: seconds_of(partial(bare, chunk), repeats) for chunk in CHUNKS}
    total = seconds_of(ranked, repeats)
    best = min(products, key=lambda chunk: products[chunk])
    return {
        "users": len(query),
        "evaluate": total,
        "products": products[best],
        "chunk": best,
        "by_chunk": products,
        "ratio": total / products[best],
    }


def main() -> None:
    """Measure a dataset."""
    channel = Channel()
    task = channel.task
    split = library.split_of(datasets.load(task["dataset"]))
    steps = [step(row, split, task["epochs"]) for row in task["rows"]]
    ranked = ranking(split, task["repeats"]) if task["rank"] else None
    channel.answer(steps=steps, rank=ranked)


if __name__ == "__main__":
    main()
