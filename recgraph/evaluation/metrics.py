"""Metrics of top-K rankings, per user and over all lists, and of click prediction.

Toolkits define these metrics differently; only precision agrees across all of them (Tamm et al., "Quality Metrics in
Recommender Systems: Do We Calculate Metrics Consistently?", RecSys 2021, https://arxiv.org/abs/2206.12858). Therefore
the first line of each metric's docstring is its definition, which `definitions` returns for printing below tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from recgraph.errors import ConfigError, suggest
from recgraph.registry import summary

Metric = Callable[[Bool[Tensor, "users k"], Int[Tensor, "users"]], Float[Tensor, "users"]]
"""(hits, num_relevant) -> a value in [0, 1] per user, never averaged here.

`hits[u, r]` is True if the item at rank r + 1 of user u is relevant. `num_relevant[u]` counts all relevant items of
user u, ranked or not, and is at least 1: users without relevant items have no ranking quality and must be left out."""

ListMetric = Callable[[Int[Tensor, "items"], Num[Tensor, "items"]], Float[Tensor, ""]]
"""(recommended, popularity) -> one value for all users together.

`recommended[i]` is the number of users with item i in their top K; `popularity[i]` is its number of training
interactions."""


ClickMetric = Callable[[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"]], float]
"""(logits, labels) -> one value for all rows; NaN if all rows have the same label and the metric needs both."""


def recall(hits: Bool[Tensor, "users k"], num_relevant: Int[Tensor, "users"]) -> Float[Tensor, "users"]:
    """Hits in the top K divided by all relevant items of the user, even where those are more than K."""
    return hits.sum(1).double() / num_relevant


def precision(hits: Bool[Tensor, "users k"], num_relevant: Int[Tensor, "users"]) -> Float[Tensor, "users"]:
    """Hits in the top K divided by K."""
    return hits.double().mean(1)


def ndcg(hits: Bool[Tensor, "users k"], num_relevant: Int[Tensor, "users"]) -> Float[Tensor, "users"]:
    """Sum of 1/log2(rank + 1) over hits, divided by the same sum for an ideal list of min(K, relevant) hits."""
    discount = 1 / torch.log2(_ranks(hits) + 1)
    ideal = discount.cumsum(0)[num_relevant.clamp(max=hits.shape[1]) - 1]
    return hits.double() @ discount / ideal


def hit(hits: Bool[Tensor, "users k"], num_relevant: Int[Tensor, "users"]) -> Float[Tensor, "users"]:
    """1 if any of the top K is relevant, else 0: its mean is the share of users with a hit."""
    return hits.any(1).double()


def mrr(hits: Bool[Tensor, "users k"], num_relevant: Int[Tensor, "users"]) -> Float[Tensor, "users"]:
    """1 / rank of the first hit, 0 if there is none in the top K."""
    return (hits / _ranks(hits)).amax(1)


def average_precision(hits: Bool[Tensor, "users k"], num_relevant: Int[Tensor, "users"]) -> Float[Tensor, "users"]:
    """Sum of precision@rank over hits, divided by min(K, relevant).

    With this denominator a perfect top K has the value 1 for every user, as in ndcg, RecBole and implicit. TREC divides
    by all relevant items, which gives a lower value for users with more than K of them.
    """
    precisions = hits.cumsum(1) / _ranks(hits)
    return (precisions * hits).sum(1) / num_relevant.clamp(max=hits.shape[1])


def coverage(recommended: Int[Tensor, "items"], popularity: Num[Tensor, "items"]) -> Float[Tensor, ""]:
    """Share of the catalogue's items that are in the top K of at least one user."""
    return (recommended > 0).double().mean()


def gini(recommended: Int[Tensor, "items"], popularity: Num[Tensor, "items"]) -> Float[Tensor, ""]:
    """Gini index of how often each catalogue item is in a top K: 0 all equally, (n - 1)/n one of n items only."""
    counts = recommended.double().sort().values
    n = len(counts)
    weights = 2 * torch.arange(1, n + 1) - n - 1
    return (weights * counts).sum() / (n * counts.sum())


def mean_popularity(recommended: Int[Tensor, "items"], popularity: Num[Tensor, "items"]) -> Float[Tensor, ""]:
    """Mean number of training interactions of the items in the top K, over all users' lists."""
    return recommended.double() @ popularity.double() / recommended.sum()


def cold_share(recommended: Int[Tensor, "items"], popularity: Num[Tensor, "items"]) -> Float[Tensor, ""]:
    """Share of the places in all users' top K that are taken by items without training interactions."""
    return recommended[popularity == 0].sum().double() / recommended.sum()


PER_USER: Mapping[str, Metric] = {
    "recall": recall,
    "precision": precision,
    "ndcg": ndcg,
    "hit": hit,
    "mrr": mrr,
    "map": average_precision,
}
WHOLE_LIST: Mapping[str, ListMetric] = {
    "coverage": coverage,
    "gini": gini,
    "popularity": mean_popularity,
    "cold_share": cold_share,
}


def auc(scores: Float[np.ndarray, "rows"], labels: Float[np.ndarray, "rows"]) -> float:
    """Share of the pairs of a click and a non-click in which the click's score is higher, ties counting half."""
    order = np.argsort(scores)
    return float(aucs(scores[order], labels[order], np.zeros(1, np.int64))[0])


def log_loss(scores: Float[np.ndarray, "rows"], labels: Float[np.ndarray, "rows"]) -> float:
    """Mean of -ln p of a click and -ln(1 - p) of a non-click, with p the sigmoid of the score; lower is better."""
    return float(log_losses(scores, labels, np.zeros(1, np.int64))[0])


