"""RecTools' worker: full ranking with its metrics, on our vectors."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rectools import Columns
from rectools.metrics import NDCG, Recall, calc_metrics
from rectools.models.rank import Distance, ImplicitRanker
from scipy import sparse
from worker import Repeat, pairs, serve


def load(task: dict[str, Any]) -> Repeat:
    """Load training pairs as a matrix for masking, and test pairs as a table."""
    folder = Path(task["folder"]) / task["dataset"]
    data = pairs(folder)
    users = np.unique(data.test[:, 0])
    seen = sparse.csr_matrix((np.ones(len(data.train), np.float32), data.train.T), (data.num_users, data.num_items))[
        users
    ]
    test = pd.DataFrame(data.test, columns=[Columns.User, Columns.Item])
    vectors = np.load(folder / "users.npy"), np.load(folder / "items.npy")
    ranker = ImplicitRanker(Distance.DOT, *vectors, num_threads=task["threads"])
    metrics = {"recall@20": Recall(k=20), "ndcg@20": NDCG(k=20)}

    def rank() -> dict[str, Any]:
        started = time.perf_counter()
        ranked_users, items, scores = ranker.rank(users, k=20, filter_pairs_csr=seen)
        table = pd.DataFrame({Columns.User: ranked_users, Columns.Item: items, Columns.Score: scores})
        table[Columns.Rank] = table.groupby(Columns.User, sort=False).cumcount() + 1
        values = calc_metrics(metrics, reco=table, interactions=test)
        return {"seconds": time.perf_counter() - started, "metrics": {k: float(v) for k, v in values.items()}}

    return rank


serve(load, ["rectools", "implicit", "numpy", "pandas"], reads_text=False)
