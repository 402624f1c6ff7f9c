"""Quality by group: users by how much is known of them, items by how often they were chosen.

A mean over users hides who is served: a row can lead by its busiest users, or by popular items alone. Groups are taken
from the training part, so that they are the same for every row of a table.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int
from scipy import sparse

from recgraph.errors import DataError
from recgraph.evaluation.ranking import Evaluation, judge


def degree_groups(degrees: Int[np.ndarray, "users"]) -> dict[str, Bool[np.ndarray, "users"]]:
    """Users by quartile of their degree: "degree-q1" holds those with the fewest training interactions.

    Quartile j holds the degrees up to the j / 4 quantile and above the one before, as in Anelli et al., "Challenging
    the Myth of Graph Collaborative Filtering", RecSys 2023 (https://arxiv.org/abs/2308.00404). Users of one degree are
    never parted. So where many share a degree, quartiles are not of one size; one that nobody is in is left out.

    Args:
        degrees: training interactions of each user who is ranked for.
    """
    quartiles = np.searchsorted(np.quantile(degrees, [0.25, 0.5, 0.75]), degrees)
    return _named({f"degree-q{number + 1}": quartiles == number for number in range(4)})


def item_groups(popularity: Int[np.ndarray, "items"]) -> dict[str, Bool[np.ndarray, "items"]]:
    """Items by popularity: head, mid and tail, which are warm, and cold.

    The head is the fewest most popular items that hold 20% of the training interactions; with the mid they hold 80%;
    the tail is the rest (Abdollahpouri et al., "User-centered Evaluation of Popularity Bias in Recommender Systems",
    UMAP 2021, https://arxiv.org/abs/2103.06364). Items of one popularity are never parted: they are all in the more
    popular group. Cold items have no training interactions; where there are none, cold and warm are left out, and so is
    any other group without items.

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
    """The means of the per-user metrics of an evaluation, over each group.

    A group of users has the mean over its users. For a group of items, only test items of that group are relevant,
    among the hits as well as in what recall and ndcg divide by; the ranking is the same one of the whole catalogue, so
    that other items, the user's other test items among them, take places; and the mean is over users who have a test
    item of that group. So a figure tells how well such items are found by those who want them, and figures of groups do
    not add up to that of all.

    Args:
        evaluation: of the whole.
        train: the training part, users × items; what is stored and not zero counts once.
        test: what the evaluation took for relevant.

    Returns:
        Group -> metric -> value; without groups that have no user, or no test item. Empty if the evaluation has no
        per-user metric.

    Raises:
        DataError: `train` is not of the shape of `test`.
    """
    if train.shape != test.shape:
        raise DataError(f"train is {train.shape}, test is {test.shape}: expected the same users × items")
    if not evaluation.per_user:
        return {}
    known = sparse.csr_matrix(train, dtype=bool, copy=True)
    known.sum_duplicates()
    known.eliminate_zeros()
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
