"""How trained vectors lie: near what they should be near, spread out, of full rank, longer for what is popular?

None of these says how good a model is; they say in what way it is bad. Vectors that collapse have a low effective rank
and a uniformity near 0; a model that ranks by popularity has long vectors for popular items.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor

from recgraph.objectives.uniformity import uniformity
from recgraph.random import torch_generator

PAIRS = 2**13
"""Pairs whose vectors are gathered at a time: few enough to stay in a processor's cache."""

SAMPLE = 4096
"""Vectors that uniformity is taken over at most, for it looks at every pair of them."""


@torch.no_grad()
def diagnose(
    users: Float[Tensor, "users dim"],
    items: Float[Tensor, "items dim"],
    user_indices: Int[Tensor, "pairs"],
    item_indices: Int[Tensor, "pairs"],
) -> dict[str, float]:
    """Every diagnostic by name. Users and items that are in no training pair count in none of them.

    Args:
        users, items: all vectors, as the head gets them.
        user_indices, item_indices: the training pairs, on the device of the vectors.
    """
    found = {"alignment": alignment(users, items, user_indices, item_indices)}
    for side, vectors, indices in (("user", users, user_indices), ("item", items, item_indices)):
        counts = torch.bincount(indices, minlength=len(vectors))
        known = counts.nonzero().squeeze(1)
        vectors, counts = vectors[known].float(), counts[known]
        some = torch.randperm(len(known), generator=torch_generator(0, "diagnostics"))[:SAMPLE].to(vectors.device)
        found[f"{side}_uniformity"] = float(uniformity(F.normalize(vectors[some], dim=-1)))
        found[f"{side}_effective_rank"] = effective_rank(vectors)
        found[f"{side}_norm_popularity"] = spearman(vectors.norm(dim=-1).cpu().numpy(), counts.cpu().numpy())
    return found


def alignment(
    users: Float[Tensor, "users dim"],
    items: Float[Tensor, "items dim"],
    user_indices: Int[Tensor, "pairs"],
    item_indices: Int[Tensor, "pairs"],
) -> float:
    """Mean of ‖u - i‖² over pairs, on unit vectors; from 0 (all on one point) to 4, and 2 for random directions.

    Wang and Isola, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", ICML 2020, https://arxiv.org/abs/2005.10242, section 4.1; of users and their items as in Wang et al.,
    "Towards representation alignment and uniformity in collaborative filtering", KDD 2022,
    https://arxiv.org/abs/2206.12811. Uniformity (`recgraph.objectives.uniformity.uniformity`) is of the same papers;
    with it, 0 is all on one point, and -4 about the least that many dimensions allow.
    """
    users, items = F.normalize(users.float(), dim=-1), F.normalize(items.float(), dim=-1)
    total = torch.zeros((), dtype=torch.float64, device=users.device)
    for some_users, some_items in zip(user_indices.split(PAIRS), item_indices.split(PAIRS), strict=True):
        total += (users[some_users] - items[some_items]).square().sum()
    return float(total / len(user_indices))


def effective_rank(vectors: Float[Tensor, "rows dim"]) -> float:
    """exp of the entropy of the singular values, which are divided by their sum; from 1 to the width.

    Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007, section 2. Singular
    values are square roots of the eigenvalues of the Gram matrix [dim, dim]. 0 if all vectors are.
    """
    wide = vectors.double()
    singular = torch.linalg.eigvalsh((wide.T @ wide).cpu()).clamp(min=0).sqrt()
    if not singular.sum() > 0:
        return 0.0
    share = singular / singular.sum()
    return float(torch.special.entr(share).sum().exp())


def spearman(one: Num[np.ndarray, "values"], other: Num[np.ndarray, "values"]) -> float:
    """Rank correlation in [-1, 1], where equal values share their mean rank; 0 if either side has only one value."""
    from scipy.stats import rankdata  # slow to import

    ranks = [rankdata(values) for values in (one, other)]
    if any(values.min() == values.max() for values in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
