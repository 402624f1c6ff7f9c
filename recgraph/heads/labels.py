"""Heads that predict a label of a user, an item or an interaction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.numerics.matmul import Linear
from recgraph.types import LabelKind


class LabelHead(nn.Module):
    """Predicts a label by a linear layer, or by hidden layers with ReLU between them.

    Its input is the query for a user's label, the item vector for an item's, and for an interaction's [query; item;
    query ⊙ item], the vector of a text, or both concatenated. Texts come with length 1. They are multiplied by the root
    of their width, so that a component is of the size of 1 in the mean: from smaller inputs a linear layer learns too
    little in as many steps as the representation trains.

    Args:
        dim: width of query and item vectors.
        of: what the label belongs to.
        kind: what is predicted; it does not change the head, only how its outputs are to be read.
        width: number of outputs: one per class or tag, or one for a number.
        hidden: widths of the hidden layers.
        pair: for an interaction, whether the query and the item vector are inputs.
        text_width: for an interaction, width of the text's vector; 0 if it is not an input.
        class_weights: the weight in the loss of each class, or of the absence and the presence of each tag
            (`recgraph.data.labels.LabelData.class_weights`); None: all equal.
    """

    def __init__(
        self,
        dim: int,
        *,
        of: Literal["user", "item", "interaction"],
        kind: LabelKind,
        width: int,
        hidden: Sequence[int] = (),
        pair: bool = True,
        text_width: int = 0,
        class_weights: Sequence[float] | Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.of, self.kind, self.pair, self.text_width = of, kind, pair, text_width
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights, persistent=False)  # the head's options have them
        inputs = dim if of != "interaction" else 3 * dim * pair + text_width
        layers: list[nn.Module] = []
        for wide, narrow in pairwise((inputs, *hidden, width)):
            layers += [Linear(wide, narrow), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(
        self,
        query: Float[Tensor, "*batch dim"] | None,
        item: Float[Tensor, "*batch dim"] | None,
        text: Float[Tensor, "*batch width"] | None = None,
    ) -> Float[Tensor, "*batch outputs"]:
        """Logits of classes or tags, or the standardised number, of aligned rows. Unused inputs may be None."""
        if self.of != "interaction":
            return self.layers(query if self.of == "user" else item)
        told = []
        if self.pair:
            assert query is not None
            assert item is not None
            told += [query, item, query * item]
        if self.text_width:
            assert text is not None
            told.append(text * self.text_width**0.5)
        return self.layers(torch.cat(told, -1))