def aucs(
    scores: Float[np.ndarray, "rows"], labels: Float[np.ndarray, "rows"], starts: Int[np.ndarray, "users"]
) -> Float[np.ndarray, "users"]:
    """`auc` of each user, from the mean rank of clicks (Mann and Whitney): equal scores share the mean of their ranks.

    Args:
        scores, labels: sorted by user, then by score.
        starts: where the rows of each user begin, at least one each.

    Returns:
        NaN for a user who has rows of one label only.
    """
    counts = np.diff(starts, append=len(scores))
    rows = np.repeat(np.arange(len(starts)), counts)
    first = np.flatnonzero(np.r_[True, (np.diff(scores) != 0) | (np.diff(rows) != 0)])  # of each run of equal scores
    runs = np.diff(first, append=len(scores))
    ranks = np.repeat(first + (runs + 1) / 2, runs) - starts[rows]
    clicks = np.add.reduceat(labels, starts)
    above = np.add.reduceat(ranks * labels, starts) - clicks * (clicks + 1) / 2
    pairs = clicks * (counts - clicks)
    return np.divide(above, pairs, out=np.full(len(starts), np.nan), where=pairs > 0)


def log_losses(
    scores: Float[np.ndarray, "rows"], labels: Float[np.ndarray, "rows"], starts: Int[np.ndarray, "users"]
) -> Float[np.ndarray, "users"]:
    """`log_loss` of each user; the arguments are those of `aucs`."""
    losses = np.logaddexp(0, scores) - labels * scores
    return np.add.reduceat(losses, starts) / np.diff(starts, append=len(scores))


OF_CLICKS: Mapping[str, ClickMetric] = {"auc": auc, "log_loss": log_loss}

SCOPES: Mapping[str, str] = {
    "warm": "Only items with training interactions are ranked, for the users with such test items",
    "cold": "Only items without training interactions are ranked, for the users with such test items",
    "harmonic": "Harmonic mean of the figures of :warm and :cold",
}
"""Suffixes of metric names, as in "ndcg@20:cold", with their definitions."""

_SCOPE = re.compile(rf":({'|'.join(SCOPES)})$")
_SAMPLED = re.compile(r":sampled-([1-9][0-9]*)$")


def parse(text: str) -> tuple[str, Any, int]:
    """Split a metric such as "ndcg@20", "ndcg@20:cold" or "ndcg@20:sampled-99" into its name, its function and its K.

    Click metrics are a name alone; their K is 0.

    Raises:
        ConfigError: the text is not name@K with K of at least 1, or no metric has that name.
    """
    if text in OF_CLICKS:
        return text, OF_CLICKS[text], 0
    match = re.fullmatch(r"(.*)@([1-9][0-9]*)", _SCOPE.sub("", _SAMPLED.sub("", text)))
    if match is None:
        clicks = ", ".join(OF_CLICKS)
        raise ConfigError(
            f"metric {text!r}: expected name@K with K of at least 1, such as 'ndcg@20'; of clicks: {clicks}"
        )
    known = {**PER_USER, **WHOLE_LIST}
    name, k = match[1], int(match[2])
    if name not in known:
        raise ConfigError(f"metric {text!r}: no metric {name!r}. {suggest(name.lower(), known)}")
    if scope(text) == "harmonic" and name not in PER_USER:
        raise ConfigError(f"metric {text!r}: a harmonic mean is of metrics in which more is better")
    return name, known[name], k


def sampled(metric: str, num_negatives: int) -> str:
    """The name of a metric if only stored candidates are ranked, with `num_negatives` negatives."""
    return f"{metric}:sampled-{num_negatives}"


def num_sampled(metric: str) -> int | None:
    """The number of negatives per user, from a metric's name; None if the whole catalogue was ranked."""
    match = _SAMPLED.search(metric)
    return int(match[1]) if match else None


def scope(metric: str) -> str | None:
    """The scope of a metric, one of `SCOPES`, from its name; None if all items are ranked."""
    match = _SCOPE.search(metric)
    return match[1] if match else None


def tells_cold(metric: str) -> bool:
    """Whether a metric tells cold items from warm ones, by the interactions of the training part."""
    return scope(metric) is not None or parse(metric)[0] == "cold_share"


def direction(metric: str) -> int:
    """1 if higher is better, -1 if lower is better, 0 if neither."""
    name = parse(metric)[0]
    return -1 if name == "log_loss" else int(name in PER_USER or name in OF_CLICKS)


def ranked(metric: str) -> str:
    """A sentence that says what was ranked, printed below tables."""
    negatives = num_sampled(metric)
    if negatives is None:
        return "Whole catalogue ranked"
    return (
        f"Only stored candidates ranked, a user's test items among {negatives} sampled negatives: not comparable with "
        "rankings of the whole catalogue, in which models may stand in another order. Validation ranked it whole"
    )


def definitions(metrics: Iterable[str]) -> dict[str, str]:
    """The one-line definitions of `metrics` ("ndcg@20", ...) and of their scopes, by name, printed below tables."""
    metrics = list(metrics)
    found = {name: summary(metric) for name, metric, _ in map(parse, metrics)}
    return found | {f":{name}": SCOPES[name] + "." for name in filter(None, map(scope, metrics))}


def _ranks(hits: Bool[Tensor, "users k"]) -> Float[Tensor, "k"]:
    """1, 2, ..., K in double precision."""
    return torch.arange(1, hits.shape[1] + 1, dtype=torch.float64, device=hits.device)
