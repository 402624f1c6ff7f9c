"""Metrics by group: users by number of training interactions, items by popularity.

A mean over users hides differences: a row can lead because of its most active users, or of popular items alone. Groups
are computed from the training part, so they are the same for every row of a table.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int
from scipy import sparse

from recgraph.errors import DataError
from recgraph.evaluation.matrices import pattern
from recgraph.evaluation.ranking import Evaluation, judge


def degree_groups(degrees: Int[np.ndarray, "users"]) -> dict[str, Bool[np.ndarray, "users"]]:
    """Group users by quartile of degree; "degree-q1" has the users with the fewest training interactions.

    Quartile j has the degrees above the (j - 1) / 4 quantile, up to the j / 4 quantile, as in Anelli et al.,
    "Challenging the Myth of Graph Collaborative Filtering", RecSys 2023 (https://arxiv.org/abs/2308.00404). Users of
    equal degree are always in the same quartile. Quartiles therefore differ in size where many users share a degree;
    empty ones are left out.

    Args:
        degrees: training interactions of each user in the ranking.
    """
    quartiles = np.searchsorted(np.quantile(degrees, [0.25, 0.5, 0.75]), degrees)
    return _named({f"degree-q{number + 1}": quartiles == number for number in range(4)})


def item_groups(popularity: Int[np.ndarray, "items"]) -> dict[str, Bool[np.ndarray, "items"]]:
    """Group items by popularity: head, mid and tail, which together are warm, and cold.

    The head is the smallest set of most popular items that has 20% of the training interactions; head and mid together
    have 80%; the tail is the rest (Abdollahpouri et al., "User-centered Evaluation of Popularity Bias in Recommender
    Systems", UMAP 2021, https://arxiv.org/abs/2103.06364). Items of equal popularity are always in the same group, the
    more popular one. Cold items have no training interactions; if there are none, cold and warm are left out. Other
    empty groups are also left out.

    Args:
        popularity: training interactions of each item of the catalogue.
    """
    levels, level, items = np.unique(popularity, return_inverse=True, return_counts=True)
    mass = levels.astype(np.int64) * items
    above = (mass.sum() - mass.cumsum())[level]  # interactions of all items that are more popular
    band = (5 * above >= mass.sum()).astype(int) + (5 * above >= 4 * mass.sum())
    warm = popularity > 0
    groups = {name: warm & (band == number) for number, name in enumerate(("head", "mid", "tail"))}
    return _named(groups if warm.all() else {**groups, "warm": warm, "cold": ~warm})


def by_group(
    evaluation: Evaluation, *, train: sparse.csr_matrix, test: sparse.csr_matrix
) -> dict[str, dict[str, float]]:
    """Means of the per-user metrics of an evaluation, for each group.

    For a group of users, the mean is over its users. For a group of items, only test items of that group are relevant,
    both among the hits and in the denominators of recall and ndcg. The ranking is the same, so other items, including
    the user's other test items, take places in it. The mean is over users who have a test item of that group. A value
    thus shows how well such items are found for users who want them; values of groups do not add up to the total.

    Args:
        evaluation: the overall evaluation.
        train: the training part, users × items; each non-zero entry counts once.
        test: relevant items of the evaluation, users × items.

    Returns:
        Group -> metric -> value, without groups that have no user or no test item. Empty if the evaluation has no
        per-user metric.

    Raises:
        DataError: `train` and `test` differ in shape.
    """
    if train.shape != test.shape:
        raise DataError(f"train is {train.shape}, test is {test.shape}: expected the same users × items")
    if not evaluation.per_user:
        return {}
    known = pattern(train)
    found = {
        name: {metric: float(values[members].mean()) for metric, values in evaluation.per_user.items()}
        for name, members in degree_groups(known.getnnz(axis=1)[evaluation.users]).items()
    }
    ranked = test[evaluation.users]
    for name, members in item_groups(known.getnnz(axis=0)).items():
        wanted = sparse.csr_matrix(ranked.multiply(members))
        wanted.eliminate_zeros()
        users = np.flatnonzero(np.diff(wanted.indptr))
        if len(users):
            values = judge(evaluation.lists[users], wanted[users], list(evaluation.per_user))
            found[name] = {metric: float(each.mean()) for metric, each in values.items()}
    return found


def _named(groups: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: members for name, members in groups.items() if members.any()}
