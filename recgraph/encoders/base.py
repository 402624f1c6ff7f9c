"""The base class of encoders, and helpers that they share."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from recgraph.errors import ConfigError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.layout import Layout
from recgraph.types import Encoding, Inputs


class Encoder(nn.Module):
    """Turns inputs into one query vector per row and one vector per item.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        dim: width of the vectors that `forward` returns, for which heads are built.
    """

    reads: frozenset[str] = frozenset()
    """Fields of `Inputs`, beside `users`, that the encoder reads; nothing else is built for it. An instance that holds
    another encoder reads what that one reads too."""

    graphs: ClassVar[tuple[type, ...]] = (BipartiteGraph,)
    """Kinds of graph that it can read, if it reads graphs."""

    linked: ClassVar[bool] = False
    """Whether it reads the links of a graph beside its interactions (`BipartiteGraph.linked`)."""

    propagates: ClassVar[bool] = True
    """Whether the edges of a graph that it reads matter to its own vectors, and not the numbers of neighbours alone."""

    layered: ClassVar[bool] = False
    """Whether its encodings have `layers` where these are asked for, 0 to `num_layers`; a hybrid has its graph's."""

    two_sided: ClassVar[bool] = False
    """Whether its encodings have `sides`, which objectives that compare content with the rest want."""

    def __init__(self, num_users: int, num_items: int, *, dim: int) -> None:
        super().__init__()
        self.num_users, self.num_items, self.dim = num_users, num_items, dim

    @property
    def layout(self) -> Layout:
        """How the columns of its vectors are split into fields; a single field by default."""
        return Layout(self.dim)

    def forward(self, inputs: Inputs) -> Encoding:
        """Encode a batch; deterministic in eval mode."""
        raise NotImplementedError


def embedding_table(rows: int, dim: int, std: float) -> nn.Embedding:
    """A table of vectors drawn from N(0, std²)."""
    table = nn.Embedding(rows, dim)
    nn.init.normal_(table.weight, std=std)
    return table


def lookup(table: Float[Tensor, "rows dim"], index: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
    """Rows of a table; the gradient of `F.embedding` takes three times as long on a CPU (32,768 of 40,981 rows)."""
    place, total = index.flatten(), getattr(table, GATHERED, None)
    found: Tensor = table.index_select(0, place) if total is None else _Gathering.apply(table, place, total)
    return found.view(*index.shape, table.shape[-1])


class Total:
    """Accumulates gradients with respect to a tensor, in float32 at least: autocast's are too coarse for sums.

    Memory is allocated only once there is something to add.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._value: Tensor | None = None

    def begun(self) -> Tensor:
        """The sum so far, to add to in place; zeros at first."""
        if self._value is None:
            wide = torch.promote_types(self._tensor.dtype, torch.float32)
            self._value = torch.zeros_like(self._tensor, dtype=wide)
        return self._value

    def result(self) -> Tensor | None:
        """The sum, in the tensor's precision; None if nothing was added."""
        return None if self._value is None else self._value.to(self._tensor.dtype)


def gathering(table: Float[Tensor, "rows dim"], total: Total) -> Float[Tensor, "rows dim"]:
    """A leaf with the values of a table: `lookup` adds its gradient to `total` and passes none on to the leaf.

    The gradient of a lookup is as large as the table and zero except in the rows looked up. Code that looks up a few
    rows many times and sums the gradients runs faster without materialising each of them.
    """
    leaf = table.detach().requires_grad_()
    setattr(leaf, GATHERED, total)
    return leaf


GATHERED = "gathered_gradient"
"""Where a tensor of `gathering` has its total."""


class _Gathering(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, total: Total) -> Tensor:
        ctx.save_for_backward(index)
        ctx.total = total
        return table.index_select(0, index)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, arriving: Tensor) -> tuple[None, None, None]:
        total = ctx.total.begun()
        total.index_add_(0, ctx.saved_tensors[0], arriving.to(total.dtype))
        return None, None, None


def graph_of(inputs: Inputs, reader: nn.Module) -> Any:
    """The graph in `inputs`, checked for the encoder or objective that reads it.

    Raises:
        TypeError: the graph is missing, or of a type that the reader cannot read.
        ConfigError: the graph has links, and the reader is an encoder that does not support them.
    """
    kinds = reader.graphs if isinstance(reader, Encoder) else (BipartiteGraph,)
    if not isinstance(inputs.graph, kinds):
        raise TypeError(
            f"{type(reader).__name__} reads a {' or '.join(kind.__name__ for kind in kinds)}, got "
            f"{type(inputs.graph).__name__}: make a graph with BipartiteGraph.from_edges, recgraph.graph.from_pyg or "
            "recgraph.graph.from_dgl"
        )
    if isinstance(reader, Encoder) and not reader.linked and getattr(inputs.graph, "has_links", False):
        raise ConfigError(f"{type(reader).__name__} reads interactions alone: it has no place for relations")
    return inputs.graph
