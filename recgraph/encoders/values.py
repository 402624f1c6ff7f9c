"""Vectors of values: tables for what is listed of users, of items, or of a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from recgraph.encoders.base import embedding_table, lookup
from recgraph.errors import ConfigError, suggest
from recgraph.types import CONTEXT, Modality


class Tables(nn.Module):
    """Vectors of all fields of one side: of the id itself, of each modality, and of the moment.

    A modality of ids has a vector for each, and the mean of those a row has; one of vectors or numbers is mapped
    linearly, so that a number scales a vector of its own. A row without any has zeros.

    Args:
        rows: users, or items.
        modalities: of them; only widths, and the largest id, are read.
        context: names of what is read of the moment.
        dim: width of the vectors.
        std: standard deviation of the first values.
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
                self.values[name] = embedding_table(int(values.max()), dim, std)

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
    """The sum of the vectors of some ids, which are counted from 1; 0 has none."""
    return (lookup(table.weight, (ids - 1).clamp(min=0)) * (ids > 0).unsqueeze(-1)).sum(-2)


def side_of(name: str, fields: Sequence[Mapping[str, int]]) -> int:
    """0 for a field of the query, 1 for one of the item.

    Args:
        name: of the field.
        fields: those of ids, of the query and of the item.

    Raises:
        ConfigError: there is no such field of ids.
    """
    for side, known in enumerate(fields):
        if name in known:
            return side
    raise ConfigError(f"encoder.crosses: no field {name!r} that has ids. {suggest(name, [*fields[0], *fields[1]])}")
