"""implicit's worker: full ranking with its metrics on our vectors, an epoch of BPR, or a fit of ALS or item-kNN."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from implicit.evaluation import ranking_metrics_at_k
from implicit.nearest_neighbours import CosineRecommender
from scipy import sparse
from worker import Repeat, pairs, serve

MODELS = {"als": AlternatingLeastSquares, "cosine": CosineRecommender}


def load(task: dict[str, Any]) -> Repeat:
    """Load the split as two matrices."""
    folder = Path(task["folder"]) / task["dataset"]
    data = pairs(folder)
    train, test = (
        sparse.csr_matrix((np.ones(len(part), np.float32), (part[:, 0], part[:, 1])), (data.num_users, data.num_items))
        for part in (data.train, data.test)
    )
    threads = task["threads"]
    if task["work"] == "bpr":

        def epoch() -> dict[str, Any]:
            # The difference of two fits excludes what a fit does before its first epoch.
            seconds = []
            for epochs in (1, 11):
                model = BayesianPersonalizedRanking(factors=64, iterations=epochs, num_threads=threads)
                started = time.perf_counter()
                model.fit(train, show_progress=False)
                seconds.append(time.perf_counter() - started)
            return {"seconds": (seconds[1] - seconds[0]) / 10}

        return epoch
    if task["work"] == "fit":

        def fit() -> dict[str, Any]:
            model = MODELS[task["model"]](**task["options"], num_threads=threads)
            started = time.perf_counter()
            model.fit(train, show_progress=False)
            return {"seconds": time.perf_counter() - started}

        return fit
    model = AlternatingLeastSquares(factors=64, use_gpu=False, num_threads=threads)  # any class with plain factors
    model.user_factors, model.item_factors = np.load(folder / "users.npy"), np.load(folder / "items.npy")

    def rank() -> dict[str, Any]:
        started = time.perf_counter()
        metrics = ranking_metrics_at_k(model, train, test, K=20, show_progress=False, num_threads=threads)
        return {"seconds": time.perf_counter() - started, "metrics": {"ndcg@20": metrics["ndcg"]}}

    return rank


serve(load, ["implicit", "numpy", "scipy"], reads_text=False)
