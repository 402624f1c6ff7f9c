"""Small data that tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recgraph.data.interactions import Interactions
from recgraph.data.splits import Split
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.models.recommender import Recommender
from recgraph.random import isolated
from recgraph.training.trainer import Trainer
from recgraph.types import Batch, Content, Inputs, Modality


def interactions(pairs: np.ndarray) -> Interactions:
    """A table of the given (user, item) pairs, shape [rows, 2]."""
    return Interactions.from_frame(pl.DataFrame({"user": pairs[:, 0], "item": pairs[:, 1]}))


def random_interactions(num_users: int = 12, num_items: int = 17, density: float = 0.3, seed: int = 0) -> Interactions:
    """A random table in which every user and item occurs and nobody has everything."""
    rng = np.random.default_rng(seed)
    liked = rng.random((num_users, num_items)) < density
    liked[np.arange(num_users), np.arange(num_users) % num_items] = True
    liked[np.arange(num_items) % num_users, np.arange(num_items)] = True
    liked[np.arange(num_users), (np.arange(num_users) + 1) % num_items] = False
    liked[np.arange(num_items) % num_users, np.arange(num_items)] = True
    return interactions(rng.permutation(np.argwhere(liked)))


def checkerboard(size: int = 30) -> Split:
    """User u likes item i when u + i is even; the diagonal is withheld.

    The test that the implicit library puts to every recommender: whoever has learnt anything ranks the withheld item
    first among the unseen, where chance is 1 in size / 2 + 1.
    """
    user, item = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    table = interactions(np.stack([user.ravel(), item.ravel()], axis=1))
    even, diagonal = (user + item).ravel() % 2 == 0, (user == item).ravel()
    return Split(
        "checkerboard",
        table.select(even & ~diagonal),
        table.select(np.zeros(len(table), dtype=bool)),
        table.select(diagonal),
    )


def graph_of(table: Interactions) -> BipartiteGraph:
    """The bipartite graph of a table."""
    users, items = torch.from_numpy(table.user_indices), torch.from_numpy(table.item_indices)
    return BipartiteGraph.from_edges(users, items, table.num_users, table.num_items)


def random_content(num_users: int, num_items: int, *, users: bool = False, seed: int = 0) -> Content:
    """Two modalities of items, and on demand of users; some rows lack one, and row 1 lacks both."""
    generator = torch.Generator().manual_seed(seed)

    def modality(rows: int, width: int, missing: int) -> Modality:
        present = torch.arange(rows) % missing != 1
        return Modality(torch.randn(rows, width, generator=generator) * present[:, None], present)

    def side(rows: int) -> dict[str, Modality]:
        return {"text": modality(rows, 6, 3), "tags": modality(rows, 5, 4)}

    return Content(side(num_items), side(num_users) if users else {})


def with_label_heads(sharing: object) -> Recommender:
    """A small recommender with labels of users, items and interactions, and experts if `sharing` names any."""
    heads = {
        "sex": {"of": "user", "kind": "classes", "width": 2},
        "genre": {"of": "item", "kind": "tags", "width": 3},
        "liked": {"of": "interaction", "kind": "classes", "width": 2},
    }
    spec = {"encoder": {"name": "embedding", "dim": 4}, "heads": {"rank": "dot"}, "label_heads": heads}
    with isolated(0, "test"):
        return Recommender.build(5, 7, spec | {"sharing": sharing}, None).double()


LABELLED = Batch(
    Inputs(torch.tensor([0, 3, 3, 1])),
    torch.tensor([1, 4, 0, 6]),
    torch.tensor([[5], [1], [6], [4]]),
    labels={
        "sex": torch.tensor([0, 1, 1, 0]),
        "genre": torch.ones(4, 3, dtype=torch.float64),
        "liked": torch.tensor([0, 1, 1, -1]),
    },
)
"""A batch for it, with a label that is missing."""


def count_epochs(monkeypatch: pytest.MonkeyPatch, *, kill_at: int | None = None) -> list[int]:
    """Records the epochs that are trained from here on; the process may die in one."""
    trained: list[int] = []
    epoch = Trainer._epoch

    def counted(self: Trainer, progress: Any, optimizer: Any) -> dict[str, Any]:
        if len(trained) == kill_at:
            raise KeyboardInterrupt
        trained.append(progress.epoch + 1)
        return epoch(self, progress, optimizer)

    monkeypatch.setattr(Trainer, "_epoch", counted)
    return trained
