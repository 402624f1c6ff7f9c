"""Vectors of what users and items are: one tower a modality, and attention that says which of them an item goes by.

The attention is that of Yang et al., "Hierarchical attention networks for document classification", NAACL 2016, section
2.2, over modalities in place of words.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.encoders.base import Encoder, embedding_table, lookup
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


class Tower(nn.Module):
    """Turns the modalities of users, or of items, into one vector for each.

        hₘ = MLPₘ(LayerNorm(xₘ)),  h = Σₘ aₘ hₘ,  a = softmaxₘ(⟨c, tanh(W hₘ + b)⟩)

    over the modalities that are present. One with none of them gets the mean vector of those with any: unknown is taken
    for average, which no head ranks first or last. If nobody has any, all are zeros.

    Args:
        modalities: name -> modality; only widths are read.
        dim: width of the vectors.
        hidden: width of the MLPs' one hidden layer; 0 for none, which leaves a linear map.
        dropout: fraction of the hidden layer, or without one of the input, that is zeroed in training.
    """

    def __init__(self, modalities: Mapping[str, Modality], *, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        towers = {}
        for name, (values, _) in modalities.items():
            if not values.is_floating_point():
                raise ConfigError(f"content.{name}: this encoder makes layers over vectors: leave out `ids: true`")
            width = values.shape[1]
            layers: list[nn.Module] = [nn.LayerNorm(width)]
            if hidden:
                layers += [nn.Linear(width, hidden), nn.GELU()]
            towers[name] = nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(hidden or width, dim))
        self.towers = nn.ModuleDict(towers)
        if len(towers) > 1:
            self.attend = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False))

    def forward(self, modalities: Mapping[str, Modality]) -> Float[Tensor, "rows dim"]:
        """The vector of each row."""
        hidden, present = self._hidden(modalities)
        vectors = (self._weigh(hidden, present).unsqueeze(-1) * hidden).sum(1)
        some = present.any(1, keepdim=True)
        mean = vectors.sum(0) / some.sum().clamp(min=1)
        return torch.where(some, vectors, mean)

    def weights(self, modalities: Mapping[str, Modality]) -> dict[str, Float[Tensor, "rows"]]:
        """How much of each row's vector is of each modality: they add up to 1, or are 0 for a row without any."""
        found = self._weigh(*self._hidden(modalities))
        return dict(zip(self.towers, found.T, strict=True))

    def _hidden(self, modalities: Mapping[str, Modality]) -> tuple[Tensor, Tensor]:
        found = [tower(modalities[name].values) for name, tower in self.towers.items()]
        return torch.stack(found, 1), torch.stack([modalities[name].present for name in self.towers], 1)

    def _weigh(self, hidden: Tensor, present: Tensor) -> Tensor:
        if len(self.towers) == 1:
            return present.to(hidden.dtype)
        # The lowest finite number, for a row of nothing but -∞ has no softmax; the product then makes it zeros.
        scores = self.attend(hidden).squeeze(-1).masked_fill(~present, torch.finfo(hidden.dtype).min)
        return scores.softmax(1) * present


@encoders.register("content")
class ContentEncoder(Encoder):
    """Items are what they are made of, and nothing else: all of them, warm or cold, go through the tower.

    So do users if the dataset's users have modalities; else each has a free vector.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        content: the modalities; only their widths are read.
        dim: width of the vectors.
        hidden: width of the towers' hidden layer; 0 for linear towers. 200 to 256 is what CLCRec, GAR and ALDI have.
        dropout: fraction of the hidden layer that is zeroed in training, in [0, 1).
        std: standard deviation of users' initial free vectors.
    """

    reads = frozenset({"content"})

    def __init__(
        self,
        num_users: int,
        num_items: int,
        content: Content,
        *,
        dim: PositiveInt = 64,
        hidden: NonNegativeInt = 256,
        dropout: Fraction = 0.0,
        std: PositiveFloat = 0.1,
    ) -> None:
        super().__init__(num_users, num_items, dim=dim)
        if not content.items:
            raise ConfigError("encoder content: no modality of items is given; add one to `content:`")
        self.item_tower = Tower(content.items, dim=dim, hidden=hidden, dropout=dropout)
        if content.users:
            self.user_tower = Tower(content.users, dim=dim, hidden=hidden, dropout=dropout)
        else:
            self.users = embedding_table(num_users, dim, std)

    def forward(self, inputs: Inputs) -> Encoding:
        """Vectors by content; `inputs.perturb` acts on both sides."""
        content = checked(inputs)
        users = self.user_tower(content.users) if content.users else self.users.weight
        query, items = lookup(users, inputs.users), self.item_tower(content.items)
        return Encoding(inputs.perturb(query), inputs.perturb(items), Ego(query, items))


def checked(inputs: Inputs) -> Content:
    """The content of the inputs.

    Raises:
        TypeError: there is none.
    """
    if inputs.content is None:
        raise TypeError("this encoder reads `Inputs.content`, and there is none: see recgraph.data.content")
    return inputs.content
