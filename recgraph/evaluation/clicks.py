"""Metrics of click prediction, over all rows and per user."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from recgraph.errors import ConfigError, DataError
from recgraph.evaluation.metrics import OF_CLICKS, aucs, log_losses
from recgraph.evaluation.ranking import Evaluation

OF_USERS = {"auc": aucs, "log_loss": log_losses}
"""The metrics of `OF_CLICKS` for all users at once."""


def judge_clicks(
    scores: Float[np.ndarray, "rows"],
    labels: Float[np.ndarray, "rows"],
    users: Int[np.ndarray, "rows"],
    metrics: Sequence[str],
    *,
    num_users: int,
    started: float,
) -> Evaluation:
    """Compute click metrics from scored rows.

    `summary` is over all rows together. `per_user` has each user's value over their own rows, for paired tests; it is
    NaN if all rows of the user have the same label and the metric needs both. The mean of `per_user` is not `summary`.

    Args:
        scores: logits.
        labels: 1.0 for a click, 0.0 for none.
        users: user of each row.
        metrics: names in `OF_CLICKS`.
        num_users: size of the user catalogue.
        started: `time.perf_counter()` before the rows were scored.

    Raises:
        ConfigError: a metric is not of clicks.
        DataError: a score is NaN.
    """
    if wrong := [name for name in metrics if name not in OF_CLICKS]:
        raise ConfigError(f"metrics: {wrong[0]!r} is not of clicks, of which there are {', '.join(OF_CLICKS)}")
    if np.isnan(scores).any():
        raise DataError(f"scores of {np.isnan(scores).sum()} rows are NaN: cannot judge them")
    summary = {name: float(OF_CLICKS[name](scores, labels)) for name in metrics}
    seconds = time.perf_counter() - started
    order = np.lexsort((scores, users))
    found, starts = np.unique(users[order], return_index=True)
    per_user = {name: OF_USERS[name](scores[order], labels[order], starts) for name in metrics}
    return Evaluation(
        found, torch.empty(len(found), 0, dtype=torch.int64), per_user, summary, num_users - len(found), seconds
    )
