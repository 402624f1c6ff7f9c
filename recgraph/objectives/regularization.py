"""Objectives that keep parameters small."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from recgraph.objectives.base import Objective, masked_mean
from recgraph.recommender import Recommender
from recgraph.registry import objectives
from recgraph.types import Batch, Encoding


@objectives.register("ego_l2")
class EgoL2(Objective):
    """L2 on the untransformed rows of the batch: ½ (‖e⁰ᵤ‖² + ‖e⁰ᵢ‖² + Σⱼ ‖e⁰ⱼ‖²), the mean over rows.

    With one negative j a row and weight λ this is λ·½‖E⁰_batch‖²/B, as in LightGCN (He et al. 2020,
    https://arxiv.org/abs/2002.02126, equation 15, and the authors' PyTorch code). Toolkits differ here: some take the
    norm and not its square, some regularise every parameter or the propagated rows. A λ copied from one of them means
    something else.
    """

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """Half the squared norm of each row's layer-0 vectors, averaged over rows."""
        query, table = encoding.ego
        rows = F.embedding(batch.items, table).square().sum(-1)
        if query is not None:
            rows = rows + query.square().sum(-1)
        if batch.negatives is not None:
            drawn = F.embedding(batch.negatives, table).square().sum((-1, -2))
            if batch.negatives.dim() == 1:  # one set for all rows counts once in the batch's sum
                drawn = drawn / (rows.numel() if batch.mask is None else batch.mask.sum())
            rows = rows + drawn
        return masked_mean(rows / 2, batch.mask)
