"""Vectors computed from the content of users and items alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from recgraph.encoders.base import Encoder, embedding_table, lookup
from recgraph.encoders.tower import Fusion, Tower
from recgraph.errors import ConfigError
from recgraph.registry import encoders
from recgraph.types import (
    Content,
    Ego,
    Encoding,
    Fraction,
    Inputs,
    Modality,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)


@encoders.register("content")
class ContentEncoder(Encoder):
    """Encodes items from their content alone: all of them, warm or cold, go through the tower.

    Users are encoded in the same way if they have modalities. On a side without modalities, each has a free vector.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        content: the modalities; only their widths are read.
        dim: width of the vectors.
        hidden: width of the towers' hidden layer; 0 for linear towers. CLCRec, GAR and ALDI use 200 to 256.
        dropout: fraction of the hidden layer that is zeroed in training, in [0, 1).
        experts, fusion: number of networks in each tower, and how modalities are fused; see `Tower`.
        std: standard deviation of the initial free vectors.
    """

    reads = frozenset({"content", "perturb"})

    def __init__(
        self,
        num_users: int,
        num_items: int,
        content: Content,
        *,
        dim: PositiveInt = 64,
        hidden: NonNegativeInt = 256,
        dropout: Fraction = 0.0,
        experts: PositiveInt = 1,
        fusion: Fusion = "attention",
        std: PositiveFloat = 0.1,
    ) -> None:
        super().__init__(num_users, num_items, dim=dim)
        if not (content.items or content.users):
            raise ConfigError("encoder content: no modality is given; add one of items or of users to `content:`")

        def side(modalities: Mapping[str, Modality], rows: int) -> Tower | nn.Embedding:
            if not modalities:
                return embedding_table(rows, dim, std)
            return Tower(modalities, dim=dim, hidden=hidden, dropout=dropout, experts=experts, fusion=fusion)

        self.item_tower, self.user_tower = side(content.items, num_items), side(content.users, num_users)

    def forward(self, inputs: Inputs) -> Encoding:
        """Vectors from content; `inputs.perturb` acts on both sides."""
        content = checked(inputs)
        users, items = (
            tower.weight if isinstance(tower, nn.Embedding) else tower(modalities)
            for tower, modalities in ((self.user_tower, content.users), (self.item_tower, content.items))
        )
        query = lookup(users, inputs.users)
        return Encoding(inputs.perturb(query), inputs.perturb(items), Ego(query, items))


def checked(inputs: Inputs) -> Content:
    """The content of the inputs.

    Raises:
        TypeError: there is none.
    """
    if inputs.content is None:
        raise TypeError("this encoder reads `Inputs.content`, and there is none: see recgraph.data.content")
    return inputs.content
