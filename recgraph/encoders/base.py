"""What an encoder is."""

from __future__ import annotations

from typing import Any, ClassVar

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
        dim: width of the vectors that `forward` returns, which heads are made for.
    """

    reads: frozenset[str] = frozenset()
    """Fields of `Inputs`, beside `users`, that the encoder reads; nothing else is built for it. An instance that holds
    another encoder reads what that one reads too."""

    graphs: ClassVar[tuple[type, ...]] = (BipartiteGraph,)
    """Kinds of graph that it can read, if it reads graphs."""

    linked: ClassVar[bool] = False
    """Whether it reads the links of a graph beside its interactions (`BipartiteGraph.linked`)."""

    def __init__(self, num_users: int, num_items: int, *, dim: int) -> None:
        super().__init__()
        self.num_users, self.num_items, self.dim = num_users, num_items, dim

    @property
    def layout(self) -> Layout:
        """What the columns of its vectors are: one field, unless an encoder says otherwise."""
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
    """Rows of a table: `F.embedding`, whose gradient takes three times as long on a CPU (32,768 of 40,981 rows)."""
    return table.index_select(0, index.flatten()).view(*index.shape, table.shape[-1])


def graph_of(inputs: Inputs, reader: nn.Module) -> Any:
    """The graph of some inputs, for the encoder or objective that reads it.

    Raises:
        TypeError: it is missing, or of a kind that the reader cannot read.
        ConfigError: it has links, and the reader is an encoder that does not read these.
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
