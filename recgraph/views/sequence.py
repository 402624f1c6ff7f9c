"""Views of histories: cut, hidden and shuffled.

Xie et al., "Contrastive learning for sequential recommendation" (CL4SRec), ICDE 2022, https://arxiv.org/abs/2010.14395,
section III-C. All rows of a batch are changed at once, each by numbers of its own.
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
    """A view of the history alone, each row of which it changes; padding stays on the left."""

    changes = frozenset({"history"})

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The inputs with other histories; `generator` is on their device.

        Raises:
            ValueError: queries are asked for at steps of the history, which a view moves.
        """
        if inputs.history is None or inputs.positions is not None:
            raise ValueError(f"{type(self).__name__} changes whole histories: give inputs a history and no positions")
        return replace(inputs, history=self.changed(inputs.history, generator))

    def changed(self, history: History, generator: torch.Generator) -> History:
        """Histories as long as those given, or shorter."""
        raise NotImplementedError


@views.register("crop")
class Crop(HistoryView):
    """Keeps ⌊η · n⌋ successive items of a history of n, 1 at least, from a random place on.

    Args:
        share: η, in (0, 1].
    """

    def __init__(self, *, share: Share = 0.6) -> None:
        self.share = share

    def changed(self, history: History, generator: torch.Generator) -> History:
        """See the class; what is kept moves to the right end."""
        width, count = history.shape[1], lengths(history)
        kept = (count * self.share).long().clamp(min=1).minimum(count)
        start = width - count + below(count - kept + 1, generator)
        column = torch.arange(width, device=history.device) - (width - kept)[:, None]
        found = history.gather(1, (start[:, None] + column).clamp(0, width - 1))
        return torch.where(column >= 0, found, PAD)


@views.register("item_mask")
class ItemMask(HistoryView):
    """Hides ⌊γ · n⌋ random items of a history of n; their steps stay.

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
    """Shuffles ⌊β · n⌋ successive items of a history of n.

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
    """One of the three for each row, by chance (CL4SRec).

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
    """Histories with `MASK` in the place of so many items of each, by chance."""
    drawn = torch.rand(history.shape, generator=generator, device=history.device)
    rank = drawn.masked_fill(history == PAD, torch.inf).argsort(1).argsort(1)
    return torch.where(rank < count[:, None], MASK, history)


def lengths(history: History) -> Int[Tensor, "batch"]:
    """Items of each history."""
    return (history != PAD).sum(1)


def below(bounds: Int[Tensor, "batch"], generator: torch.Generator) -> Int[Tensor, "batch"]:
    """A random number for each bound, from 0 up to it, not included."""
    drawn: Float[Tensor, "batch"] = torch.rand(
        len(bounds), generator=generator, device=bounds.device, dtype=torch.float64
    )
    return (drawn * bounds).long()
