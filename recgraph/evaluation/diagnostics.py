"""Diagnostics of trained vectors: alignment, uniformity, effective rank, and correlation of norm with popularity.

They do not measure how good a model is, but show what is wrong with it. Collapsed vectors have a low effective rank and
a uniformity near 0; a model that ranks by popularity has long vectors for popular items.
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
"""Number of pairs whose vectors are gathered at once, small enough to stay in a processor's cache."""

SAMPLE = 4096
"""Maximum number of vectors for uniformity, which compares all pairs of them."""


@torch.no_grad()
def diagnose(
    users: Float[Tensor, "users dim"],
    items: Float[Tensor, "items dim"],
    user_indices: Int[Tensor, "pairs"],
    item_indices: Int[Tensor, "pairs"],
) -> dict[str, float]:
    """All diagnostics by name; users and items without training pairs are left out.

    Args:
        users, items: vectors of all users and items, as passed to the head.
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
    """Mean of ‖u - i‖² over pairs of unit vectors, from 0 (all on one point) to 4; 2 for random directions.

    Wang and Isola, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", ICML 2020, https://arxiv.org/abs/2005.10242, section 4.1; for users and their items: Wang et al.,
    "Towards representation alignment and uniformity in collaborative filtering", KDD 2022,
    https://arxiv.org/abs/2206.12811. Uniformity (`recgraph.objectives.uniformity.uniformity`) is from the same papers;
    it is 0 if all vectors are on one point, and its minimum in many dimensions is about -4.
    """
    users, items = F.normalize(users.float(), dim=-1), F.normalize(items.float(), dim=-1)
    total = torch.zeros((), dtype=torch.float64, device=users.device)
    for some_users, some_items in zip(user_indices.split(PAIRS), item_indices.split(PAIRS), strict=True):
        total += (users[some_users] - items[some_items]).square().sum()
    return float(total / len(user_indices))


def effective_rank(vectors: Float[Tensor, "rows dim"]) -> float:
    """Exponential of the entropy of the singular values, normalised to sum to 1; from 1 to the width.

    Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007, section 2. Singular
    values are computed as square roots of the eigenvalues of the Gram matrix [dim, dim]. The result is 0 if all vectors
    are 0.
    """
    wide = vectors.double()
    singular = torch.linalg.eigvalsh((wide.T @ wide).cpu()).clamp(min=0).sqrt()
    if not singular.sum() > 0:
        return 0.0
    share = singular / singular.sum()
    return float(torch.special.entr(share).sum().exp())


def spearman(one: Num[np.ndarray, "values"], other: Num[np.ndarray, "values"]) -> float:
    """Spearman's rank correlation in [-1, 1], with the mean rank for ties; 0 if either side is constant."""
    from scipy.stats import rankdata  # slow to import

    ranks = [rankdata(values) for values in (one, other)]
    if any(values.min() == values.max() for values in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
