"""Embedding tables for the field values of users, items and contexts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from recgraph.encoders.base import embedding_table, lookup
from recgraph.errors import ConfigError, suggest
from recgraph.types import CONTEXT, Modality


class Tables(nn.Module):
    """Embeds all fields of one side: the id itself, each modality, and the context.

    A modality of ids has an embedding per id, and a row gets the mean over its ids. Vectors and numbers are mapped
    linearly, so that a number scales an embedding of its own. A row without values gets zeros.

    Args:
        rows: users, or items.
        modalities: modalities of that side; only widths, and the largest id, are read.
        context: names of the context fields.
        dim: width of the vectors.
        std: standard deviation of the initial values.
    """

    def __init__(
        self, rows: int, modalities: Mapping[str, Modality], context: tuple[str, ...], *, dim: int, std: float
    ) -> None:
        super().__init__()
        self.index = embedding_table(rows, dim, std)
        self.moment = nn.ModuleDict({name: embedding_table(CONTEXT[name], dim, std) for name in context})
        self.values = nn.ModuleDict()
        for name, (values, _) in modalities.items():
            if values.is_floating_point():
                self.values[name] = linear = nn.Linear(values.shape[1], dim, bias=False)
                nn.init.normal_(linear.weight, std=std)
            else:
                self.values[name] = embedding_table(max(1, int(values.max())), dim, std)

    def forward(
        self,
        rows: Int[Tensor, "*batch"],
        modalities: Mapping[str, Modality],
        context: Int[Tensor, "*batch moments"] | None,
    ) -> Float[Tensor, "*batch fields dim"]:
        """The vectors of some rows."""
        found = [lookup(self.index.weight, rows)]
        for name, table in self.values.items():
            values = modalities[name].values[rows]
            if isinstance(table, nn.Embedding):
                found.append(bag(table, values) / (values > 0).sum(-1, keepdim=True).clamp(min=1))
            else:
                found.append(table(values))
        for name, table in self.moment.items():
            assert context is not None
            assert isinstance(table, nn.Embedding)
            found.append(lookup(table.weight, context[..., list(CONTEXT).index(name)]))
        return torch.stack(found, -2)


def bag(table: nn.Embedding, ids: Int[Tensor, "*batch some"]) -> Float[Tensor, "*batch dim"]:
    """The sum of the vectors of some ids, which are counted from 1; 0 stands for no id."""
    return (lookup(table.weight, (ids - 1).clamp(min=0)) * (ids > 0).unsqueeze(-1)).sum(-2)


def side_of(name: str, fields: Sequence[Mapping[str, int]]) -> int:
    """Return 0 for a field of the query, 1 for one of the item.

    Args:
        name: of the field.
        fields: the id fields of the query and of the item.

    Raises:
        ConfigError: there is no id field of this name.
    """
    for side, known in enumerate(fields):
        if name in known:
            return side
    raise ConfigError(f"encoder.crosses: no field {name!r} that has ids. {suggest(name, [*fields[0], *fields[1]])}")
