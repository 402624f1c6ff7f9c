"""Contrast: two vectors of one node should be more alike than vectors of two nodes.

All objectives here take InfoNCE with cosine similarity, for the batch's users and for its positive items, each once:

    mean over a of  -ln ( exp(cos(a, a') / τ) / Σ_c exp(cos(a, c) / τ) )

where a' is the other vector of the same node and the sum over candidates c includes it. Papers differ in whether a node
counts once or as often as it is in the batch, in the candidates, and in whether losses are sums or means; the weights
of those that sum both ranking and contrast over a batch, and of those that take the mean of both, mean the same here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.errors import ConfigError
from recgraph.objectives.base import Objective
from recgraph.objectives.rows import mean_over_rows
from recgraph.recommender import Recommender
from recgraph.registry import objectives
from recgraph.types import Batch, Distinct, Ego, Encoding, Inputs, NonNegativeFloat, NonNegativeInt, PositiveFloat, View


class Contrast(Objective):
    """What contrasts share: the sum of the users' and the items' InfoNCE, each the mean over distinct nodes.

    Args:
        temperature: τ.
        user_weight: of the users' mean.
        item_weight: of the items' mean.
        view: how inputs are changed; None for not at all.
    """

    needs = frozenset({"generator", "distinct"})

    def __init__(self, temperature: float, user_weight: float, item_weight: float, view: View | None) -> None:
        super().__init__()
        self.temperature, self.user_weight, self.item_weight, self.view = temperature, user_weight, item_weight, view

    def seen(self, inputs: Inputs, batch: Batch) -> Inputs:
        """`inputs` as the view, if there is one, leaves them."""
        if self.view is None:
            return inputs
        if batch.generator is None:
            raise ValueError(f"{type(self).__name__} draws views: give Batch a `generator` on the device of its inputs")
        return self.view(inputs, batch.generator)

    def weighted(self, users: Tensor, items: Tensor) -> Tensor:
        """The sum of both sides' means."""
        return self.user_weight * users + self.item_weight * items


@objectives.register("view_contrast")
class ViewContrast(Contrast):
    """InfoNCE between two views of the inputs, drawn independently; each costs a pass of the encoder.

    With `edge_drop` and `against: all` SGL-ED (Wu et al. 2021, https://arxiv.org/abs/2010.10783); with
    `noise` SimGCL (Yu et al. 2022, https://arxiv.org/abs/2112.08679); without a view SGL-WA of SimGCL's section 2.2,
    which only spreads vectors out; it contrasts the shared encoding with itself and costs no pass.

    Args:
        temperature: τ (0.2 in SGL and SimGCL).
        view: drawn twice in each step.
        against: candidates, from the second view: the batch's own distinct users or items (SimGCL), or all (SGL).
        user_weight: of the users' mean.
        item_weight: of the items' mean.
    """

    def __init__(
        self,
        *,
        temperature: PositiveFloat = 0.2,
        view: View | None = None,
        against: Literal["batch", "all"] = "batch",
        user_weight: NonNegativeFloat = 1.0,
        item_weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(temperature, user_weight, item_weight, view)
        self.against = against

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class; the shared encoding is read only if there is no view."""
        rows, items = distinct(batch)
        inputs, encoder = replace(batch.inputs, positions=None), recommender.encoder
        one = encoding if self.view is None else encoder(self.seen(inputs, batch))
        anchors = one.query.index_select(0, rows), one.items.index_select(0, items)
        if self.against == "batch":
            two = one if self.view is None else encoder(self.seen(inputs, batch))
            candidates = two.query.index_select(0, rows), two.items.index_select(0, items)
            targets = torch.arange(len(rows), device=rows.device), torch.arange(len(items), device=items.device)
        else:
            if inputs.history is not None:
                raise ConfigError("view_contrast: against 'all' wants all users' queries, which depend on a history")
            everybody = torch.arange(encoder.num_users, device=rows.device)
            two = encoder(self.seen(replace(inputs, users=everybody), batch))
            candidates, targets = (two.query, two.items), (inputs.users.index_select(0, rows), items)
        users, items = (
            info_nce(*side, temperature=self.temperature) for side in zip(anchors, candidates, targets, strict=True)
        )
        return self.weighted(users, items)


@objectives.register("layer_contrast")
class LayerContrast(Contrast):
    """InfoNCE between the final vectors and one hidden layer of the shared encoding; costs no pass of its own.

    With `noise` this is XSimGCL (Yu et al., "XSimGCL: Towards extremely simple graph contrastive learning for
    recommendation", TKDE 2023, https://arxiv.org/abs/2209.02544). The view is then part of the encoding
    that all objectives share, ranking included, as it is there.

    Args:
        temperature: τ (0.2 in XSimGCL's paper, 0.15 in its settings for Yelp2018).
        layer: l*, the hidden layer that candidates are from; below the encoder's last.
        view: changes what the shared encoding is made of.
        user_weight: of the users' mean.
        item_weight: of the items' mean.
    """

    def __init__(
        self,
        *,
        temperature: PositiveFloat = 0.2,
        layer: NonNegativeInt = 1,
        view: View | None = None,
        user_weight: NonNegativeFloat = 1.0,
        item_weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(temperature, user_weight, item_weight, view)
        self.layer = layer

    def inputs(self, inputs: Inputs, batch: Batch) -> Inputs:
        """Ask for layers, and let the view change the rest."""
        return replace(self.seen(inputs, batch), every_layer=True)

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class.

        Raises:
            ConfigError: the encoder has no such layer.
        """
        found = encoding.layers or ()
        if self.layer >= len(found):
            name = type(recommender.encoder).__name__
            raise ConfigError(f"layer_contrast: no layer {self.layer}: {name} has {len(found)}, counted from 0")
        pairs = zip((encoding.query, encoding.items), found[self.layer], distinct(batch), strict=True)
        users, items = (
            info_nce(
                final.index_select(0, some),
                hidden.index_select(0, some),
                torch.arange(len(some), device=some.device),
                temperature=self.temperature,
            )
            for final, hidden, some in pairs
        )
        return self.weighted(users, items)


def distinct(batch: Batch) -> Distinct:
    """The batch's distinct users and items, found here where `Batches` has not."""
    return batch.distinct or Distinct.of(batch.inputs.users, batch.items, batch.mask)


def info_nce(
    anchors: Float[Tensor, "anchors dim"],
    candidates: Float[Tensor, "candidates dim"],
    targets: Int[Tensor, "anchors"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Mean over anchors of -ln softmax(cos(anchor, candidates) / τ) at its target.

    Walks the anchors in chunks, so that anchors × candidates are never in memory at once; see `mean_over_rows`.

    Args:
        anchors: any length; they are normalised here.
        candidates: likewise.
        targets: which candidate is the anchor's other vector.
        temperature: τ, above 0.
    """
    anchors, candidates = F.normalize(anchors, dim=-1), F.normalize(candidates, dim=-1)

    def losses(part: Batch, encoding: Encoding) -> Tensor:
        logits = encoding.query @ encoding.items.T / temperature
        return F.cross_entropy(logits, part.items, reduction="none")

    # To InfoNCE, anchors are queries, candidates the catalogue, and targets positives.
    return mean_over_rows(
        losses,
        Batch(Inputs(targets), targets),
        Encoding(anchors, candidates, Ego(None, candidates)),
        width=len(candidates),
    )
