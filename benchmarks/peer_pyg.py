"""PyTorch Geometric's worker: an epoch of its LightGCN and recommendation loss on an edge index, in a plain loop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch_geometric.nn.models import LightGCN
from worker import Repeat, import_optimisers, pairs, serve


def load(task: dict[str, Any]) -> Repeat:
    """Load both directions of each training pair as edges; item indices come after those of users."""
    data = pairs(Path(task["folder"]) / task["dataset"])
    users, items = torch.from_numpy(data.train).T
    positives = torch.stack([users, items + data.num_users])
    edges = torch.cat([positives, positives.flip(0)], dim=1)
    model = LightGCN(data.num_users + data.num_items, embedding_dim=64, num_layers=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batch = task["batch"]
    total = -(-len(users) // batch)
    steps = task.get("steps", total)

    def train(steps: int) -> dict[str, Any]:
        started = time.perf_counter()
        for rows in torch.randperm(len(users)).split(batch)[:steps]:
            positive = positives[:, rows]
            # As in PyG's own example, negatives are not checked for being positives.
            drawn = torch.randint(data.num_users, data.num_users + data.num_items, (len(rows),))
            negative = torch.stack([positive[0], drawn])
            labels = torch.cat([positive, negative], dim=1)
            optimizer.zero_grad()
            above, below = model(edges, labels).chunk(2)
            model.recommendation_loss(above, below, node_id=labels.unique(), lambda_reg=1e-4).backward()
            optimizer.step()
        seconds = time.perf_counter() - started
        return {"seconds": seconds * total / steps, "steps": steps, "of": total}

    train(1)  # warm-up: the first step is slower
    return lambda: train(steps)


import_optimisers()
serve(load, ["torch-geometric", "torch", "numpy"], reads_text=False)
