"""How well new items are served, how well the known ones, and at what cost to each other.

One list of all items does not tell: a model can neglect cold items altogether and lose little. So metrics come in
scopes, as in GAR (Chen et al., SIGIR 2022), ALDI (Huang et al., SIGIR 2023) and ColdRec. "ndcg@20" ranks all items;
"ndcg@20:cold" only those without training interactions, for the users with such items in test; "ndcg@20:warm" only the
others. "ndcg@20:harmonic" is the harmonic mean of the last two, which is high only if both are: the one to choose an
epoch by. "cold_share@20" says how much of the one list is given to cold items.

Scopes are of items. With `warm_and_cold` of side user, new and known users are in one mean; of the groups of a result,
"degree-q1" holds the new ones, and where they are fewer than a quarter the least active of the others with them. Where
new users are to be measured by themselves, take the split `user_cold`, in whose test part they are all there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Num
from scipy import sparse

from recgraph.errors import ConfigError, DataError
from recgraph.evaluation.metrics import PER_USER, parse, scope
from recgraph.evaluation.ranking import Evaluation, Scores, evaluate


def evaluate_scopes(
    scores: Scores,
    *,
    test: sparse.csr_matrix,
    seen: sparse.csr_matrix,
    metrics: Sequence[str],
    popularity: Num[np.ndarray, "items"],
    **more: Any,
) -> Evaluation:
    """`evaluate`, a ranking for each scope that the metrics name.

    Args:
        scores, test, seen, metrics, popularity, more: see `evaluate`; the items with popularity 0 are cold.

    Returns:
        Of all items, with the figures of the other scopes added. A user without test items of a scope has NaN there,
        and is in none of its means.

    Raises:
        ConfigError: a harmonic mean is asked for of a metric of whole lists.
        DataError: nobody has a test item of a scope; and as `evaluate`.
    """
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
            if parse(text)[0] not in PER_USER:
                raise ConfigError(f"metric {text!r}: a harmonic mean is of metrics in which more is better")
            summary[text] = harmonic_mean(*(parts[side].summary[plain[text]] for side in ("warm", "cold")))
    ordered = {text: summary[text] for text in metrics}
    return replace(found, per_user=per_user, summary=ordered, seconds=seconds)


def _among(scores: Scores, items: np.ndarray) -> Scores:
    """The scores of some items."""
    return lambda users: scores(users)[:, items]


def harmonic_mean(one: float, two: float) -> float:
    """2ab / (a + b); 0 where both are 0."""
    return 2 * one * two / (one + two) if one + two else 0.0
