"""Metrics on cold items, on warm items, and on both.

A ranking of all items does not suffice: a model can ignore cold items entirely and lose little. So metrics have scopes,
as in GAR (Chen et al., SIGIR 2022), ALDI (Huang et al., SIGIR 2023) and ColdRec. "ndcg@20" ranks all items;
"ndcg@20:cold" only those without training interactions, for the users with such items in test; "ndcg@20:warm" only the
others. "ndcg@20:harmonic" is the harmonic mean of the last two, which is high only if both are: use it to choose the
epoch. "cold_share@20" is the share of cold items in the ranking of all items.

Scopes concern items only. If `warm_and_cold` has side user, means are over new and known users together. The group
"degree-q1" then has the new users, along with the least active known ones if the new are fewer than a quarter. To
evaluate new users alone, use the split `user_cold`, whose test part has no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Num
from scipy import sparse

from recgraph.errors import ConfigError, DataError
from recgraph.evaluation.metrics import parse, scope
from recgraph.evaluation.ranking import Evaluation, Scores, evaluate, users_at_once


def evaluate_scopes(
    scores: Scores,
    *,
    test: sparse.csr_matrix,
    seen: sparse.csr_matrix,
    metrics: Sequence[str],
    popularity: Num[np.ndarray, "items"],
    **more: Any,
) -> Evaluation:
    """`evaluate`, with a ranking for each scope that the metrics name.

    Args:
        scores, test, seen, metrics, popularity, more: see `evaluate`; items with popularity 0 are cold.

    Returns:
        The evaluation over all items, with the metrics of the other scopes added. A user without test items in a scope
        has NaN there, and is left out of its means.

    Raises:
        ConfigError: a harmonic mean of a whole-list metric is requested, or `candidates` are given; or as `evaluate`.
        DataError: no user has a test item of a scope; or as `evaluate`.
    """
    if more.get("candidates") is not None:
        raise ConfigError("candidates: they cannot be ranked by scopes such as ':cold', which rank the whole catalogue")
    more["chunk"] = more.get("chunk") or users_at_once(test.shape[1])  # scores of all items are made in any scope
    for text in metrics:
        parse(text)  # refuses what cannot be measured before anything is ranked
    plain = {text: text.split(":")[0] for text in metrics}
    whole = [text for text in metrics if scope(text) is None]
    found = evaluate(scores, test=test, seen=seen, metrics=whole or [*plain.values()], popularity=popularity, **more)
    per_user = {name: found.per_user[name] for name in whole if name in found.per_user}
    summary = {name: found.summary[name] for name in whole}
    seconds = found.seconds
    parts: dict[str, Evaluation] = {}
    for side in ("warm", "cold"):
        wanted = [text for text in metrics if scope(text) in (side, "harmonic")]
        if not wanted:
            continue
        items = np.flatnonzero((popularity > 0) == (side == "warm"))
        if not test[:, items].nnz:
            raise DataError(
                f"{wanted[0]}: nobody has a {side} test item; `warm_and_cold` with items as its side has both"
            )
        parts[side] = part = evaluate(
            _among(scores, items),
            test=test[:, items],
            seen=seen[:, items],
            metrics=list(dict.fromkeys(plain[text] for text in wanted)),
            popularity=popularity[items],
            **more,
        )
        seconds += part.seconds
        for text in (text for text in metrics if scope(text) == side):
            summary[text] = part.summary[plain[text]]
            if plain[text] in part.per_user:
                per_user[text] = np.full(found.num_users, np.nan)
                per_user[text][np.searchsorted(found.users, part.users)] = part.per_user[plain[text]]
    for text in metrics:
        if scope(text) == "harmonic":
            summary[text] = harmonic_mean(*(parts[side].summary[plain[text]] for side in ("warm", "cold")))
    ordered = {text: summary[text] for text in metrics}
    return replace(found, per_user=per_user, summary=ordered, seconds=seconds)


def _among(scores: Scores, items: np.ndarray) -> Scores:
    """Scores of the given items only."""
    return lambda users: scores(users)[:, items]


def harmonic_mean(one: float, two: float) -> float:
    """2ab / (a + b); 0 where both are 0."""
    return 2 * one * two / (one + two) if one + two else 0.0
