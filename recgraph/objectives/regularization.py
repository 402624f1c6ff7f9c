"""Objectives that keep parameters small."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.encoders.base import lookup
from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objective
from recgraph.objectives.rows import mean_over_rows
from recgraph.registry import objectives
from recgraph.types import Batch, Encoding


@objectives.register("weight_decay")
class WeightDecay(Objective):
    """Half the squared norm of all parameters of encoder and heads; weight λ is equivalent to Adam's `weight_decay` λ.

    The only objective that is not a mean over rows. Use it where a paper's authors set `weight_decay` in their
    optimiser. In each step `ego_l2` penalises the parameters that a batch uses, and this one all parameters.
    """

    of_parameters = True

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class."""
        return torch.stack([parameter.square().sum() for parameter in recommender.parameters()]).sum() / 2


@objectives.register("ego_l2")
class EgoL2(Objective):
    """L2 on the untransformed rows of the batch: ½ (‖e⁰ᵤ‖² + ‖e⁰ᵢ‖² + Σⱼ ‖e⁰ⱼ‖²), the mean over rows.

    With one negative j a row and weight λ this is λ·½‖E⁰_batch‖²/B, as in LightGCN (He et al. 2020,
    https://arxiv.org/abs/2002.02126, equation 15, and the authors' PyTorch code). Toolkits differ here: some take the
    norm and not its square, some regularise every parameter or the propagated rows. A λ copied from one of them means
    something else.
    """

    of_parameters = True

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """Half the squared norm of each row's layer-0 vectors, averaged over rows."""
        num = 0 if batch.negatives is None else batch.negatives.shape[-1]

        def losses(part: Batch, encoding: Encoding) -> Tensor:
            query, table = encoding.ego
            mine = part.items.unsqueeze(-1)
            if part.negatives is not None and part.hits is None:
                mine = torch.cat([mine, part.negatives], -1)
            rows = _squares(table, mine).sum(-1)
            if query is not None:
                rows = rows + query.square().sum(-1)
            if part.negatives is not None and part.hits is not None:  # a shared set counts once in the batch's sum
                rows = rows + _squares(table, part.negatives).sum() / part.num_valid
            return rows / 2

        return mean_over_rows(losses, batch, encoding, width=(1 + num) * encoding.items.shape[1])


def _squares(table: Float[Tensor, "rows dim"], index: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Squared norms of rows of a table; if every row is read more than once on average, each is computed once."""
    if index.numel() < len(table):
        return lookup(table, index).square().sum(-1)
    return table.square().sum(-1).index_select(0, index.flatten()).view(index.shape)
