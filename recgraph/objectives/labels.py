"""Objectives of auxiliary tasks: labels predicted from the shared representation."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recgraph.data.labels import MISSING
from recgraph.encoders.base import lookup
from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objective
from recgraph.registry import objectives
from recgraph.types import Batch, Encoding, LabelKind, PositiveInt


@objectives.register("label")
class Label(Objective):
    """Loss of a label's head: cross-entropy of classes, mean binary cross-entropy of tags, or squared error.

    With `class_weight: balanced` of the label, each row's loss is weighted by its class, each tag's by its presence.
    The loss is the mean over the batch's distinct users, items or interactions whose label is known: a user with many
    rows counts as much as one with few, as in the head's evaluation. Masked labels are left out. The head is linear by
    default in its inputs (`recgraph.heads.labels`) and is saved with the recommender.

    Args:
        of: a label of the `labels:` block.
        hidden: widths of hidden layers of the head.
        probe: train the head alone, on a representation that does not learn from it. It shows how much of the label the
            other objectives capture by themselves: the reference of every multi-task row.
    """

    needs = frozenset({"labels"})

    def __init__(self, *, of: str, hidden: tuple[PositiveInt, ...] = (), probe: bool = False) -> None:
        super().__init__()
        self.task, self.hidden, self.probe = of, hidden, probe  # type: ignore[misc]  # this one's, not the class's

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class."""
        assert self.task is not None
        head, targets = recommender.label_head(self.task), batch.labels[self.task]
        if self.probe:
            encoding = replace(encoding, query=encoding.query.detach(), items=encoding.items.detach())
        item = None if head.of == "user" else lookup(encoding.items, batch.items)
        outputs = head(encoding.query, item, batch.evidence.get(self.task))
        losses, counts = label_losses(head.kind, outputs, targets, head.class_weights)
        if batch.mask is not None:
            counts = counts & batch.mask
        weights = counts.to(losses.dtype)
        if head.of != "interaction":
            owners = batch.users if head.of == "user" else batch.items
            rows = recommender.num_users if head.of == "user" else recommender.num_items
            weights = weights / repeats(owners, counts, rows).to(losses.dtype)
        # Weights add up to the number of owners whose label is known; without any, the loss is 0.
        return (weights * losses).sum() / weights.sum().clamp(min=1)


def label_losses(
    kind: LabelKind,
    outputs: Float[Tensor, "*rows width"],
    targets: Tensor,
    class_weights: Float[Tensor, "classes"] | Float[Tensor, "tags 2"] | None = None,
) -> tuple[Float[Tensor, "*rows"], Bool[Tensor, "*rows"]]:
    """The loss of each row, 0 where its label is masked; and True where it is not masked.

    Args:
        kind: of the label.
        outputs: of its head.
        targets: classes, or 0 and 1 of each tag, or numbers, as in `recgraph.data.labels.LabelData.table`.
        class_weights: factors of the losses, as in `recgraph.data.labels.LabelData.class_weights`.
    """
    if kind == "classes":
        counts = targets != MISSING
        losses = F.cross_entropy(outputs.movedim(-1, 1), targets.clamp(min=0), class_weights, reduction="none")
    elif kind == "tags":
        counts = ~targets[..., 0].isnan()
        targets = targets.nan_to_num()
        weights = None if class_weights is None else torch.where(targets > 0, class_weights[:, 1], class_weights[:, 0])
        losses = F.binary_cross_entropy_with_logits(outputs, targets, weights, reduction="none").mean(-1)
    else:
        counts = ~targets.isnan()
        losses = (outputs.squeeze(-1) - targets.nan_to_num()).square()
    return torch.where(counts, losses, 0), counts


def repeats(owners: Int[Tensor, "*rows"], counts: Bool[Tensor, "*rows"], num: int) -> Int[Tensor, "*rows"]:
    """For each row, how many counted rows its owner has, at least 1; owners are below `num`."""
    flat = owners.flatten()
    found = torch.zeros(num, dtype=torch.long, device=flat.device).index_add_(0, flat, counts.flatten().long())
    return found.clamp(min=1).index_select(0, flat).view(owners.shape)
