"""RecBole's worker: an epoch of one of its models by its own trainer, or full ranking by its own evaluator."""

from __future__ import annotations

import logging
import time
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model
from worker import Repeat, import_optimisers, serve


def load(task: dict[str, Any]) -> Repeat:
    """Load the split from atomic files as RecBole's `run_recbole` does."""
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    folder = Path(task["folder"]) / task["dataset"]
    data = {"benchmark_filename": ["train", "valid", "test"], "load_col": {"inter": ["user_id", "item_id"]}}
    if task["model"] == "SASRec":
        data = {
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
            "train_neg_sample_args": None,
            "MAX_ITEM_LIST_LENGTH": 200,
        }
    config = Config(
        model=task["model"],
        dataset="pairs",  # "ml-100k" would be RecBole's own copy
        config_dict={
            "data_path": str(folder),
            **data,
            "use_gpu": False,
            "show_progress": False,
            "train_batch_size": task.get("batch", 2048),
            "eval_batch_size": task.get("scores", 4096),
            "embedding_size": 64,
            "learning_rate": 1e-3,
            "topk": 20,
            "metrics": ["Recall", "NDCG"],
            "valid_metric": "NDCG@20",
            "metric_decimal_place": 10,
            # LightGCN only: with the squared norm, the objective is the same as ours.
            "n_layers": 2 if task["model"] == "SASRec" else 3,
            "reg_weight": 1e-4,
            "require_pow": True,
            # NeuMF and SASRec, see recipes.yaml.
            "mf_embedding_size": 64,
            "mlp_embedding_size": 64,
            "mlp_hidden_size": [128, 64],
            "dropout_prob": 0.0,
            "n_heads": 1,
            "hidden_size": 64,
            "inner_size": 64,
            "hidden_dropout_prob": 0.2,
            "attn_dropout_prob": 0.2,
            "loss_type": "CE",
        },
    )
    dataset = create_dataset(config)
    train, _, test = data_preparation(config, dataset)
    model = get_model(config["model"])(config, train.dataset)
    trainer = Trainer(config, model)
    if task["work"] == "rank":
        take_vectors(model, dataset, folder)
        return lambda: rank(trainer, test)
    return lambda: train_epoch(trainer, train, task.get("steps"))


def train_epoch(trainer: Any, train: Any, steps: int | None) -> dict[str, Any]:
    """Time an epoch, or some steps after one untimed step, scaled to the epoch."""
    if steps is None:
        started = time.perf_counter()
        trainer._train_epoch(train, 0)
        return {"seconds": time.perf_counter() - started}
    batches = iter(train)
    trainer._train_epoch(islice(batches, 1), 0)
    started = time.perf_counter()
    trainer._train_epoch(islice(batches, steps), 0)
    seconds = time.perf_counter() - started
    return {"seconds": seconds * len(train) / steps, "steps": steps, "of": len(train)}


def take_vectors(model: Any, dataset: Any, folder: Path) -> None:
    """Use our vectors instead of random ones, so that both rankings must be equal."""
    with torch.no_grad():
        for kind, field, table in (
            ("users", dataset.uid_field, model.user_embedding),
            ("items", dataset.iid_field, model.item_embedding),
        ):
            vectors = torch.from_numpy(np.load(folder / f"ego_{kind}.npy"))
            known = dataset.field2id_token[field][1:].astype(np.int64)  # 0 is padding
            table.weight[1:] = vectors[torch.from_numpy(known)]


def rank(trainer: Any, test: Any) -> dict[str, Any]:
    """Propagate, rank the catalogue for every test user, and compute the metrics."""
    trainer.model.restore_user_e = trainer.model.restore_item_e = None  # else LightGCN would reuse the propagation
    started = time.perf_counter()
    metrics = trainer.evaluate(test, load_best_model=False)
    return {"seconds": time.perf_counter() - started, "metrics": dict(metrics)}


import_optimisers()
serve(load, ["recbole", "torch", "numpy", "scipy", "pandas"], reads_text=True)
