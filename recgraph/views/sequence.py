"""Views of histories: cropping, masking and reordering.

Xie et al., "Contrastive learning for sequential recommendation" (CL4SRec), ICDE 2022, https://arxiv.org/abs/2010.14395,
section III-C. All rows of a batch are changed at once, each with its own random numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Gt, Le
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.registry import views
from recgraph.types import MASK, PAD, Inputs, View

Share = Annotated[float, Gt(0), Le(1)]
History = Int[Tensor, "batch length"]


class HistoryView(View):
    """Changes each row of the history and nothing else; padding stays on the left."""

    changes = frozenset({"history"})

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The inputs with changed histories; `generator` is on their device.

        Raises:
            ValueError: `inputs.positions` asks for queries at steps of the history, which a view would move.
        """
        if inputs.history is None or inputs.positions is not None:
            raise ValueError(f"{type(self).__name__} changes whole histories: give inputs a history and no positions")
        return replace(inputs, history=self.changed(inputs.history, generator))

    def changed(self, history: History, generator: torch.Generator) -> History:
        """The changed histories, of the same length or shorter."""
        raise NotImplementedError


@views.register("crop")
class Crop(HistoryView):
    """Keeps ⌊η · n⌋ consecutive items of a history of n, at least 1, from a random start.

    Args:
        share: η, in (0, 1].
    """

    def __init__(self, *, share: Share = 0.6) -> None:
        self.share = share

    def changed(self, history: History, generator: torch.Generator) -> History:
        """See the class; the kept items move to the right end."""
        width, count = history.shape[1], lengths(history)
        kept = (count * self.share).long().clamp(min=1).minimum(count)
        start = width - count + below(count - kept + 1, generator)
        column = torch.arange(width, device=history.device) - (width - kept)[:, None]
        found = history.gather(1, (start[:, None] + column).clamp(0, width - 1))
        return torch.where(column >= 0, found, PAD)


@views.register("item_mask")
class ItemMask(HistoryView):
    """Masks ⌊γ · n⌋ random items of a history of n; their steps stay.

    Args:
        share: γ, in (0, 1].
    """

    def __init__(self, *, share: Share = 0.3) -> None:
        self.share = share

    def changed(self, history: History, generator: torch.Generator) -> History:
        """See the class."""
        return hidden(history, (lengths(history) * self.share).long(), generator)


@views.register("reorder")
class Reorder(HistoryView):
    """Shuffles ⌊β · n⌋ consecutive items of a history of n.

    Args:
        share: β, in (0, 1].
    """

    def __init__(self, *, share: Share = 0.6) -> None:
        self.share = share

    def changed(self, history: History, generator: torch.Generator) -> History:
        """See the class."""
        width, count = history.shape[1], lengths(history)
        moved = (count * self.share).long()
        start = (width - count + below(count - moved + 1, generator))[:, None]
        column = torch.arange(width, device=history.device).expand_as(history)
        inside = (column >= start) & (column < start + moved[:, None])
        drawn = torch.rand(history.shape, generator=generator, device=history.device, dtype=torch.float64)
        keys = torch.where(inside, start + drawn * moved[:, None], column.double())
        return history.gather(1, keys.argsort(dim=1, stable=True))


@views.register("crop_mask_reorder")
class CropMaskReorder(HistoryView):
    """Applies one of crop, mask and reorder to each row, chosen at random (CL4SRec).

    Args:
        crop: η of `crop`.
        mask: γ of `item_mask`.
        reorder: β of `reorder`.
    """

    def __init__(self, *, crop: Share = 0.6, mask: Share = 0.3, reorder: Share = 0.6) -> None:
        self.views = Crop(share=crop), ItemMask(share=mask), Reorder(share=reorder)

    def changed(self, history: History, generator: torch.Generator) -> History:
        """See the class."""
        which = torch.randint(3, (len(history), 1), generator=generator, device=history.device)
        for number, view in enumerate(self.views):
            history = torch.where(which == number, view.changed(history, generator), history)
        return history


def hidden(history: History, count: Int[Tensor, "batch"], generator: torch.Generator) -> History:
    """Histories with the given number of random items in each replaced by `MASK`."""
    drawn = torch.rand(history.shape, generator=generator, device=history.device)
    rank = drawn.masked_fill(history == PAD, torch.inf).argsort(1).argsort(1)
    return torch.where(rank < count[:, None], MASK, history)


def lengths(history: History) -> Int[Tensor, "batch"]:
    """The number of items in each history."""
    return (history != PAD).sum(1)


def below(bounds: Int[Tensor, "batch"], generator: torch.Generator) -> Int[Tensor, "batch"]:
    """A random integer for each bound, from 0 to bound - 1."""
    drawn: Float[Tensor, "batch"] = torch.rand(
        len(bounds), generator=generator, device=bounds.device, dtype=torch.float64
    )
    return (drawn * bounds).long()
