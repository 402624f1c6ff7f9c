"""Parts of heads for fields (linear, factorisation machine, cross layers, deep layers) and sums of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.heads.base import Head
from recgraph.heads.layers import Widths, lecun_uniform, xavier_uniform
from recgraph.heads.neural import MLP, in_chunks
from recgraph.layout import Layout
from recgraph.numerics.hashing import pairs
from recgraph.numerics.matmul import Linear
from recgraph.types import PositiveInt


class Part(Head):
    """A head that reads some of the columns that a layout describes.

    Args:
        dim: width of query and item vectors.
        layout: what their columns are.
    """

    def __init__(self, dim: int, layout: Layout) -> None:
        super().__init__(dim)
        self.layout = layout

    @property
    def widths(self) -> tuple[int, int]:
        """Width of a prepared query, and of a prepared item."""
        raise NotImplementedError


class LinearPart(Part):
    """The sum of b, the weights of the query's values, those of the item's values and those of the crossed pairs.

    If the encoder gives vectors without weights, w·query + v·item replaces the weights of the values.
    """

    def __init__(self, dim: int, layout: Layout) -> None:
        super().__init__(dim, layout)
        self.bias = nn.Parameter(torch.zeros(1))
        if not layout.wide:
            self.sides = nn.ModuleList(lecun_uniform(nn.Linear(width, 1, bias=False)) for width in layout.widths)
        self.crosses = nn.ParameterList(torch.zeros(layout.buckets) for _ in layout.crosses)
        self.pair_floats = 1 + 3 * sum(one * other for one, other in layout.crosses)  # buckets, and which are known

    @property
    def widths(self) -> tuple[int, int]:
        """A sum of weights, then the ids to be crossed, for each side."""
        query, items = (1 + sum(cross[side] for cross in self.layout.crosses) for side in range(2))
        return query, items

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Tensor:
        """The sum of the query's weights and b, and its ids."""
        return self._prepare(query, 0, self.bias)

    def prepare_items(self, items: Float[Tensor, "*batch dim"]) -> Tensor:
        """The sum of the item's weights, and its ids."""
        return self._prepare(items, 1)

    def match(self, query: Float[Tensor, "*#batch width"], items: Float[Tensor, "*#batch wide"]) -> Tensor:
        """The sum of all weights."""
        score = query[..., 0] + items[..., 0]
        start = [1, 1]
        for weights, widths in zip(self.crosses, self.layout.crosses, strict=True):
            one, other = (
                side.narrow(-1, at, width).long() for side, at, width in zip((query, items), start, widths, strict=True)
            )
            both = pairs(one, other, len(weights))
            found = weights.index_select(0, (both - 1).clamp(min=0).flatten()).view(both.shape)
            score = score + (found * (both > 0)).sum(-1)
            start = [at + width for at, width in zip(start, widths, strict=True)]
        return score

    def match_all(self, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items wide"]) -> Tensor:
        """An outer sum; crosses chunk by chunk."""
        if not len(self.crosses):
            return query[..., :1] + items[:, 0]
        # Of a cross: both ids, their mixture, the bucket and its weight, most of them of twice a float's size.
        return in_chunks(self, query, items, max(10 * one * other for one, other in self.layout.crosses))

    def _prepare(self, vectors: Tensor, side: int, bias: Tensor | None = None) -> Tensor:
        weight = vectors[..., :1] if self.layout.wide else self.sides[side](self.layout.fields(vectors, side))
        return torch.cat([weight if bias is None else weight + bias, self.layout.ids(vectors, side)], -1)


class FMPart(Part):
    """Σ ⟨vₐ, v_b⟩ over all pairs of fields, including pairs within the query and within the item.

    Rendle, "Factorization machines", ICDM 2010, section III: half of (Σ v)² - Σ v², summed over the columns. Across the
    two sides this is the inner product of the sums of their fields, so that scoring a catalogue is one matrix product.
    """

    @property
    def widths(self) -> tuple[int, int]:
        """The sum of the fields, and the pairs within."""
        return self.layout.dim + 1, self.layout.dim + 1

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Tensor:
        """The sum of the query's fields, and its own pairs."""
        return self._prepare(query, 0)

    def prepare_items(self, items: Float[Tensor, "*batch dim"]) -> Tensor:
        """The sum of the item's fields, and its own pairs."""
        return self._prepare(items, 1)

    def match(self, query: Float[Tensor, "*#batch width"], items: Float[Tensor, "*#batch width"]) -> Tensor:
        """Pairs across, and within both."""
        return (query[..., 1:] * items[..., 1:]).sum(-1) + query[..., 0] + items[..., 0]

    def match_all(self, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items width"]) -> Tensor:
        """One matrix product."""
        return query[..., 1:] @ items[:, 1:].T + query[..., :1] + items[:, 0]

    def _prepare(self, vectors: Tensor, side: int) -> Tensor:
        fields = self.layout.fields(vectors, side).unflatten(-1, (-1, self.layout.dim))
        total = fields.sum(-2)
        within = (total.square() - fields.square().sum(-2)).sum(-1, keepdim=True) / 2
        return torch.cat([within, total], -1)


class CrossPart(Part):
    """w·x_L + b with x_{l+1} = x₀ ⊙ (W_l x_l + b_l) + x_l, where x₀ is all fields of query and item side by side.

    Wang et al., "DCN V2: Improved deep & cross network and practical lessons for web-scale learning to rank systems",
    WWW 2021, https://arxiv.org/abs/2008.13535, section 3.2. W₀ x₀ is computed once per query and once per item.

    Args:
        dim: width of query and item vectors.
        layout: what their columns are.
        num_layers: L, the number of cross layers.
    """

    def __init__(self, dim: int, layout: Layout, *, num_layers: PositiveInt) -> None:
        super().__init__(dim, layout)
        self.total = total = sum(layout.widths)
        query, items = layout.widths
        self.query_layer = xavier_uniform(Linear(query, total), fan_in=total)
        self.item_layer = xavier_uniform(Linear(items, total, bias=False), fan_in=total)
        self.layers = nn.ModuleList(xavier_uniform(Linear(total, total)) for _ in range(num_layers - 1))
        self.output = lecun_uniform(nn.Linear(total, 1))
        self.pair_floats = (2 + 2 * num_layers) * total

    @property
    def widths(self) -> tuple[int, int]:
        """The side's half of W₀ x₀ + b₀, and its fields."""
        return self.total + self.layout.widths[0], self.total + self.layout.widths[1]

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Tensor:
        """W₀ times the query's fields, + b₀, and the fields."""
        fields = self.layout.fields(query, 0)
        return torch.cat([self.query_layer(fields), fields], -1)

    def prepare_items(self, items: Float[Tensor, "*batch dim"]) -> Tensor:
        """W₀ times the item's fields, and the fields."""
        fields = self.layout.fields(items, 1)
        return torch.cat([self.item_layer(fields), fields], -1)

    def match(self, query: Float[Tensor, "*#batch width"], items: Float[Tensor, "*#batch wide"]) -> Tensor:
        """The cross layers."""
        linear = query[..., : self.total] + items[..., : self.total]
        sides = (query[..., self.total :], items[..., self.total :])
        start = torch.cat([side.expand(*linear.shape[:-1], side.shape[-1]) for side in sides], -1)
        crossed = start * linear + start
        for layer in self.layers:
            crossed = torch.addcmul(crossed, start, layer(crossed))
        return self.output(crossed).squeeze(-1)

    def match_all(self, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items wide"]) -> Tensor:
        """Chunk by chunk."""
        return in_chunks(self, query, items, 4 * self.total)


class DeepPart(MLP):
    """An `mlp` over the fields of both sides.

    Args:
        layout: what the columns of the vectors are.
        hidden: widths of the layers.
        dropout: fraction of the inputs of each layer that is zeroed in training.
    """

    def __init__(self, layout: Layout, *, hidden: Widths, dropout: float) -> None:
        super().__init__(layout.widths, dropout, hidden=hidden)
        self.layout, self.widths = layout, (hidden[0], hidden[0])

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Tensor:
        """The query's half of the first layer, and its bias."""
        return super().prepare_query(self.layout.fields(query, 0))

    def prepare_items(self, items: Float[Tensor, "*batch dim"]) -> Tensor:
        """The item's half of the first layer."""
        return super().prepare_items(self.layout.fields(items, 1))


class Sum(Head):
    """The sum of the scores of several parts, each of which prepares its own inputs.

    Args:
        dim: width of query and item vectors.
        parts: name -> part.
    """

    def __init__(self, dim: int, **parts: Part | DeepPart) -> None:
        super().__init__(dim)
        self.parts = nn.ModuleDict(parts)
        self.widths = [[part.widths[side] for part in parts.values()] for side in range(2)]
        self.pair_floats = sum(part.pair_floats for part in parts.values())

    def prepare_query(self, query: Float[Tensor, "*batch dim"]) -> Tensor:
        """What each part prepares, side by side."""
        return torch.cat([part.prepare_query(query) for part in self._parts], -1)

    def prepare_items(self, items: Float[Tensor, "*batch dim"]) -> Tensor:
        """What each part prepares, side by side."""
        return torch.cat([part.prepare_items(items) for part in self._parts], -1)

    def match(self, query: Float[Tensor, "*#batch width"], items: Float[Tensor, "*#batch wide"]) -> Tensor:
        """The sum."""
        return reduce(torch.add, (part.match(*sides) for part, *sides in self._each(query, items)))

    def forward(self, query: Float[Tensor, "*#batch dim"], items: Float[Tensor, "*#batch dim"]) -> Tensor:
        """The sum; the prepared parts are not concatenated."""
        return reduce(torch.add, (part(query, items) for part in self._parts))

    def match_all(self, query: Float[Tensor, "*batch width"], items: Float[Tensor, "items wide"]) -> Tensor:
        """The sum; each part in its own way."""
        return reduce(torch.add, (part.match_all(*sides) for part, *sides in self._each(query, items)))

    def _each(self, query: Tensor, items: Tensor) -> Iterator[tuple[Head, Tensor, Tensor]]:
        split = (side.split(widths, -1) for side, widths in zip((query, items), self.widths, strict=True))
        yield from zip(self._parts, *split, strict=True)

    @property
    def _parts(self) -> list[Head]:
        return [part for part in self.parts.values() if isinstance(part, Head)]  # all of them, as the type checker asks
