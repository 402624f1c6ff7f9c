"""Contrastive losses: two vectors of one node should be more alike than vectors of different nodes.

All objectives here use InfoNCE, with cosine similarity unless an option says otherwise, over the batch's distinct users
and distinct positive items:

    mean over a of  -ln ( exp(cos(a, a') / τ) / Σ_c exp(cos(a, c) / τ) )

where a' is the other vector of the same node and the sum over candidates c includes it. Papers differ in whether a node
counts once or as often as it is in the batch, in the candidates, and in whether losses are sums or means. Weights carry
over from papers that sum both ranking and contrast over a batch, and from those that take the mean of both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from recgraph.errors import ConfigError
from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objective, after_history
from recgraph.objectives.info_nce import Similarity, info_nce
from recgraph.registry import objectives
from recgraph.types import Batch, Distinct, Encoding, Inputs, NonNegativeFloat, NonNegativeInt, PositiveFloat, View

Sides = tuple[Tensor, Tensor]
"""A tensor for the users and one for the items."""

Against = Literal["batch", "all"]


class Contrast(Objective):
    """Base class: the weighted sum of the users' and the items' InfoNCE, each a mean over distinct nodes.

    Args:
        temperature: τ.
        user_weight: of the users' mean.
        item_weight: of the items' mean.
        view: how inputs are changed; None for not at all.
    """

    similarity: Similarity = "cosine"  # this and the next are options of `view_contrast`
    bound: float | None = None

    needs = frozenset({"generator", "distinct"})
    task = None

    def __init__(self, temperature: float, user_weight: float, item_weight: float, view: View | None) -> None:
        super().__init__()
        if not user_weight and not item_weight:
            raise ConfigError("user_weight and item_weight are 0: nothing would be contrasted")
        self.temperature, self.user_weight, self.item_weight, self.view = temperature, user_weight, item_weight, view

    def seen(self, inputs: Inputs, batch: Batch) -> Inputs:
        """`inputs` under the view, or unchanged without one."""
        if self.view is None:
            return inputs
        if batch.generator is None:
            raise ValueError(f"{type(self).__name__} draws views: give Batch a `generator` on the device of its inputs")
        return self.view(inputs, batch.generator)

    def contrast(self, anchors: Sides, candidates: Sides, targets: Sides) -> Float[Tensor, ""]:
        """The weighted sum of the users' and of the items' InfoNCE."""
        weights = self.user_weight, self.item_weight
        total: Tensor = sum(  # type: ignore[assignment]  # one of the weights is not 0
            weight * info_nce(*side, temperature=self.temperature, similarity=self.similarity, bound=self.bound)
            for weight, *side in zip(weights, anchors, candidates, targets, strict=True)
            if weight
        )
        return total


@objectives.register("view_contrast")
class ViewContrast(Contrast):
    """InfoNCE between encodings z', z" of the same inputs under a view; each drawn view costs one encoder pass.

        a = z'_n,  a' = z"_n,  c = z"_m  for each node n of the batch, and m of the batch or of all nodes

    - SGL (Wu et al. 2021, https://arxiv.org/abs/2010.10783): view `edge_drop`, `node_drop` or `random_walk`,
      `against: all`, `every: epoch`.
    - SimGCL (Yu et al. 2022, https://arxiv.org/abs/2112.08679): view `noise`.
    - LightGCL (Cai et al. 2023, https://arxiv.org/abs/2302.08191): view `svd`, `anchors: shared`, `against: all`. The
      paper says cosine, and so does the authors' code (https://github.com/HKUDS/LightGCL) in `old_setting`. Its newer
      one has `similarity: dot`, `bound: 5`, and sums over layers (`layer_weights: [1, 1, 1]`), with anchors under the
      view and candidates that are not.
    - No view: SGL-WA of SimGCL's section 2.2, which only spreads vectors out; the shared encoding is contrasted with
      itself, without another pass, unless all nodes are candidates.

    Args:
        temperature: τ (0.2 in SGL, SimGCL and LightGCL).
        view: how inputs are changed.
        anchors: which vectors are contrasted: those under a second draw of the view, or those of the encoding that all
            objectives share, which costs no pass.
        against: candidates, under the view: the batch's distinct users or items (SimGCL), or all (SGL, LightGCL).
        every: how often views are drawn: each step, or each epoch, whose steps share the graphs and their operators.
        user_weight: of the users' mean.
        item_weight: of the items' mean.
        similarity: cosine or inner product.
        bound: b, if a positive pair's similarity / τ counts as at most b and at least -b: what is beyond is pulled no
            further, though pushed as one of the candidates. None for no bound.

    Raises:
        ConfigError: `every` is "epoch" with a view that changes more than the graph; the two views would be the same;
            or an option would do nothing.
    """

    def __init__(
        self,
        *,
        temperature: PositiveFloat = 0.2,
        view: View | None = None,
        anchors: Literal["view", "shared"] = "view",
        against: Against = "batch",
        every: Literal["step", "epoch"] = "step",
        user_weight: NonNegativeFloat = 1.0,
        item_weight: NonNegativeFloat = 1.0,
        similarity: Similarity = "cosine",
        bound: PositiveFloat | None = None,
    ) -> None:
        super().__init__(temperature, user_weight, item_weight, view)
        self.similarity, self.bound = similarity, bound
        if every == "epoch" and (view is None or view.changes != {"graph"}):
            what = "no view" if view is None else f"{type(view).__name__} changes {sorted(view.changes)}"
            raise ConfigError(f"view_contrast: every 'epoch' keeps views of the graph; {what}")
        if view is not None and not view.draws and (anchors == "view" or every == "epoch"):
            raise ConfigError(
                f"view_contrast: {type(view).__name__} draws nothing, and would be contrasted with itself: set anchors "
                "to shared, and every to step"
            )
        if anchors == "shared" and view is None:
            raise ConfigError("view_contrast: without a view all vectors are shared: take `anchors` out")
        if bound is not None and similarity == "cosine" and bound * temperature >= 1:
            raise ConfigError(
                f"view_contrast: bound is {bound}; expected below 1 / τ = {1 / temperature:g} for cosines"
            )
        self.anchors, self.against, self.every = anchors, against, every
        self._graphs: dict[int, Any] | None = None

    def begin_epoch(self, recommender: Recommender, epoch: int, generator: torch.Generator | None) -> None:
        """Drop the last epoch's views. The first step draws the new ones, from the current state of its generator."""
        self._graphs = {}

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class; the shared encoding is read only as anchors or if there is no view."""
        rows, items = distinct(batch)
        encoder = recommender.encoder
        inputs = after_history(batch.inputs, encoder)
        drawn = self.view is not None and self.anchors == "view"
        # With a query for each target, the shared encoding has none for each row.
        shared = encoding if batch.inputs.positions is None or drawn else encoder(inputs)
        one = encoder(self._view(0, inputs, batch)) if drawn else shared
        anchors = one.query.index_select(0, rows), one.items.index_select(0, items)
        if self.against == "batch":
            two = shared if self.view is None else encoder(self._view(1, inputs, batch))
            candidates = two.query.index_select(0, rows), two.items.index_select(0, items)
            return self.contrast(anchors, candidates, (_numbers(rows), _numbers(items)))
        if inputs.history is not None:
            raise ConfigError("view_contrast: against 'all' wants all users' queries, which depend on a history")
        everybody = torch.arange(encoder.num_users, device=rows.device)
        two = encoder(self._view(1, replace(inputs, users=everybody), batch))
        return self.contrast(anchors, (two.query, two.items), (inputs.users.index_select(0, rows), items))

    def _view(self, number: Literal[0, 1], inputs: Inputs, batch: Batch) -> Inputs:
        """View 0, for the anchors, or view 1, for the candidates."""
        if self.every == "step":
            return self.seen(inputs, batch)
        if self._graphs is None:
            raise ValueError("ViewContrast draws views every epoch: call begin_epoch before each")
        if number not in self._graphs:
            self._graphs[number] = self.seen(inputs, batch).graph
        return replace(inputs, graph=self._graphs[number])


@objectives.register("layer_contrast")
class LayerContrast(Contrast):
    """InfoNCE between two layers of the shared encoding, without an encoder pass of its own.

        a = z_n, or the layer e_n^(anchor),  a' = e_n^(layer),  c = e_m^(layer)

    - XSimGCL (Yu et al., "XSimGCL: Towards extremely simple graph contrastive learning for recommendation", TKDE 2023,
      https://arxiv.org/abs/2209.02544): view `noise`, which then perturbs the encoding that all objectives share,
      ranking included, as in the paper.
    - The contrast of structural neighbours of NCL (Lin et al., "Improving graph collaborative filtering with
      neighborhood-enriched contrastive learning", WWW 2022, https://arxiv.org/abs/2202.06200, section 3.2):
      `anchor: 2`, `layer: 0`, `against: all`, and their α as `item_weight`. Nodes an even number of steps away are of
      the same kind. Their loss is a sum over the rows of a batch: to convert, multiply their weight by their batch
      size, 4096.

    Args:
        temperature: τ (0.2 in XSimGCL's paper, 0.15 in its settings for Yelp2018; 0.05 to 0.1 in NCL's).
        anchor: the layer that anchors are from; None for the final vectors.
        layer: the layer that candidates are from (l* in XSimGCL), counted from 0.
        against: candidates: the batch's own distinct users or items (XSimGCL), or all (NCL).
        view: how the inputs of the shared encoding are changed, also if the objective's weight is 0.
        user_weight: of the users' mean.
        item_weight: of the items' mean (α in NCL, 0.5 to 1.5).
    """

    compares_layers = True

    def __init__(
        self,
        *,
        temperature: PositiveFloat = 0.2,
        anchor: NonNegativeInt | None = None,
        layer: NonNegativeInt = 1,
        against: Against = "batch",
        view: View | None = None,
        user_weight: NonNegativeFloat = 1.0,
        item_weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(temperature, user_weight, item_weight, view)
        self.anchor, self.layer, self.against = anchor, layer, against

    def inputs(self, inputs: Inputs, batch: Batch) -> Inputs:
        """Ask for layers, and let the view change the rest."""
        return replace(self.seen(inputs, batch), every_layer=True)

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class.

        Raises:
            ConfigError: the encoding has no layers, or the encoder no such layer.
        """
        found, name = encoding.layers, type(recommender.encoder).__name__
        if found is None:
            raise ConfigError(
                f"layer_contrast: an encoding of {name} without layers: encode `objective.inputs(inputs, batch)`, "
                "by an encoder that shows them"
            )
        wanted = max(self.layer, self.anchor or 0)
        if wanted >= len(found):
            raise ConfigError(f"layer_contrast: no layer {wanted}: {name} has {len(found)}, counted from 0")
        rows, items = distinct(batch)
        users = batch.inputs.users.index_select(0, rows)
        if self.anchor is None:
            anchors = encoding.query.index_select(0, rows), encoding.items.index_select(0, items)
        else:
            anchors = _picked(found[self.anchor], users, items)
        if self.against == "all":
            return self.contrast(anchors, found[self.layer], (users, items))
        return self.contrast(anchors, _picked(found[self.layer], users, items), (_numbers(rows), _numbers(items)))


def _picked(tables: Sides, users: Tensor, items: Tensor) -> Sides:
    return tables[0].index_select(0, users), tables[1].index_select(0, items)


def _numbers(chosen: Tensor) -> Tensor:
    """The positions 0, 1, … of the chosen nodes."""
    return torch.arange(len(chosen), device=chosen.device)


def distinct(batch: Batch) -> Distinct:
    """The batch's distinct users and items, computed here if `Batches` has not done so."""
    return batch.distinct or Distinct.of(batch.inputs.users, batch.items, batch.mask)
